//! `GET /webhooks/deliveries` and `GET /webhooks/deliveries/{delivery_id}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::HeaderMap;
use jiff::Timestamp;
use runtime::extract::{Path, Query};
use runtime::problem::{Code, Problem};
use schema::delivery::Status;
use schema::{CorrelationId, EventId, names};
use serde::{Deserialize, Serialize};

use crate::domain::delivery::{DeliveryId, Position};
use crate::domain::endpoint::ONCALL;
use crate::error::Error;
use crate::storage::{Attempt, Filter, LANE, Storage, Summary};

const LIMIT_DEFAULT: usize = 50;
const LIMIT_MAX: usize = 500;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    event_id: Option<String>,
    status: Option<Status>,
    limit: Option<usize>,
    cursor: Option<Position>,
}

/// A page, newest first; it may end before its limit.
#[derive(Default, Serialize)]
pub(super) struct PageView {
    deliveries: Vec<DeliveryView>,
    /// Asks for the next page; null on the last one.
    next_cursor: Option<String>,
}

#[derive(Serialize)]
pub(super) struct DeliveryView {
    delivery_id: String,
    event_id: EventId,
    revision: u32,
    client_id: &'static str,
    endpoint_id: Arc<str>,
    status: Status,
    /// Why no more attempts will come, or why none was made.
    reason: Option<&'static str>,
    /// Attempts with a result; those whose process ended before are in `interrupted`.
    attempts_finished: u32,
    interrupted: u32,
    correlation_id: CorrelationId,
    created_at: Timestamp,
    next_attempt_at: Option<Timestamp>,
}

/// One delivery with every attempt, oldest first.
#[derive(Serialize)]
pub(super) struct DeliveryWithAttempts {
    #[serde(flatten)]
    delivery: DeliveryView,
    attempts: Vec<AttemptView>,
}

#[derive(Serialize)]
pub(super) struct AttemptView {
    number: u32,
    started_at: Timestamp,
    /// Null while it is on its way, and for an interrupted one.
    duration_ms: Option<u64>,
    status_code: Option<u16>,
    /// A stable word; `interrupted` when the process ended before the result was on record.
    error: Option<String>,
    /// The first KiB of the answer's body.
    response: Option<String>,
    next_attempt_at: Option<Timestamp>,
}

pub(super) async fn list(
    State(storage): State<Arc<dyn Storage>>,
    headers: HeaderMap,
    Query(asked): Query<Asked>,
) -> Result<Json<PageView>, Problem> {
    let limit = asked.limit.unwrap_or(LIMIT_DEFAULT);
    if !(1..=LIMIT_MAX).contains(&limit) {
        return Err(Code::InvalidQuery.because(format!("limit is 1 to {LIMIT_MAX}")));
    }
    if !sees(&headers, ONCALL) {
        return Ok(Json(PageView::default()));
    }
    let filter = Filter {
        event_id: asked.event_id,
        status: asked.status,
        before: asked.cursor,
        limit,
    };
    let page = storage.deliveries(LANE, filter).await.map_err(refuse)?;
    Ok(Json(PageView {
        next_cursor: page.next.map(|next| next.to_string()),
        deliveries: page
            .deliveries
            .into_iter()
            .map(DeliveryView::from)
            .collect(),
    }))
}

pub(super) async fn one(
    State(storage): State<Arc<dyn Storage>>,
    headers: HeaderMap,
    Path(delivery_id): Path<String>,
) -> Result<Json<DeliveryWithAttempts>, Problem> {
    let unknown = || Code::NotFound.because("no such delivery");
    if !sees(&headers, ONCALL) {
        return Err(unknown());
    }
    let id = DeliveryId::parse(&delivery_id).ok_or_else(unknown)?;
    let (summary, attempts) = storage
        .delivery(id)
        .await
        .map_err(refuse)?
        .ok_or_else(unknown)?;
    Ok(Json(DeliveryWithAttempts {
        delivery: summary.into(),
        attempts: attempts.into_iter().map(AttemptView::from).collect(),
    }))
}

/// Whether the caller may see a client's rows; the gateway says who asks.
fn sees(headers: &HeaderMap, client_id: &str) -> bool {
    headers
        .get(names::CLIENT)
        .is_none_or(|caller| caller.as_bytes() == client_id.as_bytes())
}

fn refuse(fault: Error) -> Problem {
    tracing::warn!(%fault, "a query failed");
    Code::Unavailable
        .because("the store cannot be read now")
        .retry_after(1)
}

impl From<Summary> for DeliveryView {
    fn from(summary: Summary) -> Self {
        let life = summary.life;
        Self {
            delivery_id: summary.delivery_id.to_string(),
            event_id: summary.event_id,
            revision: summary.revision,
            client_id: ONCALL,
            endpoint_id: summary.endpoint_id,
            status: life.state.status(),
            reason: life.state.reason(),
            attempts_finished: life.finished,
            interrupted: life.interrupted,
            correlation_id: summary.correlation_id,
            created_at: summary.created_at,
            next_attempt_at: life.due_at,
        }
    }
}

impl From<Attempt> for AttemptView {
    fn from(attempt: Attempt) -> Self {
        let (duration_ms, status_code, error, response) = match attempt.ended {
            Some(ended) => (
                ended.duration_ms,
                ended.status_code,
                ended.error,
                ended.response,
            ),
            None => (None, None, None, None),
        };
        Self {
            number: attempt.number,
            started_at: attempt.started_at,
            duration_ms,
            status_code,
            error,
            response,
            next_attempt_at: attempt.next_attempt_at,
        }
    }
}
