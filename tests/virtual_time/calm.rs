//! Then the faults stop, and all must come to an end.

use std::time::Duration;

use anyhow::ensure;
use http::Method;
use rand::RngExt as _;
use schema::delivery::Status;
use schema::webhooks::{DeliveryView, WaitingFor};
use serde_json::Value;
use tokio::time::{Instant, sleep};

use super::driver::Driver;
use super::promises::is_terminal;

/// The longest schedule, and what breakers, Retry-After and those in line before it add.
const PATIENCE: Duration = Duration::from_secs(4 * 24 * 3_600);
const LOOK: Duration = Duration::from_secs(600);
/// How long nothing more is sent then.
const SILENCE: Duration = Duration::from_secs(2 * 3_600);

impl Driver {
    pub(crate) async fn calm_down(&mut self) -> anyhow::Result<()> {
        self.note("the faults stop");
        self.world.net.all_are_well();
        if !self.world.is_up() {
            self.come_back().await?;
        }
        self.enable_all().await?;
        self.until_all_have_ended().await?;
        let before = self.world.net.received();
        sleep(SILENCE).await;
        let after = self.world.net.received();
        ensure!(
            before == after,
            "S8: {} requests after the end",
            after - before
        );
        self.check_everything().await?;
        self.check_pages().await
    }

    async fn enable_all(&self) -> anyhow::Result<()> {
        for endpoint in self.book.living() {
            let path = format!("/webhooks/endpoints/{}/enable", endpoint.id);
            self.world.post(&path, None).await?.told::<Value>(200)?;
        }
        Ok(())
    }

    /// L1, L3, L4: whatever it waited for.
    async fn until_all_have_ended(&mut self) -> anyhow::Result<()> {
        let end = Instant::now() + PATIENCE;
        loop {
            sleep(LOOK).await;
            ensure!(!self.world.has_stopped_itself(), "L1: delivery has stopped");
            let told = self.read(None).await?;
            let mut open = told
                .deliveries
                .iter()
                .filter(|it| !is_terminal(it.status))
                .peekable();
            let Some(one) = open.peek() else {
                return Ok(());
            };
            ensure!(Instant::now() < end, "L1: {one:#?}");
            let held = open.filter(|it| it.waiting_for == Some(WaitingFor::Order));
            let mut held: Vec<_> = held.map(|it| it.endpoint_id.clone()).collect();
            held.sort_unstable();
            held.dedup();
            for endpoint in held {
                let of_it = told
                    .deliveries
                    .iter()
                    .filter(|it| it.endpoint_id == endpoint);
                self.unblock(of_it).await?;
            }
        }
    }

    /// Somebody looks after what a line stopped at.
    async fn unblock<'a>(
        &mut self,
        deliveries: impl Iterator<Item = &'a DeliveryView>,
    ) -> anyhow::Result<()> {
        let canceled = Some("canceled");
        let stuck = deliveries
            .filter(|it| it.status == Status::Exhausted && it.reason.as_deref() != canceled);
        for delivery in stuck {
            let what = if self.rng.random_bool(0.5) {
                "retry"
            } else {
                "cancel"
            };
            let path = format!("/webhooks/deliveries/{}/{what}", delivery.delivery_id);
            let answer = self.world.post(&path, None).await?;
            let status = answer.status;
            ensure!(matches!(status, 202 | 409), "{path}: {status}");
            self.note(format!("{path}: {status}"));
        }
        Ok(())
    }

    /// Every event of the hub that pages was paged, or is on record as not; and the hub's store knows.
    async fn check_pages(&self) -> anyhow::Result<()> {
        let told = self.read(Some("oncall")).await?;
        for page in &self.book.pages {
            let event = told
                .events
                .iter()
                .find(|it| it.source_event_id.as_ref() == Some(page));
            let Some(event) = event else {
                anyhow::bail!("S1: {page} was never taken in");
            };
            if self.book.store_was_lost || event.status != Status::Delivered {
                continue;
            }
            let path = format!("/events/{page}");
            let stored: Value = self
                .world
                .ask_store(Method::GET, &path, None)
                .await?
                .told(200)?;
            ensure!(
                stored["delivered_to"][0] == "pagerduty",
                "reports: {stored}"
            );
        }
        Ok(())
    }
}
