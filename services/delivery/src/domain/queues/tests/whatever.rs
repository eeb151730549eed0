//! The invariants, whatever happens in whatever order.

use std::collections::BTreeMap;

use proptest::prelude::*;
use proptest::sample::Index;
use proptest::test_runner::TestCaseResult;

use super::*;

const ENDPOINTS: Key = 5;
const TOTAL: usize = 10;
const PER_CLIENT: usize = 6;

#[derive(Clone, Debug)]
enum Chance {
    Pass {
        millis: u64,
    },
    /// Somebody sets the wall clock.
    SetClock {
        seconds: i64,
    },
    Insert {
        endpoint: Key,
        line: u64,
        wait: i64,
        class: Class,
        suspect: bool,
    },
    Take {
        limit: usize,
    },
    Reserve {
        endpoint: Key,
        line: u64,
    },
    Release {
        which: Index,
        said: Option<Feedback>,
        again: Option<i64>,
    },
    /// What came of one of a line is durable.
    Commit {
        which: Index,
        how: Commit,
    },
    Unreserve {
        which: Index,
    },
    /// Canceled, or retried by hand.
    Supersede {
        which: Index,
        again: Option<i64>,
    },
    Unblock {
        endpoint: Key,
    },
    Enable {
        endpoint: Key,
        enabled: bool,
    },
    PresumeWell,
}

#[derive(Clone, Copy, Debug)]
enum Commit {
    Ended,
    /// With the count of the one behind it, unless somebody changed that one meanwhile.
    HandedOver {
        counted: bool,
    },
    Blocked,
    Again {
        wait: i64,
    },
}

fn said() -> impl Strategy<Value = Option<Feedback>> {
    prop_oneof![
        3 => Just(GOOD),
        1 => Just(SLOW),
        2 => Just(FAILED),
        2 => Just(UNREACHABLE),
        1 => Just(Some(Feedback::Throttled { until: None })),
        1 => (0_i64..9_000).prop_map(|second| Some(Feedback::Throttled { until: Some(at(second)) })),
        1 => Just(None),
    ]
}

fn chance() -> impl Strategy<Value = Chance> {
    let endpoint = 0..ENDPOINTS;
    let class = prop_oneof![Just(Class::First), Just(Class::Retry)];
    prop_oneof![
        3 => (0_u64..4_000).prop_map(|millis| Chance::Pass { millis }),
        1 => (-5_000_i64..5_000).prop_map(|seconds| Chance::SetClock { seconds }),
        8 => (endpoint.clone(), 0_u64..3, -5_i64..20, class, prop::bool::weighted(0.1)).prop_map(
            |(endpoint, line, wait, class, suspect)| Chance::Insert { endpoint, line, wait, class, suspect }
        ),
        6 => (0_usize..9).prop_map(|limit| Chance::Take { limit }),
        3 => (endpoint.clone(), 0_u64..3).prop_map(|(endpoint, line)| Chance::Reserve { endpoint, line }),
        9 => (any::<Index>(), said(), prop::option::of(0_i64..20))
            .prop_map(|(which, said, again)| Chance::Release { which, said, again }),
        4 => (any::<Index>(), prop_oneof![
            2 => Just(Commit::Ended), 1 => Just(Commit::Blocked),
            3 => prop::bool::weighted(0.8).prop_map(|counted| Commit::HandedOver { counted }),
            2 => (0_i64..9).prop_map(|wait| Commit::Again { wait }),
        ]).prop_map(|(which, how)| Chance::Commit { which, how }),
        1 => any::<Index>().prop_map(|which| Chance::Unreserve { which }),
        2 => (any::<Index>(), prop::option::of(0_i64..20))
            .prop_map(|(which, again)| Chance::Supersede { which, again }),
        1 => endpoint.clone().prop_map(|endpoint| Chance::Unblock { endpoint }),
        1 => (endpoint, prop::bool::weighted(0.7))
            .prop_map(|(endpoint, enabled)| Chance::Enable { endpoint, enabled }),
        1 => Just(Chance::PresumeWell),
    ]
}

/// Two clients; one endpoint is slow by rate, two are strict.
fn rules_of(endpoint: Key) -> Rules {
    Rules {
        client: endpoint % 2,
        max_in_flight: u32::try_from(endpoint).unwrap() + 1,
        rate_per_s: (endpoint == 2).then_some(5),
        strict: endpoint >= 3,
        ..rules()
    }
}

fn is_strict(endpoint: Key) -> bool {
    rules_of(endpoint).strict
}

#[derive(Clone, Copy, Debug)]
struct Waits {
    endpoint: Key,
    due_at: Timestamp,
    /// Its line and its rank in it.
    line: Option<u64>,
    started: bool,
    suspect: bool,
}

/// What must be so, kept the simple way.
struct Model {
    queues: Queues,
    now: Now,
    /// A clock that was set back changes due times.
    reined_in: bool,
    last: Position,
    disabled: BTreeSet<Key>,
    waiting: BTreeMap<Position, Waits>,
    out: Vec<(Position, Permit, bool)>,
    committing: Vec<(Position, Key, u64)>,
    blocked: BTreeMap<(Key, u64), Position>,
}

impl Model {
    fn new() -> Self {
        let capacity = Capacity {
            total: TOTAL,
            per_client: PER_CLIENT,
        };
        let (mut queues, now) = (Queues::new(capacity), now(10_000));
        for endpoint in 0..ENDPOINTS {
            queues.set_endpoint(endpoint, rules_of(endpoint), now);
        }
        Self {
            queues,
            now,
            reined_in: false,
            last: 0,
            disabled: BTreeSet::new(),
            waiting: BTreeMap::new(),
            out: Vec::new(),
            committing: Vec::new(),
            blocked: BTreeMap::new(),
        }
    }

    fn insert(&mut self, position: Position, wait: i64, class: Class, waits: Waits) {
        let due_at = self.now.wall + SignedDuration::from_secs(wait);
        let place = waits.line.map(|line| Place {
            line,
            order_at: position,
            started: waits.started,
        });
        let item = Item {
            position,
            due_at,
            class,
            kind: Kind::of(["a", "b", "c"][usize::try_from(position % 3).unwrap()]),
            suspect: waits.suspect,
            place,
        };
        self.queues.insert(waits.endpoint, item, self.now);
        self.waiting.insert(position, Waits { due_at, ..waits });
    }

    fn is_busy(&self, endpoint: Key, line: u64) -> bool {
        let out = self.out.iter();
        let out = out.filter(|(_, permit, _)| permit.line == Some(line));
        let mut held = out.map(|(_, permit, _)| permit.endpoint);
        let mut committing = self.committing.iter();
        held.any(|held| held == endpoint)
            || committing.any(|(_, of, held)| (*of, *held) == (endpoint, line))
            || self.blocked.contains_key(&(endpoint, line))
    }

    fn took(&mut self, turn: &Turn) -> TestCaseResult {
        let waits = self.waiting.remove(&turn.position);
        prop_assert!(waits.is_some(), "handed out twice, or superseded: {turn:?}");
        let waits = waits.unwrap();
        prop_assert!(turn.due_at <= self.now.wall, "S11: before it is due");
        if !self.reined_in {
            prop_assert_eq!(turn.due_at, waits.due_at);
        }
        prop_assert_eq!(turn.endpoint, waits.endpoint);
        prop_assert_eq!(turn.permit.line, waits.line);
        prop_assert_eq!(turn.permit.alone, waits.suspect);
        if let Some(line) = waits.line {
            let rank = |position: Position, waits: &Waits| (!waits.started, position);
            let overtaken = self.waiting.iter().any(|(position, other)| {
                (other.endpoint, other.line) == (waits.endpoint, Some(line))
                    && rank(*position, other) < rank(turn.position, &waits)
            });
            prop_assert!(!overtaken, "one of its line went before another");
            prop_assert!(!self.is_busy(waits.endpoint, line), "two of one line");
        }
        self.left(turn.position, turn.permit, false)
    }

    fn end_with_the_next(
        &mut self,
        endpoint: Key,
        line: u64,
        position: Position,
        counted: bool,
    ) -> TestCaseResult {
        match self.queues.take_behind(endpoint, line, position, self.now) {
            Some(turn) if counted => {
                self.queues.hand_over(&turn, position, self.now);
                return self.took(&turn);
            }
            Some(turn) => {
                let back = self.waiting.get(&turn.position).copied();
                prop_assert!(back.is_some(), "it did not wait: {turn:?}");
                let back = back.unwrap();
                self.queues.release(&turn.permit, None, self.now, 0.5);
                let due_in = turn.due_at.duration_since(self.now.wall).as_secs();
                let class = if back.started {
                    Class::Retry
                } else {
                    Class::First
                };
                self.insert(turn.position, due_in, class, back);
            }
            None => {}
        }
        self.queues.end(endpoint, line, position, false, self.now);
        Ok(())
    }

    fn left(&mut self, position: Position, permit: Permit, reserved: bool) -> TestCaseResult {
        let open = self.queues.breaker(permit.endpoint) == "open";
        prop_assert!(!open, "S10: while its breaker is open");
        prop_assert!(!self.disabled.contains(&permit.endpoint));
        let out = self.out.iter();
        // A probe goes beside those that hang since before the breaker opened (L3).
        let hangs = |out: &Permit| permit.probe && out.generation < permit.generation && !out.alone;
        let company: Vec<_> = out
            .filter(|(_, out, _)| out.endpoint == permit.endpoint && !hangs(out))
            .collect();
        let alone = permit.alone || company.iter().any(|(_, permit, _)| permit.alone);
        prop_assert!(!alone || company.is_empty(), "a suspect has company");
        self.out.push((position, permit, reserved));
        Ok(())
    }

    fn holds(&self) -> TestCaseResult {
        prop_assert_eq!(self.queues.open(), self.waiting.len() + self.out.len());
        if !self.reined_in {
            let oldest = self.waiting.values().map(|waits| waits.due_at).min();
            prop_assert_eq!(self.queues.oldest_due(), oldest);
        }
        prop_assert!(self.out.len() <= TOTAL, "S12");
        for client in 0..2 {
            let of_client = self
                .out
                .iter()
                .filter(|(_, permit, _)| permit.endpoint % 2 == client);
            prop_assert!(of_client.count() <= PER_CLIENT, "S12");
        }
        for endpoint in 0..ENDPOINTS {
            let found = &self.queues.endpoints[&endpoint];
            let out: Vec<_> = self
                .out
                .iter()
                .filter(|(_, permit, _)| permit.endpoint == endpoint)
                .collect();
            let waiting = self
                .waiting
                .values()
                .filter(|waits| waits.endpoint == endpoint);
            prop_assert_eq!(self.queues.open_of(endpoint), out.len() + waiting.count());
            prop_assert!(out.len() <= usize::try_from(endpoint).unwrap() + 1, "S12");
            if found.breaker.is_half_open() {
                let current = out
                    .iter()
                    .filter(|(_, permit, _)| found.breaker.is_current(permit.generation));
                prop_assert!(current.count() <= 1, "S10: one probe at a time");
            }
        }
        Ok(())
    }

    fn happen(&mut self, chance: Chance) -> TestCaseResult {
        match chance {
            Chance::Pass { millis } => self.now = later(self.now, millis),
            Chance::SetClock { seconds } => {
                self.reined_in |= seconds < 0;
                self.now.wall += SignedDuration::from_secs(seconds);
            }
            Chance::Insert {
                endpoint,
                line,
                wait,
                class,
                suspect,
            } => {
                self.last += 1;
                let waits = Waits {
                    endpoint,
                    due_at: Timestamp::MIN,
                    line: is_strict(endpoint).then_some(line),
                    started: false,
                    suspect,
                };
                self.insert(self.last, wait, class, waits);
            }
            Chance::Take { limit } => {
                let turns = self.queues.take(self.now, limit);
                prop_assert!(turns.len() <= limit);
                for turn in turns {
                    self.took(&turn)?;
                }
            }
            Chance::Reserve { endpoint, line } => {
                let Some(permit) = self.queues.reserve(endpoint, Some(line), self.now) else {
                    return Ok(());
                };
                if permit.line.is_some() {
                    prop_assert!(!self.is_busy(endpoint, line), "two of one line");
                    let before =
                        |waits: &Waits| (waits.endpoint, waits.line) == (endpoint, Some(line));
                    prop_assert!(
                        !self.waiting.values().any(before),
                        "it goes before another of its line"
                    );
                }
                self.last += 1;
                self.left(self.last, permit, true)?;
            }
            Chance::Release { which, said, again } if !self.out.is_empty() => {
                let (position, permit, reserved) =
                    self.out.swap_remove(which.index(self.out.len()));
                if reserved {
                    self.queues.settle(&permit, position, self.now);
                }
                self.queues.release(&permit, said, self.now, 0.5);
                if let Some(line) = permit.line {
                    self.committing.push((position, permit.endpoint, line));
                } else if let Some(wait) = again {
                    let waits = Waits {
                        endpoint: permit.endpoint,
                        due_at: Timestamp::MIN,
                        line: None,
                        started: true,
                        suspect: false,
                    };
                    self.insert(position, wait, Class::Retry, waits);
                }
            }
            Chance::Commit { which, how } if !self.committing.is_empty() => {
                let (position, endpoint, line) = self
                    .committing
                    .swap_remove(which.index(self.committing.len()));
                match how {
                    Commit::Ended => self.queues.end(endpoint, line, position, false, self.now),
                    Commit::HandedOver { counted } => {
                        self.end_with_the_next(endpoint, line, position, counted)?;
                    }
                    Commit::Blocked => {
                        self.queues.end(endpoint, line, position, true, self.now);
                        self.blocked.insert((endpoint, line), position);
                    }
                    Commit::Again { wait } => {
                        let waits = Waits {
                            endpoint,
                            due_at: Timestamp::MIN,
                            line: Some(line),
                            started: true,
                            suspect: false,
                        };
                        self.insert(position, wait, Class::Retry, waits);
                    }
                }
            }
            Chance::Unreserve { which } => {
                let reserved: Vec<usize> = (0..self.out.len())
                    .filter(|index| self.out[*index].2)
                    .collect();
                if !reserved.is_empty() {
                    let (_, permit, _) =
                        self.out.swap_remove(reserved[which.index(reserved.len())]);
                    self.queues.unreserve(&permit, self.now);
                }
            }
            Chance::Supersede { which, again } => {
                let blocked = self
                    .blocked
                    .iter()
                    .map(|((endpoint, line), position)| (*position, *endpoint, Some(*line)));
                let waiting = self
                    .waiting
                    .iter()
                    .map(|(position, waits)| (*position, waits.endpoint, waits.line));
                let known: Vec<_> = blocked.chain(waiting).collect();
                if !known.is_empty() {
                    let (position, endpoint, line) = known[which.index(known.len())];
                    self.queues.supersede(endpoint, position, self.now);
                    self.waiting.remove(&position);
                    self.blocked.retain(|_, blocking| *blocking != position);
                    if let Some(wait) = again {
                        let waits = Waits {
                            endpoint,
                            due_at: Timestamp::MIN,
                            line,
                            started: false,
                            suspect: false,
                        };
                        self.insert(position, wait, Class::First, waits);
                    }
                }
            }
            Chance::Unblock { endpoint } => {
                self.queues.unblock(endpoint, self.now);
                self.blocked.retain(|(of, _), _| *of != endpoint);
            }
            Chance::Enable { endpoint, enabled } => {
                let rules = Rules {
                    enabled,
                    ..rules_of(endpoint)
                };
                self.queues.set_endpoint(endpoint, rules, self.now);
                self.disabled.remove(&endpoint);
                if !enabled {
                    self.disabled.insert(endpoint);
                }
            }
            Chance::PresumeWell => self.queues.presume_well(self.now),
            Chance::Release { .. } | Chance::Commit { .. } => {}
        }
        Ok(())
    }

    /// Faults stop, and destinations answer 2xx: all that waits is handed out, and nobody has to do anything but to look
    /// when the queues say (L2, L3, L4).
    fn drain(&mut self) -> TestCaseResult {
        for endpoint in 0..ENDPOINTS {
            self.happen(Chance::Enable {
                endpoint,
                enabled: true,
            })?;
            self.happen(Chance::Unblock { endpoint })?;
        }
        for _ in 0..2_000 {
            for (position, permit, _) in std::mem::take(&mut self.out) {
                self.queues.settle(&permit, position, self.now);
                self.queues.release(&permit, GOOD, self.now, 0.5);
                self.committing
                    .extend(permit.line.map(|line| (position, permit.endpoint, line)));
            }
            for (position, endpoint, line) in std::mem::take(&mut self.committing) {
                self.queues.end(endpoint, line, position, false, self.now);
            }
            for turn in self.queues.take(self.now, 4) {
                self.took(&turn)?;
            }
            self.holds()?;
            if self.out.is_empty() {
                let Some(wait) = self.queues.next_look(self.now) else {
                    break;
                };
                self.now.wall += wait;
                self.now.mono += wait;
            }
        }
        prop_assert!(self.waiting.is_empty(), "left behind: {:?}", self.waiting);
        prop_assert_eq!(self.queues.open(), 0);
        Ok(())
    }
}

proptest! {
    #[test]
    fn the_invariants_hold_and_all_is_handed_out_in_the_end(chances in prop::collection::vec(chance(), 0..250)) {
        let mut model = Model::new();
        for chance in chances {
            model.happen(chance)?;
            model.holds()?;
        }
        model.drain()?;
    }

    // L2: of C clients with at most k ready endpoints each, every endpoint has a turn within C times k.
    #[test]
    fn whoever_is_ready_has_a_turn_before_anybody_has_one_too_many(
        sizes in prop::collection::vec(1_u64..6, 1..6), before in 0_usize..40
    ) {
        let mut queues = Queues::new(Capacity::default());
        let clients = (0..).zip(&sizes);
        let endpoints: Vec<(Key, Key)> = clients
            .flat_map(|(client, size)| (0..*size).map(move |number| (client, 100 * client + number)))
            .collect();
        for (client, endpoint) in &endpoints {
            let rules = Rules { client: *client, max_in_flight: 1_000, ..rules() };
            queues.set_endpoint(*endpoint, rules, now(0));
            (0..100).for_each(|number| queues.insert(*endpoint, item(1_000 * endpoint + number, 0), now(0)));
        }
        let mut take = |count: usize| {
            let turns: Vec<Turn> = (0..count).flat_map(|_| {
                let turns = queues.take(now(0), 1);
                answer(&mut queues, &turns, GOOD, now(0));
                turns
            }).collect();
            turns.iter().map(|turn| turn.endpoint).collect::<BTreeSet<Key>>()
        };
        take(before);

        let most = sizes.len() * usize::try_from(*sizes.iter().max().unwrap()).unwrap();
        prop_assert_eq!(take(most).len(), endpoints.len());
    }
}
