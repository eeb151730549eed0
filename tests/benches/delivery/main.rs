//! `make bench`: delivery measured on the machine it runs on, from the first byte of a POST to the receipt at an endpoint.
//!
//! The service is a release build in a process of its own, on an SQLite store in a folder that goes away; load and
//! receiver share the machine's cores with it, so that ratios travel better than figures, and what is compared is measured
//! in turn. Loopback only; every part is bounded by count and time. Nothing here is a gate.
//!
//! `cargo bench --bench delivery -- ROW …` measures single rows, by the names in `main`.

use std::collections::HashMap;
use std::time::Duration;

use system_tests::eventually::eventually;
use system_tests::load::{self, steady};
use system_tests::measure::{Asked, Table, load_average, quantile};
use system_tests::sink::{self, Sink};

use service::Service;

mod backlog;
mod isolation;
mod kill;
mod service;
mod throughput;

/// Events a second of a steady load.
const STEADY_PER_S: u32 = 200;
/// Sent before a steady load is measured, so that connections are made and caps earned.
const WARM_UP: u64 = 200;
/// For the last of a steady load to arrive.
const ARRIVAL_WAIT: Duration = Duration::from_secs(10);
/// The number of the first event that is none of a steady load's.
const OTHERS: u64 = 1_000_000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let asked = Asked::on_the_command_line();
    let mut table = Table::default();
    table.row("load average before", load_average()?, "≤ 0.5");
    if asked.for_row("throughput") {
        throughput::measure(&mut table).await?;
    }
    if asked.for_row("steady") {
        throughput::steady(&mut table).await?;
    }
    if asked.for_row("hanging") {
        isolation::hanging(&mut table).await?;
    }
    if asked.for_row("dead") {
        isolation::dead(&mut table).await?;
    }
    if asked.for_row("kill") {
        kill::measure(&mut table).await?;
    }
    if asked.for_row("backlog") {
        backlog::measure(&mut table).await?;
    }
    table.row("load average after", load_average()?, "");
    table.print()
}

/// An event as its caller posts it. Its payload is about what Svix was measured with.
fn event(client: &str, event_type: &str, number: u64) -> String {
    let (begins, filler) = (sink::BODY_BEGINS, "x".repeat(200));
    format!(
        r#"{{"client_id":"{client}","event_type":"{event_type}","payload":{begins}{number},"order":{{"id":"ord_{number:012}","currency":"eur","amount_due":1999,"customer":"cus_{number:012}","note":"{filler}"}}}}}}"#
    )
}

/// The payload of [`event`] alone: what a destination gets.
fn payload(number: u64) -> String {
    let event = event("", "", number);
    let from = event.find(sink::BODY_BEGINS).unwrap_or_default();
    event[from..event.len() - 1].to_owned()
}

fn post(client: &str, event_type: &str, number: u64) -> Vec<u8> {
    let body = event(client, event_type, number);
    load::post(schema::names::WEBHOOK_EVENTS, "", &body)
}

/// Posts events for some seconds at the steady rate, after some that are not counted, and answers in order how long each
/// took from the moment it was to be written to its receipt. Of those that `counts` only, which all must arrive.
async fn steady_load(
    service: &Service,
    sink: &Sink,
    seconds: u32,
    request: impl Fn(u64) -> Vec<u8>,
    counts: impl Fn(u64) -> bool,
) -> anyhow::Result<Vec<Duration>> {
    let total = WARM_UP + u64::from(STEADY_PER_S * seconds);
    let before = sink.receipts().len();
    let mut sent = steady::run(service.addr(), STEADY_PER_S, total, request).await?;
    sent.retain(|sent| counts(sent.number));
    let mut first = HashMap::new();
    let all_came = async || {
        first = sink.first_since(before);
        let missing = sent.iter().filter(|sent| !first.contains_key(&sent.number));
        match missing.count() {
            0 => Ok(()),
            missing => Err(missing),
        }
    };
    eventually("every event at the sink", ARRIVAL_WAIT, all_came).await?;
    let mut latencies: Vec<Duration> = sent
        .iter()
        .filter(|sent| sent.number >= WARM_UP)
        .filter_map(|sent| Some(first.get(&sent.number)?.duration_since(sent.planned)))
        .collect();
    latencies.sort_unstable();
    Ok(latencies)
}

fn p99(sorted: &[Duration]) -> Duration {
    quantile(sorted, 0.99)
}

fn ratio(one: Duration, other: Duration) -> f64 {
    one.as_secs_f64() / other.as_secs_f64().max(f64::EPSILON)
}
