//! The service under test.

use std::io::{BufRead as _, BufReader};
use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context as _, ensure};
use http::StatusCode;
use runtime::internal_key;
use schema::names;
use serde_json::{Value, json};
use system_tests::api::{self, INTERNAL_KEY};
use system_tests::eventually::eventually;
use tokio::task::JoinSet;
use tokio::time::Instant;

/// Longer than any start takes.
const START_WAIT: Duration = Duration::from_secs(60);
/// Registrations on their way at once.
const TOGETHER: usize = 32;

/// A release build of `delivery` in a process of its own. Dropping it is a `kill -9`.
pub(crate) struct Service {
    process: Child,
    addr: SocketAddr,
}

impl Service {
    /// Starts it on the store in this folder, telling warnings and worse.
    pub(crate) async fn start(folder: &Path) -> anyhow::Result<Self> {
        Self::start_telling(folder, "warn").await
    }

    /// As [`start`](Self::start), with another `LOG_LEVEL`.
    pub(crate) async fn start_telling(folder: &Path, log_level: &str) -> anyhow::Result<Self> {
        let executable = std::env::current_exe()?;
        let deps = executable.parent().context("no folder")?;
        // target/…/release, beside which this benchmark was built.
        let delivery = deps.parent().context("no folder")?.join("delivery");
        let store = folder.join("delivery.db");
        let mut process = Command::new(&delivery)
            .current_dir(folder)
            .env_clear()
            .env("DELIVERY_PORT", "0")
            .env(internal_key::VARIABLE, INTERNAL_KEY)
            .env(
                "DELIVERY_DATABASE_URL",
                format!("sqlite:{}", store.display()),
            )
            .env("DELIVERY_ALLOW_NETS", "127.0.0.0/8")
            // Nobody: the feed is not what is measured.
            .env("EVENT_STORE_URL", "http://127.0.0.1:9")
            .env("LOG_LEVEL", log_level)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .with_context(|| format!("starting {}", delivery.display()))?;
        let mut lines = BufReader::new(process.stdout.take().context("stdout")?).lines();
        let addr = tokio::task::spawn_blocking(move || {
            let addr = lines.by_ref().find_map(|line| address(&line.ok()?));
            // Its log is read to the end, as an operator's would be.
            std::thread::spawn(move || lines.for_each(drop));
            addr
        });
        let addr = addr.await?;
        // Held from here on, so that a fault stops it too.
        let service = Self {
            process,
            addr: addr.unwrap_or(SocketAddr::from(([127, 0, 0, 1], 0))),
        };
        addr.context("delivery does not listen")?;
        service.ready().await?;
        Ok(service)
    }

    pub(crate) fn addr(&self) -> SocketAddr {
        self.addr
    }

    pub(crate) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.addr)
    }

    async fn ready(&self) -> anyhow::Result<()> {
        let url = self.url(names::READYZ);
        eventually("/readyz", START_WAIT, async || {
            let answer = api::get_internal(&url, INTERNAL_KEY)
                .await
                .map_err(|fault| fault.to_string())?;
            let is_ready = answer.status == StatusCode::OK;
            is_ready.then_some(()).ok_or_else(|| answer.text())
        })
        .await
    }

    /// Adds an endpoint that takes these events only.
    pub(crate) async fn register(
        &self,
        client: &str,
        url: &str,
        event_types: &str,
    ) -> anyhow::Result<()> {
        let path = names::CLIENT_ENDPOINTS.replace("{client_id}", client);
        register(&self.url(&path), url, event_types).await
    }

    /// As [`register`](Self::register), of many: a client, a URL and a type each.
    pub(crate) async fn register_all(
        &self,
        endpoints: impl IntoIterator<Item = (String, String, String)>,
    ) -> anyhow::Result<()> {
        let mut registering = JoinSet::new();
        for (client, url, event_types) in endpoints {
            let path = names::CLIENT_ENDPOINTS.replace("{client_id}", &client);
            let path = self.url(&path);
            registering.spawn(async move { register(&path, &url, &event_types).await });
            if registering.len() >= TOGETHER {
                registering.join_next().await.context("an endpoint")???;
            }
        }
        while let Some(registered) = registering.join_next().await {
            registered??;
        }
        Ok(())
    }

    /// Posts events in batches of a thousand.
    pub(crate) async fn post_all(&self, events: Vec<Value>) -> anyhow::Result<()> {
        for together in events.chunks(schema::webhooks::BATCH_EVENTS_MAX) {
            let url = self.url(names::WEBHOOK_EVENTS_BATCH);
            let answer =
                api::post_json_internal(&url, INTERNAL_KEY, &json!({ "events": together })).await?;
            let answer = answer.json();
            let results = answer["results"].as_array().context("no results")?;
            let accepted = results.iter().filter(|result| result["status"] == 202);
            let accepted = accepted.count();
            ensure!(accepted == together.len(), "{accepted}: {}", results[0]);
        }
        Ok(())
    }

    pub(crate) async fn metrics(&self) -> anyhow::Result<String> {
        let url = self.url(names::METRICS);
        Ok(api::get_internal(&url, INTERNAL_KEY).await?.text())
    }

    /// How many attempts ended well, and how many otherwise.
    pub(crate) async fn attempts(&self) -> anyhow::Result<(u64, u64)> {
        let text = self.metrics().await?;
        let (mut good, mut bad) = (0, 0);
        for line in text.lines() {
            let Some(rest) = line.strip_prefix("delivery_attempts_total{result=\"") else {
                continue;
            };
            let (word, count) = rest.split_once("\"} ").context("a count")?;
            let kind = if word == "success" {
                &mut good
            } else {
                &mut bad
            };
            *kind += count.parse::<u64>()?;
        }
        Ok((good, bad))
    }
}

impl Drop for Service {
    fn drop(&mut self) {
        // What it accepted is on disk; that it is gone already is as good.
        let _gone = self.process.kill();
        let _reaped = self.process.wait();
    }
}

async fn register(path: &str, url: &str, event_types: &str) -> anyhow::Result<()> {
    let endpoint = json!({
        "url": url, "event_types": [event_types], "max_in_flight": 256, "timeout_ms": 30_000,
    });
    let answer = api::post_json_internal(path, INTERNAL_KEY, &endpoint).await?;
    ensure!(
        answer.status == StatusCode::CREATED,
        "registering {url}: {}",
        answer.text()
    );
    Ok(())
}

/// What the line says of where it listens.
fn address(line: &str) -> Option<SocketAddr> {
    let line: Value = serde_json::from_str(line).ok()?;
    line["address"].as_str()?.parse().ok()
}

/// How long a start takes until it is ready.
pub(crate) async fn timed_start(folder: &Path) -> anyhow::Result<(Service, Duration)> {
    let began = Instant::now();
    let service = Service::start(folder).await?;
    Ok((service, began.elapsed()))
}
