//! The normalized event: one shape for payments, incidents and component states.

use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

/// The longest event id, in bytes.
pub const EVENT_ID_MAX: usize = 255;

/// An event's identity for ever: Stripe's own id, or `{source}:incident:{id}` and the like.
/// One to 255 of `A-Z a-z 0-9 _ . : -`.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String, pattern = "^[A-Za-z0-9_.:-]{1,255}$"))]
pub struct EventId(String);

impl EventId {
    pub fn parse(text: &str) -> Option<Self> {
        let allowed =
            |byte: u8| byte.is_ascii_alphanumeric() || matches!(byte, b'_' | b'.' | b':' | b'-');
        ((1..=EVENT_ID_MAX).contains(&text.len()) && text.bytes().all(allowed))
            .then(|| Self(text.to_owned()))
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }

    /// What decides the lane: the part before the first `:`, or the whole id, so that one status page is one lane.
    pub fn lane_key(&self) -> &str {
        self.0.split(':').next().unwrap_or_default()
    }
}

impl fmt::Display for EventId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for EventId {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("an event_id is 1 to 255 of A-Z a-z 0-9 _ . : -")
    }
}

/// Who said it: `stripe`, or `{vendor}_status` for a status page.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String")]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema), schema(value_type = String, example = "spreedly_status"))]
pub struct Source(String);

impl Source {
    pub fn stripe() -> Self {
        Self("stripe".to_owned())
    }

    /// `None` unless the vendor is one to 48 of `a-z 0-9 _`.
    pub fn status_page(vendor: &str) -> Option<Self> {
        let allowed = |byte: u8| byte.is_ascii_lowercase() || byte.is_ascii_digit() || byte == b'_';
        ((1..=48).contains(&vendor.len()) && vendor.bytes().all(allowed))
            .then(|| Self(format!("{vendor}_status")))
    }

    pub fn parse(text: &str) -> Option<Self> {
        if text == "stripe" {
            return Some(Self::stripe());
        }
        Self::status_page(text.strip_suffix("_status")?)
    }

    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl fmt::Display for Source {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0)
    }
}

impl TryFrom<String> for Source {
    type Error = &'static str;

    fn try_from(text: String) -> Result<Self, Self::Error> {
        Self::parse(&text).ok_or("a source is `stripe` or `{vendor}_status`")
    }
}

/// Declares an enum whose wire form, text form and parser are one table.
macro_rules! words {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:tt),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord, serde::Serialize, serde::Deserialize)]
        #[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
        pub enum $name { $($(#[$variant_doc])* #[serde(rename = $word)] $variant),+ }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                f.write_str(self.as_str())
            }
        }
    };
}
pub(crate) use words;

words! {
    /// What an event is about.
    Kind { Incident = "incident", Status = "status", Payment = "payment" }
}

words! {
    /// How bad it is; the order is the order of badness.
    Severity { Info = "info", Warning = "warning", Critical = "critical" }
}

/// One normalized event. Every field must be present on the wire, with its type; further ones are ignored.
///
/// `raw` is the vendor's own JSON, kept as the bytes that came.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Event {
    pub event_id: EventId,
    pub source: Source,
    pub kind: Kind,
    pub severity: Severity,
    pub service: String,
    pub summary: String,
    #[serde(deserialize_with = "present")]
    #[cfg_attr(feature = "openapi", schema(required))]
    pub description: Option<String>,
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub started_at: Timestamp,
    #[serde(deserialize_with = "present")]
    #[cfg_attr(feature = "openapi", schema(required, value_type = Option<String>, format = DateTime))]
    pub resolved_at: Option<Timestamp>,
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value))]
    pub raw: Box<RawValue>,
}

/// Null is a value; absence is a mistake.
fn present<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<T>, D::Error> {
    Option::deserialize(deserializer)
}

/// One event as `GET /events` tells it: the schema's fields, the routing decision, then metadata.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EventView {
    pub event_id: EventId,
    pub source: Source,
    pub kind: Kind,
    pub severity: Severity,
    pub service: String,
    pub summary: String,
    #[cfg_attr(feature = "openapi", schema(required))]
    pub description: Option<String>,
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub started_at: Timestamp,
    #[cfg_attr(feature = "openapi", schema(required, value_type = Option<String>, format = DateTime))]
    pub resolved_at: Option<Timestamp>,
    /// Whether the decision was to page.
    pub routed: bool,
    /// The destinations that have answered 2xx.
    pub delivered_to: Vec<String>,
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value))]
    pub raw: Box<RawValue>,
    /// When the event was first stored.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub stored_at: Timestamp,
    pub revision: u32,
    pub correlation_id: crate::CorrelationId,
    /// What each destination has answered so far; told for one event only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliveries: Option<Vec<crate::delivery::DeliveryState>>,
}

/// A page of events, newest first.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EventsPage {
    pub events: Vec<EventView>,
    /// Asks for the next page; null on the last one.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub next_cursor: Option<String>,
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"event_id":"evt_1","source":"stripe","kind":"payment","severity":"info","service":"stripe","summary":"s","description":null,"started_at":"2024-01-15T10:40:00Z","resolved_at":null,"raw":{"b":1.0,"a":2}}"#;

    #[test]
    fn an_event_survives_the_wire_byte_for_byte() {
        let event: Event = serde_json::from_str(EVENT).unwrap();
        assert_eq!(serde_json::to_string(&event).unwrap(), EVENT);
    }

    #[test]
    fn a_missing_or_mistyped_field_is_refused_and_a_further_one_is_not() {
        for (field, wrong) in [
            ("event_id", "\"a b\""),
            ("source", "\"Stripe\""),
            ("kind", "\"outage\""),
            ("severity", "1"),
            ("service", "null"),
            ("summary", "7"),
            ("description", "{}"),
            ("started_at", "1705315200"),
            ("resolved_at", "\"yesterday\""),
        ] {
            let mut map: serde_json::Map<String, serde_json::Value> =
                serde_json::from_str(EVENT).unwrap();
            map.insert(field.to_owned(), serde_json::from_str(wrong).unwrap());
            assert!(
                serde_json::from_value::<Event>(map.clone().into()).is_err(),
                "{field} = {wrong}"
            );
            map.remove(field);
            assert!(
                serde_json::from_str::<Event>(&serde_json::to_string(&map).unwrap()).is_err(),
                "{field} missing"
            );
        }
        let longer = EVENT.replacen('{', r#"{"extra":1,"#, 1);
        assert!(serde_json::from_str::<Event>(&longer).is_ok());
    }

    #[test]
    fn one_status_page_is_one_lane_and_stripe_is_spread() {
        assert_eq!(
            EventId::parse("github_status:incident:abc")
                .unwrap()
                .lane_key(),
            "github_status"
        );
        assert_eq!(EventId::parse("evt_1abc").unwrap().lane_key(), "evt_1abc");
    }
}
