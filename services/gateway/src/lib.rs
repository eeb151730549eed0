//! The gateway: the only public port. It refuses what is not well formed, knows its callers, bounds their rate, and
//! passes each request on to a living replica of the service behind its path.

pub mod app;
pub mod config;
pub mod domain;
pub mod http;
pub mod upstreams;
pub mod worker;
