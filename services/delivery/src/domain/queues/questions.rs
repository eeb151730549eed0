//! What can be asked without changing anything.

use jiff::Timestamp;
use schema::webhooks::WaitingFor;

use super::endpoint::Endpoint;
use super::waiting::timestamp;
use super::{Key, Queues};
use crate::domain::delivery::Position;
use crate::domain::now::Now;

impl Queues {
    /// What a delivery that is not on its way waits for.
    pub fn waiting_for(
        &self,
        endpoint: Key,
        due_at: Timestamp,
        position: Position,
        line: Option<u64>,
        now: Now,
    ) -> WaitingFor {
        let Some(found) = self.endpoints.get(&endpoint) else {
            return WaitingFor::Schedule;
        };
        let held = found.held(now).map(|(why, _)| why);
        let line = line.filter(|_| found.rules.strict);
        let is_behind = line.is_some_and(|line| found.waiting.lines().is_behind(line, position));
        match held {
            Some(WaitingFor::Disabled) => WaitingFor::Disabled,
            _ if is_behind => WaitingFor::Order,
            _ if due_at > now.wall => WaitingFor::Schedule,
            Some(why) => why,
            None => WaitingFor::Slot,
        }
    }

    /// The earliest due time of all that wait, held ones too. Walks the endpoints.
    pub fn oldest_due(&self) -> Option<Timestamp> {
        let oldest = self.endpoints.values();
        let oldest = oldest.filter_map(|endpoint| endpoint.waiting.oldest());
        oldest.min().map(timestamp)
    }

    /// Deliveries that wait and those on their way.
    pub fn open(&self) -> usize {
        self.waiting.saturating_add(self.in_flight)
    }

    pub fn open_of(&self, endpoint: Key) -> usize {
        let open = |found: &Endpoint| found.waiting.len().saturating_add(found.in_flight as usize);
        self.endpoints.get(&endpoint).map_or(0, open)
    }

    /// First attempts of the client that wait for nothing but their turn: its fresh work. What gathered while an endpoint was
    /// held, or a strict line stood still, is none. Walks the client's endpoints.
    pub fn fresh_of(&self, client: Key) -> usize {
        let endpoints = self.turns.endpoints_of(client);
        let endpoints = endpoints.filter_map(|endpoint| self.endpoints.get(&endpoint));
        endpoints.map(Endpoint::fresh).sum()
    }

    /// `closed`, `open` or `half_open`.
    pub fn breaker(&self, endpoint: Key) -> &'static str {
        let found = self.endpoints.get(&endpoint);
        found.map_or("closed", |endpoint| endpoint.breaker.name())
    }

    /// Walks the endpoints.
    pub fn breakers_open(&self) -> usize {
        let endpoints = self.endpoints.values();
        let open = endpoints.filter(|endpoint| endpoint.breaker.open_until().is_some());
        open.count()
    }
}
