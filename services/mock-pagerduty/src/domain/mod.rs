//! Pure decisions: what is remembered, and which request fails how.

pub mod faults;
pub mod inbox;
