//! An event and its first deliveries, as rows.

use jiff::Timestamp;
use rusqlite::{OptionalExtension as _, Result, Transaction, params};

use super::deliveries::{self, Of};
use super::lanes::{advance, fence};
use super::rows::micros;
use super::writer::Answer;
use super::{clients, endpoints};
use crate::domain::ids::{Lane, Position};
use crate::error::Error;
use crate::storage::{Accept, Accepted, IdempotencyKey, KnownAs, NewDelivery, Placed, Seen};

/// Takes an event in, if it was planned from what is so now.
pub(super) fn accept(
    tx: &Transaction<'_>,
    accept: &Accept,
) -> Result<std::result::Result<Answer, Error>> {
    let known = clients::find(tx, accept.lane, &accept.client_id)?;
    if let Some(seen) = known
        && let Some(before) = duplicate(tx, accept, seen.client)?
    {
        return Ok(Ok(Answer::Accepted(before)));
    }
    if known != accept.seen {
        return Ok(Ok(Answer::Accepted(Accepted::Replan)));
    }
    // The first count of an attempt is the owner's alone (R5).
    if accept.deliveries.iter().any(|new| new.life.open.is_some())
        && let Err(fenced) = fence(tx, accept.lane, accept.epoch)?
    {
        return Ok(Err(fenced));
    }
    let client = client_of(tx, accept, known)?;
    let placed = insert(tx, accept, client)?;
    Ok(Ok(Answer::Accepted(Accepted::New(placed))))
}

/// What is said of a delivery to its client, in the commit of what it says. A client that is removed is told nothing.
pub(super) fn raise(tx: &Transaction<'_>, accept: &Accept) -> Result<Option<Placed>> {
    let Some(seen) = clients::find(tx, accept.lane, &accept.client_id)? else {
        return Ok(None);
    };
    if duplicate(tx, accept, seen.client)?.is_some() {
        return Ok(None);
    }
    let mut deliveries = Vec::with_capacity(accept.deliveries.len());
    for new in &accept.deliveries {
        let is_removed = endpoints::is_removed(tx, accept.lane, new.endpoint)?;
        deliveries.push((!is_removed).then_some(new));
    }
    insert_with(tx, accept, seen.client, &deliveries).map(Some)
}

pub(super) fn client_of(
    tx: &Transaction<'_>,
    accept: &Accept,
    known: Option<Seen>,
) -> Result<Position> {
    match known {
        Some(seen) => Ok(seen.client),
        None => clients::make(tx, accept.lane, &accept.client_id, accept.now),
    }
}

/// What is known under the event's name, if that has not expired.
pub(super) fn duplicate(
    tx: &Transaction<'_>,
    accept: &Accept,
    client: Position,
) -> Result<Option<Accepted>> {
    match &accept.event.known_as {
        None => Ok(None),
        Some(KnownAs::Client(key)) => duplicate_of_client(tx, accept, client, key),
        Some(KnownAs::Page(key)) => {
            let event = page(tx, accept.lane, key)?;
            Ok(event.map(|event| Accepted::Duplicate { event }))
        }
    }
}

fn page(tx: &Transaction<'_>, lane: Lane, key: &str) -> Result<Option<Position>> {
    tx.prepare_cached("SELECT event FROM page_keys WHERE lane = ? AND key = ?")?
        .query_row(params![lane, key], |row| row.get(0))
        .optional()
}

fn duplicate_of_client(
    tx: &Transaction<'_>,
    accept: &Accept,
    client: Position,
    key: &IdempotencyKey,
) -> Result<Option<Accepted>> {
    let found = tx
        .prepare_cached(
            "SELECT event, digest FROM keys
             WHERE lane = ? AND client = ? AND key = ? AND until > ?",
        )?
        .query_row(
            params![accept.lane, client, key.key, micros(accept.now)],
            |row| Ok((row.get(0)?, row.get(1)?)),
        )
        .optional()?;
    Ok(found.map(|(event, digest): (Position, [u8; 16])| {
        if digest == key.digest {
            Accepted::Duplicate { event }
        } else {
            Accepted::KeyReused
        }
    }))
}

/// Inserts an event whose key is not known, with its deliveries.
pub(super) fn insert(tx: &Transaction<'_>, accept: &Accept, client: Position) -> Result<Placed> {
    let all: Vec<_> = accept.deliveries.iter().map(Some).collect();
    insert_with(tx, accept, client, &all)
}

/// As [`insert`], with those deliveries that are not left out.
fn insert_with(
    tx: &Transaction<'_>,
    accept: &Accept,
    client: Position,
    deliveries: &[Option<&NewDelivery>],
) -> Result<Placed> {
    let (lane, new) = (accept.lane, &accept.event);
    let fanout = deliveries.iter().flatten().count() as u64;
    let position = advance(tx, lane, 1 + fanout)?;
    match &new.known_as {
        None => {}
        Some(KnownAs::Client(key)) => put_key(tx, lane, client, key, position)?,
        Some(KnownAs::Page(key)) => put_page_key(tx, lane, key, position)?,
    }
    let (carried, source) = (&new.carried, new.carried.source.as_ref());
    tx.prepare_cached(
        "INSERT INTO events (lane, position, event_id, client, event_type, idempotency_key, ordering_key, occurred_at,
            correlation_id, created_at, fanout, operational, source_event_id, revision, stored_at, payload)
         VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        lane,
        position,
        carried.event_id.uuid.as_bytes(),
        client,
        carried.event_type,
        new.known_as.as_ref().map(KnownAs::key),
        new.ordering_key,
        new.occurred_at.map(micros),
        carried.correlation_id.as_str(),
        micros(accept.now),
        fanout,
        carried.operational,
        source.map(|source| source.event_id.as_str()),
        source.map(|source| source.revision),
        source.map(|source| micros(source.stored_at)),
        carried.payload.as_ref(),
    ])?;
    let of = Of {
        event: position,
        client,
        from_hub: source.is_some(),
    };
    let mut free = position + 1..;
    let mut places = Vec::with_capacity(deliveries.len());
    for new in deliveries {
        let place = new.and_then(|_| free.next());
        if let (Some(at), Some(new)) = (place, new) {
            deliveries::insert(tx, lane, at, of, new, accept.now)?;
        }
        places.push(place);
    }
    Ok(Placed {
        client,
        event: position,
        deliveries: places,
    })
}

fn put_key(
    tx: &Transaction<'_>,
    lane: Lane,
    client: Position,
    key: &IdempotencyKey,
    event: Position,
) -> Result<()> {
    tx.prepare_cached(
        "INSERT OR REPLACE INTO keys (lane, client, key, event, digest, until) VALUES (?, ?, ?, ?, ?, ?)",
    )?
    .execute(params![
        lane,
        client,
        key.key,
        event,
        key.digest,
        micros(key.until)
    ])?;
    Ok(())
}

fn put_page_key(tx: &Transaction<'_>, lane: Lane, key: &str, event: Position) -> Result<()> {
    tx.prepare_cached("INSERT INTO page_keys (lane, key, event) VALUES (?, ?, ?)")?
        .execute(params![lane, key, event])?;
    Ok(())
}

/// A delivery of an earlier event, unless the endpoint has one; answers where it is.
pub(super) fn insert_late(
    tx: &Transaction<'_>,
    lane: Lane,
    event: Position,
    new: &NewDelivery,
    now: Timestamp,
) -> Result<Option<Position>> {
    let found = tx
        .prepare_cached(
            "SELECT client, fanout, source_event_id IS NOT NULL FROM events WHERE lane = ? AND position = ?",
        )?
        .query_row(params![lane, event], |row| {
            Ok((row.get(0)?, row.get(1)?, row.get(2)?))
        })
        .optional()?;
    let Some((client, fanout, from_hub)) = found else {
        return Ok(None);
    };
    let of = Of {
        event,
        client,
        from_hub,
    };
    if deliveries::of_event_for(tx, lane, event, fanout, new.endpoint)?.is_some() {
        return Ok(None);
    }
    let position = advance(tx, lane, 1)?;
    deliveries::insert(tx, lane, position, of, new, now)?;
    tx.prepare_cached("INSERT INTO late (lane, event, delivery) VALUES (?, ?, ?)")?
        .execute(params![lane, event, position])?;
    Ok(Some(position))
}
