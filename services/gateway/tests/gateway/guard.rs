use axum::body::Body;
use axum::extract::Request;
use gateway::config::Config;
use http::StatusCode;
use runtime::config::Secrets;
use runtime::server::Peer;

use crate::support::{Fake, all_at, ask, assert_problem, get, router};

#[tokio::test]
async fn with_keys_only_stripe_and_the_healthcheck_come_in_without_one() {
    let fake = Fake::start().await;
    let router = router(Config {
        gateway_api_keys: Secrets::of(&["all", "one:acme"]),
        ..all_at(&[&fake.url()])
    });

    for (method, path, key, status) in [
        ("POST", "/ingest/stripe", "", 200),
        ("GET", "/healthz", "", 200),
        ("GET", "/readyz", "", 401),
        ("GET", "/metrics", "", 401),
        ("GET", "/openapi.json", "", 401),
        ("GET", "/docs/", "", 401),
        ("GET", "/nowhere", "", 401),
        ("GET", "/healthz/", "", 401),
        ("POST", "/ingest/pull-status", "", 401),
        ("GET", "/events", "", 401),
        ("GET", "/events", "Bearer wrong", 401),
        ("GET", "/events", "Bearer all,one", 401),
        ("GET", "/events", "Basic all", 401),
        ("GET", "/events", "Bearer all", 200),
        ("GET", "/events", "bearer one", 200),
        ("GET", "/readyz", "Bearer all", 200),
        ("GET", "/nowhere", "Bearer all", 404),
    ] {
        let mut request = Request::builder().method(method).uri(path);
        if !key.is_empty() {
            request = request.header("authorization", key);
        }
        let response = ask(&router, request, Body::empty()).await;

        assert_eq!(response.status().as_u16(), status, "{method} {path} {key}");
        if status == 401 {
            assert_eq!(response.headers()["www-authenticate"], "Bearer");
            assert_problem(response, 401, "unauthorized").await;
        }
    }
}

#[tokio::test]
async fn a_caller_over_its_share_is_told_to_wait_and_others_are_not() {
    let fake = Fake::start().await;
    let router = router(Config {
        gateway_api_keys: Secrets::of(&["a", "b"]),
        gateway_rate_per_s: 1,
        ..all_at(&[&fake.url()])
    });
    let events = |key: &str, peer: &str| {
        let request = Request::get("/events").extension(Peer(peer.parse().unwrap()));
        if key.is_empty() {
            request
        } else {
            request.header("authorization", format!("Bearer {key}"))
        }
    };

    let first = ask(&router, events("a", "192.0.2.1:1"), Body::empty()).await;
    let second = ask(&router, events("a", "192.0.2.2:1"), Body::empty()).await;
    let other_key = ask(&router, events("b", "192.0.2.1:1"), Body::empty()).await;
    let guess = ask(&router, events("x", "192.0.2.1:1"), Body::empty()).await;
    let next_guess = ask(&router, events("y", "192.0.2.1:2"), Body::empty()).await;

    assert_eq!(first.status(), StatusCode::OK);
    assert_eq!(second.headers()["retry-after"], "1");
    assert_problem(second, 429, "rate_limited").await;
    assert_eq!(other_key.status(), StatusCode::OK);
    assert_problem(guess, 401, "unauthorized").await;
    assert_problem(next_guess, 429, "rate_limited").await;
    for _ in 0..3 {
        assert_eq!(get(&router, "/healthz").await.status(), StatusCode::OK);
    }
    assert_eq!(fake.take_seen().len(), 2);
}

#[tokio::test]
async fn healthz_is_exactly_what_was_asked_for() {
    let router = router(all_at(&["http://127.0.0.1:1"]));

    let response = get(&router, "/healthz").await;

    assert_eq!(crate::support::text(response).await, r#"{"ok":true}"#);
}
