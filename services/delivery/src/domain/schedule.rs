//! When the next attempt is due.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use runtime::retry_after;
pub use runtime::retry_after::RetryAfter;
use schema::webhooks::RetryPolicy;

/// Eight attempts over about 27 hours: a short outage is bridged within minutes, a long one over a night and a day, so
/// that somebody can mend the destination during working hours.
pub const DEFAULT_WAITS_S: [u64; 8] = [0, 5, 300, 1_800, 7_200, 18_000, 36_000, 36_000];

/// A wait is lengthened by at most this part of it, so that those that failed together do not return together.
const JITTER: f64 = 0.2;

/// The longest wait, and the longest age, in seconds: 30 days.
const LONGEST_S: u64 = 30 * 24 * 3600;

const ATTEMPTS_MAX: usize = 64;

/// Pages are tried soon and often, and for a day: somebody is to be woken, and PagerDuty bears a request each half minute.
/// The last wait comes so often.
pub const PAGES_WAITS_S: ([u64; 6], u32) = ([0, 2, 5, 10, 20, 30], 2_878);

/// As [`retry_after::LONGEST`], of PagerDuty for a page.
const PAGES_RETRY_AFTER_MAX: SignedDuration = SignedDuration::from_secs(15);

/// The most that a last wait can come: a month of half minutes.
const REPEATS_MAX: u32 = 86_400;

/// The wait before each attempt; there are as many attempts as waits.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Policy {
    waits: Vec<Duration>,
    /// How often the last wait comes, once more than this.
    again: u32,
    /// No attempt is made for a delivery that is older.
    pub max_age: Option<SignedDuration>,
    /// Strict order: the age counts from the first attempt, since before it a delivery waits for others.
    pub ages_from_first_attempt: bool,
    /// Of a page: neither a 410 nor interruptions end it, and a Retry-After moves it by seconds.
    pub ends_by_schedule_only: bool,
}

impl Policy {
    /// `None` unless there are one to 64 waits of at most 30 days.
    pub fn of_seconds(waits: &[u64]) -> Option<Self> {
        let fits = |wait: &u64| *wait <= LONGEST_S;
        ((1..=ATTEMPTS_MAX).contains(&waits.len()) && waits.iter().all(fits)).then(|| Self {
            waits: waits.iter().copied().map(Duration::from_secs).collect(),
            ..Self::default()
        })
    }

    /// As [`of_seconds`](Self::of_seconds), of pages; the last wait comes `times`, 1 to 86,400. `None` also where it is 0 and
    /// comes more than 64 times.
    pub fn of_pages(waits: &[u64], times: u32) -> Option<Self> {
        let of_seconds = Self::of_seconds(waits)?;
        let hurried = waits.last() == Some(&0) && times as usize > ATTEMPTS_MAX;
        ((1..=REPEATS_MAX).contains(&times) && !hurried).then(|| Self {
            again: times - 1,
            ends_by_schedule_only: true,
            ..of_seconds
        })
    }

    /// As a caller asked for it; what is not said is the default's. The error says what to do.
    pub fn asked(asked: &RetryPolicy, default: &Self) -> Result<Self, &'static str> {
        let waits = match asked {
            RetryPolicy {
                schedule_s: Some(waits),
                base_s: None,
                factor: None,
                max_attempts: None,
                ..
            } => Self::of_seconds(waits)
                .ok_or("retry.schedule_s is 1 to 64 waits of at most 30 days"),
            RetryPolicy {
                schedule_s: None,
                base_s: Some(base_s),
                factor: Some(factor),
                max_attempts: Some(max_attempts),
                ..
            } => Self::geometric(*base_s, *factor, *max_attempts)
                .ok_or("retry.base_s is at most 30 days, factor 1 to 100, max_attempts 1 to 64"),
            RetryPolicy {
                schedule_s: None,
                base_s: None,
                factor: None,
                max_attempts: None,
                ..
            } => Ok(default.clone()),
            _ => Err("retry takes schedule_s, or base_s, factor and max_attempts together"),
        }?;
        let max_age = match asked.max_age_s {
            Some(age) if (1..=LONGEST_S).contains(&age) => i64::try_from(age).ok(),
            Some(_) => return Err("retry.max_age_s is 1 second to 30 days"),
            None => None,
        };
        Ok(Self {
            max_age: max_age.map(SignedDuration::from_secs),
            ..waits
        })
    }

    /// The first attempt at once, the second after `base_s`, each further wait `factor` times the one before, up to 30 days.
    fn geometric(base_s: u64, factor: f64, max_attempts: u32) -> Option<Self> {
        if base_s > LONGEST_S || !(1.0..=100.0).contains(&factor) {
            return None;
        }
        let longest = Duration::from_secs(LONGEST_S);
        let mut wait = Duration::from_secs(base_s);
        let mut waits = Vec::new();
        for attempt in 0..usize::try_from(max_attempts).ok()?.min(ATTEMPTS_MAX + 1) {
            if attempt == 0 {
                waits.push(0);
                continue;
            }
            waits.push(wait.as_secs());
            wait =
                Duration::from_secs_f64((wait.as_secs_f64() * factor).min(longest.as_secs_f64()));
        }
        Self::of_seconds(&waits)
    }

    /// The waits as a caller reads them, in seconds.
    /// Where the last comes more than once, there are more attempts than waits.
    pub fn view(&self) -> RetryPolicy {
        RetryPolicy {
            schedule_s: Some(self.waits.iter().map(Duration::as_secs).collect()),
            max_attempts: (self.again > 0).then(|| self.max_attempts()),
            max_age_s: self
                .max_age
                .and_then(|age| u64::try_from(age.as_secs()).ok()),
            ..RetryPolicy::default()
        }
    }

    /// Whether nothing may be sent at a time any more, for what counts its age from another.
    pub fn is_expired(&self, age_from: Timestamp, at: Timestamp) -> bool {
        self.max_age
            .is_some_and(|max_age| at.duration_since(age_from) > max_age)
    }

    pub fn max_attempts(&self) -> u32 {
        let waits = u32::try_from(self.waits.len()).unwrap_or(u32::MAX);
        waits.saturating_add(self.again)
    }

    /// When the attempt after `step` charged ones is due, or `None` when there is none. Never before its wait has passed:
    /// `jitter`, in 0..=1, only makes it later, and so does a Retry-After.
    pub fn due(
        &self,
        step: u32,
        now: Timestamp,
        jitter: f64,
        retry_after: Option<RetryAfter>,
    ) -> Option<Timestamp> {
        let wait = self.wait(step)?;
        let lengthened = wait.mul_f64(1.0 + JITTER * jitter.clamp(0.0, 1.0));
        let by_schedule = later(now, SignedDuration::try_from(lengthened).ok()?);
        let asked = retry_after.map_or(now, |asked| asked.until(now));
        let asked = asked.min(later(now, self.retry_after_max()));
        Some(by_schedule.max(asked))
    }

    fn wait(&self, step: u32) -> Option<Duration> {
        let repeated = (step < self.max_attempts()).then(|| self.waits.last());
        let wait = self.waits.get(usize::try_from(step).ok()?);
        wait.or(repeated.flatten()).copied()
    }

    fn retry_after_max(&self) -> SignedDuration {
        match self.ends_by_schedule_only {
            true => PAGES_RETRY_AFTER_MAX,
            false => retry_after::LONGEST,
        }
    }

    /// The longest that any wait can be, lengthened by chance or by a Retry-After.
    pub fn longest_wait(&self) -> SignedDuration {
        let longest = self.waits.iter().max().copied().unwrap_or_default();
        SignedDuration::try_from(longest.mul_f64(1.0 + JITTER))
            .unwrap_or(SignedDuration::MAX)
            .max(self.retry_after_max())
    }
}

/// A due time as it can be meant at `now`: one beyond the longest wait was written while the clock was ahead (R7).
pub fn within(due_at: Timestamp, now: Timestamp, longest_wait: SignedDuration) -> Timestamp {
    due_at.min(later(now, longest_wait))
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            waits: DEFAULT_WAITS_S.map(Duration::from_secs).to_vec(),
            again: 0,
            max_age: None,
            ages_from_first_attempt: false,
            ends_by_schedule_only: false,
        }
    }
}

fn later(now: Timestamp, wait: SignedDuration) -> Timestamp {
    now.saturating_add(wait).unwrap_or(Timestamp::MAX)
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn at(seconds: i64) -> Timestamp {
        Timestamp::from_second(seconds).unwrap()
    }

    #[test]
    fn the_default_is_eight_attempts_over_about_a_day() {
        let policy = Policy::default();
        let mut now = at(0);
        for step in 0..policy.max_attempts() {
            now = policy.due(step, now, 0.0, None).unwrap();
        }
        assert_eq!(policy.max_attempts(), 8);
        assert_eq!(now, at(99_305));
        assert_eq!(policy.due(8, now, 0.0, None), None);
    }

    fn of_pages() -> Policy {
        let (waits, times) = PAGES_WAITS_S;
        Policy::of_pages(&waits, times).unwrap()
    }

    #[test]
    fn a_page_is_tried_soon_then_every_half_minute_for_a_day() {
        let policy = of_pages();
        let (mut now, mut dues) = (at(0), Vec::new());
        for step in 0..policy.max_attempts() {
            now = policy.due(step, now, 0.0, None).unwrap();
            dues.push(now.as_second());
        }
        assert_eq!(dues[..8], [0, 2, 7, 17, 37, 67, 97, 127]);
        assert!((86_370..=86_400).contains(dues.last().unwrap()), "{now}");
        assert_eq!(policy.due(policy.max_attempts(), now, 0.0, None), None);
        assert_eq!(policy.longest_wait(), SignedDuration::from_secs(36));
        let shown = policy.view();
        assert_eq!(shown.schedule_s, Some(vec![0, 2, 5, 10, 20, 30]));
        assert_eq!(shown.max_attempts, Some(2_883));
    }

    #[test]
    fn no_retry_after_moves_a_page_by_more_than_seconds() {
        for (header, due) in [("5", 1_005), ("3600", 1_015), ("0", 1_002)] {
            let wish = RetryAfter::parse(header);
            let found = of_pages().due(1, at(1_000), 0.0, wish);
            assert_eq!(found, Some(at(due)), "{header}");
        }
    }

    #[test]
    fn a_page_is_not_sent_over_and_over_without_a_wait() {
        for (waits, times, is_one) in [
            (&[0][..], 64, true),
            (&[0], 65, false),
            (&[0, 1], 86_400, true),
            (&[0, 1], 86_401, false),
            (&[0, 1], 0, false),
            (&[], 1, false),
        ] {
            let found = Policy::of_pages(waits, times).is_some();
            assert_eq!(found, is_one, "{waits:?} {times}");
        }
    }

    #[test]
    fn a_retry_after_only_makes_it_later_and_by_an_hour_at_most() {
        let policy = Policy::of_seconds(&[0, 60]).unwrap();
        for (header, due) in [
            ("120", 1_120),
            ("0", 1_060),
            ("30", 1_060),
            ("7200", 4_600),
            ("99999999999999999999999999", 4_600),
            ("Thu, 01 Jan 1970 00:20:00 GMT", 1_200),
            ("Thursday, 01-Jan-70 00:20:00 GMT", 1_200),
            ("Thu Jan  1 00:20:00 1970", 1_200),
            ("Thu, 01 Jan 1970 00:00:00 GMT", 1_060),
            ("Fri, 02 Jan 2099 00:00:00 GMT", 4_600),
        ] {
            let wish = RetryAfter::parse(header);
            assert!(wish.is_some(), "{header}");
            assert_eq!(
                policy.due(1, at(1_000), 0.0, wish),
                Some(at(due)),
                "{header}"
            );
        }
    }

    #[test]
    fn a_due_time_of_a_clock_that_was_ahead_is_brought_back_and_no_other() {
        for (waits, now, due, meant) in [
            (&[0, 36_000][..], 100, 50, 50),
            (&[0, 36_000], 100, 43_300, 43_300),
            (&[0, 36_000], 100, 43_301, 43_300),
            (&[0, 36_000], 100, 31_536_000, 43_300),
            (&[36_000, 0], 100, 31_536_000, 43_300),
            // A Retry-After may ask for longer than the schedule.
            (&[0, 5], 100, 3_700, 3_700),
            (&[0, 5], 100, 31_536_000, 3_700),
        ] {
            let longest = Policy::of_seconds(waits).unwrap().longest_wait();
            let found = within(at(due), at(now), longest);
            assert_eq!(found, at(meant), "{waits:?} at {now}, due {due}");
        }
        let end = within(Timestamp::MAX, Timestamp::MAX, SignedDuration::MAX);
        assert_eq!(end, Timestamp::MAX);
    }

    #[test]
    fn only_a_bounded_schedule_is_a_policy() {
        assert!(Policy::of_seconds(&[]).is_none());
        assert!(Policy::of_seconds(&[0; 65]).is_none());
        assert!(Policy::of_seconds(&[30 * 24 * 3600 + 1]).is_none());
        assert_eq!(Policy::of_seconds(&[7]).unwrap().max_attempts(), 1);
    }

    #[test]
    fn a_caller_asks_for_waits_or_for_their_growth() {
        let asked = |text: &str| -> Result<Vec<u64>, &'static str> {
            let asked = serde_json::from_str(text).unwrap();
            let policy = Policy::asked(&asked, &Policy::default())?;
            Ok(policy.view().schedule_s.unwrap())
        };
        assert_eq!(asked("{}"), Ok(DEFAULT_WAITS_S.to_vec()));
        assert_eq!(asked(r#"{"schedule_s":[0,5]}"#), Ok(vec![0, 5]));
        assert_eq!(
            asked(r#"{"base_s":10,"factor":3,"max_attempts":4}"#),
            Ok(vec![0, 10, 30, 90])
        );
        assert_eq!(
            asked(r#"{"base_s":2592000,"factor":100,"max_attempts":3}"#),
            Ok(vec![0, 2_592_000, 2_592_000])
        );
        for refused in [
            r#"{"schedule_s":[]}"#,
            r#"{"schedule_s":[0],"base_s":1,"factor":1,"max_attempts":1}"#,
            r#"{"base_s":1}"#,
            r#"{"base_s":1,"factor":0.5,"max_attempts":3}"#,
            r#"{"base_s":1,"factor":1,"max_attempts":0}"#,
            r#"{"base_s":1,"factor":1,"max_attempts":65}"#,
            r#"{"max_age_s":0}"#,
            r#"{"max_age_s":2592001}"#,
        ] {
            assert!(asked(refused).is_err(), "{refused}");
        }
    }

    #[test]
    fn age_is_exceeded_only_past_its_end() {
        let policy = Policy {
            max_age: Some(SignedDuration::from_secs(60)),
            ..Policy::default()
        };
        for (now, expired) in [(0, false), (1_060, false), (1_061, true)] {
            assert_eq!(policy.is_expired(at(1_000), at(now)), expired, "{now}");
        }
        assert!(!Policy::default().is_expired(at(0), Timestamp::MAX));
    }

    proptest! {
        // S11: due moves by the schedule, jitter only ever later, Retry-After at most an hour.
        #[test]
        fn it_is_due_within_its_wait_and_its_wait_lengthened(
            step in 0_u32..8, jitter in 0.0..=1.0, asked in prop::option::of(0_i64..100_000)
        ) {
            let policy = Policy::default();
            let retry_after = asked.map(|s| RetryAfter::For(SignedDuration::from_secs(s)));
            let due = policy.due(step, at(0), jitter, retry_after).unwrap();
            let wait = i64::try_from(DEFAULT_WAITS_S[step as usize]).unwrap();
            prop_assert!(due >= at(wait));
            prop_assert!(due <= at(wait + wait / 5).max(at(3_600)));
            prop_assert_eq!(within(due, at(0), policy.longest_wait()), due);
        }
    }
}
