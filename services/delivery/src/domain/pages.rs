//! Pages that nobody has got (R11): how many, since when, and why.

use std::fmt;

use jiff::{SignedDuration, Timestamp};

use super::transition::{ExhaustReason, SkipReason, State};

/// A page that waits longer for its first attempt is late.
pub const LATE: SignedDuration = SignedDuration::from_secs(10);

/// Pages in one state, none of which was delivered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Group {
    pub state: State,
    pub count: u64,
    /// Of them, those that were taken in longer ago than [`LATE`].
    pub late: u64,
    /// When the first of them was taken in.
    pub oldest: Timestamp,
}

/// What keeps a page from whoever is on call.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Why {
    /// PagerDuty is disabled by hand, or was when the page came.
    Held,
    /// An attempt of it failed; or all have.
    Refused,
    /// Somebody canceled it.
    Canceled,
    /// It has waited too long for its first attempt, or came a day too late.
    Late,
}

impl Why {
    pub const ALL: [Self; 4] = [Self::Held, Self::Refused, Self::Canceled, Self::Late];

    pub fn as_str(self) -> &'static str {
        match self {
            Self::Held => "held",
            Self::Refused => "refused",
            Self::Canceled => "canceled",
            Self::Late => "late",
        }
    }
}

/// What is undelivered.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Undelivered {
    pub count: u64,
    /// When the first of them was taken in.
    pub oldest: Option<Timestamp>,
    /// Of [`Why::ALL`], those that apply to any, in that order.
    pub why: Vec<Why>,
}

impl Undelivered {
    /// `held`: PagerDuty is disabled. A page on its first way, or just before it, counts only then.
    pub fn of(groups: &[Group], held: bool) -> Self {
        let mut all = Self::default();
        for group in groups {
            let Some((why, count)) = judge(group, held) else {
                continue;
            };
            all.count += count;
            all.oldest = Some(all.oldest.map_or(group.oldest, |at| at.min(group.oldest)));
            all.why.push(why);
        }
        all.why.sort_unstable();
        all.why.dedup();
        all
    }

    /// The reasons in words, with a comma between; `None` where nothing is undelivered.
    pub fn reasons(&self) -> Option<String> {
        (self.count > 0).then(|| self.to_string())
    }
}

impl fmt::Display for Undelivered {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (index, why) in self.why.iter().enumerate() {
            let between = if index == 0 { "" } else { ", " };
            write!(f, "{between}{}", why.as_str())?;
        }
        Ok(())
    }
}

fn judge(group: &Group, held: bool) -> Option<(Why, u64)> {
    let (why, count) = match group.state {
        State::Delivered | State::Skipped(SkipReason::AlreadyDelivered) => return None,
        State::Pending | State::Failed if held => (Why::Held, group.count),
        State::Pending => (Why::Late, group.late),
        State::Failed => (Why::Refused, group.count),
        State::Exhausted(ExhaustReason::Canceled) => (Why::Canceled, group.count),
        State::Exhausted(_) => (Why::Refused, group.count),
        State::Skipped(SkipReason::Disabled) => (Why::Held, group.count),
        State::Skipped(SkipReason::TooOld) => (Why::Late, group.count),
    };
    (count > 0).then_some((why, count))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(state: State, count: u64, late: u64, oldest: i64) -> Group {
        Group {
            state,
            count,
            late,
            oldest: Timestamp::from_second(oldest).unwrap(),
        }
    }

    #[test]
    fn each_way_not_to_arrive_has_its_word_and_the_first_way_of_a_page_none() {
        let pending = group(State::Pending, 3, 0, 1);
        let waiting = group(State::Pending, 3, 2, 1);
        let of = |state| group(state, 3, 3, 1);
        for (group, held, why, count) in [
            (pending, false, None, 0),
            (pending, true, Some("held"), 3),
            (waiting, false, Some("late"), 2),
            (waiting, true, Some("held"), 3),
            (of(State::Failed), false, Some("refused"), 3),
            (of(State::Failed), true, Some("held"), 3),
            (
                of(State::Exhausted(ExhaustReason::MaxAttempts)),
                true,
                Some("refused"),
                3,
            ),
            (
                of(State::Exhausted(ExhaustReason::Gone)),
                false,
                Some("refused"),
                3,
            ),
            (
                of(State::Exhausted(ExhaustReason::Canceled)),
                true,
                Some("canceled"),
                3,
            ),
            (
                of(State::Skipped(SkipReason::TooOld)),
                false,
                Some("late"),
                3,
            ),
            (
                of(State::Skipped(SkipReason::Disabled)),
                false,
                Some("held"),
                3,
            ),
            (
                of(State::Skipped(SkipReason::AlreadyDelivered)),
                true,
                None,
                0,
            ),
            (of(State::Delivered), true, None, 0),
        ] {
            let found = Undelivered::of(&[group], held);
            assert_eq!(found.reasons().as_deref(), why, "{group:?} {held}");
            assert_eq!(found.count, count, "{group:?} {held}");
            assert_eq!(found.oldest.is_some(), why.is_some(), "{group:?} {held}");
        }
    }

    #[test]
    fn all_are_counted_from_the_oldest_with_every_reason_once() {
        let groups = [
            group(State::Skipped(SkipReason::TooOld), 1, 1, 30),
            group(State::Exhausted(ExhaustReason::MaxAttempts), 2, 2, 20),
            group(State::Failed, 4, 0, 40),
            // On its first way: neither counted nor the oldest.
            group(State::Pending, 8, 0, 10),
        ];
        let found = Undelivered::of(&groups, false);
        assert_eq!(found.count, 7);
        assert_eq!(found.oldest, Some(Timestamp::from_second(20).unwrap()));
        assert_eq!(found.to_string(), "refused, late");
    }
}
