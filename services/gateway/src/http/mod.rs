//! The public paths: which service answers each, and within which bounds.

pub mod docs;
pub mod guard;
pub mod openapi;
pub mod proxy;
pub mod rate;
pub mod rooms;

use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum::extract::{Request, State};
use axum::response::Response;
use axum::routing::{MethodFilter, get, on};
use runtime::extract::Path;
use runtime::problem::{Code, Problem};
use schema::intake::STRIPE_BODY_MAX;
use schema::names;
use schema::webhooks::{BATCH_BYTES_MAX, PAYLOAD_MAX};

use crate::upstreams::Service;
use proxy::Proxy;
use rooms::Room;

/// The largest body of an ordinary request, in bytes.
const BODY_MAX: usize = 256 * 1024;
const SUMMARIZE_BODY_MAX: usize = 64 * 1024;
/// An event's payload, and room for what stands around it; delivery bounds the payload alone.
const EVENT_BODY_MAX: usize = PAYLOAD_MAX + 64 * 1024;

const GET: MethodFilter = MethodFilter::GET;
const POST: MethodFilter = MethodFilter::POST;
const PATCH: MethodFilter = MethodFilter::PATCH;
const DELETE: MethodFilter = MethodFilter::DELETE;

/// A path that is passed on.
pub struct Route {
    /// As axum writes it. Public paths are the services' own, so nothing is rewritten.
    pub path: &'static str,
    pub methods: MethodFilter,
    pub service: Service,
    /// Of methods that have a body, in bytes.
    pub body_max: usize,
    /// What its bodies are kept in.
    pub room: Room,
    /// From the choice of a replica to the end of its answer.
    pub timeout: Duration,
}

const fn route(path: &'static str, methods: MethodFilter, service: Service) -> Route {
    Route {
        path,
        methods,
        service,
        body_max: BODY_MAX,
        room: Room::Shared,
        timeout: Duration::from_secs(15),
    }
}

/// Everything that is passed on. `/internal/…` and `/feed` are not here, and so not reachable.
pub const ROUTES: &[Route] = &[
    Route {
        body_max: STRIPE_BODY_MAX,
        room: Room::Stripe,
        ..route(names::INGEST_STRIPE, POST, Service::StripeIngester)
    },
    Route {
        // Fetches pages of vendors, each with its own timeout.
        timeout: Duration::from_secs(60),
        ..route(names::PULL_STATUS, POST, Service::StatusPoller)
    },
    route(names::EVENTS, GET, Service::EventStore),
    route("/events/{event_id}", GET, Service::EventStore),
    route(
        names::DESTINATION_PAGERDUTY,
        GET.or(POST).or(DELETE),
        Service::MockPagerduty,
    ),
    route(
        names::DESTINATION_PAGERDUTY_FAULTS,
        POST,
        Service::MockPagerduty,
    ),
    Route {
        body_max: SUMMARIZE_BODY_MAX,
        ..route(names::SUMMARIZE, POST, Service::Summarizer)
    },
    route(names::CLIENTS, GET, Service::Delivery),
    route(names::WEBHOOK_CLIENT, DELETE, Service::Delivery),
    route(names::CLIENT_ENDPOINTS, GET.or(POST), Service::Delivery),
    route(names::ENDPOINT, GET.or(PATCH).or(DELETE), Service::Delivery),
    route(names::ENDPOINT_ENABLE, POST, Service::Delivery),
    route(names::ENDPOINT_DISABLE, POST, Service::Delivery),
    route(names::ENDPOINT_ROTATE, POST, Service::Delivery),
    route(names::ENDPOINT_TEST, POST, Service::Delivery),
    route(names::ENDPOINT_RECOVER, POST, Service::Delivery),
    Route {
        body_max: EVENT_BODY_MAX,
        ..route(names::WEBHOOK_EVENTS, GET.or(POST), Service::Delivery)
    },
    Route {
        body_max: BATCH_BYTES_MAX,
        room: Room::Batches,
        ..route(names::WEBHOOK_EVENTS_BATCH, POST, Service::Delivery)
    },
    route(names::WEBHOOK_EVENT, GET, Service::Delivery),
    route(names::DELIVERIES, GET, Service::Delivery),
    route(names::DELIVERY, GET, Service::Delivery),
    route(names::DELIVERY_RETRY, POST, Service::Delivery),
    route(names::DELIVERY_CANCEL, POST, Service::Delivery),
    route(names::JOB, GET.or(DELETE), Service::Delivery),
];

/// A service's own metrics, by its name.
pub const SERVICE_METRICS: &str = "/metrics/{service}";
const METRICS_ROUTE: Route = route(SERVICE_METRICS, GET, Service::EventStore);

pub fn router(proxy: Arc<Proxy>) -> Router {
    let mut router = Router::new().route(SERVICE_METRICS, get(service_metrics));
    for route in ROUTES {
        let pass_on = async |State(proxy): State<Arc<Proxy>>, request: Request| {
            proxy.pass_on(route, request).await
        };
        router = router.route(route.path, on(route.methods, pass_on));
    }
    router
        .with_state(proxy)
        .merge(openapi::router())
        .merge(docs::router())
}

async fn service_metrics(
    State(proxy): State<Arc<Proxy>>,
    Path(name): Path<String>,
    mut request: Request,
) -> Result<Response, Problem> {
    let service =
        Service::named(&name).ok_or_else(|| Code::NotFound.because("no service of that name"))?;
    *request.uri_mut() = http::Uri::from_static(names::METRICS);
    proxy
        .pass_on(
            &Route {
                service,
                ..METRICS_ROUTE
            },
            request,
        )
        .await
}
