//! `POST`, `GET /webhooks/events` and `GET /webhooks/events/{event_id}`.

use axum::Json;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use runtime::extract::{Correlation, Path, Query};
use runtime::problem::{Code, Problem};
use schema::delivery::Status;
use schema::webhooks::{Accepted, NewEvent, WebhookEventView, WebhookEventsPage};
use schema::{CorrelationId, names};
use serde::Deserialize;

use super::private::Private;
use super::who::Who;
use super::{Api, paging, refuse, views};
use crate::domain::ids::{EndpointId, EventId};
use crate::domain::requests::{self, CheckedEvent};
use crate::storage::{Filter, LANE, Page};
use crate::worker::{Incoming, PostFault, Posted};

pub(super) mod batch;

/// The largest payload, and what is said of it.
const EVENT_BYTES_MAX: usize = 320 * 1024;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    client: Option<String>,
    endpoint: Option<String>,
    idempotency_key: Option<String>,
    status: Option<Status>,
    code: Option<String>,
    since: Option<Timestamp>,
    until: Option<Timestamp>,
    limit: Option<usize>,
    cursor: Option<String>,
}

pub(super) async fn post(
    State(api): State<Api>,
    who: Who,
    Correlation(correlation_id): Correlation,
    headers: HeaderMap,
    Private(told): Private<NewEvent, EVENT_BYTES_MAX>,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    let event = requests::check_event(told, key(&headers)?).map_err(refuse::asked)?;
    who.must_see(&event.client_id)?;
    let (status, accepted) = api.accept(event, correlation_id, None).await?;
    Ok((status, Json(accepted)))
}

pub(super) async fn list(
    State(api): State<Api>,
    who: Who,
    Query(asked): Query<Asked>,
) -> Result<Json<WebhookEventsPage>, Problem> {
    let page = match asked.filter(&who)? {
        Some(filter) => api.storage.events(LANE, filter).await,
        None => Ok(Page::default()),
    }
    .map_err(refuse::store)?;
    Ok(Json(WebhookEventsPage {
        next_cursor: page.next.map(|next| next.to_string()),
        events: page.rows.into_iter().map(views::event).collect(),
    }))
}

pub(super) async fn one(
    State(api): State<Api>,
    who: Who,
    Path(event_id): Path<String>,
) -> Result<Json<WebhookEventView>, Problem> {
    let unknown = || refuse::unknown("event");
    let id = EventId::parse(&event_id).ok_or_else(unknown)?;
    let found = api.storage.event(id).await.map_err(refuse::store)?;
    let event = found
        .filter(|event| who.sees(&event.summary.client_id))
        .ok_or_else(unknown)?;
    let waiting_for = |summary: &_| api.worker.waiting_for(summary);
    Ok(Json(views::whole_event(event, waiting_for)))
}

impl Asked {
    /// `None` where nothing can be shown.
    fn filter(self, who: &Who) -> Result<Option<Filter>, Problem> {
        let client_id = paging::client(self.client)?;
        let filter = Filter {
            endpoint_id: paging::endpoint(self.endpoint)?,
            idempotency_key: paging::key(self.idempotency_key)?,
            status: self.status,
            code: paging::code(self.code)?,
            since: self.since,
            until: self.until,
            before: paging::before(self.cursor.as_deref())?,
            limit: paging::limit(self.limit)?,
            ..Filter::default()
        };
        Ok(who.narrow(filter, client_id))
    }
}

/// What the request's Idempotency-Key says.
fn key(headers: &HeaderMap) -> Result<Option<&str>, Problem> {
    let key = headers.get(names::IDEMPOTENCY_KEY);
    key.map(|key| key.to_str())
        .transpose()
        .map_err(|_| Code::InvalidPayload.because("Idempotency-Key is visible ASCII"))
}

impl Api {
    /// On disk when it answers; 202 for a new one, 200 for one that is known.
    pub(super) async fn accept(
        &self,
        event: CheckedEvent,
        correlation_id: CorrelationId,
        only: Option<EndpointId>,
    ) -> Result<(StatusCode, Accepted), Problem> {
        let incoming = incoming_of(event, correlation_id, only);
        answered(self.worker.post(incoming).await)
    }
}

fn incoming_of(
    event: CheckedEvent,
    correlation_id: CorrelationId,
    only: Option<EndpointId>,
) -> Incoming {
    Incoming {
        client_id: event.client_id,
        event_type: event.event_type,
        payload: event.payload,
        key: event.key,
        digest: event.digest,
        ordering_key: event.ordering_key,
        occurred_at: event.occurred_at,
        correlation_id,
        only,
    }
}

fn answered(posted: Result<Posted, PostFault>) -> Result<(StatusCode, Accepted), Problem> {
    match posted.map_err(refuse::post)? {
        Posted::New(accepted) => Ok((StatusCode::ACCEPTED, accepted)),
        Posted::Known(event) => Ok((StatusCode::OK, views::duplicate(&event))),
    }
}
