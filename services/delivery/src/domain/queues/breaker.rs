//! The circuit breaker of one endpoint: holds back from one that fails, probes once, comes back step by step.
//!
//! ```text
//! closed ──it fails──► open ──its time──► half-open ──2xx──► ramp 1, 2, 4, … ──► closed
//!                       ▲                     │ failure        │ failure
//!                       └───── for longer ────┴────────────────┘
//! ```
//!
//! - **S10** nothing starts while it is open, one probe at a time while it is half-open, and only answers to what was
//!   started since it last opened move it.
//! - **L3** it is half-open when its time and the jitter have passed, without anybody's help.

use std::time::Duration;

use super::Answer;

/// It opens for this long, and for twice as long each time that it opens before it was closed again.
const OPEN_FIRST: Duration = Duration::from_secs(5);
const OPEN_MAX: Duration = Duration::from_secs(15 * 60);
/// Open times are lengthened by at most this part, so that endpoints of one host are not probed together.
const JITTER: f64 = 0.2;

/// Fewer answers than this say nothing about a share.
const ENOUGH: u32 = 10;
/// It opens when so many of ten answers failed.
const BAD_OF_TEN: u32 = 7;
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
    /// How often it opened since it was last closed.
    trips: u32,
    straight: u32,
    success_at: Option<Duration>,
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
            trips: 0,
            straight: 0,
            success_at: None,
            window: Window::default(),
        }
    }

    /// The next is a probe. One that is on its way already, or a ramp that has begun, stays.
    pub(super) fn be_careful(&mut self) {
        if matches!(self.state, State::Closed | State::Open { .. }) {
            self.state = State::HalfOpen;
            self.next_generation();
        }
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
    pub(super) fn start(&mut self) -> u64 {
        self.out = self.out.saturating_add(1);
        self.generation
    }

    pub(super) fn is_current(&self, generation: u64) -> bool {
        self.generation == generation
    }

    /// One of that generation is no longer on its way. Without an answer it was not sent, and says nothing. `cap` is how
    /// many may be on their way when it is closed.
    pub(super) fn end(
        &mut self,
        generation: u64,
        answer: Option<Answer>,
        cap: u32,
        mono: Duration,
        jitter: f64,
    ) {
        if !self.is_current(generation) {
            return;
        }
        self.out = self.out.saturating_sub(1);
        match answer {
            Some(Answer::Success { .. }) => self.succeeded(cap, mono),
            Some(Answer::Failed) => {
                self.straight = 0;
                self.failed(mono, jitter);
            }
            Some(Answer::Unreachable) => {
                self.straight = self.straight.saturating_add(1);
                self.failed(mono, jitter);
            }
            // It was reached, and is not at fault.
            Some(Answer::Throttled { .. }) => self.straight = 0,
            None => {}
        }
    }

    fn succeeded(&mut self, cap: u32, mono: Duration) {
        self.straight = 0;
        self.success_at = Some(mono);
        let allowed = match self.state {
            State::Closed => return self.window.add(mono, true),
            State::Open { .. } => return,
            State::HalfOpen => 1,
            State::Ramp { allowed } => allowed.saturating_mul(2),
        };
        if allowed < cap {
            self.state = State::Ramp { allowed };
        } else {
            self.state = State::Closed;
            self.trips = 0;
            self.window = Window::default();
        }
    }

    fn failed(&mut self, mono: Duration, jitter: f64) {
        let trips = match self.state {
            State::Open { .. } => false,
            State::HalfOpen | State::Ramp { .. } => true,
            State::Closed => {
                self.window.add(mono, false);
                self.window.mostly_bad(mono) || self.is_gone(mono)
            }
        };
        if trips {
            self.trip(mono, jitter);
        }
    }

    fn is_gone(&self, mono: Duration) -> bool {
        let lately = |at: Duration| mono.saturating_sub(at) < WINDOW;
        self.straight >= STRAIGHT && !self.success_at.is_some_and(lately)
    }

    fn trip(&mut self, mono: Duration, jitter: f64) {
        let doubled = 1_u32.checked_shl(self.trips).unwrap_or(u32::MAX);
        let length = OPEN_FIRST.saturating_mul(doubled).min(OPEN_MAX);
        let lengthened = length.as_secs_f64() * (1.0 + JITTER * jitter.clamp(0.0, 1.0));
        let length = Duration::try_from_secs_f64(lengthened).unwrap_or(length);
        self.trips = self.trips.saturating_add(1);
        self.straight = 0;
        self.window = Window::default();
        self.state = State::Open {
            until: mono.saturating_add(length),
        };
        self.next_generation();
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

    fn mostly_bad(&self, mono: Duration) -> bool {
        let age = age_of(mono);
        let lately = self
            .buckets
            .iter()
            .filter(|bucket| bucket.age + BUCKETS > age);
        let (bad, all) = lately.fold((0_u32, 0_u32), |(bad, all), bucket| {
            let both = bucket.good.saturating_add(bucket.bad);
            (bad.saturating_add(bucket.bad), all.saturating_add(both))
        });
        all >= ENOUGH && u64::from(bad) * 10 >= u64::from(all) * u64::from(BAD_OF_TEN)
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
