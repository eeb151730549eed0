//! The service through its router.

#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

use axum::body::Body;
use http::{Request, StatusCode, header};
use runtime::clock::Clock;
use runtime::internal_key::InternalKey;
use schema::names;
use serde_json::{Value, json};
use summarizer::app::App;
use summarizer::config::Config;
use tower::ServiceExt as _;

const KEY: &str = "key-of-the-tests";

async fn post(content_type: &str, body: impl Into<Body>) -> (StatusCode, Value) {
    let request = Request::post("/ai/summarize")
        .header(header::CONTENT_TYPE, content_type)
        .header(names::INTERNAL_KEY, KEY)
        .body(body.into())
        .unwrap();
    let config = Config {
        signalpost_internal_key: InternalKey::parse(KEY).unwrap(),
        ..Config::default()
    };
    let response = App::build(config, Clock::system())
        .router()
        .oneshot(request)
        .await
        .unwrap();
    let status = response.status();
    let body = axum::body::to_bytes(response.into_body(), 1 << 20)
        .await
        .unwrap();
    (status, serde_json::from_slice(&body).unwrap())
}

#[tokio::test]
async fn the_example_of_the_assignment_is_answered_as_it_says() {
    let text = "Multiple payment failures detected across APAC region...";

    let (status, answer) = post("application/json", json!({ "text": text }).to_string()).await;

    assert_eq!(status, StatusCode::OK);
    assert_eq!(
        answer,
        json!({"summary": "Payment failures in APAC", "suggested_severity": "critical"})
    );
}

#[tokio::test]
async fn what_is_not_a_text_to_summarize_is_refused_with_its_code() {
    let long = json!({ "text": "a".repeat(16 * 1024 + 1) }).to_string();
    let huge = json!({ "text": "a".repeat(65 * 1024) }).to_string();
    let json = "application/json";
    for (content_type, body, status, code) in [
        (json, r#"{"text":""}"#, 400, "invalid_payload"),
        (json, r#"{"text":" \n\t"}"#, 400, "invalid_payload"),
        (json, r#"{"text":7}"#, 400, "invalid_payload"),
        (json, r#"{"text":"a","more":1}"#, 400, "invalid_payload"),
        (json, r"{}", 400, "invalid_payload"),
        (json, r#"["a"]"#, 400, "invalid_payload"),
        (json, "payments failed", 400, "invalid_payload"),
        (json, "", 400, "invalid_payload"),
        (json, long.as_str(), 413, "too_large"),
        (json, huge.as_str(), 413, "too_large"),
        ("text/plain", r#"{"text":"a"}"#, 415, "unsupported_media"),
    ] {
        let (answered, problem) = post(content_type, body.to_owned()).await;

        let case = &body[..body.len().min(40)];
        assert_eq!(answered, status, "{case}");
        assert_eq!(problem["code"], code, "{case}");
    }
}

#[tokio::test]
async fn the_longest_text_that_is_taken_is_summarized() {
    let (status, _) = post(
        "application/json",
        json!({ "text": "a".repeat(16 * 1024) }).to_string(),
    )
    .await;

    assert_eq!(status, StatusCode::OK);
}
