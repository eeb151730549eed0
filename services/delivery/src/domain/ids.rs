//! Ids that callers see. Each carries its lane, so that a look-up goes to one.

use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
use uuid::Uuid;

/// A slice of all clients with one owner at a time; it begins every primary key. SQLite and memory have one, 0.
pub type Lane = u16;

/// A place in a lane's order of commits; grows, and is never used twice.
pub type Position = u64;

/// Declares an id: a prefix, three hex digits of its lane, then a time-ordered id.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $prefix:literal) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
        pub struct $name {
            pub lane: Lane,
            pub uuid: Uuid,
        }

        impl $name {
            pub fn mint(lane: Lane, now: Timestamp) -> Self {
                Self { lane, uuid: runtime::ids::time_ordered(now) }
            }

            /// One spelling only: upper case and dashes are not ours.
            pub fn parse(text: &str) -> Option<Self> {
                let (lane, uuid) = text.strip_prefix($prefix)?.split_at_checked(3)?;
                let id = Self {
                    lane: Lane::from_str_radix(lane, 16).ok()?,
                    uuid: Uuid::try_parse(uuid).ok()?,
                };
                (id.to_string() == text).then_some(id)
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                write!(f, concat!($prefix, "{:03x}{}"), self.lane, self.uuid.simple())
            }
        }
    };
}

id! {
    /// An event as delivery has it; its `webhook-id`, the same for every endpoint, attempt and replay.
    EventId, "evt_"
}
id! {
    /// A delivery's identity for ever.
    DeliveryId, "dlv_"
}
id! {
    /// A stored job.
    JobId, "job_"
}
id! {
    /// What a registered endpoint's id is made of.
    Registered, "ep_"
}

/// An endpoint's identity for ever: `ep_…`, or the name of one that is built in.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct EndpointId(Arc<str>);

/// The built-in endpoint; event-store knows it by this name, in `delivered_to`.
pub const PAGERDUTY: &str = "pagerduty";

impl EndpointId {
    pub fn mint(lane: Lane, now: Timestamp) -> Self {
        Self(Registered::mint(lane, now).to_string().into())
    }

    pub fn pagerduty() -> Self {
        Self(PAGERDUTY.into())
    }

    pub fn parse(text: &str) -> Option<Self> {
        (text == PAGERDUTY || Registered::parse(text).is_some()).then(|| Self(text.into()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// Set by configuration, not by a client: its URL is the operator's.
    pub fn is_built_in(&self) -> bool {
        &*self.0 == PAGERDUTY
    }
}

impl fmt::Display for EndpointId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
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
            &text.replace("dlv", "evt"),
        ] {
            assert_eq!(DeliveryId::parse(other), None, "{other:?}");
        }
    }

    #[test]
    fn a_later_id_sorts_after() {
        let earlier = EventId::mint(0, Timestamp::UNIX_EPOCH);
        let later = EventId::mint(0, Timestamp::from_millisecond(1).unwrap());
        assert!(earlier < later);
    }

    #[test]
    fn an_endpoint_is_registered_or_built_in() {
        let minted = EndpointId::mint(0, Timestamp::UNIX_EPOCH);
        assert_eq!(EndpointId::parse(minted.as_str()), Some(minted.clone()));
        assert!(!minted.is_built_in());
        assert!(EndpointId::parse("pagerduty").unwrap().is_built_in());
        assert_eq!(EndpointId::parse("slack"), None);
    }
}
