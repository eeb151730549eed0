//! Ended events leave with everything that belongs to them.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Result, Row, Transaction, params};

use super::deliveries::of_event;
use super::outcomes::reports_cursor;
use super::rows::micros;
use crate::domain::ids::{Lane, Position};
use crate::storage::{RETIRE_SLICE, Retired};

/// Deliveries of one slice, so that its size does not follow the fan-out; an event with more goes alone.
const DELIVERIES_MAX: usize = 512;
/// Attempts of one slice, for one page may have thousands (R1); an event with more loses them first, in slices.
const ATTEMPTS_MAX: usize = 4_096;

/// What one slice has come by.
#[derive(Default)]
struct Seen {
    deliveries: usize,
    attempts: usize,
}

impl Seen {
    /// Counts an event, unless it is too much for what is left of the slice; alone each has room.
    fn has_room_for(&mut self, deliveries: usize, attempts: usize) -> bool {
        let all = (self.deliveries + deliveries, self.attempts + attempts);
        if self.deliveries > 0 && (all.0 > DELIVERIES_MAX || all.1 > ATTEMPTS_MAX) {
            return false;
        }
        (self.deliveries, self.attempts) = all;
        true
    }
}

/// One of the next events by position.
struct Candidate {
    position: Position,
    key: Option<String>,
    created_at: i64,
    fanout: u64,
}

const CANDIDATE: &str = "position, idempotency_key, created_at, fanout";

impl Candidate {
    fn read(row: &Row<'_>) -> Result<Self> {
        Ok(Self {
            position: row.get(0)?,
            key: row.get(1)?,
            created_at: row.get(2)?,
            fanout: row.get(3)?,
        })
    }
}

pub(super) fn retire(
    tx: &Transaction<'_>,
    lane: Lane,
    after: Position,
    before: Timestamp,
) -> Result<Retired> {
    forget_keys(tx, lane, before)?;
    retire_events(tx, lane, after, micros(before), Keeps::Nothing)
}

/// What stays of what is old.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(super) enum Keeps {
    Nothing,
    /// The key of a page, when the page leaves.
    Keys,
    /// A page, too, that nobody got.
    KeysAndMissedPages,
}

pub(super) fn retire_events(
    tx: &Transaction<'_>,
    lane: Lane,
    after: Position,
    before: i64,
    keeps: Keeps,
) -> Result<Retired> {
    let reported = reports_cursor(tx, lane)?;
    let (mut removed, mut next, mut seen) = (0, None, Seen::default());
    for candidate in next_events(tx, lane, after)? {
        if candidate.created_at >= before {
            return Ok(Retired {
                removed,
                next: None,
            });
        }
        let deliveries = of_event(tx, lane, candidate.position, candidate.fanout)?;
        let mut done = true;
        for delivery in &deliveries {
            done &= has_left(tx, lane, *delivery, before, reported)?
                && !(keeps == Keeps::KeysAndMissedPages && is_missed(tx, lane, *delivery)?);
        }
        let attempts = if done {
            attempts_of(tx, lane, &deliveries)?
        } else {
            0
        };
        if !seen.has_room_for(deliveries.len(), attempts) {
            break;
        }
        if attempts > ATTEMPTS_MAX && remove_attempts(tx, lane, &deliveries)? == ATTEMPTS_MAX {
            next = next.or(Some(after));
            break;
        }
        next = Some(candidate.position);
        if done {
            remove(tx, lane, &candidate, &deliveries)?;
            if keeps == Keeps::Nothing {
                remove_page_key(tx, lane, &candidate)?;
            }
            removed += 1;
        }
    }
    Ok(Retired { removed, next })
}

fn next_events(connection: &Connection, lane: Lane, after: Position) -> Result<Vec<Candidate>> {
    let mut statement = connection.prepare_cached(&format!(
        "SELECT {CANDIDATE} FROM events WHERE lane = ? AND position > ? ORDER BY position LIMIT ?"
    ))?;
    let rows = statement.query_map(params![lane, after, RETIRE_SLICE], Candidate::read)?;
    rows.collect()
}

/// Whether a delivery ended before a time, and event-store knows, and no line stops at it.
fn has_left(
    connection: &Connection,
    lane: Lane,
    delivery: Position,
    before: i64,
    reported: Position,
) -> Result<bool> {
    let left = connection
        .prepare_cached(
            "SELECT ended_at < ? AND last_outcome <= ? AND blocks = 0 FROM deliveries WHERE lane = ? AND position = ?",
        )?
        .query_row(params![before, reported, lane, delivery], |row| {
            row.get::<_, Option<bool>>(0)
        })
        .optional()?;
    Ok(left.is_none_or(|left| left == Some(true)))
}

/// Whether it is of a page that nobody got.
fn is_missed(connection: &Connection, lane: Lane, delivery: Position) -> Result<bool> {
    connection
        .prepare_cached(
            "SELECT 1 FROM deliveries WHERE lane = ? AND position = ?
                AND from_hub = 1 AND status <> 'delivered' AND reason IS NOT 'already_delivered'",
        )?
        .exists(params![lane, delivery])
}

/// At least as many as are on record.
fn attempts_of(connection: &Connection, lane: Lane, deliveries: &[Position]) -> Result<usize> {
    let mut statement = connection
        .prepare_cached("SELECT started FROM deliveries WHERE lane = ? AND position = ?")?;
    let mut attempts = 0;
    for delivery in deliveries {
        let started: Option<usize> = statement
            .query_row(params![lane, delivery], |row| row.get(0))
            .optional()?;
        attempts += started.unwrap_or(0);
    }
    Ok(attempts)
}

/// Deletes a slice of them; how many, less than [`ATTEMPTS_MAX`] when none is left.
fn remove_attempts(tx: &Transaction<'_>, lane: Lane, deliveries: &[Position]) -> Result<usize> {
    let mut statement = tx.prepare_cached(
        "DELETE FROM attempts WHERE (lane, delivery, number) IN
            (SELECT lane, delivery, number FROM attempts WHERE lane = ? AND delivery = ? LIMIT ?)",
    )?;
    let mut removed = 0;
    for delivery in deliveries {
        removed += statement.execute(params![lane, delivery, ATTEMPTS_MAX - removed])?;
        if removed == ATTEMPTS_MAX {
            break;
        }
    }
    Ok(removed)
}

fn remove(
    tx: &Transaction<'_>,
    lane: Lane,
    candidate: &Candidate,
    deliveries: &[Position],
) -> Result<()> {
    for delivery in deliveries {
        tx.prepare_cached("DELETE FROM attempts WHERE lane = ? AND delivery = ?")?
            .execute(params![lane, delivery])?;
        tx.prepare_cached("DELETE FROM deliveries WHERE lane = ? AND position = ?")?
            .execute(params![lane, delivery])?;
    }
    tx.prepare_cached("DELETE FROM late WHERE lane = ? AND event = ?")?
        .execute(params![lane, candidate.position])?;
    tx.prepare_cached("DELETE FROM events WHERE lane = ? AND position = ?")?
        .execute(params![lane, candidate.position])?;
    Ok(())
}

/// A client's key is remembered up to its end instead.
fn remove_page_key(tx: &Transaction<'_>, lane: Lane, candidate: &Candidate) -> Result<()> {
    let Some(key) = &candidate.key else {
        return Ok(());
    };
    tx.prepare_cached("DELETE FROM page_keys WHERE lane = ? AND key = ? AND event = ?")?
        .execute(params![lane, key, candidate.position])?;
    Ok(())
}

/// What has expired by the time of the newest event, or by `before`: a slice of it.
fn forget_keys(tx: &Transaction<'_>, lane: Lane, before: Timestamp) -> Result<()> {
    let newest: Option<i64> = tx
        .prepare_cached(
            "SELECT created_at FROM events WHERE lane = ? ORDER BY position DESC LIMIT 1",
        )?
        .query_row([lane], |row| row.get(0))
        .optional()?;
    let now = newest.unwrap_or(i64::MIN).max(micros(before));
    tx.prepare_cached(
        "DELETE FROM keys WHERE (lane, client, key) IN
            (SELECT lane, client, key FROM keys WHERE lane = ? AND until IS NOT NULL AND until <= ? LIMIT ?)",
    )?
    .execute(params![lane, now, DELIVERIES_MAX])?;
    Ok(())
}

/// Deletes some of a removed client's rows; how many, 0 when nothing is left.
pub(super) fn purge(tx: &Transaction<'_>, lane: Lane, client: Position) -> Result<usize> {
    let is_removed = tx
        .prepare_cached("SELECT 1 FROM clients WHERE lane = ? AND position = ? AND removed = 1")?
        .exists(params![lane, client])?;
    if !is_removed {
        return Ok(0);
    }
    let mut statement = tx.prepare_cached(&format!(
        "SELECT {CANDIDATE} FROM events WHERE lane = ? AND client = ? ORDER BY position LIMIT ?"
    ))?;
    let events: Vec<Candidate> = statement
        .query_map(params![lane, client, RETIRE_SLICE], Candidate::read)?
        .collect::<Result<_>>()?;
    let (mut removed, mut seen) = (0, Seen::default());
    for event in &events {
        let deliveries = of_event(tx, lane, event.position, event.fanout)?;
        let attempts = attempts_of(tx, lane, &deliveries)?;
        if !seen.has_room_for(deliveries.len(), attempts) {
            break;
        }
        if attempts > ATTEMPTS_MAX && remove_attempts(tx, lane, &deliveries)? == ATTEMPTS_MAX {
            return Ok(ATTEMPTS_MAX);
        }
        for delivery in &deliveries {
            forget_outcomes(tx, lane, *delivery)?;
        }
        remove(tx, lane, event, &deliveries)?;
        remove_page_key(tx, lane, event)?;
        removed += 1;
    }
    if removed > 0 {
        return Ok(removed);
    }
    purge_rest(tx, lane, client)
}

/// Few are unreported, and only events of the hub are reported at all.
fn forget_outcomes(tx: &Transaction<'_>, lane: Lane, delivery: Position) -> Result<()> {
    let reported = reports_cursor(tx, lane)?;
    let waits = tx
        .prepare_cached(
            "SELECT 1 FROM deliveries WHERE lane = ? AND position = ? AND last_outcome > ?",
        )?
        .exists(params![lane, delivery, reported])?;
    if waits {
        tx.prepare_cached("DELETE FROM outcomes WHERE lane = ? AND delivery = ?")?
            .execute(params![lane, delivery])?;
    }
    Ok(())
}

/// The client's keys, then the client itself.
fn purge_rest(tx: &Transaction<'_>, lane: Lane, client: Position) -> Result<usize> {
    let keys = tx
        .prepare_cached(
            "DELETE FROM keys WHERE (lane, client, key) IN
                (SELECT lane, client, key FROM keys WHERE lane = ? AND client = ? LIMIT ?)",
        )?
        .execute(params![lane, client, DELIVERIES_MAX])?;
    if keys > 0 {
        return Ok(keys);
    }
    let endpoints = tx
        .prepare_cached("DELETE FROM endpoints WHERE lane = ? AND client = ?")?
        .execute(params![lane, client])?;
    let clients = tx
        .prepare_cached("DELETE FROM clients WHERE lane = ? AND position = ? AND removed = 1")?
        .execute(params![lane, client])?;
    Ok(endpoints + clients)
}
