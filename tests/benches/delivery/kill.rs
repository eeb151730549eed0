//! `kill -9` while much is accepted and not delivered.

use std::time::Duration;

use anyhow::ensure;
use system_tests::load::{self, Load};
use system_tests::measure::Table;
use system_tests::sink::{self, Sink};
use tokio::time::{Instant, sleep};

use super::post;
use super::service::Service;

const ACCEPTED: u64 = 5_000;
/// Delivered before, so that as many may be in flight as ever.
const BEFORE: u64 = 3_000;
const CONNECTIONS: usize = 64;
const PATIENCE: Duration = Duration::from_secs(60);
/// After the last that was missing, for repeats that come late.
const AFTERWARDS: Duration = Duration::from_secs(3);

pub(crate) async fn measure(table: &mut Table) -> anyhow::Result<()> {
    let (sink, folder) = (Sink::start().await?, tempfile::tempdir()?);
    let service = Service::start(folder.path()).await?;
    service
        .register("acme", &sink.url(sink::OK), "order.*")
        .await?;
    accept(&service, 0, BEFORE).await?;
    sink.has(count(BEFORE), PATIENCE).await?;
    // The receiver takes what is sent and is silent: these are accepted, and none is delivered.
    sink.hold();
    accept(&service, BEFORE, ACCEPTED).await?;
    let in_flight = sink.receipts().len() - count(BEFORE);
    drop(service);

    // Answers to a process that is gone are lost with it.
    sink.let_go();
    let seen_before = sink.receipts().len();
    let restarted = Instant::now();
    let _service = Service::start(folder.path()).await?;
    let all = count(BEFORE + ACCEPTED);
    // What is lost never comes: then this is where the table ends.
    sink.has(all, PATIENCE).await?;
    let resent = sink.receipts().len() - seen_before;
    sleep(AFTERWARDS).await;
    let receipts = sink.receipts();
    let after = receipts[seen_before..].iter();
    let last = after.map(|receipt| receipt.at).max().unwrap_or(restarted);
    let repeats = receipts.len() - all;
    table.row(
        &format!("kill -9 with {ACCEPTED} accepted, {in_flight} of them in flight"),
        format!(
            "0 lost, {repeats} repeats, all within {:.1} s of the restart",
            last.duration_since(restarted).as_secs_f64()
        ),
        "0 lost, repeats ≤ in flight, ≤ 5 s",
    );
    ensure!(resent > 0, "nothing was in flight or waiting");
    Ok(())
}

async fn accept(service: &Service, from: u64, total: u64) -> anyhow::Result<()> {
    let report = load::run(Load {
        addr: service.addr(),
        connections: CONNECTIONS,
        total,
        time_limit: PATIENCE,
        make_request: move |number| post("acme", "order.created", from + number),
    })
    .await?;
    ensure!(
        report.acknowledged.len() == count(total),
        "{:?}",
        report.statuses
    );
    Ok(())
}

fn count(number: u64) -> usize {
    usize::try_from(number).unwrap_or(usize::MAX)
}
