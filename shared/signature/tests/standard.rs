//! Standard Webhooks against the specification's example and against itself.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use proptest::prelude::*;
use signature::standard::{InvalidId, InvalidSecret, Key, Refusal, sign, verify};

const ID: &str = "msg_p5jXN8AQM9LWM0D4loKWxJek";
const SECRET: &str = "whsec_MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw";
const UNIX: i64 = 1_614_265_330;
const BODY: &[u8] = br#"{"test": 2432232314}"#;
const SIGNATURE: &str = "v1,g0hM9SsE+OTPJTGt/tmIKtSyZlE3uFJELVlNIOLJ1OE=";

fn verdict(id: &str, timestamp: &str, signatures: &str, now: i64) -> Result<(), Refusal> {
    let key = Key::parse(SECRET).unwrap();
    verify([&key], id, timestamp, signatures, BODY, now)
}

#[test]
fn the_published_example_comes_out_as_published() {
    let key = Key::parse(SECRET).unwrap();
    assert_eq!(sign(&key, ID, UNIX, BODY).unwrap(), SIGNATURE);
    assert_eq!(verdict(ID, "1614265330", SIGNATURE, UNIX), Ok(()));
}

#[test]
fn headers_that_are_not_right_are_refused_with_the_reason() {
    let many = format!("{}{SIGNATURE}", "v1,AAAA ".repeat(16));
    let long = format!("{SIGNATURE} v1,{}", "A".repeat(4096));
    let beside = format!("v1a,AAAA v1,!! {SIGNATURE}");
    let now = UNIX;
    for (name, id, timestamp, signatures, now, expected) in [
        ("beside others", ID, "1614265330", &*beside, now, Ok(())),
        ("300 s old", ID, "1614265330", SIGNATURE, now + 300, Ok(())),
        (
            "301 s old",
            ID,
            "1614265330",
            SIGNATURE,
            now + 301,
            Err(Refusal::OutOfTolerance),
        ),
        (
            "301 s ahead",
            ID,
            "1614265330",
            SIGNATURE,
            now - 301,
            Err(Refusal::OutOfTolerance),
        ),
        (
            "another id",
            "msg_1",
            "1614265330",
            SIGNATURE,
            now,
            Err(Refusal::Mismatch),
        ),
        (
            "another time",
            ID,
            "1614265331",
            SIGNATURE,
            now,
            Err(Refusal::Mismatch),
        ),
        (
            "no id",
            "",
            "1614265330",
            SIGNATURE,
            now,
            Err(Refusal::Id(InvalidId)),
        ),
        (
            "a dot in the id",
            "a.b",
            "1614265330",
            SIGNATURE,
            now,
            Err(Refusal::Id(InvalidId)),
        ),
        (
            "a fraction",
            ID,
            "1614265330.0",
            SIGNATURE,
            now,
            Err(Refusal::MalformedTimestamp),
        ),
        (
            "a leading zero",
            ID,
            "01614265330",
            SIGNATURE,
            now,
            Err(Refusal::MalformedTimestamp),
        ),
        (
            "no signature",
            ID,
            "1614265330",
            "",
            now,
            Err(Refusal::NoSignature),
        ),
        (
            "another scheme",
            ID,
            "1614265330",
            "v2,AAAA",
            now,
            Err(Refusal::NoSignature),
        ),
        (
            "no scheme",
            ID,
            "1614265330",
            &SIGNATURE[3..],
            now,
            Err(Refusal::NoSignature),
        ),
        (
            "a short one",
            ID,
            "1614265330",
            "v1,AAAA",
            now,
            Err(Refusal::NoSignature),
        ),
        (
            "too many",
            ID,
            "1614265330",
            &*many,
            now,
            Err(Refusal::Oversized),
        ),
        (
            "too long",
            ID,
            "1614265330",
            &*long,
            now,
            Err(Refusal::Oversized),
        ),
    ] {
        assert_eq!(verdict(id, timestamp, signatures, now), expected, "{name}");
    }
}

#[test]
fn while_a_secret_is_rotated_either_one_verifies() {
    let old = Key::parse(SECRET).unwrap();
    let new = Key::from_bytes(vec![7; 32]).unwrap();
    let both = [&new, &old].map(|key| sign(key, ID, UNIX, BODY).unwrap());
    let both = both.join(" ");

    for key in [&old, &new] {
        assert_eq!(verify([key], ID, "1614265330", &both, BODY, UNIX), Ok(()));
    }
    let verdict = verify([&new, &old], ID, "1614265330", SIGNATURE, BODY, UNIX);
    assert_eq!(verdict, Ok(()));
}

#[test]
fn a_secret_is_the_prefix_and_base64_of_24_to_64_bytes_and_never_shows() {
    for bad in [
        "",
        "whsec_",
        "MfKQ9r8GKYqrTwjUPD8ILPZIo2LaLaSw",
        "whsec_!!!",
        "whsec_AAAA",
    ] {
        assert_eq!(Key::parse(bad).unwrap_err(), InvalidSecret, "{bad:?}");
    }
    assert!(Key::from_bytes(vec![0; 65]).is_err());
    let key = Key::parse(SECRET).unwrap();
    assert_eq!(key.to_secret(), SECRET);
    assert_eq!(format!("{key:?}"), "Key([redacted])");
}

#[test]
fn an_id_with_a_dot_is_not_signed() {
    let key = Key::parse(SECRET).unwrap();
    for id in ["", ".", "evt.1"] {
        assert_eq!(sign(&key, id, UNIX, BODY), Err(InvalidId));
    }
}

proptest! {
    #[test]
    fn what_is_signed_verifies_and_nothing_that_differs_in_a_bit(
        secret in prop::collection::vec(any::<u8>(), 24..=64),
        id in "[a-z0-9_:-]{1,64}",
        body in prop::collection::vec(any::<u8>(), 1..512),
        at in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        let key = Key::from_bytes(secret).unwrap();
        let signature = sign(&key, &id, UNIX, &body).unwrap();
        let verdict = |body: &[u8]| verify([&key], &id, "1614265330", &signature, body, UNIX);
        prop_assert_eq!(verdict(&body), Ok(()));

        let mut other = body.clone();
        other[at.index(body.len())] ^= 1 << bit;
        prop_assert_eq!(verdict(&other), Err(Refusal::Mismatch));
    }
}
