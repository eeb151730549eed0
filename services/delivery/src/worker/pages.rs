//! A page is loud (R11): one that was not delivered is told of at once, at every start and every hour, until it is.

use std::time::Duration;

use jiff::Timestamp;
use tokio::time::Instant;

use super::Worker;
use super::registry::Live;
use super::vitals::age_s;
use crate::domain::ids::EndpointId;
use crate::domain::pages::{LATE, Undelivered};
use crate::domain::transition::{ExhaustReason, Life, State};
use crate::error::Error;
use crate::storage::{LANE, Stored};

const LOOK_EVERY: Duration = Duration::from_secs(1);
const TELL_EVERY: Duration = Duration::from_secs(3_600);

impl Worker {
    /// The store is the truth: what is undelivered is looked for there, whoever was to send it.
    pub(super) async fn run_pages(&self) -> Result<(), Error> {
        let mut told_at = None;
        loop {
            match self.look_at_pages().await {
                Ok(undelivered) => told_at = tell(&undelivered, told_at, self.now()),
                Err(fault) if fault.is_final() => return Err(fault),
                // Said by the store; what was found last stands, and grows older.
                Err(_) => {}
            }
            tokio::time::sleep(LOOK_EVERY).await;
        }
    }

    async fn look_at_pages(&self) -> Result<Undelivered, Error> {
        let Some(live) = self.registry.by_id(&EndpointId::pagerduty()) else {
            return Ok(Undelivered::default());
        };
        let endpoint = &live.endpoint;
        let late_before = self.now().saturating_sub(LATE).unwrap_or(Timestamp::MIN);
        let storage = &self.outside.storage;
        let groups = storage
            .undelivered(LANE, endpoint.position, late_before)
            .await?;
        let undelivered = Undelivered::of(&groups, endpoint.disabled.is_some());
        self.outside.vitals.note(|facts| {
            facts.pages = undelivered.clone();
            facts.pages_at = Some(Instant::now());
        });
        Ok(undelivered)
    }

    /// Once for each page: at the first attempt that fails.
    pub(super) fn tell_failing_page(&self, live: &Live, stored: &Stored, error: &'static str) {
        if !is_page(live, stored) || stored.life.finished > 0 {
            return;
        }
        self.outside.vitals.count_failed_page(error);
        let source_event_id = stored.event.source.as_ref();
        let source_event_id = source_event_id.map(|source| source.event_id.as_str());
        tracing::warn!(
            correlation_id = %stored.event.correlation_id, event_id = %stored.event.event_id, source_event_id,
            delivery_id = %stored.delivery_id, error, "page not delivered, trying again",
        );
    }

    /// Of a change that is durable: a page that was given up with it is counted, and one that somebody canceled is told.
    /// Others that are given up have their line as every delivery.
    pub(super) fn tell_ended_page(&self, live: &Live, stored: &Stored, life: &Life) {
        let State::Exhausted(reason) = life.state else {
            return;
        };
        if !is_page(live, stored) || stored.life.state == life.state {
            return;
        }
        self.outside.vitals.count_failed_page(reason.as_str());
        if reason == ExhaustReason::Canceled {
            tracing::warn!(
                correlation_id = %stored.event.correlation_id, event_id = %stored.event.event_id,
                delivery_id = %stored.delivery_id, "page canceled",
            );
        }
    }
}

fn is_page(live: &Live, stored: &Stored) -> bool {
    live.endpoint.endpoint_id.is_built_in() && stored.event.source.is_some()
}

/// Where something is undelivered and was not before, or was told an hour ago. Answers when it was told last.
fn tell(undelivered: &Undelivered, told_at: Option<Instant>, now: Timestamp) -> Option<Instant> {
    if undelivered.count == 0 {
        return None;
    }
    if told_at.is_some_and(|told_at| told_at.elapsed() < TELL_EVERY) {
        return told_at;
    }
    let oldest_age_s = age_s(undelivered.oldest, now);
    tracing::warn!(
        undelivered = undelivered.count, oldest_age_s, why = %undelivered, "pages are not delivered",
    );
    Some(Instant::now())
}
