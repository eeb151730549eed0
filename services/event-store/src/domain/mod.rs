//! Pure decisions: no waiting, no clock, no I/O. Both backends decide by these.

pub mod outcome;
pub mod page;
pub mod query;
pub mod record;
pub mod retention;
pub mod route;
pub mod submission;
pub mod token;
