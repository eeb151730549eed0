//! The one writer: what is queued is one transaction.

use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use runtime::group_commit::Commit;
use rusqlite::{Connection, ErrorCode, Transaction, TransactionBehavior, ffi};

use super::checkpoint::{self, Checkpoint};
use super::memory::Bound;
use super::{accept, changes, clients, endpoints, feed, jobs, lanes, outcomes, retention};
use crate::domain::ids::{JobId, Lane, Position};
use crate::error::Error;
use crate::storage::{
    Accept, Accepted, Change, Changed, Epoch, Intake, Job, JobSlice, Put, PutEndpoint,
    RETIRE_SLICE, Retired, SLICE, Sliced, TakenIn, Timers, Vault,
};

/// Statements that stay prepared: every one of a write.
const STATEMENTS: usize = 128;

pub(super) enum Write {
    TakeLane {
        lane: Lane,
        owner: String,
        now: Timestamp,
    },
    PutEndpoint(Box<PutEndpoint>),
    RemoveEndpoint {
        lane: Lane,
        job: Box<Job>,
    },
    RemoveClient {
        lane: Lane,
        job: Box<Job>,
    },
    Accept(Box<Accept>),
    TakeIn(Intake),
    Change(Vec<Change>),
    Reported {
        lane: Lane,
        upto: Position,
    },
    Retire {
        lane: Lane,
        after: Position,
        before: Timestamp,
    },
    AddJob {
        lane: Lane,
        job: Box<Job>,
    },
    CancelJob {
        id: JobId,
        now: Timestamp,
    },
    Slice(Box<JobSlice>),
    Purge {
        lane: Lane,
        client: Position,
    },
}

impl Write {
    /// Events that it may insert.
    pub(super) fn events(&self) -> usize {
        match self {
            Self::Accept(_) => 1,
            Self::TakeIn(intake) => intake.events.len(),
            Self::Change(changes) => changes.iter().map(|change| change.raise.len()).sum(),
            Self::Slice(slice) => slice.changes.iter().map(|change| change.raise.len()).sum(),
            _ => 0,
        }
    }
}

/// Declares what a write is answered with, each with the way to it.
macro_rules! answers {
    ($($variant:ident($is:ty) = $name:ident),+ $(,)?) => {
        pub(super) enum Answer {
            Done,
            $($variant($is)),+
        }

        impl Answer {
            $(pub(super) fn $name(self) -> Result<$is, Error> {
                match self {
                    Self::$variant(is) => Ok(is),
                    _ => Err(Error::Broken("a write was answered as another one".to_owned())),
                }
            })+
        }
    };
}

answers! {
    Epoch(Epoch) = epoch,
    Put(Put) = put,
    Version(Option<Position>) = version,
    Known(bool) = known,
    Accepted(Accepted) = accepted,
    TakenIn(TakenIn) = taken_in,
    Changed(Vec<Result<Changed, Error>>) = changed,
    Retired(Retired) = retired,
    Job(Option<Box<Job>>) = job,
    Sliced(Sliced) = sliced,
    Purged(usize) = purged,
}

pub(super) struct Writer {
    pub(super) connection: Connection,
    pub(super) timers: Timers,
    vault: Arc<Vault>,
    pub(super) fault: Arc<Mutex<Option<String>>>,
    /// Set by a fault after which nothing on disk is certain: no further write is tried (R6).
    pub(super) broken: Option<Error>,
    /// Of a store in memory.
    bound: Option<Bound>,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        timers: Timers,
        vault: Arc<Vault>,
        fault: Arc<Mutex<Option<String>>>,
        bound: Option<Bound>,
    ) -> Self {
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Self {
            connection,
            timers,
            vault,
            fault,
            broken: None,
            bound,
        }
    }

    fn try_commit(&mut self, writes: &[Write]) -> rusqlite::Result<Vec<Result<Answer, Error>>> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut answers = Vec::with_capacity(writes.len());
        for write in writes {
            answers.push(apply(&transaction, &self.vault, write)?);
        }
        if let Some(bound) = &mut self.bound {
            bound.keep(&transaction, writes)?;
        }
        transaction.commit()?;
        Ok(answers)
    }

    /// The commit before it is durable whatever became of it. What passes is made up for by the next; a failed fsync is as
    /// final as a commit's (R6).
    pub(super) fn note_checkpoint(&mut self, made: Checkpoint) {
        let Checkpoint { took, outcome } = made;
        self.timers.checkpoint.observe(took.as_secs_f64());
        let fault = outcome.err().map(|fault| judge(&fault));
        if let Some(fault) = fault.filter(Error::is_final) {
            tracing::error!(%fault, "a checkpoint failed, nothing more is written");
            *self.fault.lock().unwrap_or_else(PoisonError::into_inner) = Some(fault.to_string());
            self.broken = Some(fault);
        }
    }

    /// Says a fault when it begins and when it is over, not at each write between.
    fn note(&self, outcome: Option<&Error>) {
        let mut fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        match (fault.is_some(), outcome) {
            (false, Some(error)) => tracing::error!(%error, "a commit failed, writes are retried"),
            (true, None) => tracing::info!("commits work again"),
            _ => {}
        }
        *fault = outcome.map(ToString::to_string);
    }
}

impl Commit for Writer {
    type Write = Write;
    /// One write may be refused while the others of its group are committed.
    type Answer = Result<Answer, Error>;
    type Error = Error;

    fn commit(&mut self, writes: &[Write]) -> Result<Vec<Self::Answer>, Error> {
        if let Some(broken) = &self.broken {
            return Err(broken.clone());
        }
        let timer = self.timers.commit.start_timer();
        let outcome = self.try_commit(writes).map_err(|fault| judge(&fault));
        timer.observe_duration();
        self.note(outcome.as_ref().err());
        if let Err(error) = &outcome
            && error.is_final()
        {
            self.broken = Some(error.clone());
        }
        if let Some(made) = checkpoint::take_last() {
            self.note_checkpoint(made);
        }
        outcome
    }

    fn weight(write: &Write) -> usize {
        match write {
            Write::TakeLane { .. } | Write::CancelJob { .. } | Write::AddJob { .. } => 1,
            Write::PutEndpoint(_) | Write::RemoveEndpoint { .. } | Write::RemoveClient { .. } => 3,
            Write::Accept(accept) => rows_of(accept),
            Write::TakeIn(intake) => {
                let events = intake.events.iter().map(|event| rows_of(&event.accept));
                1 + events.sum::<usize>()
            }
            Write::Change(changes) => changes.iter().map(rows_of_change).sum(),
            Write::Reported { .. } => SLICE,
            Write::Retire { .. } | Write::Purge { .. } => 4 * RETIRE_SLICE,
            Write::Slice(slice) => {
                let changes = slice.changes.iter().map(rows_of_change);
                1 + changes.sum::<usize>() + 2 * slice.late.len()
            }
        }
    }

    fn payer(write: &Write) -> u64 {
        let Write::Accept(accept) = write else {
            return 0;
        };
        let mut hasher = DefaultHasher::new();
        accept.client_id.hash(&mut hasher);
        // 0 is nobody.
        hasher.finish().max(1)
    }
}

fn rows_of(accept: &Accept) -> usize {
    2 + accept.deliveries.len()
}

fn rows_of_change(change: &Change) -> usize {
    let outcome = usize::from(change.report.is_some());
    let raised = change.raise.iter().map(rows_of);
    let next = change.next.as_deref().map_or(0, rows_of_change);
    1 + usize::from(change.ended.is_some()) + outcome + raised.sum::<usize>() + next
}

/// Which faults pass. After a failed fsync the pages may be gone although a repeated fsync says otherwise (R6).
pub(super) fn judge(fault: &rusqlite::Error) -> Error {
    let text = fault.to_string();
    let Some(code) = fault.sqlite_error() else {
        return Error::Broken(text);
    };
    let fsync = [ffi::SQLITE_IOERR_FSYNC, ffi::SQLITE_IOERR_DIR_FSYNC];
    match code.code {
        ErrorCode::DatabaseCorrupt | ErrorCode::NotADatabase | ErrorCode::ConstraintViolation => {
            Error::Broken(text)
        }
        _ if fsync.contains(&code.extended_code) => Error::Broken(text),
        _ => Error::Passing(text),
    }
}

fn apply(
    tx: &Transaction<'_>,
    vault: &Vault,
    write: &Write,
) -> rusqlite::Result<Result<Answer, Error>> {
    let answer = match write {
        Write::Accept(accept) => return accept::accept(tx, accept),
        Write::TakeIn(intake) => return feed::take_in(tx, intake),
        Write::TakeLane { lane, owner, now } => Answer::Epoch(lanes::take(tx, *lane, owner, *now)?),
        Write::PutEndpoint(put) => Answer::Put(endpoints::put(tx, vault, put)?),
        Write::RemoveEndpoint { lane, job } => Answer::Version(endpoints::remove(tx, *lane, job)?),
        Write::RemoveClient { lane, job } => Answer::Known(clients::remove(tx, *lane, job)?),
        Write::Change(all) => {
            let changed = all.iter().map(|change| changes::change(tx, change));
            Answer::Changed(changed.collect::<rusqlite::Result<_>>()?)
        }
        Write::Reported { lane, upto } => {
            outcomes::reported(tx, *lane, *upto)?;
            Answer::Done
        }
        Write::Retire {
            lane,
            after,
            before,
        } => Answer::Retired(retention::retire(tx, *lane, *after, *before)?),
        Write::AddJob { lane, job } => {
            jobs::insert(tx, *lane, job)?;
            Answer::Done
        }
        Write::CancelJob { id, now } => Answer::Job(jobs::cancel(tx, *id, *now)?.map(Box::new)),
        Write::Slice(slice) => Answer::Sliced(jobs::slice(tx, slice)?),
        Write::Purge { lane, client } => Answer::Purged(retention::purge(tx, *lane, *client)?),
    };
    Ok(Ok(answer))
}
