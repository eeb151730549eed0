//! What an owner keeps in memory: the production queues, and an observer of what they hand out.

use std::collections::BTreeSet;
use std::time::Duration;

use delivery::domain::queues::{
    Capacity, Class, Feedback, Item, Kind, Permit, Place, Queues, Rules,
};

use super::bugs::Bug;
use super::invariants::Invariant;
use super::model::{Endpoint, Position, Row, Write};
use super::shared::Shared;

pub(crate) const CAPACITY: Capacity = Capacity {
    total: 5,
    per_client: 4,
};

/// An open breaker lets nothing through for so long at least, and less where the endpoint has answered well in this reign.
const OPEN_AT_LEAST: Duration = Duration::from_secs(5);
const OPEN_AT_LEAST_OF_LIVING: Duration = Duration::from_millis(250);

/// The lane, while it is owned.
pub(crate) struct Reign {
    pub(crate) epoch: u64,
    pub(crate) lease_end: Duration,
    pub(crate) queues: Queues,
    /// By endpoint.
    pub(crate) watch: Vec<Watch>,
    /// Up to where the lane has been read.
    pub(crate) seen: Position,
    /// Nothing is started before: requests of an earlier epoch may be on their way.
    pub(crate) starts_from: Duration,
    /// Those that an earlier epoch had on their way.
    pub(crate) left_open: Vec<Position>,
    /// Those of them whose end is being written. As at a start of the service, nothing goes before all are where they belong.
    pub(crate) interrupting: BTreeSet<Position>,
    /// What the queues hold.
    pub(crate) queued: BTreeSet<Position>,
}

/// What was seen of one endpoint.
#[derive(Clone, Copy, Default)]
pub(crate) struct Watch {
    pub(crate) opened_at: Option<Duration>,
    /// When one of it went last.
    pub(crate) taken_at: Duration,
    has_lived: bool,
    out: u32,
    probes: u32,
}

impl Reign {
    pub(crate) fn new(
        epoch: u64,
        lease_end: Duration,
        starts_from: Duration,
        shared: &Shared,
    ) -> Self {
        let mut reign = Self {
            epoch,
            lease_end,
            queues: Queues::new(CAPACITY),
            watch: vec![Watch::default(); shared.endpoints.len()],
            seen: 0,
            starts_from,
            left_open: Vec::new(),
            interrupting: BTreeSet::new(),
            queued: BTreeSet::new(),
        };
        for endpoint in 0..shared.endpoints.len() {
            reign.set_endpoint(endpoint, shared);
        }
        reign.queues.presume_well(shared.now);
        for row in &shared.store.durable.rows {
            if row.life.open.is_some() {
                reign.left_open.push(row.position);
            } else {
                reign.follow(row, shared);
            }
        }
        reign.seen = shared.store.durable.head;
        reign
    }

    fn set_endpoint(&mut self, key: usize, shared: &Shared) {
        let endpoint = &shared.endpoints[key];
        let rules = Rules {
            client: endpoint.client as u64,
            max_in_flight: endpoint.max_in_flight,
            rate_per_s: endpoint.rate_per_s,
            strict: endpoint.strict,
            enabled: shared.store.durable.endpoints[key].enabled,
            longest_wait: endpoint.policy.longest_wait(),
            probe_within: None,
        };
        self.queues.set_endpoint(key as u64, rules, shared.now);
        // Whoever changes an endpoint may have enabled it, which has it probed at once.
        self.watch[key].opened_at = None;
    }

    /// Reads what others have written; `is_held` are those that this process is busy with.
    pub(crate) fn tail(&mut self, is_held: impl Fn(Position) -> bool, shared: &Shared) {
        let tables = &shared.store.durable;
        for key in 0..tables.endpoints.len() {
            if tables.endpoints[key].version > self.seen {
                self.set_endpoint(key, shared);
            }
        }
        let seen = self.seen;
        for row in tables.rows.iter().filter(|row| row.told > seen) {
            let is_busy = is_held(row.position) || self.left_open.contains(&row.position);
            if row.life.open.is_none() && !is_busy {
                if self.queued.remove(&row.position) {
                    self.queues
                        .supersede(row.endpoint as u64, row.position, shared.now);
                }
                self.follow(row, shared);
            }
        }
        self.seen = tables.head;
    }

    pub(crate) fn is_settled(&self) -> bool {
        self.left_open.is_empty() && self.interrupting.is_empty()
    }

    /// The queues are told where a delivery stands that is not on its way.
    pub(crate) fn follow(&mut self, row: &Row, shared: &Shared) {
        self.interrupting.remove(&row.position);
        let (key, life, now) = (row.endpoint as u64, &row.life, shared.now);
        let again = shared.bug == Some(Bug::RedeliversDelivered)
            && row.position.is_multiple_of(3)
            && life.started == 1;
        let due_at = life.due_at.or(again.then_some(now.wall));
        if let Some(due_at) = due_at {
            let item = Item {
                position: row.position,
                due_at,
                class: if life.finished > 0 {
                    Class::Retry
                } else {
                    Class::First
                },
                kind: Kind::of(if row.line == 0 { "even" } else { "odd" }),
                suspect: life.is_suspect(),
                place: Some(Place {
                    line: row.line,
                    order_at: row.order_at,
                    started: life.has_begun(),
                }),
            };
            self.queues.insert(key, item, now);
            self.queued.insert(row.position);
        } else if shared.endpoints[row.endpoint].strict {
            self.queues
                .end(key, row.line, row.position, row.blocks, now);
            if row.blocks {
                self.queued.insert(row.position);
            }
        }
    }

    /// The queues let one of an endpoint go.
    pub(crate) fn taken(&mut self, endpoint: usize, permit: Option<&Permit>, shared: &mut Shared) {
        let now = shared.now.mono;
        let watch = &mut self.watch[endpoint];
        watch.taken_at = now;
        let at_least = match watch.has_lived {
            true => OPEN_AT_LEAST_OF_LIVING,
            false => OPEN_AT_LEAST,
        };
        let is_shut = watch.opened_at.is_some_and(|at| now < at + at_least);
        watch.opened_at = watch.opened_at.filter(|_| is_shut);
        if let Some(permit) = permit {
            watch.out += 1;
            watch.probes += u32::from(permit.probe);
        }
        let (out, probes) = (watch.out, watch.probes);
        let max = shared.endpoints[endpoint].max_in_flight;
        let client = shared.endpoints[endpoint].client;
        let of_client = |(_, other): &(&Watch, &Endpoint)| other.client == client;
        let all = self.watch.iter().zip(shared.endpoints.iter());
        let share: u32 = all
            .clone()
            .filter(of_client)
            .map(|(watch, _)| watch.out)
            .sum();
        let all: u32 = all.map(|(watch, _)| watch.out).sum();
        let (total, per_client) = (CAPACITY.total as u32, CAPACITY.per_client as u32);
        shared
            .ledger
            .must(!is_shut && probes <= 1, Invariant::S10, || {
                format!("endpoint {endpoint}: one goes, open: {is_shut}, probes: {probes}")
            });
        shared.ledger.must(out <= max && share <= per_client && all <= total, Invariant::S12, || {
            format!("endpoint {endpoint}: {out} of {max} are on their way, {share} of its client, {all} in all")
        });
    }

    /// A slot is given back.
    pub(crate) fn release(
        &mut self,
        permit: &Permit,
        answer: Option<Feedback>,
        jitter: f64,
        shared: &mut Shared,
    ) {
        let (key, now) = (permit.endpoint, shared.now);
        let endpoint = key as usize;
        let before = self.queues.breaker(key);
        self.queues.release(permit, answer, now, jitter);
        let watch = &mut self.watch[endpoint];
        // Where an epoch is used twice, what an earlier reign took comes back to a later one.
        watch.out = watch.out.saturating_sub(1);
        watch.probes = watch.probes.saturating_sub(u32::from(permit.probe));
        watch.has_lived |= matches!(answer, Some(Feedback::Lives { .. }));
        if before != "open" && self.queues.breaker(key) == "open" {
            watch.opened_at = Some(now.mono);
            shared.note(|| format!("    endpoint {endpoint}: the breaker opens"));
            if shared.bug == Some(Bug::BreakerDropsQueued) {
                let dropped = shared.store.durable.rows.iter();
                let dropped = dropped
                    .filter(|row| row.endpoint == endpoint && self.queued.contains(&row.position));
                let writes: Vec<Write> = dropped.map(|row| Write::Forget(row.position)).collect();
                shared.store.commit(writes);
            }
        }
    }
}
