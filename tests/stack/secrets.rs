//! Secrets and payloads stay where they belong.

use http::Method;
use system_tests::api;
use system_tests::eventually::{PATIENCE, eventually};
use system_tests::hub::{Hub, STRIPE_API_KEY, STRIPE_SECRET};

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
