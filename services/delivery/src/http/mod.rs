//! Delivery's HTTP API: what became of deliveries.

use std::sync::Arc;

use axum::Router;
use axum::routing::get;
use schema::names;

use crate::storage::Storage;

mod deliveries;

pub fn routes(storage: Arc<dyn Storage>) -> Router {
    Router::new()
        .route(names::DELIVERIES, get(deliveries::list))
        .route(names::DELIVERY, get(deliveries::one))
        .with_state(storage)
}

#[cfg(test)]
mod tests;
