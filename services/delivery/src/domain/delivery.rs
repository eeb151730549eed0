//! What a delivery is about: its ids, and the event it carries.

use std::fmt;

use bytes::Bytes;
use jiff::Timestamp;
use schema::{CorrelationId, EventId};
use uuid::Uuid;

/// A slice of all clients with one owner at a time; it begins every primary key. SQLite and memory have one, 0.
pub type Lane = u16;

/// A place in a lane's order of commits; grows, and is never used twice.
pub type Position = u64;

/// A delivery's identity for ever: `dlv_`, three hex digits of its lane, then a time-ordered id.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct DeliveryId {
    pub lane: Lane,
    pub uuid: Uuid,
}

const PREFIX: &str = "dlv_";

impl DeliveryId {
    pub fn mint(lane: Lane, now: Timestamp) -> Self {
        Self {
            lane,
            uuid: runtime::ids::time_ordered(now),
        }
    }

    pub fn parse(text: &str) -> Option<Self> {
        let (lane, uuid) = text.strip_prefix(PREFIX)?.split_at_checked(3)?;
        let id = Self {
            lane: Lane::from_str_radix(lane, 16).ok()?,
            uuid: Uuid::try_parse(uuid).ok()?,
        };
        // One spelling only: upper case and dashes are not ours.
        (id.to_string() == text).then_some(id)
    }
}

impl fmt::Display for DeliveryId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{PREFIX}{:03x}{}", self.lane, self.uuid.simple())
    }
}

/// The event a delivery carries. Its payload is sent byte for byte as it came, on every attempt (R9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    pub event_id: EventId,
    pub revision: u32,
    pub correlation_id: CorrelationId,
    pub stored_at: Timestamp,
    pub payload: Bytes,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_id_is_read_back_with_its_lane_and_any_other_spelling_is_not() {
        let id = DeliveryId::mint(63, Timestamp::UNIX_EPOCH);
        let text = id.to_string();
        assert!(text.starts_with("dlv_03f"));
        assert_eq!(DeliveryId::parse(&text), Some(id));
        for other in [
            "",
            "dlv_",
            "dlv_0é",
            &text[4..],
            &text[..text.len() - 1],
            &text.to_uppercase(),
        ] {
            assert_eq!(DeliveryId::parse(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_later_id_sorts_after() {
        let earlier = DeliveryId::mint(0, Timestamp::UNIX_EPOCH);
        let later = DeliveryId::mint(0, Timestamp::from_millisecond(1).unwrap());
        assert!(earlier < later);
    }
}
