//! What delivery keeps: clients, endpoints, events, deliveries, attempts, jobs, cursors, and the outcomes to be reported.
//!
//! Every write is one commit, durable on return where the backend is. Keys begin with a lane, so that the same rows fit
//! one file and a cluster.

use std::ops::ControlFlow;
use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use prometheus::Histogram;
use schema::CorrelationId;
use schema::delivery::{Outcome, Status};
use schema::webhooks::{Counts, DisabledReason, JobKind, JobStatus, Phases, Trigger};

use crate::domain::delivery::{Carried, Source};
use crate::domain::endpoint::Endpoint;
use crate::domain::ids::{DeliveryId, EndpointId, EventId, JobId, Lane, Position};
use crate::domain::pages::Group;
use crate::domain::queues::Kind;
use crate::domain::transition::Life;
use crate::error::Error;

#[cfg(test)]
pub(crate) mod conformance;
mod sqlite;
mod vault;

pub use sqlite::Sqlite;
pub use vault::Vault;

/// The most outcomes that one read answers.
pub const SLICE: usize = 256;

/// Events that one slice of retention or of a removal looks at.
pub const RETIRE_SLICE: usize = 64;

/// Rows that one page of a list looks at; with fewer found it ends early.
pub const SCAN_MAX: usize = 4_096;

/// The one lane of a store that one process owns.
pub const LANE: Lane = 0;

/// What a store is opened with.
#[derive(Debug)]
pub struct Options {
    /// `memory:` or `sqlite:PATH`.
    pub url: String,
    pub timers: Timers,
    pub vault: Vault,
}

/// Where a store tells how long it takes.
#[derive(Clone, Debug)]
pub struct Timers {
    pub commit: Histogram,
    /// Of what was committed into the file; within the commit that made it due.
    pub checkpoint: Histogram,
}

/// Opens the store that the URL names.
pub fn open(options: Options) -> anyhow::Result<Arc<dyn Storage>> {
    let Options { url, timers, vault } = options;
    match url.split_once(':') {
        Some(("memory", "")) => Ok(Arc::new(Sqlite::in_memory(timers, vault)?)),
        Some(("sqlite", path)) if !path.is_empty() => {
            let path = Path::new(path);
            Ok(Arc::new(Sqlite::open(path, timers, vault)?))
        }
        _ => anyhow::bail!("`{url}` is neither `memory:` nor `sqlite:PATH`"),
    }
}

/// The owner of a lane, at one time. Grows at every take-over, also when the store was deleted or restored between (R5).
pub type Epoch = u64;

/// A client exists by being named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Client {
    /// Where in the lane's order it was first named: its key in other rows.
    pub position: Position,
    pub client_id: Arc<str>,
    /// Where in the lane's order its endpoints were last changed; 0 before the first.
    pub version: Position,
    pub created_at: Timestamp,
}

/// What a plan for a client's event was made from. A write is taken only if it is still so.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Seen {
    pub client: Position,
    pub version: Position,
}

/// An endpoint to be made or changed.
#[derive(Clone, Debug)]
pub struct PutEndpoint {
    pub lane: Lane,
    /// Its `position` and `client` are 0 for a new one, `version` is the one that was read (0 for a new one).
    pub endpoint: Endpoint,
    /// The most a client may have; none for the built-in one.
    pub at_most: Option<usize>,
    pub now: Timestamp,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Put {
    /// As it is stored now; its `version` is also its client's.
    Done(Box<Endpoint>),
    TooMany,
    /// It was changed or removed meanwhile: read it again.
    Stale,
}

/// An event to be taken in, and one delivery for each endpoint that wants it. One commit (R1).
#[derive(Clone, Debug)]
pub struct Accept {
    pub lane: Lane,
    pub epoch: Epoch,
    pub client_id: Arc<str>,
    /// `None`: the client was not known, and is made.
    pub seen: Option<Seen>,
    pub event: NewEvent,
    pub deliveries: Vec<NewDelivery>,
    pub now: Timestamp,
}

#[derive(Clone, Debug)]
pub struct NewEvent {
    pub carried: Carried,
    pub ordering_key: Option<String>,
    pub occurred_at: Option<Timestamp>,
    pub known_as: Option<KnownAs>,
}

/// Under which an event is known.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KnownAs {
    /// To its client, by the key that it gave.
    Client(IdempotencyKey),
    /// To the feed, in a space of its own: what a caller posts is never taken for a page. Forgotten when its event leaves.
    Page(String),
}

impl KnownAs {
    pub fn key(&self) -> &str {
        match self {
            Self::Client(own) => &own.key,
            Self::Page(key) => key,
        }
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IdempotencyKey {
    pub key: String,
    /// Of everything that makes two events the same.
    pub digest: [u8; 16],
    /// Forgotten after this.
    pub until: Timestamp,
}

#[derive(Clone, Debug)]
pub struct NewDelivery {
    pub delivery_id: DeliveryId,
    /// The endpoint's key.
    pub endpoint: Position,
    /// Which line of a strictly ordered endpoint.
    pub line: u64,
    /// With an open attempt where the first count is part of the intake (R4).
    pub life: Life,
}

/// What became of an event that was to be taken in.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Accepted {
    New(Placed),
    /// The key is known, for the same event. That one was durable before.
    Duplicate {
        event: Position,
    },
    /// The key is known, for another event.
    KeyReused,
    /// Its client's endpoints are not those that were seen: plan again.
    Replan,
}

/// Where an event lies since its commit, and its deliveries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Placed {
    pub client: Position,
    pub event: Position,
    /// Of each delivery, in order. `None`: its endpoint is removed and it was left out, as only what a change raises can be.
    pub deliveries: Vec<Option<Position>>,
}

impl NewDelivery {
    /// The row that the commit of its event made of it.
    pub fn stored(self, position: Position, placed: &Placed, event: Carried) -> Stored {
        Stored {
            position,
            delivery_id: self.delivery_id,
            client: placed.client,
            endpoint: self.endpoint,
            line: self.line,
            order_at: position,
            life: self.life,
            blocks: false,
            event,
        }
    }
}

/// A page of the feed, decided: one commit of cursor, events, deliveries and first counts (R3, R4).
#[derive(Clone, Debug)]
pub struct Intake {
    pub lane: Lane,
    pub epoch: Epoch,
    pub cursor: String,
    pub events: Vec<FeedEvent>,
    pub now: Timestamp,
}

/// An event of the hub; what event-store does not know of its deliveries is reported (again): it may have been restored from
/// an older copy.
#[derive(Clone, Debug)]
pub struct FeedEvent {
    pub accept: Accept,
    /// Names of endpoints that event-store lists as delivered.
    pub told: Vec<String>,
}

/// What became of a page; `None` when its client's endpoints are not those that were seen, and nothing was written.
pub type TakenIn = Option<Vec<Accepted>>;

/// A change of a delivery's life, decided from its last version.
#[derive(Clone, Debug)]
pub struct Change {
    pub lane: Lane,
    pub position: Position,
    /// The version it was decided from.
    pub version: u32,
    pub life: Life,
    /// The start of an attempt is the owner's alone: refused as [`Error::Fenced`] unless this epoch owns the lane (R5).
    pub fence: Option<Epoch>,
    /// The attempt that ended with it.
    pub ended: Option<Ended>,
    /// Exhausted, and its line of a strictly ordered endpoint stops here. Cleared by the next change.
    pub blocks: bool,
    /// Its new place in its line: at the tail, at this commit.
    pub to_tail: bool,
    /// Event-store is to be told, in the order of this epoch's commits.
    pub report: Option<Epoch>,
    /// The endpoint is disabled with it.
    pub disable: Option<DisabledReason>,
    /// What is said of it to the client: events, with their deliveries.
    pub raise: Vec<Accept>,
    /// The start of the one behind it in its line: both are committed, or neither.
    pub next: Option<Box<Change>>,
    pub now: Timestamp,
}

/// What a change left in the store.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Changed {
    /// Its new place in its line, of one that was moved to the tail.
    pub order_at: Option<Position>,
    /// Of each event that it raised, in order. `None`: its client is removed, or another change disabled the endpoint.
    pub raised: Vec<Option<Placed>>,
    pub next: Option<Box<Changed>>,
}

/// How an attempt ended, as it is kept. Written once, at its end.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub number: u32,
    pub epoch: Epoch,
    pub trigger: Trigger,
    pub started_at: Timestamp,
    /// Absent for an attempt whose owner died.
    pub duration_ms: Option<u64>,
    pub phases: Phases,
    pub status_code: Option<u16>,
    /// A stable word; absent for a 2xx.
    pub error: Option<String>,
    /// Why, of those errors that have several causes.
    pub error_reason: Option<String>,
    /// Sent twice (R4).
    pub resent: bool,
    /// The beginning of the answer's body, 16 KiB at most; of all but the latest attempt 1 KiB is kept.
    pub response: Option<String>,
    pub next_attempt_at: Option<Timestamp>,
}

/// The error of an attempt whose owner ended before its result.
pub const INTERRUPTED: &str = "interrupted";

/// What a list can ask for by `code`: the last answer's status, or the word of the last error without one.
pub fn code_of(ended: &Ended) -> Option<String> {
    match ended.status_code {
        Some(status) => Some(status.to_string()),
        None => ended.error.clone(),
    }
}

/// The deliveries of one lane that may still be sent, as little as a schedule needs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Waiting {
    pub position: Position,
    pub endpoint: Position,
    pub due_at: Timestamp,
    /// Of its event.
    pub kind: Kind,
    pub suspect: bool,
    /// Its owner died; the attempt must be recorded as interrupted first.
    pub attempt_open: bool,
    /// An attempt of this generation was made.
    pub begun: bool,
    pub line: u64,
    pub order_at: Position,
    /// It has ended, and its line stops at it.
    pub blocks: bool,
}

/// A delivery as it is stored, with what it carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Stored {
    pub position: Position,
    pub delivery_id: DeliveryId,
    pub client: Position,
    pub endpoint: Position,
    pub line: u64,
    pub order_at: Position,
    pub life: Life,
    pub blocks: bool,
    pub event: Carried,
}

impl Stored {
    /// The row that a change has made of it.
    pub fn after(self, change: &Change, changed: &Changed) -> Self {
        Self {
            life: change.life.clone(),
            order_at: changed.order_at.unwrap_or(self.order_at),
            blocks: change.blocks,
            ..self
        }
    }
}

/// A delivery as its list tells it: without what it carries.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Summary {
    pub position: Position,
    pub delivery_id: DeliveryId,
    pub client_id: Arc<str>,
    pub endpoint: Position,
    pub endpoint_id: EndpointId,
    pub endpoint_deleted: bool,
    pub line: u64,
    pub life: Life,
    pub created_at: Timestamp,
    pub ended_at: Option<Timestamp>,
    pub event_id: EventId,
    pub event_type: String,
    pub idempotency_key: Option<String>,
    pub source: Option<Source>,
    pub correlation_id: CorrelationId,
    /// Of the last attempt: see [`code_of`].
    pub code: Option<String>,
}

/// An event as its list tells it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct EventSummary {
    pub position: Position,
    pub event_id: EventId,
    pub client_id: Arc<str>,
    pub event_type: String,
    pub counts: Counts,
    pub idempotency_key: Option<String>,
    pub ordering_key: Option<String>,
    pub occurred_at: Option<Timestamp>,
    pub source: Option<Source>,
    pub correlation_id: CorrelationId,
    pub created_at: Timestamp,
}

/// One event with its payload and deliveries.
#[derive(Clone, Debug)]
pub struct WholeEvent {
    pub summary: EventSummary,
    pub payload: bytes::Bytes,
    pub deliveries: Vec<Summary>,
}

/// Which rows to list, newest first.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub client_id: Option<String>,
    pub endpoint_id: Option<String>,
    pub idempotency_key: Option<String>,
    pub status: Option<Status>,
    /// See [`code_of`].
    pub code: Option<String>,
    /// Made then or later.
    pub since: Option<Timestamp>,
    /// Made before.
    pub until: Option<Timestamp>,
    /// Only those at smaller positions.
    pub before: Option<Position>,
    pub limit: usize,
}

/// A page of a list, newest first.
#[derive(Debug, PartialEq, Eq)]
pub struct Page<T> {
    pub rows: Vec<T>,
    /// What the next page is before; none when nothing is left.
    pub next: Option<Position>,
}

impl<T> Default for Page<T> {
    fn default() -> Self {
        Self {
            rows: Vec::new(),
            next: None,
        }
    }
}

/// Fills a page; a backend offers it every row that may match, newest first.
struct Filler<T> {
    page: Page<T>,
    limit: usize,
    looked_at: usize,
    last: Option<Position>,
}

impl<T> Filler<T> {
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
        row: impl FnOnce() -> Result<T, E>,
    ) -> Result<ControlFlow<()>, E> {
        let full = matches && self.page.rows.len() == self.limit;
        if full || self.looked_at == SCAN_MAX {
            self.page.next = self.last;
            return Ok(ControlFlow::Break(()));
        }
        self.looked_at += 1;
        self.last = Some(position);
        if matches {
            self.page.rows.push(row()?);
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

/// A large task in slices, on record with its progress.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Job {
    pub job_id: JobId,
    pub kind: JobKind,
    pub client: Position,
    pub client_id: Arc<str>,
    /// Of a recovery, and of a removed endpoint.
    pub endpoint: Option<(Position, EndpointId)>,
    /// Of a recovery: events made in `since..until`.
    pub since: Timestamp,
    pub until: Timestamp,
    pub wanted: Option<Status>,
    pub dry_run: bool,
    /// Of the request that asked for it.
    pub correlation_id: CorrelationId,
    pub progress: Progress,
    pub created_at: Timestamp,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Progress {
    pub status: JobStatus,
    /// The last event or delivery that was looked at.
    pub cursor: Position,
    pub examined: u64,
    pub done: u64,
    pub updated_at: Timestamp,
}

/// A slice of a job: what it changes and how far it has come, one commit. Nothing is written unless the job is running, at
/// the cursor that the slice began at.
#[derive(Clone, Debug)]
pub struct JobSlice {
    pub lane: Lane,
    pub job_id: JobId,
    pub began_at: Position,
    pub progress: Progress,
    pub changes: Vec<Change>,
    /// Deliveries of earlier events, for an endpoint that had none.
    pub late: Vec<Late>,
}

#[derive(Clone, Debug)]
pub struct Late {
    pub event: Position,
    pub new: NewDelivery,
}

/// What became of a slice.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sliced {
    Done {
        changed: Vec<Result<Changed, Error>>,
        /// Where the late deliveries are now; `None` for one that there was already.
        late: Vec<Option<Position>>,
    },
    /// The job was canceled, or is elsewhere: nothing was written.
    NotThere,
}

/// An event that a recovery looks at.
#[derive(Clone, Debug)]
pub struct Candidate {
    pub event: Position,
    pub event_type: String,
    pub operational: bool,
    pub ordering_key: Option<String>,
    /// The endpoint's delivery of it, if it has one.
    pub delivery: Option<Stored>,
}

/// What `/readyz` and `/metrics` tell of the store.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Condition {
    pub backend: &'static str,
    pub durable: bool,
    /// Why the last commit failed, while none has worked since.
    pub fault: Option<String>,
    /// Whether intake is stopped for want of disk.
    pub disk_reserve_reached: bool,
    pub wal_bytes: u64,
}

#[async_trait]
pub trait Storage: Send + Sync {
    /// Makes this process the lane's owner: the new epoch is max(previous + 1, now in ms), durable on return.
    async fn take_lane(&self, lane: Lane, owner: &str, now: Timestamp) -> Result<Epoch, Error>;

    /// Every client that is not removed.
    async fn clients(&self, lane: Lane) -> Result<Vec<Client>, Error>;

    /// Every endpoint that is not removed.
    async fn endpoints(&self, lane: Lane) -> Result<Vec<Endpoint>, Error>;

    async fn put_endpoint(&self, put: PutEndpoint) -> Result<Put, Error>;

    /// Removes an endpoint, and stores the job that ends what is open for it; answers the client's new version, or `None` if
    /// there is none such. Nothing is written onto its deliveries here.
    async fn remove_endpoint(&self, lane: Lane, job: Job) -> Result<Option<Position>, Error>;

    /// Removes a client with its endpoints, and stores the job that deletes its rows; whether there was one.
    async fn remove_client(&self, lane: Lane, job: Job) -> Result<bool, Error>;

    /// Commits an event, unless the disk is nearly full (R6).
    async fn accept(&self, accept: Accept) -> Result<Accepted, Error>;

    /// Where reading the feed goes on.
    async fn cursor(&self, lane: Lane) -> Result<Option<String>, Error>;

    /// Commits a page, unless the disk is nearly full (R6). A page whose epoch does not own the lane is [`Error::Fenced`].
    async fn take_in(&self, intake: Intake) -> Result<TakenIn, Error>;

    /// Commits changes together; each is refused alone, as [`Error::Stale`] unless the delivery is at the version it was
    /// decided from (S9), or as [`Error::Fenced`].
    async fn change(&self, changes: Vec<Change>) -> Result<Vec<Result<Changed, Error>>, Error>;

    /// Open deliveries after a position, in order; fewer than `limit` at the end.
    async fn waiting(
        &self,
        lane: Lane,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Waiting>, Error>;

    /// An endpoint's deliveries of events of the hub that were not delivered, by state. Late are those made before a time.
    async fn undelivered(
        &self,
        lane: Lane,
        endpoint: Position,
        late_before: Timestamp,
    ) -> Result<Vec<Group>, Error>;

    /// Ended deliveries at which a line stops.
    async fn blocking(&self, lane: Lane) -> Result<Vec<Waiting>, Error>;

    /// These deliveries, in no order; those that are gone are left out.
    async fn load(&self, lane: Lane, positions: Vec<Position>) -> Result<Vec<Stored>, Error>;

    /// The oldest outcomes that event-store has not been told of, in commit order, at most [`SLICE`]. Only events of the hub
    /// have any.
    async fn unreported(&self, lane: Lane) -> Result<Vec<Outcome>, Error>;

    /// Moves the reports' cursor to `upto` and deletes what it passed. `upto` is the last of [`unreported`](Self::unreported).
    async fn reported(&self, lane: Lane, upto: Position) -> Result<(), Error>;

    /// Deletes events that were made before a time, with their deliveries, where all of those have ended before it and are
    /// reported, among the next [`RETIRE_SLICE`] after a position. Expired keys leave too.
    async fn retire(
        &self,
        lane: Lane,
        after: Position,
        before: Timestamp,
    ) -> Result<Retired, Error>;

    /// Looks at [`SCAN_MAX`] deliveries at most.
    async fn deliveries(&self, lane: Lane, filter: Filter) -> Result<Page<Summary>, Error>;

    /// Looks at [`SCAN_MAX`] events at most.
    async fn events(&self, lane: Lane, filter: Filter) -> Result<Page<EventSummary>, Error>;

    /// Without its attempts, which may be thousands. A removed client's is not there.
    async fn summary(&self, id: DeliveryId) -> Result<Option<Summary>, Error>;

    /// With its ended attempts, oldest first. A removed client's is not there.
    async fn delivery(&self, id: DeliveryId) -> Result<Option<(Summary, Vec<Ended>)>, Error>;

    async fn event(&self, id: EventId) -> Result<Option<WholeEvent>, Error>;

    /// By its place, for the answer to a duplicate.
    async fn event_at(&self, lane: Lane, position: Position) -> Result<Option<WholeEvent>, Error>;

    /// Stores a job of [`JobKind::Recover`].
    async fn add_job(&self, lane: Lane, job: Job) -> Result<(), Error>;

    async fn job(&self, id: JobId) -> Result<Option<Job>, Error>;

    /// Jobs that are not ended, oldest first.
    async fn running_jobs(&self, lane: Lane) -> Result<Vec<Job>, Error>;

    /// Cancels a running recovery; answers the job as it stands.
    async fn cancel_job(&self, id: JobId, now: Timestamp) -> Result<Option<Job>, Error>;

    /// The next events of a client after a position, made in `since..until`, each with its delivery for an endpoint. Fewer
    /// than `limit` at the end.
    async fn candidates(&self, lane: Lane, job: Job, limit: usize)
    -> Result<Vec<Candidate>, Error>;

    /// Open deliveries of an endpoint after a position, in order.
    async fn open_of(
        &self,
        lane: Lane,
        endpoint: Position,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Stored>, Error>;

    async fn slice(&self, slice: JobSlice) -> Result<Sliced, Error>;

    /// Deletes some of a removed client's rows with their keys, attempts and outcomes, at most [`RETIRE_SLICE`] events; 0 when
    /// nothing but its jobs is left.
    async fn purge(&self, lane: Lane, client: Position) -> Result<usize, Error>;

    fn condition(&self) -> Condition;
}

/// The next owner's epoch: grows, also past one that a deleted or restored store has forgotten.
fn next_epoch(previous: Epoch, now: Timestamp) -> Epoch {
    (previous + 1).max(u64::try_from(now.as_millisecond()).unwrap_or_default())
}
