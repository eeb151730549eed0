//! What becomes of a notice: sent, recorded without sending, or passed over.

use jiff::{SignedDuration, Timestamp};
use schema::feed::{Action, FeedPage, Notice};

use super::transition::SkipReason;

/// An event stored longer ago than this is recorded, not sent: nobody is to be woken by yesterday's news.
pub const DELIVERY_MAX_AGE: SignedDuration = SignedDuration::from_hours(24);

/// What one endpoint does with a notice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Decision {
    Send,
    Skip(SkipReason),
    /// The notice asks nothing of this endpoint.
    Pass,
}

pub fn decide(notice: &Notice, endpoint_id: &str, now: Timestamp) -> Decision {
    if notice.action != Action::Page {
        Decision::Pass
    } else if notice.delivered_to.iter().any(|name| name == endpoint_id) {
        Decision::Skip(SkipReason::AlreadyDelivered)
    } else if now.duration_since(notice.stored_at) > DELIVERY_MAX_AGE {
        Decision::Skip(SkipReason::TooOld)
    } else {
        Decision::Send
    }
}

/// Positions that are not read yet after a page. Without more the head is reached, whatever was passed over on the way.
pub fn behind(page: &FeedPage) -> u64 {
    match page.notices.last() {
        Some(last) if page.more => page.head.saturating_sub(last.position),
        _ => 0,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn notice(position: u64, action: Action, delivered_to: Vec<String>) -> Notice {
        Notice {
            position,
            event_id: schema::EventId::parse("evt_1").unwrap(),
            revision: 0,
            action,
            stored_at: Timestamp::UNIX_EPOCH,
            correlation_id: schema::CorrelationId::parse("c").unwrap(),
            delivered_to,
            event: serde_json::value::RawValue::NULL.to_owned(),
        }
    }

    #[test]
    fn a_page_is_behind_only_where_the_store_says_that_there_is_more() {
        for (positions, more, expected) in [
            (vec![], false, 0),
            (vec![3, 7], false, 0),
            // A page that ended by its bytes is as little at the head as one that is full.
            (vec![3, 7], true, 93),
        ] {
            let notices = positions.iter().map(|at| notice(*at, Action::Page, vec![]));
            let page = FeedPage {
                notices: notices.collect(),
                next: "run.7".to_owned(),
                head: 100,
                more,
            };
            assert_eq!(behind(&page), expected, "{page:?}");
        }
    }

    #[test]
    fn only_a_fresh_page_that_nobody_has_is_sent() {
        let stored = Timestamp::UNIX_EPOCH;
        let day = stored + DELIVERY_MAX_AGE;
        let past = day + SignedDuration::from_secs(1);
        let other = vec!["email".to_owned()];
        let ours = vec!["email".to_owned(), "pagerduty".to_owned()];
        for (action, delivered_to, now, expected) in [
            (Action::Page, vec![], stored, Decision::Send),
            (Action::Page, vec![], day, Decision::Send),
            (Action::Page, other, day, Decision::Send),
            // A clock that was set back makes nothing old.
            (
                Action::Page,
                vec![],
                stored - SignedDuration::from_hours(1),
                Decision::Send,
            ),
            (
                Action::Page,
                vec![],
                past,
                Decision::Skip(SkipReason::TooOld),
            ),
            (
                Action::Page,
                ours,
                past,
                Decision::Skip(SkipReason::AlreadyDelivered),
            ),
            (Action::Store, vec![], stored, Decision::Pass),
            (Action::Resolve, vec![], stored, Decision::Pass),
        ] {
            let notice = notice(1, action, delivered_to);
            assert_eq!(decide(&notice, "pagerduty", now), expected, "{notice:?}");
        }
    }
}
