//! A million deliveries that are open, due, and held by their endpoints' breakers.

use std::path::Path;
use std::time::Duration;

use anyhow::ensure;
use runtime::clock::Clock;
use rusqlite::{Connection, params};
use system_tests::measure::{Table, cpu, ms, pss, quantile};
use system_tests::sink::{self, Refusing, Sink};
use tokio::time::Instant;

use super::service::{Service, timed_start};
use super::{OTHERS, STEADY_PER_S, p99, post, ratio, steady_load};

const OPEN: u64 = 1_000_000;
/// That refuse connections, and share what is open.
const DEAD: u64 = 100;
const STEADY_S: u32 = 10;

pub(crate) async fn measure(table: &mut Table) -> anyhow::Result<()> {
    let (sink, folder, refusing) = (
        Sink::start().await?,
        tempfile::tempdir()?,
        Refusing::start()?,
    );
    let service = Service::start(folder.path()).await?;
    service
        .register("acme", &sink.url(sink::OK), "order.*")
        .await?;
    let dead = (0..DEAD).map(|n| ("down".to_owned(), refusing.url(), format!("dead.{n}")));
    service.register_all(dead).await?;
    let without = steady(&service, &sink).await?;
    drop(service);

    let began = Instant::now();
    fill(&folder.path().join("delivery.db"))?;
    let filled = began.elapsed();
    let (service, start) = timed_start(folder.path()).await?;
    let (used, memory) = (cpu(service.pid())?, pss(service.pid())?);
    let with = steady(&service, &sink).await?;
    let memory_after = pss(service.pid())?;
    let open = open(&service).await?;
    ensure!(open >= OPEN, "{open} deliveries are open");

    table.row(
        &format!("start with {open} open deliveries, until ready"),
        format!(
            "{:.2} s, {:.2} s of CPU",
            start.as_secs_f64(),
            used.as_secs_f64()
        ),
        "≤ 2 s",
    );
    table.row(
        "  PSS then, and after a steady load",
        format!(
            "{:.0} MB, {:.0} MB",
            memory as f64 / 1e6,
            memory_after as f64 / 1e6
        ),
        "≤ 150 MB",
    );
    table.row(
        &format!("  healthy endpoint, {STEADY_PER_S}/s, without them"),
        format!(
            "p50 {}, p99 {}",
            ms(quantile(&without, 0.5)),
            ms(p99(&without))
        ),
        "",
    );
    table.row(
        "  with them",
        format!(
            "p50 {}, p99 {} = {:.2}x",
            ms(quantile(&with, 0.5)),
            ms(p99(&with)),
            ratio(p99(&with), p99(&without))
        ),
        "does not grow",
    );
    table.row(
        "  (their rows were written straight into the store)",
        format!("{:.0} s", filled.as_secs_f64()),
        "",
    );
    Ok(())
}

async fn steady(service: &Service, sink: &Sink) -> anyhow::Result<Vec<Duration>> {
    steady_load(
        service,
        sink,
        STEADY_S,
        |number| post("acme", "order.created", number),
        |_| true,
    )
    .await
}

/// Gives every endpoint of the client `down` its share of events whose first attempt failed and whose second is due, as
/// the service would have left them: through its API that would take minutes.
fn fill(store: &Path) -> anyhow::Result<()> {
    let mut connection = Connection::open(store)?;
    connection.pragma_update(None, "synchronous", "OFF")?;
    connection.pragma_update(None, "cache_size", -512 * 1024)?;
    let transaction = connection.transaction()?;
    let (client, head): (u64, u64) = transaction.query_row(
        "SELECT c.position, l.head FROM clients c JOIN lanes l ON l.lane = c.lane WHERE c.client_id = 'down'",
        [],
        |row| Ok((row.get(0)?, row.get(1)?)),
    )?;
    let now = Clock::system().now().as_microsecond();
    let payload = super::payload(OTHERS);
    // An event at each second position after the last, its delivery behind it. Ids grow, as ours do.
    transaction.execute(
        "WITH RECURSIVE n(n) AS (SELECT 0 UNION ALL SELECT n + 1 FROM n WHERE n + 1 < ?1)
         INSERT INTO events (lane, position, event_id, client, event_type, correlation_id, created_at, fanout,
            operational, payload)
         SELECT 0, ?2 + 2 * n, unhex(printf('%032x', n)), ?3, 'dead.' || (n % ?4), 'bench', ?5, 1, 0, ?6 FROM n",
        params![OPEN, head + 1, client, DEAD, now, payload.as_bytes()],
    )?;
    transaction.execute(
        "WITH dead AS (SELECT position, row_number() OVER (ORDER BY position) - 1 AS number FROM endpoints
            WHERE client = ?1)
         INSERT INTO deliveries (lane, position, delivery_id, event, client, endpoint, line, order_at, from_hub, version,
            status, generation, next_trigger, started, started_before, finished, interrupted, interrupted_in_a_row,
            due_at, age_from, blocks, code, created_at, last_outcome)
         SELECT e.lane, e.position + 1, e.event_id, e.position, ?1, dead.position, 0, e.position + 1, 0, 2,
            'failed', 0, 'schedule', 1, 0, 1, 0, 0, ?2, ?2, 0, 'connection_refused', ?2, 0
         FROM events e JOIN dead ON dead.number = (e.position - ?3) / 2 % ?4
         WHERE e.client = ?1 AND e.position >= ?3 ORDER BY e.position",
        params![client, now, head + 1, DEAD],
    )?;
    transaction.execute("UPDATE lanes SET head = head + 2 * ?", [OPEN])?;
    transaction.commit()?;
    drop(connection);
    // Or the disk would be busy with this while the service is measured.
    std::fs::File::open(store)?.sync_all()?;
    Ok(())
}

/// How many deliveries are open, as the service tells.
async fn open(service: &Service) -> anyhow::Result<u64> {
    let text = service.metrics().await?;
    let open = text
        .lines()
        .find_map(|line| line.strip_prefix("delivery_open "));
    Ok(open.unwrap_or("0").parse()?)
}
