//! One item of a batch, read strictly.

use std::fmt;
use std::marker::PhantomData;

use schema::{CorrelationId, Event, intake};
use serde::de::value::MapAccessDeserializer;
use serde::de::{MapAccess, Visitor};
use serde::{Deserialize, Deserializer};

/// Reads one item; the error says what is wrong with it.
pub fn parse(item: &str) -> Result<intake::Submission, String> {
    #[derive(Deserialize)]
    struct Item {
        correlation_id: CorrelationId,
        deadline_ms: u64,
        event: Object<Event>,
    }
    let Object(item): Object<Item> =
        serde_json::from_str(item).map_err(|fault| fault.to_string())?;
    Ok(intake::Submission {
        correlation_id: item.correlation_id,
        deadline_ms: item.deadline_ms,
        event: item.event.0,
    })
}

/// A JSON object and nothing else: serde would also read an array as a struct, field by field.
struct Object<T>(T);

impl<'de, T: Deserialize<'de>> Deserialize<'de> for Object<T> {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct OnlyMap<T>(PhantomData<T>);

        impl<'de, T: Deserialize<'de>> Visitor<'de> for OnlyMap<T> {
            type Value = Object<T>;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("an object")
            }

            fn visit_map<A: MapAccess<'de>>(self, map: A) -> Result<Object<T>, A::Error> {
                T::deserialize(MapAccessDeserializer::new(map)).map(Object)
            }
        }

        deserializer.deserialize_map(OnlyMap(PhantomData))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const EVENT: &str = r#"{"event_id":"evt_1","source":"stripe","kind":"payment","severity":"info","service":"s","summary":"s","description":null,"started_at":"2024-01-15T10:40:00Z","resolved_at":null,"raw":{"b": 1.0,"a":18446744073709551616}}"#;

    #[test]
    fn a_submission_is_read_with_its_raw_bytes() {
        let item = format!(r#"{{"correlation_id":"c1","deadline_ms":8000,"event":{EVENT}}}"#);

        let submission = parse(&item).unwrap();

        assert_eq!(submission.correlation_id.as_str(), "c1");
        assert_eq!(
            submission.event.raw.get(),
            r#"{"b": 1.0,"a":18446744073709551616}"#
        );
    }

    #[test]
    fn what_is_not_a_submission_is_refused() {
        for item in [
            "null".to_owned(),
            "[]".to_owned(),
            format!(r#"["c1",8000,{EVENT}]"#),
            format!(r#"{{"correlation_id":"c 1","deadline_ms":8000,"event":{EVENT}}}"#),
            format!(r#"{{"correlation_id":"c1","deadline_ms":-1,"event":{EVENT}}}"#),
            r#"{"correlation_id":"c1","deadline_ms":8000}"#.to_owned(),
            r#"{"correlation_id":"c1","deadline_ms":8000,"event":["evt_1","stripe","payment","info","s","s",null,"2024-01-15T10:40:00Z",null,{}]}"#.to_owned(),
            format!(
                r#"{{"correlation_id":"c1","deadline_ms":8000,"event":{}}}"#,
                EVENT.replace("\"info\"", "\"INFO\"")
            ),
        ] {
            assert!(parse(&item).is_err(), "{item}");
        }
    }
}
