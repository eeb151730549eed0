//! Reads event-store's feed and makes deliveries of it (R3).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clients::event_store::FeedError;
use jiff::Timestamp;
use schema::feed::{FeedPage, Notice};
use tokio::time::Instant;

use super::backoff::{Backoff, PROMPT};
use super::queues::Index;
use super::{Slot, Worker};
use crate::domain::delivery::{Carried, DeliveryId, Position};
use crate::domain::endpoint::Endpoint;
use crate::domain::intake::{Decision, behind, decide};
use crate::domain::transition::{Input, Life, SkipReason, State, transition};
use crate::error::Error;
use crate::storage::{Intake, LANE, NewDelivery, Stored};

/// Notices a page: with their deliveries and first attempts about 512 rows, one commit.
const PAGE: usize = 128;
/// How long event-store holds a poll when there is nothing new.
const POLL: Duration = Duration::from_secs(20);

/// A delivery of a page, and the slot of its first attempt where one was free.
struct Planned {
    endpoint: Index,
    slot: Option<Slot>,
    new: NewDelivery,
}

impl Worker {
    pub(super) async fn run_intake(self: &Arc<Self>) -> Result<(), Error> {
        let mut token = self.outside.storage.cursor(LANE).await?;
        let mut backoff = Backoff::up_to(PROMPT);
        loop {
            match self.take_in(&mut token).await {
                Ok(()) => backoff.reset(),
                Err(fault) => {
                    self.note_feed_fault(&fault);
                    backoff.wait().await;
                }
            }
        }
    }

    /// One page: reads it, decides, commits, and sends what has a slot.
    async fn take_in(self: &Arc<Self>, token: &mut Option<String>) -> Result<(), FeedError> {
        let event_store = &self.outside.event_store;
        let page = match event_store.feed(token.as_deref(), PAGE, POLL).await {
            Ok(page) => page,
            Err(fault @ (FeedError::Diverged | FeedError::TooOld)) if token.is_some() => {
                self.start_again(&fault);
                *token = None;
                return Ok(());
            }
            Err(fault) => return Err(fault),
        };
        self.note_feed_read(&page);
        if token.as_deref() == Some(&*page.next) {
            return Ok(());
        }
        let next = page.next.clone();
        // A task, so that a page that is being committed at the shutdown is also sent.
        let stored = self.attempts.spawn(Arc::clone(self).store(page)).await;
        stored.map_err(|fault| clients::event_store::Error::Unavailable(fault.to_string()))?;
        *token = Some(next);
        Ok(())
    }

    /// Reading again from the oldest is harmless: what is known is not inserted again.
    fn start_again(&self, fault: &FeedError) {
        let reason = if *fault == FeedError::TooOld {
            tracing::error!(
                "the feed was pruned past our cursor, events may have been missed; reading from the oldest"
            );
            "too_old"
        } else {
            tracing::warn!("the feed has another history than our cursor; reading from the oldest");
            "diverged"
        };
        let restarts = &self.outside.vitals.feed_restarts;
        restarts.with_label_values(&[reason]).inc();
    }

    /// Commits a page, however long that takes, and starts what is to be sent.
    async fn store(self: Arc<Self>, page: FeedPage) {
        let now = self.now();
        let planned: Vec<Planned> = page
            .notices
            .into_iter()
            .flat_map(|notice| self.plan(notice, now))
            .collect();
        let intake = Intake {
            lane: LANE,
            epoch: self.epoch,
            cursor: page.next,
            deliveries: planned.iter().map(|planned| planned.new.clone()).collect(),
            now,
        };
        let Some(positions) = self.commit(intake).await else {
            return;
        };
        for (planned, position) in planned.into_iter().zip(positions) {
            match position {
                Some(position) => self.set_going(planned, position, now),
                // Known: event-store may have to be told again.
                None => self.outcomes.notify_one(),
            }
        }
    }

    /// Tries until the store takes the page, or never will, or the process stops.
    async fn commit(&self, intake: Intake) -> Option<Vec<Option<Position>>> {
        let mut backoff = Backoff::up_to(PROMPT);
        let mut told = false;
        loop {
            match self.outside.storage.intake(intake.clone()).await {
                Ok(positions) => return Some(positions),
                // Its cursor was not moved: the next start reads the page again.
                Err(Error::Passing(_)) if self.attempts.is_closed() => return None,
                Err(fault @ Error::Passing(_)) => {
                    if !told {
                        tracing::warn!(%fault, "a page of the feed is not taken in, trying again");
                    }
                    told = true;
                    backoff.wait().await;
                }
                Err(fault) => {
                    self.note_fault(&fault);
                    return None;
                }
            }
        }
    }

    /// What each endpoint makes of a notice.
    fn plan(self: &Arc<Self>, notice: Notice, now: Timestamp) -> Vec<Planned> {
        let decisions: Vec<(Index, Decision)> = self
            .outside
            .endpoints
            .iter()
            .map(|endpoint| decide(&notice, &endpoint.endpoint_id, now))
            .enumerate()
            .filter(|(_, decision)| *decision != Decision::Pass)
            .collect();
        let event = Carried {
            event_id: notice.event_id,
            revision: notice.revision,
            correlation_id: notice.correlation_id,
            stored_at: notice.stored_at,
            payload: Bytes::from(Box::<str>::from(notice.event).into_boxed_bytes()),
        };
        let planned = decisions.into_iter().filter_map(|(index, decision)| {
            let endpoint = self.endpoint(index)?;
            let (life, slot) = self.first_count(index, endpoint, decision, now);
            let new = NewDelivery {
                delivery_id: DeliveryId::mint(LANE, now),
                event: event.clone(),
                endpoint_id: Arc::clone(&endpoint.endpoint_id),
                life,
                untold: decision != Decision::Skip(SkipReason::AlreadyDelivered),
            };
            Some(Planned {
                endpoint: index,
                slot,
                new,
            })
        });
        planned.collect()
    }

    /// Where a slot is free, the intake's commit carries the first count (R4).
    fn first_count(
        self: &Arc<Self>,
        index: Index,
        endpoint: &Endpoint,
        decision: Decision,
        now: Timestamp,
    ) -> (Life, Option<Slot>) {
        if let Decision::Skip(reason) = decision {
            return (Life::skipped(reason), None);
        }
        let life = Life::accepted(&endpoint.policy, now);
        let Some(slot) = Slot::reserve(self, index) else {
            return (life, None);
        };
        let input = Input::Start {
            epoch: self.epoch,
            alone: false,
        };
        let (started, _) = transition(&life, input, &endpoint.policy, now, &mut rand::rng());
        let slot = started.open.map(|_| slot);
        (started, slot)
    }

    fn set_going(self: &Arc<Self>, planned: Planned, position: Position, now: Timestamp) {
        let Planned {
            endpoint,
            slot,
            new,
        } = planned;
        let Some(due_at) = new.life.due_at else {
            self.tell_skipped(&new);
            return self.outcomes.notify_one();
        };
        let Some(slot) = slot else {
            return self.enqueue(endpoint, position, due_at, false);
        };
        let stored = Stored {
            position,
            delivery_id: new.delivery_id,
            endpoint_id: new.endpoint_id,
            life: new.life,
            created_at: now,
            event: new.event,
        };
        self.go(position, Arc::clone(self).send_and_record(slot, stored));
    }

    /// One that somebody has already is as it should be; one that is too old is a page that nobody got.
    fn tell_skipped(&self, new: &NewDelivery) {
        let state = new.life.state;
        let reason = state.reason().unwrap_or_default();
        let skipped = &self.outside.vitals.skipped;
        skipped.with_label_values(&[reason]).inc();
        if state == State::Skipped(SkipReason::TooOld) {
            tracing::warn!(
                correlation_id = %new.event.correlation_id, event_id = %new.event.event_id,
                delivery_id = %new.delivery_id, stored_at = %new.event.stored_at, reason, "delivery skipped",
            );
        } else {
            tracing::info!(
                correlation_id = %new.event.correlation_id, event_id = %new.event.event_id,
                delivery_id = %new.delivery_id, reason, "delivery skipped",
            );
        }
    }

    fn note_feed_read(&self, page: &FeedPage) {
        let vitals = &self.outside.vitals;
        vitals
            .feed_behind
            .set(i64::try_from(behind(page)).unwrap_or(i64::MAX));
        vitals.note(|facts| {
            facts.feed_read_at = Some(Instant::now());
            facts.feed_fault = None;
        });
    }

    fn note_feed_fault(&self, fault: &FeedError) {
        self.outside.vitals.note(|facts| {
            if facts.feed_fault.is_none() {
                tracing::warn!(%fault, "the feed cannot be read, trying again");
            }
            facts.feed_fault = Some(fault.to_string());
        });
    }
}
