//! The routes.

mod pull;

use axum::Router;
use axum::routing::post;
use schema::names;

use crate::pull::Sources;

pub(crate) fn routes(sources: Sources) -> Router {
    Router::new()
        .route(names::PULL_STATUS, post(pull::pull))
        .with_state(sources)
}
