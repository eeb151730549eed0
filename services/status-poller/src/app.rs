//! The service put together.

use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use clients::event_store::EventStore;
use runtime::base::Base;
use runtime::clock::Clock;
use runtime::health::Health;
use runtime::internal_key::Door;
use runtime::server::{self, Limits};
use runtime::upstream::Upstream;
use tokio::net::TcpListener;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;

use crate::config::{Config, StatusPage};
use crate::http;
pub use crate::poll::Deadlines;
use crate::poll::Poller;
use crate::schedule::{Bell, Ring, Schedule};
use crate::worker::{Freshness, Pull, Worker};

/// Pulls that may wait for their turn; one more is told to come again.
const PULLS_WAITING: usize = 4;

pub struct App {
    base: Arc<Base>,
    door: Door,
    store: EventStore,
    freshness: Arc<Freshness>,
    schedule: Schedule,
    rings: mpsc::Sender<Ring>,
    pulls: mpsc::Sender<Pull>,
    worker: Worker,
}

impl App {
    /// Fails only on a configuration that has complaints.
    pub fn build(config: &Config, clock: Clock) -> anyhow::Result<Self> {
        Self::with_deadlines(config, clock, Deadlines::default())
    }

    /// As [`App::build`], with other bounds on a poll.
    pub fn with_deadlines(
        config: &Config,
        clock: Clock,
        deadlines: Deadlines,
    ) -> anyhow::Result<Self> {
        let pages: Vec<Arc<StatusPage>> = config
            .pages()
            .map_err(|complaints| anyhow::anyhow!(complaints.join("; ")))?
            .into_iter()
            .map(Arc::new)
            .collect();
        let schedule = config.schedule().map_err(anyhow::Error::msg)?;
        let base = Arc::new(Base::new("status-poller", clock.clone()));
        let upstream = Upstream::new("event-store", &config.event_store_url);
        let store = EventStore::new(Arc::new(upstream), &config.signalpost_internal_key);
        let freshness = Freshness::new(&pages, schedule.longest_gap, &base.metrics);
        let (rings, rung) = mpsc::channel(1);
        let (pulls, asked) = mpsc::channel(PULLS_WAITING);
        let worker = Worker {
            poller: Poller::new(store.clone(), clock.clone(), deadlines, &base.metrics),
            pages,
            freshness: Arc::clone(&freshness),
            clock,
            rings: rung,
            pulls: asked,
        };
        Ok(Self {
            base,
            door: Door::locked(config.signalpost_internal_key.clone()),
            store,
            freshness,
            schedule,
            rings,
            pulls,
            worker,
        })
    }

    pub fn router(&self) -> Router {
        let (store, freshness) = (self.store.clone(), Arc::clone(&self.freshness));
        let health = Health::new()
            .needs("event-store", move || {
                let store = store.clone();
                async move { store.health().await }
            })
            .tells("status-pages", move || {
                let finding = freshness.finding();
                async move { finding }
            });
        self.base
            .wrap(http::routes(self.pulls.clone()), health, self.door.clone())
    }

    /// Serves and polls until the token is cancelled.
    pub async fn run(
        self,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let router = self.router();
        // Whatever ends first ends the rest.
        let _ending = shutdown.clone().drop_guard();
        let scheduled = self.worker.pages.iter().any(|page| page.is_configured());
        let ringing = ring(
            scheduled.then_some(self.schedule),
            self.rings,
            shutdown.clone(),
        );
        let background = async {
            tokio::join!(
                self.worker.run(shutdown.clone()),
                self.freshness.keep_ages(shutdown.clone()),
            );
            Ok(())
        };
        let serving = async {
            server::serve(listener, router, Limits::INTERNAL, shutdown.clone())
                .await
                .context("serving")
        };
        tokio::try_join!(serving, ringing, background)?;
        Ok(())
    }
}

/// Rings the bell by the schedule, if there is something to poll by it.
async fn ring(
    schedule: Option<Schedule>,
    rings: mpsc::Sender<Ring>,
    shutdown: CancellationToken,
) -> anyhow::Result<()> {
    if let Some(schedule) = schedule {
        let bell = Bell::start(&schedule, rings)
            .await
            .context("starting the schedule")?;
        shutdown.cancelled().await;
        bell.stop().await.context("stopping the schedule")?;
    }
    Ok(())
}
