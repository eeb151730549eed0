//! `/webhooks/clients/{client_id}/endpoints` and `/webhooks/endpoints/{endpoint_id}`.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use http::StatusCode;
use runtime::extract::{Correlation, Path, Query};
use runtime::problem::{Code, Problem};
use schema::CorrelationId;
use schema::webhooks::{
    Accepted, EndpointChange, EndpointView, EndpointsPage, JobView, NewEndpoint, RecoverRequest,
    RotateSecret,
};
use serde::Deserialize;

use super::private::Private;
use super::who::Who;
use super::{Api, refuse, resolve, views};
use crate::domain::endpoint::{Endpoint, ONCALL, is_client_id};
use crate::domain::ids::EndpointId;
use crate::domain::requests;

/// A client's endpoints are one page; nothing more can be asked.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Nothing {}

pub(super) async fn register(
    State(api): State<Api>,
    who: Who,
    Correlation(correlation_id): Correlation,
    Path(client_id): Path<String>,
    Private(told): Private<NewEndpoint>,
) -> Result<(StatusCode, Json<EndpointView>), Problem> {
    who.must_see(&client_id)?;
    if !is_client_id(&client_id) {
        return Err(Code::InvalidRequest.because("client_id is 1 to 64 of A-Z a-z 0-9 . _ -"));
    }
    if client_id == ONCALL {
        return Err(Code::Reserved.because("the client oncall has the endpoint pagerduty alone"));
    }
    let defaults = api.worker.defaults();
    let asked = requests::check_endpoint(told, defaults, rand::random()).map_err(refuse::asked)?;
    resolve::check(&asked.settings.url, &defaults.nets, api.worker.doors()).await?;
    let registered = api
        .worker
        .register(
            &client_id,
            asked.settings,
            asked.confidential,
            asked.disabled,
            &correlation_id,
        )
        .await
        .map_err(refuse::command("client"))?;
    Ok((StatusCode::CREATED, Json(api.with_secret(&registered))))
}

/// Newest first.
pub(super) async fn list(
    State(api): State<Api>,
    who: Who,
    Path(client_id): Path<String>,
    Query(Nothing {}): Query<Nothing>,
) -> Result<Json<EndpointsPage>, Problem> {
    who.must_see(&client_id)?;
    if !is_client_id(&client_id) {
        return Err(refuse::unknown("client"));
    }
    let endpoints = api.worker.endpoints_of(&client_id);
    Ok(Json(EndpointsPage {
        endpoints: endpoints
            .iter()
            .map(|endpoint| api.view(endpoint))
            .collect(),
        next_cursor: None,
    }))
}

pub(super) async fn one(
    State(api): State<Api>,
    who: Who,
    Path(endpoint_id): Path<String>,
) -> Result<Json<EndpointView>, Problem> {
    let endpoint = api.endpoint(&who, &endpoint_id)?;
    Ok(Json(api.view(&endpoint)))
}

pub(super) async fn change(
    State(api): State<Api>,
    who: Who,
    Correlation(correlation_id): Correlation,
    Path(endpoint_id): Path<String>,
    Private(told): Private<EndpointChange>,
) -> Result<Json<EndpointView>, Problem> {
    let endpoint = api.endpoint(&who, &endpoint_id)?;
    let defaults = api.worker.defaults();
    let change = |endpoint: &Endpoint, now| {
        requests::changed(endpoint, &told, defaults, now).map_err(refuse::asked)
    };
    // Whether it can be at all, before its name is looked up.
    let changed = change(&endpoint, api.worker.now())?;
    if changed.settings.url != endpoint.settings.url {
        resolve::check(&changed.settings.url, &defaults.nets, api.worker.doors()).await?;
    }
    let changed = api
        .worker
        .change_endpoint(&endpoint.endpoint_id, &correlation_id, change)
        .await
        .map_err(refuse::command("endpoint"))?;
    Ok(Json(api.view(&changed)))
}

/// What is open for it ends in slices, hence the job.
pub(super) async fn remove(
    State(api): State<Api>,
    who: Who,
    Correlation(correlation_id): Correlation,
    Path(endpoint_id): Path<String>,
) -> Result<(StatusCode, Json<JobView>), Problem> {
    let id = &api.endpoint(&who, &endpoint_id)?.endpoint_id;
    let removed = api.worker.remove_endpoint(id, correlation_id).await;
    let job = removed.map_err(refuse::command("endpoint"))?;
    Ok((StatusCode::ACCEPTED, Json(views::job(job))))
}

pub(super) async fn enable(
    State(api): State<Api>,
    who: Who,
    Correlation(correlation_id): Correlation,
    Path(endpoint_id): Path<String>,
) -> Result<Json<EndpointView>, Problem> {
    api.switch(&who, correlation_id, &endpoint_id, false).await
}

pub(super) async fn disable(
    State(api): State<Api>,
    who: Who,
    Correlation(correlation_id): Correlation,
    Path(endpoint_id): Path<String>,
) -> Result<Json<EndpointView>, Problem> {
    api.switch(&who, correlation_id, &endpoint_id, true).await
}

pub(super) async fn rotate(
    State(api): State<Api>,
    who: Who,
    Correlation(correlation_id): Correlation,
    Path(endpoint_id): Path<String>,
    told: Option<Private<RotateSecret>>,
) -> Result<Json<EndpointView>, Problem> {
    let id = &api.endpoint(&who, &endpoint_id)?.endpoint_id;
    let told = told.map_or_else(RotateSecret::default, |Private(told)| told);
    let minted = rand::random();
    let rotate = |endpoint: &Endpoint, now| {
        requests::rotated(endpoint, &told, minted, now).map_err(refuse::asked)
    };
    let rotated = api
        .worker
        .change_endpoint(id, &correlation_id, rotate)
        .await
        .map_err(refuse::command("endpoint"))?;
    Ok(Json(api.with_secret(&rotated)))
}

pub(super) async fn test(
    State(api): State<Api>,
    who: Who,
    Correlation(correlation_id): Correlation,
    Path(endpoint_id): Path<String>,
) -> Result<(StatusCode, Json<Accepted>), Problem> {
    let endpoint = api.endpoint(&who, &endpoint_id)?;
    if endpoint.endpoint_id.is_built_in() {
        return Err(
            Code::EndpointBuiltIn.because("it takes PagerDuty's events, which a test is not")
        );
    }
    // An earlier release let endpoints be registered beside it.
    if *endpoint.client_id == *ONCALL {
        return Err(Code::Reserved.because("the client oncall takes pages alone"));
    }
    if endpoint.disabled.is_some() {
        return Err(Code::Conflict.because("the endpoint is disabled: enable it first"));
    }
    let event = requests::test_event(&endpoint, api.worker.now());
    let only = Some(endpoint.endpoint_id.clone());
    let (status, accepted) = api.accept(event, correlation_id, only).await?;
    Ok((status, Json(accepted)))
}

pub(super) async fn recover(
    State(api): State<Api>,
    who: Who,
    Correlation(correlation_id): Correlation,
    Path(endpoint_id): Path<String>,
    Private(request): Private<RecoverRequest>,
) -> Result<(StatusCode, Json<JobView>), Problem> {
    let id = &api.endpoint(&who, &endpoint_id)?.endpoint_id;
    if request.until.is_some_and(|until| until <= request.since) {
        return Err(Code::InvalidPayload.because("until is later than since"));
    }
    let started = api.worker.recover(id, request, correlation_id).await;
    let job = started.map_err(refuse::command("endpoint"))?;
    Ok((StatusCode::ACCEPTED, Json(views::job(job))))
}

impl Api {
    /// The endpoint of this id that the caller may see.
    fn endpoint(&self, who: &Who, endpoint_id: &str) -> Result<Arc<Endpoint>, Problem> {
        EndpointId::parse(endpoint_id)
            .and_then(|id| self.worker.endpoint(&id))
            .filter(|endpoint| who.sees(&endpoint.client_id))
            .ok_or_else(|| refuse::unknown("endpoint"))
    }

    async fn switch(
        &self,
        who: &Who,
        correlation_id: CorrelationId,
        endpoint_id: &str,
        disabled: bool,
    ) -> Result<Json<EndpointView>, Problem> {
        let id = &self.endpoint(who, endpoint_id)?.endpoint_id;
        let switch = |endpoint: &Endpoint, now| Ok(requests::switched(endpoint, disabled, now));
        let switched = self
            .worker
            .change_endpoint(id, &correlation_id, switch)
            .await
            .map_err(refuse::command("endpoint"))?;
        Ok(Json(self.view(&switched)))
    }

    fn view(&self, endpoint: &Endpoint) -> EndpointView {
        let standing = self.worker.standing(endpoint.position);
        views::endpoint(endpoint, standing, self.worker.defaults())
    }

    /// This once, to whoever asked for it.
    fn with_secret(&self, endpoint: &Endpoint) -> EndpointView {
        EndpointView {
            secret: Some(endpoint.confidential.secret.clone()),
            ..self.view(endpoint)
        }
    }
}
