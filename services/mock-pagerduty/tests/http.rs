//! The fake over its router, and over a socket where the connection matters.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use axum::Router;
use axum::body::Body;
use http::{Method, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use mock_pagerduty::app::App;
use mock_pagerduty::config::Config;
use runtime::clock::Clock;
use runtime::server;
use serde_json::{Value, json};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

const PATH: &str = "/destinations/pagerduty";

fn event(event_id: &str) -> Value {
    json!({
        "event_id": event_id, "source": "stripe", "kind": "payment", "severity": "critical",
        "service": "stripe", "summary": "payout.failed: po_123", "description": null,
        "started_at": "2024-01-15T10:40:00Z", "resolved_at": null, "raw": {"b": 1, "a": [2]},
    })
}

async fn call(router: &Router, method: Method, path: &str, body: &str) -> (StatusCode, Value) {
    let request = Request::builder()
        .method(method)
        .uri(path)
        .header(header::CONTENT_TYPE, "application/json")
        .header("x-correlation-id", "test-1")
        .header("webhook-id", "evt_hook")
        .body(Body::from(body.to_owned()))
        .unwrap();
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = response.into_body().collect().await.unwrap().to_bytes();
    (status, serde_json::from_slice(&body).unwrap_or(Value::Null))
}

async fn post(router: &Router, body: &Value) -> (StatusCode, Value) {
    call(router, Method::POST, PATH, &body.to_string()).await
}

#[tokio::test]
async fn what_a_vendor_would_leave_open_needs_no_key_and_all_else_does() {
    let router = App::build(Config::default(), Clock::system()).router();

    for (method, path, status) in [
        (Method::GET, PATH, 200),
        (Method::POST, "/destinations/pagerduty/faults", 400),
        (Method::GET, "/healthz", 200),
        (Method::GET, "/readyz", 401),
        (Method::GET, "/metrics", 401),
        (Method::GET, "/", 401),
    ] {
        let (answered, _) = call(&router, method, path, "").await;
        assert_eq!(answered, status, "{path}");
    }
}

#[tokio::test]
async fn pages_are_listed_newest_first_with_how_they_came_and_can_be_forgotten() {
    let router = App::build(Config::default(), Clock::system()).router();

    for id in ["evt_1", "evt_2"] {
        let (status, body) = post(&router, &event(id)).await;
        assert_eq!(
            (status, body),
            (StatusCode::ACCEPTED, json!({"accepted": true}))
        );
    }

    let (_, listed) = call(&router, Method::GET, PATH, "").await;
    let first = &listed["events"][0];
    assert_eq!(first["event_id"], "evt_2");
    assert_eq!(first["raw"], json!({"b": 1, "a": [2]}));
    assert_eq!(first["correlation_id"], "test-1");
    assert_eq!(first["webhook_id"], "evt_hook");
    let (_, one) = call(&router, Method::GET, "/destinations/pagerduty?limit=1", "").await;
    assert_eq!(one["events"].as_array().unwrap().len(), 1);
    let (status, _) = call(&router, Method::DELETE, PATH, "").await;
    assert_eq!(status, StatusCode::NO_CONTENT);
    let (_, listed) = call(&router, Method::GET, PATH, "").await;
    assert_eq!(listed, json!({"events": []}));
}

#[tokio::test]
async fn what_is_not_an_event_is_refused_and_not_remembered() {
    let router = App::build(Config::default(), Clock::system()).router();
    let mut mistyped = event("evt_1");
    mistyped["severity"] = json!("urgent");
    let mut missing = event("evt_1");
    missing.as_object_mut().unwrap().remove("resolved_at");
    let mut longer = event("evt_ok");
    longer["routed"] = json!(true);

    for body in [mistyped, missing, json!([]), json!("x")] {
        let (status, problem) = post(&router, &body).await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{body}");
        assert_eq!(problem["code"], "invalid_payload");
    }
    assert_eq!(post(&router, &longer).await.0, StatusCode::ACCEPTED);

    let (_, listed) = call(&router, Method::GET, PATH, "").await;
    assert_eq!(listed["events"].as_array().unwrap().len(), 1);
}

#[tokio::test]
async fn unknown_and_impossible_query_values_are_refused() {
    let router = App::build(Config::default(), Clock::system()).router();

    for query in ["limit=0", "limit=10001", "limit=-1", "limit=x", "page=2"] {
        let (status, problem) = call(&router, Method::GET, &format!("{PATH}?{query}"), "").await;

        assert_eq!(status, StatusCode::BAD_REQUEST, "{query}");
        assert_eq!(problem["code"], "invalid_query");
    }
}

#[tokio::test]
async fn a_fault_is_answered_instead_of_the_receipt_and_ends() {
    let router = App::build(Config::default(), Clock::system()).router();
    let faults = r#"{"status":503,"fail_first":1,"retry_after_s":3}"#;
    let (status, _) = call(
        &router,
        Method::POST,
        "/destinations/pagerduty/faults",
        faults,
    )
    .await;
    assert_eq!(status, StatusCode::OK);

    let first = post(&router, &event("evt_1")).await.0;
    let second = post(&router, &event("evt_1")).await.0;

    assert_eq!(
        (first, second),
        (StatusCode::SERVICE_UNAVAILABLE, StatusCode::ACCEPTED)
    );
    let (_, listed) = call(&router, Method::GET, PATH, "").await;
    assert_eq!(listed["events"].as_array().unwrap().len(), 1);
    for wrong in [r#"{"status":200}"#, r#"{"unknown":1}"#, "[]"] {
        let (status, _) = call(
            &router,
            Method::POST,
            "/destinations/pagerduty/faults",
            wrong,
        )
        .await;
        assert_eq!(status, StatusCode::BAD_REQUEST, "{wrong}");
    }
}

#[tokio::test]
async fn a_reset_breaks_the_connection_and_a_hang_ends_with_the_service() {
    let app = App::build(Config::default(), Clock::system());
    let router = app.router();
    let listener = server::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    let running = tokio::spawn(app.run(listener, shutdown.clone()));
    let body = event("evt_1").to_string();
    let request = format!(
        "POST {PATH} HTTP/1.1\r\nhost: x\r\ncontent-type: application/json\r\ncontent-length: {}\r\n\r\n{body}",
        body.len()
    );
    let send = async |faults: &str| {
        call(
            &router,
            Method::POST,
            "/destinations/pagerduty/faults",
            faults,
        )
        .await;
        let mut socket = tokio::net::TcpStream::connect(address).await.unwrap();
        socket.write_all(request.as_bytes()).await.unwrap();
        socket
    };

    let mut reset = send(r#"{"reset":true}"#).await;
    let mut answer = Vec::new();
    let _either = reset.read_to_end(&mut answer).await;
    let mut hanging = send(r#"{"hang":true}"#).await;
    let silent =
        tokio::time::timeout(std::time::Duration::from_millis(200), hanging.read_u8()).await;
    shutdown.cancel();

    assert!(!String::from_utf8_lossy(&answer).contains("202"));
    assert!(silent.is_err());
    tokio::time::timeout(std::time::Duration::from_secs(5), running)
        .await
        .expect("the hanging request is let go")
        .unwrap()
        .unwrap();
}
