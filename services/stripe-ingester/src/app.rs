//! The service put together: the routes, and the loop that sends to event-store.

use std::sync::Arc;

use anyhow::Context as _;
use axum::Router;
use clients::event_store::EventStore;
use clients::intake::{Intake, Sender};
use runtime::base::Base;
use runtime::clock::Clock;
use runtime::health::Health;
use runtime::internal_key::Door;
use runtime::server::{self, Limits};
use runtime::upstream::Upstream;
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::http::{self, Ingester};
use crate::metrics::Metrics;

pub struct App {
    base: Arc<Base>,
    door: Door,
    store: EventStore,
    ingester: Arc<Ingester>,
    sender: Sender,
}

impl App {
    pub fn build(config: Config, clock: Clock) -> Self {
        let base = Arc::new(Base::new("stripe-ingester", clock.clone()));
        let upstream = Upstream::new("event-store", &config.event_store_url);
        let store = EventStore::new(Arc::new(upstream), &config.signalpost_internal_key);
        let (intake, sender) = Intake::new(store.clone(), &base.metrics);
        let ingester = Arc::new(Ingester {
            secrets: config.stripe_webhook_secret,
            clock,
            intake,
            metrics: Metrics::new(&base.metrics),
        });
        Self {
            base,
            door: Door::locked(config.signalpost_internal_key),
            store,
            ingester,
            sender,
        }
    }

    pub fn router(&self) -> Router {
        let store = self.store.clone();
        let health = Health::new().needs("event-store", move || {
            let store = store.clone();
            async move { store.health().await }
        });
        let routes = http::routes(Arc::clone(&self.ingester));
        self.base.wrap(routes, health, self.door.clone())
    }

    /// Serves until the token is cancelled. Requests in flight are answered before the loop that sends for them ends.
    pub async fn run(
        self,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let router = self.router();
        let drained = CancellationToken::new();
        let sending = tokio::spawn(self.sender.run(drained.clone()));
        let serving = async {
            let served = server::serve(listener, router, Limits::INTERNAL, shutdown).await;
            drained.cancel();
            served.context("serving")
        };
        let sending = async { sending.await.context("sending to event-store") };
        tokio::try_join!(serving, sending)?;
        Ok(())
    }
}
