//! Puts delivery together.

use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use clients::event_store::EventStore;
use jiff::SignedDuration;
use reqwest_middleware::ClientWithMiddleware;
use runtime::base::Base;
use runtime::clock::Clock;
use runtime::health::{Finding, Health};
use runtime::http_client;
use runtime::server::{self, Limits};
use runtime::upstream::Upstream;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::domain::endpoint::{Endpoint, PAGERDUTY};
use crate::http;
use crate::storage::{self, Storage};
use crate::worker::vitals::Vitals;
use crate::worker::{Outside, Worker};

/// A feed that was not read for so long is behind: three polls.
const FEED_STALE: Duration = Duration::from_secs(60);

pub struct App {
    base: Arc<Base>,
    storage: Arc<dyn Storage>,
    vitals: Arc<Vitals>,
    worker: Arc<Worker>,
}

impl App {
    /// Opens the store, takes its lane, and learns what is open. Nothing is sent before [`run`](Self::run).
    pub async fn build(config: Config, clock: Clock) -> anyhow::Result<Self> {
        let http = http_client::single_try(config.pagerduty_timeout());
        let upstream = Upstream::new("event-store", &config.event_store_url);
        Self::build_with(config, clock, http, EventStore::new(Arc::new(upstream))).await
    }

    /// As [`build`](Self::build), with the network handed in.
    pub async fn build_with(
        config: Config,
        clock: Clock,
        http: ClientWithMiddleware,
        event_store: EventStore,
    ) -> anyhow::Result<Self> {
        let base = Arc::new(Base::new("delivery", clock.clone()));
        let vitals = Arc::new(Vitals::new(&base.metrics));
        let storage = storage::open(&config.delivery_database_url, vitals.commit_seconds.clone())?;
        let outside = Outside {
            storage: Arc::clone(&storage),
            event_store,
            http,
            clock,
            endpoints: vec![built_in(&config)?],
            retention: retention(&config),
            vitals: Arc::clone(&vitals),
        };
        let worker = Worker::start(outside)
            .await
            .context("taking over what is open")?;
        Ok(Self {
            base,
            storage,
            vitals,
            worker,
        })
    }

    pub fn router(&self) -> Router {
        self.base
            .wrap(http::routes(Arc::clone(&self.storage)), self.health())
    }

    /// Serves and works until the token is cancelled; the first to fail stops the other.
    pub async fn run(
        self,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let router = self.router();
        let serving = stop_others(&shutdown, async {
            server::serve(listener, router, Limits::INTERNAL, shutdown.clone())
                .await
                .context("serving")
        });
        let working = stop_others(&shutdown, async {
            Arc::clone(&self.worker)
                .run(shutdown.clone())
                .await
                .context("delivering")
        });
        let (served, worked) = tokio::join!(serving, working);
        worked.and(served)
    }

    fn health(&self) -> Health {
        let storage = Arc::clone(&self.storage);
        let feed = Arc::clone(&self.vitals);
        let destination = Arc::clone(&self.vitals);
        Health::new()
            .needs("storage", move || {
                let finding = look_at_storage(storage.as_ref());
                async move { finding }
            })
            .tells("event-store", move || {
                let finding = look_at_feed(&feed);
                async move { finding }
            })
            .tells(PAGERDUTY, move || {
                let finding = look_at_destination(&destination);
                async move { finding }
            })
    }
}

fn built_in(config: &Config) -> anyhow::Result<Endpoint> {
    let url = config.pagerduty_url().context("PAGERDUTY_URL")?;
    let policy = config.policy().context("DELIVERY_SCHEDULE_S")?;
    Ok(Endpoint::pagerduty(url, config.pagerduty_timeout(), policy))
}

fn retention(config: &Config) -> SignedDuration {
    SignedDuration::from_hours(24 * i64::from(config.delivery_retention_days))
}

/// Cancels the token when the part ends, so that the others end too.
async fn stop_others<T>(shutdown: &CancellationToken, part: impl Future<Output = T>) -> T {
    let _stop = shutdown.clone().drop_guard();
    part.await
}

fn look_at_storage(storage: &dyn Storage) -> Finding {
    let condition = storage.condition();
    let finding = match condition.fault {
        Some(fault) => Finding::down(fault),
        None if condition.disk_reserve_reached => {
            Finding::degraded("the disk is nearly full: the feed is not read on")
        }
        None => Finding::up(),
    };
    finding
        .with("backend", condition.backend)
        .with("durable", condition.durable)
}

fn look_at_feed(vitals: &Vitals) -> Finding {
    let facts = vitals.facts();
    let age = vitals.since(facts.feed_read_at);
    let finding = match (facts.feed_fault, facts.feed_read_at) {
        (Some(fault), _) => Finding::down(fault),
        (None, None) => Finding::degraded("the feed has not been read yet"),
        (None, Some(_)) if age > FEED_STALE => Finding::degraded("the feed was not read for long"),
        (None, Some(_)) => Finding::up(),
    };
    finding.with("feed_age_s", age.as_secs())
}

fn look_at_destination(vitals: &Vitals) -> Finding {
    let facts = vitals.facts();
    let finding = match facts.destination_failing {
        None => Finding::up(),
        Some((since, error)) => {
            Finding::degraded(format!("attempts fail: {error}")).with("since", since.to_string())
        }
    };
    finding.with("exhausted_since_start", facts.exhausted)
}
