//! What bad endpoints do to a healthy one.

use std::time::Duration;

use serde_json::Value;
use system_tests::measure::{Table, ms};
use system_tests::sink::{self, Refusing, Sink};

use super::service::Service;
use super::{OTHERS, event, p99, post, ratio, steady_load};

/// Due at the endpoint that hangs.
const DUE: u64 = 3_000;
/// Each case is measured so often, in turn, for so many seconds.
const ROUNDS: usize = 2;
const ROUND_S: u32 = 6;
const TARGET: &str = "≤ 1.5x, ≤ 5 ms";

/// One endpoint that hangs, of the same client and of another.
pub(crate) async fn hanging(table: &mut Table) -> anyhow::Result<()> {
    let cases = [
        ("healthy endpoint alone", None),
        (
            "  beside 3,000 due where it hangs 15 s, same client",
            Some("acme"),
        ),
        (
            "  beside 3,000 due where it hangs 15 s, other client",
            Some("other"),
        ),
    ];
    let mut latencies = cases.map(|_| Vec::new());
    for _ in 0..ROUNDS {
        for ((_, hanging), latencies) in cases.iter().zip(&mut latencies) {
            latencies.extend(beside_hanging(*hanging).await?);
        }
    }
    tell(table, &cases.map(|(name, _)| name), latencies, TARGET);
    Ok(())
}

async fn beside_hanging(hanging: Option<&str>) -> anyhow::Result<Vec<Duration>> {
    let (sink, folder) = (Sink::start().await?, tempfile::tempdir()?);
    let service = Service::start(folder.path()).await?;
    service
        .register("acme", &sink.url(sink::OK), "order.*")
        .await?;
    if let Some(client) = hanging {
        service
            .register(client, &sink.url(sink::HANGS), "slow.*")
            .await?;
        let due = (OTHERS..OTHERS + DUE).map(|number| event_json(client, "slow.sent", number));
        service.post_all(due.collect::<Result<_, _>>()?).await?;
        // So many hang that no more are sent there.
        sink.has(16, Duration::from_secs(10)).await?;
    }
    steady_load(
        &service,
        &sink,
        ROUND_S,
        |number| post("acme", "order.created", number),
        |_| true,
    )
    .await
}

fn event_json(client: &str, event_type: &str, number: u64) -> serde_json::Result<Value> {
    serde_json::from_str(&event(client, event_type, number))
}

const CLIENTS: u64 = 5;
const ENDPOINTS_EACH: u64 = 200;

/// A tenth of a thousand endpoints refuse connections.
pub(crate) async fn dead(table: &mut Table) -> anyhow::Result<()> {
    let refusing = Refusing::start()?;
    let mut latencies = [Vec::new(), Vec::new()];
    let mut attempts = (0, 0);
    for _ in 0..ROUNDS {
        let (alive, _) = among_dead(None).await?;
        let (some_dead, (good, bad)) = among_dead(Some(&refusing)).await?;
        latencies[0].extend(alive);
        latencies[1].extend(some_dead);
        attempts = (attempts.0 + good, attempts.1 + bad);
    }
    let names = [
        "900 of 1,000 endpoints, all alive",
        "  the other 100 refuse",
    ];
    tell(table, &names, latencies, "≤ 1.5x");
    let (good, bad) = attempts;
    table.row(
        "  sends wasted on them",
        format!(
            "{:.1} % within {ROUND_S} s of first use",
            100.0 * bad as f64 / (good + bad) as f64
        ),
        "≤ 2 % over 10 min (simulated)",
    );
    Ok(())
}

/// Of the healthy nine tenths, with the attempts that ended well and otherwise.
async fn among_dead(refusing: Option<&Refusing>) -> anyhow::Result<(Vec<Duration>, (u64, u64))> {
    let (sink, folder) = (Sink::start().await?, tempfile::tempdir()?);
    let service = Service::start(folder.path()).await?;
    let all = CLIENTS * ENDPOINTS_EACH;
    let endpoints = (0..all).map(|endpoint| {
        let url = match refusing {
            Some(refusing) if is_bad(endpoint) => refusing.url(),
            _ => sink.url(sink::OK),
        };
        let (client, event_type) = address(endpoint);
        (client, url, event_type)
    });
    service.register_all(endpoints).await?;
    let latencies = steady_load(
        &service,
        &sink,
        ROUND_S,
        |number| {
            let (client, event_type) = address(endpoint_of(number));
            post(&client, &event_type, number)
        },
        |number| !is_bad(endpoint_of(number)),
    )
    .await?;
    Ok((latencies, service.attempts().await?))
}

/// Each in its turn, in an order that is not theirs.
fn endpoint_of(number: u64) -> u64 {
    (number * 7_919) % (CLIENTS * ENDPOINTS_EACH)
}

fn is_bad(endpoint: u64) -> bool {
    endpoint % 10 == 3
}

/// Its client, and the one type of events that it takes.
fn address(endpoint: u64) -> (String, String) {
    let (client, own) = (endpoint / ENDPOINTS_EACH, endpoint % ENDPOINTS_EACH);
    (format!("client-{client}"), format!("order.{own}"))
}

/// The 99th percentiles, each against the first.
fn tell<const N: usize>(
    table: &mut Table,
    names: &[&str; N],
    mut latencies: [Vec<Duration>; N],
    target: &str,
) {
    for latencies in &mut latencies {
        latencies.sort_unstable();
    }
    let alone = latencies
        .first()
        .map(|first| p99(first))
        .unwrap_or_default();
    for (index, (name, latencies)) in names.iter().zip(&latencies).enumerate() {
        let p99 = p99(latencies);
        let (figure, target) = match index {
            0 => (format!("p99 {}", ms(p99)), ""),
            _ => (
                format!("p99 {} = {:.2}x", ms(p99), ratio(p99, alone)),
                target,
            ),
        };
        table.row(name, figure, target);
    }
}
