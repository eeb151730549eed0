//! What time it is, by both clocks.

use std::time::Duration;

use jiff::Timestamp;

/// Both clocks (R7): wall time for due times, monotonic time since the process began for intervals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Now {
    pub wall: Timestamp,
    pub mono: Duration,
}
