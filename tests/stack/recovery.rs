//! What no scenario file can say: timing, restarts by the supervisor, settings.

use serde_json::{Value, json};
use system_tests::api;
use system_tests::eventually::{PATIENCE, eventually};
use system_tests::hub::{Hub, STRIPE_SECRET};
use system_tests::stage::Stage as _;

const FAULTS: &str = "/destinations/pagerduty/faults";

async fn send(hub: &Hub, event_id: &str, event_type: &str) {
    let body = api::stripe_event(event_id, event_type);
    let answer = api::post_stripe(hub.gateway_url(), STRIPE_SECRET, body)
        .await
        .unwrap();
    assert_eq!(answer.text(), r#"{"received":true}"#);
}

/// The event, once the mock PagerDuty has it and the event tells so.
async fn delivered(hub: &Hub, event_id: &str) -> Value {
    eventually("the page to be delivered", PATIENCE, async || {
        let event = api::get(&hub.url(&format!("/events/{event_id}")))
            .await
            .unwrap()
            .json();
        let delivered = event["delivered_to"] == json!(["pagerduty"]);
        if delivered { Ok(event) } else { Err(event) }
    })
    .await
    .unwrap()
}

/// How often the mock PagerDuty has it.
async fn pages(hub: &Hub, event_id: &str) -> usize {
    let received = api::get(&hub.url("/destinations/pagerduty?limit=10000"))
        .await
        .unwrap();
    let received = received.json();
    let events = received["events"].as_array().unwrap();
    events
        .iter()
        .filter(|event| event["event_id"] == event_id)
        .count()
}

#[tokio::test]
async fn a_page_that_fails_twice_arrives_by_the_third_attempt_once() {
    let hub = Hub::start().await.unwrap();
    let faults = json!({"status": 500, "fail_first": 2});
    api::post_json(&hub.url(FAULTS), &faults).await.unwrap();

    send(&hub, "evt_twice", "payout.failed").await;

    let event = delivered(&hub, "evt_twice").await;
    assert_eq!(event["deliveries"][0]["attempts"], 3, "{event}");
    assert_eq!(pages(&hub, "evt_twice").await, 1);
}

#[tokio::test]
async fn a_dead_destination_holds_up_neither_ingestion_nor_other_pages_for_ever() {
    let hub = Hub::start_with(&[("PAGERDUTY_TIMEOUT_MS", "500")])
        .await
        .unwrap();
    api::post_json(&hub.url(FAULTS), &json!({"hang": true}))
        .await
        .unwrap();

    for n in 0..50 {
        send(&hub, &format!("evt_{n}"), "payout.failed").await;
    }
    api::post_json(&hub.url(FAULTS), &json!({})).await.unwrap();

    for n in 0..50 {
        delivered(&hub, &format!("evt_{n}")).await;
    }
}

#[tokio::test]
async fn a_service_that_is_killed_is_started_again_and_nothing_acknowledged_is_lost() {
    let hub = Hub::start().await.unwrap();

    for (n, service) in [
        "event-store",
        "delivery",
        "stripe-ingester",
        "mock-pagerduty",
        "gateway",
    ]
    .into_iter()
    .enumerate()
    {
        let event_id = format!("evt_{n}");
        send(&hub, &event_id, "payout.failed").await;
        let before = hub.supervisor().pid(service).unwrap();
        hub.supervisor().kill(service).unwrap();
        eventually("another process", PATIENCE, async || {
            let pid = hub.supervisor().pid(service).unwrap();
            if pid.is_some() && pid != before {
                Ok(())
            } else {
                Err(pid)
            }
        })
        .await
        .unwrap();
        eventually(
            "everything to be ready",
            PATIENCE,
            async || match api::get(&hub.url("/readyz")).await {
                Ok(answer) if answer.status == 200 => Ok(()),
                Ok(answer) => Err(answer.text()),
                Err(fault) => Err(format!("{fault:#}")),
            },
        )
        .await
        .unwrap();
        delivered(&hub, &event_id).await;
    }
}

#[tokio::test]
async fn warnings_page_when_that_is_asked_for() {
    let hub = Hub::start_with(&[("ROUTE_WARNING", "true")]).await.unwrap();

    send(&hub, "evt_warning", "payment_intent.payment_failed").await;

    assert_eq!(delivered(&hub, "evt_warning").await["severity"], "warning");
}

#[tokio::test]
async fn a_hub_in_memory_works_and_says_that_it_forgets() {
    let hub = Hub::start_with(&[
        ("EVENT_STORE_DATABASE_URL", "memory:"),
        ("DELIVERY_DATABASE_URL", "memory:"),
    ])
    .await
    .unwrap();

    send(&hub, "evt_first", "payout.failed").await;
    delivered(&hub, "evt_first").await;
    hub.kill("event-store").await.unwrap();
    hub.restart("event-store").await.unwrap();

    // The feed has another history now; delivery must notice and read it from its beginning.
    eventually("the store to answer", PATIENCE, async || {
        let body = api::stripe_event("evt_second", "payout.failed");
        let answer = api::post_stripe(hub.gateway_url(), STRIPE_SECRET, body)
            .await
            .unwrap();
        if answer.status == 200 {
            Ok(())
        } else {
            Err(answer.text())
        }
    })
    .await
    .unwrap();
    delivered(&hub, "evt_second").await;
    assert_eq!(pages(&hub, "evt_first").await, 1);
    let forgotten = api::get(&hub.url("/events/evt_first")).await.unwrap();
    assert_eq!(forgotten.status, 404);
}
