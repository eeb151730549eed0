//! How fast one endpoint is sent to: how many at once, which it earns, and how many a second, which it asked for.

use std::time::Duration;

/// On their way at once to an endpoint that nothing is known about.
const CAP_FIRST: u32 = 16;
/// So many good answers earn one more.
const GOOD_FOR_ONE: u32 = 8;
/// What strains it comes in bunches; a bunch halves the cap once.
const HALVE_AT_MOST: Duration = Duration::from_millis(500);

/// How many may be on their way at once: grows by one at a time, is halved under strain, is never below one (S12).
pub(super) struct Pace {
    cap: u32,
    max: u32,
    good: u32,
    halved_at: Option<Duration>,
}

impl Pace {
    pub(super) fn new(max: u32) -> Self {
        let max = max.max(1);
        Self {
            cap: CAP_FIRST.min(max),
            max,
            good: 0,
            halved_at: None,
        }
    }

    /// A cap that was below the old maximum has to be earned; one above the new maximum is cut.
    pub(super) fn set_max(&mut self, max: u32) {
        self.max = max.max(1);
        self.cap = self.cap.min(self.max);
    }

    pub(super) fn cap(&self) -> u32 {
        self.cap
    }

    pub(super) fn good(&mut self) {
        self.good += 1;
        if self.good >= GOOD_FOR_ONE {
            self.good = 0;
            self.cap = self.cap.saturating_add(1).min(self.max);
        }
    }

    /// It was not reached in time, or said that it is too much.
    pub(super) fn strained(&mut self, mono: Duration) {
        let just_now = |at: Duration| mono.saturating_sub(at) < HALVE_AT_MOST;
        if !self.halved_at.is_some_and(just_now) {
            self.halved_at = Some(mono);
            self.good = 0;
            self.cap = (self.cap / 2).max(1);
        }
    }
}

/// A rate limit: in any second at most `per_second` and a burst of a hundredth of it, or of one. Kept as the time at which
/// the next token would be due if all came evenly, which needs no refilling.
pub(super) struct Rate {
    interval: Duration,
    /// How far ahead of an even flow a token may be taken.
    ahead: Duration,
    next: Duration,
}

impl Rate {
    pub(super) fn new(per_second: u32) -> Self {
        let per_second = per_second.max(1);
        let interval = Duration::from_nanos(1_000_000_000_u64.div_ceil(u64::from(per_second)));
        let burst = (per_second / 100).max(1);
        Self {
            interval,
            ahead: interval.saturating_mul(burst - 1),
            next: Duration::ZERO,
        }
    }

    /// When there is a token.
    pub(super) fn free_at(&self) -> Duration {
        self.next.saturating_sub(self.ahead)
    }

    pub(super) fn take(&mut self, mono: Duration) {
        self.next = self.next.max(mono).saturating_add(self.interval);
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn ms(millis: u64) -> Duration {
        Duration::from_millis(millis)
    }

    #[test]
    fn a_cap_starts_at_sixteen_or_the_maximum() {
        for (max, cap) in [(0, 1), (1, 1), (10, 10), (16, 16), (64, 16)] {
            assert_eq!(Pace::new(max).cap(), cap, "of {max}");
        }
    }

    #[test]
    fn eight_good_answers_earn_one_more_up_to_the_maximum() {
        let mut pace = Pace::new(18);
        for (good, cap) in [(7, 16), (1, 17), (8, 18), (80, 18)] {
            (0..good).for_each(|_| pace.good());
            assert_eq!(pace.cap(), cap);
        }
    }

    #[test]
    fn a_bunch_of_strain_halves_once_and_never_below_one() {
        let mut pace = Pace::new(64);
        for (at, cap) in [
            (0, 8),
            (1, 8),
            (499, 8),
            (500, 4),
            (1_000, 2),
            (1_500, 1),
            (9_000, 1),
        ] {
            pace.strained(ms(at));
            assert_eq!(pace.cap(), cap, "at {at} ms");
        }
    }

    #[test]
    fn a_new_maximum_cuts_at_once_and_is_earned_slowly() {
        let mut pace = Pace::new(64);
        pace.set_max(4);
        assert_eq!(pace.cap(), 4);
        pace.set_max(64);
        assert_eq!(pace.cap(), 4);
        (0..8).for_each(|_| pace.good());
        assert_eq!(pace.cap(), 5);
    }

    proptest! {
        #[test]
        fn in_any_second_there_are_no_more_than_the_rate_and_a_burst(
            per_second in 1_u32..2_000, waits in prop::collection::vec(0_u64..5_000_000, 1..600)
        ) {
            let mut rate = Rate::new(per_second);
            let (mut now, mut taken) = (Duration::ZERO, Vec::new());
            for wait in waits {
                now += Duration::from_nanos(wait);
                while rate.free_at() <= now {
                    rate.take(now);
                    taken.push(now);
                }
            }
            let most = (per_second + (per_second / 100).max(1)) as usize;
            for (index, start) in taken.iter().enumerate() {
                let within = taken[index..].iter().take_while(|at| **at - *start < Duration::from_secs(1));
                prop_assert!(within.count() <= most);
            }
        }

        #[test]
        fn the_next_token_is_never_further_than_an_interval(per_second in 1_u32..2_000) {
            let mut rate = Rate::new(per_second);
            let now = Duration::from_secs(5);
            while rate.free_at() <= now {
                rate.take(now);
            }
            prop_assert!(rate.free_at() - now <= Duration::from_nanos(1_000_000_000 / u64::from(per_second) + 1));
        }
    }
}
