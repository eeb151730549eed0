//! A change of a delivery's life, with everything that is of its commit.

use rusqlite::{OptionalExtension as _, Result, Transaction, params};

use super::lanes::{advance, fence};
use super::outcomes::{Told, report};
use super::rows::micros;
use super::{accept, endpoints};
use crate::domain::endpoint::DISABLED_TYPE;
use crate::domain::ids::{Lane, Position};
use crate::error::Error;
use crate::storage::{Accept, Change, Changed, Ended, Placed, code_of};

/// What is kept of an answer once there was a later attempt, in bytes.
const EARLIER_RESPONSE_MAX: usize = 1_024;

pub(super) fn change(
    tx: &Transaction<'_>,
    change: &Change,
) -> Result<std::result::Result<Changed, Error>> {
    if let Some(next) = &change.next
        && let Err(refused) = may(tx, next)?
    {
        return Ok(Err(refused));
    }
    if let Err(fenced) = is_owners(tx, change)? {
        return Ok(Err(fenced));
    }
    let tail = match change.to_tail {
        true => Some(advance(tx, change.lane, 1)?),
        false => None,
    };
    if !update(tx, change, tail)? {
        return Ok(Err(Error::Stale));
    }
    let (lane, now) = (change.lane, change.now);
    if let Some(ended) = &change.ended {
        record(tx, lane, change.position, ended)?;
    }
    if let Some(epoch) = change.report
        && is_from_hub(tx, lane, change.position)?
    {
        let error = change
            .ended
            .as_ref()
            .and_then(|ended| ended.error.as_deref());
        let told = Told::of(&change.life, error, now);
        report(tx, lane, change.position, epoch, &told)?;
    }
    let disables = match change.disable {
        Some(reason) => {
            let endpoint = endpoint_of(tx, lane, change.position)?;
            endpoints::disable(tx, lane, endpoint, reason, now)?
        }
        None => false,
    };
    let raised = change
        .raise
        .iter()
        .map(|accept| raise(tx, accept, disables));
    let raised = raised.collect::<Result<_>>()?;
    let next = match &change.next {
        Some(next) => match self::change(tx, next)? {
            Ok(changed) => Some(Box::new(changed)),
            Err(refused) => return Ok(Err(refused)),
        },
        None => None,
    };
    Ok(Ok(Changed {
        order_at: tail,
        raised,
        next,
    }))
}

/// Of several changes that would have disabled an endpoint, the one that did says so.
fn raise(tx: &Transaction<'_>, accept: &Accept, disables: bool) -> Result<Option<Placed>> {
    if !disables && accept.event.carried.event_type == DISABLED_TYPE {
        return Ok(None);
    }
    accept::raise(tx, accept)
}

/// Whether a change would be taken: asked before what it is to be committed with is written.
fn may(tx: &Transaction<'_>, change: &Change) -> Result<std::result::Result<(), Error>> {
    if let Err(fenced) = is_owners(tx, change)? {
        return Ok(Err(fenced));
    }
    let is_seen = tx
        .prepare_cached("SELECT 1 FROM deliveries WHERE lane = ? AND position = ? AND version = ?")?
        .exists(params![change.lane, change.position, change.version])?;
    Ok(is_seen.then_some(()).ok_or(Error::Stale))
}

fn is_owners(tx: &Transaction<'_>, change: &Change) -> Result<std::result::Result<(), Error>> {
    let Some(epoch) = change.fence else {
        return Ok(Ok(()));
    };
    fence(tx, change.lane, epoch)
}

/// Whether event-store is told of a delivery.
fn is_from_hub(tx: &Transaction<'_>, lane: Lane, delivery: Position) -> Result<bool> {
    tx.prepare_cached("SELECT from_hub FROM deliveries WHERE lane = ? AND position = ?")?
        .query_row(params![lane, delivery], |row| row.get(0))
}

fn endpoint_of(tx: &Transaction<'_>, lane: Lane, delivery: Position) -> Result<Position> {
    tx.prepare_cached("SELECT endpoint FROM deliveries WHERE lane = ? AND position = ?")?
        .query_row(params![lane, delivery], |row| row.get(0))
}

/// Writes the new life; answers whether the version was the one that is there. Without RETURNING, for which SQLite keeps
/// a table and a journal of each statement.
fn update(tx: &Transaction<'_>, change: &Change, tail: Option<Position>) -> Result<bool> {
    let (lane, life) = (change.lane, &change.life);
    let changed = tx
        .prepare_cached(
            "UPDATE deliveries SET version = ?, status = ?, reason = ?, generation = ?, next_trigger = ?, started = ?,
            started_before = ?, finished = ?, interrupted = ?, interrupted_in_a_row = ?, stop = ?, due_at = ?,
            age_from = ?, open_epoch = ?, open_alone = ?, open_at = ?, open_trigger = ?, blocks = ?,
            code = coalesce(?, code), order_at = coalesce(?, order_at), ended_at = ?
         WHERE lane = ? AND position = ? AND version = ?",
        )?
        .execute(params![
            life.version,
            life.state.status().as_str(),
            life.state.reason(),
            life.generation,
            life.trigger.as_str(),
            life.started,
            life.before,
            life.finished,
            life.interrupted,
            life.interrupted_in_a_row,
            life.stop.map(|stop| stop.as_str()),
            life.due_at.map(micros),
            micros(life.age_from),
            life.open.map(|open| open.epoch),
            life.open.map(|open| open.alone),
            life.open.map(|open| micros(open.at)),
            life.open.map(|open| open.trigger.as_str()),
            change.blocks,
            change.ended.as_ref().and_then(code_of),
            tail,
            life.state.is_terminal().then_some(micros(change.now)),
            lane,
            change.position,
            change.version,
        ])?;
    Ok(changed > 0)
}

fn record(tx: &Transaction<'_>, lane: Lane, delivery: Position, ended: &Ended) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO attempts (lane, delivery, number, epoch, made_by, started_at, duration_ms, dns_ms, connect_ms,
            head_ms, body_ms, status_code, error, error_reason, resent, response, next_attempt_at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        lane,
        delivery,
        ended.number,
        ended.epoch,
        ended.trigger.as_str(),
        micros(ended.started_at),
        ended.duration_ms,
        ended.phases.dns_ms,
        ended.phases.connect_ms,
        ended.phases.head_ms,
        ended.phases.body_ms,
        ended.status_code,
        ended.error,
        ended.error_reason,
        ended.resent,
        ended.response,
        ended.next_attempt_at.map(micros),
    ])?;
    match ended.number {
        0 | 1 => Ok(()),
        later => cut_response(tx, lane, delivery, later - 1),
    }
}

fn cut_response(tx: &Transaction<'_>, lane: Lane, delivery: Position, number: u32) -> Result<()> {
    let long: Option<String> = tx
        .prepare_cached(
            "SELECT response FROM attempts
             WHERE lane = ? AND delivery = ? AND number = ? AND octet_length(response) > ?",
        )?
        .query_row(
            params![lane, delivery, number, EARLIER_RESPONSE_MAX],
            |row| row.get(0),
        )
        .optional()?;
    if let Some(long) = long {
        let short = &long[..long.floor_char_boundary(EARLIER_RESPONSE_MAX)];
        tx.prepare_cached(
            "UPDATE attempts SET response = ? WHERE lane = ? AND delivery = ? AND number = ?",
        )?
        .execute(params![short, lane, delivery, number])?;
    }
    Ok(())
}
