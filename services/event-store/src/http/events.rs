//! `GET /events` and `GET /events/{event_id}`.

use std::sync::Arc;

use axum::extract::State;
use axum::response::Response;
use jiff::Timestamp;
use runtime::extract::{Path, Query};
use runtime::problem::{Code, Problem};
use schema::{EventId, Kind, Severity, Source};
use serde::Deserialize;

use super::{Hub, render};
use crate::domain::query::{EventsQuery, Filter, Needle};

const LIMIT_DEFAULT: usize = 50;
pub(super) const LIMIT_MAX: usize = 500;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    limit: Option<usize>,
    source: Option<Source>,
    kind: Option<Kind>,
    severity: Option<Severity>,
    open: Option<bool>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    q: Option<String>,
    cursor: Option<String>,
}

pub(super) async fn list(
    State(hub): State<Arc<Hub>>,
    Query(params): Query<Params>,
) -> Result<Response, Problem> {
    let query = params.check()?;
    let page = hub.storage.events(query).await?;
    let room = hub.answers.room_for(page.weight())?;
    Ok(room.hold(render::page(&page).map_err(unwritable)?))
}

pub(super) async fn one(
    State(hub): State<Arc<Hub>>,
    Path(event_id): Path<String>,
) -> Result<Response, Problem> {
    let unknown = || Code::NotFound.because("no event has this id");
    let event_id = EventId::parse(&event_id).ok_or_else(unknown)?;
    let history = hub.storage.event(event_id).await?.ok_or_else(unknown)?;
    Ok(render::json(render::history(&history).map_err(unwritable)?))
}

impl Params {
    fn check(self) -> Result<EventsQuery, Problem> {
        Ok(EventsQuery {
            limit: limit(self.limit, LIMIT_DEFAULT)?,
            before: self.cursor.as_deref().map(cursor).transpose()?,
            since: self.since,
            until: self.until,
            filter: Filter {
                source: self.source,
                kind: self.kind,
                severity: self.severity,
                open: self.open,
                text: self.q.as_deref().map(Needle::new),
            },
        })
    }
}

pub(super) fn limit(asked: Option<usize>, default: usize) -> Result<usize, Problem> {
    let limit = asked.unwrap_or(default);
    if (1..=LIMIT_MAX).contains(&limit) {
        Ok(limit)
    } else {
        Err(Code::InvalidQuery.because(format!("limit must be 1 to {LIMIT_MAX}")))
    }
}

/// A cursor is the last position seen; to callers it is opaque.
fn cursor(text: &str) -> Result<u64, Problem> {
    text.parse().map_err(|_| {
        Code::InvalidQuery.because("cursor must be the next_cursor of an earlier answer")
    })
}

pub(super) fn unwritable(fault: serde_json::Error) -> Problem {
    tracing::error!(%fault, "an answer could not be written");
    Code::Internal.because("the answer could not be written")
}
