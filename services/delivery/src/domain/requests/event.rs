//! What an event is asked to be.

use bytes::Bytes;
use jiff::Timestamp;
use runtime::shape;
use schema::webhooks::{KEY_MAX, NewEvent, PAYLOAD_MAX};
use serde_json::json;
use sha2::{Digest as _, Sha256};

use super::Refusal;
use crate::domain::endpoint::{Endpoint, ONCALL, is_client_id, is_event_type, is_reserved_type};

/// The type of what [`test_event`] makes.
pub const TEST_TYPE: &str = "signalpost.test";

/// An event as it can be accepted.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CheckedEvent {
    pub client_id: String,
    pub event_type: String,
    /// As it came (R9).
    pub payload: Bytes,
    pub key: Option<String>,
    /// Of everything that makes two events with the same key the same.
    pub digest: [u8; 16],
    pub ordering_key: Option<String>,
    pub occurred_at: Option<Timestamp>,
}

/// Reads one of a batch, from the text of any JSON value.
pub fn read_event(text: &str) -> Result<NewEvent, Refusal> {
    // serde would also read an array as an event, field by field.
    if !text.starts_with('{') {
        return Err(Refusal::Payload("an event is a JSON object".to_owned()));
    }
    serde_json::from_str(text).map_err(|fault| Refusal::Payload(fault.to_string()))
}

/// Checks an event; `header` is what the request's Idempotency-Key says.
pub fn check_event(told: NewEvent, header: Option<&str>) -> Result<CheckedEvent, Refusal> {
    if !is_client_id(&told.client_id) {
        return Err(Refusal::Payload(
            "client_id is 1 to 64 of A-Z a-z 0-9 . _ -".to_owned(),
        ));
    }
    if !is_event_type(&told.event_type) {
        return Err(Refusal::Payload(
            "event_type is 1 to 128 of A-Z a-z 0-9 . _ -".to_owned(),
        ));
    }
    if told.client_id == ONCALL {
        return Err(Refusal::Reserved(
            "the client oncall takes pages alone, and those from the hub",
        ));
    }
    if is_reserved_type(&told.event_type) {
        return Err(Refusal::Reserved(
            "event types that begin with signalpost., delivery.exhausted and endpoint.disabled are the hub's own",
        ));
    }
    let payload = Box::<str>::from(told.payload).into_string();
    if payload.len() > PAYLOAD_MAX {
        return Err(Refusal::TooLarge(PAYLOAD_MAX));
    }
    shape::check(payload.as_bytes())?;
    let key = agreed(told.idempotency_key, header)?;
    check_key("idempotency_key", key.as_deref())?;
    check_key("ordering_key", told.ordering_key.as_deref())?;
    Ok(CheckedEvent {
        digest: digest(
            &told.event_type,
            payload.as_bytes(),
            told.ordering_key.as_deref(),
            told.occurred_at,
        ),
        client_id: told.client_id,
        event_type: told.event_type,
        payload: payload.into(),
        key,
        ordering_key: told.ordering_key,
        occurred_at: told.occurred_at,
    })
}

/// An event for one endpoint alone, to see whether it listens.
pub fn test_event(endpoint: &Endpoint, now: Timestamp) -> CheckedEvent {
    let payload = json!({
        "type": TEST_TYPE,
        "endpoint_id": endpoint.endpoint_id.as_str(),
        "at": now,
    })
    .to_string();
    CheckedEvent {
        digest: digest(TEST_TYPE, payload.as_bytes(), None, None),
        client_id: endpoint.client_id.to_string(),
        event_type: TEST_TYPE.to_owned(),
        payload: payload.into(),
        key: None,
        ordering_key: None,
        occurred_at: None,
    }
}

/// The one key of a body's field and a request's header.
fn agreed(field: Option<String>, header: Option<&str>) -> Result<Option<String>, Refusal> {
    match (field, header) {
        (Some(field), Some(header)) if field != header => Err(Refusal::Payload(
            "idempotency_key and the header Idempotency-Key differ: give one of them".to_owned(),
        )),
        (field, header) => Ok(field.or_else(|| header.map(str::to_owned))),
    }
}

fn check_key(name: &str, key: Option<&str>) -> Result<(), Refusal> {
    let fits = |key: &str| {
        (1..=KEY_MAX).contains(&key.len()) && key.bytes().all(|byte| byte.is_ascii_graphic())
    };
    if key.is_none_or(fits) {
        return Ok(());
    }
    Err(Refusal::Payload(format!(
        "{name} is 1 to {KEY_MAX} visible ASCII characters"
    )))
}

/// Each part with its length before it, so that no two events are one text.
fn digest(
    event_type: &str,
    payload: &[u8],
    ordering_key: Option<&str>,
    occurred_at: Option<Timestamp>,
) -> [u8; 16] {
    let occurred_at = occurred_at.map(|at| at.as_nanosecond().to_be_bytes());
    let mut hash = Sha256::new();
    for part in [
        event_type.as_bytes(),
        payload,
        ordering_key.unwrap_or_default().as_bytes(),
        occurred_at.as_ref().map_or(&[], |at| at.as_slice()),
    ] {
        hash.update(part.len().to_be_bytes());
        hash.update(part);
    }
    let mut first = [0; 16];
    first.copy_from_slice(&hash.finalize()[..16]);
    first
}

#[cfg(test)]
mod tests {
    use serde_json::Value;

    use super::*;
    use crate::domain::endpoint::tests::endpoint;

    fn told(text: &str) -> Result<CheckedEvent, Refusal> {
        check_event(read_event(text)?, None)
    }

    /// An event that says what `more` says.
    fn asked(more: Value) -> Result<CheckedEvent, Refusal> {
        let mut body = json!({"client_id": "acme", "event_type": "order.created", "payload": 1});
        let fields = more.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(fields);
        told(&body.to_string())
    }

    #[test]
    fn a_payload_keeps_its_bytes() {
        for payload in [r#"{"b":1.0,  "a":"\u00e9"}"#, "null", "[ ]", "\"é\""] {
            let text = format!(r#"{{"client_id":"a","event_type":"t","payload": {payload} }}"#);
            assert_eq!(told(&text).unwrap().payload, payload.as_bytes());
        }
    }

    #[test]
    fn what_is_malformed_is_refused_and_what_is_at_its_bound_is_not() {
        let nested = |depth| format!("{}{}", "[".repeat(depth), "]".repeat(depth));
        let deep = |depth| serde_json::from_str::<Value>(&nested(depth)).unwrap();
        for (more, taken) in [
            (json!({"client_id": "A-z_0.9"}), true),
            (json!({"client_id": "c".repeat(64)}), true),
            (json!({"client_id": "c".repeat(65)}), false),
            (json!({"client_id": ""}), false),
            (json!({"client_id": "a/b"}), false),
            (json!({"client_id": 5}), false),
            (json!({"event_type": "t".repeat(128)}), true),
            (json!({"event_type": "t".repeat(129)}), false),
            (json!({"event_type": "order.*"}), false),
            (json!({"payload": deep(64)}), true),
            (json!({"payload": deep(65)}), false),
            (json!({"idempotency_key": "!~"}), true),
            (json!({"idempotency_key": "k".repeat(255)}), true),
            (json!({"idempotency_key": "k".repeat(256)}), false),
            (json!({"idempotency_key": ""}), false),
            (json!({"idempotency_key": "a b"}), false),
            (json!({"ordering_key": "k".repeat(255)}), true),
            (json!({"ordering_key": "k".repeat(256)}), false),
            (json!({"ordering_key": ""}), false),
            (json!({"ordering_key": "é"}), false),
            (json!({"occurred_at": "2026-01-01T00:00:00Z"}), true),
            (json!({"occurred_at": "yesterday"}), false),
            (json!({"unknown": 1}), false),
        ] {
            let found = asked(more.clone());
            assert_eq!(found.is_ok(), taken, "{more}: {found:?}");
            let malformed = matches!(found, Ok(_) | Err(Refusal::Payload(_)));
            assert!(malformed, "{more}: {found:?}");
        }
    }

    #[test]
    fn what_the_hub_says_itself_nobody_may_post() {
        for more in [
            json!({"client_id": "oncall"}),
            json!({"event_type": "signalpost.page"}),
            json!({"event_type": "signalpost.later"}),
            json!({"event_type": "delivery.exhausted"}),
            json!({"event_type": "endpoint.disabled"}),
            // Whatever else is wrong with it.
            json!({"client_id": "oncall", "idempotency_key": ""}),
        ] {
            let found = asked(more.clone());
            let reserved = matches!(found, Err(Refusal::Reserved(_)));
            assert!(reserved, "{more}: {found:?}");
        }
        for more in [
            json!({"client_id": "oncall2"}),
            json!({"client_id": "Oncall"}),
            json!({"event_type": "signalpost"}),
        ] {
            assert!(asked(more.clone()).is_ok(), "{more}");
        }
    }

    #[test]
    fn what_is_no_event_is_refused() {
        for text in [
            "null",
            "[]",
            r#"["acme","order.created",1]"#,
            "{}",
            r#"{"client_id":"acme","event_type":"t"}"#,
        ] {
            let found = told(text);
            assert!(
                matches!(found, Err(Refusal::Payload(_))),
                "{text}: {found:?}"
            );
        }
    }

    #[test]
    fn a_payload_may_be_so_long_and_no_longer() {
        for (length, taken) in [(PAYLOAD_MAX, true), (PAYLOAD_MAX + 1, false)] {
            let found = asked(json!({"payload": "x".repeat(length - 2)}));
            assert_eq!(found.is_ok(), taken, "{length}");
            let fault = found.err();
            let too_large = matches!(fault, None | Some(Refusal::TooLarge(_)));
            assert!(too_large, "{length}: {fault:?}");
        }
    }

    #[test]
    fn a_key_is_given_in_the_body_or_the_header_and_where_both_are_they_agree() {
        for (field, header, key) in [
            (None, None, Ok(None)),
            (Some("a"), None, Ok(Some("a"))),
            (None, Some("a"), Ok(Some("a"))),
            (Some("a"), Some("a"), Ok(Some("a"))),
            (Some("a"), Some("b"), Err(())),
            (None, Some(""), Err(())),
            (None, Some("a b"), Err(())),
        ] {
            let body = json!({
                "client_id": "acme", "event_type": "t", "payload": 1, "idempotency_key": field,
            });
            let found = check_event(read_event(&body.to_string()).unwrap(), header);
            let found = found.map(|event| event.key).map_err(drop);
            let expected = key.map(|key| key.map(str::to_owned));
            assert_eq!(found, expected, "{field:?} {header:?}");
        }
    }

    #[test]
    fn two_events_are_the_same_by_what_they_say_and_not_by_their_key() {
        let digest = |more: Value| asked(more).unwrap().digest;
        let first = digest(json!({}));
        assert_eq!(first, digest(json!({"idempotency_key": "a"})));
        assert_eq!(first, digest(json!({"client_id": "other"})));
        let others = [
            json!({"event_type": "order.create", "payload": "d1"}),
            json!({"event_type": "order.created1"}),
            json!({"payload": 2}),
            json!({"payload": 1.0}),
            json!({"ordering_key": "1"}),
            json!({"occurred_at": "1970-01-01T00:00:00Z"}),
            json!({"occurred_at": "1970-01-01T00:00:00.000000001Z"}),
        ];
        let mut seen = vec![first];
        seen.extend(others.map(digest));
        let distinct: std::collections::HashSet<_> = seen.iter().collect();
        assert_eq!(distinct.len(), seen.len());
    }

    #[test]
    fn the_same_moment_is_the_same_however_it_is_written() {
        let digest = |at: &str| asked(json!({"occurred_at": at})).unwrap().digest;
        assert_eq!(
            digest("2026-01-01T00:00:00Z"),
            digest("2026-01-01T02:00:00+02:00")
        );
    }

    #[test]
    fn a_test_says_what_it_is_and_to_whom() {
        let endpoint = endpoint(None);
        let event = test_event(&endpoint, Timestamp::UNIX_EPOCH);
        let payload: Value = serde_json::from_slice(&event.payload).unwrap();
        assert_eq!(event.client_id, "acme");
        assert_eq!(event.event_type, "signalpost.test");
        assert_eq!(
            payload,
            json!({
                "type": "signalpost.test",
                "endpoint_id": endpoint.endpoint_id.as_str(),
                "at": "1970-01-01T00:00:00Z",
            })
        );
    }
}
