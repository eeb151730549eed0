//! What no scenario file can say: timing, restarts by the supervisor, settings.

use std::time::Duration;

use rustix::process::{Pid, Signal, kill_process};
use serde_json::{Value, json};
use system_tests::api;
use system_tests::binaries;
use system_tests::eventually::{PATIENCE, eventually};
use system_tests::hub::{Hub, STRIPE_SECRET};
use system_tests::receiver::{Receiver, Receiving};
use system_tests::stage::Stage as _;
use tokio::process::Command;
use tokio::time::Instant;

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

/// What an attempt at a PagerDuty that hangs takes.
const HANGING: Duration = Duration::from_secs(8);

#[tokio::test]
async fn while_pagerduty_hangs_events_are_acknowledged_and_when_it_is_back_every_page_goes_out() {
    const COUNT: usize = 50;
    let timeout_ms = HANGING.as_millis().to_string();
    let hub = Hub::start_with(&[("PAGERDUTY_TIMEOUT_MS", &timeout_ms)])
        .await
        .unwrap();
    let set = async |faults| api::post_json(&hub.url(FAULTS), &faults).await.unwrap();
    set(json!({"hang": true})).await;

    let began = Instant::now();
    for n in 0..COUNT {
        send(&hub, &format!("evt_{n}"), "payout.failed").await;
    }
    let acknowledged = began.elapsed();
    set(json!({})).await;

    // One that waited for its page would have taken as long alone.
    assert!(acknowledged < HANGING, "{acknowledged:?}");
    eventually("every page", PATIENCE, async || {
        let url = hub.url("/webhooks/events?client=oncall&status=delivered&limit=500");
        let list = api::get(&url).await.map_err(|fault| fault.to_string())?;
        match list.json()["events"].as_array().map(Vec::len) {
            Some(COUNT) => Ok(()),
            delivered => Err(format!("{delivered:?}")),
        }
    })
    .await
    .unwrap();
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

const EVENTS: &str = "/webhooks/events";

/// Answers each request well, after so long.
async fn slow_receiver(delay_ms: u64) -> Receiver {
    let receiving = Receiving {
        delay_ms,
        ..Receiving::default()
    };
    Receiver::start(&receiving).await.unwrap()
}

async fn register(hub: &Hub, receiver: &Receiver, max_in_flight: u32) {
    let endpoint = json!({"url": receiver.url(), "max_in_flight": max_in_flight});
    let url = hub.url("/webhooks/clients/acme/endpoints");
    let answer = api::post_json(&url, &endpoint).await.unwrap();
    assert_eq!(answer.status, 201, "{}", answer.text());
}

fn webhook_event(n: usize) -> Value {
    json!({"client_id": "acme", "event_type": "order.created", "payload": n})
}

/// Posts one, and answers the id of its delivery.
async fn post(hub: &Hub, n: usize) -> String {
    let answer = api::post_json(&hub.url(EVENTS), &webhook_event(n))
        .await
        .unwrap();
    assert_eq!(answer.status, 202, "{}", answer.text());
    let id = answer.json()["deliveries"][0]["delivery_id"].clone();
    id.as_str().unwrap().to_owned()
}

async fn received(receiver: &Receiver, at_least: u64) -> Value {
    eventually("the receiver to have them", PATIENCE, async || {
        let received = receiver.received().await.unwrap();
        let enough = received["count"].as_u64() >= Some(at_least);
        if enough {
            Ok(received)
        } else {
            Err(received["count"].clone())
        }
    })
    .await
    .unwrap()
}

/// The delivery, once it is delivered.
async fn webhook_delivered(hub: &Hub, delivery_id: &str) -> Value {
    eventually("the webhook to be delivered", PATIENCE, async || {
        let url = hub.url(&format!("/webhooks/deliveries/{delivery_id}"));
        let delivery = api::get(&url).await.map_err(|fault| fault.to_string())?;
        let told = delivery.json();
        if told["status"] == "delivered" {
            Ok(told)
        } else {
            Err(delivery.text())
        }
    })
    .await
    .unwrap()
}

#[tokio::test]
async fn a_kill_loses_no_accepted_event_and_repeats_only_what_was_on_its_way() {
    const COUNT: usize = 200;
    const IN_FLIGHT: u32 = 8;
    let hub = Hub::start().await.unwrap();
    let receiver = slow_receiver(50).await;
    register(&hub, &receiver, IN_FLIGHT).await;
    let events: Vec<Value> = (0..COUNT).map(webhook_event).collect();

    let batch = api::post_json(
        &hub.url("/webhooks/events/batch"),
        &json!({"events": events}),
    )
    .await
    .unwrap();
    received(&receiver, 20).await;
    hub.kill("delivery").await.unwrap();
    let before = receiver.received().await.unwrap();
    hub.restart("delivery").await.unwrap();

    let results = batch.json()["results"].clone();
    let results = results.as_array().unwrap();
    assert!(results.iter().all(|result| result["status"] == 202));
    assert_eq!(results.len(), COUNT);
    assert!(
        before["count"].as_u64() < Some(200),
        "killed too late: {before}"
    );
    eventually("every event to be delivered", PATIENCE, async || {
        let url = hub.url("/webhooks/events?client=acme&status=delivered&limit=500");
        let list = api::get(&url).await.map_err(|fault| fault.to_string())?;
        let count = list.json()["events"].as_array().map(Vec::len);
        if count == Some(COUNT) {
            Ok(())
        } else {
            Err(format!("{count:?}"))
        }
    })
    .await
    .unwrap();
    let after = receiver.received().await.unwrap();
    assert_eq!(after["distinct"], COUNT, "lost some");
    let repeated = after["count"].as_u64().unwrap() - 200;
    assert!(repeated <= u64::from(IN_FLIGHT), "{repeated} were repeated");
}

#[tokio::test]
async fn an_event_that_waited_at_the_kill_is_sent_and_one_on_its_way_is_sent_again() {
    let hub = Hub::start().await.unwrap();
    let receiver = slow_receiver(1_000).await;
    register(&hub, &receiver, 1).await;

    let on_its_way = post(&hub, 1).await;
    let waiting = post(&hub, 2).await;
    received(&receiver, 1).await;
    hub.kill("delivery").await.unwrap();
    hub.restart("delivery").await.unwrap();

    let again = webhook_delivered(&hub, &on_its_way).await;
    let first = webhook_delivered(&hub, &waiting).await;
    assert_eq!(again["interrupted"], 1, "{again}");
    assert_eq!(again["attempts"][0]["error"], "interrupted");
    assert_eq!(again["attempts_started"], 2);
    assert_eq!(first["attempts_started"], 1, "{first}");
    let received = receiver.received().await.unwrap();
    assert_eq!(
        (&received["count"], &received["distinct"]),
        (&json!(3), &json!(2))
    );
}

#[tokio::test]
async fn a_service_that_is_told_to_stop_waits_for_the_answer_on_its_way() {
    let hub = Hub::start().await.unwrap();
    let receiver = slow_receiver(1_500).await;
    register(&hub, &receiver, 1).await;

    let delivery_id = post(&hub, 1).await;
    received(&receiver, 1).await;
    let pid = hub.supervisor().pid("delivery").unwrap().unwrap();
    let process = Pid::from_raw(i32::try_from(pid).unwrap()).unwrap();
    kill_process(process, Signal::TERM).unwrap();
    eventually("another process", PATIENCE, async || {
        let now = hub.supervisor().pid("delivery").unwrap();
        if now.is_some_and(|now| now != pid) {
            Ok(())
        } else {
            Err(now)
        }
    })
    .await
    .unwrap();

    let delivery = webhook_delivered(&hub, &delivery_id).await;
    assert_eq!(delivery["attempts_started"], 1, "{delivery}");
    assert_eq!(delivery["interrupted"], 0);
    assert_eq!(receiver.received().await.unwrap()["count"], 1);
}

#[tokio::test]
async fn stores_that_are_restored_from_a_backup_go_on_from_there() {
    let hub = Hub::start().await.unwrap();
    send(&hub, "evt_before", "payout.failed").await;
    delivered(&hub, "evt_before").await;
    let copies = tempfile::tempdir().unwrap();
    let copied = Command::new(binaries::folder().await.unwrap().join("signalpost"))
        .arg("backup")
        .arg(copies.path().join("copies"))
        .current_dir(hub.folder())
        .output()
        .await
        .unwrap();
    assert!(copied.status.success(), "{copied:?}");
    send(&hub, "evt_after", "payout.failed").await;
    delivered(&hub, "evt_after").await;

    let stores = ["delivery", "event-store"];
    for store in stores {
        hub.kill(store).await.unwrap();
        let live = hub.folder().join("data").join(format!("{store}.db"));
        for beside in ["-wal", "-shm"] {
            // Not there where the process had put everything into the file.
            let _absent = std::fs::remove_file(format!("{}{beside}", live.display()));
        }
        let copy = copies.path().join("copies").join(format!("{store}.db"));
        std::fs::copy(copy, live).unwrap();
    }
    for store in stores {
        hub.restart(store).await.unwrap();
    }
    eventually("the stores to answer", PATIENCE, async || {
        let ready = api::get(&hub.url("/readyz")).await.unwrap();
        if ready.status == 200 {
            Ok(())
        } else {
            Err(ready.text())
        }
    })
    .await
    .unwrap();

    send(&hub, "evt_new", "payout.failed").await;
    delivered(&hub, "evt_new").await;
    delivered(&hub, "evt_before").await;
    assert_eq!(pages(&hub, "evt_before").await, 1, "it is known");
    let lost = api::get(&hub.url("/events/evt_after")).await.unwrap();
    assert_eq!(lost.status, 404, "what came after the copy is not in it");
}
