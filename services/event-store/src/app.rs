//! The parts put together.

use std::sync::Arc;

use axum::Router;
use runtime::base::Base;
use runtime::clock::Clock;
use runtime::health::{Finding, Health};
use runtime::internal_key::Door;
use runtime::server::{self, Limits};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::config::Config;
use crate::domain::route::Routing;
use crate::http::{self, Answers, Hub};
use crate::metrics::StoreMetrics;
use crate::storage::{self, Storage};
use crate::worker::Retention;

pub struct App {
    base: Arc<Base>,
    door: Door,
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
            answers: Answers::default(),
            stopping: CancellationToken::new(),
        });
        Ok(Self {
            base,
            door: Door::locked(config.signalpost_internal_key),
            hub,
            retention,
        })
    }

    pub fn router(&self) -> Router {
        let storage = Arc::clone(&self.hub.storage);
        let health = Health::new().needs("storage", move || look(Arc::clone(&storage)));
        let routes = http::routes(Arc::clone(&self.hub));
        self.base.wrap(routes, health, self.door.clone())
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
            let finding = match status.fault {
                Some(fault) => Finding::down(format!("the last write failed: {fault}")),
                None if status.disk_reserve_reached => {
                    Finding::degraded("the disk is nearly full: no events are taken")
                }
                None => Finding::up(),
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use ::http::{Request, StatusCode};
    use axum::body::Body;
    use http_body_util::BodyExt as _;
    use runtime::internal_key::InternalKey;
    use schema::names;
    use serde_json::Value;
    use tower::ServiceExt as _;

    use super::*;
    use crate::storage::conformance::payment;

    const KEY: &str = "key-of-the-tests";

    async fn app(url: String) -> App {
        let config = Config {
            event_store_database_url: url,
            signalpost_internal_key: InternalKey::parse(KEY).unwrap(),
            ..Config::default()
        };
        App::build(config, Clock::system()).await.unwrap()
    }

    async fn ready(app: &App) -> (StatusCode, Value) {
        let request = Request::get("/readyz").header(names::INTERNAL_KEY, KEY);
        let request = request.body(Body::empty()).unwrap();
        let response = app.router().oneshot(request).await.unwrap();
        let status = response.status();
        let body = response.into_body().collect().await.unwrap().to_bytes();
        let told: Value = serde_json::from_slice(&body).unwrap();
        (status, told["dependencies"]["storage"].clone())
    }

    #[tokio::test]
    async fn readiness_says_whether_the_store_is_durable() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("new/events.db");

        let (in_memory, on_disk) = (
            app("memory:".to_owned()).await,
            app(format!("sqlite:{}", file.display())).await,
        );

        let (status, memory) = ready(&in_memory).await;
        assert_eq!(status, StatusCode::OK);
        let (status, sqlite) = ready(&on_disk).await;
        assert_eq!(status, StatusCode::OK);
        assert_eq!(memory["backend"], "memory");
        assert_eq!(memory["durable"], false);
        assert_eq!(sqlite["backend"], "sqlite");
        assert_eq!(sqlite["durable"], true);
        assert_eq!(sqlite["head"], 0);
        assert!(sqlite["bytes"].as_u64().unwrap() > 0);
    }

    #[tokio::test]
    async fn readiness_says_why_nothing_can_be_written_until_something_is() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("events.db");
        let app = app(format!("sqlite:{}", file.display())).await;
        let disk = rusqlite::Connection::open(&file).unwrap();
        let insert = async |id: &str| app.hub.storage.insert(vec![payment(id)].into()).await;
        insert("evt_1").await.unwrap();
        disk.execute_batch(
            "CREATE TRIGGER broken BEFORE INSERT ON events BEGIN SELECT RAISE(ABORT, 'broken disk'); END",
        )
        .unwrap();

        insert("evt_2").await.unwrap_err();
        let (status, failing) = ready(&app).await;
        // Seen before: nothing is written, so nothing is proved.
        insert("evt_1").await.unwrap();
        let (still, _) = ready(&app).await;
        disk.execute_batch("DROP TRIGGER broken").unwrap();
        insert("evt_2").await.unwrap();
        let (again, up) = ready(&app).await;

        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(failing["status"], "down");
        let reason = failing["reason"].as_str().unwrap();
        assert!(reason.contains("broken disk"), "{reason}");
        assert_eq!(still, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(again, StatusCode::OK);
        assert_eq!(up["status"], "up");
    }

    #[tokio::test]
    async fn a_cancelled_token_ends_the_service() {
        let app = app("memory:".to_owned()).await;
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let shutdown = CancellationToken::new();
        shutdown.cancel();

        let ended =
            tokio::time::timeout(Duration::from_secs(20), app.run(listener, shutdown)).await;

        assert!(ended.unwrap().is_ok());
    }
}
