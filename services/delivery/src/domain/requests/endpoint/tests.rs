use serde_json::{Value, json};

use super::*;
use crate::domain::egress::UrlRefusal;
use crate::domain::endpoint::tests::endpoint as stored;
use crate::domain::ids::EndpointId;

const MINTED: [u8; 32] = [7; 32];
const SECRET: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";
const OTHER: &str = "whsec_YWJjZGVmZ2hpamFiY2RlZmdoaWphYmNk";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A new endpoint that says what `told` says.
fn new(told: Value) -> Result<CheckedEndpoint, Refusal> {
    let mut body = json!({"url": "https://acme.example/hook"});
    let fields = told.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(fields);
    let told = serde_json::from_value(body).unwrap();
    check_endpoint(told, &Defaults::default(), MINTED)
}

fn change(endpoint: &Endpoint, told: Value) -> Result<Endpoint, Refusal> {
    let told = serde_json::from_value(told).unwrap();
    changed(endpoint, &told, &Defaults::default(), at(9))
}

fn rotate(endpoint: &Endpoint, told: Value) -> Result<Endpoint, Refusal> {
    rotate_at(9, endpoint, told)
}

fn rotate_at(second: i64, endpoint: &Endpoint, told: Value) -> Result<Endpoint, Refusal> {
    let told = serde_json::from_value(told).unwrap();
    rotated(endpoint, &told, MINTED, at(second))
}

/// A secret that is no other number's.
fn numbered(number: u8) -> String {
    Key::from_bytes(vec![number; 24]).unwrap().to_secret()
}

/// Each setting at, and beyond, its bounds.
fn bounds() -> Vec<(Value, bool)> {
    let types = |count: usize| vec!["order.*"; count];
    vec![
        (json!({"event_types": types(1)}), true),
        (json!({"event_types": types(100)}), true),
        (json!({"event_types": types(101)}), false),
        (json!({"event_types": ["order*"]}), false),
        (json!({"description": "é".repeat(500)}), true),
        (json!({"description": "é".repeat(501)}), false),
        (json!({"retry": {"schedule_s": [0]}}), true),
        (json!({"retry": {"schedule_s": []}}), false),
        (json!({"retry": {"base_s": 1}}), false),
        (json!({"timeout_ms": 100}), true),
        (json!({"timeout_ms": 30_000}), true),
        (json!({"timeout_ms": 99}), false),
        (json!({"timeout_ms": 30_001}), false),
        (json!({"max_in_flight": 1}), true),
        (json!({"max_in_flight": 256}), true),
        (json!({"max_in_flight": 0}), false),
        (json!({"max_in_flight": 257}), false),
        (json!({"rate_limit_per_s": 1}), true),
        (json!({"rate_limit_per_s": 10_000}), true),
        (json!({"rate_limit_per_s": 0}), false),
        (json!({"rate_limit_per_s": 10_001}), false),
        (json!({"headers": {"x-key": "a"}}), true),
        (json!({"headers": {"webhook-id": "a"}}), false),
    ]
}

#[test]
fn a_setting_is_taken_within_its_bounds_at_registration_and_after() {
    let before = stored(None);
    for (told, taken) in bounds() {
        for fault in [new(told.clone()).err(), change(&before, told.clone()).err()] {
            assert_eq!(fault.is_none(), taken, "{told}: {fault:?}");
            let setting = matches!(fault, None | Some(Refusal::Setting(_)));
            assert!(setting, "{told}: {fault:?}");
        }
    }
}

#[test]
fn a_whole_number_is_one_however_it_is_written() {
    let written = json!({
        "timeout_ms": 200.0, "max_in_flight": 2e0, "rate_limit_per_s": 3.0,
        "retry": {"schedule_s": [0.0, 1.0, 2], "max_age_s": 60.0},
    });
    let plain = json!({
        "timeout_ms": 200, "max_in_flight": 2, "rate_limit_per_s": 3,
        "retry": {"schedule_s": [0, 1, 2], "max_age_s": 60},
    });
    let settings = |told: &Value| new(told.clone()).unwrap().settings;
    assert_eq!(settings(&written), settings(&plain));
    let before = stored(None);
    assert_eq!(
        change(&before, written).unwrap(),
        change(&before, plain).unwrap()
    );
    let grows = |numbers: [Value; 2]| json!({"retry": {"base_s": numbers[0], "factor": 2, "max_attempts": numbers[1]}});
    assert_eq!(
        settings(&grows([json!(1.0), json!(3.0)])),
        settings(&grows([json!(1), json!(3)]))
    );
    let rotated = |overlap_s| rotate(&before, json!({ "overlap_s": overlap_s })).unwrap();
    assert_eq!(rotated(json!(60.0)), rotated(json!(60)));
}

#[test]
fn no_event_types_is_a_malformed_body_and_a_bad_url_says_which_kind() {
    let before = stored(None);
    for fault in [
        new(json!({"event_types": []})).unwrap_err(),
        change(&before, json!({"event_types": []})).unwrap_err(),
    ] {
        assert!(matches!(fault, Refusal::Payload(_)), "{fault:?}");
    }
    for (url, forbidden) in [("http://10.0.0.1/", true), ("nowhere", false)] {
        for fault in [
            new(json!({"url": url})).unwrap_err(),
            change(&before, json!({"url": url})).unwrap_err(),
        ] {
            let Refusal::Url(fault) = fault else {
                panic!("{url}: {fault:?}");
            };
            assert_eq!(
                matches!(fault, UrlRefusal::Forbidden(_)),
                forbidden,
                "{url}"
            );
        }
    }
}

#[test]
fn what_is_not_said_is_the_default() {
    let asked = new(json!({})).unwrap();
    assert_eq!(asked.settings, stored(None).settings);
    assert!(!asked.disabled);
    assert!(asked.confidential.headers.is_empty());
    let key = Key::from_bytes(MINTED.to_vec()).unwrap();
    assert_eq!(asked.confidential.secret, key.to_secret());
    let policy = policy_of(&stored(None), &Defaults::default());
    assert_eq!(policy, Policy::default());
}

#[test]
fn a_secret_that_is_given_is_kept_and_a_bad_one_is_not_repeated() {
    let kept = new(json!({"secret": SECRET})).unwrap();
    assert_eq!(kept.confidential.secret, SECRET);
    assert!(!format!("{kept:?}").contains(SECRET));
    for bad in ["", "canary", "whsec_Y2FuYXJ5", "whsec_canary"] {
        for fault in [
            new(json!({"secret": bad})).unwrap_err(),
            rotate(&stored(None), json!({"secret": bad})).unwrap_err(),
        ] {
            let shown = format!("{fault} {fault:?}");
            assert!(matches!(fault, Refusal::Setting(_)), "{bad}");
            assert!(!shown.contains("canary"), "{shown}");
        }
    }
}

#[test]
fn a_change_leaves_alone_what_it_does_not_name_and_null_takes_the_default_again() {
    let told = json!({
        "url": "https://acme.example/other", "event_types": ["a"], "description": "d",
        "headers": {"x-key": "a"}, "retry": {"schedule_s": [1]}, "timeout_ms": 200,
        "max_in_flight": 2, "rate_limit_per_s": 3, "on_exhausted": "skip", "disabled": true,
    });
    let before = stored(None);
    let after = change(&before, told.clone()).unwrap();
    assert_eq!(after.settings.url, "https://acme.example/other");
    assert_eq!(after.settings.timeout_ms, 200);
    assert_eq!(after.settings.on_exhausted, OnExhausted::Skip);
    assert_eq!(after.confidential.headers["x-key"], "a");
    assert_eq!(after.disabled.unwrap().reason, DisabledReason::Manual);
    assert_eq!(after.updated_at, at(9));

    assert_eq!(change(&after, json!({})).unwrap(), after);

    let mut nulls = told;
    for (_, value) in nulls.as_object_mut().unwrap() {
        *value = Value::Null;
    }
    // These two have no default to go back to, and no other is taken beside them.
    for name in ["url", "disabled"] {
        let fault = change(&after, nulls.clone()).unwrap_err();
        let said = format!("{name} has no default for null to take again");
        assert_eq!(fault, Refusal::Setting(said));
        nulls.as_object_mut().unwrap().remove(name);
    }
    let cleared = change(&after, nulls).unwrap();
    assert_eq!(cleared.disabled, after.disabled);
    assert_eq!(
        Settings {
            url: before.settings.url.clone(),
            ..cleared.settings
        },
        before.settings
    );
    assert_eq!(cleared.confidential, before.confidential);
}

#[test]
fn its_order_is_chosen_once() {
    let before = stored(None);
    for (told, taken) in [
        (json!({"ordering": "none"}), true),
        (json!({"ordering": null}), true),
        (json!({"ordering": "strict"}), false),
    ] {
        let changed = change(&before, told.clone());
        assert_eq!(changed.is_ok(), taken, "{told}");
    }
}

#[test]
fn what_configuration_says_of_a_built_in_endpoint_stays() {
    let built_in = Endpoint {
        endpoint_id: EndpointId::pagerduty(),
        ..stored(None)
    };
    for (told, taken) in [
        (json!({"url": "https://acme.example/hook"}), false),
        (json!({"url": null}), false),
        (json!({"timeout_ms": null}), false),
        (json!({"retry": null}), false),
        (json!({"event_types": ["order.*"]}), false),
        (json!({"event_types": null}), false),
        (json!({"disabled": true, "max_in_flight": 1}), true),
    ] {
        match change(&built_in, told.clone()) {
            Ok(_) => assert!(taken, "{told}"),
            Err(fault) => assert!(!taken && matches!(fault, Refusal::BuiltIn(_)), "{told}"),
        }
    }
}

#[test]
fn what_is_disabled_stays_so_for_its_first_reason_until_it_is_enabled() {
    let gone = Disabled {
        reason: DisabledReason::Gone,
        at: at(1),
    };
    let before = Endpoint {
        disabled: Some(gone),
        ..stored(None)
    };
    assert_eq!(switched(&before, true, at(9)).disabled, Some(gone));
    assert_eq!(switched(&before, false, at(9)).disabled, None);
}

#[test]
fn the_secret_before_signs_for_as_long_as_is_said() {
    let before = stored(None);
    for (told, until) in [
        (json!({}), Some(at(9 + 86_400))),
        (json!({"overlap_s": 60}), Some(at(69))),
        (json!({"overlap_s": 604_800}), Some(at(9 + 604_800))),
        (json!({"overlap_s": 0}), None),
    ] {
        let after = rotate(&before, told.clone()).unwrap().confidential;
        assert_ne!(after.secret, before.confidential.secret, "{told}");
        let previous = after.previous.first();
        assert_eq!(previous.map(|previous| previous.until), until, "{told}");
        let secret = previous.map(|previous| previous.secret.as_str());
        let expected = until.map(|_| before.confidential.secret.as_str());
        assert_eq!(secret, expected, "{told}");
    }
    assert!(rotate(&before, json!({"overlap_s": 604_801})).is_err());
}

#[test]
fn each_secret_signs_until_its_own_end_and_a_sixth_older_one_is_refused() {
    let mut endpoint = stored(None);
    let first = endpoint.confidential.secret.clone();
    for number in 1..=5 {
        let told =
            json!({"secret": numbered(number), "overlap_s": 1_000 - 100 * u64::from(number)});
        endpoint = rotate_at(i64::from(number), &endpoint, told).unwrap();
    }
    let older = &endpoint.confidential.previous;
    let secrets: Vec<_> = older.iter().map(|older| older.secret.clone()).collect();
    let before = (1..5).rev().map(numbered).chain([first]);
    assert_eq!(secrets, before.collect::<Vec<_>>());
    let ends: Vec<_> = older.iter().map(|older| older.until).collect();
    assert_eq!(ends, [505, 604, 703, 802, 901].map(at));

    let sixth = json!({"secret": numbered(6)});
    assert_eq!(
        rotate_at(504, &endpoint, sixth.clone()),
        Err(Refusal::TooManySecrets)
    );
    let once_one_has_ended = rotate_at(505, &endpoint, sixth).unwrap();
    assert_eq!(once_one_has_ended.confidential.previous.len(), 5);
    assert_eq!(
        once_one_has_ended.confidential.previous[0].secret,
        numbered(5)
    );
}

#[test]
fn without_an_overlap_every_older_secret_ends() {
    let mut endpoint = stored(None);
    for number in 1..=5 {
        endpoint = rotate(&endpoint, json!({"secret": numbered(number)})).unwrap();
    }
    for secret in [numbered(5), numbered(6)] {
        let told = json!({"secret": secret, "overlap_s": 0});
        let alone = rotate(&endpoint, told).unwrap().confidential;
        assert_eq!(alone.secret, secret);
        assert!(alone.previous.is_empty());
    }
}

#[test]
fn a_secret_that_returns_is_no_longer_an_older_one() {
    let first = stored(None);
    let second = rotate(&first, json!({"secret": numbered(1)})).unwrap();
    let back = json!({"secret": first.confidential.secret});
    let back = rotate(&second, back).unwrap().confidential;
    assert_eq!(back.secret, first.confidential.secret);
    let older: Vec<_> = back
        .previous
        .iter()
        .map(|older| older.secret.clone())
        .collect();
    assert_eq!(older, [numbered(1)]);
}

#[test]
fn a_rotation_asked_twice_is_one() {
    let once = rotate(&stored(None), json!({"secret": OTHER})).unwrap();
    let twice = rotate(&once, json!({"secret": OTHER, "overlap_s": 1})).unwrap();
    assert_eq!(twice, once);
}
