//! The service with a fake event-store behind it on a real socket.

use std::collections::HashSet;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::routing::{get, post};
use axum::{Json, Router};
use http::{HeaderMap, HeaderValue, Request, StatusCode};
use http_body_util::BodyExt as _;
use runtime::clock::Clock;
use runtime::config::{List, Secrets};
use runtime::internal_key::InternalKey;
use runtime::server;
use schema::intake::{Batch, BatchResults, Receipt, Submission};
use schema::{Event, EventId, names};
use signature::stripe::sign;
use stripe_ingester::app::App;
use stripe_ingester::config::Config;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

pub(crate) const SECRET: &str = "whsec_of_the_tests";
const KEY: &str = "key-of-the-tests";
pub(crate) const NOW: i64 = 1_705_315_200;

/// Stores what it is sent, as event-store would, until it is told to answer otherwise.
#[derive(Default)]
pub(crate) struct FakeStore {
    pub(crate) submissions: Mutex<Vec<Submission>>,
    ids: Mutex<HashSet<EventId>>,
    pub(crate) always: Mutex<Option<Receipt>>,
}

impl FakeStore {
    async fn take(
        State(fake): State<Arc<Self>>,
        Json(batch): Json<Batch<Submission>>,
    ) -> Json<BatchResults> {
        let always = fake.always.lock().unwrap().clone();
        let mut ids = fake.ids.lock().unwrap();
        let receipt = |item: &Submission| match &always {
            Some(receipt) => receipt.clone(),
            None if ids.insert(item.event.event_id.clone()) => Receipt::Stored { routed: false },
            None => Receipt::Duplicate { routed: false },
        };
        let results = batch.items.iter().map(receipt).collect();
        fake.submissions.lock().unwrap().extend(batch.items);
        Json(BatchResults { results })
    }

    pub(crate) fn last_event(&self) -> Option<Event> {
        let submissions = self.submissions.lock().unwrap();
        submissions
            .last()
            .map(|submission| submission.event.clone())
    }
}

/// What a request was answered.
pub(crate) struct Answer {
    pub(crate) status: StatusCode,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Vec<u8>,
}

impl Answer {
    pub(crate) fn json(&self) -> serde_json::Value {
        serde_json::from_slice(&self.body).unwrap()
    }

    pub(crate) fn text(&self) -> &str {
        str::from_utf8(&self.body).unwrap()
    }
}

pub(crate) struct Service {
    pub(crate) store: Arc<FakeStore>,
    router: Router,
    pub(crate) shutdown: CancellationToken,
    pub(crate) running: JoinHandle<anyhow::Result<()>>,
}

impl Service {
    /// Starts the service before a store that answers.
    pub(crate) async fn start() -> Self {
        let store = Arc::new(FakeStore::default());
        let listener = server::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let routes = Router::new()
            .route(names::INTERNAL_EVENTS, post(FakeStore::take))
            .route(
                names::HEALTHZ,
                get(async || Json(serde_json::json!({ "ok": true }))),
            )
            .with_state(Arc::clone(&store));
        tokio::spawn(async move { axum::serve(listener, routes).await });
        Self::start_before(store, &url).await
    }

    /// Starts the service before a port where nobody answers.
    pub(crate) async fn start_alone() -> Self {
        let listener = server::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        drop(listener);
        Self::start_before(Arc::default(), &url).await
    }

    async fn start_before(store: Arc<FakeStore>, url: &str) -> Self {
        let config = Config {
            stripe_webhook_secret: Secrets::of(&["whsec_next", SECRET]),
            event_store_url: List::of(&[url]),
            signalpost_internal_key: InternalKey::parse(KEY).unwrap(),
            ..Config::default()
        };
        let now = jiff::Timestamp::from_second(NOW).unwrap();
        let app = App::build(config, Clock::starting_at(now));
        let router = app.router();
        let listener = server::bind("127.0.0.1:0").await.unwrap();
        let shutdown = CancellationToken::new();
        let running = tokio::spawn(app.run(listener, shutdown.clone()));
        Self {
            store,
            router,
            shutdown,
            running,
        }
    }

    /// Posts a body with the right signature.
    pub(crate) async fn ingest(&self, body: &[u8]) -> Answer {
        let signature = sign(SECRET, NOW, body);
        self.post(body, &[(names::STRIPE_SIGNATURE, &signature)])
            .await
    }

    pub(crate) async fn post(&self, body: &[u8], headers: &[(&str, &str)]) -> Answer {
        let mut request = Request::post(names::INGEST_STRIPE);
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        self.send(request.body(Body::from(body.to_vec())).unwrap())
            .await
    }

    pub(crate) async fn get(&self, path: &str) -> Answer {
        self.send(Request::get(path).body(Body::empty()).unwrap())
            .await
    }

    async fn send(&self, mut request: Request<Body>) -> Answer {
        let key = HeaderValue::from_static(KEY);
        request.headers_mut().insert(names::INTERNAL_KEY, key);
        let asked = self.router.clone().oneshot(request);
        let response = tokio::time::timeout(Duration::from_secs(20), asked)
            .await
            .unwrap()
            .unwrap();
        let (head, body) = response.into_parts();
        Answer {
            status: head.status,
            headers: head.headers,
            body: body.collect().await.unwrap().to_bytes().to_vec(),
        }
    }
}
