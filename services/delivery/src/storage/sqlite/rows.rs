//! Between rows and what they mean.

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Error, Result, Row};
use schema::delivery::Status;
use schema::{CorrelationId, EventId};
use uuid::Uuid;

use crate::domain::delivery::{Carried, DeliveryId, Lane};
use crate::domain::transition::{Life, OpenAttempt, State};
use crate::storage::{Attempt, Ended, Stored, Summary};

/// The columns that [`summary`] reads, of a delivery `d` and its event `e`.
macro_rules! summary_columns {
    () => {
        "d.position, d.delivery_id, d.endpoint_id, d.status, d.reason, d.started, d.finished, \
         d.interrupted, d.interrupted_in_a_row, d.due_at, d.open_epoch, d.open_alone, d.created_at, \
         e.event_id, e.revision, e.correlation_id"
    };
}

pub(super) const SUMMARY: &str = summary_columns!();
/// The columns that [`stored`] reads.
pub(super) const STORED: &str = concat!(summary_columns!(), ", e.stored_at, e.payload");

pub(super) const JOINED: &str =
    "deliveries d JOIN events e ON e.lane = d.lane AND e.position = d.event";

/// As [`JOINED`], of one status; SQLite would walk all positions instead.
pub(super) const JOINED_BY_STATUS: &str = "deliveries d INDEXED BY deliveries_by_status \
     JOIN events e ON e.lane = d.lane AND e.position = d.event";

pub(super) fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

pub(super) fn at(row: &Row<'_>, column: usize) -> Result<Timestamp> {
    let micros = row.get(column)?;
    Timestamp::from_microsecond(micros).map_err(|fault| unreadable(column, fault.to_string()))
}

pub(super) fn maybe_at(row: &Row<'_>, column: usize) -> Result<Option<Timestamp>> {
    match row.get::<_, Option<i64>>(column)? {
        Some(_) => at(row, column).map(Some),
        None => Ok(None),
    }
}

/// A value that this program never wrote.
pub(super) fn unreadable(
    column: usize,
    why: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::FromSqlConversionFailure(column, Type::Null, why.into())
}

pub(super) fn status(row: &Row<'_>) -> Result<Status> {
    let status: String = row.get(3)?;
    Status::parse(&status).ok_or_else(|| unreadable(3, status))
}

pub(super) fn summary(row: &Row<'_>, lane: Lane) -> Result<Summary> {
    let status: String = row.get(3)?;
    let reason: Option<String> = row.get(4)?;
    let state = State::parse(&status, reason.as_deref())
        .ok_or_else(|| unreadable(3, format!("the state {status} {reason:?}")))?;
    let alone = row.get(11)?;
    let open = row
        .get::<_, Option<u64>>(10)?
        .map(|epoch| OpenAttempt { epoch, alone });
    let life = Life {
        state,
        started: row.get(5)?,
        finished: row.get(6)?,
        interrupted: row.get(7)?,
        interrupted_in_a_row: row.get(8)?,
        due_at: maybe_at(row, 9)?,
        open,
    };
    Ok(Summary {
        position: row.get(0)?,
        delivery_id: DeliveryId {
            lane,
            uuid: Uuid::from_bytes(row.get(1)?),
        },
        endpoint_id: row.get::<_, String>(2)?.into(),
        life,
        created_at: at(row, 12)?,
        event_id: event_id(row, 13)?,
        revision: row.get(14)?,
        correlation_id: correlation_id(row, 15)?,
    })
}

pub(super) fn stored(row: &Row<'_>, lane: Lane) -> Result<Stored> {
    let summary = summary(row, lane)?;
    let payload: Vec<u8> = row.get(17)?;
    Ok(Stored {
        position: summary.position,
        delivery_id: summary.delivery_id,
        endpoint_id: summary.endpoint_id,
        life: summary.life,
        created_at: summary.created_at,
        event: Carried {
            event_id: summary.event_id,
            revision: summary.revision,
            correlation_id: summary.correlation_id,
            stored_at: at(row, 16)?,
            payload: Bytes::from(payload),
        },
    })
}

pub(super) fn event_id(row: &Row<'_>, column: usize) -> Result<EventId> {
    EventId::try_from(row.get::<_, String>(column)?).map_err(|why| unreadable(column, why))
}

pub(super) fn correlation_id(row: &Row<'_>, column: usize) -> Result<CorrelationId> {
    CorrelationId::try_from(row.get::<_, String>(column)?).map_err(|why| unreadable(column, why))
}

/// `number, epoch, started_at, ended, duration_ms, status_code, error, response, next_attempt_at`
pub(super) fn attempt(row: &Row<'_>) -> Result<Attempt> {
    let ended = if row.get(3)? {
        Some(Ended {
            duration_ms: row.get(4)?,
            status_code: row.get(5)?,
            error: row.get(6)?,
            response: row.get(7)?,
        })
    } else {
        None
    };
    Ok(Attempt {
        number: row.get(0)?,
        epoch: row.get(1)?,
        started_at: at(row, 2)?,
        ended,
        next_attempt_at: maybe_at(row, 8)?,
    })
}
