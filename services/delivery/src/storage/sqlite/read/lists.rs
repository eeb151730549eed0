//! Lists, newest first, by the index that leaves the fewest rows.

use jiff::Timestamp;
use rusqlite::types::Value;
use rusqlite::{Connection, OptionalExtension as _, Result, params, params_from_iter};
use schema::delivery::Status;

use super::events::{read_counts, summary_at};
use crate::domain::ids::{DeliveryId, Lane, Position};
use crate::domain::rollup::roll_up;
use crate::storage::sqlite::rows::{self, ATTEMPT, EVENT, SUMMARY, SUMMARY_JOINS};
use crate::storage::sqlite::{clients, deliveries::of_event, lanes};
use crate::storage::{Ended, EventSummary, Filler, Filter, Page, Summary};

pub(super) const DELIVERIES: &str = "SELECT position, created_at FROM deliveries \
     WHERE lane = ? AND position >= ? ORDER BY position LIMIT 1";
pub(super) const EVENTS: &str = "SELECT position, created_at FROM events \
     WHERE lane = ? AND position >= ? ORDER BY position LIMIT 1";

/// The place from which on everything was made at a time or later, as far as the clock was never set back. `first` answers
/// the first row from a place on.
pub(super) fn first_made(
    connection: &Connection,
    first: &str,
    lane: Lane,
    at: Timestamp,
) -> Result<Position> {
    let at = rows::micros(at);
    let mut statement = connection.prepare_cached(first)?;
    let (mut low, mut high) = (0, lanes::head(connection, lane)? + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let found: Option<(Position, i64)> = statement
            .query_row(params![lane, middle], |row| Ok((row.get(0)?, row.get(1)?)))
            .optional()?;
        match found {
            Some((position, made)) if made < at => low = position + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

/// Where a list walks: what its filter's names stand for.
#[derive(Clone, Copy, Debug, Default)]
pub(in crate::storage::sqlite) struct Walk {
    pub(in crate::storage::sqlite) client: Option<Position>,
    pub(in crate::storage::sqlite) endpoint: Option<Position>,
    pub(in crate::storage::sqlite) status: Option<Status>,
    /// Only smaller positions.
    pub(in crate::storage::sqlite) before: Position,
}

impl Walk {
    /// `None` where a name stands for nothing.
    fn of(
        connection: &Connection,
        first: &str,
        lane: Lane,
        filter: &Filter,
    ) -> Result<Option<Self>> {
        let mut walk = Self {
            status: filter.status,
            before: filter.before.unwrap_or(i64::MAX.cast_unsigned()),
            ..Self::default()
        };
        if let Some(client_id) = &filter.client_id {
            let Some(seen) = clients::find(connection, lane, client_id)? else {
                return Ok(None);
            };
            walk.client = Some(seen.client);
        }
        if let Some(endpoint_id) = &filter.endpoint_id {
            let found: Option<(Position, Position)> = connection
                .prepare_cached(
                    "SELECT position, client FROM endpoints WHERE lane = ? AND endpoint_id = ?",
                )?
                .query_row(params![lane, endpoint_id], |row| {
                    Ok((row.get(0)?, row.get(1)?))
                })
                .optional()?;
            match found {
                Some((endpoint, client)) if walk.client.is_none_or(|asked| asked == client) => {
                    walk.endpoint = Some(endpoint);
                    walk.client = Some(client);
                }
                _ => return Ok(None),
            }
        }
        if let Some(until) = filter.until {
            walk.before = walk.before.min(first_made(connection, first, lane, until)?);
        }
        Ok(Some(walk))
    }
}

/// Where the event is that a client's key stands for now: the page of that key, of the client that has pages.
fn by_key(
    connection: &Connection,
    lane: Lane,
    walk: &Walk,
    filter: &Filter,
) -> Result<Option<(Position, u64)>> {
    let (Some(client), Some(key)) = (walk.client, &filter.idempotency_key) else {
        return Ok(None);
    };
    connection
        .prepare_cached(
            "SELECT e.position, e.fanout
             FROM (SELECT event FROM page_keys WHERE lane = ?1 AND key = ?3
                UNION ALL SELECT event FROM keys WHERE lane = ?1 AND client = ?2 AND key = ?3) k
             JOIN events e ON e.lane = ?1 AND e.position = k.event AND e.client = ?2 LIMIT 1",
        )?
        .query_row(params![lane, client, key], |row| {
            Ok((row.get(0)?, row.get(1)?))
        })
        .optional()
}

pub(in crate::storage::sqlite) fn deliveries(
    connection: &Connection,
    lane: Lane,
    filter: &Filter,
) -> Result<Page<Summary>> {
    let Some(walk) = Walk::of(connection, DELIVERIES, lane, filter)? else {
        return Ok(Page::default());
    };
    let mut filler = Filler::new(filter.limit);
    if let Some((event, fanout)) = by_key(connection, lane, &walk, filter)? {
        let positions = of_event(connection, lane, event, fanout)?;
        for position in positions.into_iter().rev().filter(|at| *at < walk.before) {
            let Some((summary, removed)) = summary_at(connection, lane, position)? else {
                continue;
            };
            if offer(&mut filler, filter, &walk, summary, removed)?.is_break() {
                break;
            }
        }
        return Ok(filler.page);
    }
    let (sql, values) = walk_deliveries(lane, &walk);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    while let Some(row) = rows.next()? {
        let (summary, removed) = rows::summary(row, lane)?;
        if filter.since.is_some_and(|since| summary.created_at < since) {
            break;
        }
        if offer(&mut filler, filter, &walk, summary, removed)?.is_break() {
            break;
        }
    }
    Ok(filler.page)
}

fn offer(
    filler: &mut Filler<Summary>,
    filter: &Filter,
    walk: &Walk,
    summary: Summary,
    client_removed: bool,
) -> Result<std::ops::ControlFlow<()>> {
    let is = |asked: Option<Status>| asked.is_none_or(|asked| asked == summary.life.state.status());
    let matches = !client_removed
        && is(filter.status)
        && walk.endpoint.is_none_or(|asked| asked == summary.endpoint)
        && matches_text(&filter.code, summary.code.as_ref())
        && matches_text(&filter.idempotency_key, summary.idempotency_key.as_ref())
        && matches_time(filter, summary.created_at);
    filler.offer(summary.position, matches, || Ok(summary))
}

fn matches_text(asked: &Option<String>, found: Option<&String>) -> bool {
    asked.is_none() || asked.as_ref() == found
}

fn matches_time(filter: &Filter, made: Timestamp) -> bool {
    filter.since.is_none_or(|since| made >= since) && filter.until.is_none_or(|until| made < until)
}

/// The deliveries that may match. A status beside 'delivered' is few, and so are those that ended badly of one client.
pub(in crate::storage::sqlite) fn walk_deliveries(lane: Lane, walk: &Walk) -> (String, Vec<Value>) {
    let bad = match walk.status {
        Some(Status::Delivered | Status::Pending) | None => None,
        Some(status) => Some(status),
    };
    let by_status = walk.status.filter(|status| *status != Status::Delivered);
    let status = |status: Status| Value::from(status.as_str().to_owned());
    let (index, condition, values) = match (walk.endpoint, walk.client, bad, by_status) {
        (Some(endpoint), _, Some(bad), _) => (
            "INDEXED BY deliveries_by_endpoint_status",
            "AND d.endpoint = ? AND d.status <> 'delivered' AND d.status <> 'pending' AND d.status = ?",
            vec![place(endpoint), status(bad)],
        ),
        (None, Some(client), Some(bad), _) => (
            "INDEXED BY deliveries_by_client_status",
            "AND d.client = ? AND d.status <> 'delivered' AND d.status <> 'pending' AND d.status = ?",
            vec![place(client), status(bad)],
        ),
        (Some(endpoint), _, None, _) => (
            "INDEXED BY deliveries_by_endpoint",
            "AND d.endpoint = ?",
            vec![place(endpoint)],
        ),
        (None, Some(client), None, _) => (
            "INDEXED BY deliveries_by_client",
            "AND d.client = ?",
            vec![place(client)],
        ),
        (None, None, _, Some(asked)) => (
            "INDEXED BY deliveries_by_status",
            "AND d.status <> 'delivered' AND d.status = ?",
            vec![status(asked)],
        ),
        (None, None, _, None) => ("", "", Vec::new()),
    };
    let sql = format!(
        "SELECT {SUMMARY} FROM deliveries d {index} {SUMMARY_JOINS}
         WHERE d.lane = ? AND d.position < ? {condition} ORDER BY d.position DESC"
    );
    (sql, bound(lane, walk, values))
}

/// The events that may match.
pub(in crate::storage::sqlite) fn walk_events(lane: Lane, walk: &Walk) -> (String, Vec<Value>) {
    let (index, condition, values) = match walk.client {
        Some(client) => (
            "INDEXED BY events_by_client",
            "AND e.client = ?",
            vec![place(client)],
        ),
        None => ("", "", Vec::new()),
    };
    let sql = format!(
        "SELECT {EVENT} FROM events e {index} CROSS JOIN clients c ON c.lane = e.lane AND c.position = e.client
         WHERE e.lane = ? AND e.position < ? {condition} ORDER BY e.position DESC"
    );
    (sql, bound(lane, walk, values))
}

fn place(position: Position) -> Value {
    Value::from(position.cast_signed())
}

fn bound(lane: Lane, walk: &Walk, mut further: Vec<Value>) -> Vec<Value> {
    let mut values = vec![Value::from(i64::from(lane)), place(walk.before)];
    values.append(&mut further);
    values
}

pub(in crate::storage::sqlite) fn events(
    connection: &Connection,
    lane: Lane,
    filter: &Filter,
) -> Result<Page<EventSummary>> {
    let Some(mut walk) = Walk::of(connection, EVENTS, lane, filter)? else {
        return Ok(Page::default());
    };
    let by_key = by_key(connection, lane, &walk, filter)?;
    if let Some((event, _)) = by_key {
        walk.before = walk.before.min(event + 1);
    }
    let (sql, values) = walk_events(lane, &walk);
    let mut statement = connection.prepare_cached(&sql)?;
    let mut rows = statement.query(params_from_iter(values))?;
    let mut filler = Filler::new(filter.limit);
    while let Some(row) = rows.next()? {
        let mut event = rows::event(row, lane)?;
        let position = event.summary.position;
        let is_past = filter
            .since
            .is_some_and(|since| event.summary.created_at < since)
            || by_key.is_some_and(|(keyed, _)| position < keyed);
        if is_past {
            break;
        }
        let mut matches = !event.client_removed
            && matches_text(
                &filter.idempotency_key,
                event.summary.idempotency_key.as_ref(),
            )
            && matches_time(filter, event.summary.created_at);
        if matches {
            let (counts, asked) = read_counts(connection, lane, &event, |endpoint, code| {
                walk.endpoint.is_none_or(|asked| asked == endpoint)
                    && matches_text(&filter.code, code.as_ref())
            })?;
            event.summary.counts = counts;
            matches = (asked || (walk.endpoint.is_none() && filter.code.is_none()))
                && filter.status.is_none_or(|status| status == roll_up(counts));
        }
        if filler
            .offer(position, matches, || {
                Ok::<_, rusqlite::Error>(event.summary)
            })?
            .is_break()
        {
            break;
        }
    }
    Ok(filler.page)
}

pub(in crate::storage::sqlite) fn summary(
    connection: &Connection,
    id: DeliveryId,
) -> Result<Option<Summary>> {
    let found = connection
        .prepare_cached(&format!(
            "SELECT {SUMMARY} FROM deliveries d {SUMMARY_JOINS} WHERE d.lane = ? AND d.delivery_id = ?"
        ))?
        .query_row(params![id.lane, id.uuid.as_bytes()], |row| {
            rows::summary(row, id.lane)
        })
        .optional()?;
    Ok(found.and_then(|(summary, client_removed)| (!client_removed).then_some(summary)))
}

pub(in crate::storage::sqlite) fn delivery(
    connection: &Connection,
    id: DeliveryId,
) -> Result<Option<(Summary, Vec<Ended>)>> {
    let Some(summary) = summary(connection, id)? else {
        return Ok(None);
    };
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {ATTEMPT} FROM attempts WHERE lane = ? AND delivery = ? ORDER BY number"
    ))?;
    let attempts = statement
        .query_map(params![id.lane, summary.position], rows::attempt)?
        .collect::<Result<_>>()?;
    Ok(Some((summary, attempts)))
}
