//! Deterministic summaries of alert text: what failed, where, how bad.
//!
//! Advisory only. No page, route or delivery reads what this service answers.

pub mod app;
pub mod config;
pub mod domain;
pub mod http;
pub mod summarizer;
