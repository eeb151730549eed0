//! One event, with its payload and deliveries.

use bytes::Bytes;
use rusqlite::{Connection, OptionalExtension as _, Params, Result, params};
use schema::delivery::Status;
use schema::webhooks::Counts;

use crate::domain::ids::{EventId, Lane, Position};
use crate::storage::sqlite::deliveries::of_event;
use crate::storage::sqlite::rows::{self, Columns, EVENT, EventRow, SUMMARY, SUMMARY_JOINS};
use crate::storage::{Summary, WholeEvent};

pub(in crate::storage::sqlite) fn event(
    connection: &Connection,
    id: EventId,
) -> Result<Option<WholeEvent>> {
    let key = params![id.lane, id.uuid.as_bytes()];
    whole(connection, id.lane, "e.lane = ? AND e.event_id = ?", key)
}

pub(in crate::storage::sqlite) fn event_at(
    connection: &Connection,
    lane: Lane,
    position: Position,
) -> Result<Option<WholeEvent>> {
    let key = params![lane, position];
    whole(connection, lane, "e.lane = ? AND e.position = ?", key)
}

fn whole(
    connection: &Connection,
    lane: Lane,
    condition: &str,
    key: impl Params,
) -> Result<Option<WholeEvent>> {
    let found = connection
        .prepare_cached(&format!(
            "SELECT {EVENT}, e.payload FROM events e
             CROSS JOIN clients c ON c.lane = e.lane AND c.position = e.client WHERE {condition}"
        ))?
        .query_row(key, |row| {
            let payload: Vec<u8> = row.get("payload")?;
            Ok((rows::event(row, lane)?, Bytes::from(payload)))
        })
        .optional()?;
    let Some((mut event, payload)) = found.filter(|(event, _)| !event.client_removed) else {
        return Ok(None);
    };
    (event.summary.counts, _) = read_counts(connection, lane, &event, |_, _| true)?;
    let mut deliveries = Vec::new();
    for position in of_event(connection, lane, event.summary.position, event.fanout)? {
        let found = summary_at(connection, lane, position)?;
        deliveries.extend(found.map(|(summary, _)| summary));
    }
    Ok(Some(WholeEvent {
        summary: event.summary,
        payload,
        deliveries,
    }))
}

/// A delivery as lists tell it, and whether its client is removed.
pub(super) fn summary_at(
    connection: &Connection,
    lane: Lane,
    position: Position,
) -> Result<Option<(Summary, bool)>> {
    connection
        .prepare_cached(&format!(
            "SELECT {SUMMARY} FROM deliveries d {SUMMARY_JOINS} WHERE d.lane = ? AND d.position = ?"
        ))?
        .query_row(params![lane, position], |row| rows::summary(row, lane))
        .optional()
}

/// A delivery's status as its own view tells it: what is open for a removed endpoint is given up, though its row does not
/// say so yet.
const STANDS: &str = "iif(d.status IN ('pending', 'failed') AND d.open_epoch IS NULL
    AND (SELECT p.removed FROM endpoints p WHERE p.lane = d.lane AND p.position = d.endpoint), 'exhausted', d.status)";

/// How many of an event's deliveries stand where, and whether one is asked for by its endpoint and code.
pub(super) fn read_counts(
    connection: &Connection,
    lane: Lane,
    event: &EventRow,
    asked: impl Fn(Position, Option<String>) -> bool,
) -> Result<(Counts, bool)> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {STANDS}, d.endpoint, d.code FROM deliveries d
         WHERE d.lane = ?1 AND d.position > ?2 AND d.position <= ?2 + ?3
         UNION ALL
         SELECT {STANDS}, d.endpoint, d.code
         FROM late l CROSS JOIN deliveries d ON d.lane = l.lane AND d.position = l.delivery
         WHERE l.lane = ?1 AND l.event = ?2"
    ))?;
    let mut rows = statement.query(params![lane, event.summary.position, event.fanout])?;
    let (mut counts, mut is_asked) = (Counts::default(), false);
    while let Some(row) = rows.next()? {
        let mut columns = Columns::of(row);
        let count = match columns.word(Status::parse)? {
            Status::Pending => &mut counts.pending,
            Status::Failed => &mut counts.failed,
            Status::Delivered => &mut counts.delivered,
            Status::Exhausted => &mut counts.exhausted,
            Status::Skipped => &mut counts.skipped,
        };
        *count += 1;
        is_asked |= asked(columns.get()?, columns.get()?);
    }
    Ok((counts, is_asked))
}
