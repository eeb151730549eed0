//! The routes.

mod faults;
mod pages;

use std::sync::Arc;

use axum::Router;
use axum::routing::{get, post};
use schema::names;

use crate::app::Desk;

pub(crate) fn routes(desk: Arc<Desk>) -> Router {
    Router::new()
        .route(
            names::DESTINATION_PAGERDUTY,
            get(pages::list).post(pages::receive).delete(pages::forget),
        )
        .route(names::DESTINATION_PAGERDUTY_FAULTS, post(faults::set))
        .with_state(desk)
}
