//! Between rows and what they mean. A row is read from left to right, in the order of the columns named here.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use rusqlite::types::{FromSql, Type};
use rusqlite::{Error, Result, Row};
use schema::webhooks::Counts;
use schema::{CorrelationId, EventId as SourceId};
use uuid::Uuid;

use crate::domain::delivery::{Carried, DeliveryId, EventId, Lane, Source};
use crate::domain::ids::EndpointId;
use crate::domain::pages::Group;
use crate::domain::queues::Kind;
use crate::domain::transition::{ExhaustReason, Life, OpenAttempt, State, is_suspect};
use crate::storage::{Ended, EventSummary, Stored, Summary, Waiting};
use schema::webhooks::{Phases, Trigger};

macro_rules! life_columns {
    () => {
        "d.version, d.status, d.reason, d.generation, d.next_trigger, d.started, d.started_before, d.finished, \
         d.interrupted, d.interrupted_in_a_row, d.stop, d.due_at, d.age_from, d.open_epoch, d.open_alone, d.open_at, \
         d.open_trigger"
    };
}

/// What [`summary`] reads.
pub(super) const SUMMARY: &str = concat!(
    life_columns!(),
    ", d.position, d.delivery_id, d.endpoint, d.line, d.created_at, d.ended_at, d.code, e.event_id, e.event_type, \
     e.idempotency_key, e.source_event_id, e.revision, e.stored_at, e.correlation_id, c.client_id, p.endpoint_id, \
     p.removed, c.removed"
);

/// Of deliveries `d`: their event, client and endpoint. A cross join is made in the order in which it is written.
pub(super) const SUMMARY_JOINS: &str = "CROSS JOIN events e ON e.lane = d.lane AND e.position = d.event \
     CROSS JOIN clients c ON c.lane = d.lane AND c.position = d.client \
     CROSS JOIN endpoints p ON p.lane = d.lane AND p.position = d.endpoint";

/// What [`stored`] reads, of deliveries `d` with their events `e`.
pub(super) const STORED: &str = concat!(
    life_columns!(),
    ", d.position, d.delivery_id, d.client, d.endpoint, d.line, d.order_at, d.blocks, e.event_id, \
     e.event_type, e.correlation_id, e.source_event_id, e.revision, e.stored_at, e.operational, e.payload"
);

pub(super) const STORED_FROM: &str =
    "deliveries d CROSS JOIN events e ON e.lane = d.lane AND e.position = d.event";

/// What [`event`] reads, of events `e` with their clients `c`.
pub(super) const EVENT: &str = "e.position, e.event_id, c.client_id, e.event_type, e.idempotency_key, e.ordering_key, \
     e.occurred_at, e.source_event_id, e.revision, e.stored_at, e.correlation_id, e.created_at, c.removed, e.fanout";

/// What [`waiting`] reads.
pub(super) const WAITING: &str = "d.position, d.endpoint, d.due_at, d.interrupted_in_a_row, \
     d.open_epoch IS NOT NULL, d.started > d.started_before, d.line, d.order_at, d.blocks, \
     (SELECT e.event_type FROM events e WHERE e.lane = d.lane AND e.position = d.event)";

/// What [`attempt`] reads.
pub(super) const ATTEMPT: &str = "number, epoch, made_by, started_at, duration_ms, dns_ms, connect_ms, head_ms, \
     body_ms, status_code, error, error_reason, resent, response, next_attempt_at";

pub(super) fn micros(at: Timestamp) -> i64 {
    at.as_microsecond()
}

/// A value that this program never wrote.
pub(super) fn unreadable(
    column: usize,
    why: impl Into<Box<dyn std::error::Error + Send + Sync>>,
) -> Error {
    Error::FromSqlConversionFailure(column, Type::Null, why.into())
}

/// A row, read from left to right.
pub(super) struct Columns<'a, 'b> {
    row: &'a Row<'b>,
    next: usize,
}

impl<'a, 'b> Columns<'a, 'b> {
    pub(super) fn of(row: &'a Row<'b>) -> Self {
        Self { row, next: 0 }
    }

    pub(super) fn get<T: FromSql>(&mut self) -> Result<T> {
        self.next += 1;
        self.row.get(self.next - 1)
    }

    pub(super) fn at(&mut self) -> Result<Timestamp> {
        let micros = self.get()?;
        Timestamp::from_microsecond(micros).map_err(|fault| self.unreadable(fault.to_string()))
    }

    pub(super) fn maybe_at(&mut self) -> Result<Option<Timestamp>> {
        let micros: Option<i64> = self.get()?;
        let at = micros.map(Timestamp::from_microsecond).transpose();
        at.map_err(|fault| self.unreadable(fault.to_string()))
    }

    pub(super) fn uuid(&mut self) -> Result<Uuid> {
        self.get().map(Uuid::from_bytes)
    }

    pub(super) fn shared(&mut self) -> Result<Arc<str>> {
        self.get::<String>().map(Into::into)
    }

    pub(super) fn word<T>(&mut self, parse: fn(&str) -> Option<T>) -> Result<T> {
        let word = self.maybe_word(parse)?;
        word.ok_or_else(|| self.unreadable("a word is missing"))
    }

    pub(super) fn maybe_word<T>(&mut self, parse: fn(&str) -> Option<T>) -> Result<Option<T>> {
        let Some(word) = self.get::<Option<String>>()? else {
            return Ok(None);
        };
        match parse(&word) {
            Some(known) => Ok(Some(known)),
            None => Err(self.unreadable(format!("the word {word}"))),
        }
    }

    pub(super) fn correlation_id(&mut self) -> Result<CorrelationId> {
        let text: String = self.get()?;
        CorrelationId::try_from(text).map_err(|why| self.unreadable(why))
    }

    fn source(&mut self) -> Result<Option<Source>> {
        let event_id: Option<String> = self.get()?;
        let revision: Option<u32> = self.get()?;
        let stored_at = self.maybe_at()?;
        let (Some(event_id), Some(revision), Some(stored_at)) = (event_id, revision, stored_at)
        else {
            return Ok(None);
        };
        let event_id = SourceId::try_from(event_id).map_err(|why| self.unreadable(why))?;
        Ok(Some(Source {
            event_id,
            revision,
            stored_at,
        }))
    }

    fn state(&mut self) -> Result<State> {
        let (status, reason): (String, Option<String>) = (self.get()?, self.get()?);
        State::parse(&status, reason.as_deref())
            .ok_or_else(|| self.unreadable(format!("the state {status} {reason:?}")))
    }

    fn life(&mut self) -> Result<Life> {
        Ok(Life {
            version: self.get()?,
            state: self.state()?,
            generation: self.get()?,
            trigger: self.word(Trigger::parse)?,
            started: self.get()?,
            before: self.get()?,
            finished: self.get()?,
            interrupted: self.get()?,
            interrupted_in_a_row: self.get()?,
            stop: self.maybe_word(ExhaustReason::parse)?,
            due_at: self.maybe_at()?,
            age_from: self.at()?,
            open: self.open_attempt()?,
        })
    }

    fn open_attempt(&mut self) -> Result<Option<OpenAttempt>> {
        let epoch: Option<u64> = self.get()?;
        let alone: Option<bool> = self.get()?;
        let at = self.maybe_at()?;
        let trigger = self.maybe_word(Trigger::parse)?;
        Ok(match (epoch, alone, at, trigger) {
            (Some(epoch), Some(alone), Some(at), Some(trigger)) => Some(OpenAttempt {
                epoch,
                alone,
                at,
                trigger,
            }),
            _ => None,
        })
    }

    pub(super) fn unreadable(
        &self,
        why: impl Into<Box<dyn std::error::Error + Send + Sync>>,
    ) -> Error {
        unreadable(self.next - 1, why)
    }
}

/// The endpoint's id as it was written: it may be of one that an earlier release had built in.
pub(super) fn endpoint_id(columns: &mut Columns<'_, '_>) -> Result<EndpointId> {
    columns.word(EndpointId::parse)
}

/// A delivery as lists tell it, and whether its client is removed.
pub(super) fn summary(row: &Row<'_>, lane: Lane) -> Result<(Summary, bool)> {
    let mut columns = Columns::of(row);
    let life = columns.life()?;
    let summary = Summary {
        life,
        position: columns.get()?,
        delivery_id: DeliveryId {
            lane,
            uuid: columns.uuid()?,
        },
        endpoint: columns.get()?,
        line: line_of(columns.get()?),
        created_at: columns.at()?,
        ended_at: columns.maybe_at()?,
        code: columns.get()?,
        event_id: EventId {
            lane,
            uuid: columns.uuid()?,
        },
        event_type: columns.get()?,
        idempotency_key: columns.get()?,
        source: columns.source()?,
        correlation_id: columns.correlation_id()?,
        client_id: columns.shared()?,
        endpoint_id: endpoint_id(&mut columns)?,
        endpoint_deleted: columns.get()?,
    };
    Ok((summary, columns.get()?))
}

pub(super) fn stored(row: &Row<'_>, lane: Lane) -> Result<Stored> {
    let mut columns = Columns::of(row);
    let life = columns.life()?;
    Ok(Stored {
        life,
        position: columns.get()?,
        delivery_id: DeliveryId {
            lane,
            uuid: columns.uuid()?,
        },
        client: columns.get()?,
        endpoint: columns.get()?,
        line: line_of(columns.get()?),
        order_at: columns.get()?,
        blocks: columns.get()?,
        event: Carried {
            event_id: EventId {
                lane,
                uuid: columns.uuid()?,
            },
            event_type: columns.get()?,
            correlation_id: columns.correlation_id()?,
            source: columns.source()?,
            operational: columns.get()?,
            payload: Bytes::from(columns.get::<Vec<u8>>()?),
        },
    })
}

/// An event as read, without its counts.
pub(super) struct EventRow {
    pub(super) summary: EventSummary,
    pub(super) client_removed: bool,
    pub(super) fanout: u64,
}

pub(super) fn event(row: &Row<'_>, lane: Lane) -> Result<EventRow> {
    let mut columns = Columns::of(row);
    let summary = EventSummary {
        counts: Counts::default(),
        position: columns.get()?,
        event_id: EventId {
            lane,
            uuid: columns.uuid()?,
        },
        client_id: columns.shared()?,
        event_type: columns.get()?,
        idempotency_key: columns.get()?,
        ordering_key: columns.get()?,
        occurred_at: columns.maybe_at()?,
        source: columns.source()?,
        correlation_id: columns.correlation_id()?,
        created_at: columns.at()?,
    };
    Ok(EventRow {
        summary,
        client_removed: columns.get()?,
        fanout: columns.get()?,
    })
}

/// State, how many, how many of them late, the oldest.
pub(super) fn group(row: &Row<'_>) -> Result<Group> {
    let mut columns = Columns::of(row);
    Ok(Group {
        state: columns.state()?,
        count: columns.get()?,
        late: columns.get()?,
        oldest: columns.at()?,
    })
}

pub(super) fn waiting(row: &Row<'_>) -> Result<Waiting> {
    let mut columns = Columns::of(row);
    let (position, endpoint) = (columns.get()?, columns.get()?);
    Ok(Waiting {
        position,
        endpoint,
        // Ended ones, at which a line stops, are due at no time.
        due_at: columns.maybe_at()?.unwrap_or(Timestamp::MAX),
        suspect: is_suspect(columns.get()?),
        attempt_open: columns.get()?,
        begun: columns.get()?,
        line: line_of(columns.get()?),
        order_at: columns.get()?,
        blocks: columns.get()?,
        kind: Kind::of(&columns.get::<Option<String>>()?.unwrap_or_default()),
    })
}

pub(super) fn attempt(row: &Row<'_>) -> Result<Ended> {
    let mut columns = Columns::of(row);
    Ok(Ended {
        number: columns.get()?,
        epoch: columns.get()?,
        trigger: columns.word(Trigger::parse)?,
        started_at: columns.at()?,
        duration_ms: columns.get()?,
        phases: Phases {
            dns_ms: columns.get()?,
            connect_ms: columns.get()?,
            head_ms: columns.get()?,
            body_ms: columns.get()?,
        },
        status_code: columns.get()?,
        error: columns.get()?,
        error_reason: columns.get()?,
        resent: columns.get()?,
        response: columns.get()?,
        next_attempt_at: columns.maybe_at()?,
    })
}

/// SQLite's integers have a sign; a line is 64 bits of a hash.
fn line_of(column: i64) -> u64 {
    column.cast_unsigned()
}
