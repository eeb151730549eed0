use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use http::{Request, StatusCode};
use jiff::Timestamp;
use runtime::clock::Clock;
use schema::delivery::Status;
use schema::names;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::routes;
use crate::app::App;
use crate::config::Config;
use crate::domain::transition::{OpenAttempt, State};
use crate::storage::conformance::{page, pending};
use crate::storage::{Ended, Finish, LANE, Memory, Storage};

async fn get(router: &Router, path: &str) -> (StatusCode, Value) {
    ask(router, Request::get(path).body(Body::empty()).unwrap()).await
}

async fn get_as(router: &Router, client: &str, path: &str) -> (StatusCode, Value) {
    let request = Request::get(path).header(names::CLIENT, client);
    ask(router, request.body(Body::empty()).unwrap()).await
}

async fn ask(router: &Router, request: Request<Body>) -> (StatusCode, Value) {
    let response = router.clone().oneshot(request).await.unwrap();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20).await;
    let body = serde_json::from_slice(&body.unwrap()).unwrap_or_default();
    (status, body)
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// Three deliveries, the first of which has failed once.
async fn filled() -> Arc<Memory> {
    let storage = Arc::new(Memory::default());
    let epoch = storage.take_lane(LANE, "test", at(1)).await.unwrap();
    let mut first = pending("evt_1");
    first.life.started = 1;
    first.life.open = Some(OpenAttempt {
        epoch,
        alone: false,
    });
    let mut failed = first.life.clone();
    failed.state = State::Failed;
    failed.finished = 1;
    failed.open = None;
    failed.due_at = Some(at(60));
    let new = vec![first, pending("evt_2"), pending("evt_3")];
    let positions = storage.intake(page(epoch, new)).await.unwrap();
    let finish = Finish {
        lane: LANE,
        position: positions[0].unwrap(),
        attempt_epoch: epoch,
        epoch,
        life: failed,
        ended: Ended {
            duration_ms: Some(12),
            status_code: Some(503),
            error: Some("http_5xx".to_owned()),
            response: Some("busy".to_owned()),
        },
        report: false,
        now: at(3),
    };
    storage.finish(finish).await.unwrap();
    storage
}

#[tokio::test]
async fn lists_go_on_where_the_cursor_says() {
    let router = routes(filled().await);
    let ids = |body: &Value| -> Vec<String> {
        let deliveries = body["deliveries"].as_array().unwrap();
        deliveries
            .iter()
            .map(|delivery| delivery["event_id"].as_str().unwrap().to_owned())
            .collect()
    };

    let (_, first) = get(&router, "/webhooks/deliveries?limit=2").await;
    let cursor = first["next_cursor"].as_str().unwrap();
    let next = format!("/webhooks/deliveries?limit=2&cursor={cursor}");
    let (_, second) = get(&router, &next).await;

    assert_eq!(ids(&first), ["evt_3", "evt_2"]);
    assert_eq!(ids(&second), ["evt_1"]);
    assert_eq!(second["next_cursor"], Value::Null);
    let failed = "/webhooks/deliveries?status=failed&event_id=evt_1";
    assert_eq!(ids(&get(&router, failed).await.1), ["evt_1"]);
}

#[tokio::test]
async fn a_delivery_tells_every_attempt() {
    let storage = filled().await;
    let router = routes(Arc::clone(&storage) as Arc<dyn Storage>);
    let (_, list) = get(&router, "/webhooks/deliveries?status=failed").await;
    let id = list["deliveries"][0]["delivery_id"].as_str().unwrap();

    let (status, delivery) = get(&router, &format!("/webhooks/deliveries/{id}")).await;

    assert_eq!(status, StatusCode::OK);
    assert_eq!(delivery["status"], json!(Status::Failed));
    assert_eq!(delivery["endpoint_id"], "pagerduty");
    assert_eq!(delivery["next_attempt_at"], "1970-01-01T00:01:00Z");
    let attempts = json!([{
        "number": 1,
        "started_at": "1970-01-01T00:00:02Z",
        "duration_ms": 12,
        "status_code": 503,
        "error": "http_5xx",
        "response": "busy",
        "next_attempt_at": "1970-01-01T00:01:00Z",
    }]);
    assert_eq!(delivery["attempts"], attempts);
}

#[tokio::test]
async fn a_client_sees_its_own_rows_and_no_others() {
    let storage = filled().await;
    let router = routes(Arc::clone(&storage) as Arc<dyn Storage>);
    let (_, all) = get(&router, "/webhooks/deliveries").await;
    let id = all["deliveries"][0]["delivery_id"].as_str().unwrap();
    let one = format!("/webhooks/deliveries/{id}");

    let (_, own) = get_as(&router, "oncall", "/webhooks/deliveries").await;
    assert_eq!(own, all);
    let (status, _) = get_as(&router, "oncall", &one).await;
    assert_eq!(status, StatusCode::OK);

    let (_, others) = get_as(&router, "acme", "/webhooks/deliveries").await;
    assert_eq!(others, json!({"deliveries": [], "next_cursor": null}));
    let (status, _) = get_as(&router, "acme", &one).await;
    assert_eq!(status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_with_a_code() {
    let config = Config {
        delivery_database_url: "memory:".to_owned(),
        ..Config::default()
    };
    let app = App::build(config, Clock::system()).await.unwrap();
    let router = app.router();

    for (path, status, code) in [
        ("/webhooks/deliveries?limit=0", 400, "invalid_query"),
        ("/webhooks/deliveries?limit=501", 400, "invalid_query"),
        ("/webhooks/deliveries?limit=x", 400, "invalid_query"),
        ("/webhooks/deliveries?cursor=-1", 400, "invalid_query"),
        ("/webhooks/deliveries?status=gone", 400, "invalid_query"),
        ("/webhooks/deliveries?since=1", 400, "invalid_query"),
        ("/webhooks/deliveries/dlv_1", 404, "not_found"),
        ("/webhooks", 404, "not_found"),
    ] {
        let (answered, body) = get(&router, path).await;
        assert_eq!(answered, status, "{path}");
        assert_eq!(body["code"], code, "{path}");
    }
}

#[tokio::test]
async fn readyz_says_that_memory_is_not_durable_and_the_feed_not_read() {
    let config = Config {
        delivery_database_url: "memory:".to_owned(),
        ..Config::default()
    };
    let app = App::build(config, Clock::system()).await.unwrap();

    let (status, body) = get(&app.router(), "/readyz").await;

    assert_eq!(status, StatusCode::OK);
    let dependencies = &body["dependencies"];
    assert_eq!(dependencies["storage"]["backend"], "memory");
    assert_eq!(dependencies["storage"]["durable"], false);
    assert_eq!(dependencies["event-store"]["status"], "degraded");
    assert_eq!(dependencies["pagerduty"]["status"], "up");
}
