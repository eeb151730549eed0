//! Stripe's scheme against the table in `fixtures/security`, against vectors run through Stripe's own libraries, and
//! against itself.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use proptest::prelude::*;
use sha2::Sha256;
use signature::stripe::{Refusal, check_header, sign, verify};

const SECRET: &str = "whsec_test_secret_0123456789";
const NOW: i64 = 1_705_315_200;
const BODY: &[u8] = include_bytes!("../../../fixtures/stripe/payout_failed.json");

/// HMAC-SHA256 by the book, not by the code under test.
fn hmac(secret: &str, text: &[u8]) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.chain_update(text).finalize().into_bytes().to_vec()
}

fn signed(secret: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
    hmac(secret, &[timestamp.as_bytes(), b".", body].concat())
}

/// Replaces the table's placeholders, as its head describes them.
fn header_lines(signed_text: &str, header: &str, offset: i64) -> Vec<String> {
    let t = NOW + offset;
    let with_time = |text: &str| {
        text.replace("{t}", &t.to_string())
            .replace("{ms}", &(t * 1000).to_string())
            .replace("{hex}", &format!("{t:x}"))
    };
    let timestamp = with_time(signed_text);
    let right = signed(SECRET, &timestamp, BODY);
    let v1 = hex::encode(&right);
    let line = |template: &str| {
        let line = with_time(template)
            .replace("{v1}", &v1)
            .replace("{v1:63}", &v1[..63])
            .replace("{v1:62}", &v1[..62])
            .replace("{V1}", &v1.to_uppercase())
            .replace("{base64}", &STANDARD.encode(&right))
            .replace(
                "{wrong-secret}",
                &hex::encode(signed("whsec_another", &timestamp, BODY)),
            )
            .replace("{body-only}", &hex::encode(hmac(SECRET, BODY)))
            .replace(
                "{newline}",
                &hex::encode(signed(SECRET, &timestamp, &[BODY, b"\n"].concat())),
            )
            .replace("{zeros}", &"0".repeat(64));
        repeated(&line)
    };
    match header {
        "(none)" => Vec::new(),
        "(empty)" => vec![String::new()],
        _ => header.split(" || ").map(line).collect(),
    }
}

/// `{N*TEXT}` is the text N times.
fn repeated(line: &str) -> String {
    let Some((before, rest)) = line.split_once('{') else {
        return line.to_owned();
    };
    let (generator, after) = rest.split_once('}').unwrap();
    let (times, text) = generator.split_once('*').unwrap();
    format!("{before}{}{after}", text.repeat(times.parse().unwrap()))
}

#[test]
fn every_header_of_the_table_is_taken_or_refused_as_it_says() {
    let table = include_str!("../../../fixtures/security/stripe_signature.tsv");
    let mut rows = 0;
    for row in table.lines().filter(|line| !line.starts_with('#')) {
        let columns: Vec<&str> = row.split('\t').collect();
        let [name, signed, header, offset, expected, reason] = columns[..] else {
            panic!("six columns: {row}");
        };
        let lines = header_lines(signed, header, offset.parse().unwrap());

        let verdict = verify(lines.iter().map(String::as_bytes), BODY, [SECRET], NOW);
        let by_header = check_header(lines.iter().map(String::as_bytes), NOW);
        // The header alone tells all but whether the signature is of this body, by one of our secrets.
        match verdict {
            Ok(()) => assert_eq!(by_header, Ok(()), "{name}"),
            Err(Refusal::Mismatch) => {
                assert!(
                    matches!(by_header, Ok(()) | Err(Refusal::OutOfTolerance)),
                    "{name}"
                );
            }
            refused => assert_eq!(by_header, refused, "{name}"),
        }

        match expected {
            "accept" => assert_eq!(verdict, Ok(()), "{name}"),
            "reject" => assert_eq!(verdict.unwrap_err().to_string(), reason, "{name}"),
            _ => panic!("accept or reject: {row}"),
        }
        rows += 1;
    }
    assert!(rows >= 60, "only {rows} rows were read");
}

#[test]
fn the_signature_is_over_the_bytes_and_nothing_else() {
    let bytes: &[u8] = b"{\"a\": \"\xff\"}";
    let header = sign(SECRET, NOW, bytes);
    assert_eq!(verify([header.as_bytes()], bytes, [SECRET], NOW), Ok(()));

    let mut with_line_end = bytes.to_vec();
    with_line_end.push(b'\n');
    let others = [
        String::from_utf8_lossy(bytes).into_owned().into_bytes(),
        with_line_end,
        [b"\xef\xbb\xbf", bytes].concat(),
        bytes.iter().copied().filter(|byte| *byte != b' ').collect(),
        Vec::new(),
    ];
    for other in others {
        let verdict = verify([header.as_bytes()], &other, [SECRET], NOW);
        assert_eq!(verdict, Err(Refusal::Mismatch), "{other:?}");
    }
}

#[test]
fn any_active_secret_verifies_and_a_former_one_does_not() {
    let header = sign("whsec_old", NOW, BODY);
    let verdict = |secrets: &[&str]| verify([header.as_bytes()], BODY, secrets, NOW);

    assert_eq!(verdict(&["whsec_new", "whsec_old", "whsec_other"]), Ok(()));
    assert_eq!(verdict(&["whsec_other", "whsec_new", "whsec_old"]), Ok(()));
    assert_eq!(verdict(&["whsec_new"]), Err(Refusal::Mismatch));
    assert_eq!(verdict(&["whsec_old\n"]), Err(Refusal::Mismatch));
    assert_eq!(verdict(&[]), Err(Refusal::Mismatch));
}

#[derive(serde::Deserialize)]
struct Vectors {
    vectors: Vec<Vector>,
}

#[derive(serde::Deserialize)]
struct Vector {
    name: String,
    header: String,
    body_b64: String,
    now: i64,
    secret: String,
}

/// What our rules make of each vector; `accept` says nothing of whether the body is an event.
const VERDICTS: &[(&str, Result<(), Refusal>)] = &[
    ("valid", Ok(())),
    ("valid_with_v0", Ok(())),
    ("valid_v1_before_t", Ok(())),
    ("unknown_scheme_plus_v1", Ok(())),
    ("rotation_two_v1_second_matches", Ok(())),
    ("rotation_two_v1_first_matches", Ok(())),
    ("two_v1_second_garbage_nonhex", Ok(())),
    ("two_v1_first_garbage_nonhex", Ok(())),
    ("header_empty", Err(Refusal::NoTimestamp)),
    ("header_garbage", Err(Refusal::NoTimestamp)),
    ("header_sentence", Err(Refusal::NoTimestamp)),
    ("no_t", Err(Refusal::NoTimestamp)),
    ("t_empty", Err(Refusal::MalformedTimestamp)),
    ("t_nonnumeric", Err(Refusal::MalformedTimestamp)),
    ("t_float", Err(Refusal::MalformedTimestamp)),
    ("t_leading_zero", Err(Refusal::MalformedTimestamp)),
    ("t_plus_sign", Err(Refusal::MalformedTimestamp)),
    ("t_leading_space", Err(Refusal::MalformedTimestamp)),
    ("t_negative", Err(Refusal::MalformedTimestamp)),
    ("t_huge_overflow", Err(Refusal::MalformedTimestamp)),
    ("duplicate_t_first_good", Err(Refusal::SeveralTimestamps)),
    ("duplicate_t_last_good", Err(Refusal::SeveralTimestamps)),
    ("v0_only", Err(Refusal::NoSignature)),
    ("v1_empty", Err(Refusal::NoSignature)),
    ("v1_uppercase_hex", Err(Refusal::NoSignature)),
    ("v1_truncated_63", Err(Refusal::NoSignature)),
    ("v1_even_truncated_62", Err(Refusal::NoSignature)),
    ("v1_wrong", Err(Refusal::Mismatch)),
    ("space_after_comma", Ok(())),
    ("trailing_comma", Ok(())),
    ("extra_equals", Err(Refusal::NoSignature)),
    ("uppercase_keys", Err(Refusal::NoTimestamp)),
    ("pair_without_equals", Ok(())),
    ("age_299", Ok(())),
    ("age_300", Ok(())),
    ("age_301", Err(Refusal::OutOfTolerance)),
    ("future_60", Ok(())),
    ("future_3600", Err(Refusal::OutOfTolerance)),
    ("tampered_body", Err(Refusal::Mismatch)),
    ("reserialized_body", Err(Refusal::Mismatch)),
    ("trailing_newline_added", Err(Refusal::Mismatch)),
    ("wrong_secret", Err(Refusal::Mismatch)),
    // The configuration trims secrets; here one is taken as it is.
    ("secret_trailing_newline", Err(Refusal::Mismatch)),
    ("empty_body_signed", Ok(())),
    ("invalid_json_signed", Ok(())),
    ("non_utf8_signed", Ok(())),
    ("bom_signed", Ok(())),
    ("unicode_body_signed", Ok(())),
    ("thin_v2_event_signed", Ok(())),
    ("json_array_signed", Ok(())),
    ("json_missing_fields_signed", Ok(())),
];

#[test]
fn the_vectors_of_stripes_libraries_are_judged_by_our_rules() {
    let sample = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join("../../../shared/samples/stripe/signature_vectors.json");
    let Ok(json) = fs::read(&sample) else {
        println!("skipped: {} is not here", sample.display());
        return;
    };
    let Vectors { vectors } = serde_json::from_slice(&json).unwrap();
    let mut verdicts: BTreeMap<_, _> = VERDICTS.iter().copied().collect();
    assert_eq!(verdicts.len(), VERDICTS.len(), "a name comes twice");

    for vector in vectors {
        let body = STANDARD.decode(vector.body_b64).unwrap();
        let expected = verdicts.remove(&*vector.name);

        let verdict = verify(
            [vector.header.as_bytes()],
            &body,
            [&vector.secret],
            vector.now,
        );

        assert_eq!(Some(verdict), expected, "{}", vector.name);
    }
    assert!(verdicts.is_empty(), "not among the vectors: {verdicts:?}");
}

proptest! {
    #[test]
    fn what_is_signed_verifies_and_nothing_that_differs_in_a_bit(
        secret in "[!-~]{1,64}",
        body in prop::collection::vec(any::<u8>(), 1..512),
        offset in -300..=300_i64,
        at in any::<prop::sample::Index>(),
        bit in 0..8_u32,
    ) {
        let header = sign(&secret, NOW + offset, &body);
        prop_assert_eq!(verify([header.as_bytes()], &body, [&secret], NOW), Ok(()));

        let mut other = body.clone();
        other[at.index(body.len())] ^= 1 << bit;
        prop_assert_eq!(
            verify([header.as_bytes()], &other, [&secret], NOW),
            Err(Refusal::Mismatch)
        );

        let mut other = header.into_bytes();
        let place = at.index(other.len());
        other[place] ^= 1 << bit;
        prop_assert!(verify([&*other], &body, [&secret], NOW).is_err());
    }

    #[test]
    fn any_header_gets_an_answer(header in prop::collection::vec(any::<u8>(), 0..256)) {
        prop_assert!(verify([&*header], BODY, [SECRET], NOW).is_err());
    }
}
