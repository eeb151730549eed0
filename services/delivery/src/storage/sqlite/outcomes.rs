//! The outbox towards event-store.

use jiff::Timestamp;
use rusqlite::{Connection, Result, Transaction, params};
use schema::EventId as SourceId;
use schema::delivery::{DeliveryState, Outcome, Status};

use super::lanes::{REPORTS, advance, cursor, set_cursor};
use super::rows::{Columns, micros};
use crate::domain::ids::{DeliveryId, Lane, Position};
use crate::domain::transition::Life;
use crate::storage::{Epoch, SLICE};

/// What an outcome says, as its row has it.
pub(super) struct Told {
    pub(super) status: String,
    pub(super) attempts: u32,
    pub(super) reason: Option<String>,
    pub(super) at: i64,
}

impl Told {
    pub(super) fn of(life: &Life, error: Option<&str>, at: Timestamp) -> Self {
        Self {
            status: life.state.status().as_str().to_owned(),
            attempts: life.finished,
            reason: life.state.reason().or(error).map(str::to_owned),
            at: micros(at),
        }
    }
}

pub(super) fn report(
    tx: &Transaction<'_>,
    lane: Lane,
    delivery: Position,
    epoch: Epoch,
    told: &Told,
) -> Result<()> {
    let position = advance(tx, lane, 1)?;
    tx.prepare_cached(
        "INSERT INTO outcomes (lane, position, delivery, epoch, status, attempts, reason, at)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        lane,
        position,
        delivery,
        epoch,
        told.status,
        told.attempts,
        told.reason,
        told.at,
    ])?;
    tx.prepare_cached("UPDATE deliveries SET last_outcome = ? WHERE lane = ? AND position = ?")?
        .execute(params![position, lane, delivery])?;
    Ok(())
}

pub(super) fn unreported(connection: &Connection, lane: Lane) -> Result<Vec<Outcome>> {
    let mut statement = connection.prepare_cached(
        "SELECT o.epoch, o.position, e.source_event_id, e.revision, e.correlation_id,
            p.endpoint_id, d.delivery_id, o.status, o.attempts, o.reason, o.at
         FROM outcomes o
         JOIN deliveries d ON d.lane = o.lane AND d.position = o.delivery
         JOIN events e ON e.lane = d.lane AND e.position = d.event
         JOIN endpoints p ON p.lane = d.lane AND p.position = d.endpoint
         WHERE o.lane = ? ORDER BY o.position LIMIT ?",
    )?;
    let rows = statement.query_map(params![lane, SLICE], |row| {
        let mut columns = Columns::of(row);
        Ok(Outcome {
            epoch: columns.get()?,
            position: columns.get()?,
            event_id: SourceId::try_from(columns.get::<String>()?)
                .map_err(|why| columns.unreadable(why))?,
            revision: columns.get()?,
            correlation_id: columns.correlation_id()?,
            state: DeliveryState {
                destination: columns.get()?,
                delivery_id: DeliveryId {
                    lane,
                    uuid: columns.uuid()?,
                }
                .to_string(),
                status: columns.word(Status::parse)?,
                attempts: columns.get()?,
                reason: columns.get()?,
                at: columns.at()?,
            },
        })
    })?;
    rows.collect()
}

pub(super) fn reported(tx: &Transaction<'_>, lane: Lane, upto: Position) -> Result<()> {
    tx.prepare_cached("DELETE FROM outcomes WHERE lane = ? AND position <= ?")?
        .execute(params![lane, upto])?;
    set_cursor(tx, lane, REPORTS, &upto.to_string())
}

/// The last outcome that event-store has acknowledged.
pub(super) fn reports_cursor(connection: &Connection, lane: Lane) -> Result<Position> {
    let token = cursor(connection, lane, REPORTS)?;
    Ok(token.and_then(|token| token.parse().ok()).unwrap_or(0))
}
