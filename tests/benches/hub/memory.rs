//! What the services hold: when nothing happens, and when everything does at once.

use std::time::Duration;

use anyhow::ensure;
use http::StatusCode;
use runtime::clock::Clock;
use schema::names;
use serde_json::json;
use system_tests::api;
use system_tests::load::{self, Load, StripeEvents};
use system_tests::measure::{Table, mib};
use system_tests::sink::{self, Sink};

use super::{CONNECTIONS, Hub, ROUND, SECRET};

/// From the start, and from the end of the round, to the look.
const SETTLED: Duration = Duration::from_secs(60);
/// Memory is told of a round that a busy machine makes slowly, too.
const ROUND_LIMIT: Duration = Duration::from_secs(180);
const CLIENT: &str = "acme";

/// The services as people run them, log lines and all: 60 s after their start, at the end of a mixed round, and 60 s later.
pub(crate) async fn measure(table: &mut Table) -> anyhow::Result<()> {
    let sink = Sink::start().await?;
    let hub = Hub::start(&[("DELIVERY_ALLOW_NETS", "127.0.0.0/8")]).await?;
    tokio::time::sleep(SETTLED).await;
    let idle = hub.memory()?;
    register(&hub, &sink.url(sink::OK)).await?;
    mixed_round(&hub).await?;
    let loaded = hub.memory()?;
    tokio::time::sleep(SETTLED).await;
    let rested = hub.memory()?;
    let columns = [&idle, &loaded, &rested];
    let sums = columns.map(|memory| memory.iter().map(|(_, bytes)| bytes).sum());
    table.row(
        "PSS of all services: 60 s after the start, after a mixed round, 60 s later",
        side_by_side(sums),
        "≤ 40 MiB, ≤ 80 MiB",
    );
    for (nth, (service, _)) in idle.iter().enumerate() {
        let figures = columns.map(|memory| memory[nth].1);
        table.row(&format!("  {service}"), side_by_side(figures), "");
    }
    Ok(())
}

fn side_by_side(figures: [u64; 3]) -> String {
    figures.map(mib).join(", ")
}

async fn register(hub: &Hub, url: &str) -> anyhow::Result<()> {
    let path = names::CLIENT_ENDPOINTS.replace("{client_id}", CLIENT);
    let path = format!("{}{path}", hub.supervisor.url("gateway")?);
    let endpoint = json!({ "url": url, "event_types": ["order.*"] });
    let answer = api::post_json(&path, &endpoint).await?;
    ensure!(answer.status == StatusCode::CREATED, "{}", answer.text());
    Ok(())
}

/// Stripe's events, pages among them, webhooks that are delivered, and lists, all through the gateway.
async fn mixed_round(hub: &Hub) -> anyhow::Result<()> {
    let paid = StripeEvents::new("invoice.paid", SECRET, Clock::system());
    let failed = StripeEvents::new("payout.failed", SECRET, Clock::system());
    let deliveries = format!("{}?client={CLIENT}&limit=50", names::DELIVERIES);
    let report = load::run(Load {
        addr: hub.address("gateway")?,
        connections: CONNECTIONS,
        total: ROUND,
        time_limit: ROUND_LIMIT,
        make_request: move |number| match number % 16 {
            0..6 => paid.request(number),
            6..8 => failed.request(number),
            8..14 => load::post(names::WEBHOOK_EVENTS, "", &webhook(number)),
            14 => load::get(&format!("{}?limit=50", names::EVENTS)),
            _ => load::get(&deliveries),
        },
    })
    .await?;
    ensure!(
        report.acknowledged.len() as u64 == ROUND,
        "{:?}, {} unanswered",
        report.statuses,
        report.unanswered
    );
    Ok(())
}

fn webhook(number: u64) -> String {
    let (begins, filler) = (sink::BODY_BEGINS, "x".repeat(200));
    format!(
        r#"{{"client_id":"{CLIENT}","event_type":"order.created","payload":{begins}{number},"note":"{filler}"}}}}"#
    )
}
