//! What may leave the store at the end of its time.

/// Events looked at in one transaction.
pub const SLICE: usize = 256;

/// What a slice of retention has done.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Forgotten {
    pub events: usize,
    /// Old enough, but they may not leave.
    pub kept: usize,
    /// Where the next slice begins; `None` when all that is old enough was looked at.
    pub next: Option<u64>,
}

/// What decides whether an event that is old enough may leave.
#[derive(Clone, Copy, Debug)]
pub struct Stay {
    pub open: bool,
    pub routed: bool,
    /// At least one delivery has come to its end: its reader has passed the event.
    pub settled: bool,
    /// Has the newest notice: the head must outlive a restart.
    pub holds_head: bool,
}

pub fn may_leave(stay: Stay) -> bool {
    !stay.open && !stay.holds_head && (!stay.routed || stay.settled)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn leaving_by_table() {
        // open, routed, settled, holds_head → may leave
        for (open, routed, settled, holds_head, leaves) in [
            (false, false, false, false, true),
            (false, true, true, false, true),
            (false, true, false, false, false),
            (true, false, false, false, false),
            (true, true, true, false, false),
            (false, false, false, true, false),
        ] {
            let stay = Stay {
                open,
                routed,
                settled,
                holds_head,
            };
            assert_eq!(may_leave(stay), leaves, "{stay:?}");
        }
    }
}
