//! What event-store answers.

mod answers;
mod events;
mod feed;
mod intake;
mod outcomes;
mod render;
#[cfg(test)]
mod tests;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use schema::names;
use tokio_util::sync::CancellationToken;

use crate::domain::route::Routing;
use crate::metrics::StoreMetrics;
use crate::storage::Storage;
pub(crate) use answers::Answers;

/// What handlers need.
pub(crate) struct Hub {
    pub(crate) storage: Arc<dyn Storage>,
    pub(crate) routing: Routing,
    pub(crate) metrics: StoreMetrics,
    /// Pages on their way to those who asked.
    pub(crate) answers: Answers,
    /// Cancelled at the end, so that nobody waits for the feed any more.
    pub(crate) stopping: CancellationToken,
}

pub(crate) fn routes(hub: Arc<Hub>) -> Router {
    let one_event = format!("{}/{{event_id}}", names::EVENTS);
    Router::new()
        .route(names::INTERNAL_EVENTS, post(intake::submit))
        .route(names::INTERNAL_RESOLUTIONS, post(outcomes::resolve))
        .route(names::INTERNAL_OUTCOMES, post(outcomes::report))
        .route(names::EVENTS, get(events::list))
        .route(&one_event, get(events::one))
        .route(names::FEED, get(feed::read))
        .with_state(hub)
}
