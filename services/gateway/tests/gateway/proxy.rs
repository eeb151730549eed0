use std::collections::BTreeSet;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::IntoResponse as _;
use gateway::http::proxy::Proxy;
use gateway::http::{ROUTES, Route};
use gateway::upstreams::Upstreams;
use http::{HeaderValue, StatusCode};
use schema::CorrelationId;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpListener;

use crate::support::{
    Fake, INTERNAL_KEY, all_at, ask, assert_problem, get, nobody, router, signature, text,
};

#[tokio::test]
async fn a_request_arrives_as_it_was_made_and_without_what_is_not_the_services_business() {
    let fake = Fake::start().await;
    let router = router(all_at(&[&fake.url()]));

    let request = Request::post("/ingest/stripe?a=%20b&c='")
        .header("content-type", "application/json; charset=utf-8")
        .header("stripe-signature", signature())
        .header("idempotency-key", "k 1")
        .header("accept", "application/json")
        .header("x-correlation-id", "mine-1")
        .header("x-signalpost-client", "acme")
        .header("X-Signalpost-Anything", "1")
        .header("X-Signalpost-Key", "of the caller")
        .header("connection", "close, x-hop")
        .header("x-hop", "1")
        .header("keep-alive", "timeout=5")
        .header("te", "trailers")
        .header("upgrade", "h2c")
        .header("authorization", "Bearer secret")
        .header("cookie", "a=b")
        .header("x-forwarded-for", "192.0.2.1")
        .header("forwarded", "for=192.0.2.1")
        .header("expect", "100-continue");
    let response = ask(&router, request, Body::from("{\"a\": 1}\n")).await;

    assert_eq!(response.status(), StatusCode::OK);
    let seen = fake.take_one();
    assert_eq!(seen.method, "POST");
    assert_eq!(seen.uri.path(), "/ingest/stripe");
    assert_eq!(&seen.body[..], b"{\"a\": 1}\n");
    assert_eq!(
        seen.headers["content-type"],
        "application/json; charset=utf-8"
    );
    let shown = seen.headers["stripe-signature"].to_str().unwrap();
    assert!(shown.starts_with("t=") && shown.contains(",v1="), "{shown}");
    assert_eq!(seen.headers["idempotency-key"], "k 1");
    assert_eq!(seen.headers["x-correlation-id"], "mine-1");
    let names: BTreeSet<_> = seen.headers.keys().map(|name| name.as_str()).collect();
    assert_eq!(
        names,
        BTreeSet::from([
            "accept",
            "content-length",
            "content-type",
            "host",
            "idempotency-key",
            "stripe-signature",
            "x-correlation-id",
            "x-signalpost-key",
        ])
    );
    assert_eq!(seen.headers["x-signalpost-key"], INTERNAL_KEY);
}

#[tokio::test]
async fn an_answer_comes_back_with_its_safe_headers_alone() {
    let fake = Fake::answering("127.0.0.1:0", |_| {
        (
            StatusCode::CREATED,
            [
                ("content-type", "text/x-odd"),
                ("location", "/webhooks/endpoints/ep_1"),
                ("retry-after", "7"),
                ("x-correlation-id", "theirs"),
                ("set-cookie", "a=b"),
                ("server", "fake"),
                ("x-signalpost-lane", "3"),
                ("x-signalpost-key", INTERNAL_KEY),
            ],
            "bytes as they came",
        )
            .into_response()
    })
    .await;
    let router = router(all_at(&[&fake.url()]));

    let request =
        Request::post("/webhooks/clients/acme/endpoints").header("x-correlation-id", "mine");
    let response = ask(&router, request, Body::from("{}")).await;

    assert_eq!(response.status(), StatusCode::CREATED);
    let headers = response.headers().clone();
    assert_eq!(headers["content-type"], "text/x-odd");
    assert_eq!(headers["location"], "/webhooks/endpoints/ep_1");
    assert_eq!(headers["retry-after"], "7");
    assert_eq!(headers["x-correlation-id"], "mine");
    for dropped in [
        "set-cookie",
        "server",
        "x-signalpost-lane",
        "x-signalpost-key",
    ] {
        assert!(!headers.contains_key(dropped), "{dropped}");
    }
    assert_eq!(text(response).await, "bytes as they came");
}

#[tokio::test]
async fn a_service_that_refuses_the_internal_key_is_no_affair_of_the_callers() {
    let refusing = Fake::answering("127.0.0.1:0", |seen| {
        // A vendor's own 401 says nothing of the key.
        let scheme = match seen.uri.path() {
            "/destinations/pagerduty" => "Bearer",
            _ => "Signalpost-Key",
        };
        (StatusCode::UNAUTHORIZED, [("www-authenticate", scheme)]).into_response()
    })
    .await;
    let router = router(all_at(&[&refusing.url()]));

    let refused = get(&router, "/events").await;
    let of_the_vendor = get(&router, "/destinations/pagerduty").await;

    assert_problem(refused, 502, "upstream_failed").await;
    assert_eq!(of_the_vendor.status(), StatusCode::UNAUTHORIZED);
}

#[tokio::test]
async fn a_correlation_id_is_minted_where_none_that_is_safe_came() {
    let fake = Fake::start().await;
    let router = router(all_at(&[&fake.url()]));

    for given in [None, Some(""), Some("a b"), Some("a/b"), Some("{\"a\":1}")] {
        let mut request = Request::get("/events");
        if let Some(given) = given {
            request = request.header("x-correlation-id", given);
        }
        let response = ask(&router, request, Body::empty()).await;

        let told = response.headers()["x-correlation-id"].clone();
        assert!(CorrelationId::parse(told.to_str().unwrap()).is_some());
        assert_ne!(told.to_str().ok(), given);
        assert_eq!(fake.take_one().headers["x-correlation-id"], told);
    }
}

#[tokio::test]
async fn what_is_internal_cannot_be_reached() {
    let fake = Fake::start().await;
    let router = router(all_at(&[&fake.url()]));

    for path in [
        "/",
        "/feed",
        "/feed?after=x",
        "/internal/events",
        "/internal/outcomes",
        "/events/a/b",
        "/events/",
        "/Events",
        "//events",
        "/webhooks",
        "/webhooks/",
        "/webhooks/x",
        "/webhooks/clients/",
        "/webhooks/clients/acme/x",
        "/webhooks/endpoints",
        "/webhooks/endpoints/ep_1/secret",
        "/webhooks/deliveries/dlv_1/",
        "/webhooks/jobs",
        "/webhooks/../internal/outcomes",
        "/webhooks/%2e%2e/internal/outcomes",
        "/metrics/nobody",
        "/metrics/../feed",
        "/ingest/stripe/",
        "/ingest",
    ] {
        assert_problem(get(&router, path).await, 404, "not_found").await;
    }
    assert!(fake.take_seen().is_empty());
}

#[tokio::test]
async fn a_path_that_would_become_another_one_is_refused() {
    let fake = Fake::start().await;
    let router = router(all_at(&[&fake.url()]));

    for path in [
        "/webhooks/deliveries/..",
        "/webhooks/deliveries/.%2E",
        "/webhooks/deliveries/..\\..\\internal\\outcomes",
        "/webhooks/events/.",
        "/webhooks/clients/%2e%2e/endpoints",
        "/events/..",
        "/events/%2e%2e",
    ] {
        assert_problem(get(&router, path).await, 400, "invalid_request").await;
    }
    assert!(fake.take_seen().is_empty());
}

#[tokio::test]
async fn an_escaped_slash_stays_escaped() {
    let fake = Fake::start().await;
    let router = router(all_at(&[&fake.url()]));

    let response = get(&router, "/events/braze_status:incident:a%2Fb%20c").await;

    assert_eq!(response.status(), StatusCode::OK);
    assert_eq!(
        fake.take_one().uri.path(),
        "/events/braze_status:incident:a%2Fb%20c"
    );
}

#[tokio::test]
async fn a_wrong_method_is_told_which_are_right() {
    let fake = Fake::start().await;
    let router = router(all_at(&[&fake.url()]));

    for (method, path, allowed) in [
        ("GET", "/ingest/stripe", "POST"),
        ("DELETE", "/events", "GET,HEAD"),
        ("POST", "/events/evt_1", "GET,HEAD"),
        ("PUT", "/destinations/pagerduty", "GET,HEAD,POST,DELETE"),
        ("OPTIONS", "/webhooks/deliveries", "GET,HEAD"),
        ("GET", "/webhooks/events/batch", "POST"),
        ("PUT", "/webhooks/events", "GET,HEAD,POST"),
        ("GET", "/webhooks/clients/acme", "DELETE"),
        ("PUT", "/webhooks/endpoints/ep_1", "GET,HEAD,PATCH,DELETE"),
        ("GET", "/webhooks/deliveries/dlv_1/retry", "POST"),
        ("POST", "/webhooks/jobs/job_1", "GET,HEAD,DELETE"),
        ("POST", "/healthz", "GET,HEAD"),
        ("TRACE", "/ai/summarize", "POST"),
    ] {
        let request = Request::builder().method(method).uri(path);
        let response = ask(&router, request, Body::empty()).await;

        let told = response.headers()["allow"].to_str().unwrap().to_owned();
        let set = |list: &str| list.split(',').map(str::trim).map(str::to_owned).collect();
        let (told, allowed): (BTreeSet<String>, _) = (set(&told), set(allowed));
        assert_eq!(told, allowed, "{method} {path}");
        assert_problem(response, 405, "method_not_allowed").await;
    }
    assert!(fake.take_seen().is_empty());
}

#[tokio::test]
async fn a_command_to_delivery_needs_no_body_and_keeps_one_that_it_has() {
    let fake = Fake::start().await;
    let router = router(all_at(&[&fake.url()]));

    for (method, path, body) in [
        ("POST", "/webhooks/endpoints/ep_1/enable", ""),
        ("POST", "/webhooks/endpoints/ep_1/disable", ""),
        ("POST", "/webhooks/endpoints/ep_1/test", ""),
        ("POST", "/webhooks/endpoints/ep_1/secret/rotate", ""),
        (
            "POST",
            "/webhooks/endpoints/ep_1/secret/rotate",
            r#"{"overlap_s":0}"#,
        ),
        ("POST", "/webhooks/deliveries/dlv_1/retry", ""),
        ("POST", "/webhooks/deliveries/dlv_1/cancel", ""),
        ("DELETE", "/webhooks/endpoints/ep_1", ""),
        ("DELETE", "/webhooks/clients/acme", ""),
        ("DELETE", "/webhooks/jobs/job_1", ""),
        (
            "PATCH",
            "/webhooks/endpoints/ep_1",
            r#"{ "disabled": true }"#,
        ),
        ("POST", "/webhooks/events", r#"{"payload": 1.0}"#),
        ("POST", "/webhooks/events/batch", r#"{"events": []}"#),
    ] {
        let request = Request::builder()
            .method(method)
            .uri(path)
            .header("idempotency-key", "k-1");
        let response = ask(&router, request, Body::from(body)).await;

        assert_eq!(response.status(), StatusCode::OK, "{method} {path}");
        let seen = fake.take_one();
        assert_eq!((seen.method.as_str(), seen.uri.path()), (method, path));
        assert_eq!(seen.body, body, "{method} {path}");
        assert_eq!(seen.headers["idempotency-key"], "k-1");
    }
}

#[tokio::test]
async fn a_request_that_was_never_sent_goes_to_another_replica() {
    let fake = Fake::start().await;

    for _ in 0..8 {
        // A gateway that has not yet found out who is dead.
        let router = router(all_at(&[&nobody().await, &fake.url(), &nobody().await]));
        let response = ask(&router, Request::post("/ingest/stripe"), Body::from("{}")).await;
        assert_eq!(response.status(), StatusCode::OK);
    }

    assert_eq!(fake.take_seen().len(), 8);
}

#[tokio::test]
async fn a_request_that_was_sent_is_never_repeated() {
    let fake = Fake::start().await;
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let breaking_url = format!("http://{}", listener.local_addr().unwrap());
    let taken = Arc::new(AtomicUsize::new(0));
    let counted = Arc::clone(&taken);
    tokio::spawn(async move {
        loop {
            let (mut stream, _) = listener.accept().await.unwrap();
            let mut head = [0; 4096];
            if stream.read(&mut head).await.unwrap() > 0 {
                counted.fetch_add(1, Ordering::SeqCst);
            }
        }
    });
    let router = router(all_at(&[&breaking_url, &fake.url()]));

    let mut broken = 0;
    for _ in 0..20 {
        let request = Request::post("/ingest/stripe");
        let response = ask(&router, request, Body::from("{}")).await;
        if response.status() != StatusCode::OK {
            broken += 1;
            assert_problem(response, 502, "upstream_failed").await;
        }
    }

    assert!(broken > 0);
    assert_eq!(taken.load(Ordering::SeqCst), broken);
    assert_eq!(fake.take_seen().len(), 20 - broken);
}

#[tokio::test]
async fn without_a_living_replica_it_says_when_to_come_again() {
    let router = router(all_at(&[&nobody().await, &nobody().await]));

    let response = get(&router, "/events").await;

    assert_eq!(response.headers()["retry-after"], "2");
    assert_problem(response, 503, "unavailable").await;
}

#[tokio::test]
async fn a_service_that_takes_too_long_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let silent_url = format!("http://{}", listener.local_addr().unwrap());
    let upstreams = Upstreams::new(&all_at(&[&silent_url]));
    let key = HeaderValue::from_static(INTERNAL_KEY);
    let proxy = Proxy::new(Arc::new(upstreams), key);
    let route = Route {
        timeout: Duration::from_millis(100),
        ..ROUTES[0]
    };
    let request = Request::post("/ingest/stripe")
        .extension(CorrelationId::parse("c").unwrap())
        .body(Body::from("{}"))
        .unwrap();

    let problem = proxy.pass_on(&route, request).await.unwrap_err();

    assert_eq!(problem.code.as_str(), "upstream_timeout");
}

#[tokio::test]
async fn an_answer_that_stops_halfway_is_not_waited_for() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let stopping = tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 4096];
        let _read = stream.read(&mut head).await.unwrap();
        let half = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
        stream.write_all(half).await.unwrap();
        std::future::pending::<()>().await;
    });
    let key = HeaderValue::from_static(INTERNAL_KEY);
    let proxy = Proxy::new(Arc::new(Upstreams::new(&all_at(&[&url]))), key);
    let route = Route {
        timeout: Duration::from_millis(200),
        ..ROUTES[0]
    };
    let request = Request::post("/ingest/stripe")
        .extension(CorrelationId::parse("c").unwrap())
        .body(Body::from("{}"))
        .unwrap();

    let response = proxy.pass_on(&route, request).await.unwrap();

    let reading = axum::body::to_bytes(response.into_body(), 1024);
    let read = tokio::time::timeout(Duration::from_secs(5), reading).await;
    assert!(read.expect("the deadline ends it").is_err());
    stopping.abort();
}

#[tokio::test]
async fn an_answer_that_breaks_off_is_not_told_as_whole() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    tokio::spawn(async move {
        let (mut stream, _) = listener.accept().await.unwrap();
        let mut head = [0; 4096];
        let _read = stream.read(&mut head).await.unwrap();
        let half = b"HTTP/1.1 200 OK\r\ncontent-length: 10\r\n\r\nhalf";
        stream.write_all(half).await.unwrap();
    });
    let router = router(all_at(&[&url]));

    let response = get(&router, "/events").await;

    let body = axum::body::to_bytes(response.into_body(), 1024).await;
    assert!(body.is_err());
}

#[tokio::test]
async fn each_services_metrics_are_its_own() {
    let fake = Fake::start().await;
    let router = router(all_at(&[&fake.url()]));

    let other = get(&router, "/metrics/event-store").await;
    let own = get(&router, "/metrics").await;

    assert_eq!(other.status(), StatusCode::OK);
    assert_eq!(fake.take_one().uri.path(), "/metrics");
    assert!(text(own).await.contains("http_requests_total{"));
}
