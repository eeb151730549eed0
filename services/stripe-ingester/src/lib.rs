//! Stripe ingester: verifies Stripe's webhooks over the bytes that came, normalizes them and hands them to event-store.
//!
//! Stripe is told 200 only after event-store has the event on disk; anything else makes Stripe send it again.

pub mod app;
pub mod config;
pub mod domain;
mod http;
mod metrics;
