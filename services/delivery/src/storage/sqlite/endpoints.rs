//! Endpoints: what a client set, what is confidential, and whether it is disabled.

use std::sync::Arc;

use jiff::Timestamp;
use rusqlite::{Connection, OptionalExtension as _, Result, Row, Transaction, params};
use schema::webhooks::{DisabledReason, OnExhausted, Ordering};

use super::lanes::advance;
use super::rows::{Columns, endpoint_id, micros};
use super::{clients, jobs};
use crate::domain::endpoint::{
    Confidential, Disabled, Endpoint, MAX_IN_FLIGHT, Settings, TIMEOUT_MS,
};
use crate::domain::ids::{Lane, Position};
use crate::storage::{Job, Put, PutEndpoint, Vault};

pub(super) fn all(connection: &Connection, lane: Lane, vault: &Vault) -> Result<Vec<Endpoint>> {
    let mut statement = connection.prepare_cached(
        "SELECT p.position, p.endpoint_id, p.client, c.client_id, p.settings, p.confidential, p.disabled_reason,
            p.disabled_at, p.created_at, p.updated_at, p.version
         FROM endpoints p JOIN clients c ON c.lane = p.lane AND c.position = p.client
         WHERE p.lane = ? AND p.removed = 0 ORDER BY p.position",
    )?;
    let rows = statement.query_map([lane], |row| read(row, vault))?;
    rows.collect()
}

fn read(row: &Row<'_>, vault: &Vault) -> Result<Endpoint> {
    let mut columns = Columns::of(row);
    let (position, endpoint_id) = (columns.get()?, endpoint_id(&mut columns)?);
    let (client, client_id) = (columns.get()?, columns.shared()?);
    let settings = settings(&columns.get::<String>()?)
        .map_err(|fault| columns.unreadable(fault.to_string()))?;
    let sealed: Vec<u8> = columns.get()?;
    let confidential = if sealed.is_empty() {
        nothing_confidential()
    } else {
        let opened = vault.unseal(&sealed, endpoint_id.as_str());
        opened.map_err(|closed| columns.unreadable(closed))?
    };
    let reason = columns.maybe_word(DisabledReason::parse)?;
    let disabled_at = columns.maybe_at()?;
    Ok(Endpoint {
        position,
        endpoint_id,
        client,
        client_id,
        settings,
        confidential,
        disabled: reason
            .zip(disabled_at)
            .map(|(reason, at)| Disabled { reason, at }),
        created_at: columns.at()?,
        updated_at: columns.at()?,
        version: columns.get()?,
    })
}

/// Empty where configuration is to say it: the first release had no settings.
fn settings(text: &str) -> serde_json::Result<Settings> {
    if text.is_empty() {
        return Ok(Settings {
            url: String::new(),
            event_types: None,
            description: None,
            retry: None,
            timeout_ms: TIMEOUT_MS,
            max_in_flight: MAX_IN_FLIGHT,
            rate_limit_per_s: None,
            ordering: Ordering::None,
            on_exhausted: OnExhausted::Block,
        });
    }
    serde_json::from_str(text)
}

fn nothing_confidential() -> Confidential {
    Confidential {
        secret: String::new(),
        previous: Vec::new(),
        headers: std::collections::BTreeMap::new(),
    }
}

pub(super) fn put(tx: &Transaction<'_>, vault: &Vault, put: &PutEndpoint) -> Result<Put> {
    let row = Written::of(vault, &put.endpoint)?;
    if put.endpoint.position == 0 {
        insert(tx, put, &row)
    } else {
        update(tx, put, &row)
    }
}

/// The columns that cannot be bound as they are.
struct Written {
    settings: String,
    confidential: Vec<u8>,
}

impl Written {
    fn of(vault: &Vault, endpoint: &Endpoint) -> Result<Self> {
        let unwritable = |fault: Box<dyn std::error::Error + Send + Sync>| {
            rusqlite::Error::ToSqlConversionFailure(fault)
        };
        let settings = serde_json::to_string(&endpoint.settings);
        let sealed = vault.seal(&endpoint.confidential, endpoint.endpoint_id.as_str());
        Ok(Self {
            settings: settings.map_err(|fault| unwritable(fault.into()))?,
            confidential: sealed.map_err(|closed| unwritable(closed.into()))?,
        })
    }
}

fn insert(tx: &Transaction<'_>, put: &PutEndpoint, row: &Written) -> Result<Put> {
    let (lane, endpoint) = (put.lane, &put.endpoint);
    if is_known(tx, lane, endpoint)? {
        return Ok(Put::Stale);
    }
    let known = clients::find(tx, lane, &endpoint.client_id)?;
    if let (Some(seen), Some(at_most)) = (known, put.at_most)
        && count(tx, lane, seen.client)? >= at_most
    {
        return Ok(Put::TooMany);
    }
    let client = match known {
        Some(seen) => seen.client,
        None => clients::make(tx, lane, &endpoint.client_id, put.now)?,
    };
    let position = advance(tx, lane, 1)?;
    tx.prepare_cached(
        "INSERT INTO endpoints (lane, position, endpoint_id, client, settings, confidential, disabled_reason,
            disabled_at, created_at, updated_at, version)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        lane,
        position,
        endpoint.endpoint_id.as_str(),
        client,
        row.settings,
        row.confidential,
        endpoint.disabled.map(|disabled| disabled.reason.as_str()),
        endpoint.disabled.map(|disabled| micros(disabled.at)),
        micros(put.now),
        micros(put.now),
        position,
    ])?;
    clients::bump(tx, lane, client, position)?;
    Ok(Put::Done(Box::new(Endpoint {
        position,
        client,
        created_at: put.now,
        updated_at: put.now,
        version: position,
        ..endpoint.clone()
    })))
}

fn is_known(tx: &Transaction<'_>, lane: Lane, endpoint: &Endpoint) -> Result<bool> {
    tx.prepare_cached("SELECT 1 FROM endpoints WHERE lane = ? AND endpoint_id = ?")?
        .exists(params![lane, endpoint.endpoint_id.as_str()])
}

fn count(tx: &Transaction<'_>, lane: Lane, client: Position) -> Result<usize> {
    tx.prepare_cached(
        "SELECT count(*) FROM endpoints WHERE lane = ? AND client = ? AND removed = 0",
    )?
    .query_row(params![lane, client], |row| row.get(0))
}

fn update(tx: &Transaction<'_>, put: &PutEndpoint, row: &Written) -> Result<Put> {
    let (lane, endpoint) = (put.lane, &put.endpoint);
    let version = advance(tx, lane, 1)?;
    let changed = tx
        .prepare_cached(
            "UPDATE endpoints SET settings = ?, confidential = ?, disabled_reason = ?, disabled_at = ?, updated_at = ?,
                version = ?
             WHERE lane = ? AND position = ? AND version = ? AND removed = 0 RETURNING client",
        )?
        .query_row(
            params![
                row.settings,
                row.confidential,
                endpoint.disabled.map(|disabled| disabled.reason.as_str()),
                endpoint.disabled.map(|disabled| micros(disabled.at)),
                micros(put.now),
                version,
                lane,
                endpoint.position,
                endpoint.version,
            ],
            |row| row.get(0),
        )
        .optional()?;
    let Some(client) = changed else {
        return Ok(Put::Stale);
    };
    clients::bump(tx, lane, client, version)?;
    if endpoint.settings.on_exhausted == OnExhausted::Skip {
        unblock(tx, lane, endpoint.position)?;
    }
    Ok(Put::Done(Box::new(Endpoint {
        client,
        client_id: Arc::clone(&endpoint.client_id),
        updated_at: put.now,
        version,
        ..endpoint.clone()
    })))
}

/// No line of the endpoint stops at what was exhausted before.
fn unblock(tx: &Transaction<'_>, lane: Lane, endpoint: Position) -> Result<()> {
    tx.prepare_cached(
        "UPDATE deliveries SET blocks = 0 WHERE lane = ? AND blocks = 1 AND endpoint = ?",
    )?
    .execute(params![lane, endpoint])?;
    Ok(())
}

/// Disables an endpoint that is not disabled yet; whether it was not.
pub(super) fn disable(
    tx: &Transaction<'_>,
    lane: Lane,
    endpoint: Position,
    reason: DisabledReason,
    now: Timestamp,
) -> Result<bool> {
    let version = advance(tx, lane, 1)?;
    let client = tx
        .prepare_cached(
            "UPDATE endpoints SET disabled_reason = ?1, disabled_at = ?4, updated_at = ?4, version = ?5
             WHERE lane = ?2 AND position = ?3 AND disabled_reason IS NULL AND removed = 0 RETURNING client",
        )?
        .query_row(
            params![reason.as_str(), lane, endpoint, micros(now), version],
            |row| row.get(0),
        )
        .optional()?;
    let client: Option<Position> = client;
    if let Some(client) = client {
        clients::bump(tx, lane, client, version)?;
    }
    Ok(client.is_some())
}

pub(super) fn is_removed(tx: &Transaction<'_>, lane: Lane, endpoint: Position) -> Result<bool> {
    let removed = tx
        .prepare_cached("SELECT removed FROM endpoints WHERE lane = ? AND position = ?")?
        .query_row(params![lane, endpoint], |row| row.get(0))
        .optional()?;
    Ok(removed.unwrap_or(true))
}

/// Its id stays, for the deliveries that it had; what was confidential does not.
pub(super) fn remove(tx: &Transaction<'_>, lane: Lane, job: &Job) -> Result<Option<Position>> {
    let Some((endpoint, _)) = job.endpoint else {
        return Ok(None);
    };
    let version = advance(tx, lane, 1)?;
    let client = tx
        .prepare_cached(
            "UPDATE endpoints SET removed = 1, settings = '', confidential = x'', version = ?
             WHERE lane = ? AND position = ? AND removed = 0 RETURNING client",
        )?
        .query_row(params![version, lane, endpoint], |row| row.get(0))
        .optional()?;
    let Some(client) = client else {
        return Ok(None);
    };
    clients::bump(tx, lane, client, version)?;
    // Else retention would keep what its lines stopped at.
    unblock(tx, lane, endpoint)?;
    jobs::insert(tx, lane, job)?;
    Ok(Some(version))
}

/// Opens what is stored, so that a wrong key is said at the start; seals what an earlier start had no key for.
pub(super) fn reseal(connection: &Connection, vault: &Vault) -> anyhow::Result<()> {
    let mut statement = connection.prepare(
        "SELECT lane, position, endpoint_id, confidential FROM endpoints WHERE removed = 0 AND confidential <> x''",
    )?;
    let rows = statement.query_map([], |row| {
        Ok((row.get(0)?, row.get(1)?, row.get(2)?, row.get(3)?))
    })?;
    let rows: Vec<(Lane, Position, String, Vec<u8>)> = rows.collect::<Result<_>>()?;
    for (lane, position, endpoint_id, stored) in rows {
        let opened = vault.unseal(&stored, &endpoint_id);
        let opened = opened.map_err(|closed| {
            anyhow::anyhow!(
                "what endpoint {endpoint_id} keeps confidential is not opened: {closed}"
            )
        })?;
        if vault.is_outdated(&stored) {
            connection.execute(
                "UPDATE endpoints SET confidential = ? WHERE lane = ? AND position = ?",
                params![vault.seal(&opened, &endpoint_id)?, lane, position],
            )?;
        }
    }
    Ok(())
}
