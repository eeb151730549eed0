//! Delivery's HTTP API: clients, endpoints, events, deliveries, jobs.

use std::sync::Arc;

use axum::Router;
use axum::routing::{delete, get, post};
use schema::names;

use crate::storage::Storage;
use crate::worker::Worker;

mod clients;
mod deliveries;
mod endpoints;
mod events;
mod jobs;
mod paging;
mod private;
mod refuse;
mod resolve;
#[cfg(test)]
mod tests;
mod views;
mod who;

/// What handlers work with.
#[derive(Clone)]
struct Api {
    worker: Arc<Worker>,
    storage: Arc<dyn Storage>,
}

pub fn routes(worker: Arc<Worker>, storage: Arc<dyn Storage>) -> Router {
    Router::new()
        .route(names::CLIENTS, get(clients::list))
        .route(names::WEBHOOK_CLIENT, delete(clients::remove))
        .route(
            names::CLIENT_ENDPOINTS,
            get(endpoints::list).post(endpoints::register),
        )
        .route(
            names::ENDPOINT,
            get(endpoints::one)
                .patch(endpoints::change)
                .delete(endpoints::remove),
        )
        .route(names::ENDPOINT_ENABLE, post(endpoints::enable))
        .route(names::ENDPOINT_DISABLE, post(endpoints::disable))
        .route(names::ENDPOINT_ROTATE, post(endpoints::rotate))
        .route(names::ENDPOINT_TEST, post(endpoints::test))
        .route(names::ENDPOINT_RECOVER, post(endpoints::recover))
        .route(names::WEBHOOK_EVENTS, get(events::list).post(events::post))
        .route(names::WEBHOOK_EVENTS_BATCH, post(events::batch::post))
        .route(names::WEBHOOK_EVENT, get(events::one))
        .route(names::DELIVERIES, get(deliveries::list))
        .route(names::DELIVERY, get(deliveries::one))
        .route(names::DELIVERY_RETRY, post(deliveries::retry))
        .route(names::DELIVERY_CANCEL, post(deliveries::cancel))
        .route(names::JOB, get(jobs::one).delete(jobs::cancel))
        .with_state(Api { worker, storage })
}
