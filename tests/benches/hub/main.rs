//! `make bench`: the hub measured against a bare handler, in turn, in one command, on the machine it runs on.
//!
//! Client, servers and stores share the machine's cores, so that the ratios travel better than the figures. Loopback
//! only; every part is bounded by count and time. Nothing here is a gate.
//!
//! `cargo bench --bench hub -- ROW …` measures single rows, by the names in `main`.

use std::collections::HashMap;
use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use anyhow::{Context as _, ensure};
use axum::extract::State;
use axum::routing::post;
use axum::{Json, Router};
use clients::event_store::EventStore;
use runtime::clock::Clock;
use runtime::config::List;
use runtime::http_client;
use runtime::internal_key::{self, InternalKey};
use runtime::server::{self, Limits};
use runtime::upstream::Upstream;
use schema::intake::{BATCH_MAX_ITEMS, Submission};
use schema::{CorrelationId, Event, names};
use serde_json::value::RawValue;
use signalpost::supervisor::{Options, Supervisor};
use system_tests::api::INTERNAL_KEY;
use system_tests::load::{self, Load, Report, StripeEvents};
use system_tests::measure::{Asked, Table, load_average, mib, ms, pss, quantile, say};
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

mod memory;

const SECRET: &str = "whsec_bench_0123456789abcdef";
const CONNECTIONS: usize = 64;
/// Requests of one round, and rounds of each contender, in turn; the median counts.
const ROUND: u64 = 60_000;
const ROUNDS: usize = 3;
const TIME_LIMIT: Duration = Duration::from_secs(60);
/// Events a second, and seconds, of the steady load.
const STEADY_PER_S: u32 = 200;
const STEADY_S: u32 = 15;
const MILLION: u64 = 1_000_000;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    if std::env::args().any(|argument| argument == "--bare") {
        return bare().await;
    }
    let asked = Asked::on_the_command_line();
    let mut table = Table::default();
    table.row("load average before", load_average()?, "≤ 0.5");
    if asked.for_row("memory") {
        memory::measure(&mut table).await?;
    }
    if asked.for_row("ingest") {
        ingest(&mut table).await?;
    }
    if asked.for_row("latency") {
        latency(&mut table).await?;
    }
    if asked.for_row("million") {
        million(&mut table).await?;
    }
    table.row("load average after", load_average()?, "");
    table.print()
}

/// Reads the same body and answers; nothing else.
async fn bare() -> anyhow::Result<()> {
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let handler = async |_body: bytes::Bytes| Json(serde_json::json!({ "received": true }));
    let router = Router::new().route(names::INGEST_STRIPE, post(handler));
    say(&listener.local_addr()?.to_string())?;
    axum::serve(listener, router).await.context("serving")
}

/// The bare handler in a process of its own, as the services are.
struct Bare {
    process: Child,
    address: SocketAddr,
}

impl Bare {
    fn start() -> anyhow::Result<Self> {
        let mut process = Command::new(std::env::current_exe()?)
            .arg("--bare")
            .stdout(Stdio::piped())
            .spawn()?;
        let mut line = String::new();
        BufReader::new(process.stdout.take().context("stdout")?).read_line(&mut line)?;
        Ok(Self {
            process,
            address: line.trim().parse().context("the bare server's address")?,
        })
    }
}

impl Drop for Bare {
    fn drop(&mut self) {
        // It is ours and has no state; that it is gone already is as good.
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}

/// The services, release builds, on stores of their own.
struct Hub {
    supervisor: Supervisor,
    _data: tempfile::TempDir,
}

impl Hub {
    async fn start(variables: &[(&str, &str)]) -> anyhow::Result<Self> {
        let data = tempfile::tempdir()?;
        let (lines, mut drained) = mpsc::channel(4096);
        tokio::spawn(async move { while drained.recv().await.is_some() {} });
        let mut environment: std::collections::BTreeMap<String, String> = variables
            .iter()
            .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
            .collect();
        environment.insert("STRIPE_WEBHOOK_SECRET".to_owned(), SECRET.to_owned());
        environment.insert(internal_key::VARIABLE.to_owned(), INTERNAL_KEY.to_owned());
        let supervisor = Supervisor::start(Options {
            bin_dir: bin_dir()?,
            working_dir: Some(data.path().to_owned()),
            inherit_environment: false,
            environment,
            gateway_host: "127.0.0.1".to_owned(),
            gateway_port: 0,
            lines,
        })
        .await?;
        Ok(Self {
            supervisor,
            _data: data,
        })
    }

    fn address(&self, service: &str) -> anyhow::Result<SocketAddr> {
        let url = self.supervisor.url(service)?;
        url.trim_start_matches("http://")
            .parse()
            .with_context(|| format!("the address in {url}"))
    }

    /// Resident memory of every service, shared pages divided among their users, in bytes.
    fn memory(&self) -> anyhow::Result<Vec<(&'static str, u64)>> {
        let measure = |(service, _, pid): (&'static str, SocketAddr, Option<u32>)| {
            let pid = pid.with_context(|| format!("{service} is dead"))?;
            Ok((service, pss(pid)?))
        };
        self.supervisor.services().map(measure).collect()
    }
}

/// `target/…/release`, beside which this benchmark was built.
fn bin_dir() -> anyhow::Result<PathBuf> {
    let executable = std::env::current_exe()?;
    let deps = executable.parent().context("no folder")?;
    Ok(deps.parent().context("no folder")?.to_owned())
}

/// Durable ingest at 64 connections, straight and through the gateway, against the bare handler.
async fn ingest(table: &mut Table) -> anyhow::Result<()> {
    let bare = Bare::start()?;
    let hub = Hub::start(&[("LOG_LEVEL", "warn")]).await?;
    let chatty = Hub::start(&[]).await?;
    let contenders = [
        ("bare axum handler", bare.address, CONNECTIONS),
        (
            "straight to stripe-ingester",
            hub.address("stripe-ingester")?,
            CONNECTIONS,
        ),
        ("through the gateway", hub.address("gateway")?, CONNECTIONS),
        (
            "through the gateway, a log line each",
            chatty.address("gateway")?,
            CONNECTIONS,
        ),
    ];
    let mut reports: Vec<Vec<Report>> = contenders.iter().map(|_| Vec::new()).collect();
    for _ in 0..ROUNDS {
        for ((name, address, connections), reports) in contenders.iter().zip(&mut reports) {
            let report = ingest_round(*address, *connections, ROUND).await?;
            ensure!(
                report.acknowledged.len() as u64 == ROUND,
                "{name}: {:?}",
                report.statuses
            );
            reports.push(report);
        }
    }
    let targets = ["", "≥ 0.28x, p99 ≤ 10 ms", "≥ 0.17x", "≥ 0.17x"];
    let reference = median(&reports[0]).per_second();
    for (((name, ..), reports), target) in contenders.iter().zip(&reports).zip(targets) {
        let report = median(reports);
        let ratio = report.per_second() / reference;
        table.row(
            &format!("{name}, {CONNECTIONS} connections"),
            format!(
                "{:.0}/s = {ratio:.2}x, p50 {}, p99 {}",
                report.per_second(),
                ms(report.quantile(0.5)),
                ms(report.quantile(0.99))
            ),
            target,
        );
    }
    for (name, service) in [
        ("straight to stripe-ingester", "stripe-ingester"),
        ("through the gateway", "gateway"),
    ] {
        let alone = ingest_round(hub.address(service)?, 1, 3_000).await?;
        table.row(
            &format!("{name}, one event alone"),
            format!(
                "p50 {}, p99 {}",
                ms(alone.quantile(0.5)),
                ms(alone.quantile(0.99))
            ),
            "p50 ≤ 1.5 ms",
        );
    }
    Ok(())
}

async fn ingest_round(addr: SocketAddr, connections: usize, total: u64) -> anyhow::Result<Report> {
    let events = StripeEvents::new("invoice.paid", SECRET, Clock::system());
    load::run(Load {
        addr,
        connections,
        total,
        time_limit: TIME_LIMIT,
        make_request: move |n| events.request(n),
    })
    .await
}

/// From the acknowledgement to the page, at a steady rate through the gateway.
async fn latency(table: &mut Table) -> anyhow::Result<()> {
    let pages = Arc::new(Mutex::new(HashMap::<String, Instant>::new()));
    let receiver = Router::new()
        .route(
            "/page",
            post(
                async |State(pages): State<Arc<Mutex<HashMap<String, Instant>>>>,
                       Json(event): Json<Event>| {
                    let arrived = Instant::now();
                    pages
                        .lock()
                        .unwrap_or_else(PoisonError::into_inner)
                        .entry(event.event_id.to_string())
                        .or_insert(arrived);
                    http::StatusCode::ACCEPTED
                },
            ),
        )
        .with_state(Arc::clone(&pages));
    let listener = TcpListener::bind("127.0.0.1:0").await?;
    let page_url = format!("http://{}/page", listener.local_addr()?);
    let shutdown = CancellationToken::new();
    let serving = tokio::spawn(server::serve(
        listener,
        receiver,
        Limits::INTERNAL,
        shutdown.clone(),
    ));
    let hub = Hub::start(&[("LOG_LEVEL", "warn"), ("PAGERDUTY_URL", &page_url)]).await?;
    let acknowledged = steady(&hub).await?;

    let expected = acknowledged.len();
    let deadline = Instant::now() + Duration::from_secs(10);
    while pages.lock().unwrap_or_else(PoisonError::into_inner).len() < expected
        && Instant::now() < deadline
    {
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    shutdown.cancel();
    serving.await??;
    let pages = pages.lock().unwrap_or_else(PoisonError::into_inner);
    let mut latencies: Vec<Duration> = acknowledged
        .iter()
        .filter_map(|(id, at)| {
            pages
                .get(id)
                .map(|page| page.saturating_duration_since(*at))
        })
        .collect();
    latencies.sort_unstable();
    ensure!(
        latencies.len() == expected,
        "{} of {expected} events were paged",
        latencies.len()
    );
    table.row(
        &format!("acknowledgement to page, {STEADY_PER_S}/s for {STEADY_S} s"),
        format!(
            "p50 {}, p99 {}",
            ms(quantile(&latencies, 0.5)),
            ms(quantile(&latencies, 0.99))
        ),
        "p50 ≤ 3 ms, p99 ≤ 10 ms",
    );
    Ok(())
}

/// Sends critical events at a steady rate, whatever the answers take, and tells when each was acknowledged.
async fn steady(hub: &Hub) -> anyhow::Result<Vec<(String, Instant)>> {
    let events = StripeEvents::new("payout.failed", SECRET, Clock::system());
    let addr = hub.address("gateway")?;
    let client = http_client::single_try(Duration::from_secs(10));
    let mut ticks = tokio::time::interval(Duration::from_secs(1) / STEADY_PER_S);
    let mut sending = tokio::task::JoinSet::new();
    for n in 0..u64::from(STEADY_PER_S * STEADY_S) {
        ticks.tick().await;
        let request = events.request(n);
        let id = events.id(n);
        let client = client.clone();
        sending.spawn(async move {
            let text = String::from_utf8(request)?;
            let (head, body) = text.split_once("\r\n\r\n").context("a head and a body")?;
            let prefix = format!("{}: ", names::STRIPE_SIGNATURE);
            let signature = head
                .lines()
                .find_map(|line| line.strip_prefix(&prefix))
                .context("a signature")?;
            let url = format!("http://{addr}{}", names::INGEST_STRIPE);
            let request = client
                .post(url)
                .header(names::STRIPE_SIGNATURE, signature)
                .body(body.to_owned());
            let status = request.send().await?.status();
            let acknowledged = Instant::now();
            ensure!(status.is_success(), "{status}");
            anyhow::Ok((id, acknowledged))
        });
    }
    let mut acknowledged = Vec::new();
    while let Some(sent) = sending.join_next().await {
        acknowledged.push(sent??);
    }
    Ok(acknowledged)
}

/// What a million stored events cost: the newest page, ingest, memory.
async fn million(table: &mut Table) -> anyhow::Result<()> {
    let hub = Hub::start(&[("LOG_LEVEL", "warn")]).await?;
    let urls = List::of(&[&hub.supervisor.url("event-store")?]);
    let upstream = Upstream::new("event-store", &urls);
    let store = EventStore::new(Arc::new(upstream), &InternalKey::parse(INTERNAL_KEY)?);
    fill(&store, 0, 1_000).await?;
    let (few, few_p99) = newest_page(&hub).await?;
    let started = Instant::now();
    fill(&store, 1_000, MILLION).await?;
    let rate = (MILLION - 1_000) as f64 / started.elapsed().as_secs_f64();
    let (many, many_p99) = newest_page(&hub).await?;
    table.row(
        "GET /events?limit=50 at 1,000 events",
        format!("p50 {}, p99 {}", ms(few), ms(few_p99)),
        "",
    );
    table.row(
        "GET /events?limit=50 at 1,000,000 events",
        format!(
            "p50 {} = {:.2}x, p99 {}",
            ms(many),
            many.as_secs_f64() / few.as_secs_f64(),
            ms(many_p99)
        ),
        "≤ 2x",
    );
    table.row(
        "filling the store, batches of 256",
        format!("{rate:.0} events/s"),
        "",
    );
    let report = ingest_round(hub.address("stripe-ingester")?, CONNECTIONS, ROUND).await?;
    table.row(
        "straight to stripe-ingester, store of 1,000,000",
        format!(
            "{:.0}/s, p50 {}, p99 {}",
            report.per_second(),
            ms(report.quantile(0.5)),
            ms(report.quantile(0.99))
        ),
        "p99 ≤ 10 ms",
    );
    let pid = hub.supervisor.pid("event-store")?;
    table.row(
        "event-store at 1,000,000 events, PSS",
        mib(pss(pid.context("event-store is dead")?)?),
        "≤ 150 MiB",
    );
    Ok(())
}

/// Stores events number `from` to `to` in full batches, four at once.
async fn fill(store: &EventStore, from: u64, to: u64) -> anyhow::Result<()> {
    let events = Arc::new(StripeEvents::new("invoice.paid", SECRET, Clock::system()));
    let mut filling = tokio::task::JoinSet::new();
    let mut next = from;
    while next < to {
        let end = to.min(next + BATCH_MAX_ITEMS as u64);
        let items = (next..end)
            .map(|n| submission(&events, n))
            .collect::<anyhow::Result<Vec<_>>>()?;
        let store = store.clone();
        filling.spawn(async move { store.submit(items).await });
        next = end;
        if filling.len() >= 4 {
            filling.join_next().await.context("a batch")???;
        }
    }
    while let Some(filled) = filling.join_next().await {
        filled??;
    }
    Ok(())
}

fn submission(events: &StripeEvents, n: u64) -> anyhow::Result<Box<RawValue>> {
    let request = String::from_utf8(events.request(n))?;
    let (_, body) = request.split_once("\r\n\r\n").context("a body")?;
    let event: Event = serde_json::from_value(serde_json::json!({
        "event_id": events.id(n), "source": "stripe", "kind": "payment", "severity": "info", "service": "stripe",
        "summary": "invoice.paid: in_1", "description": null, "started_at": "2024-01-15T10:40:00Z", "resolved_at": null,
        "raw": {},
    }))?;
    let raw = RawValue::from_string(body.to_owned())?;
    let correlation_id = CorrelationId::parse("bench").context("a correlation id")?;
    Ok(serde_json::value::to_raw_value(&Submission {
        correlation_id,
        deadline_ms: 8_000,
        event: Event { raw, ..event },
    })?)
}

/// The median and the 99th percentile of asking event-store for its newest page.
async fn newest_page(hub: &Hub) -> anyhow::Result<(Duration, Duration)> {
    let client = http_client::internal(Duration::from_secs(5));
    let url = format!(
        "{}{}?limit=50",
        hub.supervisor.url("event-store")?,
        names::EVENTS
    );
    let mut latencies = Vec::new();
    for _ in 0..2_000 {
        let asked = Instant::now();
        let request = client.get(&url).header(names::INTERNAL_KEY, INTERNAL_KEY);
        let page = request.send().await?.error_for_status()?;
        http_client::read_body(page, 16 << 20).await?;
        latencies.push(asked.elapsed());
    }
    latencies.sort_unstable();
    Ok((quantile(&latencies, 0.5), quantile(&latencies, 0.99)))
}

fn median(reports: &[Report]) -> &Report {
    let mut order: Vec<&Report> = reports.iter().collect();
    order.sort_by(|a, b| a.per_second().total_cmp(&b.per_second()));
    order[order.len() / 2]
}
