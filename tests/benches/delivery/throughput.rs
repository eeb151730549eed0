//! How much, and how soon.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::ensure;
use runtime::http_client;
use system_tests::load::{self, Load};
use system_tests::measure::{Table, cpu, ms, pss, quantile};
use system_tests::sink::{self, Sink};
use tokio::task::JoinSet;
use tokio::time::Instant;

use super::service::Service;
use super::{STEADY_PER_S, p99, payload, post, steady_load};

const CONNECTIONS: usize = 64;
const MESSAGES: u64 = 100_000;
/// Of the run that only says what log lines cost.
const MESSAGES_TOLD: u64 = 30_000;
const TIME_LIMIT: Duration = Duration::from_secs(90);
const STEADY_S: u32 = 15;

/// What one run came to.
struct Run {
    per_second: f64,
    answer_p50: Duration,
    answer_p99: Duration,
    cpu: Duration,
    pss: u64,
}

/// Accepted and delivered end to end, against a loop that only sends.
pub(crate) async fn measure(table: &mut Table) -> anyhow::Result<()> {
    let before = bare().await?;
    let run = pipeline("warn", MESSAGES).await?;
    let told = pipeline("info", MESSAGES_TOLD).await?;
    let bare = f64::midpoint(before, bare().await?);
    table.row(
        &format!("bare reqwest loop, {CONNECTIONS} at once"),
        format!("{bare:.0}/s"),
        "",
    );
    table.row(
        &format!("accepted and delivered, {MESSAGES} events, {CONNECTIONS} connections"),
        format!("{:.0}/s = {:.2}x", run.per_second, run.per_second / bare),
        "≥ 8000/s, ≥ 0.2x",
    );
    table.row(
        "  CPU of delivery, a message",
        format!("{:.3} ms", per_message(&run, MESSAGES)),
        "≤ 0.2 ms",
    );
    table.row(
        "  answers",
        format!("p50 {}, p99 {}", ms(run.answer_p50), ms(run.answer_p99)),
        "",
    );
    table.row(
        "  PSS of delivery at the end",
        format!("{:.0} MB", run.pss as f64 / 1e6),
        "",
    );
    table.row(
        &format!("  with a log line each, {MESSAGES_TOLD} events"),
        format!(
            "{:.0}/s, {:.3} ms of CPU",
            told.per_second,
            per_message(&told, MESSAGES_TOLD)
        ),
        "",
    );
    Ok(())
}

/// In milliseconds.
fn per_message(run: &Run, messages: u64) -> f64 {
    run.cpu.as_secs_f64() * 1e3 / messages as f64
}

/// From the first request to the last receipt.
async fn pipeline(log_level: &str, messages: u64) -> anyhow::Result<Run> {
    let (sink, folder) = (Sink::start().await?, tempfile::tempdir()?);
    let service = Service::start_telling(folder.path(), log_level).await?;
    service
        .register("acme", &sink.url(sink::OK), "order.*")
        .await?;
    let (began, cpu_before) = (Instant::now(), cpu(service.pid())?);
    let report = load::run(Load {
        addr: service.addr(),
        connections: CONNECTIONS,
        total: messages,
        time_limit: TIME_LIMIT,
        make_request: |number| post("acme", "order.created", number),
    })
    .await?;
    ensure!(
        report.acknowledged.len() as u64 == messages,
        "{:?}, {} unanswered",
        report.statuses,
        report.unanswered
    );
    sink.has(report.acknowledged.len(), TIME_LIMIT).await?;
    let last = sink.receipts().last().map_or(began, |last| last.at);
    Ok(Run {
        per_second: messages as f64 / last.duration_since(began).as_secs_f64(),
        answer_p50: report.quantile(0.5),
        answer_p99: report.quantile(0.99),
        cpu: cpu(service.pid())?.saturating_sub(cpu_before),
        pss: pss(service.pid())?,
    })
}

/// The same bodies to the same kind of receiver, and nothing else: requests a second.
async fn bare() -> anyhow::Result<f64> {
    let sink = Sink::start().await?;
    let client = http_client::single_try(Duration::from_secs(10));
    let (url, next) = (sink.url(sink::OK), Arc::new(AtomicU64::new(0)));
    let began = Instant::now();
    let mut sending = JoinSet::new();
    for _ in 0..CONNECTIONS {
        let (client, url, next) = (client.clone(), url.clone(), Arc::clone(&next));
        sending.spawn(async move {
            loop {
                let number = next.fetch_add(1, Ordering::Relaxed);
                if number >= MESSAGES {
                    return anyhow::Ok(());
                }
                let response = client.post(&url).body(payload(number)).send().await?;
                http_client::read_body(response.error_for_status()?, 1_024).await?;
            }
        });
    }
    while let Some(sent) = sending.join_next().await {
        sent??;
    }
    Ok(MESSAGES as f64 / began.elapsed().as_secs_f64())
}

/// How soon an event arrives when there is room.
pub(crate) async fn steady(table: &mut Table) -> anyhow::Result<()> {
    let (sink, folder) = (Sink::start().await?, tempfile::tempdir()?);
    let service = Service::start(folder.path()).await?;
    service
        .register("acme", &sink.url(sink::OK), "order.*")
        .await?;
    let latencies = steady_load(
        &service,
        &sink,
        STEADY_S,
        |number| post("acme", "order.created", number),
        |_| true,
    )
    .await?;
    table.row(
        &format!("posted to received, {STEADY_PER_S}/s for {STEADY_S} s"),
        format!(
            "p50 {}, p99 {}",
            ms(quantile(&latencies, 0.5)),
            ms(p99(&latencies))
        ),
        "p50 ≤ 1.2 ms, p99 ≤ 3 ms",
    );
    Ok(())
}
