//! What the worker reads.

use jiff::{SignedDuration, Timestamp};
use rusqlite::{Connection, OptionalExtension as _, Result, params};
use schema::delivery::Status;

use super::lists::{EVENTS, first_made};
use crate::domain::ids::{Lane, Position};
use crate::domain::pages::Group;
use crate::storage::sqlite::deliveries::of_event_for;
use crate::storage::sqlite::rows::{self, STORED, STORED_FROM, WAITING, micros};
use crate::storage::{Candidate, Job, Stored, Waiting};

/// A clock that was set back by no more than this hides no event from a recovery.
const SET_BACK: SignedDuration = SignedDuration::from_mins(5);

/// What is open. Each is an ordered walk of the status index, which applies where its condition is repeated.
const OPEN: [Status; 2] = [Status::Pending, Status::Failed];
const OF_STATUS: &str = "FROM deliveries d INDEXED BY deliveries_by_status \
     WHERE d.lane = ?1 AND d.status <> 'delivered' AND d.status = ?2 AND d.position > ?3";

pub(in crate::storage::sqlite) fn waiting(
    connection: &Connection,
    lane: Lane,
    after: Position,
    limit: usize,
) -> Result<Vec<Waiting>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {WAITING} {OF_STATUS} ORDER BY d.position LIMIT ?4"
    ))?;
    let mut found = Vec::new();
    for status in OPEN {
        let values = params![lane, status.as_str(), after, limit];
        for row in statement.query_map(values, rows::waiting)? {
            found.push(row?);
        }
    }
    found.sort_by_key(|waiting| waiting.position);
    found.truncate(limit);
    Ok(found)
}

/// Read from the index alone, whose condition is repeated.
pub(in crate::storage::sqlite) fn undelivered(
    connection: &Connection,
    lane: Lane,
    endpoint: Position,
    late_before: Timestamp,
) -> Result<Vec<Group>> {
    let mut statement = connection.prepare_cached(
        "SELECT status, reason, count(*), sum(created_at < ?3), min(created_at)
         FROM deliveries INDEXED BY pages_undelivered
         WHERE lane = ?1 AND endpoint = ?2
            AND from_hub = 1 AND status <> 'delivered' AND reason IS NOT 'already_delivered'
         GROUP BY status, reason",
    )?;
    let rows = statement.query_map(params![lane, endpoint, micros(late_before)], rows::group)?;
    rows.collect()
}

pub(in crate::storage::sqlite) fn blocking(
    connection: &Connection,
    lane: Lane,
) -> Result<Vec<Waiting>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {WAITING} FROM deliveries d WHERE d.lane = ? AND d.blocks = 1 ORDER BY d.position"
    ))?;
    let rows = statement.query_map([lane], rows::waiting)?;
    rows.collect()
}

pub(in crate::storage::sqlite) fn load(
    connection: &Connection,
    lane: Lane,
    positions: &[Position],
) -> Result<Vec<Stored>> {
    let mut found = Vec::with_capacity(positions.len());
    for position in positions {
        found.extend(load_one(connection, lane, *position)?);
    }
    Ok(found)
}

fn load_one(connection: &Connection, lane: Lane, position: Position) -> Result<Option<Stored>> {
    connection
        .prepare_cached(&format!(
            "SELECT {STORED} FROM {STORED_FROM} WHERE d.lane = ? AND d.position = ?"
        ))?
        .query_row(params![lane, position], |row| rows::stored(row, lane))
        .optional()
}

pub(in crate::storage::sqlite) fn open_of(
    connection: &Connection,
    lane: Lane,
    endpoint: Position,
    after: Position,
    limit: usize,
) -> Result<Vec<Stored>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT d.position {OF_STATUS} AND d.endpoint = ?4 ORDER BY d.position LIMIT ?5"
    ))?;
    let mut positions: Vec<Position> = Vec::new();
    for status in OPEN {
        let values = params![lane, status.as_str(), after, endpoint, limit];
        for position in statement.query_map(values, |row| row.get(0))? {
            positions.push(position?);
        }
    }
    positions.sort_unstable();
    positions.truncate(limit);
    load(connection, lane, &positions)
}

pub(in crate::storage::sqlite) fn candidates(
    connection: &Connection,
    lane: Lane,
    job: &Job,
    limit: usize,
) -> Result<Vec<Candidate>> {
    let Some((endpoint, _)) = job.endpoint else {
        return Ok(Vec::new());
    };
    let earlier = job.since.saturating_sub(SET_BACK).unwrap_or(Timestamp::MIN);
    let later = job.until.saturating_add(SET_BACK).unwrap_or(Timestamp::MAX);
    let from = first_made(connection, EVENTS, lane, earlier)?;
    let after = job.progress.cursor.max(from.saturating_sub(1));
    let before = first_made(connection, EVENTS, lane, later)?;
    let mut statement = connection.prepare_cached(
        "SELECT position, event_type, operational, ordering_key, fanout FROM events INDEXED BY events_by_client
         WHERE lane = ? AND client = ? AND position > ? AND position < ? AND created_at >= ? AND created_at < ?
         ORDER BY position LIMIT ?",
    )?;
    let values = params![
        lane,
        job.client,
        after,
        before,
        micros(job.since),
        micros(job.until),
        limit
    ];
    let mut rows = statement.query(values)?;
    let mut found = Vec::new();
    while let Some(row) = rows.next()? {
        let (event, fanout) = (row.get(0)?, row.get(4)?);
        let delivery = of_event_for(connection, lane, event, fanout, endpoint)?;
        let delivery = delivery
            .map(|position| load_one(connection, lane, position))
            .transpose()?;
        found.push(Candidate {
            event,
            event_type: row.get(1)?,
            operational: row.get(2)?,
            ordering_key: row.get(3)?,
            delivery: delivery.flatten(),
        });
    }
    Ok(found)
}
