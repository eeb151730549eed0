//! What people ask the gateway, of one that answers as the API says.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use std::net::SocketAddr;
use std::process::Output;

use axum::extract::{Path, Query};
use axum::routing::get;
use axum::{Json, Router};
use http::{HeaderMap, StatusCode};
use runtime::server::{Limits, serve};
use schema::names;
use serde::Deserialize;
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::process::Command;
use tokio_util::sync::CancellationToken;

#[derive(Deserialize)]
struct Asked {
    cursor: Option<String>,
}

/// Two pages of clients, of which each has one endpoint; deliveries are not known.
async fn gateway() -> SocketAddr {
    let router = Router::new()
        .route(names::CLIENTS, get(clients))
        .route(names::CLIENT_ENDPOINTS, get(endpoints).post(register))
        .fallback(async || {
            let problem =
                json!({"code": "not_found", "detail": "no such delivery", "correlation_id": "c-1"});
            (StatusCode::NOT_FOUND, Json(problem))
        });
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    let shutdown = CancellationToken::new();
    tokio::spawn(serve(listener, router, Limits::INTERNAL, shutdown));
    address
}

async fn clients(Query(asked): Query<Asked>) -> Json<Value> {
    let (client, next_cursor) = match asked.cursor.as_deref() {
        None => ("acme", Some("a b&c")),
        Some("a b&c") => ("globex", None),
        Some(_) => ("unknown cursor", None),
    };
    let row = json!({"client_id": client, "endpoints": 1, "created_at": "2026-01-02T03:04:05Z"});
    Json(json!({"clients": [row], "next_cursor": next_cursor}))
}

fn endpoint(client: &str) -> Value {
    json!({
        "endpoint_id": format!("ep_{client}"), "client_id": client,
        "url": "https://acme.example/hooks", "event_types": null, "description": null,
        "headers": [], "retry": {}, "timeout_ms": 15000, "max_in_flight": 64,
        "rate_limit_per_s": null, "ordering": "none", "on_exhausted": "block", "disabled": false,
        "disabled_reason": null, "open_deliveries": 0, "breaker": "closed",
        "created_at": "2026-01-02T03:04:05Z", "updated_at": "2026-01-02T03:04:05Z",
    })
}

async fn endpoints(Path(client): Path<String>) -> Json<Value> {
    Json(json!({"endpoints": [endpoint(&client)], "next_cursor": null}))
}

async fn register(
    Path(client): Path<String>,
    headers: HeaderMap,
    Json(asked): Json<Value>,
) -> (StatusCode, Json<Value>) {
    assert_eq!(headers["authorization"], "Bearer key-2");
    let expected = json!({"url": "https://acme.example/hooks", "event_types": ["order.*", "a.b"]});
    assert_eq!(asked, expected);
    let mut endpoint = endpoint(&client);
    endpoint["secret"] = json!("whsec_shown-once");
    (StatusCode::CREATED, Json(endpoint))
}

async fn signalpost(arguments: &[&str]) -> Output {
    let gateway = format!("http://{}", gateway().await);
    let folder = tempfile::tempdir().unwrap();
    Command::new(env!("CARGO_BIN_EXE_signalpost"))
        .args(arguments)
        .args(["--gateway", &gateway])
        .env("GATEWAY_API_KEYS", "key-1:acme,key-2")
        .current_dir(folder.path())
        .output()
        .await
        .unwrap()
}

fn stdout(output: &Output) -> String {
    let told = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{told}");
    String::from_utf8(output.stdout.clone()).unwrap()
}

#[tokio::test]
async fn every_page_of_clients_is_listed_and_then_the_endpoints_of_each() {
    let text = stdout(&signalpost(&["endpoints"]).await);
    let position = |word: &str| {
        text.find(word)
            .unwrap_or_else(|| panic!("{word} in {text}"))
    };
    assert!(position("acme") < position("globex"));
    assert!(position("globex") < position("ep_acme"));
    assert!(position("ep_acme") < position("ep_globex"));

    let text = stdout(&signalpost(&["endpoints", "--client", "acme"]).await);
    assert!(
        text.contains("ep_acme") && !text.contains("globex"),
        "{text}"
    );

    let text = stdout(&signalpost(&["endpoints", "--json"]).await);
    let answers: Vec<Value> = text
        .lines()
        .map(|line| serde_json::from_str(line).unwrap())
        .collect();
    assert_eq!(answers.len(), 4);
    assert_eq!(answers[3]["endpoints"][0], endpoint("globex"));
}

#[tokio::test]
async fn a_registered_endpoints_secret_is_printed() {
    let url = "https://acme.example/hooks";
    let arguments = [
        "endpoints",
        "add",
        "--client",
        "acme",
        "--url",
        url,
        "--types",
        "order.*,a.b",
    ];

    let text = stdout(&signalpost(&arguments).await);

    assert!(
        text.contains("ep_acme") && text.contains("whsec_shown-once"),
        "{text}"
    );
}

#[tokio::test]
async fn a_refusal_is_an_error_that_tells_the_detail() {
    for arguments in [
        &["retry", "dlv_1"][..],
        &["deliveries", "show", "dlv_1"],
        &["deliveries", "--status", "failed", "--limit", "3"],
        &["events"],
    ] {
        let output = signalpost(arguments).await;
        let told = String::from_utf8_lossy(&output.stderr);
        assert_eq!(output.status.code(), Some(1), "{arguments:?}");
        assert!(
            told.contains("404 not_found: no such delivery (correlation id c-1)"),
            "{told}"
        );
    }
}
