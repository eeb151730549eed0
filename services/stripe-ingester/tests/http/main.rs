//! The service as Stripe and the gateway meet it, before a fake event-store.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

mod ingest;
mod payloads;
mod service;
