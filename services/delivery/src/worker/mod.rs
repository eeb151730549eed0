//! The owner of the lane: takes in, sends, records, reports. One process, one schedule, in memory.
//!
//! ```text
//! feed, callers ─► post ─commit─► (slot free) ────────► send ─commit─► outcome ─► reports ─► event-store
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
use runtime::clock::Clock;
use schema::webhooks::WaitingFor;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use crate::domain::endpoint::Endpoint;
use crate::domain::ids::{EndpointId, Position};
use crate::domain::now::Now;
use crate::domain::queues::{Capacity, Queues};
use crate::domain::requests::Defaults;
use crate::error::Error;
use crate::storage::{Client, Epoch, LANE, Storage, Summary};
use attempt::Left;
use registry::Registry;
use send::Senders;
use slot::Slot;
use vitals::{Vitals, age_s, whole_s};

mod attempt;
mod backoff;
mod behind;
mod chance;
mod commands;
mod dispatch;
mod doors;
mod endpoints;
mod intake;
mod jobs;
mod operational;
mod pages;
mod post;
mod recovery;
pub mod registry;
mod reports;
mod retention;
pub mod send;
mod slot;
#[cfg(test)]
mod tests;
pub mod vitals;

pub use chance::Chance;
pub use commands::CommandFault;
pub use doors::OwnDoors;
pub use post::{Incoming, PostFault, Posted};

/// How long attempts on their way may go on after the shutdown; what takes longer is given back.
const GRACE: Duration = Duration::from_secs(10);
/// To put on record what was given back.
const GIVE_BACK: Duration = Duration::from_secs(2);
const GAUGE_INTERVAL: Duration = Duration::from_secs(1);

/// What the worker needs from outside.
pub struct Outside {
    pub storage: Arc<dyn Storage>,
    pub event_store: EventStore,
    pub senders: Senders,
    /// Where nothing of a client's is sent.
    pub doors: Arc<OwnDoors>,
    pub clock: Clock,
    pub chance: Chance,
    pub defaults: Defaults,
    pub bounds: Bounds,
    /// Ended deliveries leave after this.
    pub retention: jiff::SignedDuration,
    pub vitals: Arc<Vitals>,
}

/// How much may be open.
#[derive(Clone, Copy, Debug)]
pub struct Bounds {
    /// In all. Beyond it nothing is taken.
    pub open: usize,
    /// For one endpoint. Beyond it the endpoint is disabled.
    pub open_of_endpoint: usize,
    /// First attempts of one client that wait for nothing but their turn. Beyond it the client has to wait.
    pub fresh_of_client: usize,
}

pub struct Worker {
    outside: Outside,
    epoch: Epoch,
    began: Instant,
    registry: Registry,
    /// Held from a change of an endpoint in the store until it is in memory, and while all are read: what was removed does
    /// not come back.
    endpoints_change: tokio::sync::Mutex<()>,
    queues: Mutex<Queues>,
    /// Something may be due, or a slot is free.
    look_again: Notify,
    /// There are outcomes to report.
    outcomes: Notify,
    /// There is a job.
    jobs: Notify,
    attempts: TaskTracker,
    /// The grace is over: attempts on their way are given back.
    give_back: CancellationToken,
    /// Why the process must stop, said by whichever task saw it first.
    failure: watch::Sender<Option<Error>>,
}

/// How an endpoint stands now.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Standing {
    /// Deliveries that are neither ended nor skipped.
    pub open: u64,
    /// `closed`, `open` or `half_open`.
    pub breaker: &'static str,
}

impl Worker {
    /// Takes the lane, with an epoch above every earlier one, and learns who is delivered to and what is open.
    pub async fn start(outside: Outside, built_in: Endpoint) -> Result<Arc<Self>, Error> {
        let owner = format!("pid {}", std::process::id());
        let epoch = outside
            .storage
            .take_lane(LANE, &owner, outside.clock.now())
            .await?;
        let worker = Arc::new(Self {
            outside,
            epoch,
            began: Instant::now(),
            registry: Registry::default(),
            endpoints_change: tokio::sync::Mutex::default(),
            queues: Mutex::new(Queues::new(Capacity::default())),
            look_again: Notify::new(),
            outcomes: Notify::new(),
            jobs: Notify::new(),
            attempts: TaskTracker::new(),
            give_back: CancellationToken::new(),
            failure: watch::Sender::new(None),
        });
        worker.read_endpoints().await?;
        worker.put_built_in(built_in).await?;
        worker.recover_open().await?;
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
                    self.run_jobs(),
                    self.run_retention(),
                    self.run_gauges(),
                    self.run_pages(),
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

    pub fn now(&self) -> Timestamp {
        self.outside.clock.now()
    }

    /// Where nothing of a client's is sent.
    pub fn doors(&self) -> &Arc<OwnDoors> {
        &self.outside.doors
    }

    pub fn defaults(&self) -> &Defaults {
        &self.outside.defaults
    }

    pub fn endpoint(&self, id: &EndpointId) -> Option<Arc<Endpoint>> {
        self.registry
            .by_id(id)
            .map(|live| Arc::clone(&live.endpoint))
    }

    /// Newest first.
    pub fn endpoints_of(&self, client_id: &str) -> Vec<Arc<Endpoint>> {
        self.registry.endpoints_of(client_id)
    }

    /// Every client, with the number of its endpoints, by name.
    pub fn clients(&self) -> Vec<(Client, usize)> {
        self.registry.clients()
    }

    pub fn standing(&self, endpoint: Position) -> Standing {
        let queues = self.queues();
        Standing {
            open: u64::try_from(queues.open_of(endpoint)).unwrap_or(u64::MAX),
            breaker: queues.breaker(endpoint),
        }
    }

    /// What an open delivery waits for; `None` of an ended one.
    pub fn waiting_for(&self, summary: &Summary) -> Option<WaitingFor> {
        let life = &summary.life;
        if life.state.is_terminal() {
            return None;
        }
        if life.open.is_some() {
            return Some(WaitingFor::Answer);
        }
        let due_at = life.due_at.filter(|_| !summary.endpoint_deleted)?;
        let (position, line) = (summary.position, Some(summary.line));
        let queues = self.queues();
        Some(queues.waiting_for(summary.endpoint, due_at, position, line, self.both_clocks()))
    }

    fn queues(&self) -> MutexGuard<'_, Queues> {
        self.queues.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// The wall clock and the time since the start (R7).
    fn both_clocks(&self) -> Now {
        Now {
            wall: self.now(),
            mono: self.began.elapsed(),
        }
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
            let (oldest, open, breakers_open) = {
                let queues = self.queues();
                (queues.oldest_due(), queues.open(), queues.breakers_open())
            };
            vitals.open.set(whole(open));
            vitals.breakers_open.set(whole(breakers_open));
            vitals.oldest_due_age_s.set(age_s(oldest, now));
            let feed_age = vitals.since(facts.feed_read_at);
            vitals.feed_age_s.set(whole_s(feed_age));
            vitals.feed_lag_s.set(age_s(facts.unread_since, now));
            let jobs_age = vitals.since(facts.jobs_at);
            vitals.jobs_age_s.set(whole_s(jobs_age));
            let retention_age = vitals.since(facts.retired_at);
            vitals.retention_age_s.set(whole_s(retention_age));
            vitals.reports_age_s.set(age_s(facts.unreported_since, now));
            vitals.pages_undelivered.set(whole_count(facts.pages.count));
            vitals
                .pages_oldest_age_s
                .set(age_s(facts.pages.oldest, now));
            let pages_age = vitals.since(facts.pages_at);
            vitals.pages_age_s.set(whole_s(pages_age));
            let wal_bytes = self.outside.storage.condition().wal_bytes;
            vitals
                .wal_bytes
                .set(i64::try_from(wal_bytes).unwrap_or(i64::MAX));
            tokio::time::sleep(GAUGE_INTERVAL).await;
        }
    }
}

fn whole(count: usize) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

fn whole_count(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}
