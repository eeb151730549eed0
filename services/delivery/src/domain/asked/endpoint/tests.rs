use serde_json::{Value, json};

use super::*;
use crate::domain::egress::UrlFault;
use crate::domain::endpoint::tests::endpoint as stored;
use crate::domain::ids::EndpointId;

const MINTED: [u8; 32] = [7; 32];
const SECRET: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";
const OTHER: &str = "whsec_YWJjZGVmZ2hpamFiY2RlZmdoaWphYmNk";

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

/// A new endpoint that says what `told` says.
fn new(told: Value) -> Result<Asked, Fault> {
    let mut body = json!({"url": "https://acme.example/hook"});
    let fields = told.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(fields);
    let told = serde_json::from_value(body).unwrap();
    endpoint(told, &Defaults::default(), MINTED)
}

fn change(endpoint: &Endpoint, told: Value) -> Result<Endpoint, Fault> {
    let told = serde_json::from_value(told).unwrap();
    changed(endpoint, &told, &Defaults::default(), at(9))
}

fn rotate(endpoint: &Endpoint, told: Value) -> Result<Endpoint, Fault> {
    let told = serde_json::from_value(told).unwrap();
    rotated(endpoint, &told, MINTED, at(9))
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
            let setting = matches!(fault, None | Some(Fault::Setting(_)));
            assert!(setting, "{told}: {fault:?}");
        }
    }
}

#[test]
fn no_event_types_is_a_malformed_body_and_a_bad_url_says_which_kind() {
    let before = stored(None);
    for fault in [
        new(json!({"event_types": []})).unwrap_err(),
        change(&before, json!({"event_types": []})).unwrap_err(),
    ] {
        assert!(matches!(fault, Fault::Payload(_)), "{fault:?}");
    }
    for (url, forbidden) in [("http://10.0.0.1/", true), ("nowhere", false)] {
        for fault in [
            new(json!({"url": url})).unwrap_err(),
            change(&before, json!({"url": url})).unwrap_err(),
        ] {
            let Fault::Url(fault) = fault else {
                panic!("{url}: {fault:?}");
            };
            assert_eq!(matches!(fault, UrlFault::Forbidden(_)), forbidden, "{url}");
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
            assert!(matches!(fault, Fault::Setting(_)), "{bad}");
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
    let cleared = change(&after, nulls).unwrap();
    // These two have no default to go back to.
    assert_eq!(cleared.settings.url, after.settings.url);
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
        (json!({"timeout_ms": null}), false),
        (json!({"retry": null}), false),
        (json!({"event_types": ["order.*"]}), false),
        (json!({"event_types": null}), false),
        (json!({"disabled": true, "max_in_flight": 1}), true),
    ] {
        match change(&built_in, told.clone()) {
            Ok(_) => assert!(taken, "{told}"),
            Err(fault) => assert!(!taken && matches!(fault, Fault::BuiltIn(_)), "{told}"),
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
        let previous = after.previous.as_ref();
        assert_eq!(previous.map(|previous| previous.until), until, "{told}");
        let secret = previous.map(|previous| previous.secret.as_str());
        let expected = until.map(|_| before.confidential.secret.as_str());
        assert_eq!(secret, expected, "{told}");
    }
    assert!(rotate(&before, json!({"overlap_s": 604_801})).is_err());
}

#[test]
fn a_rotation_asked_twice_is_one() {
    let once = rotate(&stored(None), json!({"secret": OTHER})).unwrap();
    let twice = rotate(&once, json!({"secret": OTHER, "overlap_s": 1})).unwrap();
    assert_eq!(twice, once);
}
