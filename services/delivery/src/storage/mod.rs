//! What delivery keeps: deliveries with their events and attempts, cursors, and the outcomes to be reported.
//!
//! Every write is one commit, durable on return where the backend is. Keys begin with a lane, so that the same rows fit
//! one file and a cluster.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use prometheus::Histogram;
use schema::delivery::{Outcome, Status};
use schema::{CorrelationId, EventId};

use crate::domain::delivery::{Carried, DeliveryId, Lane, Position};
use crate::domain::transition::Life;
use crate::error::Error;

#[cfg(test)]
pub(crate) mod conformance;
mod memory;
mod sqlite;

pub use memory::Memory;
pub use sqlite::Sqlite;

/// The most outcomes that one read answers.
pub const SLICE: usize = 256;

/// Deliveries that one slice of retention looks at; each is about four rows.
pub const RETIRE_SLICE: usize = 64;

/// Deliveries that one page of a list looks at; with fewer found it ends early.
pub const SCAN_MAX: usize = 4_096;

/// The one lane of a store that one process owns.
pub const LANE: Lane = 0;

/// Opens the store that a URL names: `memory:` or `sqlite:PATH`.
pub fn open(url: &str, commit_seconds: Histogram) -> anyhow::Result<Arc<dyn Storage>> {
    match url.split_once(':') {
        Some(("memory", "")) => Ok(Arc::new(Memory::default())),
        Some(("sqlite", path)) if !path.is_empty() => {
            Ok(Arc::new(Sqlite::open(Path::new(path), commit_seconds)?))
        }
        _ => anyhow::bail!("`{url}` is neither `memory:` nor `sqlite:PATH`"),
    }
}

/// The owner of a lane, at one time. Grows at every take-over, also when the store was deleted or restored between (R5).
pub type Epoch = u64;

/// A page of the feed, decided: one commit of cursor, deliveries and first counts (R3, R4).
#[derive(Clone, Debug)]
pub struct Intake {
    pub lane: Lane,
    pub epoch: Epoch,
    pub cursor: String,
    pub deliveries: Vec<NewDelivery>,
    pub now: Timestamp,
}

/// A delivery to insert, unless there is one of its event, revision and endpoint.
#[derive(Clone, Debug)]
pub struct NewDelivery {
    pub delivery_id: DeliveryId,
    pub event: Carried,
    pub endpoint_id: Arc<str>,
    /// With an open attempt where the first count is part of the intake.
    pub life: Life,
    /// Event-store does not list it as delivered. What is known of it here is reported (again): it may have been restored
    /// from an older copy.
    pub untold: bool,
}

/// Counts an attempt before its send (R4). Refused as [`Error::Fenced`] unless the epoch owns the lane, and as
/// [`Error::Stale`] unless the delivery stands one attempt before.
#[derive(Clone, Debug)]
pub struct Start {
    pub lane: Lane,
    pub position: Position,
    pub life: Life,
    pub now: Timestamp,
}

/// Records how an attempt ended. Refused as [`Error::Stale`] unless that attempt is open (S9).
#[derive(Clone, Debug)]
pub struct Finish {
    pub lane: Lane,
    pub position: Position,
    /// Who started the attempt.
    pub attempt_epoch: Epoch,
    /// Who reports, for the order of outcomes.
    pub epoch: Epoch,
    /// After the attempt; its number is `life.started`.
    pub life: Life,
    pub ended: Ended,
    pub report: bool,
    pub now: Timestamp,
}

/// What is kept of an attempt's end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    /// Absent for an attempt whose owner died.
    pub duration_ms: Option<u64>,
    pub status_code: Option<u16>,
    /// A stable word; absent for a 2xx.
    pub error: Option<String>,
    /// The first KiB of the answer's body.
    pub response: Option<String>,
}

/// The error of an attempt whose owner ended before its result.
pub const INTERRUPTED: &str = "interrupted";

impl Ended {
    /// Of an attempt whose answer, if there was one, nobody read.
    pub fn without_answer(error: &str) -> Self {
        Self {
            duration_ms: None,
            status_code: None,
            error: Some(error.to_owned()),
            response: None,
        }
    }
}

/// The deliveries of one lane that may still be sent, as little as a schedule needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub position: Position,
    pub endpoint_id: Arc<str>,
    pub due_at: Timestamp,
    pub suspect: bool,
    /// Its owner died; the attempt must be recorded as interrupted first.
    pub attempt_open: bool,
}

/// A delivery as it is stored, with what it carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub position: Position,
    pub delivery_id: DeliveryId,
    pub endpoint_id: Arc<str>,
    pub life: Life,
    pub created_at: Timestamp,
    pub event: Carried,
}

/// A delivery as its list tells it: without what it carries, which may be half a MiB.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pub position: Position,
    pub delivery_id: DeliveryId,
    pub endpoint_id: Arc<str>,
    pub life: Life,
    pub created_at: Timestamp,
    pub event_id: EventId,
    pub revision: u32,
    pub correlation_id: CorrelationId,
}

/// One attempt on record.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Attempt {
    pub number: u32,
    pub epoch: Epoch,
    pub started_at: Timestamp,
    pub ended: Option<Ended>,
    /// When the schedule meant the next one to start, as seen at this one's end.
    pub next_attempt_at: Option<Timestamp>,
}

/// Which deliveries to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub event_id: Option<String>,
    pub status: Option<Status>,
    /// Only those at smaller positions.
    pub before: Option<Position>,
    pub limit: usize,
}

/// A page of a list, newest first.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Page {
    pub deliveries: Vec<Summary>,
    /// What the next page is before; none when nothing is left.
    pub next: Option<Position>,
}

/// Fills a page; a backend offers it every row that may match, newest first.
struct Filler {
    page: Page,
    limit: usize,
    looked_at: usize,
    last: Option<Position>,
}

impl Filler {
    fn new(limit: usize) -> Self {
        Self {
            page: Page::default(),
            limit,
            looked_at: 0,
            last: None,
        }
    }

    /// Breaks where the page ends. Only a further match ends a full page, so that the last page has no next.
    fn offer<E>(
        &mut self,
        position: Position,
        matches: bool,
        summary: impl FnOnce() -> Result<Summary, E>,
    ) -> Result<ControlFlow<()>, E> {
        let full = matches && self.page.deliveries.len() == self.limit;
        if full || self.looked_at == SCAN_MAX {
            self.page.next = self.last;
            return Ok(ControlFlow::Break(()));
        }
        self.looked_at += 1;
        self.last = Some(position);
        if matches {
            self.page.deliveries.push(summary()?);
        }
        Ok(ControlFlow::Continue(()))
    }
}

/// What one slice of retention did.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retired {
    pub removed: usize,
    /// Where the next slice goes on; none when the rest is younger.
    pub next: Option<Position>,
}

/// What `/readyz` tells of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub backend: &'static str,
    pub durable: bool,
    /// Why the last commit failed, while none has worked since.
    pub fault: Option<String>,
    /// Whether intake is stopped for want of disk.
    pub disk_reserve_reached: bool,
}

#[async_trait]
pub trait Storage: Send + Sync {
    /// Makes this process the lane's owner: the new epoch is max(previous + 1, now in ms), durable on return.
    async fn take_lane(&self, lane: Lane, owner: &str, now: Timestamp) -> Result<Epoch, Error>;

    /// Where reading the feed goes on.
    async fn cursor(&self, lane: Lane) -> Result<Option<String>, Error>;

    /// Commits a page, unless the disk is nearly full (R6); answers each delivery's position, or none where it was known.
    async fn intake(&self, intake: Intake) -> Result<Vec<Option<Position>>, Error>;

    async fn start(&self, start: Start) -> Result<(), Error>;

    async fn finish(&self, finish: Finish) -> Result<(), Error>;

    /// Open deliveries after a position, in order; fewer than `limit` at the end.
    async fn waiting(
        &self,
        lane: Lane,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Waiting>, Error>;

    /// These deliveries, in no order; those that are gone are left out.
    async fn load(&self, lane: Lane, positions: Vec<Position>) -> Result<Vec<Stored>, Error>;

    /// The oldest outcomes that event-store has not been told of, in commit order, at most [`SLICE`].
    async fn unreported(&self, lane: Lane) -> Result<Vec<Outcome>, Error>;

    /// Moves the reports' cursor to `upto` and deletes what it passed. `upto` is the last of [`unreported`](Self::unreported).
    async fn reported(&self, lane: Lane, upto: Position) -> Result<(), Error>;

    /// Deletes terminal, reported deliveries that were made and ended before a time, among the next [`RETIRE_SLICE`] after a position.
    async fn retire(
        &self,
        lane: Lane,
        after: Position,
        before: Timestamp,
    ) -> Result<Retired, Error>;

    /// Looks at [`SCAN_MAX`] deliveries at most.
    async fn deliveries(&self, lane: Lane, filter: Filter) -> Result<Page, Error>;

    async fn delivery(&self, id: DeliveryId) -> Result<Option<(Summary, Vec<Attempt>)>, Error>;

    fn condition(&self) -> Condition;
}

/// The next owner's epoch: grows, also past one that a deleted or restored store has forgotten.
fn next_epoch(previous: Epoch, now: Timestamp) -> Epoch {
    (previous + 1).max(u64::try_from(now.as_millisecond()).unwrap_or_default())
}
