//! Fake services, and a gateway before them.

use std::io;
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::{Body, Bytes};
use axum::extract::Request;
use axum::response::{IntoResponse as _, Response};
use gateway::app::App;
use gateway::config::Config;
use http::{HeaderMap, Method, StatusCode, Uri};
use http_body_util::BodyExt as _;
use runtime::clock::Clock;
use runtime::config::List;
use runtime::internal_key::InternalKey;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::{CancellationToken, DropGuard};
use tower::ServiceExt as _;

/// What the gateway shows to the services.
pub(crate) const INTERNAL_KEY: &str = "key-of-the-tests";

/// What a fake service received.
pub(crate) struct Seen {
    pub(crate) method: Method,
    pub(crate) uri: Uri,
    pub(crate) headers: HeaderMap,
    pub(crate) body: Bytes,
}

/// Remembers requests and answers each 200 `{}`; `/healthz` is answered and not remembered.
pub(crate) struct Fake {
    pub(crate) address: SocketAddr,
    seen: Arc<Mutex<Vec<Seen>>>,
    task: JoinHandle<()>,
}

impl Fake {
    pub(crate) async fn start() -> Self {
        Self::answering("127.0.0.1:0", |_| "{}".into_response()).await
    }

    pub(crate) async fn answering(
        address: &str,
        answer: impl Fn(&Seen) -> Response + Clone + Send + Sync + 'static,
    ) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let seen = Arc::new(Mutex::new(Vec::new()));
        let remember = Arc::clone(&seen);
        let router = Router::new().fallback(async move |request: Request| {
            let (parts, body) = request.into_parts();
            let body = body.collect().await.unwrap().to_bytes();
            let (method, uri, headers) = (parts.method, parts.uri, parts.headers);
            let request = Seen {
                method,
                uri,
                headers,
                body,
            };
            let response = answer(&request);
            if request.uri.path() != "/healthz" {
                remember.lock().unwrap().push(request);
            }
            response
        });
        let task = tokio::spawn(async move { axum::serve(listener, router).await.unwrap() });
        Self {
            address,
            seen,
            task,
        }
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.address)
    }

    pub(crate) fn take_seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    /// How many requests came.
    pub(crate) fn seen(&self) -> usize {
        self.seen.lock().unwrap().len()
    }

    pub(crate) fn take_one(&self) -> Seen {
        let mut seen = self.take_seen();
        assert_eq!(seen.len(), 1);
        seen.remove(0)
    }
}

impl Drop for Fake {
    fn drop(&mut self) {
        self.task.abort();
    }
}

/// An address where nothing listens.
pub(crate) async fn nobody() -> String {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    format!("http://{}", listener.local_addr().unwrap())
}

/// Every service at the same addresses.
pub(crate) fn all_at(urls: &[&str]) -> Config {
    let urls = List::of(urls);
    Config {
        stripe_ingester_url: urls.clone(),
        status_poller_url: urls.clone(),
        event_store_url: urls.clone(),
        delivery_url: urls.clone(),
        summarizer_url: urls.clone(),
        mock_pagerduty_url: urls,
        signalpost_internal_key: InternalKey::parse(INTERNAL_KEY).unwrap(),
        ..Config::default()
    }
}

/// The routes alone: no socket, and nobody watches the replicas.
pub(crate) fn router(config: Config) -> Router {
    App::build(config, Clock::system()).unwrap().router()
}

/// What stands in for Stripe's signature where only its shape counts.
pub(crate) fn signature() -> String {
    let now = Clock::system().now().as_second();
    signature::stripe::sign("secret", now, b"")
}

pub(crate) async fn ask(router: &Router, request: http::request::Builder, body: Body) -> Response {
    let mut request = request.header("host", "localhost").body(body).unwrap();
    if request.uri().path() == "/ingest/stripe" {
        let headers = request.headers_mut();
        headers
            .entry("stripe-signature")
            .or_insert_with(|| signature().parse().unwrap());
    }
    router.clone().oneshot(request).await.unwrap()
}

pub(crate) async fn get(router: &Router, path: &str) -> Response {
    ask(router, Request::get(path), Body::empty()).await
}

pub(crate) async fn text(response: Response) -> String {
    let bytes = response.into_body().collect().await.unwrap().to_bytes();
    String::from_utf8(bytes.to_vec()).unwrap()
}

pub(crate) async fn json(response: Response) -> serde_json::Value {
    serde_json::from_str(&text(response).await).unwrap()
}

/// Asserts that the answer is a whole problem with this status and code.
pub(crate) async fn assert_problem(response: Response, status: u16, code: &str) {
    assert_eq!(response.status(), StatusCode::from_u16(status).unwrap());
    assert_eq!(
        response.headers()["content-type"],
        "application/problem+json"
    );
    let correlation_id = response.headers()["x-correlation-id"].clone();
    let problem = json(response).await;
    assert_eq!(problem["code"], code);
    assert_eq!(problem["status"], status);
    assert_eq!(problem["correlation_id"], correlation_id.to_str().unwrap());
}

/// A gateway that listens, until dropped.
pub(crate) struct Running {
    pub(crate) address: SocketAddr,
    _stops: DropGuard,
}

impl Running {
    pub(crate) async fn start(config: Config) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let app = App::build(config, Clock::system()).unwrap();
        tokio::spawn(app.run(listener, shutdown.clone()));
        Self {
            address,
            _stops: shutdown.drop_guard(),
        }
    }

    pub(crate) fn url(&self, path: &str) -> String {
        format!("http://{}{path}", self.address)
    }
}

/// What all tests of this process log: a subscriber of one thread is not asked about what another thread logged first.
#[derive(Clone, Default)]
pub(crate) struct Lines(Arc<Mutex<Vec<u8>>>);

impl Lines {
    pub(crate) fn collected() -> &'static Self {
        static LINES: LazyLock<Lines> = LazyLock::new(|| {
            let lines = Lines::default();
            let writer = lines.clone();
            let subscriber = tracing_subscriber::fmt().with_ansi(false);
            subscriber.with_writer(move || writer.clone()).init();
            tracing::callsite::rebuild_interest_cache();
            lines
        });
        &LINES
    }

    pub(crate) fn text(&self) -> String {
        String::from_utf8(self.0.lock().unwrap().clone()).unwrap()
    }
}

impl io::Write for Lines {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        self.0.lock().unwrap().write(bytes)
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

/// Waits until the condition holds; fails after 5 s.
pub(crate) async fn until(what: &str, mut holds: impl AsyncFnMut() -> bool) {
    let waiting = async {
        while !holds().await {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    let outcome = tokio::time::timeout(Duration::from_secs(5), waiting).await;
    assert!(outcome.is_ok(), "not within 5 s: {what}");
}
