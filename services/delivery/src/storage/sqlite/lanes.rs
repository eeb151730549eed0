//! Who owns a lane, its order of commits, and its cursors.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Result, Transaction, params};

use crate::domain::ids::{Lane, Position};
use crate::error::Error;
use crate::storage::{Epoch, next_epoch};

/// Where reading the feed goes on.
pub(super) const FEED: &str = "feed";
/// The last outcome that event-store has acknowledged.
pub(super) const REPORTS: &str = "reports";

pub(super) fn take(tx: &Transaction<'_>, lane: Lane, owner: &str, now: Timestamp) -> Result<Epoch> {
    let epoch = next_epoch(epoch_of(tx, lane)?, now);
    tx.execute(
        "INSERT INTO lanes (lane, owner, epoch, head) VALUES (?, ?, ?, 0)
         ON CONFLICT (lane) DO UPDATE SET owner = excluded.owner, epoch = excluded.epoch",
        params![lane, owner, epoch],
    )?;
    Ok(epoch)
}

fn epoch_of(connection: &Connection, lane: Lane) -> Result<Epoch> {
    let epoch = connection
        .prepare_cached("SELECT epoch FROM lanes WHERE lane = ?")?
        .query_row([lane], |row| row.get(0))
        .optional()?;
    Ok(epoch.unwrap_or(0))
}

/// Refuses whoever does not own the lane any more.
pub(super) fn fence(
    connection: &Connection,
    lane: Lane,
    ours: Epoch,
) -> Result<std::result::Result<(), Error>> {
    let holder = epoch_of(connection, lane)?;
    Ok(if holder == ours {
        Ok(())
    } else {
        Err(Error::Fenced { ours, holder })
    })
}

/// Gives out the next `count` positions; answers the first.
pub(super) fn advance(tx: &Transaction<'_>, lane: Lane, count: u64) -> Result<Position> {
    let known = tx
        .prepare_cached("UPDATE lanes SET head = head + ? WHERE lane = ?")?
        .execute(params![count, lane])?;
    if known == 0 {
        tx.prepare_cached("INSERT INTO lanes (lane, owner, epoch, head) VALUES (?, '', 0, ?)")?
            .execute(params![lane, count])?;
    }
    Ok(head(tx, lane)? - count + 1)
}

pub(super) fn head(connection: &Connection, lane: Lane) -> Result<Position> {
    let head = connection
        .prepare_cached("SELECT head FROM lanes WHERE lane = ?")?
        .query_row([lane], |row| row.get(0))
        .optional()?;
    Ok(head.unwrap_or(0))
}

pub(super) fn cursor(connection: &Connection, lane: Lane, name: &str) -> Result<Option<String>> {
    connection
        .prepare_cached("SELECT token FROM cursors WHERE lane = ? AND name = ?")?
        .query_row(params![lane, name], |row| row.get(0))
        .optional()
}

pub(super) fn set_cursor(tx: &Transaction<'_>, lane: Lane, name: &str, token: &str) -> Result<()> {
    tx.prepare_cached(
        "INSERT INTO cursors (lane, name, token) VALUES (?, ?, ?)
         ON CONFLICT (lane, name) DO UPDATE SET token = excluded.token",
    )?
    .execute(params![lane, name, token])?;
    Ok(())
}
