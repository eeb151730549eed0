//! One endpoint: what holds it back, and what an answer of it changes.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use schema::webhooks::WaitingFor;

use super::breaker::{Breaker, Terms};
use super::fresh::Fresh;
use super::pace::{Pace, Rate};
use super::turns::{Seat, Served, Speed};
use super::waiting::{Taken, Waiting, micros, passed};
use super::{Feedback, Kind, Permit, Rules};
use crate::domain::delivery::Position;
use crate::domain::now::Now;
use crate::domain::schedule::within;

/// An endpoint may ask for a pause of at most this.
const PAUSE_MAX: SignedDuration = SignedDuration::from_hours(1);
/// An answer that took less is quick.
const QUICK: Duration = Duration::from_secs(1);

pub(super) struct Endpoint {
    pub(super) rules: Rules,
    /// Tells it from another that had its key before.
    pub(super) made: u64,
    pub(super) served: Served,
    pub(super) in_flight: u32,
    pub(super) waiting: Waiting,
    pub(super) breaker: Breaker,
    pub(super) speed: Speed,
    pub(super) listed: Listed,
    pace: Pace,
    rate: Option<Rate>,
    paused_until: Option<Timestamp>,
    fresh: Fresh,
    /// What the last probe was.
    probed: Option<(Position, Kind)>,
    /// A suspect is on its way, alone.
    is_alone: bool,
    /// So many others go before the next suspect.
    others_first: u32,
}

/// What the schedule knows of an endpoint without looking at it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(super) struct Listed {
    /// It has something due and may take it.
    pub(super) seat: Option<Seat>,
    /// When it is to be looked at again, if nothing happens to it before.
    pub(super) alarm: Option<Alarm>,
    pub(super) waiting: usize,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Alarm {
    Wall(i64),
    Mono(Duration),
}

/// Of those that are due at an endpoint.
enum Whose {
    Suspect,
    Others,
}

impl Endpoint {
    pub(super) fn new(rules: Rules, made: u64) -> Self {
        Self {
            made,
            served: 0,
            in_flight: 0,
            waiting: Waiting::default(),
            breaker: Breaker::new(),
            speed: Speed::Unproven,
            listed: Listed::default(),
            pace: Pace::new(rules.max_in_flight),
            rate: rules.rate_per_s.map(Rate::new),
            paused_until: None,
            fresh: Fresh::default(),
            probed: None,
            is_alone: false,
            others_first: 0,
            rules,
        }
    }

    /// Somebody who enables an endpoint says that it is well: it is probed at once, whatever it did before (L4).
    pub(super) fn change(&mut self, rules: Rules) {
        if rules.enabled && !self.rules.enabled {
            self.paused_until = None;
            self.breaker.probe_now();
        }
        if rules.rate_per_s != self.rules.rate_per_s {
            self.rate = rules.rate_per_s.map(Rate::new);
        }
        if self.rules.strict && !rules.strict {
            self.waiting.dissolve();
        }
        self.pace.set_max(rules.max_in_flight);
        self.rules = rules;
    }

    /// Notices what time alone has changed.
    pub(super) fn look(&mut self, now: Now) {
        self.breaker.look(now.mono);
        self.paused_until = self.paused_until.filter(|until| *until > now.wall);
        let takes = self.takes();
        self.fresh.look(self.waiting.first_len(), takes);
    }

    /// What keeps everything of it from going, and when that ends if time alone ends it.
    pub(super) fn held(&self, now: Now) -> Option<(WaitingFor, Option<Alarm>)> {
        if !self.rules.enabled {
            return Some((WaitingFor::Disabled, None));
        }
        if let Some(until) = self.paused_until.filter(|until| *until > now.wall) {
            let until = Alarm::Wall(micros(until));
            return Some((WaitingFor::RetryAfter, Some(until)));
        }
        if !self.breaker.has_room() {
            let until = self.breaker.open_until().map(Alarm::Mono);
            return Some((WaitingFor::Breaker, until));
        }
        let free_at = self.rate.as_ref().map_or(Duration::ZERO, Rate::free_at);
        (free_at > now.mono).then_some((WaitingFor::Rate, Some(Alarm::Mono(free_at))))
    }

    /// A probe does not wait for those that were on their way when the breaker opened (L3); the maximum holds for it too.
    pub(super) fn has_slot(&self) -> bool {
        let cap = if self.breaker.is_half_open() {
            self.rules.max_in_flight.max(1)
        } else {
            self.pace.cap()
        };
        self.in_flight < cap
    }

    /// First attempts that wait for nothing but their turn.
    pub(super) fn fresh(&self) -> usize {
        self.fresh.count()
    }

    /// Whether first attempts that wait here are work that can be done now.
    fn takes(&self) -> bool {
        self.rules.enabled && self.breaker.is_closed() && self.paused_until.is_none()
    }

    pub(super) fn standing(&self, now: Now) -> Listed {
        let nothing = Listed {
            waiting: self.waiting.len(),
            ..Listed::default()
        };
        if let Some((why, until)) = self.held(now) {
            let matters = nothing.waiting > 0 || why != WaitingFor::Rate;
            return Listed {
                alarm: until.filter(|_| matters),
                ..nothing
            };
        }
        let passed = passed(now.wall);
        let next = self.waiting.next_due().filter(|_| self.has_slot());
        let either = next.into_iter().chain(self.waiting.suspect_due());
        Listed {
            seat: self.next(passed).map(|_| (self.speed, self.served)),
            alarm: either.filter(|due| *due > passed).min().map(Alarm::Wall),
            ..nothing
        }
    }

    /// Whose turn it is, of what is due. Before a suspect goes, all that is on its way has ended, and nothing joins it; after
    /// it as many others have their turn as may go at once. A probe waits for nobody who hangs since before the breaker opened
    /// (L3): another goes in the suspect's stead, and where none is due, the suspect beside those.
    fn next(&self, passed: i64) -> Option<Whose> {
        let is_due = |due: Option<i64>| due.is_some_and(|due| due <= passed);
        let may_join = self.has_slot() && !self.is_alone;
        let others = (may_join && is_due(self.waiting.next_due())).then_some(Whose::Others);
        if !self.suspect_is_next(passed) {
            return others;
        }
        if self.in_flight == 0 {
            return Some(Whose::Suspect);
        }
        if !self.breaker.is_half_open() {
            return None;
        }
        others.or(may_join.then_some(Whose::Suspect))
    }

    fn suspect_is_next(&self, passed: i64) -> bool {
        let is_due = |due: Option<i64>| due.is_some_and(|due| due <= passed);
        let others_first = self.others_first > 0 && is_due(self.waiting.next_due());
        is_due(self.waiting.suspect_due()) && !others_first
    }

    /// Whether one more may go beside those on their way, although it does not wait here.
    pub(super) fn may_be_joined(&self, passed: i64) -> bool {
        !self.is_alone && !self.suspect_is_next(passed)
    }

    /// Takes out whose turn it is; answers whether it goes alone.
    pub(super) fn take(&mut self, now: Now) -> Option<(Taken, bool)> {
        let passed = passed(now.wall);
        match self.next(passed)? {
            Whose::Suspect => Some((self.waiting.take_suspect()?, true)),
            Whose::Others => Some((self.take_other(passed)?, false)),
        }
    }

    /// A probe is unlike the last one: what no endpoint takes must not stand for all that waits here.
    fn take_other(&mut self, passed: i64) -> Option<Taken> {
        if !self.breaker.is_half_open() {
            return self.waiting.take(passed);
        }
        let taken = match self.probed {
            Some(last) => self.waiting.take_unlike(last, passed)?,
            None => self.waiting.take(passed)?,
        };
        self.probed = Some((taken.entry.1, taken.kind));
        Some(taken)
    }

    /// One more is on its way: its slot, its token and the breaker's leave; answers the breaker's generation.
    pub(super) fn start(&mut self, alone: bool, now: Now) -> u64 {
        self.in_flight += 1;
        self.is_alone |= alone;
        self.others_first = self.others_first.saturating_sub(1);
        if let Some(rate) = &mut self.rate {
            rate.take(now.mono);
        }
        self.breaker.start(now.mono)
    }

    /// One is no longer on its way. What it says is said by the breaker's current generation only, but for a pause, which
    /// the endpoint asked for whenever it was asked.
    pub(super) fn end(&mut self, permit: &Permit, answer: Option<Feedback>, now: Now, jitter: f64) {
        self.in_flight = self.in_flight.saturating_sub(1);
        if permit.alone {
            self.is_alone = false;
            self.others_first = self.pace.cap();
        }
        if let Some(Feedback::Throttled { until: Some(until) }) = answer {
            let until = within(until, now.wall, self.longest_pause());
            self.paused_until = self.paused_until.max(Some(until));
        }
        if self.breaker.is_current(permit.generation) {
            self.learn(answer, now.mono);
        }
        let terms = Terms {
            cap: self.pace.cap(),
            probe_within: self.rules.probe_within,
        };
        self.breaker
            .end(permit.generation, answer, terms, now.mono, jitter);
    }

    fn longest_pause(&self) -> SignedDuration {
        let probe_within = self.rules.probe_within.map(SignedDuration::try_from);
        probe_within
            .and_then(Result::ok)
            .map_or(PAUSE_MAX, |within| within.min(PAUSE_MAX))
    }

    fn learn(&mut self, answer: Option<Feedback>, mono: Duration) {
        let Some(answer) = answer else {
            return;
        };
        match answer {
            Feedback::Lives { .. } => self.pace.good(),
            Feedback::Failed => {}
            Feedback::Unreachable | Feedback::Throttled { .. } => self.pace.strained(mono),
        }
        self.speed = match answer {
            Feedback::Lives { took } if took < QUICK => Speed::Quick,
            _ => Speed::Unproven,
        };
    }

    /// The clock was set back: nothing waits for a time that only the wrong clock meant (R7).
    pub(super) fn rein_in(&mut self, now: Now) {
        let latest = within(Timestamp::MAX, now.wall, self.rules.longest_wait);
        self.waiting.rein_in(micros(latest));
        let until = self.paused_until;
        let longest = self.longest_pause();
        self.paused_until = until.map(|until| within(until, now.wall, longest));
    }
}
