//! The parts put together.

use std::sync::Arc;

use axum::Router;
use runtime::base::Base;
use runtime::clock::Clock;
use runtime::health::{Finding, Health};
use runtime::server::{self, Limits};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::domain::route::Routing;
use crate::http::{self, Hub};
use crate::metrics::StoreMetrics;
use crate::storage::{self, Storage};
use crate::worker::Retention;

pub struct App {
    base: Arc<Base>,
    hub: Arc<Hub>,
    retention: Retention,
}

impl App {
    /// Opens the store.
    ///
    /// # Errors
    /// When the store cannot be opened; the text says why.
    pub async fn build(config: Config, clock: Clock) -> anyhow::Result<Self> {
        let base = Arc::new(Base::new("event-store", clock.clone()));
        let metrics = StoreMetrics::new(&base.metrics);
        let storage = storage::open(&config, clock.clone(), metrics.commits.clone()).await?;
        let retention = Retention {
            storage: Arc::clone(&storage),
            clock,
            keep: config.retention(),
            metrics: metrics.clone(),
        };
        let hub = Arc::new(Hub {
            storage,
            routing: Routing {
                warnings: config.route_warning,
            },
            metrics,
            stopping: CancellationToken::new(),
        });
        Ok(Self {
            base,
            hub,
            retention,
        })
    }

    pub fn router(&self) -> Router {
        let storage = Arc::clone(&self.hub.storage);
        let health = Health::new().needs("storage", move || look(Arc::clone(&storage)));
        self.base.wrap(http::routes(Arc::clone(&self.hub)), health)
    }

    /// Serves until the token is cancelled or a part fails; a store that cannot go on ends the process with its reason (R6).
    pub async fn run(
        self,
        listener: TcpListener,
        shutdown: CancellationToken,
    ) -> anyhow::Result<()> {
        let router = self.router();
        let stopping = self.hub.stopping.clone();
        let serving = async {
            let served = server::serve(listener, router, Limits::INTERNAL, stopping.clone()).await;
            stopping.cancel();
            anyhow::Ok(served?)
        };
        let watching = async {
            tokio::select! {
                reason = self.hub.storage.failed() => {
                    tracing::error!(%reason, "stopping, the store must be opened anew");
                    stopping.cancel();
                    Err(reason.into())
                }
                () = shutdown.cancelled() => {
                    stopping.cancel();
                    Ok(())
                }
                () = stopping.cancelled() => Ok(()),
            }
        };
        let (watched, served, ()) =
            tokio::join!(watching, serving, self.retention.run(stopping.clone()));
        watched.and(served)
    }
}

async fn look(storage: Arc<dyn Storage>) -> Finding {
    match storage.status().await {
        Ok(status) => {
            let finding = if status.disk_reserve_reached {
                Finding::degraded("the disk is nearly full: no events are taken")
            } else {
                Finding::up()
            };
            finding
                .with("backend", status.backend)
                .with("durable", status.durable)
                .with("head", status.head)
                .with("bytes", status.bytes)
        }
        Err(fault) => Finding::down(fault.to_string()),
    }
}
