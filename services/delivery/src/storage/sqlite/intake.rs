//! A page of the feed, as rows.

use rusqlite::{OptionalExtension as _, Transaction, params};

use super::attempts::open_attempt;
use super::outcomes::{Told, report};
use super::read::FEED_CURSOR;
use super::rows::micros;
use super::writer::{Answer, advance, fence, set_cursor};
use crate::domain::delivery::Position;
use crate::error::Error;
use crate::storage::{Intake, NewDelivery};

pub(super) fn take_in(
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
        if new.untold {
            report_again(transaction, intake, new)?;
        }
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
    if new.untold && life.state.is_terminal() {
        let told = Told::of(life, None, intake.now);
        report(transaction, lane, position, intake.epoch, &told)?;
    }
    Ok(Some(position))
}

/// Tells again what is on record of a delivery that event-store has no word of.
fn report_again(
    transaction: &Transaction<'_>,
    intake: &Intake,
    new: &NewDelivery,
) -> rusqlite::Result<()> {
    let event = &new.event;
    let known = transaction
        .prepare_cached(
            "SELECT d.position, d.status, d.finished, d.reason, d.ended_at
             FROM known k JOIN deliveries d ON d.lane = k.lane AND d.position = k.delivery
             WHERE k.lane = ? AND k.event_id = ? AND k.revision = ? AND k.endpoint_id = ?
                AND (d.finished > 0 OR d.ended_at IS NOT NULL)",
        )?
        .query_row(
            params![
                intake.lane,
                event.event_id.as_str(),
                event.revision,
                new.endpoint_id
            ],
            |row| {
                let ended_at: Option<i64> = row.get(4)?;
                let told = Told {
                    status: row.get(1)?,
                    attempts: row.get(2)?,
                    reason: row.get(3)?,
                    at: ended_at.unwrap_or(micros(intake.now)),
                };
                Ok((row.get(0)?, told))
            },
        )
        .optional()?;
    if let Some((position, told)) = known {
        report(transaction, intake.lane, position, intake.epoch, &told)?;
    }
    Ok(())
}
