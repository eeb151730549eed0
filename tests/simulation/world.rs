//! One run: inputs by chance, then a time without faults, and after each step the observer's question.

use std::collections::VecDeque;
use std::time::Duration;

use delivery::domain::now::Now;
use delivery::domain::schedule::Policy;
use delivery::domain::transition::{ExhaustReason, Input as Told};
use jiff::{SignedDuration, Timestamp};
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use schema::webhooks::Trigger;

use super::bugs::Bug;
use super::destination::Mood;
use super::invariants::{Invariant, Ledger, Violation};
use super::model::{Commit, Endpoint, Event, Position, Store, Write};
use super::shared::Shared;
use super::worker::{LEASE, Worker};

const WORKERS: usize = 3;
const CLIENTS: usize = 2;
/// Of each client: 16 events in all.
const KEYS: u8 = 8;
/// How far time goes in a step, at most.
const TICK_MS: u64 = 12_000;
/// What happens in a step.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Input {
    Ingest {
        client: usize,
        key: u8,
        body: u8,
        hub: bool,
    },
    /// The disk syncs, time passes, and every worker has its turn.
    Tick {
        millis: u64,
    },
    Run {
        worker: usize,
    },
    Sync,
    Mood {
        endpoint: usize,
        mood: Mood,
    },
    Kill {
        worker: usize,
    },
    Pause {
        worker: usize,
        seconds: u64,
    },
    StoreCrash,
    /// The wall clock is set; the monotonic one goes on.
    SetClock {
        seconds: i64,
    },
    Retry {
        client: usize,
        nth: usize,
    },
    Cancel {
        client: usize,
        nth: usize,
    },
    Enable {
        endpoint: usize,
        enabled: bool,
    },
}

/// How a run ended that broke a promise.
pub(crate) struct Failure {
    pub(crate) seed: u64,
    pub(crate) step: u64,
    pub(crate) violation: Violation,
    pub(crate) timeline: Vec<String>,
}

pub(crate) struct World {
    pub(crate) shared: Shared,
    pub(crate) workers: Vec<Worker>,
    /// Intakes that wait for the disk: the event, and the body that was asked with.
    pub(crate) waiting: Vec<(Commit, Event, u8)>,
    /// What a bug does too late.
    pub(crate) late: Vec<Late>,
    step: u64,
    /// Endpoints that were disabled when the faults stopped.
    pub(crate) enabled_at_the_end: Vec<usize>,
}

pub(crate) enum Late {
    Intake(Event),
    Notice(Position),
}

/// Runs a seed for so many steps, then on without faults; answers how many steps that were in all.
pub(crate) fn run(seed: u64, steps: u64, bug: Option<Bug>) -> Result<u64, Failure> {
    let mut world = World::new(seed, bug);
    let Err(violation) = world.play(steps) else {
        return Ok(world.step);
    };
    // Once more, with a pen in hand.
    let mut world = World::new(seed, bug);
    world.shared.timeline = Some(VecDeque::new());
    let _ = world.play(steps);
    Err(Failure {
        seed,
        step: world.step,
        violation,
        timeline: world.shared.timeline.into_iter().flatten().collect(),
    })
}

fn endpoints(rng: &mut StdRng) -> Vec<Endpoint> {
    let of = |client, waits: &'static [u64], strict, max_in_flight| {
        let mut policy = Policy::of_seconds(waits).expect("it is short");
        policy.ages_from_first_attempt = strict;
        Endpoint {
            client,
            policy,
            waits,
            strict,
            blocks: false,
            max_in_flight,
            rate_per_s: None,
        }
    };
    let mut all = vec![
        of(0, &[0, 5, 20, 60], false, 3),
        Endpoint {
            blocks: true,
            ..of(1, &[0, 2, 10, 30, 120], true, 2)
        },
        Endpoint {
            rate_per_s: Some(1),
            ..of(0, &[0, 30, 300], true, 8)
        },
        of(1, &[0, 0], false, 1),
    ];
    all[0].policy.max_age = Some(SignedDuration::from_secs(400));
    all.truncate(rng.random_range(2..=4));
    all
}

impl World {
    fn new(seed: u64, bug: Option<Bug>) -> Self {
        let mut rng = StdRng::seed_from_u64(seed);
        let endpoints = endpoints(&mut rng);
        let start = Timestamp::from_second(1_800_000_000).expect("it is a time");
        Self {
            workers: (0..WORKERS).map(Worker::new).collect(),
            shared: Shared {
                store: Store::new(endpoints.len(), bug),
                ledger: Ledger::new(),
                moods: vec![Mood::Well; endpoints.len()],
                endpoints: endpoints.into(),
                rng,
                now: Now {
                    wall: start,
                    mono: Duration::from_secs(1_000),
                },
                bug,
                timeline: None,
            },
            waiting: Vec::new(),
            late: Vec::new(),
            step: 0,
            enabled_at_the_end: Vec::new(),
        }
    }

    fn play(&mut self, steps: u64) -> Result<(), Violation> {
        for _ in 0..steps {
            let input = self.choose();
            self.happen(input)?;
        }
        self.recover()
    }

    fn choose(&mut self) -> Input {
        let endpoints = self.shared.endpoints.len();
        let rng = &mut self.shared.rng;
        let (worker, client) = (rng.random_range(0..WORKERS), rng.random_range(0..CLIENTS));
        let (endpoint, nth) = (rng.random_range(0..endpoints), rng.random_range(0..64));
        match rng.random_range(0..200) {
            0..20 => Input::Ingest {
                client,
                key: rng.random_range(0..KEYS),
                // Now and then the key is used for something else.
                body: u8::from(rng.random_range(0..8) == 0),
                hub: rng.random(),
            },
            20..100 => Input::Tick {
                millis: rng.random_range(0..=TICK_MS),
            },
            100..150 => Input::Run { worker },
            150..170 => Input::Sync,
            170..180 => Input::Mood {
                endpoint,
                mood: Mood::ALL[rng.random_range(0..Mood::ALL.len())],
            },
            180..182 => Input::Kill { worker },
            182..184 => Input::Pause {
                worker,
                seconds: rng.random_range(1..=200),
            },
            184..187 => Input::StoreCrash,
            187..189 => Input::SetClock {
                seconds: rng.random_range(-7_200..=7_200),
            },
            189..193 => Input::Retry { client, nth },
            193..195 => Input::Cancel { client, nth },
            _ => Input::Enable {
                endpoint,
                enabled: rng.random_range(0..3) > 0,
            },
        }
    }

    /// One step, and the question whether all still holds.
    pub(crate) fn happen(&mut self, input: Input) -> Result<(), Violation> {
        self.step += 1;
        let (step, now) = (self.step, self.shared.now);
        self.shared.note(|| {
            format!(
                "{step:>5} {:>9.3} s {} {input:?}",
                now.mono.as_secs_f64(),
                now.wall
            )
        });
        match input {
            Input::Ingest {
                client,
                key,
                body,
                hub,
            } => self.ingest(client, key, body, hub),
            Input::Tick { millis } => self.tick(Duration::from_millis(millis)),
            Input::Run { worker } => self.workers[worker].run(&mut self.shared),
            Input::Sync => self.sync(),
            Input::Mood { endpoint, mood } => self.shared.moods[endpoint] = mood,
            Input::Kill { worker } => self.workers[worker].kill(&mut self.shared),
            Input::Pause { worker, seconds } => {
                let until = now.mono + Duration::from_secs(seconds);
                self.workers[worker].pause(until, &mut self.shared);
            }
            Input::StoreCrash => self.crash(),
            Input::SetClock { seconds } => {
                self.shared.now.wall = now.wall + SignedDuration::from_secs(seconds);
                if seconds < 0 {
                    self.shared.ledger.set_back_at = now.mono;
                }
            }
            Input::Retry { client, nth } => {
                let trigger = Trigger::Manual;
                self.command(client, nth, Told::Retry { trigger });
            }
            Input::Cancel { client, nth } => {
                self.command(client, nth, Told::Stop(ExhaustReason::Canceled))
            }
            Input::Enable { endpoint, enabled } => {
                self.shared
                    .store
                    .commit([Write::Endpoint(endpoint, enabled)]);
            }
        }
        self.look()
    }

    pub(crate) fn look(&mut self) -> Result<(), Violation> {
        let Shared {
            store,
            ledger,
            endpoints,
            now,
            ..
        } = &mut self.shared;
        let owners = self
            .workers
            .iter()
            .filter(|worker| worker.believes(now.mono))
            .count();
        ledger.must(owners <= 1, Invariant::S7, || {
            format!("{owners} processes own the lane")
        });
        ledger.lease(store, now.mono, LEASE);
        ledger.look(store, endpoints);
        ledger.violation().map_or(Ok(()), Err)
    }

    /// An intake: by the event's key it is new, known or refused. It is answered when what it says is on disk.
    fn ingest(&mut self, client: usize, key: u8, body: u8, hub: bool) {
        let store = &mut self.shared.store;
        if let Some(found) = store.written.event(client, key).copied() {
            if found.body == body {
                let commit = store.commit([]);
                self.answer(commit, found, body);
            }
            return;
        }
        let event = Event {
            position: store.next_position(0),
            client,
            key,
            body,
            hub,
            line: u64::from(key % 2),
        };
        if self.shared.bug == Some(Bug::CheckThenInsert) {
            return self.late.push(Late::Intake(event));
        }
        self.store_event(event);
    }

    fn store_event(&mut self, event: Event) {
        let mut writes = vec![Write::Event(event)];
        if !event.hub {
            writes.extend(self.shared.deliveries(event, 1));
        } else if self.shared.bug == Some(Bug::NoticeLater) {
            self.late.push(Late::Notice(event.position));
        } else {
            writes.push(Write::Notice(event.position));
        }
        let commit = self.shared.store.commit(writes);
        self.answer(commit, event, event.body);
    }

    fn answer(&mut self, commit: Commit, event: Event, body: u8) {
        if self.shared.bug == Some(Bug::AckBeforeSync) {
            self.shared.ledger.acked(event, body);
        } else {
            self.waiting.push((commit, event, body));
        }
    }

    fn sync(&mut self) {
        self.shared.store.sync();
        for (_, event, body) in self.waiting.drain(..) {
            self.shared.ledger.acked(event, body);
        }
        for late in std::mem::take(&mut self.late) {
            match late {
                Late::Intake(event) => {
                    let position = self.shared.store.next_position(0);
                    self.store_event(Event { position, ..event });
                }
                Late::Notice(event) => {
                    self.shared.store.commit([Write::Notice(event)]);
                }
            }
        }
    }

    fn crash(&mut self) {
        self.waiting.clear();
        self.late.clear();
        for worker in &mut self.workers {
            worker.lose(&mut self.shared);
        }
        self.shared.store.crash();
    }

    fn tick(&mut self, passed: Duration) {
        self.sync();
        let now = &mut self.shared.now;
        now.mono += passed;
        now.wall += SignedDuration::try_from(passed).expect("it is short");
        let mono = now.mono;
        let first = self.shared.rng.random_range(0..WORKERS);
        for at in 0..WORKERS {
            let worker = &mut self.workers[(first + at) % WORKERS];
            // Whoever was killed is started again, some time.
            worker.is_alive |= self.shared.rng.random_range(0..8) == 0;
            worker.paused_until = worker.paused_until.filter(|until| *until > mono);
            worker.run(&mut self.shared);
        }
    }

    /// A client's wish about one of the deliveries; another client's is not there.
    fn command(&mut self, client: usize, nth: usize, input: Told) {
        let rows = &self.shared.store.written.rows;
        if let Some(row) = rows
            .get(nth % rows.len().max(1))
            .filter(|row| row.client == client)
        {
            let position = row.position;
            self.shared.command(position, input);
        }
    }
}
