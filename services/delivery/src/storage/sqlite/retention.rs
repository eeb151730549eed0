//! Ended deliveries leave with everything that belongs to them.

use jiff::Timestamp;
use rusqlite::{Transaction, params};

use super::outcomes::reports_cursor;
use super::rows::micros;
use crate::domain::delivery::{Lane, Position};
use crate::storage::{RETIRE_SLICE, Retired};

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

pub(super) fn retire(
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
