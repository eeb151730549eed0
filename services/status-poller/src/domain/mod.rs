//! From a page's bytes to what must be stored and closed: pure decisions.

pub mod diff;
mod normalize;
pub mod page;
