//! What surrounds every router: correlation, problems, panics, request metrics, health and `/metrics`.

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Instant;

use axum::Router;
use axum::extract::{MatchedPath, Request, State};
use axum::middleware::{self, Next};
use axum::response::Response;
use axum::routing::get;
use futures_util::FutureExt as _;
use http::header::{self, HeaderName, HeaderValue};
use schema::{CorrelationId, names};

use crate::clock::Clock;
use crate::health::Health;
use crate::internal_key::{self, Door};
use crate::metrics::Metrics;
use crate::problem::{Code, Problem};
use crate::{health, ids, metrics};

/// Headers that stay when they are set beside a problem.
const BESIDE_A_PROBLEM: [HeaderName; 3] =
    [header::ALLOW, header::CONNECTION, header::WWW_AUTHENTICATE];

/// What each service has, whatever it does.
pub struct Base {
    pub service: &'static str,
    pub clock: Clock,
    pub metrics: Metrics,
}

impl Base {
    pub fn new(service: &'static str, clock: Clock) -> Self {
        Self {
            service,
            clock,
            metrics: Metrics::new(),
        }
    }

    /// The router of a service that only our own services ask: with `/healthz`, `/readyz`, `/metrics`, problems for 404
    /// and 405, behind the door, and the layer around all of it.
    pub fn wrap(self: &Arc<Self>, router: Router, health: Health, door: Door) -> Router {
        let guarded = self
            .complete(router, health)
            .layer(middleware::from_fn_with_state(
                Arc::new(door),
                internal_key::guard,
            ));
        self.surround(guarded)
    }

    /// The first half of [`wrap`](Self::wrap), for a service that puts layers of its own around every path.
    pub fn complete(self: &Arc<Self>, router: Router, health: Health) -> Router {
        router
            .route(names::HEALTHZ, get(health::healthz))
            .merge(
                Router::new()
                    .route(names::READYZ, get(health::readyz))
                    .with_state(Arc::new(health)),
            )
            .merge(
                Router::new()
                    .route(names::METRICS, get(metrics::metrics))
                    .with_state(Arc::clone(self)),
            )
            .fallback(async || Code::NotFound.because("no such path"))
            .method_not_allowed_fallback(async || {
                Code::MethodNotAllowed.because("see /openapi.json")
            })
    }

    /// The second half of [`wrap`](Self::wrap).
    pub fn surround(self: &Arc<Self>, router: Router) -> Router {
        router.layer(middleware::from_fn_with_state(Arc::clone(self), surround))
    }
}

async fn surround(State(base): State<Arc<Base>>, mut request: Request, next: Next) -> Response {
    let started = Instant::now();
    let correlation_id = request
        .headers()
        .get(names::CORRELATION_ID)
        .and_then(|value| CorrelationId::parse(value.to_str().ok()?))
        .unwrap_or_else(|| ids::correlation_id(base.clock.now()));
    let route = request.extensions().get::<MatchedPath>().cloned();
    let method = request.method().clone();
    request.extensions_mut().insert(correlation_id.clone());

    let mut response = match AssertUnwindSafe(next.run(request)).catch_unwind().await {
        Ok(response) => response,
        Err(_) => {
            tracing::error!(%correlation_id, "a handler panicked");
            axum::response::IntoResponse::into_response(
                Code::Internal.because("the request was not carried out"),
            )
        }
    };
    let route = route.as_ref().map_or("unmatched", MatchedPath::as_str);
    if let Some(problem) = response.extensions_mut().remove::<Problem>() {
        let status = problem.code.status();
        // A refusal is the caller's affair; a failure of ours is logged here, once.
        if status.is_server_error() {
            tracing::warn!(%correlation_id, method = method.as_str(), route, status = status.as_u16(), code = problem.code.as_str(), detail = problem.detail, "request failed");
        } else {
            tracing::info!(%correlation_id, method = method.as_str(), route, status = status.as_u16(), code = problem.code.as_str(), detail = problem.detail, "request refused");
        }
        let mut rendered = problem.render(&correlation_id);
        for name in BESIDE_A_PROBLEM {
            if let Some(value) = response.headers_mut().remove(&name) {
                rendered.headers_mut().insert(name, value);
            }
        }
        response = rendered;
    }
    if let Ok(value) = HeaderValue::from_str(correlation_id.as_str()) {
        response.headers_mut().insert(names::CORRELATION_ID, value);
    }
    base.metrics
        .observe_request(&method, route, response.status(), started.elapsed());
    response
}

#[cfg(test)]
mod tests {
    use axum::body::Body;
    use http::StatusCode;
    use http_body_util::BodyExt as _;
    use serde_json::Value;
    use tower::ServiceExt as _;

    use super::*;
    use crate::health::Finding;
    use crate::internal_key::InternalKey;

    const KEY: &str = "key-of-the-tests-0123456789";

    fn router(health: Health) -> Router {
        async fn fails() {
            panic!("a secret");
        }
        let base = Arc::new(Base::new("example", Clock::system()));
        let door = Door::locked(InternalKey::parse(KEY).unwrap()).open_at(&["/open"]);
        let routes = Router::new()
            .route("/fails", get(fails))
            .route("/open", get(async || "open"));
        base.wrap(routes, health, door)
    }

    async fn ask(
        router: Router,
        path: &str,
        correlation_id: &str,
    ) -> (StatusCode, http::HeaderMap, Value) {
        ask_with(router, path, correlation_id, Some(KEY)).await
    }

    async fn ask_with(
        router: Router,
        path: &str,
        correlation_id: &str,
        key: Option<&str>,
    ) -> (StatusCode, http::HeaderMap, Value) {
        let mut request = Request::get(path).header(names::CORRELATION_ID, correlation_id);
        if let Some(key) = key {
            request = request.header(names::INTERNAL_KEY, key);
        }
        let request = request.body(Body::empty()).unwrap();
        let response = router.oneshot(request).await.unwrap();
        let (parts, body) = response.into_parts();
        let bytes = body.collect().await.unwrap().to_bytes();
        (
            parts.status,
            parts.headers,
            serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        )
    }

    #[tokio::test]
    async fn a_problem_carries_its_code_and_the_callers_correlation_id() {
        let (status, headers, body) = ask(router(Health::new()), "/nowhere", "abc-1").await;

        assert_eq!(status, StatusCode::NOT_FOUND);
        assert_eq!(headers["content-type"], "application/problem+json");
        assert_eq!(headers["x-correlation-id"], "abc-1");
        assert_eq!(body["code"], "not_found");
        assert_eq!(body["correlation_id"], "abc-1");
    }

    #[tokio::test]
    async fn without_the_key_only_what_was_opened_is_answered() {
        for (path, open) in [
            ("/healthz", true),
            ("/open", true),
            ("/readyz", false),
            ("/metrics", false),
            ("/fails", false),
            ("/nowhere", false),
            ("/open/", false),
            ("//healthz", false),
        ] {
            for key in [None, Some("another-key-0123456789")] {
                let (status, _, body) = ask_with(router(Health::new()), path, "a", key).await;
                let unauthorized = status == StatusCode::UNAUTHORIZED;
                assert_eq!(unauthorized, !open, "{path} {key:?}");
                assert_eq!(unauthorized, body["code"] == "unauthorized", "{path}");
            }
        }
    }

    #[tokio::test]
    async fn an_unsafe_correlation_id_is_replaced_and_never_reflected() {
        let (_, headers, _) = ask(router(Health::new()), "/healthz", "a b").await;

        let minted = headers["x-correlation-id"].to_str().unwrap();
        assert!(minted != "a b" && CorrelationId::parse(minted).is_some());
    }

    #[tokio::test]
    async fn a_panic_is_a_problem_that_tells_nothing() {
        let (status, _, body) = ask(router(Health::new()), "/fails", "abc").await;

        assert_eq!(status, StatusCode::INTERNAL_SERVER_ERROR);
        assert_eq!(body["code"], "internal");
        assert!(!body.to_string().contains("secret"));
    }

    #[tokio::test(start_paused = true)]
    async fn readyz_is_unready_only_for_a_needed_dependency_and_waits_for_none() {
        let told = Health::new()
            .tells("optional", async || Finding::down("gone"))
            .needs("store", async || Finding::up());
        let (status, _, body) = ask(router(told), "/readyz", "a").await;
        assert_eq!(
            (status, &body["ready"]),
            (StatusCode::OK, &Value::Bool(true))
        );
        assert_eq!(body["dependencies"]["optional"]["reason"], "gone");

        assert_eq!(body["status"], "degraded");

        let hangs = Health::new().needs("store", std::future::pending);
        let (status, _, body) = ask(router(hangs), "/readyz", "a").await;
        assert_eq!(status, StatusCode::SERVICE_UNAVAILABLE);
        assert_eq!(body["dependencies"]["store"]["status"], "down");
        assert_eq!(body["status"], "down");

        let (_, _, body) = ask(router(Health::new()), "/readyz", "a").await;
        assert_eq!(body["status"], "up");
    }
}
