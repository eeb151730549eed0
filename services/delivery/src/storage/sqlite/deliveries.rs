//! Deliveries, as rows.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Result, Transaction, params};

use super::rows::micros;
use crate::domain::ids::{Lane, Position};
use crate::storage::NewDelivery;

/// Whose delivery it is.
#[derive(Clone, Copy)]
pub(super) struct Of {
    pub(super) event: Position,
    pub(super) client: Position,
    /// Event-store is told of it.
    pub(super) from_hub: bool,
}

pub(super) fn insert(
    tx: &Transaction<'_>,
    lane: Lane,
    position: Position,
    of: Of,
    new: &NewDelivery,
    now: Timestamp,
) -> Result<()> {
    let life = &new.life;
    tx.prepare_cached(
        "INSERT INTO deliveries (lane, position, delivery_id, event, client, endpoint, line, order_at, from_hub, version,
            status, reason, generation, next_trigger, started, started_before, finished, interrupted,
            interrupted_in_a_row, stop, due_at, age_from, open_epoch, open_alone, open_at, open_trigger, blocks, created_at,
            ended_at, last_outcome)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, 0, ?, ?, 0)",
    )?
    .execute(params![
        lane,
        position,
        new.delivery_id.uuid.as_bytes(),
        of.event,
        of.client,
        new.endpoint,
        new.line.cast_signed(),
        position,
        of.from_hub,
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
        micros(now),
        life.state.is_terminal().then_some(micros(now)),
    ])?;
    Ok(())
}

/// Where an event's deliveries are, in order.
pub(super) fn of_event(
    connection: &Connection,
    lane: Lane,
    event: Position,
    fanout: u64,
) -> Result<Vec<Position>> {
    let mut positions: Vec<Position> = (event + 1..=event + fanout).collect();
    let mut statement = connection.prepare_cached(
        "SELECT delivery FROM late WHERE lane = ? AND event = ? ORDER BY delivery",
    )?;
    for late in statement.query_map(params![lane, event], |row| row.get(0))? {
        positions.push(late?);
    }
    Ok(positions)
}

/// Where an event's delivery for an endpoint is.
pub(super) fn of_event_for(
    connection: &Connection,
    lane: Lane,
    event: Position,
    fanout: u64,
    endpoint: Position,
) -> Result<Option<Position>> {
    connection
        .prepare_cached(
            "SELECT position FROM deliveries
             WHERE lane = ?1 AND position > ?2 AND position <= ?2 + ?3 AND endpoint = ?4
             UNION ALL
             SELECT d.position FROM late l JOIN deliveries d ON d.lane = l.lane AND d.position = l.delivery
             WHERE l.lane = ?1 AND l.event = ?2 AND d.endpoint = ?4 LIMIT 1",
        )?
        .query_row(params![lane, event, fanout, endpoint], |row| row.get(0))
        .optional()
}
