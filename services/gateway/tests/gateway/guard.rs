use std::net::SocketAddr;

use axum::body::Body;
use axum::extract::Request;
use gateway::config::Config;
use http::StatusCode;
use runtime::config::{List, Secrets};
use runtime::server::Caller;
use tokio::net::TcpListener;
use tower::ServiceExt as _;

use crate::support::{Fake, Lines, all_at, ask, assert_problem, get, router, signature, text};

#[tokio::test]
async fn with_keys_only_stripe_probes_and_the_documents_come_in_without_one() {
    let fake = Fake::start().await;
    let router = router(Config {
        gateway_api_keys: Secrets::of(&["all", "one:acme", "reads:@read", "scrapes:@metrics"]),
        ..all_at(&[&fake.url()])
    });

    for (method, path, key, status) in [
        ("POST", "/ingest/stripe", "", 200),
        ("GET", "/healthz", "", 200),
        ("GET", "/readyz", "", 200),
        ("GET", "/readyz/", "", 401),
        ("GET", "/metrics", "", 401),
        ("GET", "/openapi.json", "", 200),
        ("GET", "/openapi.json", "Bearer wrong", 200),
        ("GET", "/docs", "", 308),
        ("GET", "/docs/", "", 200),
        ("GET", "/docs/swagger-ui.css", "", 200),
        ("GET", "/docsx", "", 401),
        ("GET", "/nowhere", "", 401),
        ("GET", "/healthz/", "", 401),
        ("POST", "/ingest/pull-status", "", 401),
        ("GET", "/events", "", 401),
        ("GET", "/events", "Bearer wrong", 401),
        ("GET", "/events", "Bearer all,one", 401),
        ("GET", "/events", "Basic all", 401),
        ("GET", "/events", "Bearer all", 200),
        ("GET", "/events", "bearer all", 200),
        ("GET", "/webhooks/deliveries", "Bearer one", 200),
        ("GET", "/healthz", "Bearer one", 200),
        ("GET", "/events", "Bearer one", 404),
        ("GET", "/readyz", "Bearer one", 200),
        ("GET", "/metrics", "Bearer one", 404),
        ("GET", "/metrics/delivery", "Bearer one", 404),
        ("GET", "/openapi.json", "Bearer one", 200),
        ("POST", "/ingest/stripe", "Bearer one", 200),
        ("GET", "/metrics", "Bearer scrapes", 200),
        ("GET", "/metrics/delivery", "Bearer scrapes", 200),
        ("GET", "/events", "Bearer scrapes", 403),
        ("GET", "/metrics", "Bearer reads", 200),
        ("GET", "/webhooks/deliveries", "Bearer reads", 200),
        ("POST", "/webhooks/events", "Bearer reads", 403),
        ("DELETE", "/destinations/pagerduty", "Bearer reads", 403),
        ("POST", "/ai/summarize", "Bearer one", 404),
        ("GET", "/webhooks", "Bearer one", 404),
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
        } else if status == 404 {
            assert_problem(response, 404, "not_found").await;
        } else if status == 403 {
            assert_problem(response, 403, "forbidden").await;
        }
    }
}

#[tokio::test]
async fn readyz_is_told_in_full_to_who_may_see_how_every_service_does_alone() {
    let fake = Fake::start().await;
    let keys = ["all", "one:acme", "reads:@read", "scrapes:@metrics"];
    let keyed = router(Config {
        gateway_api_keys: Secrets::of(&keys),
        ..all_at(&[&fake.url()])
    });
    let open = router(all_at(&[&fake.url()]));

    for (router, host, key, whole) in [
        (&keyed, "localhost", "", false),
        (&keyed, "localhost", "wrong", false),
        (&keyed, "localhost", "one", false),
        (&keyed, "localhost", "scrapes", false),
        (&keyed, "localhost", "reads", true),
        (&keyed, "evil.example", "all", true),
        (&open, "localhost:3000", "", true),
        (&open, "10.1.2.3:3000", "", false),
    ] {
        let request = Request::get("/readyz").header("host", host);
        let request = request.header("authorization", format!("Bearer {key}"));
        let request = request.body(Body::empty()).unwrap();
        let told = text(router.clone().oneshot(request).await.unwrap()).await;

        if whole {
            let told: serde_json::Value = serde_json::from_str(&told).unwrap();
            assert_eq!(told["dependencies"].as_object().unwrap().len(), 6, "{key}");
            assert_eq!(told["status"], "up");
        } else {
            assert_eq!(told, r#"{"ready":true,"status":"up"}"#, "{host} {key}");
        }
    }
}

#[tokio::test]
async fn delivery_is_told_the_client_of_a_bound_key_and_of_no_other() {
    let fake = Fake::start().await;
    let router = router(Config {
        gateway_api_keys: Secrets::of(&["all", "one:acme"]),
        ..all_at(&[&fake.url()])
    });

    for (key, told) in [("one", Some("acme")), ("all", None)] {
        let request = Request::get("/webhooks/deliveries")
            .header("authorization", format!("Bearer {key}"))
            .header("x-signalpost-client", "other");
        let response = ask(&router, request, Body::empty()).await;

        assert_eq!(response.status(), StatusCode::OK);
        let seen = fake.take_one();
        let client = seen.headers.get("x-signalpost-client");
        assert_eq!(client.map(|client| client.to_str().unwrap()), told);
    }
}

#[tokio::test]
async fn an_open_gateway_answers_no_page_of_another_site_and_one_with_keys_needs_no_such_check() {
    let fake = Fake::start().await;
    let open = Config {
        gateway_allowed_hosts: List::of(&["gateway"]),
        ..all_at(&[&fake.url()])
    };
    let keyed = Config {
        gateway_api_keys: Secrets::of(&["all"]),
        ..all_at(&[&fake.url()])
    };
    let elsewhere = ("origin", "http://evil.example");
    let table = [
        ("GET", "/events", "evil.example", ("accept", "*/*"), 403),
        ("GET", "/docs/", "evil.example", ("accept", "*/*"), 403),
        ("GET", "/nowhere", "evil.example", ("accept", "*/*"), 403),
        ("GET", "/events", "gateway:3000", ("accept", "*/*"), 200),
        ("GET", "/healthz", "evil.example", ("accept", "*/*"), 200),
        ("POST", "/ingest/stripe", "evil.example", elsewhere, 200),
        ("GET", "/events", "localhost:3000", elsewhere, 200),
        (
            "POST",
            "/webhooks/endpoints/ep_1/disable",
            "localhost:3000",
            elsewhere,
            403,
        ),
        (
            "DELETE",
            "/webhooks/endpoints/ep_1",
            "localhost",
            ("sec-fetch-site", "cross-site"),
            403,
        ),
    ];

    for (config, is_open) in [(open, true), (keyed, false)] {
        let router = router(config);
        for (method, path, host, (name, value), expected) in table {
            let request = Request::builder().method(method).uri(path);
            let request = request.header("authorization", "Bearer all");
            let request = request.header("stripe-signature", signature());
            let request = request.header("host", host).header(name, value);
            let request = request.body(Body::empty()).unwrap();
            let status = router.clone().oneshot(request).await.unwrap().status();

            let refused = status == StatusCode::FORBIDDEN;
            assert_eq!(
                refused,
                is_open && expected == 403,
                "{method} {path} {host}: {status}"
            );
        }
        let passed_on = if is_open { 3 } else { 6 };
        assert_eq!(fake.take_seen().len(), passed_on);
    }
}

#[tokio::test]
async fn a_caller_who_leaves_before_the_answer_has_a_line_too() {
    let lines = Lines::collected();
    let silent = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let router = router(all_at(&[&format!(
        "http://{}",
        silent.local_addr().unwrap()
    )]));

    let request = Request::get("/events").header("x-correlation-id", "left-early");
    let leaving = ask(&router, request, Body::empty());
    tokio::select! {
        _ = leaving => unreachable!("nobody answers"),
        accepted = silent.accept() => drop(accepted.unwrap()),
    }

    let told = lines.text();
    let line = told.lines().find(|line| line.contains("left-early"));
    let line = line.unwrap_or_else(|| panic!("no line in {told}"));
    assert!(
        line.contains("request cancelled") && line.contains("499"),
        "{line}"
    );
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
        let peer: SocketAddr = peer.parse().unwrap();
        let request = Request::get("/events").extension(Caller(peer.ip()));
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

    assert_eq!(text(response).await, r#"{"ok":true}"#);
}
