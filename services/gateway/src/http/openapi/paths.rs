//! What the document says of each path.
#![expect(dead_code, reason = "read by the derive, never called")]

use schema::event::{EventView, EventsPage};
use schema::status::PullReport;
use schema::summary::{SummarizeRequest, SummarizeResponse};
use schema::{Event, Kind, Severity};

use super::shapes::{Alive, Faults, Pages, ProblemBody, Readiness, Received};

#[utoipa::path(
    post, path = "/ingest/stripe", tag = "ingest", summary = "Take a webhook of Stripe",
    description = "The signature is over the exact bytes of the body. The answer comes once the event is on disk.",
    params(("Stripe-Signature" = String, Header, description = "Stripe's `t=…,v1=…`")),
    request_body(content = serde_json::Value, description = "Stripe's event, as it was signed"),
    responses(
        (status = 200, description = "On disk, or seen before", body = Received),
        (status = 400, description = "`invalid_signature`, `invalid_payload`",
            body = ProblemBody, content_type = "application/problem+json"),
        (status = 503, description = "`unavailable`: the event cannot be stored now",
            body = ProblemBody, content_type = "application/problem+json"),
    ),
    security(())
)]
pub(super) fn ingest_stripe() {}

#[utoipa::path(
    post, path = "/ingest/pull-status", tag = "ingest", summary = "Pull the status pages now",
    responses((status = 200, description = "What was found and stored; a page that failed is in `errors`",
        body = PullReport))
)]
pub(super) fn pull_status() {}

#[utoipa::path(
    get, path = "/events", tag = "events", summary = "List events, newest first",
    params(
        ("limit" = Option<u16>, Query, minimum = 1, maximum = 500, description = "50 unless said"),
        ("source" = Option<String>, Query, description = "`stripe` or `{vendor}_status`"),
        ("kind" = Option<Kind>, Query),
        ("severity" = Option<Severity>, Query),
        ("open" = Option<bool>, Query, description = "Not resolved, and not a payment"),
        ("since" = Option<String>, Query, format = DateTime, description = "Stored then or later"),
        ("until" = Option<String>, Query, format = DateTime, description = "Stored before"),
        ("q" = Option<String>, Query, description = "Substring, in any case"),
        ("cursor" = Option<String>, Query, description = "`next_cursor` of the page before"),
    ),
    responses(
        (status = 200, description = "A page of events", body = EventsPage),
        (status = 400, description = "`invalid_query`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) fn list_events() {}

#[utoipa::path(
    get, path = "/events/{event_id}", tag = "events", summary = "One event, with its deliveries",
    params(("event_id" = String, Path)),
    responses(
        (status = 200, description = "The event", body = EventView),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) fn get_event() {}

#[utoipa::path(
    post, path = "/destinations/pagerduty", tag = "the fake PagerDuty", summary = "Send a page",
    request_body = Event,
    responses(
        (status = 202, description = "Received"),
        (status = 400, description = "`invalid_payload`",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) fn send_page() {}

#[utoipa::path(
    get, path = "/destinations/pagerduty", tag = "the fake PagerDuty", summary = "List what was received, newest first",
    params(("limit" = Option<u16>, Query, minimum = 1, maximum = 10_000, description = "50 unless said")),
    responses((status = 200, description = "Pages", body = Pages))
)]
pub(super) fn list_pages() {}

#[utoipa::path(
    delete, path = "/destinations/pagerduty", tag = "the fake PagerDuty", summary = "Forget what was received",
    responses((status = 204, description = "Forgotten"))
)]
pub(super) fn forget_pages() {}

#[utoipa::path(
    post, path = "/destinations/pagerduty/faults", tag = "the fake PagerDuty", summary = "Let it fail",
    request_body = Faults,
    responses(
        (status = 200, description = "The faults as set", body = Faults),
        (status = 400, description = "`invalid_payload`",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) fn set_faults() {}

#[utoipa::path(
    post, path = "/ai/summarize", tag = "events", summary = "Summarize a text; no page depends on it",
    request_body = SummarizeRequest,
    responses(
        (status = 200, description = "The summary", body = SummarizeResponse),
        (status = 400, description = "`invalid_payload`",
            body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) fn summarize() {}

#[utoipa::path(
    get, path = "/healthz", tag = "operation", summary = "Whether the gateway answers",
    responses((status = 200, description = "It does", body = Alive)),
    security(())
)]
pub(super) fn healthz() {}

#[utoipa::path(
    get, path = "/readyz", tag = "operation", summary = "What each service is doing",
    responses(
        (status = 200, description = "All that are needed are up", body = Readiness),
        (status = 503, description = "One that is needed is down", body = Readiness),
    ),
    security((), ("key" = []))
)]
pub(super) fn readyz() {}

#[utoipa::path(
    get, path = "/metrics", tag = "operation", summary = "The gateway's metrics",
    responses((status = 200, description = "Prometheus text", body = String, content_type = "text/plain"))
)]
pub(super) fn metrics() {}

#[utoipa::path(
    get, path = "/metrics/{service}", tag = "operation", summary = "Another service's metrics, of one replica",
    params(("service" = String, Path, description = "Such as `event-store`")),
    responses(
        (status = 200, description = "Prometheus text", body = String, content_type = "text/plain"),
        (status = 404, description = "`not_found`", body = ProblemBody, content_type = "application/problem+json"),
    )
)]
pub(super) fn service_metrics() {}

#[utoipa::path(
    get, path = "/openapi.json", tag = "operation", summary = "This document",
    responses((status = 200, description = "OpenAPI 3.1", body = serde_json::Value)),
    security(())
)]
pub(super) fn document() {}

#[utoipa::path(
    get, path = "/docs", tag = "operation", summary = "This document, to be read and tried",
    responses((status = 308, description = "To the page")),
    security(())
)]
pub(super) fn page() {}
