//! A faithful fake of PagerDuty, for demos and tests: it validates strictly, remembers the newest pages in memory, and
//! fails in the ways a destination fails, on request.

pub mod app;
pub mod config;
pub mod domain;
pub mod http;
