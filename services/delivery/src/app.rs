//! Puts delivery together.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use anyhow::Context as _;
use axum::Router;
use clients::event_store::EventStore;
use jiff::{SignedDuration, Timestamp};
use rand::RngExt as _;
use runtime::base::Base;
use runtime::clock::Clock;
use runtime::health::{Finding, Health};
use runtime::internal_key::Door;
use runtime::server::{self, Limits};
use runtime::upstream::Upstream;
use schema::webhooks::{OnExhausted, Ordering};
use signature::standard::Key;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::domain::endpoint::{
    Confidential, Endpoint, MAX_IN_FLIGHT, ONCALL, PAGE_TYPE, Pattern, Settings,
};
use crate::domain::ids::{EndpointId, PAGERDUTY};
use crate::domain::requests::Defaults;
use crate::http;
use crate::storage::{self, Options, Storage};
use crate::worker::send::Senders;
use crate::worker::vitals::{Facts, Vitals, age_s};
use crate::worker::{Chance, Outside, OwnDoors, Worker};

/// A feed that was not read for so long is behind: three polls.
const FEED_STALE: Duration = Duration::from_secs(60);

/// Everything outside the process that it reaches.
pub struct Surroundings {
    pub clock: Clock,
    pub senders: Senders,
    pub doors: Arc<OwnDoors>,
    pub event_store: EventStore,
    pub chance: Chance,
    /// What the configuration names, unless there is one already.
    pub storage: Option<Arc<dyn Storage>>,
}

pub struct App {
    base: Arc<Base>,
    door: Door,
    storage: Arc<dyn Storage>,
    vitals: Arc<Vitals>,
    worker: Arc<Worker>,
}

impl App {
    /// Opens the store, takes its lane, and learns what is open. Nothing is sent before [`run`](Self::run).
    pub async fn build(config: Config, clock: Clock) -> anyhow::Result<Self> {
        let nets = config.nets().map_err(anyhow::Error::msg)?;
        let doors = Arc::new(config.own_doors());
        doors.look_first().await;
        let upstream = Upstream::new("event-store", &config.event_store_url);
        let surroundings = Surroundings {
            clock,
            senders: Senders::over_sockets(&nets, &doors),
            doors,
            event_store: EventStore::new(Arc::new(upstream), &config.signalpost_internal_key),
            chance: Chance::of_the_system(),
            storage: None,
        };
        Self::build_in(config, surroundings).await
    }

    /// As [`build`](Self::build), with everything outside handed in.
    pub async fn build_in(config: Config, surroundings: Surroundings) -> anyhow::Result<Self> {
        let base = Arc::new(Base::new("delivery", surroundings.clock.clone()));
        let vitals = Arc::new(Vitals::new(&base.metrics));
        let storage = match surroundings.storage {
            Some(storage) => storage,
            None => open(&config, &vitals)?,
        };
        let outside = Outside {
            storage: Arc::clone(&storage),
            event_store: surroundings.event_store,
            senders: surroundings.senders,
            doors: surroundings.doors,
            clock: surroundings.clock,
            chance: surroundings.chance,
            defaults: Defaults {
                policy: config.policy().context("DELIVERY_SCHEDULE_S")?,
                pages: config.pages_policy().context("PAGERDUTY_SCHEDULE_S")?,
                nets: config.nets().map_err(anyhow::Error::msg)?,
            },
            bounds: config.bounds(),
            retention: retention(&config),
            vitals: Arc::clone(&vitals),
        };
        let built_in = built_in(&config, outside.clock.now())?;
        let worker = Worker::start(outside, built_in)
            .await
            .context("taking over what is open")?;
        Ok(Self {
            base,
            door: Door::locked(config.signalpost_internal_key),
            storage,
            vitals,
            worker,
        })
    }

    pub fn router(&self) -> Router {
        let routes = http::routes(Arc::clone(&self.worker), Arc::clone(&self.storage));
        self.base.wrap(routes, self.health(), self.door.clone())
    }

    /// Serves and works until the token is cancelled; the first to fail stops the other.
    pub async fn run(
        self,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let router = self.router();
        let doors = Arc::clone(self.worker.doors());
        doors.listen(listener.local_addr()?);
        let serving = stop_others(&shutdown, async {
            server::serve(listener, router, Limits::INTERNAL, shutdown.clone())
                .await
                .context("serving")
        });
        let working = stop_others(&shutdown, self.work(shutdown.clone()));
        let looking = doors.watch(shutdown.clone());
        let (served, worked, ()) = tokio::join!(serving, working, looking);
        worked.and(served)
    }

    /// Works until the token is cancelled; whoever calls asks the [`router`](Self::router), without a socket.
    pub async fn work(self, shutdown: CancellationToken) -> anyhow::Result<()> {
        self.worker.run(shutdown).await.context("delivering")
    }

    fn health(&self) -> Health {
        let storage = Arc::clone(&self.storage);
        let feed = Arc::clone(&self.vitals);
        let destination = Arc::clone(&self.vitals);
        let (pages, worker) = (Arc::clone(&self.vitals), Arc::clone(&self.worker));
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
            // A PagerDuty that is down must not take delivery out of a balancer.
            .tells("pages", move || {
                let finding = look_at_pages(&pages, worker.now());
                async move { finding }
            })
    }
}

/// What `DELIVERY_DATABASE_URL` names.
pub fn open(config: &Config, vitals: &Vitals) -> anyhow::Result<Arc<dyn Storage>> {
    storage::open(Options {
        url: config.delivery_database_url.clone(),
        timers: vitals.timers.clone(),
        vault: config.vault().map_err(anyhow::Error::msg)?,
    })
}

/// The on-call's PagerDuty, as configuration has it.
pub(crate) fn built_in(config: &Config, now: Timestamp) -> anyhow::Result<Endpoint> {
    let url = config.pagerduty_url().context("PAGERDUTY_URL")?;
    let secret = Key::from_bytes(rand::rng().random::<[u8; 32]>().to_vec())?;
    Ok(Endpoint {
        position: 0,
        endpoint_id: EndpointId::pagerduty(),
        client: 0,
        client_id: ONCALL.into(),
        settings: Settings {
            url: url.into(),
            event_types: Some(vec![
                Pattern::parse(PAGE_TYPE).context("the type of pages")?,
            ]),
            description: Some(
                "set by PAGERDUTY_URL; routed events of the hub page here".to_owned(),
            ),
            retry: None,
            timeout_ms: config.pagerduty_timeout_ms,
            max_in_flight: MAX_IN_FLIGHT,
            rate_limit_per_s: None,
            ordering: Ordering::None,
            on_exhausted: OnExhausted::Block,
        },
        confidential: Confidential {
            secret: secret.to_secret(),
            previous: Vec::new(),
            headers: BTreeMap::new(),
        },
        disabled: None,
        created_at: now,
        updated_at: now,
        version: 0,
    })
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

fn look_at_pages(vitals: &Vitals, now: Timestamp) -> Finding {
    let Facts {
        pages, pages_at, ..
    } = vitals.facts();
    let why = pages.reasons();
    let finding = match (&why, pages_at) {
        (Some(why), _) => Finding::degraded(format!("pages are not delivered: {why}")),
        (None, None) => Finding::degraded("undelivered pages have not been looked for yet"),
        (None, Some(_)) => Finding::up(),
    };
    finding
        .with("undelivered", pages.count)
        .with("oldest_age_s", age_s(pages.oldest, now))
        .with("why", why)
}
