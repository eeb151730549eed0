//! How an event stands, from how its deliveries stand.

use schema::delivery::Status;
use schema::webhooks::Counts;

pub fn count(statuses: impl IntoIterator<Item = Status>) -> Counts {
    let mut counts = Counts::default();
    for status in statuses {
        let counted = match status {
            Status::Pending => &mut counts.pending,
            Status::Failed => &mut counts.failed,
            Status::Delivered => &mut counts.delivered,
            Status::Exhausted => &mut counts.exhausted,
            Status::Skipped => &mut counts.skipped,
        };
        *counted += 1;
    }
    counts
}

/// The first that applies of failed, pending, exhausted, delivered, skipped. An event without deliveries is skipped.
pub fn roll_up(counts: Counts) -> Status {
    let order = [
        (counts.failed, Status::Failed),
        (counts.pending, Status::Pending),
        (counts.exhausted, Status::Exhausted),
        (counts.delivered, Status::Delivered),
    ];
    let first = order.into_iter().find(|(count, _)| *count > 0);
    first.map_or(Status::Skipped, |(_, status)| status)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_that_applies_is_the_events() {
        use Status::{Delivered, Exhausted, Failed, Pending, Skipped};
        for (statuses, expected) in [
            (&[][..], Skipped),
            (&[Skipped, Skipped], Skipped),
            (&[Skipped, Delivered], Delivered),
            (&[Delivered, Exhausted], Exhausted),
            (&[Exhausted, Pending, Delivered], Pending),
            (&[Pending, Failed, Delivered], Failed),
        ] {
            let found = roll_up(count(statuses.iter().copied()));
            assert_eq!(found, expected, "{statuses:?}");
        }
    }
}
