//! Polls Statuspage pages and turns them into events: on a schedule, and when somebody asks.
//!
//! A page that cannot be read says nothing, neither an incident nor an all-clear. What a page says is compared with the
//! source's open events in event-store, so the poller itself keeps nothing and may be restarted at any time.

pub mod app;
pub mod config;
pub mod domain;
pub mod error;
mod freshness;
pub mod http;
mod metrics;
mod poll;
mod pull;
mod schedule;
pub mod worker;
