//! Clients exist by being named.

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Result, Transaction, params};

use super::jobs;
use super::lanes::advance;
use super::rows::{Columns, micros};
use crate::domain::ids::{Lane, Position};
use crate::storage::{Client, Job, Seen};

pub(super) fn all(connection: &Connection, lane: Lane) -> Result<Vec<Client>> {
    let mut statement = connection.prepare_cached(
        "SELECT position, client_id, version, created_at FROM clients
         WHERE lane = ? AND removed = 0 ORDER BY position",
    )?;
    let rows = statement.query_map([lane], |row| {
        let mut columns = Columns::of(row);
        Ok(Client {
            position: columns.get()?,
            client_id: columns.shared()?,
            version: columns.get()?,
            created_at: columns.at()?,
        })
    })?;
    rows.collect()
}

pub(super) fn find(connection: &Connection, lane: Lane, client_id: &str) -> Result<Option<Seen>> {
    connection
        .prepare_cached(
            "SELECT position, version FROM clients WHERE lane = ? AND client_id = ? AND removed = 0",
        )?
        .query_row(params![lane, client_id], |row| {
            Ok(Seen {
                client: row.get(0)?,
                version: row.get(1)?,
            })
        })
        .optional()
}

pub(super) fn make(
    tx: &Transaction<'_>,
    lane: Lane,
    client_id: &str,
    now: Timestamp,
) -> Result<Position> {
    let position = advance(tx, lane, 1)?;
    tx.prepare_cached(
        "INSERT INTO clients (lane, position, client_id, version, created_at) VALUES (?, ?, ?, 0, ?)",
    )?
    .execute(params![lane, position, client_id, micros(now)])?;
    Ok(position)
}

/// Says that its endpoints are others now.
pub(super) fn bump(
    tx: &Transaction<'_>,
    lane: Lane,
    client: Position,
    version: Position,
) -> Result<()> {
    tx.prepare_cached("UPDATE clients SET version = ? WHERE lane = ? AND position = ?")?
        .execute(params![version, lane, client])?;
    Ok(())
}

pub(super) fn remove(tx: &Transaction<'_>, lane: Lane, job: &Job) -> Result<bool> {
    let removed = tx
        .prepare_cached(
            "UPDATE clients SET removed = 1 WHERE lane = ? AND position = ? AND removed = 0",
        )?
        .execute(params![lane, job.client])?;
    if removed == 0 {
        return Ok(false);
    }
    tx.prepare_cached(
        "UPDATE endpoints SET removed = 1, settings = '', confidential = x'' WHERE lane = ? AND client = ?",
    )?
    .execute(params![lane, job.client])?;
    jobs::insert(tx, lane, job)?;
    Ok(true)
}
