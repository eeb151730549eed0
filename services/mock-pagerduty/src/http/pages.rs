use std::io;
use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use bytes::Bytes;
use futures_util::stream;
use http::{HeaderMap, StatusCode, header};
use runtime::extract::{self, Correlation, Query};
use runtime::problem::{Code, Problem};
use schema::Event;
use serde::{Deserialize, Serialize};
use serde_json::json;

use crate::app::Desk;
use crate::domain::faults::Fate;
use crate::domain::inbox::{PAGES_MAX, Page};

/// The largest event taken, in bytes.
const EVENT_MAX: usize = 8 << 20;
/// A hanging request is let go after this, so that forgotten faults hold no connection for ever.
const HANG_MAX: Duration = Duration::from_secs(60);
/// The longest `webhook-id` remembered, in bytes.
const WEBHOOK_ID_MAX: usize = 255;

/// Takes a page, unless a fault meets it.
pub(super) async fn receive(
    State(desk): State<Arc<Desk>>,
    Correlation(correlation_id): Correlation,
    headers: HeaderMap,
    extract::Json(event): extract::Json<Event, EVENT_MAX>,
) -> Response {
    let decision = desk.injector().next_decision();
    if !decision.delay.is_zero() {
        tokio::time::sleep(decision.delay).await;
    }
    let event_id = event.event_id.clone();
    if decision.fate != Fate::Accept {
        let fault = format!("{:?}", decision.fate);
        tracing::info!(%correlation_id, %event_id, fault, "page met a fault");
        return fail(&desk, decision.fate).await;
    }
    let severity = event.severity;
    desk.inbox().push(Page {
        event,
        received_at: desk.clock.now(),
        correlation_id: correlation_id.clone(),
        webhook_id: webhook_id(&headers),
    });
    tracing::info!(%correlation_id, %event_id, severity = severity.as_str(), "page received");
    accepted()
}

fn accepted() -> Response {
    (StatusCode::ACCEPTED, Json(json!({ "accepted": true }))).into_response()
}

fn webhook_id(headers: &HeaderMap) -> Option<String> {
    let value = headers.get("webhook-id")?.to_str().ok()?;
    (value.len() <= WEBHOOK_ID_MAX).then(|| value.to_owned())
}

async fn fail(desk: &Desk, fate: Fate) -> Response {
    match fate {
        Fate::Accept => accepted(),
        Fate::Answer {
            status,
            retry_after_s,
        } => {
            let mut response = (status, Json(json!({ "accepted": false }))).into_response();
            if let Some(seconds) = retry_after_s {
                response
                    .headers_mut()
                    .insert(header::RETRY_AFTER, seconds.into());
            }
            response
        }
        Fate::Hang => {
            tokio::select! {
                () = tokio::time::sleep(HANG_MAX) => {}
                () = desk.stopping.cancelled() => {}
            }
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
        Fate::Reset => broken_off(),
    }
}

/// An answer whose body fails, at which the server drops the connection. Its head, should it get out, is a failure too.
fn broken_off() -> Response {
    let broken = stream::once(async { Err::<Bytes, _>(io::Error::other("reset on request")) });
    (
        StatusCode::INTERNAL_SERVER_ERROR,
        [(header::CONTENT_LENGTH, "1")],
        Body::from_stream(broken),
    )
        .into_response()
}

#[derive(Debug, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub(super) struct ListQuery {
    limit: usize,
}

impl Default for ListQuery {
    fn default() -> Self {
        Self { limit: 50 }
    }
}

#[derive(Serialize)]
pub(super) struct Pages {
    events: Vec<Arc<Page>>,
}

/// What was received, newest first.
pub(super) async fn list(
    State(desk): State<Arc<Desk>>,
    Query(query): Query<ListQuery>,
) -> Result<Json<Pages>, Problem> {
    if !(1..=PAGES_MAX).contains(&query.limit) {
        return Err(Code::InvalidQuery.because(format!("limit must be 1 to {PAGES_MAX}")));
    }
    let events = desk.inbox().newest(query.limit);
    Ok(Json(Pages { events }))
}

/// Forgets every page.
pub(super) async fn forget(State(desk): State<Arc<Desk>>) -> StatusCode {
    desk.inbox().clear();
    StatusCode::NO_CONTENT
}
