//! The one writer: what is queued becomes one transaction.

use std::path::PathBuf;
use std::sync::Arc;
use std::time::Instant;

use jiff::Timestamp;
use runtime::group_commit::Commit;
use rusqlite::{Connection, OptionalExtension as _, TransactionBehavior, params};
use schema::EventId;
use schema::delivery::Outcome;
use schema::feed::Action;
use schema::intake::Resolution;
use tokio::sync::watch;

use super::super::{Heads, Inserted, LANE, stored_at};
use super::{classify, from_sql, reader, remember, sql, to_sql};
use crate::domain::outcome;
use crate::domain::record::Draft;
use crate::domain::retention::{self, Forgotten, Stay, may_leave};
use crate::error::Error;
use crate::metrics::CommitMetrics;

/// Bytes that weigh as much as one row.
const BYTES_PER_WEIGHT: usize = 4096;

pub(super) enum Write {
    Insert {
        drafts: Arc<[Draft]>,
        now: Timestamp,
    },
    Resolve {
        resolutions: Vec<Resolution>,
        now: Timestamp,
    },
    Outcomes(Vec<Outcome>),
    /// One slice of what was stored before a moment, beginning after a position.
    Forget {
        before: Timestamp,
        after: u64,
    },
}

impl Write {
    /// The time by the clock, of a write that stores it.
    fn now(&self) -> Option<Timestamp> {
        match self {
            Self::Insert { now, .. } | Self::Resolve { now, .. } => Some(*now),
            Self::Outcomes(_) | Self::Forget { .. } => None,
        }
    }

    /// Goes before intake (R1). Deletes can wait: they are large, and nobody waits for them.
    pub(super) fn urgent(&self) -> bool {
        match self {
            Self::Outcomes(_) => true,
            Self::Insert { .. } | Self::Resolve { .. } | Self::Forget { .. } => false,
        }
    }
}

pub(super) enum Answer {
    Inserted(Vec<Inserted>),
    Count(usize),
    Forgotten(Forgotten),
}

impl Answer {
    pub(super) fn inserted(self) -> Result<Vec<Inserted>, Error> {
        match self {
            Self::Inserted(inserted) => Ok(inserted),
            Self::Count(_) | Self::Forgotten(_) => Err(Self::of_another_write()),
        }
    }

    pub(super) fn count(self) -> Result<usize, Error> {
        match self {
            Self::Count(count) => Ok(count),
            Self::Inserted(_) | Self::Forgotten(_) => Err(Self::of_another_write()),
        }
    }

    pub(super) fn forgotten(self) -> Result<Forgotten, Error> {
        match self {
            Self::Forgotten(forgotten) => Ok(forgotten),
            Self::Inserted(_) | Self::Count(_) => Err(Self::of_another_write()),
        }
    }

    fn of_another_write() -> Error {
        Error::Failed("the writer answered another write".to_owned())
    }
}

/// How far the store has come; the writer's own memory, taken over at each commit.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Progress {
    pub(super) head: u64,
    /// The newest routed notice since the start.
    pub(super) routed: u64,
    pub(super) stored_at: Timestamp,
    /// Rows of the transaction under way.
    pub(super) rows: u64,
}

pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) progress: Progress,
    pub(super) metrics: CommitMetrics,
    pub(super) heads: watch::Sender<Heads>,
    /// Why the last commit failed; after a fatal one nothing is known of what is on disk, and nothing is written any more.
    pub(super) fault: watch::Sender<Option<Error>>,
    pub(super) wal: PathBuf,
}

impl Commit for Writer {
    type Write = Write;
    type Answer = Answer;
    type Error = Error;

    fn commit(&mut self, writes: &[Write]) -> Result<Vec<Answer>, Error> {
        if let Some(fatal @ Error::Fatal(_)) = self.fault.borrow().clone() {
            return Err(fatal);
        }
        let started = Instant::now();
        let before = Progress {
            rows: 0,
            ..self.progress
        };
        let committed = transact(&mut self.connection, writes, before);
        self.metrics
            .seconds
            .observe(started.elapsed().as_secs_f64());
        match committed {
            Ok((answers, progress)) => {
                self.progress = progress;
                for now in writes.iter().filter_map(Write::now) {
                    self.metrics.compare_clock(now, progress.stored_at);
                }
                self.publish();
                Ok(answers)
            }
            Err(fault) => Err(self.refuse(classify(fault))),
        }
    }

    fn weight(write: &Write) -> usize {
        match write {
            Write::Insert { drafts, .. } => drafts
                .iter()
                .map(|draft| 1 + draft.event.raw.get().len() / BYTES_PER_WEIGHT)
                .sum(),
            Write::Resolve { resolutions, .. } => resolutions.len(),
            Write::Outcomes(outcomes) => outcomes.len(),
            Write::Forget { .. } => retention::SLICE,
        }
    }
}

impl Writer {
    /// Tells those who wait for the feed; before anybody is answered.
    fn publish(&self) {
        let Progress {
            head, routed, rows, ..
        } = self.progress;
        self.heads.send_if_modified(|heads| {
            let now = Heads { all: head, routed };
            std::mem::replace(heads, now) != now
        });
        self.metrics.commits.inc();
        self.metrics.rows.inc_by(rows);
        self.metrics.head.set(to_sql(head));
        // A commit that changed nothing has not touched the disk, and proves nothing.
        if rows > 0 {
            self.fault.send_if_modified(|fault| {
                let over = matches!(fault, Some(error) if !matches!(error, Error::Fatal(_)));
                if over {
                    *fault = None;
                }
                over
            });
        }
        if let Ok(wal) = std::fs::metadata(&self.wal) {
            self.metrics.wal_bytes.set(to_sql(wal.len()));
        }
    }

    fn refuse(&self, mut error: Error) -> Error {
        self.metrics.failures.inc();
        // The transaction was rolled back when it was dropped, unless even that failed.
        if !self.connection.is_autocommit() {
            error = Error::Fatal(format!("a transaction could not be rolled back: {error}"));
        }
        tracing::error!(fault = %error, "a transaction failed");
        remember(&self.fault, &error);
        error
    }
}

fn transact(
    connection: &mut Connection,
    writes: &[Write],
    mut progress: Progress,
) -> rusqlite::Result<(Vec<Answer>, Progress)> {
    let transaction = connection.transaction_with_behavior(TransactionBehavior::Immediate)?;
    let mut answers = Vec::with_capacity(writes.len());
    for write in writes {
        answers.push(match write {
            Write::Insert { drafts, now } => {
                Answer::Inserted(insert(&transaction, &mut progress, drafts, *now)?)
            }
            Write::Resolve { resolutions, now } => {
                Answer::Count(resolve(&transaction, &mut progress, resolutions, *now)?)
            }
            Write::Outcomes(outcomes) => {
                Answer::Count(learn(&transaction, &mut progress, outcomes)?)
            }
            Write::Forget { before, after } => {
                Answer::Forgotten(forget(&transaction, &mut progress, *before, *after)?)
            }
        });
    }
    transaction.commit()?;
    Ok((answers, progress))
}

fn insert(
    connection: &Connection,
    progress: &mut Progress,
    drafts: &[Draft],
    now: Timestamp,
) -> rusqlite::Result<Vec<Inserted>> {
    let mut claim = connection.prepare_cached(sql::CLAIM_KEY)?;
    let mut keep = connection.prepare_cached(sql::INSERT_EVENT)?;
    let mut notify = connection.prepare_cached(sql::INSERT_NOTICE)?;
    let mut results = Vec::with_capacity(drafts.len());
    for draft in drafts {
        let (event, routed) = (&draft.event, draft.routed);
        let position = to_sql(progress.head + 1);
        if claim.execute((LANE, event.event_id.as_str(), position))? == 0 {
            results.push(Inserted::Known {
                routed: was_routed(connection, &event.event_id)?,
            });
            continue;
        }
        progress.head += 1;
        progress.rows += 1;
        progress.stored_at = stored_at(now, progress.stored_at);
        if routed {
            progress.routed = progress.head;
        }
        keep.execute(params![
            LANE,
            position,
            progress.stored_at.as_microsecond(),
            routed,
            event.kind.as_str(),
            event.severity.as_str(),
            event.source.as_str(),
            event.resolved_at.map(|at| at.to_string()),
            event.event_id.as_str(),
            event.service,
            event.summary,
            event.description,
            event.started_at.to_string(),
            draft.correlation_id.as_str(),
            event.raw.get(),
        ])?;
        let action = draft.action().as_str();
        notify.execute(params![
            LANE,
            position,
            position,
            0,
            action,
            routed,
            None::<i64>,
            None::<&str>
        ])?;
        results.push(Inserted::New { routed });
    }
    Ok(results)
}

fn was_routed(connection: &Connection, event_id: &EventId) -> rusqlite::Result<bool> {
    let mut statement = connection.prepare_cached(sql::ROUTED_OF)?;
    statement.query_row((LANE, event_id.as_str()), |row| row.get(0))
}

/// Closes what is open. Nobody is paged by an end, so the notice is not routed.
fn resolve(
    connection: &Connection,
    progress: &mut Progress,
    resolutions: &[Resolution],
    now: Timestamp,
) -> rusqlite::Result<usize> {
    let mut close = connection.prepare_cached(sql::RESOLVE)?;
    let mut notify = connection.prepare_cached(sql::INSERT_NOTICE)?;
    let mut resolved = 0;
    for resolution in resolutions {
        let Some(event) = reader::position_of(connection, &resolution.event_id)? else {
            continue;
        };
        let closed = close
            .query_row(
                (LANE, to_sql(event), resolution.resolved_at.to_string()),
                |row| row.get::<_, u32>(0),
            )
            .optional()?;
        let Some(revision) = closed else { continue };
        progress.head += 1;
        progress.rows += 1;
        progress.stored_at = stored_at(now, progress.stored_at);
        notify.execute(params![
            LANE,
            to_sql(progress.head),
            to_sql(event),
            revision,
            Action::Resolve.as_str(),
            false,
            progress.stored_at.as_microsecond(),
            resolution.correlation_id.as_str(),
        ])?;
        resolved += 1;
    }
    Ok(resolved)
}

/// Keeps what is new in the reports; answers how many were of unknown events.
fn learn(
    connection: &Connection,
    progress: &mut Progress,
    reports: &[Outcome],
) -> rusqlite::Result<usize> {
    let mut find = connection.prepare_cached(sql::OUTCOME)?;
    let mut put = connection.prepare_cached(sql::PUT_OUTCOME)?;
    let mut unknown = 0;
    for report in reports {
        let Some(event) = reader::position_of(connection, &report.event_id)? else {
            unknown += 1;
            continue;
        };
        let (event, delivery_id) = (to_sql(event), &report.state.delivery_id);
        let known = find
            .query_row(
                (LANE, event, report.revision, delivery_id),
                reader::known_at,
            )
            .optional()?;
        let Some(known) = outcome::learn(known.as_ref(), report) else {
            continue;
        };
        let state = &known.state;
        put.execute(params![
            LANE,
            event,
            report.revision,
            state.delivery_id,
            state.destination,
            state.status.as_str(),
            state.attempts,
            state.reason,
            state.at.to_string(),
            to_sql(known.epoch),
            to_sql(known.position),
            known.delivered,
        ])?;
        progress.rows += 1;
    }
    Ok(unknown)
}

/// Deletes what may leave among the next events that are old enough.
fn forget(
    connection: &Connection,
    progress: &mut Progress,
    before: Timestamp,
    after: u64,
) -> rusqlite::Result<Forgotten> {
    let leaving = leaving(connection, before, after)?;
    for (position, event_id) in &leaving.events {
        let position = to_sql(*position);
        for statement in [
            sql::DELETE_EVENT,
            sql::DELETE_NOTICE,
            sql::DELETE_LATER_NOTICES,
            sql::DELETE_OUTCOMES,
        ] {
            connection
                .prepare_cached(statement)?
                .execute((LANE, position))?;
        }
        connection
            .prepare_cached(sql::DELETE_KEY)?
            .execute((LANE, event_id))?;
        progress.rows += 1;
    }
    Ok(Forgotten {
        events: leaving.events.len(),
        kept: leaving.kept,
        next: leaving.next,
    })
}

/// One slice's events that may leave.
struct Leaving {
    events: Vec<(u64, String)>,
    kept: usize,
    next: Option<u64>,
}

fn leaving(connection: &Connection, before: Timestamp, after: u64) -> rusqlite::Result<Leaving> {
    let holds_head: Option<u64> = connection
        .prepare_cached(sql::HOLDS_HEAD)?
        .query_row([LANE], |row| Ok(from_sql(row.get(0)?)))
        .optional()?;
    let mut statement = connection.prepare_cached(sql::LEAVING)?;
    let slice = i64::try_from(retention::SLICE).unwrap_or(i64::MAX);
    let mut rows = statement.query((LANE, to_sql(after), slice))?;
    let (mut events, mut looked_at, mut last) = (Vec::new(), 0, after);
    while let Some(row) = rows.next()? {
        // Times grow with positions: what follows is younger still.
        if reader::moment_at(row, 1)? >= before {
            break;
        }
        last = from_sql(row.get(0)?);
        looked_at += 1;
        let stay = Stay {
            open: row.get(2)?,
            routed: row.get(3)?,
            settled: row.get(4)?,
            holds_head: holds_head == Some(last),
        };
        if may_leave(stay) {
            events.push((last, row.get(5)?));
        }
    }
    let next = (looked_at == retention::SLICE).then_some(last);
    let kept = looked_at - events.len();
    Ok(Leaving { events, kept, next })
}
