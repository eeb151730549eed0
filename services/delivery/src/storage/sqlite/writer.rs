//! The one writer: what is queued is one transaction.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use prometheus::Histogram;
use runtime::group_commit::Commit;
use rusqlite::{
    Connection, ErrorCode, OptionalExtension as _, Transaction, TransactionBehavior, ffi, params,
};

use super::{attempts, intake, outcomes, retention};
use crate::domain::delivery::{Lane, Position};
use crate::error::Error;
use crate::storage::{Epoch, Finish, Intake, RETIRE_SLICE, Retired, SLICE, Start, next_epoch};

pub(super) enum Write {
    TakeLane {
        lane: Lane,
        owner: String,
        now: Timestamp,
    },
    Intake(Intake),
    Start(Start),
    Finish(Box<Finish>),
    Reported {
        lane: Lane,
        upto: Position,
    },
    Retire {
        lane: Lane,
        after: Position,
        before: Timestamp,
    },
}

pub(super) enum Answer {
    Done,
    Epoch(Epoch),
    Inserted(Vec<Option<Position>>),
    Retired(Retired),
}

impl Answer {
    pub(super) fn epoch(self) -> Result<Epoch, Error> {
        match self {
            Self::Epoch(epoch) => Ok(epoch),
            _ => Err(Self::mismatch()),
        }
    }

    pub(super) fn inserted(self) -> Result<Vec<Option<Position>>, Error> {
        match self {
            Self::Inserted(positions) => Ok(positions),
            _ => Err(Self::mismatch()),
        }
    }

    pub(super) fn retired(self) -> Result<Retired, Error> {
        match self {
            Self::Retired(retired) => Ok(retired),
            _ => Err(Self::mismatch()),
        }
    }

    fn mismatch() -> Error {
        Error::Broken("a write was answered as another one".to_owned())
    }
}

pub(super) struct Writer {
    pub(super) connection: Connection,
    commit_seconds: Histogram,
    pub(super) fault: Arc<Mutex<Option<String>>>,
    /// Set by a fault after which nothing on disk is certain: no further write is tried (R6).
    pub(super) broken: Option<Error>,
}

impl Writer {
    pub(super) fn new(
        connection: Connection,
        commit_seconds: Histogram,
        fault: Arc<Mutex<Option<String>>>,
    ) -> Self {
        // Every statement of a write stays prepared.
        connection.set_prepared_statement_cache_capacity(64);
        Self {
            connection,
            commit_seconds,
            fault,
            broken: None,
        }
    }

    fn try_commit(&mut self, writes: &[Write]) -> rusqlite::Result<Vec<Result<Answer, Error>>> {
        let transaction = self
            .connection
            .transaction_with_behavior(TransactionBehavior::Immediate)?;
        let mut answers = Vec::with_capacity(writes.len());
        for write in writes {
            answers.push(apply(&transaction, write)?);
        }
        transaction.commit()?;
        Ok(answers)
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
        let timer = self.commit_seconds.start_timer();
        let outcome = self.try_commit(writes).map_err(|fault| judge(&fault));
        timer.observe_duration();
        self.note(outcome.as_ref().err());
        if let Err(error) = &outcome
            && error.is_final()
        {
            self.broken = Some(error.clone());
        }
        outcome
    }

    fn weight(write: &Write) -> usize {
        match write {
            Write::TakeLane { .. } => 1,
            Write::Intake(intake) => 1 + 4 * intake.deliveries.len(),
            Write::Start(_) => 2,
            Write::Finish(_) => 3,
            Write::Reported { .. } => SLICE,
            Write::Retire { .. } => 4 * RETIRE_SLICE,
        }
    }
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

fn apply(transaction: &Transaction<'_>, write: &Write) -> rusqlite::Result<Result<Answer, Error>> {
    match write {
        Write::TakeLane { lane, owner, now } => {
            take_lane(transaction, *lane, owner, *now).map(|epoch| Ok(Answer::Epoch(epoch)))
        }
        Write::Intake(intake) => intake::take_in(transaction, intake),
        Write::Start(start) => attempts::count(transaction, start),
        Write::Finish(finish) => attempts::record(transaction, finish),
        Write::Reported { lane, upto } => {
            outcomes::reported(transaction, *lane, *upto).map(|()| Ok(Answer::Done))
        }
        Write::Retire {
            lane,
            after,
            before,
        } => retention::retire(transaction, *lane, *after, *before)
            .map(|retired| Ok(Answer::Retired(retired))),
    }
}

fn take_lane(
    transaction: &Transaction<'_>,
    lane: Lane,
    owner: &str,
    now: Timestamp,
) -> rusqlite::Result<Epoch> {
    let epoch = next_epoch(epoch_of(transaction, lane)?, now);
    transaction.execute(
        "INSERT INTO lanes (lane, owner, epoch, head) VALUES (?, ?, ?, 0)
         ON CONFLICT (lane) DO UPDATE SET owner = excluded.owner, epoch = excluded.epoch",
        params![lane, owner, epoch],
    )?;
    Ok(epoch)
}

fn epoch_of(transaction: &Transaction<'_>, lane: Lane) -> rusqlite::Result<Epoch> {
    let epoch = transaction
        .prepare_cached("SELECT epoch FROM lanes WHERE lane = ?")?
        .query_row([lane], |row| row.get(0))
        .optional()?;
    Ok(epoch.unwrap_or(0))
}

pub(super) fn fence(
    transaction: &Transaction<'_>,
    lane: Lane,
    ours: Epoch,
) -> rusqlite::Result<Result<(), Error>> {
    let holder = epoch_of(transaction, lane)?;
    Ok(if holder == ours {
        Ok(())
    } else {
        Err(Error::Fenced { ours, holder })
    })
}

pub(super) fn advance(transaction: &Transaction<'_>, lane: Lane) -> rusqlite::Result<Position> {
    transaction
        .prepare_cached("UPDATE lanes SET head = head + 1 WHERE lane = ? RETURNING head")?
        .query_row([lane], |row| row.get(0))
}

pub(super) fn set_cursor(
    transaction: &Transaction<'_>,
    lane: Lane,
    name: &str,
    token: &str,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO cursors (lane, name, token) VALUES (?, ?, ?)
             ON CONFLICT (lane, name) DO UPDATE SET token = excluded.token",
        )?
        .execute(params![lane, name, token])?;
    Ok(())
}
