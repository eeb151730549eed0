//! The circuit breaker of one endpoint: holds back from one that fails, probes once, comes back step by step.
//!
//! ```text
//! closed ──it fails──► open ──its time──► half-open ──it lives──► ramp 1, 2, 4, … ──► closed
//!                       ▲                     │ failure              │ it fails
//!                       └─────────────────────┴──────────────────────┘
//! ```
//!
//! One question decides, in a ramp as when it is closed: is the share of failures in what was answered lately, since it
//! was last found to live, surely above seven of ten? So one share is treated in one way, whatever came before it: a single
//! failure after an outage is a failure among answers, as it is on any other day. And one thing decides how long it stays
//! open: for how long nothing at all has succeeded, which any success ends.
//!
//! - **S10** nothing starts while it is open, one probe at a time while it is half-open, and only answers to what was
//!   started since it last opened move it.
//! - **L3** it is half-open when its time and the jitter have passed, without anybody's help.

use std::time::Duration;

use super::Feedback;

/// It opens for this long first.
const OPEN_FIRST: Duration = Duration::from_secs(5);
const OPEN_MAX: Duration = Duration::from_secs(15 * 60);
/// Then one of which nothing good is known is asked again after as long as nothing has succeeded: each wait is twice the
/// one before. One that has lived here is asked so many times as often: then an outage is seen to be over within its own length
/// also where two probes of three fail that come after it.
const OFTEN: u32 = 20;
/// Open times are lengthened by at most this part, so that endpoints of one host are not probed together.
const JITTER: f64 = 0.2;

/// It opens when surely more of ten answers fail.
const BAD_OF_TEN: u64 = 7;
/// Surely: by two and a half standard deviations; the square of that, in hundredths.
const SURE: u64 = 625;
/// It opens when so many in a row could not be reached, if none succeeded within the window.
const STRAIGHT: u32 = 3;

const BUCKETS: u64 = 6;
const BUCKET: Duration = Duration::from_secs(10);
const WINDOW: Duration = Duration::from_secs(60);

pub(super) struct Breaker {
    state: State,
    /// Grows each time that it leaves off being closed or ramping.
    generation: u64,
    /// Started in this generation and not answered.
    out: u32,
    /// When the last was started.
    started_at: Duration,
    /// When it opened first since it last lived.
    silent_since: Option<Duration>,
    /// It has answered well since it was made.
    has_lived: bool,
    straight: u32,
    /// When it was last known to live, or taken to.
    lived_at: Option<Duration>,
    window: Window,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum State {
    Closed,
    Open { until: Duration },
    HalfOpen,
    Ramp { allowed: u32 },
}

impl Breaker {
    pub(super) fn new() -> Self {
        Self {
            state: State::Closed,
            generation: 0,
            out: 0,
            started_at: Duration::ZERO,
            silent_since: None,
            has_lived: false,
            straight: 0,
            lived_at: None,
            window: Window::default(),
        }
    }

    /// Somebody says that it is well: if it is open, it is probed at once, and opens as for the first time if that fails.
    pub(super) fn probe_now(&mut self) {
        self.silent_since = None;
        if matches!(self.state, State::Open { .. }) {
            self.state = State::HalfOpen;
        }
    }

    /// Nothing bad is known of it: for a minute it is taken to have lived just now.
    pub(super) fn presume_well(&mut self, mono: Duration) {
        self.lived_at = Some(mono);
    }

    /// Becomes half-open when its time has come.
    pub(super) fn look(&mut self, mono: Duration) {
        if self.open_until().is_some_and(|until| until <= mono) {
            self.state = State::HalfOpen;
        }
    }

    /// Nothing starts before then.
    pub(super) fn open_until(&self) -> Option<Duration> {
        match self.state {
            State::Open { until } => Some(until),
            State::Closed | State::HalfOpen | State::Ramp { .. } => None,
        }
    }

    /// Whether one more may start.
    pub(super) fn has_room(&self) -> bool {
        match self.state {
            State::Closed => true,
            State::Open { .. } => false,
            State::HalfOpen => self.out == 0,
            State::Ramp { allowed } => self.out < allowed,
        }
    }

    pub(super) fn is_closed(&self) -> bool {
        self.state == State::Closed
    }

    pub(super) fn is_half_open(&self) -> bool {
        self.state == State::HalfOpen
    }

    /// One more is on its way; answers its generation.
    pub(super) fn start(&mut self, mono: Duration) -> u64 {
        self.out = self.out.saturating_add(1);
        self.started_at = mono;
        self.generation
    }

    pub(super) fn is_current(&self, generation: u64) -> bool {
        self.generation == generation
    }

    /// One of that generation is no longer on its way. Without an answer it was not sent, and says nothing.
    pub(super) fn end(
        &mut self,
        generation: u64,
        answer: Option<Feedback>,
        terms: Terms,
        mono: Duration,
        jitter: f64,
    ) {
        if !self.is_current(generation) {
            return;
        }
        self.out = self.out.saturating_sub(1);
        match answer {
            Some(Feedback::Lives { .. }) => self.lives(terms.cap, mono),
            Some(Feedback::Failed | Feedback::Throttled { until: None }) => {
                self.straight = 0;
                self.failed(terms, mono, jitter);
            }
            Some(Feedback::Unreachable) => {
                self.straight = self.straight.saturating_add(1);
                self.failed(terms, mono, jitter);
            }
            // It was reached, is not at fault, and says when to come again.
            Some(Feedback::Throttled { until: Some(_) }) => self.straight = 0,
            None => {}
        }
    }

    fn lives(&mut self, cap: u32, mono: Duration) {
        self.straight = 0;
        self.silent_since = None;
        self.has_lived = true;
        self.lived_at = Some(mono);
        self.window.add(mono, true);
        let allowed = match self.state {
            State::Closed | State::Open { .. } => return,
            State::HalfOpen => 1,
            State::Ramp { allowed } => allowed.saturating_mul(2),
        };
        self.state = match allowed < cap {
            true => State::Ramp { allowed },
            false => State::Closed,
        };
    }

    fn failed(&mut self, terms: Terms, mono: Duration, jitter: f64) {
        let trips = match self.state {
            State::Open { .. } => false,
            State::HalfOpen => true,
            State::Closed | State::Ramp { .. } => {
                self.window.add(mono, false);
                self.window.is_surely_bad(mono) || self.is_gone(mono)
            }
        };
        if trips {
            self.trip(terms, mono, jitter);
        }
    }

    fn is_gone(&self, mono: Duration) -> bool {
        let lately = |at: Duration| mono.saturating_sub(at) < WINDOW;
        self.straight >= STRAIGHT && !self.lived_at.is_some_and(lately)
    }

    fn trip(&mut self, terms: Terms, mono: Duration, jitter: f64) {
        let wait = self.wait(mono, jitter);
        let latest = terms.probe_within.map_or(Duration::MAX, |within| {
            self.started_at.saturating_add(within).max(mono)
        });
        self.straight = 0;
        self.window = Window::default();
        self.state = State::Open {
            until: mono.saturating_add(wait).min(latest),
        };
        self.next_generation();
    }

    fn wait(&mut self, mono: Duration, jitter: f64) -> Duration {
        let wait = match self.silent_since {
            None => OPEN_FIRST,
            Some(since) => self.wait_after(mono.saturating_sub(since)),
        };
        self.silent_since.get_or_insert(mono);
        let lengthened = wait.as_secs_f64() * (1.0 + JITTER * jitter.clamp(0.0, 1.0));
        Duration::try_from_secs_f64(lengthened).unwrap_or(wait)
    }

    fn wait_after(&self, silent: Duration) -> Duration {
        let part = if self.has_lived { OFTEN } else { 1 };
        (OPEN_FIRST.saturating_add(silent) / part).min(OPEN_MAX)
    }

    /// What is still on its way was started in another world, and its answer says nothing about this one.
    fn next_generation(&mut self) {
        self.generation = self.generation.saturating_add(1);
        self.out = 0;
    }

    pub(super) fn name(&self) -> &'static str {
        match self.state {
            State::Closed => "closed",
            State::Open { .. } => "open",
            State::HalfOpen | State::Ramp { .. } => "half_open",
        }
    }
}

/// What an endpoint's breaker has to know of it.
#[derive(Clone, Copy)]
pub(super) struct Terms {
    /// How many may be on their way when it is closed.
    pub(super) cap: u32,
    /// It is open for no longer than this after the last start.
    pub(super) probe_within: Option<Duration>,
}

/// The answers of the last minute, counted in buckets of ten seconds.
#[derive(Clone, Copy, Default)]
struct Window {
    buckets: [Bucket; BUCKETS as usize],
}

#[derive(Clone, Copy, Default)]
struct Bucket {
    /// Which ten seconds since the process began.
    age: u64,
    good: u32,
    bad: u32,
}

impl Window {
    fn add(&mut self, mono: Duration, good: bool) {
        let age = age_of(mono);
        let Some(bucket) = self.buckets.get_mut(place_of(age)) else {
            return;
        };
        if bucket.age != age {
            *bucket = Bucket {
                age,
                ..Bucket::default()
            };
        }
        let count = if good {
            &mut bucket.good
        } else {
            &mut bucket.bad
        };
        *count = count.saturating_add(1);
    }

    /// Whether more than [`BAD_OF_TEN`] of ten fail, and that is no chance: all of fifteen, twenty of 21, 737 of a
    /// thousand. A share that is below is not taken for one that is above because a few failures came together.
    fn is_surely_bad(&self, mono: Duration) -> bool {
        let age = age_of(mono);
        let lately = self
            .buckets
            .iter()
            .filter(|bucket| bucket.age + BUCKETS > age);
        let (bad, all) = lately.fold((0_u64, 0_u64), |(bad, all), bucket| {
            let (good, failed) = (u64::from(bucket.good), u64::from(bucket.bad));
            (bad + failed, all + good + failed)
        });
        // The excess over that share in tenths of an answer, and its variance where chance alone makes it.
        let excess = (10 * bad).saturating_sub(BAD_OF_TEN * all);
        let variance = BAD_OF_TEN * (10 - BAD_OF_TEN) * all;
        excess > 0 && excess * excess * 100 >= SURE * variance
    }
}

fn age_of(mono: Duration) -> u64 {
    mono.as_secs() / BUCKET.as_secs()
}

fn place_of(age: u64) -> usize {
    usize::try_from(age % BUCKETS).unwrap_or_default()
}

#[cfg(test)]
mod tests;
