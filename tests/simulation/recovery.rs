//! The end of a run: the faults stop, the endpoints answer, and everything must come to an end.

use std::collections::BTreeMap;
use std::time::Duration;

use delivery::domain::schedule::within;
use delivery::domain::transition::Input as Told;
use schema::webhooks::{Trigger, WaitingFor};

use super::destination::Mood;
use super::invariants::{Invariant, Violation};
use super::model::{Position, Row};
use super::reign::CAPACITY;
use super::shared::Shared;
use super::worker::{LEASE, TIMEOUT};
use super::world::{Input, World};

/// How far time goes in a step.
const POLL: Duration = Duration::from_secs(2);
/// A breaker opens for at most 15 minutes, lengthened by a fifth.
const OPEN_AT_MOST: Duration = Duration::from_secs(18 * 60);

impl World {
    /// The faults stop, and the endpoints answer.
    pub(crate) fn recover(&mut self) -> Result<(), Violation> {
        self.shared.moods.fill(Mood::Well);
        for worker in &mut self.workers {
            worker.is_alive = true;
            worker.paused_until = None;
        }
        // What was answered before may still disable an endpoint, or stop a line.
        for _ in 0..2 * TIMEOUT.as_millis() / POLL.as_millis() {
            self.poll()?;
        }
        let mono = self.shared.now.mono;
        for endpoint in 0..self.shared.endpoints.len() {
            if !self.shared.store.written.endpoints[endpoint].enabled {
                self.enabled_at_the_end.push(endpoint);
                self.happen(Input::Enable {
                    endpoint,
                    enabled: true,
                })?;
            }
        }
        // Somebody decides about those at which a line has stopped.
        let rows = &self.shared.store.written.rows;
        let blocking: Vec<Position> = rows
            .iter()
            .filter(|row| row.blocks)
            .map(|row| row.position)
            .collect();
        for position in blocking {
            let trigger = Trigger::Manual;
            self.shared.command(position, Told::Retry { trigger });
        }
        let deadline = mono
            + self.longest_wait()
            + LEASE
            + 8 * POLL * self.shared.store.written.rows.len() as u32;
        let mut ready_since = BTreeMap::new();
        while !self.is_done() {
            self.poll()?;
            self.look_at_waiting(mono, &mut ready_since);
            if self.shared.now.mono > deadline {
                self.tell_what_is_left();
            }
            self.look()?;
        }
        Ok(())
    }

    fn poll(&mut self) -> Result<(), Violation> {
        let millis = POLL.as_millis() as u64;
        self.happen(Input::Tick { millis })
    }

    /// The longest that anything may wait without a fault.
    fn longest_wait(&self) -> Duration {
        let now = self.shared.now.wall;
        let due = self.shared.store.written.rows.iter().filter_map(|row| {
            let longest_wait = self.shared.endpoints[row.endpoint].policy.longest_wait();
            let due_at = within(row.life.due_at?, now, longest_wait);
            Duration::try_from(due_at.duration_since(now)).ok()
        });
        due.max().unwrap_or_default().max(OPEN_AT_MOST)
    }

    fn is_done(&self) -> bool {
        let tables = &self.shared.store.durable;
        let is_terminal = tables.rows.iter().all(|row| row.life.state.is_terminal());
        is_terminal
            && tables.cursor == tables.notices.len()
            && self.waiting.is_empty()
            && self.late.is_empty()
    }

    fn tell_what_is_left(&mut self) {
        let rows = &self.shared.store.durable.rows;
        let left = rows
            .iter()
            .find(|row| !row.life.state.is_terminal())
            .cloned();
        let is_owned = self
            .workers
            .iter()
            .any(|worker| worker.believes(self.shared.now.mono));
        let was_disabled = left
            .as_ref()
            .is_some_and(|row| self.enabled_at_the_end.contains(&row.endpoint));
        let invariant = if is_owned && was_disabled {
            Invariant::L4
        } else {
            Invariant::L1
        };
        self.shared
            .ledger
            .must(false, invariant, || format!("still waits: {left:?}"));
    }

    /// Whoever could have a turn has one before long, and no breaker stays open.
    fn look_at_waiting(&mut self, since: Duration, ready_since: &mut BTreeMap<usize, Duration>) {
        let Shared {
            store,
            ledger,
            endpoints,
            now,
            ..
        } = &mut self.shared;
        let Some(owner) = self.workers.iter().find(|worker| worker.believes(now.mono)) else {
            return ready_since.clear();
        };
        let Some(reign) = &owner.reign else {
            return;
        };
        let turns = endpoints.len().div_ceil(CAPACITY.total) as u32;
        for (endpoint, watch) in reign.watch.iter().enumerate() {
            let key = endpoint as u64;
            let may_go = |row: &Row| {
                let line = Some(row.line);
                let why = |due| reign.queues.waiting_for(key, due, row.position, line, *now);
                row.life.due_at.map(why) == Some(WaitingFor::Slot)
            };
            let mut rows = store
                .durable
                .rows
                .iter()
                .filter(|row| row.endpoint == endpoint);
            let waits = rows.any(|row| reign.queued.contains(&row.position) && may_go(row));
            if !waits || reign.queues.breaker(key) != "closed" {
                ready_since.remove(&endpoint);
                continue;
            }
            let ready = *ready_since.entry(endpoint).or_insert(now.mono);
            let waits = now.mono - ready.max(watch.taken_at);
            ledger.must(waits <= turns * TIMEOUT + 2 * POLL, Invariant::L2, || {
                format!("endpoint {endpoint} had no turn for {waits:?}")
            });
        }
        for (endpoint, watch) in reign.watch.iter().enumerate() {
            let open_for = watch
                .opened_at
                .map_or(Duration::ZERO, |at| now.mono - at.max(since));
            let is_open = reign.queues.breaker(endpoint as u64) == "open";
            ledger.must(
                !is_open || open_for <= OPEN_AT_MOST + POLL,
                Invariant::L3,
                || format!("endpoint {endpoint} was not probed for {open_for:?}"),
            );
        }
    }
}
