//! Who is next, in memory: the schedule of the process that owns a lane.
//!
//! What must hold, by the names of the design:
//! - **S10** while an endpoint's breaker is open nothing of it is handed out; half-open, one probe at a time.
//! - **S11** nothing is handed out before it is due.
//! - **S12** on their way are at most an endpoint's cap, a client's share and the total; what is kept of a delivery that
//!   waits is sixteen bytes and the room a heap keeps free, more only where order is strict.
//! - **L2** whoever is ready is served within one turn of all others that are; retries and first attempts do not starve
//!   each other.
//! - **L3** an open breaker probes when its time has come. **L4** what is enabled again drains by itself.
//!
//! The time to choose the next does not grow with what waits: an endpoint that has nothing to give, or is held, is in no
//! ring, and an alarm or an event brings it back. Every change of an endpoint ends in `refresh`, the one place where the
//! rings and alarms follow.

use std::collections::{BTreeSet, HashMap};
use std::time::Duration;

use jiff::Timestamp;

use self::endpoint::{Alarm, Endpoint, Listed};
use self::line::Ticket;
use self::turns::{Speed, Turns};
use self::waiting::{Taken, micros, passed, timestamp};
use super::delivery::Position;
use super::now::Now;
use super::schedule::within;

pub use self::terms::{
    Capacity, Class, Expected, Feedback, Item, Key, Kind, Permit, Place, Rules, Turn,
};

mod breaker;
mod endpoint;
mod fresh;
mod line;
mod pace;
mod questions;
mod terms;
#[cfg(test)]
mod tests;
mod turns;
mod waiting;

/// Every open delivery is either in here, or on its way, or its outcome is being committed.
pub struct Queues {
    capacity: Capacity,
    endpoints: HashMap<Key, Endpoint>,
    turns: Turns,
    wall_alarms: BTreeSet<(i64, Key)>,
    mono_alarms: BTreeSet<(Duration, Key)>,
    waiting: usize,
    in_flight: usize,
    /// Those of them that were started while their endpoint was not known to be quick.
    unproven: usize,
    /// Endpoints made so far.
    made: u64,
    /// The wall clock when deliveries were last taken, or later when something came in at a later one.
    looked_at: Timestamp,
    #[cfg(test)]
    touched: usize,
}

impl Queues {
    pub fn new(capacity: Capacity) -> Self {
        Self {
            capacity,
            endpoints: HashMap::new(),
            turns: Turns::new(capacity.per_client.max(1)),
            wall_alarms: BTreeSet::new(),
            mono_alarms: BTreeSet::new(),
            waiting: 0,
            in_flight: 0,
            unproven: 0,
            made: 0,
            looked_at: Timestamp::MIN,
            #[cfg(test)]
            touched: 0,
        }
    }

    /// Adds an endpoint or changes its rules. One that is enabled again is probed at once. One that is made strict orders
    /// what is inserted from then on.
    pub fn set_endpoint(&mut self, endpoint: Key, rules: Rules, now: Now) {
        let client = rules.client;
        if let Some(found) = self.endpoints.get_mut(&endpoint) {
            let before = found.rules.client;
            found.change(rules);
            if before != client {
                let listed = std::mem::take(&mut found.listed);
                self.relist(endpoint, before, listed, Listed::default());
                self.turns.leave(before, endpoint);
            }
        } else {
            self.made += 1;
            let new = Endpoint::new(rules, self.made);
            self.endpoints.insert(endpoint, new);
        }
        self.turns.join(client, endpoint);
        self.refresh(endpoint, now);
    }

    /// Forgets what waits there. Permits of it can still be given back.
    pub fn remove_endpoint(&mut self, endpoint: Key) {
        if let Some(removed) = self.endpoints.remove(&endpoint) {
            let client = removed.rules.client;
            self.relist(endpoint, client, removed.listed, Listed::default());
            self.turns.leave(client, endpoint);
        }
    }

    /// A start assumes nothing bad of those that it finds: what failed before it says nothing of now.
    pub fn presume_well(&mut self, now: Now) {
        for endpoint in self.endpoints.values_mut() {
            endpoint.breaker.presume_well(now.mono);
        }
    }

    /// A delivery waits. In a strict line, the one that was on its way comes back by this to the line's head.
    pub fn insert(&mut self, endpoint: Key, item: Item, now: Now) {
        self.put_in(endpoint, item, 0, now);
    }

    fn put_in(&mut self, endpoint: Key, item: Item, ticket: Ticket, now: Now) {
        self.with(endpoint, now, |endpoint| {
            let due_at = within(item.due_at, now.wall, endpoint.rules.longest_wait);
            let place = item.place.filter(|_| endpoint.rules.strict);
            endpoint
                .waiting
                .insert(&item, place, micros(due_at), ticket);
        });
    }

    /// Forgets a delivery that waits (not one that is on its way), or that blocks its line, which then goes on.
    pub fn supersede(&mut self, endpoint: Key, position: Position, now: Now) {
        self.with(endpoint, now, |endpoint| {
            endpoint.waiting.supersede(position);
        });
    }

    /// Strict lines only: the delivery on its way has ended and its outcome is durable, the next may go. With `blocked` the
    /// line stops until this one is superseded; a free line can be found so after a restart.
    pub fn end(&mut self, endpoint: Key, line: u64, position: Position, blocked: bool, now: Now) {
        self.with(endpoint, now, |endpoint| {
            if endpoint.rules.strict {
                endpoint.waiting.end(line, position, blocked);
            }
        });
    }

    /// All blocked lines of the endpoint go on.
    pub fn unblock(&mut self, endpoint: Key, now: Now) {
        self.with(endpoint, now, |endpoint| endpoint.waiting.unblock());
    }

    /// Takes a slot for a delivery that is not in here. `None` unless it could be sent at once and nothing of the endpoint
    /// that is due waits before it.
    pub fn reserve(&mut self, endpoint: Key, line: Option<u64>, now: Now) -> Option<Permit> {
        let found = self.free(endpoint, now)?;
        let line = line.filter(|_| found.rules.strict);
        if let Some(line) = line {
            if !found.waiting.is_free(line) {
                return None;
            }
            found.waiting.reserve(line);
        }
        self.start(endpoint, line, false, now)
    }

    /// Strict lines only: the delivery that a slot was reserved for is committed, at this position.
    pub fn settle(&mut self, permit: &Permit, position: Position, now: Now) {
        let Some(line) = permit.line else { return };
        self.with(permit.endpoint, now, |endpoint| {
            endpoint.waiting.settle(line, position);
        });
    }

    /// Strict lines only: a delivery is being committed that will wait here, so that none which is planned later is sent
    /// before it. To be ended by [`insert_expected`](Self::insert_expected) or [`unexpect`](Self::unexpect).
    pub fn expect(&mut self, endpoint: Key, line: u64, now: Now) -> Expected {
        let mut ticket = 0;
        self.with(endpoint, now, |endpoint| {
            if endpoint.rules.strict {
                ticket = endpoint.waiting.expect(line);
            }
        });
        Expected {
            endpoint,
            line,
            ticket,
        }
    }

    /// The expected one waits.
    pub fn insert_expected(&mut self, expected: Expected, item: Item, now: Now) {
        self.put_in(expected.endpoint, item, expected.ticket, now);
        self.unexpect(expected, now);
    }

    /// It will never come.
    pub fn unexpect(&mut self, expected: Expected, now: Now) {
        let Expected {
            endpoint,
            line,
            ticket,
        } = expected;
        self.with(endpoint, now, |endpoint| {
            endpoint.waiting.unexpect(line, ticket);
        });
    }

    /// Strict lines only: takes the one behind `ahead`, for its start to be counted in the commit that ends `ahead`. `None`
    /// unless it could be sent at once and nothing of the endpoint that is due waits before it. It keeps its line only by
    /// [`hand_over`](Self::hand_over); what is not counted comes back by [`insert`](Self::insert).
    pub fn take_behind(
        &mut self,
        endpoint: Key,
        line: u64,
        ahead: Position,
        now: Now,
    ) -> Option<Turn> {
        let found = self.free(endpoint, now)?;
        let waiting = &mut found.waiting;
        let taken = waiting.take_behind(line, ahead, passed(now.wall))?;
        self.turn(endpoint, taken, false, now)
    }

    /// Strict lines only: that `ahead` has ended and that the one behind it is counted are durable.
    pub fn hand_over(&mut self, turn: &Turn, ahead: Position, now: Now) {
        let Some(line) = turn.permit.line else { return };
        self.with(turn.endpoint, now, |endpoint| {
            endpoint.waiting.hand_over(line, ahead, turn.position);
        });
    }

    /// Gives back a reservation whose delivery never came to be. Answers as [`release`](Self::release).
    pub fn unreserve(&mut self, permit: &Permit, now: Now) -> bool {
        let found = self.endpoints.get_mut(&permit.endpoint);
        if let Some((found, line)) = found.zip(permit.line)
            && found.made == permit.made
        {
            found.waiting.unreserve(line);
        }
        self.release(permit, None, now, 0.0)
    }

    /// Takes what is due and may go, at most `limit`, clients in turn, then the endpoints of a client.
    pub fn take(&mut self, now: Now, limit: usize) -> Vec<Turn> {
        if now.wall < self.looked_at {
            self.rein_in(now);
        }
        self.looked_at = now.wall;
        self.ring(now);
        let mut turns = Vec::new();
        while turns.len() < limit && self.in_flight < self.capacity.total {
            let Some(endpoint) = self.turns.next(self.has_room(Speed::Unproven)) else {
                break;
            };
            match self.take_of(endpoint, now) {
                Some(turn) => turns.push(turn),
                // It was ready by a clock that was a little ahead.
                None => self.refresh(endpoint, now),
            }
        }
        turns
    }

    /// Gives a slot back, with what the answer said; `None` if it was not sent. `jitter`, in 0..=1, lengthens the time for
    /// which a breaker opens. Answers whether somebody may be waiting: then look again.
    pub fn release(
        &mut self,
        permit: &Permit,
        answer: Option<Feedback>,
        now: Now,
        jitter: f64,
    ) -> bool {
        self.in_flight = self.in_flight.saturating_sub(1);
        if permit.speed == Speed::Unproven {
            self.unproven = self.unproven.saturating_sub(1);
        }
        self.turns.end(permit.client);
        let found = self.endpoints.get_mut(&permit.endpoint);
        let found = found.filter(|endpoint| endpoint.made == permit.made);
        let waits = found.is_some_and(|endpoint| {
            endpoint.end(permit, answer, now, jitter);
            endpoint.waiting.len() > 0
        });
        self.refresh(permit.endpoint, now);
        waits || self.turns.next(true).is_some()
    }

    /// How long until [`take`](Self::take) can give something, if no slot is given back and nothing is inserted before.
    /// `None` while only those can help.
    pub fn next_look(&self, now: Now) -> Option<Duration> {
        if self.in_flight >= self.capacity.total {
            return None;
        }
        if self.turns.next(self.has_room(Speed::Unproven)).is_some() {
            return Some(Duration::ZERO);
        }
        let wall = self.wall_alarms.first().map(|(at, _)| {
            let wait = timestamp(*at).duration_since(now.wall);
            Duration::try_from(wait).unwrap_or_default()
        });
        let mono = self.mono_alarms.first();
        let mono = mono.map(|(at, _)| at.saturating_sub(now.mono));
        wall.into_iter().chain(mono).min()
    }

    fn take_of(&mut self, endpoint: Key, now: Now) -> Option<Turn> {
        let (taken, alone) = self.endpoints.get_mut(&endpoint)?.take(now)?;
        self.turn(endpoint, taken, alone, now)
    }

    fn turn(&mut self, endpoint: Key, taken: Taken, alone: bool, now: Now) -> Option<Turn> {
        let (line, (due, position)) = (taken.line, taken.entry);
        Some(Turn {
            endpoint,
            position,
            due_at: timestamp(due),
            permit: self.start(endpoint, line, alone, now)?,
        })
    }

    /// The endpoint, if one more could be sent there at once and nothing of it that is due waits before that.
    fn free(&mut self, endpoint: Key, now: Now) -> Option<&mut Endpoint> {
        self.ring(now);
        let found = self.endpoints.get(&endpoint)?;
        let (client, waits) = (found.rules.client, found.waiting.next_due());
        let may = found.held(now).is_none()
            && found.has_slot()
            && waits.is_none_or(|due| due > passed(now.wall))
            && found.may_be_joined(passed(now.wall))
            && !self.is_crowded(client)
            && self.turns.has_room(client)
            && self.has_room(found.speed);
        self.endpoints.get_mut(&endpoint).filter(|_| may)
    }

    /// Takes the slot.
    fn start(&mut self, key: Key, line: Option<u64>, alone: bool, now: Now) -> Option<Permit> {
        let endpoint = self.endpoints.get_mut(&key)?;
        let permit = Permit {
            endpoint: key,
            alone,
            probe: endpoint.breaker.is_half_open(),
            line,
            client: endpoint.rules.client,
            made: endpoint.made,
            generation: endpoint.start(alone, now),
            speed: endpoint.speed,
        };
        endpoint.served = self.turns.serve(permit.client);
        self.in_flight += 1;
        self.unproven += usize::from(permit.speed == Speed::Unproven);
        self.refresh(key, now);
        Some(permit)
    }

    /// A fifth of all slots is kept for those that answer quickly.
    fn has_room(&self, speed: Speed) -> bool {
        let total = self.capacity.total;
        let unproven_max = (total.saturating_mul(4) / 5).max(1);
        self.in_flight < total && (speed == Speed::Quick || self.unproven < unproven_max)
    }

    /// Slots are scarce, in all or for the client, and others wait for their turn, which is not to be jumped (L2).
    fn is_crowded(&self, client: Key) -> bool {
        let is_scarce = self.in_flight >= self.capacity.total / 2;
        (is_scarce && self.turns.next(true).is_some()) || self.turns.is_crowded(client)
    }

    /// The clock was set back.
    fn rein_in(&mut self, now: Now) {
        let endpoints: Vec<Key> = self.endpoints.keys().copied().collect();
        for endpoint in endpoints {
            self.with(endpoint, now, |endpoint| endpoint.rein_in(now));
        }
    }

    /// Looks at those whose alarm has gone off.
    fn ring(&mut self, now: Now) {
        while let Some((_, endpoint)) = self
            .wall_alarms
            .first()
            .filter(|(at, _)| *at <= passed(now.wall))
            .copied()
        {
            self.refresh(endpoint, now);
        }
        while let Some((_, endpoint)) = self
            .mono_alarms
            .first()
            .filter(|(at, _)| *at <= now.mono)
            .copied()
        {
            self.refresh(endpoint, now);
        }
    }

    fn with(&mut self, key: Key, now: Now, how: impl FnOnce(&mut Endpoint)) {
        if let Some(endpoint) = self.endpoints.get_mut(&key) {
            how(endpoint);
            self.refresh(key, now);
        }
    }

    /// Rings and alarms follow what has become of an endpoint.
    fn refresh(&mut self, key: Key, now: Now) {
        #[cfg(test)]
        {
            self.touched += 1;
        }
        let Some(endpoint) = self.endpoints.get_mut(&key) else {
            return;
        };
        self.looked_at = self.looked_at.max(now.wall);
        endpoint.look(now);
        let listed = endpoint.standing(now);
        let before = std::mem::replace(&mut endpoint.listed, listed);
        let client = endpoint.rules.client;
        self.relist(key, client, before, listed);
    }

    fn relist(&mut self, key: Key, client: Key, before: Listed, after: Listed) {
        self.waiting = self.waiting.saturating_sub(before.waiting) + after.waiting;
        if before.seat != after.seat {
            if let Some(seat) = before.seat {
                self.turns.stand_up(client, key, seat);
            }
            if let Some(seat) = after.seat {
                self.turns.sit(client, key, seat);
            }
        }
        if before.alarm != after.alarm {
            match before.alarm {
                Some(Alarm::Wall(at)) => self.wall_alarms.remove(&(at, key)),
                Some(Alarm::Mono(at)) => self.mono_alarms.remove(&(at, key)),
                None => false,
            };
            match after.alarm {
                Some(Alarm::Wall(at)) => self.wall_alarms.insert((at, key)),
                Some(Alarm::Mono(at)) => self.mono_alarms.insert((at, key)),
                None => false,
            };
        }
    }
}
