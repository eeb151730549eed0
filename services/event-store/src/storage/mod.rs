//! Where events are kept: one trait, two backends, one conformance suite.

#[cfg(test)]
pub(crate) mod conformance;
mod memory;
mod sqlite;

use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use runtime::clock::Clock;
use schema::EventId;
use schema::delivery::Outcome;
use schema::intake::Resolution;
use tokio::sync::watch;

use crate::config::{Config, Database};
use crate::domain::page::{FeedFiller, Page};
use crate::domain::query::{EventsQuery, FeedQuery};
use crate::domain::record::{Draft, History, Notice};
use crate::domain::retention::Forgotten;
use crate::domain::token::Token;
use crate::error::{Error, FeedError};
use crate::metrics::CommitMetrics;

pub use memory::Memory;
pub use sqlite::Sqlite;

/// The lane of everything, on the backends that have one.
const LANE: u32 = 0;
/// A page of events ends at this many bytes.
const PAGE_BYTES: usize = 8 << 20;
/// A page of the feed ends at this many bytes.
const FEED_BYTES: usize = 4 << 20;

/// What became of a draft. Durable, as far as the backend is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Inserted {
    New {
        routed: bool,
    },
    /// Seen before; `routed` is the decision of then.
    Known {
        routed: bool,
    },
}

/// Notices in commit order.
#[derive(Debug)]
pub struct FeedSlice {
    pub notices: Vec<Notice>,
    /// Where to read on: past the last notice, or past all that did not match.
    pub next: Token,
    /// The newest position.
    pub head: u64,
    /// Matching notices were left out.
    pub more: bool,
}

impl FeedSlice {
    fn new(filler: FeedFiller, run: &str, head: u64) -> Self {
        let (notices, position, more) = filler.finish(head);
        let run = run.to_owned();
        Self {
            notices,
            next: Token { run, position },
            head,
            more,
        }
    }
}

/// The newest positions, for those who wait.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Heads {
    pub all: u64,
    /// Of routed notices since the start.
    pub routed: u64,
}

/// What `/readyz` tells.
#[derive(Clone, Debug)]
pub struct Status {
    pub backend: &'static str,
    pub durable: bool,
    pub head: u64,
    /// Size of the file, or of what is held in memory as far as it is known.
    pub bytes: Option<u64>,
    /// Whether intake is stopped for want of disk.
    pub disk_reserve_reached: bool,
    /// Why the last commit failed; none once a later one has written something.
    pub fault: Option<Error>,
}

/// Keeps events, their notices and what became of them.
///
/// Every write is one transaction, and durable on return as far as the backend is. Positions grow in commit order.
#[async_trait]
pub trait Storage: Send + Sync + 'static {
    /// Stores what is new, each with its first notice; answers in order.
    async fn insert(&self, drafts: Arc<[Draft]>) -> Result<Vec<Inserted>, Error>;

    /// Closes those that are open, each with a notice; answers how many were.
    async fn resolve(&self, resolutions: Vec<Resolution>) -> Result<usize, Error>;

    /// Keeps what became of deliveries; answers how many were of unknown events.
    async fn record_outcomes(&self, outcomes: Vec<Outcome>) -> Result<usize, Error>;

    /// One page of events, newest first.
    async fn events(&self, query: EventsQuery) -> Result<Page, Error>;

    async fn event(&self, event_id: EventId) -> Result<Option<History>, Error>;

    /// What follows the token now; does not wait.
    async fn feed(&self, query: FeedQuery) -> Result<FeedSlice, FeedError>;

    /// Tells of every commit that added a notice.
    fn heads(&self) -> watch::Receiver<Heads>;

    /// Deletes one slice of what was stored before a moment and may leave, beginning after a position.
    async fn forget(&self, before: Timestamp, after: u64) -> Result<Forgotten, Error>;

    async fn status(&self) -> Result<Status, Error>;

    /// Returns when the store cannot go on and the process must stop, with the reason.
    async fn failed(&self) -> Error;
}

/// Opens the store that the configuration names.
pub async fn open(
    config: &Config,
    clock: Clock,
    metrics: CommitMetrics,
) -> anyhow::Result<Arc<dyn Storage>> {
    match Database::parse(&config.event_store_database_url) {
        Some(Database::Memory) => Ok(Arc::new(Memory::new(config.memory_events, clock, metrics))),
        Some(Database::Sqlite(path)) => {
            let opening = move || Sqlite::open(&path, clock, metrics);
            Ok(Arc::new(tokio::task::spawn_blocking(opening).await??))
        }
        None => anyhow::bail!("EVENT_STORE_DATABASE_URL names no store"),
    }
}

/// The moment that is stored: whole microseconds, never before the last one's.
fn stored_at(now: Timestamp, last: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(now.as_microsecond())
        .unwrap_or(now)
        .max(last)
}
