//! A page of the feed, as rows.

use rusqlite::{OptionalExtension as _, Result, Transaction, params};

use super::accept::{client_of, duplicate, insert};
use super::lanes::{FEED, fence, set_cursor};
use super::outcomes::{Told, report};
use super::rows::micros;
use super::writer::Answer;
use super::{clients, deliveries};
use crate::domain::ids::Position;
use crate::error::Error;
use crate::storage::{Accepted, FeedEvent, Intake};

pub(super) fn take_in(
    tx: &Transaction<'_>,
    intake: &Intake,
) -> Result<std::result::Result<Answer, Error>> {
    if let Err(fenced) = fence(tx, intake.lane, intake.epoch)? {
        return Ok(Err(fenced));
    }
    for FeedEvent { accept, .. } in &intake.events {
        if clients::find(tx, accept.lane, &accept.client_id)? != accept.seen {
            return Ok(Ok(Answer::TakenIn(None)));
        }
    }
    set_cursor(tx, intake.lane, FEED, &intake.cursor)?;
    let mut taken = Vec::with_capacity(intake.events.len());
    for event in &intake.events {
        taken.push(take(tx, intake, event)?);
    }
    Ok(Ok(Answer::TakenIn(Some(taken))))
}

fn take(tx: &Transaction<'_>, intake: &Intake, event: &FeedEvent) -> Result<Accepted> {
    let accept = &event.accept;
    let known = clients::find(tx, accept.lane, &accept.client_id)?;
    if let Some(seen) = known
        && let Some(before) = duplicate(tx, accept, seen.client)?
    {
        if let Accepted::Duplicate { event: position } = before {
            report_again(tx, intake, event, position)?;
        }
        return Ok(before);
    }
    let client = client_of(tx, accept, known)?;
    let placed = insert(tx, accept, client)?;
    report_again(tx, intake, event, placed.event)?;
    Ok(Accepted::New(placed))
}

/// Tells what is on record of the deliveries that event-store has no word of.
fn report_again(
    tx: &Transaction<'_>,
    intake: &Intake,
    event: &FeedEvent,
    position: Position,
) -> Result<()> {
    let lane = intake.lane;
    let fanout = tx
        .prepare_cached("SELECT fanout FROM events WHERE lane = ? AND position = ?")?
        .query_row(params![lane, position], |row| row.get(0))
        .optional()?;
    let Some(fanout) = fanout else {
        return Ok(());
    };
    for delivery in deliveries::of_event(tx, lane, position, fanout)? {
        let told = tx
            .prepare_cached(
                "SELECT p.endpoint_id, d.status, d.finished, d.reason, d.ended_at
                 FROM deliveries d JOIN endpoints p ON p.lane = d.lane AND p.position = d.endpoint
                 WHERE d.lane = ? AND d.position = ? AND d.from_hub AND (d.finished > 0 OR d.ended_at IS NOT NULL)",
            )?
            .query_row(params![lane, delivery], |row| {
                let ended_at: Option<i64> = row.get(4)?;
                let told = Told {
                    status: row.get(1)?,
                    attempts: row.get(2)?,
                    reason: row.get(3)?,
                    at: ended_at.unwrap_or(micros(intake.now)),
                };
                Ok((row.get::<_, String>(0)?, told))
            })
            .optional()?;
        if let Some((endpoint, told)) = told
            && !event.told.contains(&endpoint)
        {
            report(tx, lane, delivery, intake.epoch, &told)?;
        }
    }
    Ok(())
}
