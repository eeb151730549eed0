//! Reading and normalizing, over tables, real samples and chance.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::fs;
use std::path::{Path, PathBuf};

use proptest::prelude::*;
use schema::{Event, Kind, Severity};
use stripe_ingester::domain::normalize::normalize;
use stripe_ingester::domain::parse::parse;

fn normalized(body: &str) -> Event {
    normalize(&parse(body.as_bytes()).unwrap())
}

fn with_object(event_type: &str, object: &str) -> Event {
    normalized(&format!(
        r#"{{"id":"evt_1","object":"event","type":"{event_type}","created":1705315200,"data":{{"object":{object}}}}}"#
    ))
}

#[test]
fn the_type_alone_decides_the_severity() {
    for (event_type, severity) in [
        ("payout.failed", Severity::Critical),
        ("payment_intent.payment_failed", Severity::Warning),
        ("payout.failed.v2", Severity::Info),
        ("PAYOUT.FAILED", Severity::Info),
        ("payout.paid", Severity::Info),
        ("nobody.knows.this", Severity::Info),
    ] {
        let event = with_object(event_type, r#"{"id":"po_1"}"#);
        assert_eq!(event.severity, severity, "{event_type}");
        assert_eq!(event.kind, Kind::Payment);
    }
}

#[test]
fn the_summary_names_the_object_as_well_as_it_can() {
    for (object, summary) in [
        (r#"{"id":"po_1","object":"payout"}"#, "a.b: po_1"),
        (r#"{"object":"balance"}"#, "a.b: balance"),
        (r#"{"id":null,"object":"balance"}"#, "a.b: balance"),
        (r#"{"id":"","object":"balance"}"#, "a.b: balance"),
        (r#"{"id":7,"object":"balance"}"#, "a.b: balance"),
        ("{}", "a.b"),
        ("null", "a.b"),
        ("[1]", "a.b"),
        (r#"{"id":"po\n_1\u0000"}"#, "a.b: po _1 "),
    ] {
        assert_eq!(with_object("a.b", object).summary, summary, "{object}");
    }
}

#[test]
fn the_description_is_the_failure_message_where_there_is_one() {
    for (object, description) in [
        (r#"{"failure_message":"no funds"}"#, Some("no funds")),
        (
            r#"{"failure_message":"a","last_payment_error":{"message":"b"}}"#,
            Some("a"),
        ),
        (
            r#"{"failure_message":null,"last_payment_error":{"message":"b"}}"#,
            Some("b"),
        ),
        (r#"{"last_setup_error":{"message":"c"}}"#, Some("c")),
        (r#"{"last_finalization_error":{"message":"d"}}"#, Some("d")),
        (r#"{"last_payment_error":{"code":"x"}}"#, None),
        (r#"{"last_payment_error":null}"#, None),
        (r#"{"last_payment_error":"text"}"#, None),
        (r#"{"failure_message":{"a":1}}"#, None),
        (r#"{"failure_message":""}"#, None),
        ("{}", None),
        (
            r#"{"failure_message":"\u001b[31mred\r\n"}"#,
            Some(" [31mred  "),
        ),
    ] {
        let event = with_object("payout.failed", object);
        assert_eq!(event.description.as_deref(), description, "{object}");
    }
}

#[test]
fn long_texts_are_cut_by_characters() {
    let long = "é".repeat(10_000);

    let event = with_object(
        "a.b",
        &format!(r#"{{"id":"{long}","failure_message":"{long}"}}"#),
    );

    assert_eq!(event.summary.chars().count(), 1024);
    assert_eq!(event.description.unwrap().chars().count(), 4096);
}

#[test]
fn a_thin_event_is_told_by_what_it_relates_to() {
    let thin = |related: &str| {
        normalized(&format!(
            r#"{{"id":"evt_1","object":"v2.core.event","type":"payout.failed.thin","created":"2024-01-15T10:40:00.5Z"{related}}}"#
        ))
    };
    for (related, summary) in [
        (
            r#","related_object":{"id":"mtr_1","type":"billing.meter"}"#,
            "payout.failed.thin: mtr_1",
        ),
        (
            r#","related_object":{"type":"billing.meter"}"#,
            "payout.failed.thin: billing.meter",
        ),
        (r#","related_object":null"#, "payout.failed.thin"),
        ("", "payout.failed.thin"),
    ] {
        let event = thin(related);
        assert_eq!(event.summary, summary);
        assert_eq!(event.severity, Severity::Info);
        assert_eq!(event.started_at.to_string(), "2024-01-15T10:40:00.5Z");
    }
}

#[test]
fn a_refusal_says_what_is_wrong() {
    for (body, said) in [
        ("[]", "not a JSON object"),
        ("{}", "missing field `id`"),
        (r#"{"id":"a b","type":"t","created":1}"#, "`id`"),
        (r#"{"id":"e","type":"","created":1}"#, "`type`"),
        (r#"{"id":"e","type":"t","created":"x"}"#, "`created`"),
        (r#"{"id":"e","type":"t","created":1,"data":[]}"#, "`data`"),
        (
            r#"{"id":"e","type":"t","created":1,"object":"o"}"#,
            "`object`",
        ),
        (r#"{"id":"e","id":"e"}"#, "duplicate field `id`"),
    ] {
        let fault = parse(body.as_bytes()).unwrap_err().to_string();
        assert!(fault.contains(said), "{body}: {fault}");
    }
}

/// Every `.json` below a folder.
fn samples(folder: &Path, found: &mut Vec<PathBuf>) {
    for entry in fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            samples(&path, found);
        } else if path
            .extension()
            .is_some_and(|extension| extension == "json")
        {
            found.push(path);
        }
    }
}

#[test]
fn every_sampled_event_is_normalized() {
    let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../../shared/samples/stripe");
    if !folder.is_dir() {
        println!("skipped: {} is not here", folder.display());
        return;
    }
    let mut paths = Vec::new();
    samples(&folder, &mut paths);
    paths.retain(|path| !path.ends_with("signature_vectors.json"));
    assert!(paths.len() > 50, "only {} samples", paths.len());

    for path in paths {
        let body = fs::read(&path).unwrap();
        let event = normalize(&parse(&body).unwrap_or_else(|fault| panic!("{path:?}: {fault}")));

        let whole: serde_json::Value = serde_json::from_slice(&body).unwrap();
        assert_eq!(event.event_id.as_str(), whole["id"], "{path:?}");
        assert_eq!(event.started_at.as_second(), whole["created"], "{path:?}");
        let object = &whole["data"]["object"];
        let about = object["id"].as_str().or(object["object"].as_str());
        let event_type = whole["type"].as_str().unwrap();
        assert_eq!(
            event.summary,
            format!("{event_type}: {}", about.unwrap()),
            "{path:?}"
        );
        assert_eq!(event.raw.get().as_bytes(), body.trim_ascii(), "{path:?}");
    }
}

/// JSON texts in which the odd scalars are common.
fn json() -> impl Strategy<Value = String> {
    let scalar = prop_oneof![
        r#""([a-z]|\\n|\\\\|\\u[0-9a-f]{4}|\\u[dD][89ab][0-9a-f]{2}\\u[dD][c-f][0-9a-f]{2}|\\u[dD][89a-f][0-9a-f]{2})*""#,
        r"-?(0|[1-9][0-9]{0,30})(\.[0-9]{1,30})?([eE][+-]?[0-9]{1,3})?",
        r"-?[1-9][0-9]{290,320}",
        "null|true|01|nul",
    ];
    scalar.prop_recursive(6, 64, 8, |value| {
        prop_oneof![
            prop::collection::vec(value.clone(), 0..8)
                .prop_map(|values| format!("[{}]", values.join(","))),
            prop::collection::vec(value, 0..8).prop_map(|values| {
                let named = values.iter().enumerate();
                let members: Vec<_> = named.map(|(n, value)| format!("\"{n}\":{value}")).collect();
                format!("{{ {} }}", members.join(" , "))
            }),
        ]
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2000))]

    /// What is stored can be read later by whoever parses it whole, and nothing else is turned away.
    #[test]
    fn a_body_is_taken_if_and_only_if_a_whole_parse_takes_it(x in json()) {
        let body = format!(r#"{{"id":"evt_1","type":"t","created":1,"x":{x}}}"#);
        let whole = serde_json::from_str::<serde_json::Value>(&body);

        let taken = parse(body.as_bytes());

        prop_assert_eq!(taken.is_ok(), whole.is_ok(), "{:?} {:?}", taken.err(), whole.err());
    }

    #[test]
    fn any_bytes_get_an_answer(bytes in prop::collection::vec(any::<u8>(), 0..64)) {
        prop_assert!(parse(&bytes).is_err());
        let inside = [&br#"{"id":"evt_1","type":"t","created":1,"x":"#[..], &bytes, b"}"].concat();
        // Whether it is taken depends; that it returns is the claim.
        let _verdict = parse(&inside);
    }
}
