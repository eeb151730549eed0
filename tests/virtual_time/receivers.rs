//! What must hold between what is on record and what destinations saw.

use std::collections::{HashMap, HashSet};

use anyhow::{Context as _, ensure};
use schema::delivery::Status;
use schema::webhooks::{AttemptView, DeliveryView};

use super::driver::Driver;
use super::network::Receipt;
use super::promises::Told;

const INTERRUPTED: &str = "interrupted";

/// By destination's host, then by `webhook-id`.
pub(crate) type Received<'a> = HashMap<(&'a str, &'a str), Vec<&'a Receipt>>;

impl Driver {
    pub(crate) fn by_delivery<'a>(&self, receipts: &'a [Receipt]) -> Received<'a> {
        let mut received = Received::new();
        for receipt in receipts {
            let key = (&*receipt.host, &*receipt.webhook_id);
            received.entry(key).or_default().push(receipt);
        }
        received
    }

    /// S4, S6, S7, S8: what is on record of a delivery is what its destination saw.
    pub(crate) async fn check_attempts(
        &self,
        listed: &DeliveryView,
        received: &Received<'_>,
    ) -> anyhow::Result<Vec<AttemptView>> {
        let path = format!("/webhooks/deliveries/{}", listed.delivery_id);
        let delivery: DeliveryView = self.world.get(&path, None).await?;
        let endpoint = self
            .book
            .endpoint(&delivery.endpoint_id)
            .context("its endpoint")?;
        let received = received.get(&(&*endpoint.host, &*delivery.event_id));
        let received = received.map_or(&[][..], Vec::as_slice);
        let attempts = delivery.attempts.clone().context("its attempts")?;
        let say = |promise: &str| format!("{promise}: {delivery:#?}\n{received:#?}");

        let numbers = attempts.iter().map(|attempt| attempt.number);
        ensure!(numbers.eq(1..=delivery.attempts_started), say("S7"));
        let of = |number| {
            attempts
                .iter()
                .find(|attempt: &&AttemptView| attempt.number == number)
        };
        let mut seen: HashMap<u32, usize> = HashMap::new();
        for receipt in received {
            let attempt = of(receipt.attempt);
            ensure!(attempt.is_some(), say("S6, what arrived was not counted"));
            let sends = seen.entry(receipt.attempt).or_default();
            *sends += 1;
            let resent = attempt.is_some_and(may_be_resent);
            ensure!(
                *sends <= 1 + usize::from(resent),
                say("S6, an attempt arrived more often than it was sent")
            );
            let on_record = attempt.and_then(|attempt| attempt.status_code);
            if receipt.to_the_living {
                ensure!(
                    on_record == receipt.answered,
                    say("S4, an answer is not on record")
                );
            }
        }
        let mut successes = 0;
        for attempt in attempts
            .iter()
            .filter(|attempt| attempt.status_code.is_some())
        {
            let mut receipts = received.iter().rev();
            let receipt = receipts.find(|receipt| receipt.attempt == attempt.number);
            let answered = receipt.and_then(|receipt| receipt.answered);
            ensure!(
                answered == attempt.status_code,
                say("S4, nobody answered so")
            );
            successes += u32::from(attempt.status_code.is_some_and(is_success));
        }
        if delivery.status == Status::Delivered {
            let last = attempts.last().and_then(|attempt| attempt.status_code);
            ensure!(
                last.is_some_and(is_success),
                say("S4, delivered without a 2xx")
            );
        }
        ensure!(
            successes <= delivery.generation + 1,
            say("S8, sent after a 2xx")
        );
        let accepted = received.iter().filter(|receipt| receipt.accepted).count();
        let unanswered = attempts
            .iter()
            .filter(|attempt| is_unanswered(attempt))
            .count();
        let resent = attempts.iter().filter(|attempt| may_be_resent(attempt));
        let once_more = resent.count();
        ensure!(
            accepted <= successes as usize + unanswered + once_more,
            say("S8")
        );
        Ok(attempts)
    }

    /// A strictly ordered endpoint is asked for the events of a line in the order of their acceptance, each until it ends;
    /// what was sent again by hand has a place of its own.
    pub(crate) fn check_order(
        &self,
        told: &Told,
        receipts: &[Receipt],
        scheduled: &HashSet<(&str, &str)>,
    ) -> anyhow::Result<()> {
        let events = told.events.iter().rev().enumerate();
        let events: HashMap<_, _> = events
            .map(|(place, event)| (&*event.event_id, (place, event)))
            .collect();
        for endpoint in self
            .book
            .endpoints
            .iter()
            .filter(|endpoint| endpoint.strict)
        {
            let mut lines: HashMap<Option<&str>, (usize, &str)> = HashMap::new();
            let there = receipts
                .iter()
                .filter(|receipt| receipt.host == endpoint.host);
            for receipt in there {
                let id = &*receipt.webhook_id;
                if !scheduled.contains(&(&*endpoint.id, id)) {
                    continue;
                }
                let (place, event) = *events.get(id).context("S1: it arrived")?;
                let line = event.ordering_key.as_deref();
                if let Some((before, other)) = lines.insert(line, (place, id)) {
                    ensure!(
                        before <= place,
                        "order: {} saw {id} after {other} at {}",
                        endpoint.host,
                        receipt.at
                    );
                }
            }
        }
        Ok(())
    }
}

fn is_success(status: u16) -> bool {
    (200..300).contains(&status)
}

/// Its second sending is on record; or its end is not yet, or never will be.
fn may_be_resent(attempt: &AttemptView) -> bool {
    attempt.resent || attempt.duration_ms.is_none()
}

/// It may have arrived all the same.
fn is_unanswered(attempt: &AttemptView) -> bool {
    let error = attempt.error.as_deref();
    attempt.status_code.is_none()
        && error.is_none_or(|it| matches!(it, INTERRUPTED | "timeout" | "connect"))
}
