//! The harness and the tests that cross services.

pub mod load;
