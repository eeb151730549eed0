//! Reads event-store's feed: routed events of the hub are events of the client `oncall` (R3).

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clients::event_store::FeedError;
use jiff::Timestamp;
use schema::feed::{FeedPage, Notice};
use tokio::time::Instant;

use super::Worker;
use super::backoff::{Backoff, PROMPT};
use super::post::Plan;
use crate::domain::admission::{Decision, behind, decide};
use crate::domain::delivery::{Carried, Source};
use crate::domain::endpoint::{ONCALL, PAGE_TYPE};
use crate::domain::ids::EventId;
use crate::domain::transition::SkipReason;
use crate::error::Error;
use crate::storage::{Accepted, FeedEvent, Intake, KnownAs, LANE, NewEvent};

/// Rows of one page, with deliveries and first attempts: about one commit.
const PAGE_ROWS: usize = 384;
/// How long event-store holds a poll when there is nothing new.
const POLL: Duration = Duration::from_secs(20);

/// An event of a page with its plan.
struct Planned {
    event: NewEvent,
    told: Vec<String>,
    plan: Plan,
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
        // Nothing in one commit grows with the fan-out (R1).
        let limit = PAGE_ROWS / (2 + 2 * self.endpoints_of(ONCALL).len());
        let page = match event_store.feed(token.as_deref(), limit.max(1), POLL).await {
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
        let mut backoff = Backoff::up_to(PROMPT);
        let mut told = false;
        loop {
            let planned: Vec<Planned> = page
                .notices
                .iter()
                .filter_map(|notice| self.plan_notice(notice))
                .collect();
            match self
                .outside
                .storage
                .take_in(self.page(&page, &planned))
                .await
            {
                Ok(Some(accepted)) => {
                    for (planned, accepted) in planned.into_iter().zip(accepted) {
                        self.set_page_going(planned, &accepted);
                    }
                    return;
                }
                Ok(None) => {
                    drop_slots(planned);
                    if let Err(fault) = self.read_endpoints().await {
                        self.note_fault(&fault);
                        backoff.wait().await;
                    }
                }
                // Its cursor was not moved: the next start reads the page again.
                Err(Error::Passing(_) | Error::OverShare) if self.attempts.is_closed() => {
                    return drop_slots(planned);
                }
                Err(fault @ (Error::Passing(_) | Error::OverShare)) => {
                    drop_slots(planned);
                    if !told {
                        tracing::warn!(%fault, "a page of the feed is not taken in, trying again");
                    }
                    told = true;
                    backoff.wait().await;
                }
                Err(fault) => {
                    self.note_fault(&fault);
                    return drop_slots(planned);
                }
            }
        }
    }

    fn page(&self, page: &FeedPage, planned: &[Planned]) -> Intake {
        let client_id: Arc<str> = ONCALL.into();
        let events = planned.iter().map(|planned| FeedEvent {
            accept: self.accept(&client_id, &planned.event, &planned.plan),
            told: planned.told.clone(),
        });
        Intake {
            lane: LANE,
            epoch: self.epoch,
            cursor: page.next.clone(),
            events: events.collect(),
            now: self.now(),
        }
    }

    /// `None` where the notice asks nothing of anybody.
    fn plan_notice(self: &Arc<Self>, notice: &Notice) -> Option<Planned> {
        let now = self.now();
        if decide(notice, "", now) == Decision::Pass {
            return None;
        }
        let event = event_of(notice, now);
        let plan = self.plan(ONCALL, &event, None, |live| {
            match decide(notice, live.endpoint.endpoint_id.as_str(), now) {
                // While it is disabled by hand, pages wait for it whatever their age.
                Decision::Skip(SkipReason::TooOld) if live.endpoint.disabled.is_some() => None,
                Decision::Skip(reason) => Some(reason),
                Decision::Send | Decision::Pass => None,
            }
        });
        Some(Planned {
            event,
            told: notice.delivered_to.clone(),
            plan,
        })
    }

    fn set_page_going(self: &Arc<Self>, planned: Planned, accepted: &Accepted) {
        match accepted {
            Accepted::New(placed) => {
                let reports = planned.plan.planned.iter().any(|planned| {
                    let reason = planned.new.life.state.reason();
                    reason.is_some_and(|reason| reason != SkipReason::AlreadyDelivered.as_str())
                });
                self.set_going(planned.plan, placed, &planned.event.carried);
                if reports {
                    self.outcomes.notify_one();
                }
            }
            // Known: event-store may have to be told again.
            _ => {
                planned.plan.drop_slots();
                self.outcomes.notify_one();
            }
        }
    }

    fn note_feed_read(&self, page: &FeedPage) {
        let vitals = &self.outside.vitals;
        vitals
            .feed_behind
            .set(i64::try_from(behind(page)).unwrap_or(i64::MAX));
        let last = page.notices.last().map(|notice| notice.stored_at);
        vitals.note(|facts| {
            // What is next is at most as old as the last that was read.
            facts.unread_since = last.filter(|_| behind(page) > 0);
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

fn drop_slots(planned: Vec<Planned>) {
    for planned in planned {
        planned.plan.drop_slots();
    }
}

/// What is sent is what was stored, byte for byte (R9).
fn event_of(notice: &Notice, now: Timestamp) -> NewEvent {
    let event_id = &notice.event_id;
    let key = match notice.revision {
        0 => event_id.to_string(),
        revision => format!("{event_id}#{revision}"),
    };
    NewEvent {
        carried: Carried {
            event_id: EventId::mint(LANE, now),
            event_type: PAGE_TYPE.to_owned(),
            correlation_id: notice.correlation_id.clone(),
            source: Some(Source {
                event_id: event_id.clone(),
                revision: notice.revision,
                stored_at: notice.stored_at,
            }),
            operational: false,
            payload: Bytes::copy_from_slice(notice.event.get().as_bytes()),
        },
        ordering_key: None,
        occurred_at: None,
        // An event and its revision are the same whatever else is told of them.
        known_as: Some(KnownAs::Page(key)),
    }
}
