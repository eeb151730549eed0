//! `GET /webhooks/deliveries` and `/webhooks/deliveries/{delivery_id}`.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use jiff::Timestamp;
use runtime::extract::{Path, Query};
use runtime::problem::Problem;
use schema::delivery::Status;
use schema::webhooks::{DeliveriesPage, DeliveryView, Trigger};
use serde::Deserialize;

use super::who::Who;
use super::{Api, paging, refuse, views};
use crate::domain::ids::DeliveryId;
use crate::storage::{Filter, LANE, Page, Summary};

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

pub(super) async fn list(
    State(api): State<Api>,
    who: Who,
    Query(asked): Query<Asked>,
) -> Result<Json<DeliveriesPage>, Problem> {
    let page = match asked.filter(&who)? {
        Some(filter) => api.storage.deliveries(LANE, filter).await,
        None => Ok(Page::default()),
    }
    .map_err(refuse::store)?;
    let view = |summary: Summary| {
        let waiting_for = api.worker.waiting_for(&summary);
        views::delivery(summary, waiting_for)
    };
    Ok(Json(DeliveriesPage {
        next_cursor: page.next.map(|next| next.to_string()),
        deliveries: page.rows.into_iter().map(view).collect(),
    }))
}

pub(super) async fn one(
    State(api): State<Api>,
    who: Who,
    Path(delivery_id): Path<String>,
) -> Result<Json<DeliveryView>, Problem> {
    let (_, view) = api.delivery(&who, &delivery_id).await?;
    Ok(Json(view))
}

pub(super) async fn retry(
    State(api): State<Api>,
    who: Who,
    Path(delivery_id): Path<String>,
) -> Result<(StatusCode, Json<DeliveryView>), Problem> {
    let (id, _) = api.delivery(&who, &delivery_id).await?;
    let retried = api.worker.retry(id, Trigger::Manual).await;
    retried.map_err(refuse::command("delivery"))?;
    let (_, view) = api.delivery(&who, &delivery_id).await?;
    Ok((StatusCode::ACCEPTED, Json(view)))
}

/// An attempt on its way is let finish, hence 202.
pub(super) async fn cancel(
    State(api): State<Api>,
    who: Who,
    Path(delivery_id): Path<String>,
) -> Result<(StatusCode, Json<DeliveryView>), Problem> {
    let (id, _) = api.delivery(&who, &delivery_id).await?;
    let canceled = api.worker.cancel(id).await;
    canceled.map_err(refuse::command("delivery"))?;
    let (_, view) = api.delivery(&who, &delivery_id).await?;
    Ok((StatusCode::ACCEPTED, Json(view)))
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

impl Api {
    /// The delivery of this id that the caller may see, as it stands now, with every attempt.
    async fn delivery(
        &self,
        who: &Who,
        delivery_id: &str,
    ) -> Result<(DeliveryId, DeliveryView), Problem> {
        let unknown = || refuse::unknown("delivery");
        let id = DeliveryId::parse(delivery_id).ok_or_else(unknown)?;
        let found = self.storage.delivery(id).await.map_err(refuse::store)?;
        let (summary, attempts) = found
            .filter(|(summary, _)| who.sees(&summary.client_id))
            .ok_or_else(unknown)?;
        let waiting_for = self.worker.waiting_for(&summary);
        Ok((id, views::whole_delivery(summary, attempts, waiting_for)))
    }
}
