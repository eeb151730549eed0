//! What is said to the queues, and what they answer.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};

#[cfg(doc)]
use super::Queues;
use super::line::Ticket;
use super::turns::Speed;
use crate::domain::delivery::Position;

/// An endpoint or a client, by the position at which it was made.
pub type Key = Position;

/// How many may be on their way at once.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Capacity {
    pub total: usize,
    pub per_client: usize,
}

impl Default for Capacity {
    fn default() -> Self {
        Self {
            total: 1_024,
            per_client: 256,
        }
    }
}

/// What an endpoint asks for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rules {
    pub client: Key,
    /// The cap that it may earn, at least one.
    pub max_in_flight: u32,
    pub rate_per_s: Option<u32>,
    /// One at a time in each line.
    pub strict: bool,
    /// While it is not, everything of it is held.
    pub enabled: bool,
    /// The longest wait of its schedule.
    pub longest_wait: SignedDuration,
    /// While something is due, it is tried at least as often: neither its breaker nor a Retry-After holds it for longer.
    pub probe_within: Option<Duration>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Class {
    /// No attempt was made.
    First,
    Retry,
}

/// What sort of event a delivery carries, told apart as far as so many sorts go.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Kind(u8);

const KINDS: u8 = 16;

impl Kind {
    pub fn of(event_type: &str) -> Self {
        let mixed = |hash: u8, byte: u8| hash.wrapping_mul(31).wrapping_add(byte);
        let hash = event_type.bytes().fold(0, mixed);
        Self((hash ^ (hash >> 4)) % KINDS)
    }
}

/// Of a delivery to a strictly ordered endpoint: which line, and the place in it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// The hash of the ordering key.
    pub line: u64,
    pub order_at: Position,
    /// An attempt was started in this generation: it goes before all of which none was.
    pub started: bool,
}

/// A delivery that waits.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Item {
    pub position: Position,
    pub due_at: Timestamp,
    pub class: Class,
    pub kind: Kind,
    /// It must be sent alone at its endpoint.
    pub suspect: bool,
    /// Ignored unless order is strict; without one it stands in no line.
    pub place: Option<Place>,
}

/// A delivery whose slot is taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Turn {
    pub endpoint: Key,
    pub position: Position,
    /// As the schedule means it: never later than the stored one, but for less than a microsecond.
    pub due_at: Timestamp,
    pub permit: Permit,
}

/// A slot, to be given back once by [`Queues::release`] or [`Queues::unreserve`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Permit {
    pub endpoint: Key,
    /// Nothing else of its endpoint is on its way.
    pub alone: bool,
    /// It finds out whether the endpoint is well again.
    pub probe: bool,
    /// The line that it keeps busy until [`Queues::end`] or [`Queues::insert`].
    pub line: Option<u64>,
    pub(super) client: Key,
    pub(super) made: u64,
    pub(super) generation: u64,
    pub(super) speed: Speed,
}

/// A place in a strict line for a delivery that is being committed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Expected {
    pub(super) endpoint: Key,
    pub(super) line: u64,
    pub(super) ticket: Ticket,
}

/// What came of sending, as far as it says something of the endpoint.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Feedback {
    /// 2xx, or a 4xx that refuses this one message.
    Lives { took: Duration },
    /// 5xx, a redirect, a 4xx that any message would have met with, a reset, TLS, blocked.
    Failed,
    /// It could not be connected to or resolved, or not in time.
    Unreachable,
    /// 429, or a 503 with a Retry-After; with what that asks for. Without it a failure.
    Throttled { until: Option<Timestamp> },
}
