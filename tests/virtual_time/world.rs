//! The services in one process: delivery, which dies and comes back, and the hub's store.

use std::sync::{Arc, LazyLock};
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use clients::event_store::EventStore;
use delivery::app::{self, App, Surroundings};
use delivery::config::Config;
use delivery::storage::Storage;
use delivery::worker::Chance;
use delivery::worker::send::Senders;
use delivery::worker::vitals::Vitals;
use http::{Method, Request};
use reqwest_middleware::ClientWithMiddleware;
use runtime::clock::Clock;
use runtime::config::List;
use runtime::http_client;
use runtime::internal_key::InternalKey;
use runtime::metrics::Metrics;
use runtime::upstream::Upstream;
use schema::names;
use serde::de::DeserializeOwned;
use serde_json::Value;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use super::network::{EVENT_STORE, INTERNAL_TIMEOUT, Net, Process};

/// The host of the built-in endpoint.
pub(crate) const PAGERDUTY: &str = "pagerduty";

static KEY: LazyLock<InternalKey> =
    LazyLock::new(|| InternalKey::parse("key-of-the-tests").unwrap_or_default());

/// What the services know each other by.
fn key() -> InternalKey {
    KEY.clone()
}

/// Their own layers stay in the path, their connectors are never reached. Made once: TLS takes its time.
static INTERNAL: LazyLock<ClientWithMiddleware> =
    LazyLock::new(|| http_client::internal(INTERNAL_TIMEOUT));
static SENDER: LazyLock<ClientWithMiddleware> =
    LazyLock::new(|| http_client::single_try(Duration::from_secs(15)));

pub(crate) struct World {
    pub(crate) clock: Clock,
    pub(crate) net: Arc<Net>,
    config: Config,
    storage: Arc<dyn Storage>,
    seed: u64,
    starts: u64,
    running: Option<Running>,
    store: Router,
}

struct Running {
    router: Router,
    process: Arc<Process>,
    shutdown: CancellationToken,
    task: JoinHandle<anyhow::Result<()>>,
}

/// What a call was answered.
#[derive(Debug)]
pub(crate) struct Answer {
    pub(crate) status: u16,
    body: Bytes,
}

impl Answer {
    /// The body of an answer that has this status.
    pub(crate) fn told<T: DeserializeOwned>(self, status: u16) -> anyhow::Result<T> {
        let text = String::from_utf8_lossy(&self.body);
        let got = self.status;
        anyhow::ensure!(got == status, "{got} instead of {status}: {text}");
        serde_json::from_slice(&self.body).with_context(|| text.into_owned())
    }

    /// A refusal, by its status and its code.
    pub(crate) fn refused(self, status: u16, code: &str) -> anyhow::Result<()> {
        let problem: Value = self.told(status)?;
        anyhow::ensure!(problem["code"] == code, "not {code}: {problem}");
        Ok(())
    }
}

impl World {
    pub(crate) async fn new(seed: u64) -> anyhow::Result<Self> {
        let clock = Clock::starting_at("2024-01-15T10:00:00Z".parse()?);
        let config = Config {
            delivery_database_url: "memory:".to_owned(),
            signalpost_internal_key: key(),
            delivery_allow_nets: List::of(&["127.0.0.0/8"]),
            pagerduty_url: format!("http://{PAGERDUTY}/page"),
            ..Config::default()
        };
        let storage = app::open(&config, &Vitals::new(&Metrics::new()))?;
        let net = Net::new(clock.clone(), seed);
        let mut world = Self {
            clock,
            net,
            config,
            storage,
            seed,
            starts: 0,
            running: None,
            store: Router::new(),
        };
        world.new_store().await?;
        world.start().await?;
        Ok(world)
    }

    /// The hub's store starts in memory, and has forgotten everything.
    pub(crate) async fn new_store(&mut self) -> anyhow::Result<()> {
        let config = event_store::config::Config {
            event_store_database_url: "memory:".to_owned(),
            signalpost_internal_key: key(),
            ..event_store::config::Config::default()
        };
        let app = event_store::app::App::build(config, self.clock.clone()).await?;
        self.store = app.router();
        self.net.put_store(self.store.clone());
        Ok(())
    }

    pub(crate) fn is_up(&self) -> bool {
        self.running.is_some()
    }

    pub(crate) async fn start(&mut self) -> anyhow::Result<()> {
        let process = Arc::<Process>::default();
        let sender = self.net.under(SENDER.clone(), &process);
        let store = List(vec![format!("http://{EVENT_STORE}")]);
        let store = Arc::new(Upstream::new("event-store", &store));
        self.starts += 1;
        let surroundings = Surroundings {
            clock: self.clock.clone(),
            senders: Senders::alike(&sender),
            doors: Arc::default(),
            event_store: EventStore::over(
                self.net.under(INTERNAL.clone(), &process),
                store,
                &self.config.signalpost_internal_key,
            ),
            chance: Chance::seeded(self.seed.wrapping_add(self.starts)),
            storage: Some(Arc::clone(&self.storage)),
        };
        let app = App::build_in(self.config.clone(), surroundings).await?;
        let (router, shutdown) = (app.router(), CancellationToken::new());
        let task = tokio::spawn(app.work(shutdown.clone()));
        self.running = Some(Running {
            router,
            process,
            shutdown,
            task,
        });
        Ok(())
    }

    /// As a crash: nothing is finished, nothing is said, nothing is heard.
    pub(crate) fn kill(&mut self) {
        if let Some(running) = self.running.take() {
            running.process.die();
            running.task.abort();
        }
    }

    /// As a process that is paused when it is replaced: what it has begun it ends, and does not know that it may not.
    pub(crate) fn replace(&mut self) {
        if let Some(running) = self.running.take() {
            running.process.be_forgotten();
            running.task.abort();
        }
    }

    /// In good order.
    pub(crate) async fn stop(&mut self) -> anyhow::Result<()> {
        let Some(running) = self.running.take() else {
            return Ok(());
        };
        running.shutdown.cancel();
        running.task.await?.context("delivery stopped")
    }

    pub(crate) fn has_stopped_itself(&self) -> bool {
        let running = self.running.as_ref();
        running.is_some_and(|running| running.task.is_finished())
    }

    /// Asks delivery, as the caller that the gateway says it is.
    pub(crate) async fn call(
        &self,
        method: Method,
        path: &str,
        client: Option<&str>,
        body: Option<String>,
    ) -> anyhow::Result<Answer> {
        let running = self.running.as_ref().context("delivery is down")?;
        ask(&running.router, method, path, client, body).await
    }

    pub(crate) async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        client: Option<&str>,
    ) -> anyhow::Result<T> {
        self.call(Method::GET, path, client, None).await?.told(200)
    }

    pub(crate) async fn post(&self, path: &str, body: Option<String>) -> anyhow::Result<Answer> {
        self.call(Method::POST, path, None, body).await
    }

    /// Delivery as one can ask it until it dies.
    pub(crate) fn router(&self) -> anyhow::Result<Router> {
        let running = self.running.as_ref().context("delivery is down")?;
        Ok(running.router.clone())
    }

    /// Asks the hub's store.
    pub(crate) async fn ask_store(
        &self,
        method: Method,
        path: &str,
        body: Option<String>,
    ) -> anyhow::Result<Answer> {
        ask(&self.store, method, path, None, body).await
    }
}

pub(crate) async fn ask(
    router: &Router,
    method: Method,
    path: &str,
    client: Option<&str>,
    body: Option<String>,
) -> anyhow::Result<Answer> {
    let mut request = Request::builder()
        .method(method)
        .uri(path)
        .header(names::INTERNAL_KEY, key().header());
    if let Some(client) = client {
        request = request.header(names::CLIENT, client);
    }
    let body = match body {
        Some(body) => {
            request = request.header("content-type", "application/json");
            Body::from(body)
        }
        None => Body::empty(),
    };
    let response = router.clone().oneshot(request.body(body)?).await?;
    let status = response.status().as_u16();
    let body = axum::body::to_bytes(response.into_body(), usize::MAX).await?;
    Ok(Answer { status, body })
}
