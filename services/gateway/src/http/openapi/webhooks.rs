//! What the document says of the webhook API: clients, endpoints, events, deliveries, jobs.
#![expect(dead_code, reason = "read by the derive, never called")]

use schema::delivery::Status;
use schema::webhooks::{
    Accepted, BatchAnswer, ClientsPage, DeliveriesPage, DeliveryView, EndpointChange, EndpointView,
    EndpointsPage, JobView, NewEndpoint, NewEvent, RecoverRequest, RotateSecret, WebhookEventView,
    WebhookEventsPage,
};

use super::problems::{
    AnotherEvent, BadBody, BadQuery, BadSetting, BuiltIn, BuiltInOrFull, BuiltInOrManySecrets,
    ClientOverloaded, Conflict, NotFound, Reserved, TooLarge, Unavailable,
};
use super::shapes::NewEvents;

/// Beside what is asked for, how much of it.
#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct Paging {
    /// 50 unless said.
    #[param(minimum = 1, maximum = 500)]
    limit: Option<u16>,
    /// `next_cursor` of the page before.
    cursor: Option<String>,
}

#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct EventFilter {
    /// A `client_id`; a key bound to a client sees its rows alone.
    client: Option<String>,
    /// An `endpoint_id`: events with a delivery for it.
    endpoint: Option<String>,
    idempotency_key: Option<String>,
    /// Of the roll-up.
    status: Option<Status>,
    /// Events with a delivery whose last answer was this; or the word of its last error.
    code: Option<String>,
    /// Accepted then or later.
    #[param(format = DateTime)]
    since: Option<String>,
    /// Accepted before.
    #[param(format = DateTime)]
    until: Option<String>,
}

#[derive(utoipa::IntoParams)]
#[into_params(parameter_in = Query)]
pub(super) struct DeliveryFilter {
    /// A `client_id`; a key bound to a client sees its rows alone.
    client: Option<String>,
    /// An `endpoint_id`.
    endpoint: Option<String>,
    idempotency_key: Option<String>,
    status: Option<Status>,
    /// The status of the last attempt's answer, or the word of its error where there was none: `503`, `timeout`.
    code: Option<String>,
    /// Accepted then or later.
    #[param(format = DateTime)]
    since: Option<String>,
    /// Accepted before.
    #[param(format = DateTime)]
    until: Option<String>,
}

#[utoipa::path(
    get, path = "/webhooks/clients", tag = "clients", summary = "List who is known",
    description = "A client exists by being named.",
    params(Paging),
    responses((status = 200, description = "A page of clients", body = ClientsPage), BadQuery)
)]
pub(super) fn list_clients() {}

#[utoipa::path(
    delete, path = "/webhooks/clients/{client_id}", tag = "clients", summary = "Remove a client and its data",
    params(("client_id" = String, Path)),
    responses(
        (status = 202, description = "A job removes them", body = JobView),
        NotFound, BuiltIn, Unavailable,
    )
)]
pub(super) fn remove_client() {}

#[utoipa::path(
    post, path = "/webhooks/clients/{client_id}/endpoints", tag = "endpoints", summary = "Register an endpoint",
    description = "A host that cannot be resolved is taken, and fails at the attempt. At most 200 a client.",
    params(("client_id" = String, Path)),
    request_body = NewEndpoint,
    responses(
        (status = 201, description = "The endpoint, this once with its `secret`", body = EndpointView),
        BadBody, Reserved, NotFound, BuiltInOrFull, BadSetting, Unavailable,
    )
)]
pub(super) fn register_endpoint() {}

#[utoipa::path(
    get, path = "/webhooks/clients/{client_id}/endpoints", tag = "endpoints", summary = "List a client's endpoints",
    params(("client_id" = String, Path)),
    responses(
        (status = 200, description = "A page of endpoints", body = EndpointsPage),
        BadQuery, NotFound,
    )
)]
pub(super) fn list_endpoints() {}

#[utoipa::path(
    get, path = "/webhooks/endpoints/{endpoint_id}", tag = "endpoints", summary = "One endpoint",
    params(("endpoint_id" = String, Path)),
    responses((status = 200, description = "The endpoint", body = EndpointView), NotFound)
)]
pub(super) fn get_endpoint() {}

#[utoipa::path(
    patch, path = "/webhooks/endpoints/{endpoint_id}", tag = "endpoints", summary = "Change an endpoint",
    description = "What is absent stays; null takes the default again. A changed URL counts from the next attempt.",
    params(("endpoint_id" = String, Path)),
    request_body = EndpointChange,
    responses(
        (status = 200, description = "The endpoint as it is now", body = EndpointView),
        BadBody, NotFound, BuiltIn, BadSetting, Unavailable,
    )
)]
pub(super) fn change_endpoint() {}

#[utoipa::path(
    delete, path = "/webhooks/endpoints/{endpoint_id}", tag = "endpoints", summary = "Delete an endpoint",
    description = "Nothing more is sent to it; what is open ends as exhausted, `endpoint_deleted`.",
    params(("endpoint_id" = String, Path)),
    responses(
        (status = 202, description = "Deleted; a job ends what was open", body = JobView),
        NotFound, BuiltIn, Unavailable,
    )
)]
pub(super) fn delete_endpoint() {}

#[utoipa::path(
    post, path = "/webhooks/endpoints/{endpoint_id}/enable", tag = "endpoints", summary = "Enable an endpoint",
    description = "What was held is sent. No body is needed.",
    params(("endpoint_id" = String, Path)),
    responses(
        (status = 200, description = "The endpoint as it is now", body = EndpointView),
        NotFound, BuiltIn, Unavailable,
    )
)]
pub(super) fn enable_endpoint() {}

#[utoipa::path(
    post, path = "/webhooks/endpoints/{endpoint_id}/disable", tag = "endpoints", summary = "Disable an endpoint",
    description = "What is due is held, and its `max_age_s` runs on; what is new is skipped. No body is needed.",
    params(("endpoint_id" = String, Path)),
    responses(
        (status = 200, description = "The endpoint as it is now", body = EndpointView),
        NotFound, BuiltIn, Unavailable,
    )
)]
pub(super) fn disable_endpoint() {}

#[utoipa::path(
    post, path = "/webhooks/endpoints/{endpoint_id}/secret/rotate", tag = "endpoints", summary = "Rotate the secret",
    description = "The one that is replaced signs too until its overlap ends, and so do at most four before it. Without a \
        body, one is made and the overlap is 24 h; an overlap of 0 ends all older ones.",
    params(("endpoint_id" = String, Path)),
    request_body = Option<RotateSecret>,
    responses(
        (status = 200, description = "The endpoint, this once with its new `secret`", body = EndpointView),
        BadBody, NotFound, BuiltInOrManySecrets, BadSetting, Unavailable,
    )
)]
pub(super) fn rotate_secret() {}

#[utoipa::path(
    post, path = "/webhooks/endpoints/{endpoint_id}/test", tag = "endpoints", summary = "Send a test event",
    description = "To this endpoint alone, whatever its `event_types`. No body is needed.",
    params(("endpoint_id" = String, Path)),
    responses(
        (status = 202, description = "On disk, and about to be sent", body = Accepted),
        NotFound, Conflict, ClientOverloaded, Unavailable,
    )
)]
pub(super) fn test_endpoint() {}

#[utoipa::path(
    post, path = "/webhooks/endpoints/{endpoint_id}/recover", tag = "endpoints", summary = "Send again what was missed",
    params(("endpoint_id" = String, Path)),
    request_body = RecoverRequest,
    responses(
        (status = 202, description = "A stored job does it; ask for it by its `job_id`", body = JobView),
        BadBody, NotFound, Unavailable,
    )
)]
pub(super) fn recover_endpoint() {}

#[utoipa::path(
    post, path = "/webhooks/events", tag = "webhook events", summary = "Accept an event",
    description = "The answer comes once the event, and a delivery for each endpoint that matches, are on disk; it waits \
        for no destination. A payload is at most 256 KiB.",
    params(("Idempotency-Key" = Option<String>, Header, description = "Or `idempotency_key` of the body; the same where both are told")),
    request_body = NewEvent,
    responses(
        (status = 202, description = "Accepted", body = Accepted),
        (status = 200, description = "A duplicate: the first event as it stands now", body = Accepted),
        BadBody, Reserved, NotFound, AnotherEvent, TooLarge, ClientOverloaded, Unavailable,
    )
)]
pub(super) fn accept_event() {}

#[utoipa::path(
    post, path = "/webhooks/events/batch", tag = "webhook events", summary = "Accept up to 1,000 events",
    description = "Each is as one of `POST /webhooks/events`, and a bad one fails alone. At most 16 MiB.",
    request_body = NewEvents,
    responses(
        (status = 200, description = "A result for each, in order", body = BatchAnswer),
        BadBody, TooLarge, ClientOverloaded, Unavailable,
    )
)]
pub(super) fn accept_events() {}

#[utoipa::path(
    get, path = "/webhooks/events", tag = "webhook events", summary = "List events, newest first",
    params(EventFilter, Paging),
    responses((status = 200, description = "A page of events", body = WebhookEventsPage), BadQuery)
)]
pub(super) fn list_webhook_events() {}

#[utoipa::path(
    get, path = "/webhooks/events/{event_id}", tag = "webhook events", summary = "One event, with its deliveries",
    params(("event_id" = String, Path)),
    responses((status = 200, description = "The event", body = WebhookEventView), NotFound)
)]
pub(super) fn get_webhook_event() {}

#[utoipa::path(
    get, path = "/webhooks/deliveries", tag = "deliveries", summary = "List deliveries, newest first",
    params(DeliveryFilter, Paging),
    responses((status = 200, description = "A page of deliveries", body = DeliveriesPage), BadQuery)
)]
pub(super) fn list_deliveries() {}

#[utoipa::path(
    get, path = "/webhooks/deliveries/{delivery_id}", tag = "deliveries", summary = "One delivery, with every attempt",
    params(("delivery_id" = String, Path)),
    responses((status = 200, description = "The delivery", body = DeliveryView), NotFound)
)]
pub(super) fn get_delivery() {}

#[utoipa::path(
    post, path = "/webhooks/deliveries/{delivery_id}/retry", tag = "deliveries", summary = "Retry a delivery",
    description = "In any state: a new generation with a full schedule; ids and the count of attempts go on. No body is \
        needed.",
    params(("delivery_id" = String, Path)),
    responses(
        (status = 202, description = "The delivery as it is now", body = DeliveryView),
        NotFound, Conflict, ClientOverloaded, Unavailable,
    )
)]
pub(super) fn retry_delivery() {}

#[utoipa::path(
    post, path = "/webhooks/deliveries/{delivery_id}/cancel", tag = "deliveries", summary = "Cancel a delivery",
    description = "It ends as exhausted, `canceled`. No body is needed.",
    params(("delivery_id" = String, Path)),
    responses(
        (status = 202, description = "The delivery as it is now", body = DeliveryView),
        NotFound, Conflict, Unavailable,
    )
)]
pub(super) fn cancel_delivery() {}

#[utoipa::path(
    get, path = "/webhooks/jobs/{job_id}", tag = "jobs", summary = "How far a job is",
    params(("job_id" = String, Path)),
    responses((status = 200, description = "The job", body = JobView), NotFound)
)]
pub(super) fn get_job() {}

#[utoipa::path(
    delete, path = "/webhooks/jobs/{job_id}", tag = "jobs", summary = "Cancel a job",
    description = "What it has done stays done.",
    params(("job_id" = String, Path)),
    responses(
        (status = 200, description = "The job as it is now", body = JobView),
        NotFound, Conflict, Unavailable,
    )
)]
pub(super) fn cancel_job() {}
