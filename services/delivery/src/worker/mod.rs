//! The owner of the lane: takes in, sends, records, reports. One process, one schedule, in memory.
//!
//! ```text
//! feed ─► intake ─commit─► (slot free) ─────────────► send ─commit─► outcome ─► reports ─► event-store
//!                     └──► queues ─► dispatch ─commit──┘ │
//!                            ▲                           │
//!                            └────────── due later ──────┘
//! ```
//!
//! Each attempt is a task of its own and holds a slot of its endpoint, so that a slow destination holds nobody else up.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use clients::event_store::EventStore;
use jiff::Timestamp;
use reqwest_middleware::ClientWithMiddleware;
use runtime::clock::Clock;
use tokio::sync::{Notify, watch};
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::domain::delivery::Position;
use crate::domain::endpoint::Endpoint;
use crate::error::Error;
use crate::storage::{Epoch, LANE, Storage};
use attempt::Left;
use queues::{Index, Queues, Turn};
use vitals::{Vitals, age_s, whole_s};

mod attempt;
mod backoff;
mod dispatch;
mod intake;
mod queues;
mod recovery;
mod reports;
mod retention;
#[cfg(test)]
mod tests;
pub mod vitals;

/// How long attempts on their way may go on after the shutdown; what takes longer is given back.
const GRACE: Duration = Duration::from_secs(10);
/// To put on record what was given back.
const GIVE_BACK: Duration = Duration::from_secs(2);
const GAUGE_INTERVAL: Duration = Duration::from_secs(1);

/// What the worker needs from outside.
pub struct Outside {
    pub storage: Arc<dyn Storage>,
    pub event_store: EventStore,
    /// Sends to destinations, one try each.
    pub http: ClientWithMiddleware,
    pub clock: Clock,
    pub endpoints: Vec<Endpoint>,
    /// Ended deliveries leave after this.
    pub retention: jiff::SignedDuration,
    pub vitals: Arc<Vitals>,
}

pub struct Worker {
    outside: Outside,
    epoch: Epoch,
    queues: Mutex<Queues>,
    /// Something may be due, or a slot is free.
    look_again: Notify,
    /// There are outcomes to report.
    outcomes: Notify,
    attempts: TaskTracker,
    /// The grace is over: attempts on their way are given back.
    give_back: CancellationToken,
    /// Why the process must stop, said by whichever task saw it first.
    failure: watch::Sender<Option<Error>>,
}

impl Worker {
    /// Takes the lane, with an epoch above every earlier one, and learns what is open.
    pub async fn start(outside: Outside) -> Result<Arc<Self>, Error> {
        let owner = format!("pid {}", std::process::id());
        let epoch = outside
            .storage
            .take_lane(LANE, &owner, outside.clock.now())
            .await?;
        let limits: Vec<_> = outside
            .endpoints
            .iter()
            .map(|endpoint| (endpoint.max_in_flight, endpoint.policy.longest_wait()))
            .collect();
        let worker = Arc::new(Self {
            outside,
            epoch,
            queues: Mutex::new(Queues::new(limits)),
            look_again: Notify::new(),
            outcomes: Notify::new(),
            attempts: TaskTracker::new(),
            give_back: CancellationToken::new(),
            failure: watch::Sender::new(None),
        });
        worker.recover().await?;
        Ok(worker)
    }

    /// Works until the token is cancelled, then lets attempts on their way finish, within the grace.
    pub async fn run(self: Arc<Self>, shutdown: CancellationToken) -> Result<(), Error> {
        let mut failure = self.failure.subscribe();
        let outcome = tokio::select! {
            outcome = async {
                tokio::try_join!(
                    self.run_intake(),
                    self.run_dispatch(),
                    self.run_reports(),
                    self.run_retention(),
                    self.run_gauges(),
                )
            } => outcome.map(drop),
            // An error here is that every sender is gone, and one is in `self`.
            Ok(failure) = failure.wait_for(Option::is_some) => failure.clone().map_or(Ok(()), Err),
            () = shutdown.cancelled() => Ok(()),
        };
        if matches!(outcome, Err(Error::Broken(_))) {
            // Nothing that still comes in could be recorded.
            return outcome;
        }
        self.attempts.close();
        if tokio::time::timeout(GRACE, self.attempts.wait())
            .await
            .is_err()
        {
            tracing::warn!(
                left = self.attempts.len(),
                "attempts take longer than the grace, they are given back"
            );
            self.give_back.cancel();
            // What is not on record by then is interrupted at the next start.
            let _late = tokio::time::timeout(GIVE_BACK, self.attempts.wait()).await;
        }
        outcome
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn endpoint(&self, index: Index) -> Option<&Endpoint> {
        self.outside.endpoints.get(index)
    }

    fn index_of(&self, endpoint_id: &str) -> Option<Index> {
        self.outside
            .endpoints
            .iter()
            .position(|endpoint| *endpoint.endpoint_id == *endpoint_id)
    }

    fn now(&self) -> Timestamp {
        self.outside.clock.now()
    }

    fn enqueue(&self, endpoint: Index, position: Position, due_at: Timestamp, suspect: bool) {
        self.queues()
            .insert(endpoint, position, due_at, suspect, self.now());
        self.look_again.notify_one();
    }

    /// Counts a refused write; a final fault stops the process, any other leaves the delivery astray.
    fn note_fault(&self, error: &Error) -> Left {
        if matches!(error, Error::Fenced { .. } | Error::Stale) {
            self.outside.vitals.refused.inc();
        }
        if error.is_final() {
            self.failure.send_replace(Some(error.clone()));
            return Left::Settled;
        }
        Left::Astray
    }

    async fn run_gauges(&self) -> Result<(), Error> {
        loop {
            let (now, vitals) = (self.now(), &self.outside.vitals);
            let facts = vitals.facts();
            let (oldest, open) = {
                let queues = self.queues();
                (queues.oldest(), queues.open())
            };
            vitals.open.set(i64::try_from(open).unwrap_or(i64::MAX));
            vitals.oldest_due_age_s.set(age_s(oldest, now));
            let feed_age = vitals.since(facts.feed_read_at);
            vitals.feed_age_s.set(whole_s(feed_age));
            let retention_age = vitals.since(facts.retired_at);
            vitals.retention_age_s.set(whole_s(retention_age));
            vitals.reports_age_s.set(age_s(facts.unreported_since, now));
            tokio::time::sleep(GAUGE_INTERVAL).await;
        }
    }
}

/// A slot of an endpoint, given back when dropped.
struct Slot {
    worker: Arc<Worker>,
    endpoint: Index,
    alone: bool,
}

impl Slot {
    /// Takes over the slot that [`Queues::take`] took.
    fn of_turn(worker: &Arc<Worker>, turn: Turn) -> Self {
        Self {
            worker: Arc::clone(worker),
            endpoint: turn.endpoint,
            alone: turn.alone,
        }
    }

    /// Takes a free one for a delivery that is not queued.
    fn reserve(worker: &Arc<Worker>, endpoint: Index) -> Option<Self> {
        worker.queues().reserve(endpoint).then(|| Self {
            worker: Arc::clone(worker),
            endpoint,
            alone: false,
        })
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        if self.worker.queues().release(self.endpoint, self.alone) {
            self.worker.look_again.notify_one();
        }
    }
}
