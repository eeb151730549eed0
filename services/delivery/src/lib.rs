//! Delivery: sends what was accepted, and keeps every attempt on record.
//!
//! It reads event-store's feed from a cursor of its own, makes one delivery for each endpoint that wants an event, and
//! sends by a durable schedule. The life of a delivery is one pure function, [`domain::transition::transition`]; the
//! worker asks it, writes down what it says, and only then acts.

pub mod app;
pub mod config;
pub mod domain;
pub mod error;
pub mod http;
pub mod storage;
pub mod worker;
