//! Who is delivered to: what a client may set, what is kept confidential, and which events are wanted.

use std::collections::BTreeMap;
use std::fmt;
use std::sync::Arc;

use jiff::Timestamp;
pub use schema::webhooks::ONCALL;
use schema::webhooks::{
    CLIENT_ID_MAX, DisabledReason, EVENT_TYPE_MAX, OnExhausted, Ordering, RetryPolicy,
};
use serde::{Deserialize, Deserializer, Serialize};

use super::ids::{EndpointId, Position};

/// The type of the hub's routed events.
pub const PAGE_TYPE: &str = "signalpost.page";

pub const TIMEOUT_MS: u64 = 15_000;
pub const MAX_IN_FLIGHT: u32 = 64;

/// The type of the event that says that an endpoint was disabled.
pub const DISABLED_TYPE: &str = "endpoint.disabled";

/// The type of the event that says that a delivery was given up.
pub const EXHAUSTED_TYPE: &str = "delivery.exhausted";

/// What all other types of ours begin with.
const OURS: &str = "signalpost.";

/// What a client may set, as it is stored. A later release reads an earlier one's: a new field needs a default.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Settings {
    pub url: String,
    #[serde(default)]
    pub event_types: Option<Vec<Pattern>>,
    #[serde(default)]
    pub description: Option<String>,
    /// Absent: the operator's default, whatever it is at the time.
    #[serde(default)]
    pub retry: Option<RetryPolicy>,
    pub timeout_ms: u64,
    pub max_in_flight: u32,
    #[serde(default)]
    pub rate_limit_per_s: Option<u32>,
    pub ordering: Ordering,
    pub on_exhausted: OnExhausted,
}

/// The most secrets that sign beside the present one.
pub const PREVIOUS_MAX: usize = 5;

/// What is sealed at rest when a key is given, and never shown again.
#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Confidential {
    /// `whsec_…`
    pub secret: String,
    /// Those before, newest first, each while it signs too.
    #[serde(default, deserialize_with = "one_or_more")]
    pub previous: Vec<Previous>,
    #[serde(default)]
    pub headers: BTreeMap<String, String>,
}

/// An earlier release kept at most one, and wrote null for none.
fn one_or_more<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Previous>, D::Error> {
    #[derive(Deserialize)]
    #[serde(untagged)]
    enum Stored {
        More(Vec<Previous>),
        One(Option<Previous>),
    }
    Ok(match Stored::deserialize(deserializer)? {
        Stored::More(previous) => previous,
        Stored::One(previous) => previous.into_iter().collect(),
    })
}

#[derive(Clone, PartialEq, Serialize, Deserialize)]
pub struct Previous {
    pub secret: String,
    pub until: Timestamp,
}

impl fmt::Debug for Confidential {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Confidential([redacted])")
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disabled {
    pub reason: DisabledReason,
    pub at: Timestamp,
}

/// One destination of one client, as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Endpoint {
    /// Where in the lane's order it was made: its key in other rows.
    pub position: Position,
    pub endpoint_id: EndpointId,
    /// Its client's key.
    pub client: Position,
    pub client_id: Arc<str>,
    pub settings: Settings,
    pub confidential: Confidential,
    pub disabled: Option<Disabled>,
    pub created_at: Timestamp,
    pub updated_at: Timestamp,
    /// Where in the lane's order it was last changed.
    pub version: Position,
}

impl Endpoint {
    /// Whether an event is for this endpoint.
    pub fn wants(&self, event_type: &str, operational: bool) -> bool {
        match &self.settings.event_types {
            // What Signalpost says of itself is for those who ask for it.
            None => !operational,
            Some(patterns) => patterns.iter().any(|pattern| pattern.matches(event_type)),
        }
    }
}

/// `order.created`, or `order.*` for everything below `order.`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct Pattern(String);

impl Pattern {
    pub fn parse(text: &str) -> Option<Self> {
        let exact = text.strip_suffix(".*").unwrap_or(text);
        is_event_type(exact).then(|| Self(text.to_owned()))
    }

    pub fn matches(&self, event_type: &str) -> bool {
        match self.0.strip_suffix('*') {
            Some(below) => event_type.len() > below.len() && event_type.starts_with(below),
            None => event_type == self.0,
        }
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl TryFrom<String> for Pattern {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("an event type, or one with .* at its end")
    }
}

impl From<Pattern> for String {
    fn from(pattern: Pattern) -> Self {
        pattern.0
    }
}

/// Whether only Signalpost says it: nobody may post an event of the type, everybody may ask for it.
pub fn is_reserved_type(event_type: &str) -> bool {
    event_type.starts_with(OURS) || [DISABLED_TYPE, EXHAUSTED_TYPE].contains(&event_type)
}

/// One to 128 of `A-Z a-z 0-9 . _ -`.
pub fn is_event_type(text: &str) -> bool {
    is_name(text, EVENT_TYPE_MAX)
}

/// One to 64 of `A-Z a-z 0-9 . _ -`: the same as a key of the gateway can be bound to.
pub fn is_client_id(text: &str) -> bool {
    is_name(text, CLIENT_ID_MAX)
}

fn is_name(text: &str, longest: usize) -> bool {
    let allowed = |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'.' | b'_' | b'-');
    (1..=longest).contains(&text.len()) && text.bytes().all(allowed)
}

#[cfg(test)]
pub(crate) mod tests {
    use super::*;

    pub(crate) fn endpoint(event_types: Option<&[&str]>) -> Endpoint {
        Endpoint {
            position: 2,
            endpoint_id: EndpointId::mint(0, Timestamp::UNIX_EPOCH),
            client: 1,
            client_id: "acme".into(),
            settings: Settings {
                url: "https://acme.example/hook".to_owned(),
                event_types: event_types.map(|types| {
                    let parsed = types.iter().map(|text| Pattern::parse(text).unwrap());
                    parsed.collect()
                }),
                description: None,
                retry: None,
                timeout_ms: TIMEOUT_MS,
                max_in_flight: MAX_IN_FLIGHT,
                rate_limit_per_s: None,
                ordering: Ordering::None,
                on_exhausted: OnExhausted::Block,
            },
            confidential: Confidential {
                secret: "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz".to_owned(),
                previous: Vec::new(),
                headers: BTreeMap::new(),
            },
            disabled: None,
            created_at: Timestamp::UNIX_EPOCH,
            updated_at: Timestamp::UNIX_EPOCH,
            version: 2,
        }
    }

    #[test]
    fn an_endpoint_gets_what_it_asked_for() {
        let below = ["order.*"];
        let exact = ["order.created", "invoice.paid"];
        for (types, event_type, operational, wanted) in [
            (None, "order.created", false, true),
            (None, "delivery.exhausted", true, false),
            (Some(&below[..]), "order.created", false, true),
            (Some(&below[..]), "order.line.added", false, true),
            (Some(&below[..]), "order", false, false),
            (Some(&below[..]), "order.", false, false),
            (Some(&below[..]), "orders.created", false, false),
            (Some(&exact[..]), "invoice.paid", false, true),
            (Some(&exact[..]), "invoice.paid.late", false, false),
            (Some(&["delivery.*"][..]), "delivery.exhausted", true, true),
        ] {
            let found = endpoint(types).wants(event_type, operational);
            assert_eq!(found, wanted, "{types:?} {event_type}");
        }
    }

    #[test]
    fn what_the_hub_says_itself_is_reserved_and_nothing_that_only_looks_so() {
        for (event_type, reserved) in [
            ("signalpost.page", true),
            ("signalpost.test", true),
            ("signalpost.anything.later", true),
            ("signalpost.", true),
            ("delivery.exhausted", true),
            ("endpoint.disabled", true),
            ("signalpost", false),
            ("signalposts.page", false),
            ("Signalpost.page", false),
            ("my.signalpost.page", false),
            ("delivery.exhausted.late", false),
            ("endpoint.disabled_by_me", false),
            ("endpoint", false),
        ] {
            assert_eq!(is_reserved_type(event_type), reserved, "{event_type}");
        }
    }

    #[test]
    fn only_names_and_what_is_below_them_are_patterns() {
        for good in ["a", "order.created", "order.*", "a.b.c.*", "A-1_x"] {
            assert!(Pattern::parse(good).is_some(), "{good}");
        }
        for bad in [
            "",
            "*",
            ".*x",
            "order*",
            "a b",
            "ä",
            "a.*.b",
            &"x".repeat(129),
        ] {
            assert!(Pattern::parse(bad).is_none(), "{bad}");
        }
    }

    #[test]
    fn what_is_confidential_does_not_show() {
        let shown = format!("{:?}", endpoint(None));
        assert!(!shown.contains("whsec"), "{shown}");
    }
}
