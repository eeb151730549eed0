//! `make scale-demo`: stripe-ingester, then summarizer, at 1, 2 and 3 replicas under load through the gateway, with one
//! replica killed in the middle; then the two owners of data asked for a second copy.
//!
//! Runs against the compose stack that `scripts/with-stack` starts for it, on Linux: the replicas' counters are read at
//! the containers' own addresses.

#![expect(clippy::print_stdout, reason = "a demo speaks to who started it")]

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context as _, bail, ensure};
use reqwest_middleware::ClientWithMiddleware;
use runtime::clock::Clock;
use runtime::http_client;
use rustix::process::{Pid, Signal, kill_process};
use schema::names;
use serde::Deserialize;
use serde_json::Value;
use system_tests::load::{self, Load, Report, StripeEvents};
use tokio::process::Command;
use tokio::sync::Notify;
use tokio::time::{Instant, sleep};

const REQUESTS: u64 = 20_000;
const CONNECTIONS: usize = 64;
/// For one round; a round takes a few seconds.
const ROUND_LIMIT: Duration = Duration::from_secs(120);
/// For a container to start, or to refuse to.
const START_LIMIT: Duration = Duration::from_secs(30);
const EVENTS_A_PAGE: usize = 500;

#[tokio::main]
async fn main() -> anyhow::Result<()> {
    let demo = Demo::new()?;
    println!(
        "{REQUESTS} requests a round at {CONNECTIONS} connections; one replica is killed in the middle.\n\
         Replicas are for staying up: this machine's cores are shared by all of them and by the load, so more of them\n\
         cannot show more throughput here.\n"
    );
    for replicas in 1..=3 {
        demo.ingest(replicas).await?;
    }
    for replicas in 1..=3 {
        demo.summarize(replicas).await?;
    }
    for owner in ["event-store", "delivery"] {
        demo.ask_for_a_second(owner).await?;
    }
    Ok(())
}

struct Demo {
    gateway: SocketAddr,
    secret: String,
    clock: Clock,
    http: ClientWithMiddleware,
}

/// What was killed, and what it had served by then.
struct Victim {
    container: String,
    served: u64,
}

impl Demo {
    fn new() -> anyhow::Result<Self> {
        let url = variable("GATEWAY_URL")?;
        let gateway = url.trim_start_matches("http://");
        Ok(Self {
            gateway: gateway
                .parse()
                .with_context(|| format!("GATEWAY_URL: {url} is not http://ADDRESS:PORT"))?,
            secret: variable("STRIPE_WEBHOOK_SECRET")?,
            clock: Clock::system(),
            http: http_client::internal(Duration::from_secs(10)),
        })
    }

    /// A round of signed events; afterwards each acknowledged one must be in the store, once.
    async fn ingest(&self, replicas: usize) -> anyhow::Result<()> {
        let events = Arc::new(StripeEvents::new(
            "invoice.paid",
            &self.secret,
            self.clock.clone(),
        ));
        let begun = self.clock.now();
        let sent = Arc::clone(&events);
        let report = self
            .round("stripe-ingester", 3001, replicas, names::INGEST_STRIPE, {
                move |n| sent.request(n)
            })
            .await?;

        let stored = self.stored_since(&begun.to_string()).await?;
        let copies = |n: &u64| stored.get(&events.id(*n)).copied().unwrap_or(0);
        let missing = report
            .acknowledged
            .iter()
            .filter(|n| copies(n) == 0)
            .count();
        let twice = report.acknowledged.iter().filter(|n| copies(n) > 1).count();
        println!(
            "  {} acknowledged, {} stored: {missing} acknowledged but missing, {twice} stored twice\n",
            report.acknowledged.len(),
            stored.len(),
        );
        ensure!(missing == 0, "acknowledged events are missing");
        ensure!(twice == 0, "events are stored twice");
        Ok(())
    }

    async fn summarize(&self, replicas: usize) -> anyhow::Result<()> {
        self.round("summarizer", 3005, replicas, names::SUMMARIZE, |n| {
            let text = format!(r#"{{"text":"Multiple payment failures detected, case {n}"}}"#);
            load::post(names::SUMMARIZE, "", &text)
        })
        .await?;
        println!();
        Ok(())
    }

    /// Scales, loads, kills one in the middle, and prints who served what.
    async fn round(
        &self,
        service: &'static str,
        port: u16,
        replicas: usize,
        route: &'static str,
        make_request: impl Fn(u64) -> Vec<u8> + Send + Sync + 'static,
    ) -> anyhow::Result<Report> {
        let containers = self.scale(service, port, replicas).await?;
        let mut before = HashMap::new();
        for container in &containers {
            before.insert(
                container.clone(),
                self.served(container, port, route).await?,
            );
        }

        let halfway = Arc::new(Notify::new());
        let reached = Arc::clone(&halfway);
        let loading = load::run(Load {
            addr: self.gateway,
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
        let killing = async {
            halfway.notified().await;
            let container = containers.last().context("there is no replica to kill")?;
            self.kill(container, port, route).await
        };
        let (report, victim) = tokio::join!(loading, killing);
        let (report, victim) = (report?, victim?);
        self.wait_until_up(&victim.container, port).await?;

        println!("{service} x{replicas}: {}", figures(&report));
        let mut counted = 0;
        for container in &containers {
            let now = self.served(container, port, route).await?;
            let started_with = before.get(container).copied().unwrap_or(0);
            let name = name_of(container).await?;
            // A process that was killed counted from nought again.
            let served = if *container == victim.container {
                let until_killed = victim.served.saturating_sub(started_with);
                println!("  {name} served {until_killed}, was killed, came back, served {now}");
                until_killed + now
            } else {
                println!("  {name} served {}", now - started_with);
                now - started_with
            };
            counted += served;
        }
        println!(
            "  {counted} served by count; what the killed one served after its last reading is in no count"
        );
        Ok(report)
    }

    /// Brings the service to that many replicas; answers their containers once all of them and the gateway are ready.
    async fn scale(
        &self,
        service: &str,
        port: u16,
        replicas: usize,
    ) -> anyhow::Result<Vec<String>> {
        scale(service, replicas).await?;
        let containers = containers_of(service).await?;
        ensure!(
            containers.len() == replicas,
            "{service} has {} replicas, not {replicas}",
            containers.len()
        );
        for container in &containers {
            self.wait_until_up(container, port).await?;
        }
        self.wait_until_balanced_over(service, replicas).await?;
        Ok(containers)
    }

    /// Until the gateway, which looks names up every second, sends to exactly that many replicas.
    async fn wait_until_balanced_over(&self, service: &str, replicas: usize) -> anyhow::Result<()> {
        let url = format!("http://{}{}", self.gateway, names::READYZ);
        let deadline = Instant::now() + START_LIMIT;
        loop {
            let readiness: Value = self.http.get(&url).send().await?.json().await?;
            let upstream = &readiness["dependencies"][service];
            if upstream["living"] == replicas && upstream["replicas"] == replicas {
                return Ok(());
            }
            ensure!(
                Instant::now() < deadline,
                "the gateway does not find {replicas} living {service}: {upstream}"
            );
            sleep(Duration::from_millis(100)).await;
        }
    }

    async fn wait_until_up(&self, container: &str, port: u16) -> anyhow::Result<()> {
        let deadline = Instant::now() + START_LIMIT;
        while self.get(container, port, names::HEALTHZ).await.is_err() {
            ensure!(
                Instant::now() < deadline,
                "{container} does not answer within {START_LIMIT:?}"
            );
            sleep(Duration::from_millis(100)).await;
        }
        Ok(())
    }

    /// Kills the process behind the container's back, as a crash would: the engine starts it again. Where this user may
    /// not, the engine kills it and is told to start it.
    async fn kill(&self, container: &str, port: u16, route: &str) -> anyhow::Result<Victim> {
        let pid: i32 = inspect(container, "{{.State.Pid}}").await?.parse()?;
        let served = self.served(container, port, route).await?;
        let crashed = Pid::from_raw(pid).map(|pid| kill_process(pid, Signal::KILL));
        if !matches!(crashed, Some(Ok(()))) {
            docker(&["kill", container]).await?;
            docker(&["start", container]).await?;
        }
        Ok(Victim {
            container: container.to_owned(),
            served,
        })
    }

    /// How many requests of the route the replica has answered since its start.
    async fn served(&self, container: &str, port: u16, route: &str) -> anyhow::Result<u64> {
        let metrics = self.get(container, port, names::METRICS).await?;
        let label = format!("route=\"{route}\"");
        metrics
            .lines()
            .filter(|line| line.starts_with("http_requests_total{") && line.contains(&label))
            .filter_map(|line| line.rsplit(' ').next())
            .map(|count| count.parse::<u64>().context("a count that is no number"))
            .sum()
    }

    async fn get(&self, container: &str, port: u16, path: &str) -> anyhow::Result<String> {
        let addresses = "{{range .NetworkSettings.Networks}}{{.IPAddress}} {{end}}";
        let addresses = inspect(container, addresses).await?;
        let address = addresses
            .split_whitespace()
            .next()
            .with_context(|| format!("{container} has no address"))?;
        let url = format!("http://{address}:{port}{path}");
        let response = self.http.get(url).send().await?;
        Ok(response.error_for_status()?.text().await?)
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
            self.gateway,
            names::EVENTS
        );
        let mut found = HashMap::new();
        let mut url = first.clone();
        loop {
            let page: Page = self
                .http
                .get(&url)
                .send()
                .await?
                .error_for_status()?
                .json()
                .await?;
            for event in page.events {
                *found.entry(event.event_id).or_default() += 1;
            }
            let Some(cursor) = page.next_cursor else {
                return Ok(found);
            };
            url = format!("{first}&cursor={cursor}");
        }
    }

    /// A second copy of a service that owns a SQLite file refuses to start: shows what it says.
    async fn ask_for_a_second(&self, owner: &str) -> anyhow::Result<()> {
        let first = containers_of(owner).await?;
        scale(owner, 2).await?;
        let second = containers_of(owner)
            .await?
            .into_iter()
            .find(|container| !first.contains(container))
            .with_context(|| format!("there is no second {owner}"))?;
        let deadline = Instant::now() + START_LIMIT;
        let reason = loop {
            let restarts: u32 = inspect(&second, "{{.RestartCount}}").await?.parse()?;
            if restarts > 0 {
                break said(&second).await?;
            }
            ensure!(
                Instant::now() < deadline,
                "a second {owner} did not refuse to start"
            );
            sleep(Duration::from_millis(200)).await;
        };
        println!("a second {owner} refuses to start:\n  {}", reason.trim());
        scale(owner, 1).await
    }
}

fn figures(report: &Report) -> String {
    let errors: u64 = report
        .statuses
        .iter()
        .filter(|(status, _)| !(200..300).contains(*status))
        .map(|(_, count)| count)
        .sum();
    format!(
        "{:.0}/s, p50 {:.1} ms, p99 {:.1} ms, {} acknowledged, {errors} answered otherwise {:?}, {} unanswered",
        report.per_second(),
        report.quantile(0.5).as_secs_f64() * 1e3,
        report.quantile(0.99).as_secs_f64() * 1e3,
        report.acknowledged.len(),
        report.statuses,
        report.unanswered,
    )
}

#[expect(
    clippy::disallowed_methods,
    reason = "not a service: it has nothing to configure but where the stack is"
)]
fn variable(name: &str) -> anyhow::Result<String> {
    std::env::var(name).with_context(|| format!("{name} is not set; run `make scale-demo`"))
}

async fn scale(service: &str, replicas: usize) -> anyhow::Result<()> {
    let scale = format!("{service}={replicas}");
    let arguments = [
        "up",
        "--detach",
        "--no-build",
        "--no-recreate",
        "--scale",
        &scale,
    ];
    output(Command::new("scripts/compose").args(arguments)).await?;
    Ok(())
}

async fn containers_of(service: &str) -> anyhow::Result<Vec<String>> {
    let ids = output(Command::new("scripts/compose").args(["ps", "-q", service])).await?;
    Ok(ids.lines().map(str::to_owned).collect())
}

async fn name_of(container: &str) -> anyhow::Result<String> {
    let name = inspect(container, "{{.Name}}").await?;
    Ok(name.trim_start_matches('/').to_owned())
}

async fn inspect(container: &str, format: &str) -> anyhow::Result<String> {
    let found = docker(&["inspect", "--format", format, container]).await?;
    Ok(found.trim().to_owned())
}

/// The last line of the container's log, whichever stream it went to.
async fn said(container: &str) -> anyhow::Result<String> {
    let logs = Command::new("docker")
        .args(["logs", "--tail", "1", container])
        .output()
        .await?;
    let text = [logs.stdout, logs.stderr].concat();
    Ok(String::from_utf8_lossy(&text).into_owned())
}

async fn docker(arguments: &[&str]) -> anyhow::Result<String> {
    output(Command::new("docker").args(arguments)).await
}

async fn output(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output().await?;
    if !output.status.success() {
        bail!(
            "{:?}: {}",
            command.as_std(),
            String::from_utf8_lossy(&output.stderr)
        );
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}
