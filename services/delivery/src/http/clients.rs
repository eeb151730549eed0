//! `GET /webhooks/clients` and `DELETE /webhooks/clients/{client_id}`.

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use runtime::extract::{Correlation, Path, Query};
use runtime::problem::Problem;
use schema::webhooks::{ClientsPage, JobView};
use serde::Deserialize;

use super::who::Who;
use super::{Api, paging, refuse, views};

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Asked {
    limit: Option<usize>,
    cursor: Option<String>,
}

/// By name; the cursor is the last name of the page before.
pub(super) async fn list(
    State(api): State<Api>,
    who: Who,
    Query(asked): Query<Asked>,
) -> Result<Json<ClientsPage>, Problem> {
    let limit = paging::limit(asked.limit)?;
    let after = paging::client(asked.cursor)?;
    let mut clients = api.worker.clients();
    clients.retain(|(client, _)| {
        let id = &*client.client_id;
        who.sees(id) && after.as_deref().is_none_or(|after| id > after)
    });
    clients.sort_unstable_by(|(a, _), (b, _)| a.client_id.cmp(&b.client_id));
    let more = clients.len() > limit;
    clients.truncate(limit);
    let last = clients
        .last()
        .map(|(client, _)| client.client_id.to_string());
    let clients = clients.into_iter();
    Ok(Json(ClientsPage {
        next_cursor: last.filter(|_| more),
        clients: clients
            .map(|(client, endpoints)| views::client(client, endpoints))
            .collect(),
    }))
}

pub(super) async fn remove(
    State(api): State<Api>,
    who: Who,
    Correlation(correlation_id): Correlation,
    Path(client_id): Path<String>,
) -> Result<(StatusCode, Json<JobView>), Problem> {
    who.must_see(&client_id)?;
    let removed = api.worker.remove_client(&client_id, correlation_id).await;
    let job = removed.map_err(refuse::command("client"))?;
    Ok((StatusCode::ACCEPTED, Json(views::job(job))))
}
