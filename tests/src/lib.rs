//! The harness of the tests that cross services: a hub of real processes, containers under test, scenario files.

pub mod api;
pub mod binaries;
pub mod containers;
pub mod eventually;
pub mod hub;
pub mod load;
pub mod matching;
pub mod repository;
pub mod scenario;
pub mod stage;
