//! Deliveries to containers of `signalpost listen` that are slow, dead or fail now and then, and a delivery that is killed.

use anyhow::ensure;
use serde_json::{Value, json};
use system_tests::api;
use system_tests::client::{Client, sum, with};
use system_tests::containers::{Containers, RECEIVERS_PORT};
use system_tests::eventually::{PATIENCE, eventually};
use system_tests::stage::Stage as _;

use crate::ONE_AT_A_TIME;

/// All and distinct requests of a receiver, which verified each.
async fn counts(containers: &Containers, receiver: &str) -> anyhow::Result<(Value, Value)> {
    let mut received = containers.received(receiver).await?;
    ensure!(received["refused"] == 0, "a signature was refused");
    Ok((received["count"].take(), received["distinct"].take()))
}

fn url(receiver: &str) -> String {
    format!("http://{receiver}:{RECEIVERS_PORT}/hooks")
}

fn settings(containers: &Containers, more: &Value) -> Value {
    let mut settings = json!({"secret": containers.listen_secret()});
    for (name, value) in more.as_object().into_iter().flatten() {
        settings[name] = value.clone();
    }
    settings
}

#[tokio::test]
async fn a_signed_event_arrives_in_another_container() -> anyhow::Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let containers = Containers::from_env()?;
    let client = Client::of(&containers);
    let id = client
        .register(&url("receiver"), &settings(&containers, &json!({})))
        .await?;

    let events = client.post(1).await?;
    client.delivered(&id, 1).await?;

    let received = containers.received("receiver").await?;
    let newest = &received["received"][0];
    assert_eq!(newest["webhook_id"], *events[0]);
    assert_eq!(newest["signature"], "valid");
    assert_eq!(newest["path"], "/hooks");
    Ok(())
}

#[tokio::test]
async fn a_slow_container_is_held_back_and_its_neighbour_does_not_wait_for_it() -> anyhow::Result<()>
{
    let _alone = ONE_AT_A_TIME.lock().await;
    let containers = Containers::from_env()?;
    let client = Client::of(&containers);
    let good = client
        .register(&url("receiver"), &settings(&containers, &json!({})))
        .await?;
    let limits = settings(
        &containers,
        &json!({"timeout_ms": 2_000, "max_in_flight": 4}),
    );
    let slow = client.register(&url("slow-receiver"), &limits).await?;

    client.post(20).await?;
    let arrived = client.delivered(&good, 20).await?;
    client.held_back(&slow).await?;
    let held = client.deliveries(&slow).await?;

    assert_eq!(with(&arrived, "attempts_started", 1), 20);
    assert_eq!(with(&held, "attempts_started", 0), 16, "{held:?}");
    assert_eq!(with(&held, "waiting_for", "breaker"), 16, "{held:?}");
    Ok(())
}

#[tokio::test]
async fn a_stopped_container_gets_everything_once_when_it_is_back() -> anyhow::Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let containers = Containers::from_env()?;
    let client = Client::of(&containers);
    let id = client
        .register(&url("receiver"), &settings(&containers, &json!({})))
        .await?;
    containers.kill("receiver").await?;

    client.post(3).await?;
    client.held_back(&id).await?;
    client.post(20).await?;
    let deliveries = client.deliveries(&id).await?;
    let held = &deliveries[..20];
    assert_eq!(with(held, "attempts_started", 0), 20, "{held:?}");
    assert_eq!(with(held, "waiting_for", "breaker"), 20, "{held:?}");
    containers.restart("receiver").await?;
    client.delivered(&id, 23).await?;

    // It counts from nought after its restart.
    let (count, distinct) = counts(&containers, "receiver").await?;
    assert_eq!((count, distinct), (json!(23), json!(23)));
    Ok(())
}

#[tokio::test]
async fn a_container_that_fails_every_second_request_gets_everything() -> anyhow::Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let containers = Containers::from_env()?;
    let client = Client::of(&containers);
    let id = client
        .register(&url("flaky-receiver"), &settings(&containers, &json!({})))
        .await?;

    client.post(20).await?;
    let arrived = client.delivered(&id, 20).await?;

    let started = sum(&arrived, "attempts_started");
    let (count, distinct) = counts(&containers, "flaky-receiver").await?;
    assert_eq!((count, distinct), (json!(started), json!(20)));
    Ok(())
}

#[tokio::test]
async fn delivery_is_killed_with_accepted_events_undelivered_and_none_is_missing()
-> anyhow::Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let containers = Containers::from_env()?;
    let client = Client::of(&containers);
    let id = client
        .register(&url("busy-receiver"), &settings(&containers, &json!({})))
        .await?;

    client.post(40).await?;
    containers.kill("delivery").await?;
    containers.restart("delivery").await?;
    eventually("delivery answers again", PATIENCE, async || {
        let url = format!("{}/webhooks/endpoints/{id}", containers.gateway_url());
        let answer = api::get(&url).await.map_err(|fault| format!("{fault:#}"))?;
        if answer.status == 200 {
            Ok(())
        } else {
            Err(answer.text())
        }
    })
    .await?;
    let arrived = client.delivered(&id, 40).await?;

    let (count, distinct) = counts(&containers, "busy-receiver").await?;
    let repeated = count.as_u64().unwrap_or_default() - 40;
    let interrupted = sum(&arrived, "interrupted");
    assert_eq!(distinct, 40);
    assert!(interrupted > 0, "killed when nothing was on its way");
    assert!(repeated <= interrupted, "{repeated} > {interrupted}");
    assert!(interrupted <= 64, "{interrupted} were on their way");
    Ok(())
}
