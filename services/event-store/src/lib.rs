//! The only writer of normalized events, and the query API over them.
//!
//! An event, its routing decision and its notice are one commit; the notices, in commit order, are the feed that
//! delivery reads. The service calls nobody.

pub mod app;
pub mod config;
pub mod domain;
pub mod error;
mod http;
pub mod metrics;
pub mod storage;
pub mod worker;
