//! The whole poller on a free port, between a vendor that does as it is told and an event-store in a map.

#![expect(clippy::unwrap_used, reason = "in a test an unwrap is an assertion")]

mod pages;
mod pull;
mod support;
