//! The harness of the tests that cross services: a hub of real processes, containers under test, receivers of webhooks,
//! scenario files.

pub mod alerts;
pub mod api;
pub mod binaries;
pub mod client;
pub mod containers;
pub mod eventually;
pub mod hub;
pub mod load;
pub mod matching;
pub mod measure;
pub mod receiver;
pub mod repository;
pub mod scenario;
pub mod seeds;
pub mod sink;
pub mod stage;
