//! Pure decisions: what a delivery becomes, when it is due, what an answer means, who is next, where may be sent to. Time
//! and chance are handed in.

pub mod admission;
pub mod delivery;
pub mod egress;
pub mod endpoint;
pub mod headers;
pub mod ids;
pub mod now;
pub mod pages;
pub mod queues;
pub mod requests;
pub mod rollup;
pub mod schedule;
pub mod transition;
pub mod verdict;
