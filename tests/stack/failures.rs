//! The four failures of docs/FAILURES.md, and what `memory:` changes: what is guaranteed, held against real processes.

use std::num::NonZeroU64;
use std::process::Stdio;
use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use system_tests::api;
use system_tests::client::{Client, sum, with};
use system_tests::eventually::{PATIENCE, eventually};
use system_tests::hub::{Hub, STRIPE_SECRET};
use system_tests::receiver::{Receiver, Receiving};
use system_tests::stage::Stage as _;
use system_tests::{binaries, repository};
use tokio::net::TcpSocket;
use tokio::process::Command;

/// What the longest demonstration may take on a loaded machine.
const DEMO_PATIENCE: Duration = Duration::from_secs(300);

fn moment(value: &Value) -> Timestamp {
    value.as_str().unwrap().parse().unwrap()
}

async fn distinct(receiver: &Receiver) -> u64 {
    let received = receiver.received().await.unwrap();
    received["distinct"].as_u64().unwrap()
}

async fn received(receiver: &Receiver) -> u64 {
    let received = receiver.received().await.unwrap();
    received["count"].as_u64().unwrap()
}

#[tokio::test]
async fn a_slow_endpoint_is_held_back_and_its_neighbour_does_not_wait_for_it() {
    let hub = Hub::start().await.unwrap();
    let client = Client::of(&hub);
    let good = Receiver::start(&Receiving::default()).await.unwrap();
    let slow = Receiver::start(&Receiving {
        delay_ms: 4_000,
        ..Receiving::default()
    })
    .await
    .unwrap();
    let good_id = client.register(good.url(), &json!({})).await.unwrap();
    let slow_settings = json!({"timeout_ms": 2_000, "max_in_flight": 4});
    let slow_id = client.register(slow.url(), &slow_settings).await.unwrap();

    client.post(20).await.unwrap();
    let arrived = client.delivered(&good_id, 20).await.unwrap();
    client.held_back(&slow_id).await.unwrap();
    let held = client.deliveries(&slow_id).await.unwrap();

    // Nobody waited for the first of the slow ones to be given up.
    let last_good = arrived.iter().map(|delivery| moment(&delivery["ended_at"]));
    let begun = moment(&held.last().unwrap()["created_at"]);
    assert!(last_good.max().unwrap() < begun + SignedDuration::from_millis(2_000));
    assert_eq!(with(&arrived, "attempts_started", 1), 20);
    // Its own limit bounds what finds out that it is slow; the rest uses up no attempt.
    assert_eq!(with(&held, "attempts_started", 0), 16, "{held:?}");
    assert_eq!(with(&held, "waiting_for", "breaker"), 16, "{held:?}");
    let tried = held
        .iter()
        .find(|delivery| delivery["attempts_started"] == 1);
    let tried = tried.unwrap()["delivery_id"].as_str().unwrap();
    let tried = client.delivery(tried).await.unwrap();
    assert_eq!(tried["attempts"][0]["error"], "timeout", "{tried}");

    // Given the time it needs, it gets what was held.
    let patient = json!({"timeout_ms": 30_000, "max_in_flight": 64});
    client.change(&slow_id, &patient).await.unwrap();
    eventually("an answer of the slow one", PATIENCE, async || {
        let deliveries = client.deliveries(&slow_id).await.unwrap();
        match with(&deliveries, "status", "delivered") {
            0 => Err(deliveries),
            _ => Ok(()),
        }
    })
    .await
    .unwrap();
}

#[tokio::test]
async fn a_dead_endpoint_uses_up_no_attempts_and_gets_everything_once_when_it_is_back() {
    let hub = Hub::start().await.unwrap();
    let client = Client::of(&hub);
    // Bound, so that the port stays ours, and refusing, since nothing listens.
    let socket = TcpSocket::new_v4().unwrap();
    socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let url = format!("http://{}/hooks", socket.local_addr().unwrap());
    let id = client.register(&url, &json!({})).await.unwrap();

    client.post(3).await.unwrap();
    client.held_back(&id).await.unwrap();
    client.post(20).await.unwrap();

    let deliveries = client.deliveries(&id).await.unwrap();
    let (held, tried) = deliveries.split_at(20);
    assert_eq!(with(held, "attempts_started", 0), 20, "{held:?}");
    assert_eq!(with(held, "waiting_for", "breaker"), 20, "{held:?}");
    let tried = tried[0]["delivery_id"].as_str().unwrap();
    let tried = client.delivery(tried).await.unwrap();
    assert_eq!(tried["attempts"][0]["error"], "connection_refused");
    eventually("the gauge of open breakers", PATIENCE, async || {
        let metrics = api::get(&hub.url("/metrics/delivery")).await.unwrap();
        let metrics = metrics.text();
        if metrics.contains("\ndelivery_breakers_open 1\n") {
            Ok(())
        } else {
            Err(metrics)
        }
    })
    .await
    .unwrap();

    let back = Receiver::on(socket.listen(1_024).unwrap(), &Receiving::default()).unwrap();
    let arrived = client.delivered(&id, 23).await.unwrap();

    assert_eq!((received(&back).await, distinct(&back).await), (23, 23));
    let found_it_dead = sum(&arrived, "attempts_started") - 23;
    // Three, and the probes before it was back.
    assert!(found_it_dead <= 6, "{found_it_dead} attempts found it dead");
}

#[tokio::test]
async fn an_endpoint_that_fails_every_second_request_gets_everything() {
    let hub = Hub::start().await.unwrap();
    let client = Client::of(&hub);
    let flaky = Receiver::start(&Receiving {
        fail_every: NonZeroU64::new(2),
        ..Receiving::default()
    })
    .await
    .unwrap();
    let id = client.register(flaky.url(), &json!({})).await.unwrap();

    client.post(20).await.unwrap();
    let arrived = client.delivered(&id, 20).await.unwrap();

    assert_eq!(distinct(&flaky).await, 20);
    assert_eq!(received(&flaky).await, sum(&arrived, "attempts_started"));
    let repeated = arrived
        .iter()
        .find(|delivery| delivery["attempts_started"] != 1);
    let repeated = repeated.unwrap()["delivery_id"].as_str().unwrap();
    let repeated = client.delivery(repeated).await.unwrap();
    let first = &repeated["attempts"][0];
    assert_eq!(first["status_code"], 500, "{repeated}");
    // Never before its time: a second after the attempt that failed.
    let (begun, again) = (&first["started_at"], &repeated["attempts"][1]["started_at"]);
    let waited = moment(again).duration_since(moment(begun));
    assert!(waited >= SignedDuration::from_secs(1), "{repeated}");
}

#[tokio::test]
async fn delivery_is_killed_with_accepted_events_undelivered_and_none_is_missing() {
    let hub = Hub::start().await.unwrap();
    let client = Client::of(&hub);
    let receiver = Receiver::start(&Receiving {
        delay_ms: 300,
        ..Receiving::default()
    })
    .await
    .unwrap();
    let id = client.register(receiver.url(), &json!({})).await.unwrap();

    client.post(200).await.unwrap();
    let before = hub.supervisor().pid("delivery").unwrap();
    hub.supervisor().kill("delivery").unwrap();
    let arrived = client.delivered(&id, 200).await.unwrap();

    assert_ne!(hub.supervisor().pid("delivery").unwrap(), before);
    assert_eq!(distinct(&receiver).await, 200);
    let repeated = received(&receiver).await - 200;
    let interrupted = sum(&arrived, "interrupted");
    // What was on its way, and nothing else, may have been received twice.
    assert!(interrupted > 0, "killed when nothing was on its way");
    assert!(repeated <= interrupted, "{repeated} > {interrupted}");
    assert!(interrupted <= 64, "{interrupted} were on their way");
    assert_eq!(
        sum(&arrived, "attempts_started"),
        200 + interrupted,
        "each was sent once more for each interruption"
    );
}

#[tokio::test]
async fn a_202_of_memory_does_not_survive_a_restart_and_readyz_says_so() {
    let hub = Hub::start_with(&[("DELIVERY_DATABASE_URL", "memory:")])
        .await
        .unwrap();
    let client = Client::of(&hub);
    let receiver = Receiver::start(&Receiving {
        hang: true,
        ..Receiving::default()
    })
    .await
    .unwrap();
    let id = client.register(receiver.url(), &json!({})).await.unwrap();
    let page = |id| api::stripe_event(id, "payout.failed");

    let ready = api::get(&hub.url("/readyz")).await.unwrap().json();
    let storage = &ready["dependencies"]["delivery"]["dependencies"]["storage"];
    assert_eq!(storage["durable"], false, "{ready}");
    let accepted = client.post(20).await.unwrap();
    api::post_stripe(hub.gateway_url(), STRIPE_SECRET, page("evt_before"))
        .await
        .unwrap();
    paged(&hub, "evt_before").await;
    hub.kill("delivery").await.unwrap();
    hub.restart("delivery").await.unwrap();

    // Everything of the webhook API is gone, …
    for path in [
        format!("/webhooks/events/{}", accepted[0]),
        format!("/webhooks/endpoints/{id}"),
    ] {
        eventually("it is forgotten", PATIENCE, async || {
            let answer = api::get(&hub.url(&path)).await.unwrap();
            if answer.status == 404 {
                Ok(())
            } else {
                Err(answer.text())
            }
        })
        .await
        .unwrap();
    }
    // … and what event-store holds is not: pages go on, and none goes out twice.
    api::post_stripe(hub.gateway_url(), STRIPE_SECRET, page("evt_after"))
        .await
        .unwrap();
    paged(&hub, "evt_after").await;
    let pages = api::get(&hub.url("/destinations/pagerduty")).await.unwrap();
    assert_eq!(pages.json()["events"].as_array().unwrap().len(), 2);
}

async fn paged(hub: &Hub, event_id: &str) {
    eventually("the page to be delivered", PATIENCE, async || {
        let event = api::get(&hub.url(&format!("/events/{event_id}"))).await;
        let delivered_to = event.unwrap().json()["delivered_to"].take();
        if delivered_to == json!(["pagerduty"]) {
            Ok(())
        } else {
            Err(delivered_to)
        }
    })
    .await
    .unwrap();
}

/// Without the part whose claims take longest to come true; the tests above hold them.
#[tokio::test]
async fn the_demonstration_shows_what_it_promises() {
    let mut demo = Command::new(repository::root().join("scripts/demo-failures"));
    demo.args(["dead", "intermittent", "restart", "memory"])
        .env("BUILT", binaries::folder().await.unwrap())
        .stdin(Stdio::null())
        .kill_on_drop(true);

    let output = tokio::time::timeout(DEMO_PATIENCE, demo.output()).await;
    let output = output.unwrap().unwrap();

    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    let complaints = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{said}\n{complaints}");
    for promise in [
        "20          pending     0           -           waits: breaker",
        "\"count\":23,\"distinct\":23",
        "Accepted 200, missing 0,",
        "\"durable\":false",
        "All as promised.",
    ] {
        assert!(said.contains(promise), "`{promise}` is not in:\n{said}");
    }
}
