//! The one writer: what is queued is one transaction.

use std::sync::{Arc, Mutex, PoisonError};

use jiff::Timestamp;
use prometheus::Histogram;
use runtime::group_commit::Commit;
use rusqlite::{
    Connection, ErrorCode, OptionalExtension as _, Transaction, TransactionBehavior, ffi, params,
};

use super::read::FEED_CURSOR;
use super::rows::micros;
use crate::domain::delivery::{Lane, Position};
use crate::domain::transition::Life;
use crate::error::Error;
use crate::storage::{
    Epoch, Finish, Intake, NewDelivery, RETIRE_SLICE, Retired, SLICE, Start, next_epoch,
};

/// The reports' cursor: the last outcome that event-store has acknowledged.
const REPORTS_CURSOR: &str = "reports";

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
            Write::Reported { .. } | Write::Retire { .. } => SLICE,
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
        Write::Intake(intake) => take_in(transaction, intake),
        Write::Start(start) => count(transaction, start),
        Write::Finish(finish) => record(transaction, finish),
        Write::Reported { lane, upto } => {
            reported(transaction, *lane, *upto).map(|()| Ok(Answer::Done))
        }
        Write::Retire {
            lane,
            after,
            before,
        } => {
            retire(transaction, *lane, *after, *before).map(|retired| Ok(Answer::Retired(retired)))
        }
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

fn fence(
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

fn advance(transaction: &Transaction<'_>, lane: Lane) -> rusqlite::Result<Position> {
    transaction
        .prepare_cached("UPDATE lanes SET head = head + 1 WHERE lane = ? RETURNING head")?
        .query_row([lane], |row| row.get(0))
}

fn set_cursor(
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

fn take_in(
    transaction: &Transaction<'_>,
    intake: &Intake,
) -> rusqlite::Result<Result<Answer, Error>> {
    if let Err(fenced) = fence(transaction, intake.lane, intake.epoch)? {
        return Ok(Err(fenced));
    }
    set_cursor(transaction, intake.lane, FEED_CURSOR, &intake.cursor)?;
    let mut positions = Vec::with_capacity(intake.deliveries.len());
    for new in &intake.deliveries {
        positions.push(insert(transaction, intake, new)?);
    }
    Ok(Ok(Answer::Inserted(positions)))
}

fn insert(
    transaction: &Transaction<'_>,
    intake: &Intake,
    new: &NewDelivery,
) -> rusqlite::Result<Option<Position>> {
    let (lane, event, now) = (intake.lane, &new.event, micros(intake.now));
    let position = advance(transaction, lane)?;
    let known = transaction
        .prepare_cached(
            "INSERT INTO known (lane, event_id, revision, endpoint_id, delivery) VALUES (?, ?, ?, ?, ?)
             ON CONFLICT DO NOTHING",
        )?
        .execute(params![lane, event.event_id.as_str(), event.revision, new.endpoint_id, position])?;
    if known == 0 {
        return Ok(None);
    }
    transaction
        .prepare_cached(
            "INSERT INTO events (lane, position, event_id, revision, correlation_id, stored_at, payload)
             VALUES (?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            lane,
            position,
            event.event_id.as_str(),
            event.revision,
            event.correlation_id.as_str(),
            micros(event.stored_at),
            event.payload.as_ref(),
        ])?;
    let life = &new.life;
    transaction
        .prepare_cached(
            "INSERT INTO deliveries (lane, position, delivery_id, event, endpoint_id, status, reason, started,
                finished, interrupted, interrupted_in_a_row, due_at, open_epoch, open_alone, created_at, ended_at,
                last_outcome)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0)",
        )?
        .execute(params![
            lane,
            position,
            new.delivery_id.uuid.as_bytes(),
            position,
            new.endpoint_id,
            life.state.status().as_str(),
            life.state.reason(),
            life.started,
            life.finished,
            life.interrupted,
            life.interrupted_in_a_row,
            life.due_at.map(micros),
            life.open.map(|open| open.epoch),
            life.open.is_some_and(|open| open.alone),
            now,
            life.state.is_terminal().then_some(now),
        ])?;
    if let Some(open) = life.open {
        open_attempt(transaction, lane, position, life, open.epoch, intake.now)?;
    }
    if new.report {
        report(
            transaction,
            lane,
            position,
            intake.epoch,
            life,
            None,
            intake.now,
        )?;
    }
    Ok(Some(position))
}

fn open_attempt(
    transaction: &Transaction<'_>,
    lane: Lane,
    delivery: Position,
    life: &Life,
    epoch: Epoch,
    now: Timestamp,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached(
            "INSERT INTO attempts (lane, delivery, number, epoch, started_at) VALUES (?, ?, ?, ?, ?)",
        )?
        .execute(params![lane, delivery, life.started, epoch, micros(now)])?;
    Ok(())
}

fn count(transaction: &Transaction<'_>, start: &Start) -> rusqlite::Result<Result<Answer, Error>> {
    let Some(open) = start.life.open else {
        return Ok(Err(Error::Stale));
    };
    if let Err(fenced) = fence(transaction, start.lane, open.epoch)? {
        return Ok(Err(fenced));
    }
    let changed = transaction
        .prepare_cached(
            "UPDATE deliveries SET started = ?, open_epoch = ?, open_alone = ?
             WHERE lane = ? AND position = ? AND started = ? - 1 AND open_epoch IS NULL
                AND status IN ('pending', 'failed')",
        )?
        .execute(params![
            start.life.started,
            open.epoch,
            open.alone,
            start.lane,
            start.position,
            start.life.started,
        ])?;
    if changed == 0 {
        return Ok(Err(Error::Stale));
    }
    open_attempt(
        transaction,
        start.lane,
        start.position,
        &start.life,
        open.epoch,
        start.now,
    )?;
    Ok(Ok(Answer::Done))
}

fn record(
    transaction: &Transaction<'_>,
    finish: &Finish,
) -> rusqlite::Result<Result<Answer, Error>> {
    let (life, ended) = (&finish.life, &finish.ended);
    let changed = transaction
        .prepare_cached(
            "UPDATE deliveries SET status = ?, reason = ?, finished = ?, interrupted = ?, interrupted_in_a_row = ?,
                due_at = ?, open_epoch = NULL, open_alone = 0, ended_at = ?
             WHERE lane = ? AND position = ? AND started = ? AND open_epoch = ?",
        )?
        .execute(params![
            life.state.status().as_str(),
            life.state.reason(),
            life.finished,
            life.interrupted,
            life.interrupted_in_a_row,
            life.due_at.map(micros),
            life.state.is_terminal().then_some(micros(finish.now)),
            finish.lane,
            finish.position,
            life.started,
            finish.attempt_epoch,
        ])?;
    if changed == 0 {
        return Ok(Err(Error::Stale));
    }
    transaction
        .prepare_cached(
            "UPDATE attempts SET ended = 1, duration_ms = ?, status_code = ?, error = ?, response = ?,
                next_attempt_at = ?
             WHERE lane = ? AND delivery = ? AND number = ?",
        )?
        .execute(params![
            ended.duration_ms,
            ended.status_code,
            ended.error,
            ended.response,
            life.due_at.map(micros),
            finish.lane,
            finish.position,
            life.started,
        ])?;
    if finish.report {
        let error = ended.error.as_deref();
        report(
            transaction,
            finish.lane,
            finish.position,
            finish.epoch,
            life,
            error,
            finish.now,
        )?;
    }
    Ok(Ok(Answer::Done))
}

fn report(
    transaction: &Transaction<'_>,
    lane: Lane,
    delivery: Position,
    epoch: Epoch,
    life: &Life,
    error: Option<&str>,
    now: Timestamp,
) -> rusqlite::Result<()> {
    let position = advance(transaction, lane)?;
    transaction
        .prepare_cached(
            "INSERT INTO outcomes (lane, position, delivery, epoch, status, attempts, reason, at)
             VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
        )?
        .execute(params![
            lane,
            position,
            delivery,
            epoch,
            life.state.status().as_str(),
            life.finished,
            life.state.reason().or(error),
            micros(now),
        ])?;
    transaction
        .prepare_cached("UPDATE deliveries SET last_outcome = ? WHERE lane = ? AND position = ?")?
        .execute(params![position, lane, delivery])?;
    Ok(())
}

fn reported(transaction: &Transaction<'_>, lane: Lane, upto: Position) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM outcomes WHERE lane = ? AND position <= ?")?
        .execute(params![lane, upto])?;
    set_cursor(transaction, lane, REPORTS_CURSOR, &upto.to_string())
}

/// One of the next deliveries by position.
struct Candidate {
    position: Position,
    event: Position,
    created_at: i64,
    ended_at: Option<i64>,
    last_outcome: Position,
    event_id: String,
    revision: u32,
    endpoint_id: String,
}

fn retire(
    transaction: &Transaction<'_>,
    lane: Lane,
    after: Position,
    before: Timestamp,
) -> rusqlite::Result<Retired> {
    let before = micros(before);
    let reported = reports_cursor(transaction, lane)?;
    let (mut removed, mut next) = (0, None);
    for candidate in candidates(transaction, lane, after)? {
        if candidate.created_at >= before {
            return Ok(Retired {
                removed,
                next: None,
            });
        }
        next = Some(candidate.position);
        let ended = candidate.ended_at.is_some_and(|ended| ended < before);
        if ended && candidate.last_outcome <= reported {
            remove(transaction, lane, &candidate)?;
            removed += 1;
        }
    }
    Ok(Retired { removed, next })
}

fn reports_cursor(transaction: &Transaction<'_>, lane: Lane) -> rusqlite::Result<Position> {
    let token: Option<String> = transaction
        .prepare_cached("SELECT token FROM cursors WHERE lane = ? AND name = ?")?
        .query_row(params![lane, REPORTS_CURSOR], |row| row.get(0))
        .optional()?;
    Ok(token.and_then(|token| token.parse().ok()).unwrap_or(0))
}

fn candidates(
    transaction: &Transaction<'_>,
    lane: Lane,
    after: Position,
) -> rusqlite::Result<Vec<Candidate>> {
    let mut statement = transaction.prepare_cached(
        "SELECT d.position, d.event, d.created_at, d.ended_at, d.last_outcome, e.event_id, e.revision, d.endpoint_id
         FROM deliveries d JOIN events e ON e.lane = d.lane AND e.position = d.event
         WHERE d.lane = ? AND d.position > ? ORDER BY d.position LIMIT ?",
    )?;
    let rows = statement.query_map(params![lane, after, RETIRE_SLICE], |row| {
        Ok(Candidate {
            position: row.get(0)?,
            event: row.get(1)?,
            created_at: row.get(2)?,
            ended_at: row.get(3)?,
            last_outcome: row.get(4)?,
            event_id: row.get(5)?,
            revision: row.get(6)?,
            endpoint_id: row.get(7)?,
        })
    })?;
    rows.collect()
}

fn remove(
    transaction: &Transaction<'_>,
    lane: Lane,
    candidate: &Candidate,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM attempts WHERE lane = ? AND delivery = ?")?
        .execute(params![lane, candidate.position])?;
    transaction
        .prepare_cached(
            "DELETE FROM known WHERE lane = ? AND event_id = ? AND revision = ? AND endpoint_id = ?",
        )?
        .execute(params![
            lane,
            candidate.event_id,
            candidate.revision,
            candidate.endpoint_id
        ])?;
    transaction
        .prepare_cached("DELETE FROM deliveries WHERE lane = ? AND position = ?")?
        .execute(params![lane, candidate.position])?;
    transaction
        .prepare_cached("DELETE FROM events WHERE lane = ? AND position = ?")?
        .execute(params![lane, candidate.event])?;
    Ok(())
}
