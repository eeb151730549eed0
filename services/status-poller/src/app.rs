//! The service put together.

use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use clients::event_store::EventStore;
use futures_util::future::join_all;
use runtime::base::Base;
use runtime::clock::Clock;
use runtime::health::Health;
use runtime::internal_key::Door;
use runtime::server::{self, Limits};
use runtime::upstream::Upstream;
use tokio::net::TcpListener;
use tokio::sync::{mpsc, watch};
use tokio_util::sync::CancellationToken;

use crate::config::{Config, StatusPage};
use crate::freshness::Freshness;
use crate::http;
use crate::metrics::Counts;
pub use crate::poll::Deadlines;
use crate::poll::Poller;
use crate::pull::{AskSource, Sources};
use crate::schedule::{Ears, Schedule, keep_ringing};
use crate::worker::{Asked, Done, Worker};

pub struct App {
    base: Arc<Base>,
    door: Door,
    clock: Clock,
    store: EventStore,
    freshness: Arc<Freshness>,
    schedule: Schedule,
    ears: Ears,
    sources: Sources,
    workers: Vec<Worker>,
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
        let counts = Counts::new(&base.metrics, pages.iter().map(|page| &**page));
        let poller = Poller::new(store.clone(), clock.clone(), deadlines, counts);
        let (mut ears, mut sources, mut workers) = (Vec::new(), Vec::new(), Vec::new());
        for page in pages {
            let (ear, rings) = mpsc::channel(1);
            let (ask, asked) = watch::channel(Asked::default());
            let (done, ended) = watch::channel(Done::default());
            if page.is_configured() {
                ears.push(ear);
            }
            sources.push(AskSource::of(&page, ask, ended));
            workers.push(Worker {
                poller: Arc::clone(&poller),
                page,
                freshness: Arc::clone(&freshness),
                clock: clock.clone(),
                rings,
                asked,
                done,
                not_before: None,
            });
        }
        Ok(Self {
            base,
            door: Door::locked(config.signalpost_internal_key.clone()),
            clock,
            store,
            freshness,
            schedule,
            ears: Ears(ears),
            sources: Sources(sources.into()),
            workers,
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
        self.base.wrap(
            http::routes(self.sources.clone()),
            health,
            self.door.clone(),
        )
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
        let ringing = async {
            keep_ringing(&self.schedule, &self.clock, self.ears, shutdown.clone())
                .await
                .context("keeping the schedule")
        };
        let runs = self.workers.into_iter();
        let background = async {
            tokio::join!(
                join_all(runs.map(|worker| worker.run(shutdown.clone()))),
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
