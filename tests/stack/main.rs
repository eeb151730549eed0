//! Every service as a real process on free ports, driven through the gateway.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

mod command;
mod doors;
mod failures;
mod metrics;
mod pages;
mod recovery;
mod scenarios;
mod secrets;
mod security;
mod settings;
mod vendors;
mod webhooks;
