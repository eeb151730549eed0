//! Reads: by key, bounded, so that no read transaction is held for long.

use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Result, params, params_from_iter};
use schema::delivery::{DeliveryState, Outcome, Status};

use super::rows::{self, JOINED, JOINED_BY_STATUS, STORED, SUMMARY};
use crate::domain::delivery::{DeliveryId, Lane, Position};
use crate::storage::{Attempt, Filler, Filter, Page, SLICE, Stored, Summary, Waiting};

pub(super) const FEED_CURSOR: &str = "feed";

pub(super) fn cursor(connection: &Connection, lane: Lane) -> Result<Option<String>> {
    connection
        .prepare_cached("SELECT token FROM cursors WHERE lane = ? AND name = ?")?
        .query_row(params![lane, FEED_CURSOR], |row| row.get(0))
        .optional()
}

pub(super) fn waiting(
    connection: &Connection,
    lane: Lane,
    after: Position,
    limit: usize,
) -> Result<Vec<Waiting>> {
    // Each half is an ordered walk of the status index, which applies where its condition is repeated.
    let mut statement = connection.prepare_cached(
        "SELECT d.position, d.endpoint_id, d.due_at, d.interrupted_in_a_row, d.open_epoch IS NOT NULL
         FROM (SELECT * FROM (SELECT lane, position FROM deliveries
                              WHERE lane = ?1 AND status <> 'delivered' AND status = 'pending' AND position > ?2 ORDER BY position LIMIT ?3)
               UNION ALL
               SELECT * FROM (SELECT lane, position FROM deliveries
                              WHERE lane = ?1 AND status <> 'delivered' AND status = 'failed' AND position > ?2 ORDER BY position LIMIT ?3)
               ORDER BY position LIMIT ?3) open
         JOIN deliveries d ON d.lane = open.lane AND d.position = open.position
         ORDER BY d.position",
    )?;
    let rows = statement.query_map(params![lane, after, limit], |row| {
        Ok(Waiting {
            position: row.get(0)?,
            endpoint_id: row.get::<_, String>(1)?.into(),
            due_at: rows::at(row, 2)?,
            suspect: crate::domain::transition::is_suspect(row.get(3)?),
            attempt_open: row.get(4)?,
        })
    })?;
    rows.collect()
}

pub(super) fn load(
    connection: &Connection,
    lane: Lane,
    positions: &[Position],
) -> Result<Vec<Stored>> {
    let sql = format!("SELECT {STORED} FROM {JOINED} WHERE d.lane = ? AND d.position = ?");
    let mut statement = connection.prepare_cached(&sql)?;
    let mut found = Vec::with_capacity(positions.len());
    for position in positions {
        let row = statement.query_row(params![lane, position], |row| rows::stored(row, lane));
        found.extend(row.optional()?);
    }
    Ok(found)
}

pub(super) fn unreported(connection: &Connection, lane: Lane) -> Result<Vec<Outcome>> {
    let mut statement = connection.prepare_cached(
        "SELECT o.epoch, o.position, o.status, o.attempts, o.reason, o.at,
                d.delivery_id, d.endpoint_id, e.event_id, e.revision, e.correlation_id
         FROM outcomes o
         JOIN deliveries d ON d.lane = o.lane AND d.position = o.delivery
         JOIN events e ON e.lane = d.lane AND e.position = d.event
         WHERE o.lane = ? ORDER BY o.position LIMIT ?",
    )?;
    let rows = statement.query_map(params![lane, SLICE], |row| {
        let status: String = row.get(2)?;
        let delivery_id = DeliveryId {
            lane,
            uuid: uuid::Uuid::from_bytes(row.get(6)?),
        };
        let state = DeliveryState {
            destination: row.get(7)?,
            delivery_id: delivery_id.to_string(),
            status: Status::parse(&status).ok_or_else(|| rows::unreadable(2, status))?,
            attempts: row.get(3)?,
            reason: row.get(4)?,
            at: rows::at(row, 5)?,
        };
        Ok(Outcome {
            epoch: row.get(0)?,
            position: row.get(1)?,
            event_id: rows::event_id(row, 8)?,
            revision: row.get(9)?,
            correlation_id: rows::correlation_id(row, 10)?,
            state,
        })
    })?;
    rows.collect()
}

pub(super) fn deliveries(connection: &Connection, lane: Lane, filter: &Filter) -> Result<Page> {
    let (sql, values) = list(lane, filter);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;

    let mut filler = Filler::new(filter.limit);
    while let Some(row) = rows.next()? {
        let matches = match filter.status {
            Some(status) => rows::status(row)? == status,
            None => true,
        };
        let offered = filler.offer(row.get(0)?, matches, || rows::summary(row, lane))?;
        if offered.is_break() {
            break;
        }
    }
    Ok(filler.page)
}

/// The rows that may match, by the index that leaves the fewest.
pub(super) fn list(lane: Lane, filter: &Filter) -> (String, Vec<Value>) {
    let before = filter.before.and_then(|before| i64::try_from(before).ok());
    let (lane, before) = (
        Value::from(i64::from(lane)),
        Value::from(before.unwrap_or(i64::MAX)),
    );
    let (from, condition, values) = match (&filter.event_id, filter.status) {
        // The plus keeps SQLite from walking all positions in search of these few.
        (Some(event_id), _) => (
            JOINED,
            "+d.position < ? AND d.position IN (SELECT delivery FROM known WHERE lane = ? AND event_id = ?)",
            vec![lane.clone(), before, lane, Value::from(event_id.clone())],
        ),
        (None, None | Some(Status::Delivered)) => (JOINED, "d.position < ?", vec![lane, before]),
        // Its condition is repeated, so that the partial index applies.
        (None, Some(status)) => (
            JOINED_BY_STATUS,
            "d.position < ? AND d.status <> 'delivered' AND d.status = ?",
            vec![lane, before, Value::from(status.as_str().to_owned())],
        ),
    };
    let sql = format!(
        "SELECT {SUMMARY} FROM {from} WHERE d.lane = ? AND {condition} ORDER BY d.position DESC"
    );
    (sql, values)
}

pub(super) fn delivery(
    connection: &Connection,
    id: DeliveryId,
) -> Result<Option<(Summary, Vec<Attempt>)>> {
    let sql = format!("SELECT {SUMMARY} FROM {JOINED} WHERE d.lane = ? AND d.delivery_id = ?");
    let summary = connection
        .prepare_cached(&sql)?
        .query_row(params![id.lane, id.uuid.as_bytes()], |row| {
            rows::summary(row, id.lane)
        })
        .optional()?;
    let Some(summary) = summary else {
        return Ok(None);
    };
    let mut statement = connection.prepare_cached(
        "SELECT number, epoch, started_at, ended, duration_ms, status_code, error, response, next_attempt_at
         FROM attempts WHERE lane = ? AND delivery = ? ORDER BY number",
    )?;
    let attempts = statement
        .query_map(params![id.lane, summary.position], rows::attempt)?
        .collect::<Result<_>>()?;
    Ok(Some((summary, attempts)))
}
