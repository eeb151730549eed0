//! `make scale-demo`: stripe-ingester, then summarizer, at 1, 2 and 3 replicas under load through the gateway, with one
//! replica killed in the middle; then the two owners of data asked for a second copy.
//!
//! Runs against the containers that `scripts/with-stack` starts for it, on Linux: the replicas' counters are read at the
//! containers' own addresses.

#![expect(clippy::print_stdout, reason = "a demo speaks to who started it")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use http::StatusCode;
use runtime::clock::Clock;
use rustix::process::{Pid, Signal, kill_process};
use schema::names;
use serde::Deserialize;
use system_tests::api::{self, Answer};
use system_tests::containers::{Containers, compose};
use system_tests::eventually::{PATIENCE, eventually};
use system_tests::load::{self, Load, Report, StripeEvents};
use system_tests::stage::Stage as _;
use tokio::process::Command;
use tokio::sync::Notify;

const REQUESTS: u64 = 20_000;
const CONNECTIONS: usize = 64;
/// For one round; a round takes a few seconds.
const ROUND_LIMIT: Duration = Duration::from_secs(120);
const EVENTS_A_PAGE: usize = 500;

const STRIPE_INGESTER: Service = Service {
    name: "stripe-ingester",
    port: 3001,
    route: names::INGEST_STRIPE,
};
const SUMMARIZER: Service = Service {
    name: "summarizer",
    port: 3005,
    route: names::SUMMARIZE,
};

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let stack = Containers::from_env()?;
    let gateway = Gateway::of(&stack)?;
    println!(
        "\n{REQUESTS} requests a round at {CONNECTIONS} connections; one replica is killed in the middle of each.\n\
         Replicas are for staying up: they share this machine's cores with each other and with the load, so more of\n\
         them cannot show more throughput here.\n"
    );
    for replicas in 1..=3 {
        ingest(&gateway, stack.stripe_secret(), replicas).await?;
    }
    for replicas in 1..=3 {
        summarize(&gateway, replicas).await?;
    }
    for owner in ["event-store", "delivery"] {
        ask_for_a_second(owner).await?;
    }
    Ok(())
}

/// A round of signed events; afterwards each acknowledged one must be in the store, once.
async fn ingest(gateway: &Gateway, secret: &str, replicas: usize) -> anyhow::Result<()> {
    let clock = Clock::system();
    let begun = clock.now();
    let events = Arc::new(StripeEvents::new("invoice.paid", secret, clock));
    let sent = Arc::clone(&events);
    let report = round(gateway, &STRIPE_INGESTER, replicas, move |n| {
        sent.request(n)
    })
    .await?;

    let stored = gateway.stored_since(&begun.to_string()).await?;
    let copies = |n: &&u64| stored.get(&events.id(**n)).copied().unwrap_or(0);
    let acknowledged = report.acknowledged.len();
    let missing = report
        .acknowledged
        .iter()
        .filter(|n| copies(n) == 0)
        .count();
    let repeated = report.acknowledged.iter().filter(|n| copies(n) > 1).count();
    println!(
        "  {acknowledged} acknowledged, {} stored: {missing} acknowledged but missing, {repeated} stored twice\n",
        stored.len()
    );
    ensure!(missing == 0, "acknowledged events are missing");
    ensure!(repeated == 0, "events are stored twice");
    Ok(())
}

async fn summarize(gateway: &Gateway, replicas: usize) -> anyhow::Result<()> {
    round(gateway, &SUMMARIZER, replicas, |n| {
        let text = format!(r#"{{"text":"Multiple payment failures detected, case {n}"}}"#);
        load::post(names::SUMMARIZE, "", &text)
    })
    .await?;
    println!();
    Ok(())
}

/// Scales, loads, kills one replica in the middle, and prints who served how many.
async fn round(
    gateway: &Gateway,
    service: &'static Service,
    count: usize,
    make_request: impl Fn(u64) -> Vec<u8> + Send + Sync + 'static,
) -> anyhow::Result<Report> {
    let mut replicas = service.scale_to(count, gateway).await?;
    let halfway = Arc::new(Notify::new());
    let reached = Arc::clone(&halfway);
    let loading = load::run(Load {
        addr: gateway.address,
        connections: CONNECTIONS,
        total: REQUESTS,
        time_limit: ROUND_LIMIT,
        make_request: move |n| {
            if n == REQUESTS / 2 {
                reached.notify_one();
            }
            make_request(n)
        },
    });
    let (victim, others) = replicas
        .split_last_mut()
        .context("there is no replica to kill")?;
    let killing = async {
        halfway.notified().await;
        victim.kill().await
    };
    let (report, killed) = tokio::join!(loading, killing);
    let (report, until_killed) = (report?, killed?);
    victim.wait_until_up().await?;

    println!("{} x{count}: {}", service.name, figures(&report));
    for replica in others {
        println!("  {} served {}", replica.name, replica.served().await?);
    }
    // A new process counts from nought.
    victim.served_before = 0;
    println!(
        "  {} served {until_killed} until just before it was killed, came back, served {}",
        victim.name,
        victim.served().await?
    );
    Ok(report)
}

fn figures(report: &Report) -> String {
    let refused: Vec<_> = report
        .statuses
        .iter()
        .filter(|(status, _)| !(200..300).contains(*status))
        .map(|(status, count)| format!("{count} answered {status}"))
        .collect();
    let refused = if refused.is_empty() {
        "none refused".to_owned()
    } else {
        refused.join(", ")
    };
    format!(
        "{:.0}/s, p50 {:.1} ms, p99 {:.1} ms, {} acknowledged, {refused}, {} unanswered",
        report.per_second(),
        report.quantile(0.5).as_secs_f64() * 1e3,
        report.quantile(0.99).as_secs_f64() * 1e3,
        report.acknowledged.len(),
        report.unanswered,
    )
}

/// A second copy of a service that owns a SQLite file refuses to start: shows what it says.
async fn ask_for_a_second(owner: &str) -> anyhow::Result<()> {
    let first = containers_of(owner).await?;
    scale(owner, 2).await?;
    let second = containers_of(owner)
        .await?
        .into_iter()
        .find(|container| !first.contains(container))
        .with_context(|| format!("there is no second {owner}"))?;
    let refusal = eventually("the second copy gives up", PATIENCE, async || {
        let restarts = inspect(&second, "{{.RestartCount}}").await?;
        ensure!(restarts != "0", "it is still running");
        last_words(&second).await
    })
    .await?;
    println!("a second {owner} refuses to start:\n  {}", refusal.trim());
    scale(owner, 1).await
}

struct Gateway {
    address: SocketAddr,
    /// Opens the services behind it.
    internal_key: Arc<str>,
}

impl Gateway {
    fn of(stack: &Containers) -> anyhow::Result<Self> {
        let url = stack.gateway_url();
        let address = url.trim_start_matches("http://").parse();
        Ok(Self {
            address: address
                .with_context(|| format!("GATEWAY_URL: {url} is not http://ADDRESS:PORT"))?,
            internal_key: stack.internal_key().into(),
        })
    }

    /// How often each event id is listed among what was stored since then, page by page.
    async fn stored_since(&self, since: &str) -> anyhow::Result<HashMap<String, u32>> {
        #[derive(Deserialize)]
        struct Page {
            events: Vec<Listed>,
            next_cursor: Option<String>,
        }
        #[derive(Deserialize)]
        struct Listed {
            event_id: String,
        }

        let first = format!(
            "http://{}{}?source=stripe&limit={EVENTS_A_PAGE}&since={since}",
            self.address,
            names::EVENTS
        );
        let mut found = HashMap::new();
        let mut url = first.clone();
        loop {
            let page: Page = serde_json::from_slice(&get(&url).await?)?;
            for event in page.events {
                *found.entry(event.event_id).or_default() += 1;
            }
            let Some(cursor) = page.next_cursor else {
                return Ok(found);
            };
            url = format!("{first}&cursor={cursor}");
        }
    }

    /// Until the gateway, which looks names up every second, sends to exactly that many replicas.
    async fn wait_until_balanced_over(&self, service: &str, replicas: usize) -> anyhow::Result<()> {
        let url = format!("http://{}{}", self.address, names::READYZ);
        eventually("the gateway finds the replicas", PATIENCE, async || {
            let readiness = api::get(&url).await?.json();
            let upstream = &readiness["dependencies"][service];
            ensure!(
                upstream["living"] == replicas && upstream["replicas"] == replicas,
                "{service}: {upstream}"
            );
            Ok(())
        })
        .await
    }
}

struct Service {
    name: &'static str,
    port: u16,
    /// What is counted.
    route: &'static str,
}

/// A container, and how much its process had served when the round began.
struct Replica {
    service: &'static Service,
    container: String,
    name: String,
    internal_key: Arc<str>,
    served_before: u64,
}

impl Service {
    /// Its replicas, once all of them answer and the gateway knows them.
    async fn scale_to(
        &'static self,
        count: usize,
        gateway: &Gateway,
    ) -> anyhow::Result<Vec<Replica>> {
        scale(self.name, count).await?;
        let mut replicas = Vec::new();
        for container in containers_of(self.name).await? {
            let mut replica = Replica {
                service: self,
                name: inspect(&container, "{{.Name}}").await?.replace('/', ""),
                container,
                internal_key: Arc::clone(&gateway.internal_key),
                served_before: 0,
            };
            replica.wait_until_up().await?;
            replica.served_before = replica.served().await?;
            replicas.push(replica);
        }
        ensure!(
            replicas.len() == count,
            "{} replicas of {}, not {count}",
            replicas.len(),
            self.name
        );
        gateway.wait_until_balanced_over(self.name, count).await?;
        Ok(replicas)
    }
}

impl Replica {
    async fn wait_until_up(&self) -> anyhow::Result<()> {
        let up = eventually(&self.name, PATIENCE, async || {
            self.get(names::HEALTHZ).await
        });
        up.await.map(drop)
    }

    /// Kills the process behind the engine's back, as a crash would, and the engine starts it again. Where this user may
    /// not, the engine kills it and is told to start it. Answers what it had served just before.
    async fn kill(&self) -> anyhow::Result<u64> {
        let pid = inspect(&self.container, "{{.State.Pid}}").await?;
        let pid = Pid::from_raw(pid.parse()?).context("the container has no process")?;
        let served = self.served().await?;
        if kill_process(pid, Signal::KILL).is_err() {
            docker(&["kill", &self.container]).await?;
            docker(&["start", &self.container]).await?;
        }
        Ok(served)
    }

    /// How many requests of the service's route were answered in this round, by this process.
    async fn served(&self) -> anyhow::Result<u64> {
        let metrics = self.get(names::METRICS).await?;
        let route = format!("route=\"{}\"", self.service.route);
        let counts = String::from_utf8_lossy(&metrics)
            .lines()
            .filter(|line| line.starts_with("http_requests_total{") && line.contains(&route))
            .filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok())
            .sum::<u64>();
        Ok(counts.saturating_sub(self.served_before))
    }

    async fn get(&self, path: &str) -> anyhow::Result<Vec<u8>> {
        let addresses = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}";
        let addresses = inspect(&self.container, addresses).await?;
        let address = addresses
            .split_whitespace()
            .next()
            .context("the container has no address")?;
        let url = format!("http://{address}:{}{path}", self.service.port);
        body(&url, api::get_internal(&url, &self.internal_key).await?)
    }
}

async fn get(url: &str) -> anyhow::Result<Vec<u8>> {
    body(url, api::get(url).await?)
}

fn body(url: &str, answer: Answer) -> anyhow::Result<Vec<u8>> {
    ensure!(answer.status == StatusCode::OK, "{url}: {}", answer.text());
    Ok(answer.body.into())
}

async fn scale(service: &str, replicas: usize) -> anyhow::Result<()> {
    let scale = format!("{service}={replicas}");
    let up = ["up", "--detach", "--no-build", "--no-recreate", "--scale"];
    compose(&[&up[..], &[&scale]].concat()).await?;
    Ok(())
}

async fn containers_of(service: &str) -> anyhow::Result<Vec<String>> {
    let ids = compose(&["ps", "-q", service]).await?;
    Ok(ids.lines().map(str::to_owned).collect())
}

async fn inspect(container: &str, format: &str) -> anyhow::Result<String> {
    let found = docker(&["inspect", "--format", format, container]).await?;
    Ok(found.trim().to_owned())
}

/// The last line of a container's log, whichever stream it went to.
async fn last_words(container: &str) -> anyhow::Result<String> {
    let logs = Command::new("docker")
        .args(["logs", "--tail", "1", container])
        .output()
        .await?;
    let text = [logs.stdout, logs.stderr].concat();
    Ok(String::from_utf8_lossy(&text).into_owned())
}

async fn docker(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new("docker").args(arguments).output().await?;
    ensure!(
        output.status.success(),
        "docker {arguments:?}: {}",
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
