//! The routes.

mod pull;

use axum::Router;
use axum::routing::post;
use schema::names;
use tokio::sync::mpsc;

use crate::worker::Pull;

pub(crate) fn routes(pulls: mpsc::Sender<Pull>) -> Router {
    Router::new()
        .route(names::PULL_STATUS, post(pull::pull))
        .with_state(pulls)
}
