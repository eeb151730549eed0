//! Deliveries to containers of `signalpost listen` that are slow, dead or fail now and then, and a delivery that is killed.

use anyhow::ensure;
use serde_json::{Value, json};
use system_tests::api;
use system_tests::client::{Client, sum, with};
use system_tests::containers::{Containers, RECEIVERS_PORT};
use system_tests::eventually::{PATIENCE, eventually};
use system_tests::stage::Stage as _;

use crate::ONE_AT_A_TIME;

/// What a receiver counted since a moment; the tests share the receivers.
struct Counted {
    receiver: &'static str,
    count: u64,
    distinct: u64,
}

impl Counted {
    async fn so_far(containers: &Containers, receiver: &'static str) -> anyhow::Result<Self> {
        let received = containers.received(receiver).await?;
        ensure!(received["refused"] == 0, "a signature was refused");
        let number = |field| received[field].as_u64().unwrap_or_default();
        Ok(Self {
            receiver,
            count: number("count"),
            distinct: number("distinct"),
        })
    }

    /// All and distinct ones, since.
    async fn since(&self, containers: &Containers) -> anyhow::Result<(u64, u64)> {
        let now = Self::so_far(containers, self.receiver).await?;
        Ok((now.count - self.count, now.distinct - self.distinct))
    }
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
    let received = containers.received("receiver").await?;
    assert_eq!(
        (&received["count"], &received["distinct"]),
        (&json!(23), &json!(23))
    );
    Ok(())
}

#[tokio::test]
async fn a_container_that_fails_every_second_request_gets_everything() -> anyhow::Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let containers = Containers::from_env()?;
    let client = Client::of(&containers);
    let counted = Counted::so_far(&containers, "flaky-receiver").await?;
    let id = client
        .register(&url("flaky-receiver"), &settings(&containers, &json!({})))
        .await?;

    client.post(20).await?;
    let arrived = client.delivered(&id, 20).await?;

    let (count, distinct) = counted.since(&containers).await?;
    assert_eq!(
        (count, distinct),
        (sum(&arrived, "attempts_started"), 20),
        "{arrived:?}"
    );
    Ok(())
}

#[tokio::test]
async fn delivery_is_killed_with_accepted_events_undelivered_and_none_is_missing()
-> anyhow::Result<()> {
    let _alone = ONE_AT_A_TIME.lock().await;
    let containers = Containers::from_env()?;
    let client = Client::of(&containers);
    let counted = Counted::so_far(&containers, "slow-receiver").await?;
    let id = client
        .register(&url("slow-receiver"), &settings(&containers, &json!({})))
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

    let (count, distinct) = counted.since(&containers).await?;
    let interrupted = sum(&arrived, "interrupted");
    assert_eq!(distinct, 40);
    assert!(count - 40 <= interrupted, "{count} came, of 40");
    assert!(interrupted <= 64, "{interrupted} were on their way");
    Ok(())
}
