//! A hub of its own for a test: every service a process, on free ports, with its data in a folder that goes away.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use anyhow::Context as _;
use runtime::internal_key;
use signalpost::supervisor::{Line, Options, Supervisor};
use tempfile::TempDir;
use tokio::sync::mpsc;
use tokio::task::JoinHandle;

use crate::api::INTERNAL_KEY;
use crate::binaries;
use crate::eventually::{PATIENCE, eventually};
use crate::receiver::{Receiver, Receiving};
use crate::stage::{Listening, Stage};

/// The signing secret of every hub. A test looks for it where it must not be.
pub const STRIPE_SECRET: &str = "whsec_CANARY_7f3b1c";
/// A secret that nothing uses, and nothing may show.
pub const STRIPE_API_KEY: &str = "sk_test_CANARY_55e2d0";
/// Attempts, a second apart, as many as there may be: a retry is seen within a test, and hardly any test is so slow that
/// it sees the last.
const ATTEMPTS: usize = 64;

/// Where a test's receivers are.
const LOOPBACK: &str = "127.0.0.0/8,::1/128";

const LINES_WAITING: usize = 4096;

/// A running hub. Dropping it kills the processes and removes the data.
pub struct Hub {
    supervisor: Supervisor,
    gateway_url: String,
    log: Log,
    filling: JoinHandle<()>,
    /// Last, so that the processes are gone before their data.
    data: TempDir,
}

impl Hub {
    pub async fn start() -> anyhow::Result<Self> {
        Self::start_with(&[]).await
    }

    /// With further variables for all services.
    pub async fn start_with(variables: &[(&str, &str)]) -> anyhow::Result<Self> {
        let data = tempfile::tempdir().context("making a folder for the data")?;
        let (lines, received) = mpsc::channel(LINES_WAITING);
        let log = Log::default();
        let filling = tokio::spawn(log.clone().fill(received));
        let mut environment: BTreeMap<String, String> = BTreeMap::new();
        let schedule = format!("0{}", ",1".repeat(ATTEMPTS - 1));
        for (name, value) in [
            ("STRIPE_WEBHOOK_SECRET", STRIPE_SECRET),
            ("STRIPE_API_KEY", STRIPE_API_KEY),
            (internal_key::VARIABLE, INTERNAL_KEY),
            ("DELIVERY_SCHEDULE_S", &schedule),
            ("PAGERDUTY_SCHEDULE_S", &schedule),
            ("DELIVERY_ALLOW_NETS", LOOPBACK),
        ]
        .iter()
        .chain(variables)
        {
            environment.insert((*name).to_owned(), (*value).to_owned());
        }
        let supervisor = Supervisor::start(Options {
            bin_dir: binaries::folder().await?,
            working_dir: Some(data.path().to_owned()),
            inherit_environment: false,
            environment,
            gateway_host: "127.0.0.1".to_owned(),
            gateway_port: 0,
            lines,
        })
        .await?;
        let gateway_url = supervisor.url("gateway")?;
        Ok(Self {
            supervisor,
            gateway_url,
            log,
            filling,
            data,
        })
    }

    /// The processes.
    pub fn supervisor(&self) -> &Supervisor {
        &self.supervisor
    }

    /// The folder that the services were started in; their stores are in `data` below it.
    pub fn folder(&self) -> &Path {
        self.data.path()
    }

    /// A URL of the gateway.
    pub fn url(&self, path_and_query: &str) -> String {
        format!("{}{path_and_query}", self.gateway_url)
    }

    /// Waits for a line of the service that has all the parts.
    pub async fn wait_for_log(&self, service: &str, parts: &[&str]) -> anyhow::Result<String> {
        let what = format!("a line of {service} with {parts:?}");
        eventually(&what, PATIENCE, async || {
            let lines = self.log.lock();
            let found = lines.iter().find(|line| {
                line.service == service && parts.iter().all(|part| line.text.contains(part))
            });
            found
                .map(|line| line.text.clone())
                .ok_or_else(|| format!("{} lines without it", lines.len()))
        })
        .await
    }

    /// Stops the services in order, and answers every line they wrote.
    pub async fn stop(mut self) -> anyhow::Result<Vec<Line>> {
        self.supervisor.stop().await;
        // The last lines are still on their way when a process has ended.
        drop(self.supervisor);
        self.filling.await?;
        Ok(self.log.lock().clone())
    }
}

impl Stage for Hub {
    fn gateway_url(&self) -> &str {
        &self.gateway_url
    }

    fn stripe_secret(&self) -> &str {
        STRIPE_SECRET
    }

    async fn kill(&self, service: &str) -> anyhow::Result<()> {
        self.supervisor.hold(service).await
    }

    async fn restart(&self, service: &str) -> anyhow::Result<()> {
        self.supervisor.restart(service)
    }

    async fn receive(&self, receiving: &Receiving) -> anyhow::Result<Listening> {
        let receiver = Receiver::start(receiving).await?;
        Ok(Listening {
            url: receiver.url().to_owned(),
            asked_at: receiver.url().to_owned(),
            _until: Box::new(receiver),
        })
    }

    async fn log(&self, service: &str) -> anyhow::Result<Vec<String>> {
        let lines = self.log.lock();
        let of_service = lines.iter().filter(|line| line.service == service);
        Ok(of_service.map(|line| line.text.clone()).collect())
    }
}

#[derive(Clone, Default)]
struct Log(Arc<Mutex<Vec<Line>>>);

impl Log {
    fn lock(&self) -> MutexGuard<'_, Vec<Line>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    async fn fill(self, mut lines: mpsc::Receiver<Line>) {
        while let Some(line) = lines.recv().await {
            self.lock().push(line);
        }
    }
}
