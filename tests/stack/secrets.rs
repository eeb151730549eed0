//! Secrets and payloads stay where they belong.

use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use http::Method;
use serde_json::{Value, json};
use system_tests::api::{self, Answer, INTERNAL_KEY};
use system_tests::eventually::{PATIENCE, eventually};
use system_tests::hub::{Hub, STRIPE_API_KEY, STRIPE_SECRET};
use system_tests::receiver::{Receiver, Receiving};

/// In the payload of an event; belongs in `raw` and in the page, in no log and no metric.
const IN_PAYLOAD: &str = "CANARY-payload-91ac";
const GATEWAY_KEY: &str = "CANARY-key-4d20";
/// In the URL of the destination.
const IN_URL: &str = "CANARY-url-b7e3";

#[tokio::test]
async fn no_secret_shows_in_a_log_a_metric_or_a_problem() {
    let hub = Hub::start_with(&[
        ("GATEWAY_API_KEYS", GATEWAY_KEY),
        ("LOG_LEVEL", "debug"),
        (
            "PAGERDUTY_URL",
            // Nobody listens there, so that the failure is told.
            &format!("http://user:{IN_URL}@127.0.0.1:9/v2?token={IN_URL}"),
        ),
    ])
    .await
    .unwrap();
    let key = [("authorization".to_owned(), format!("Bearer {GATEWAY_KEY}"))];
    let body = api::stripe_event(IN_PAYLOAD, "payout.failed").replace(
        "Insufficient funds",
        &format!("Insufficient funds {IN_PAYLOAD}-2"),
    );
    let mut shown = Vec::new();

    // Every way in which a secret is used, rightly and wrongly.
    let ok = api::post_stripe(hub_url(&hub), STRIPE_SECRET, body.clone())
        .await
        .unwrap();
    assert_eq!(ok.status, 200, "{}", ok.text());
    let (_, signature) = api::signature_header(STRIPE_SECRET, body.as_bytes());
    for header in [format!("{signature}x"), "garbage".to_owned()] {
        let headers = [("stripe-signature".to_owned(), header)];
        let url = hub.url("/ingest/stripe");
        shown.push(
            api::call(Method::POST, &url, &headers, body.clone().into())
                .await
                .unwrap(),
        );
    }
    shown.push(
        api::post_stripe(hub_url(&hub), STRIPE_SECRET, "{")
            .await
            .unwrap(),
    );
    shown.push(api::get(&hub.url("/events")).await.unwrap());
    let wrong = [("authorization".to_owned(), format!("Bearer {GATEWAY_KEY}x"))];
    shown.push(
        api::call(Method::GET, &hub.url("/events"), &wrong, Vec::new())
            .await
            .unwrap(),
    );
    // The delivery's failure is in the log by then.
    eventually("a failed attempt", PATIENCE, async || {
        let url = hub.url(&format!("/events/{IN_PAYLOAD}"));
        let event = api::call(Method::GET, &url, &key, Vec::new())
            .await
            .unwrap();
        let attempts = event.json()["deliveries"][0]["attempts"].as_u64();
        attempts
            .filter(|attempts| *attempts > 0)
            .ok_or(event.text())
    })
    .await
    .unwrap();
    let service = hub.supervisor().url("delivery").unwrap();
    for shown_key in [INTERNAL_KEY, &format!("{INTERNAL_KEY}x")] {
        let url = format!("{service}/nowhere");
        shown.push(api::get_internal(&url, shown_key).await.unwrap());
    }
    for path in [
        "/metrics",
        "/metrics/stripe-ingester",
        "/metrics/status-poller",
        "/metrics/event-store",
        "/metrics/delivery",
        "/metrics/mock-pagerduty",
        "/metrics/summarizer",
        "/readyz",
        "/webhooks/deliveries",
    ] {
        let answer = api::call(Method::GET, &hub.url(path), &key, Vec::new())
            .await
            .unwrap();
        assert_eq!(answer.status, 200, "{path}: {}", answer.text());
        shown.push(answer);
    }
    let lines = hub.stop().await.unwrap();

    let signature = signature.split("v1=").nth(1).unwrap();
    let secrets = [
        STRIPE_SECRET,
        STRIPE_API_KEY,
        GATEWAY_KEY,
        INTERNAL_KEY,
        IN_URL,
        signature,
    ];
    // The event's id is the payload's, and belongs in a log; what it says further does not.
    let payload = format!("{IN_PAYLOAD}-2");
    assert!(lines.iter().any(|line| line.text.contains(IN_PAYLOAD)));
    for secret in secrets.into_iter().chain([&*payload]) {
        for line in &lines {
            assert!(!line.text.contains(secret), "{secret} in {line:?}");
        }
        for answer in &shown {
            assert!(
                !answer.text().contains(secret),
                "{secret} in {}",
                answer.text()
            );
        }
    }
}

fn hub_url(hub: &Hub) -> &str {
    system_tests::stage::Stage::gateway_url(hub)
}

/// An endpoint's secret, and the one that it is changed for.
const SECRET: &str = "whsec_Q0FOQVJZLXNlY3JldC01ZTFmLW9mLWFuLWVuZHBvaW50";
const ROTATED: &str = "whsec_Q0FOQVJZLXNlY3JldC03N2MyLW9mLWEtcm90YXRpb24=";
/// Of `DELIVERY_SECRETS_KEY`.
const KEY_AT_REST: &str = "Q0FOQVJZLWtleS1hdC1yZXN0LW9mLTMyLWJ5dGVzISE=";
/// The value of a header that goes with every request.
const IN_HEADER: &str = "CANARY-header-c41d";
/// In the query of an endpoint's URL. Whoever may see the endpoint may see it, and the store has it; a log has not.
const IN_QUERY: &str = "CANARY-query-08ea";

#[tokio::test]
async fn no_secret_of_an_endpoint_shows_but_where_it_is_told_once() {
    let hub = Hub::start_with(&[
        ("LOG_LEVEL", "debug"),
        ("DELIVERY_SECRETS_KEY", KEY_AT_REST),
        ("DELIVERY_SCHEDULE_S", "0,0"),
    ])
    .await
    .unwrap();
    let receiver = Receiver::start(&Receiving {
        secrets: vec![SECRET.to_owned()],
        ..Receiving::default()
    })
    .await
    .unwrap();
    let clients = "/webhooks/clients/acme/endpoints";
    let url = format!("{}/hooks?token={IN_QUERY}", receiver.url());

    let told = json!({"url": url, "secret": SECRET, "headers": {"x-api-key": IN_HEADER}});
    let made = call(&hub, Method::POST, clients, told).await;
    assert_eq!(made.status, 201, "{}", made.text());
    let one = format!("/webhooks/endpoints/{}", text(&made, "/endpoint_id"));
    // Nobody listens there, so that the failure is told.
    let nobody = format!("http://127.0.0.1:1024/?token={IN_QUERY}");
    let told = json!({"url": nobody, "secret": SECRET, "headers": {"x-api-key": IN_HEADER}});
    call(&hub, Method::POST, clients, told).await;

    let event = json!({"client_id": "acme", "event_type": "t", "payload": IN_PAYLOAD});
    let accepted = call(&hub, Method::POST, "/webhooks/events", event).await;
    let event = format!("/webhooks/events/{}", text(&accepted, "/event_id"));
    eventually("the event to end", PATIENCE, async || {
        let seen = get(&hub, &event).await;
        let counts = seen.json()["counts"].clone();
        let ended = counts["delivered"] == 1 && counts["exhausted"] == 1;
        ended.then_some(()).ok_or(counts)
    })
    .await
    .unwrap();
    let received = receiver.received().await.unwrap();
    assert_eq!(received["received"][0]["signature"], "valid");

    // Every way in which a secret is told, rightly and wrongly.
    let rotate = format!("{one}/secret/rotate");
    let rotated = call(&hub, Method::POST, &rotate, json!({"secret": ROTATED})).await;
    assert_eq!(rotated.status, 200, "{}", rotated.text());
    let mut shown = Vec::new();
    let mut refused = Vec::new();
    for (method, path, body) in [
        (Method::PATCH, &*one, json!({"secret": SECRET})),
        (Method::PATCH, &*one, json!({"headers": SECRET})),
        (
            Method::PATCH,
            &*one,
            json!({"headers": {"x": format!("{IN_HEADER}\n")}}),
        ),
        (
            Method::POST,
            &*rotate,
            json!({"secret": format!("{SECRET}!")}),
        ),
        (Method::POST, &*rotate, json!({"secret": {"key": SECRET}})),
        (
            Method::POST,
            clients,
            json!({"url": format!("http://10.0.0.1/?token={IN_QUERY}")}),
        ),
        (
            Method::POST,
            clients,
            json!({"url": format!("nowhere?token={IN_QUERY}"), "secret": SECRET}),
        ),
    ] {
        let answer = call(&hub, method, path, body).await;
        assert!(answer.status.is_client_error(), "{}", answer.text());
        refused.push(answer);
    }
    let deliveries = get(&hub, "/webhooks/deliveries").await;
    for n in 0..2 {
        let id = text(&deliveries, &format!("/deliveries/{n}/delivery_id"));
        shown.push(get(&hub, &format!("/webhooks/deliveries/{id}")).await);
    }
    for path in [
        &*one,
        clients,
        &*event,
        "/webhooks/events",
        "/webhooks/clients",
    ] {
        shown.push(get(&hub, path).await);
    }
    shown.push(call(&hub, Method::PATCH, &one, json!({"description": "d"})).await);
    for path in ["/metrics", "/metrics/delivery", "/readyz"] {
        refused.push(get(&hub, path).await);
    }
    let stored = files(&hub.folder().join("data"));
    let lines = hub.stop().await.unwrap();

    let secrets = [SECRET, ROTATED, KEY_AT_REST, IN_HEADER, INTERNAL_KEY];
    for answer in shown.iter().chain(&refused) {
        for secret in secrets {
            assert!(!answer.text().contains(secret), "{}", answer.text());
        }
    }
    for secret in secrets.into_iter().chain([IN_QUERY, IN_PAYLOAD]) {
        for answer in &refused {
            assert!(!answer.text().contains(secret), "{}", answer.text());
        }
        for line in &lines {
            assert!(!line.text.contains(secret), "{secret} in {line:?}");
        }
    }
    assert!(has(&stored, IN_QUERY.as_bytes()), "the store was not read");
    for secret in secrets {
        assert!(!has(&stored, secret.as_bytes()), "{secret} is stored");
    }
    for secret in [SECRET, ROTATED] {
        let bytes = STANDARD.decode(&secret["whsec_".len()..]).unwrap();
        assert!(!has(&stored, &bytes), "the bytes of {secret} are stored");
    }
}

async fn call(hub: &Hub, method: Method, path: &str, body: Value) -> Answer {
    let headers = [("content-type".to_owned(), "application/json".to_owned())];
    let body = body.to_string().into_bytes();
    api::call(method, &hub.url(path), &headers, body)
        .await
        .unwrap()
}

async fn get(hub: &Hub, path: &str) -> Answer {
    api::get(&hub.url(path)).await.unwrap()
}

fn text(answer: &Answer, pointer: &str) -> String {
    let body = answer.json();
    body.pointer(pointer).unwrap().as_str().unwrap().to_owned()
}

/// The bytes of delivery's files.
fn files(folder: &Path) -> Vec<u8> {
    let mut bytes = Vec::new();
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.to_string_lossy().contains("delivery.db") {
            bytes.extend(std::fs::read(path).unwrap());
        }
    }
    bytes
}

fn has(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}
