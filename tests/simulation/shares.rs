//! One endpoint of which a share of all answers is a failure, over minutes, with an outage or a start in the middle: a minute
//! after that it must be as if there had been none. Production's queues, transition and schedule, and a clock.

use std::collections::BTreeMap;
use std::time::Duration;

use delivery::domain::now::Now;
use delivery::domain::queues::{Capacity, Class, Feedback, Item, Kind, Permit, Queues, Rules};
use delivery::domain::schedule::Policy;
use delivery::domain::transition::{Effect, Input, Life, transition};
use delivery::domain::verdict::Verdict;
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use schema::webhooks::WaitingFor;

const ENDPOINT: u64 = 1;
const WAITS: [u64; 13] = [0, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2, 2];
const POSTS_APART: Duration = Duration::from_millis(50);
const STEP: Duration = Duration::from_millis(10);
const ANSWERS_AFTER: Duration = Duration::from_millis(20);

const EVENT_AT: Duration = Duration::from_secs(60);
/// So long after an outage or a start it must be over.
const PATIENCE: Duration = Duration::from_secs(60);
const LOOKED_AT: Duration = Duration::from_secs(60);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Event {
    None,
    /// Nothing succeeds.
    Outage,
    Start,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum FailsBy {
    Status,
    Refusal,
}

#[derive(Clone, Copy, Debug)]
pub(crate) struct Case {
    pub(crate) share: f64,
    pub(crate) event: Event,
    /// How long the event takes.
    pub(crate) length: Duration,
    pub(crate) fails_by: FailsBy,
    pub(crate) seed: u64,
    pub(crate) trips_on_one_failure: bool,
}

/// What was seen from a minute after the event on.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Seen {
    pub(crate) attempts_per_s: f64,
    /// For how long on end the breaker held something that was due.
    pub(crate) held: Duration,
}

struct Trial {
    case: Case,
    policy: Policy,
    rng: StdRng,
    now: Now,
    queues: Queues,
    epoch: u64,
    lives: Vec<Life>,
    /// By the time of the answer and the delivery.
    flights: BTreeMap<(Duration, usize), (Permit, bool)>,
    sends: u32,
    held_since: Option<Duration>,
    held: Duration,
    /// Of the planted bug.
    shut_until: Option<Duration>,
    trips: u32,
}

/// Runs a case.
pub(crate) fn run(case: Case) -> Seen {
    let mut trial = Trial::new(case);
    let from = EVENT_AT + case.length + PATIENCE;
    while trial.now.mono < from + LOOKED_AT {
        trial.step(from);
    }
    Seen {
        attempts_per_s: f64::from(trial.sends) / LOOKED_AT.as_secs_f64(),
        held: trial.held,
    }
}

fn rules(enabled: bool, policy: &Policy) -> Rules {
    Rules {
        client: 1,
        max_in_flight: 64,
        rate_per_s: None,
        strict: false,
        enabled,
        longest_wait: policy.longest_wait(),
        probe_within: None,
    }
}

impl Trial {
    fn new(case: Case) -> Self {
        let policy = Policy::of_seconds(&WAITS).expect("it is short");
        let mut trial = Self {
            case,
            rng: StdRng::seed_from_u64(case.seed),
            now: Now {
                wall: Timestamp::from_second(1_800_000_000).expect("it is a time"),
                mono: Duration::ZERO,
            },
            queues: Queues::new(Capacity::default()),
            epoch: 0,
            lives: Vec::new(),
            flights: BTreeMap::new(),
            sends: 0,
            held_since: None,
            held: Duration::ZERO,
            shut_until: None,
            trips: 0,
            policy,
        };
        trial.start();
        trial
    }

    /// A new owner knows what is on disk; what the one before had on its way is interrupted.
    fn start(&mut self) {
        self.epoch += 1;
        self.flights.clear();
        self.queues = Queues::new(Capacity::default());
        let rules = rules(true, &self.policy);
        self.queues.set_endpoint(ENDPOINT, rules, self.now);
        self.queues.presume_well(self.now);
        for at in 0..self.lives.len() {
            if self.lives[at].open.is_some() {
                let epoch = self.epoch;
                self.change(at, Input::Interrupt { epoch });
            }
            self.queue(at);
        }
    }

    fn change(&mut self, at: usize, input: Input) -> Vec<Effect> {
        let wall = self.now.wall;
        let (life, effects) = transition(&self.lives[at], input, &self.policy, wall, &mut self.rng);
        self.lives[at] = life;
        effects
    }

    fn queue(&mut self, at: usize) {
        let life = &self.lives[at];
        let Some(due_at) = life.due_at.filter(|_| life.open.is_none()) else {
            return;
        };
        let item = Item {
            position: at as u64,
            due_at,
            class: match life.has_begun() {
                true => Class::Retry,
                false => Class::First,
            },
            kind: Kind::default(),
            suspect: life.is_suspect(),
            place: None,
        };
        self.queues.insert(ENDPOINT, item, self.now);
    }

    fn step(&mut self, from: Duration) {
        self.now.mono += STEP;
        self.now.wall += SignedDuration::try_from(STEP).expect("it is short");
        let mono = self.now.mono;
        if mono == EVENT_AT && self.case.event == Event::Start {
            self.start();
        }
        if mono.as_millis().is_multiple_of(POSTS_APART.as_millis()) {
            self.lives.push(Life::accepted(&self.policy, self.now.wall));
            self.queue(self.lives.len() - 1);
        }
        self.hear();
        self.open_up();
        for turn in self.queues.take(self.now, 64) {
            self.send(
                usize::try_from(turn.position).expect("an index"),
                turn.permit,
            );
            self.sends += u32::from(mono > from);
        }
        if mono > from {
            self.look();
        }
    }

    fn send(&mut self, at: usize, permit: Permit) {
        let (epoch, alone) = (self.epoch, permit.alone);
        let effects = self.change(at, Input::Start { epoch, alone });
        assert!(matches!(effects[..], [Effect::Send { .. }]), "{effects:?}");
        let time = EVENT_AT..EVENT_AT + self.case.length;
        let is_out = self.case.event == Event::Outage && time.contains(&self.now.mono);
        let fails = is_out || self.rng.random_bool(self.case.share);
        let until = self.now.mono + ANSWERS_AFTER;
        self.flights.insert((until, at), (permit, fails));
    }

    fn hear(&mut self) {
        while let Some(entry) = self.flights.first_entry()
            && entry.key().0 <= self.now.mono
        {
            let ((_, at), (permit, fails)) = entry.remove_entry();
            let (verdict, answer) = self.answer(fails);
            let is_back = self.queues.breaker(ENDPOINT) == "half_open" && !permit.probe;
            let jitter = self.rng.random();
            self.queues.release(&permit, Some(answer), self.now, jitter);
            let (epoch, attempt) = (self.epoch, self.lives[at].started);
            self.change(
                at,
                Input::Finish {
                    attempt,
                    epoch,
                    verdict,
                },
            );
            self.queue(at);
            if self.case.trips_on_one_failure && fails && is_back {
                self.shut();
            }
        }
    }

    fn answer(&self, fails: bool) -> (Verdict, Feedback) {
        let took = ANSWERS_AFTER;
        match (fails, self.case.fails_by) {
            (false, _) => (Verdict::Success, Feedback::Lives { took }),
            (true, FailsBy::Status) => (Verdict::of_response(500, None), Feedback::Failed),
            (true, FailsBy::Refusal) => (
                Verdict::of_transport("connection_refused"),
                Feedback::Unreachable,
            ),
        }
    }

    /// The planted bug: a single failure on the way back opens it again, for twice as long each time.
    fn shut(&mut self) {
        let length = Duration::from_secs(5 << self.trips.min(7));
        self.trips += 1;
        self.shut_until = Some(self.now.mono + length);
        let rules = rules(false, &self.policy);
        self.queues.set_endpoint(ENDPOINT, rules, self.now);
    }

    fn open_up(&mut self) {
        if self.shut_until.is_some_and(|until| until <= self.now.mono) {
            self.shut_until = None;
            let rules = rules(true, &self.policy);
            self.queues.set_endpoint(ENDPOINT, rules, self.now);
        }
    }

    fn look(&mut self) {
        let oldest = self.queues.oldest_due();
        let why = oldest.map(|due| self.queues.waiting_for(ENDPOINT, due, 0, None, self.now));
        let is_held = matches!(why, Some(WaitingFor::Breaker | WaitingFor::Disabled));
        if !is_held {
            self.held_since = None;
            return;
        }
        let since = *self.held_since.get_or_insert(self.now.mono);
        self.held = self.held.max(self.now.mono - since);
    }
}
