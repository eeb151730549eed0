//! Whose turn it is: clients that have something ready in turn, then the ready endpoints of a client in turn.
//!
//! Next is who was served the longest ago, among those that are ready. So whoever stays ready waits for the others at most
//! once each (L2). Endpoints that are not ready are not in here at all, which is why they cost nothing.

use std::collections::{BTreeSet, HashMap};

use super::Key;

/// When somebody was last served, counted in turns.
pub(super) type Served = u64;

/// Whether the endpoint's last answer was a quick success. Those of which this is not known may not hold all slots.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Speed {
    Quick,
    Unproven,
}

/// A place in the ring of a client.
pub(super) type Seat = (Speed, Served);

pub(super) struct Turns {
    clients: HashMap<Key, Client>,
    quick: BTreeSet<(Served, Key)>,
    unproven: BTreeSet<(Served, Key)>,
    per_client: usize,
    last: Served,
}

#[derive(Default)]
struct Client {
    endpoints: BTreeSet<Key>,
    in_flight: usize,
    served: Served,
    quick: BTreeSet<(Served, Key)>,
    unproven: BTreeSet<(Served, Key)>,
}

impl Client {
    fn ring(&mut self, speed: Speed) -> &mut BTreeSet<(Served, Key)> {
        match speed {
            Speed::Quick => &mut self.quick,
            Speed::Unproven => &mut self.unproven,
        }
    }
}

impl Turns {
    pub(super) fn new(per_client: usize) -> Self {
        Self {
            clients: HashMap::new(),
            quick: BTreeSet::new(),
            unproven: BTreeSet::new(),
            per_client,
            last: 0,
        }
    }

    pub(super) fn join(&mut self, client: Key, endpoint: Key) {
        self.change(client, |client| {
            client.endpoints.insert(endpoint);
        });
    }

    /// It has no seat any more.
    pub(super) fn leave(&mut self, client: Key, endpoint: Key) {
        self.change(client, |client| {
            client.endpoints.remove(&endpoint);
        });
    }

    pub(super) fn sit(&mut self, client: Key, endpoint: Key, (speed, turn): Seat) {
        self.change(client, |client| {
            client.ring(speed).insert((turn, endpoint));
        });
    }

    pub(super) fn stand_up(&mut self, client: Key, endpoint: Key, (speed, turn): Seat) {
        self.change(client, |client| {
            client.ring(speed).remove(&(turn, endpoint));
        });
    }

    /// One of the client's goes on its way; answers the endpoint's new turn.
    pub(super) fn serve(&mut self, client: Key) -> Served {
        self.last += 1;
        let turn = self.last;
        self.change(client, |client| {
            client.in_flight += 1;
            client.served = turn;
        });
        turn
    }

    pub(super) fn end(&mut self, client: Key) {
        self.change(client, |client| {
            client.in_flight = client.in_flight.saturating_sub(1);
        });
    }

    pub(super) fn has_room(&self, client: Key) -> bool {
        let found = self.clients.get(&client);
        found.is_some_and(|client| client.in_flight < self.per_client)
    }

    /// Half of the client's share is taken, and others of its endpoints wait for theirs.
    pub(super) fn is_crowded(&self, client: Key) -> bool {
        let found = self.clients.get(&client);
        found.is_some_and(|client| {
            let waits = !client.quick.is_empty() || !client.unproven.is_empty();
            waits && client.in_flight >= self.per_client / 2
        })
    }

    /// The endpoint whose turn it is.
    pub(super) fn next(&self, unproven_too: bool) -> Option<Key> {
        let also =
            |ring: &'_ BTreeSet<(Served, Key)>| ring.first().copied().filter(|_| unproven_too);
        let next = self.quick.first().copied();
        let (_, client) = next.into_iter().chain(also(&self.unproven)).min()?;
        let client = self.clients.get(&client)?;
        let next = client.quick.first().copied();
        let (_, endpoint) = next.into_iter().chain(also(&client.unproven)).min()?;
        Some(endpoint)
    }

    pub(super) fn endpoints_of(&self, client: Key) -> impl Iterator<Item = Key> {
        let found = self.clients.get(&client).into_iter();
        found.flat_map(|client| client.endpoints.iter().copied())
    }

    /// A client is in the rings while it has room and an endpoint that is ready, and is forgotten when it has nothing.
    fn change(&mut self, key: Key, how: impl FnOnce(&mut Client)) {
        let client = self.clients.entry(key).or_default();
        let seat = (client.served, key);
        self.quick.remove(&seat);
        self.unproven.remove(&seat);
        how(client);
        let seat = (client.served, key);
        if client.in_flight < self.per_client {
            if !client.quick.is_empty() {
                self.quick.insert(seat);
            }
            if !client.unproven.is_empty() {
                self.unproven.insert(seat);
            }
        }
        if client.endpoints.is_empty() && client.in_flight == 0 {
            self.clients.remove(&key);
        }
    }
}
