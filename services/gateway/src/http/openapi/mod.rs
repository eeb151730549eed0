//! The public paths as an OpenAPI 3.1 document. The shapes come from the types that travel.

mod paths;
mod problems;
mod shapes;
mod webhooks;

use axum::Router;
use axum::routing::get;
use bytes::Bytes;
use http::header;
use runtime::problem::Code;
use utoipa::openapi::content::ContentBuilder;
use utoipa::openapi::path::Operation;
use utoipa::openapi::schema::Schema;
use utoipa::openapi::security::{HttpAuthScheme, HttpBuilder, SecurityScheme};
use utoipa::openapi::{OpenApi as Document, Ref, RefOr, ResponseBuilder};
use utoipa::{Modify, OpenApi};

pub const DOCUMENT: &str = "/openapi.json";

/// What every call may answer instead, beside its own.
const ANY_CALL: &str = "A problem. Any call: `invalid_request`, `uri_too_long`, `unsupported_media`, `too_large`, \
    `request_timeout`, `unauthorized`, `forbidden`, `host_not_allowed`, `origin_not_allowed`, `rate_limited` (with Retry-After), `method_not_allowed`, `internal`; calls that \
    are passed on: `unavailable` (nothing was done; with Retry-After), `upstream_failed`, `upstream_timeout`.";

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Signalpost",
        description = "Signals in from the vendors you depend on; pages to your on-call and webhooks to your customers \
            out; every step in between on record. Every answer carries `x-correlation-id`, the caller's where it \
            matches `^[A-Za-z0-9._-]{1,64}$`."
    ),
    paths(
        paths::ingest_stripe,
        paths::pull_status,
        paths::list_events,
        paths::get_event,
        paths::send_page,
        paths::list_pages,
        paths::forget_pages,
        paths::set_faults,
        paths::summarize,
        webhooks::list_clients,
        webhooks::remove_client,
        webhooks::register_endpoint,
        webhooks::list_endpoints,
        webhooks::get_endpoint,
        webhooks::change_endpoint,
        webhooks::delete_endpoint,
        webhooks::enable_endpoint,
        webhooks::disable_endpoint,
        webhooks::rotate_secret,
        webhooks::test_endpoint,
        webhooks::recover_endpoint,
        webhooks::accept_event,
        webhooks::accept_events,
        webhooks::list_webhook_events,
        webhooks::get_webhook_event,
        webhooks::list_deliveries,
        webhooks::get_delivery,
        webhooks::retry_delivery,
        webhooks::cancel_delivery,
        webhooks::get_job,
        webhooks::cancel_job,
        paths::healthz,
        paths::readyz,
        paths::metrics,
        paths::service_metrics,
        paths::document,
        paths::page,
    ),
    components(schemas(shapes::ProblemBody)),
    security(("key" = [])),
    modifiers(&Keys, &Problems)
)]
struct Public;

/// The document, ready to be sent.
fn rendered() -> Bytes {
    let document = Public::openapi().to_json();
    document.map(Bytes::from).unwrap_or_else(|fault| {
        tracing::error!(%fault, "writing the OpenAPI document");
        Bytes::new()
    })
}

pub fn router() -> Router {
    let document = rendered();
    Router::new().route(
        DOCUMENT,
        get(async move || {
            (
                [(header::CONTENT_TYPE, "application/json")],
                document.clone(),
            )
        }),
    )
}

struct Keys;

impl Modify for Keys {
    fn modify(&self, document: &mut Document) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .description(Some(
                "One of GATEWAY_API_KEYS; where none is set, none is needed.",
            ))
            .build();
        document
            .components
            .get_or_insert_default()
            .add_security_scheme("key", SecurityScheme::Http(bearer));
    }
}

/// Lists the codes of [`Code::ALL`], and gives every operation the problem as its default answer.
struct Problems;

impl Modify for Problems {
    fn modify(&self, document: &mut Document) {
        let schemas = &mut document.components.get_or_insert_default().schemas;
        if let Some(RefOr::T(Schema::Object(problem))) = schemas.get_mut("ProblemBody")
            && let Some(RefOr::T(Schema::Object(code))) = problem.properties.get_mut("code")
        {
            code.enum_values = Some(Code::ALL.iter().map(|code| code.as_str().into()).collect());
        }
        for operation in document.paths.paths.values_mut().flat_map(operations_mut) {
            let content = ContentBuilder::new()
                .schema(Some(Ref::from_schema_name("ProblemBody")))
                .build();
            let problem = ResponseBuilder::new()
                .description(ANY_CALL)
                .content("application/problem+json", content)
                .build();
            let answers = &mut operation.responses.responses;
            answers.insert("default".to_owned(), problem.into());
        }
    }
}

fn operations_mut(
    item: &mut utoipa::openapi::PathItem,
) -> impl Iterator<Item = &mut Operation> + use<'_> {
    [
        &mut item.get,
        &mut item.post,
        &mut item.put,
        &mut item.patch,
        &mut item.delete,
    ]
    .into_iter()
    .flatten()
}
