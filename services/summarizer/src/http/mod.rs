//! The routes.

mod summarize;

use std::sync::Arc;

use axum::Router;
use axum::routing::post;
use schema::names;

use crate::summarizer::Summarizer;

pub(crate) fn routes(summarizer: Arc<dyn Summarizer>) -> Router {
    Router::new()
        .route(names::SUMMARIZE, post(summarize::summarize))
        .with_state(summarizer)
}
