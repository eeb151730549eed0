//! The outbox towards event-store.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Transaction, params};

use super::rows::micros;
use super::writer::{advance, set_cursor};
use crate::domain::delivery::{Lane, Position};
use crate::domain::transition::Life;
use crate::storage::Epoch;

/// The reports' cursor: the last outcome that event-store has acknowledged.
const REPORTS_CURSOR: &str = "reports";

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
    transaction: &Transaction<'_>,
    lane: Lane,
    delivery: Position,
    epoch: Epoch,
    told: &Told,
) -> rusqlite::Result<()> {
    let position = advance(transaction, lane)?;
    transaction
        .prepare_cached(
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
    transaction
        .prepare_cached("UPDATE deliveries SET last_outcome = ? WHERE lane = ? AND position = ?")?
        .execute(params![position, lane, delivery])?;
    Ok(())
}

pub(super) fn reported(
    transaction: &Transaction<'_>,
    lane: Lane,
    upto: Position,
) -> rusqlite::Result<()> {
    transaction
        .prepare_cached("DELETE FROM outcomes WHERE lane = ? AND position <= ?")?
        .execute(params![lane, upto])?;
    set_cursor(transaction, lane, REPORTS_CURSOR, &upto.to_string())
}

pub(super) fn reports_cursor(
    transaction: &Transaction<'_>,
    lane: Lane,
) -> rusqlite::Result<Position> {
    let token: Option<String> = transaction
        .prepare_cached("SELECT token FROM cursors WHERE lane = ? AND name = ?")?
        .query_row(params![lane, REPORTS_CURSOR], |row| row.get(0))
        .optional()?;
    Ok(token.and_then(|token| token.parse().ok()).unwrap_or(0))
}
