//! Pure decisions: what a delivery becomes, when it is due, what an answer means. Time and chance are handed in.

pub mod delivery;
pub mod egress;
pub mod endpoint;
pub mod headers;
pub mod intake;
pub mod now;
pub mod queues;
pub mod result;
pub mod schedule;
pub mod transition;
