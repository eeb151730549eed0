//! The count of an attempt before its send, and its result after.

use jiff::Timestamp;
use rusqlite::{Transaction, params};

use super::outcomes::{Told, report};
use super::rows::micros;
use super::writer::{Answer, fence};
use crate::domain::delivery::{Lane, Position};
use crate::domain::transition::Life;
use crate::error::Error;
use crate::storage::{Epoch, Finish, Start};

pub(super) fn open_attempt(
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

pub(super) fn count(
    transaction: &Transaction<'_>,
    start: &Start,
) -> rusqlite::Result<Result<Answer, Error>> {
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

pub(super) fn record(
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
        let told = Told::of(life, ended.error.as_deref(), finish.now);
        report(
            transaction,
            finish.lane,
            finish.position,
            finish.epoch,
            &told,
        )?;
    }
    Ok(Ok(Answer::Done))
}
