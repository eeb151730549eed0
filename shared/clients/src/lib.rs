//! One typed caller for each internal API.

pub mod event_store;
pub mod intake;
