//! The routes.

mod stripe;

use std::sync::Arc;

use axum::Router;
use axum::routing::post;
use clients::intake::Intake;
use runtime::clock::Clock;
use runtime::config::Secrets;
use schema::names;

use crate::metrics::Metrics;

/// What the handlers need.
pub(crate) struct Ingester {
    pub(crate) secrets: Secrets,
    pub(crate) clock: Clock,
    pub(crate) intake: Intake,
    pub(crate) metrics: Metrics,
}

pub(crate) fn routes(ingester: Arc<Ingester>) -> Router {
    Router::new()
        .route(names::INGEST_STRIPE, post(stripe::ingest))
        .with_state(ingester)
}
