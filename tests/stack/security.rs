//! Hostile input through the gateway: every row of `fixtures/security` is answered as it says, never with a 500, with
//! one line in the log.

use std::collections::BTreeMap;
use std::time::Duration;

use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use hmac::{Hmac, KeyInit as _, Mac as _};
use http::Method;
use runtime::clock::Clock;
use schema::names;
use sha2::Sha256;
use system_tests::api::{self, Answer};
use system_tests::hub::{Hub, STRIPE_SECRET};
use system_tests::repository;
use system_tests::stage::{Stage as _, unique_id};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;

/// Rows of a table, without its comments.
pub(crate) fn rows(file: &str) -> Vec<Vec<String>> {
    let table = repository::read_text(&format!("fixtures/security/{file}")).unwrap();
    let rows = table.lines().filter(|line| !line.starts_with('#'));
    rows.map(|row| row.split('\t').map(str::to_owned).collect())
        .collect()
}

/// `<<N*TEXT>>` is the text N times, `<<hex:C0AF>>` these bytes, `<<id>>` the id.
pub(crate) fn bytes_of(notation: &str, id: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = notation;
    while let Some((before, after)) = rest.split_once("<<") {
        let (generator, behind) = after.split_once(">>").unwrap();
        bytes.extend_from_slice(before.as_bytes());
        if generator == "id" {
            bytes.extend_from_slice(id.as_bytes());
        } else if let Some(digits) = generator.strip_prefix("hex:") {
            bytes.extend(hex::decode(digits).unwrap());
        } else {
            let (times, text) = generator.split_once('*').unwrap();
            bytes.extend(text.repeat(times.parse().unwrap()).into_bytes());
        }
        rest = behind;
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// Posts to `/ingest/stripe` under a correlation id of its own, and waits for the gateway's one line about it.
async fn ingest(hub: &Hub, header_lines: Vec<String>, body: Vec<u8>) -> Answer {
    let correlation_id = unique_id();
    let mut headers = vec![(names::CORRELATION_ID.to_owned(), correlation_id.clone())];
    for line in header_lines {
        headers.push((names::STRIPE_SIGNATURE.to_owned(), line));
    }
    let url = hub.url(names::INGEST_STRIPE);
    let answer = api::call(Method::POST, &url, &headers, body).await.unwrap();
    hub.wait_for_log("gateway", &[&correlation_id])
        .await
        .unwrap();
    for (service, least) in [("gateway", 1), ("stripe-ingester", 0)] {
        let log = hub.log(service).await.unwrap();
        let lines: Vec<&String> = log
            .iter()
            .filter(|line| line.contains(&correlation_id))
            .collect();
        let written = least..=1;
        assert!(written.contains(&lines.len()), "{service} wrote {lines:?}");
        assert!(lines.iter().all(|line| line.len() < 8 * 1024));
    }
    answer
}

#[tokio::test]
async fn every_payload_of_the_table_is_answered_as_it_says() {
    let hub = Hub::start().await.unwrap();
    let rows = rows("stripe_payloads.tsv");
    assert!(rows.len() > 100);

    let mut resident = Vec::new();
    for pass in 0..3 {
        for (n, row) in rows.iter().enumerate() {
            let [name, notation, status, code] = row.as_slice() else {
                panic!("four columns: {row:?}");
            };
            let body = bytes_of(notation, &format!("evt_{pass}_{n}"));
            let (_, signature) = api::signature_header(STRIPE_SECRET, &body);

            let answer = ingest(&hub, vec![signature], body).await;

            assert_eq!(answer.status.as_str(), status, "{name}: {}", answer.text());
            if status != "200" {
                assert_eq!(&answer.code(), code, "{name}");
            }
        }
        resident.push(resident_kib(&hub));
    }

    // The first pass fills pools and caches.
    for (service, before) in &resident[1] {
        let after = resident[2][service];
        assert!(
            after < before + 16 * 1024,
            "{service} grew from {before} to {after} KiB"
        );
    }
}

/// Resident memory of each service.
fn resident_kib(hub: &Hub) -> BTreeMap<&'static str, u64> {
    let services = hub.supervisor().services();
    let resident = services.map(|(service, _, pid)| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", pid.unwrap())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmRSS:"));
        let kib = line.unwrap().split_whitespace().nth(1).unwrap();
        (service, kib.parse().unwrap())
    });
    resident.collect()
}

#[tokio::test]
async fn every_signature_of_the_table_is_answered_as_it_says() {
    let hub = Hub::start().await.unwrap();
    let rows = rows("stripe_signature.tsv");
    assert!(rows.len() > 60);

    for row in rows {
        let [name, signed, header, offset, expected, _] = row.as_slice() else {
            panic!("six columns: {row:?}");
        };
        if name.starts_with("edge_") {
            continue;
        }
        let body = api::stripe_event(&format!("evt_{}", unique_id()), "payout.created");
        let lines = header_lines(signed, header, offset.parse().unwrap(), body.as_bytes());

        let answer = ingest(&hub, lines, body.into_bytes()).await;

        match expected.as_str() {
            "accept" => assert_eq!(answer.status, 200, "{name}: {}", answer.text()),
            _ => {
                assert_eq!(answer.status, 400, "{name}: {}", answer.text());
                assert_eq!(answer.code(), "invalid_signature", "{name}");
            }
        }
    }
}

/// HMAC-SHA256 by the book, not by the code under test.
fn hmac(secret: &str, text: &[u8]) -> Vec<u8> {
    let mac = Hmac::<Sha256>::new_from_slice(secret.as_bytes()).unwrap();
    mac.chain_update(text).finalize().into_bytes().to_vec()
}

fn signed(secret: &str, timestamp: &str, body: &[u8]) -> Vec<u8> {
    hmac(secret, &[timestamp.as_bytes(), b".", body].concat())
}

/// Replaces the table's placeholders, as its head describes them.
fn header_lines(signed_text: &str, header: &str, offset: i64, body: &[u8]) -> Vec<String> {
    let t = Clock::system().now().as_second() + offset;
    let with_time = |text: &str| {
        text.replace("{t}", &t.to_string())
            .replace("{ms}", &(t * 1000).to_string())
            .replace("{hex}", &format!("{t:x}"))
    };
    let timestamp = with_time(signed_text);
    let right = signed(STRIPE_SECRET, &timestamp, body);
    let v1 = hex::encode(&right);
    let another = signed("whsec_another", &timestamp, body);
    let with_line_end = signed(STRIPE_SECRET, &timestamp, &[body, b"\n"].concat());
    let line = |template: &str| {
        let line = with_time(template)
            .replace("{v1}", &v1)
            .replace("{v1:63}", &v1[..63])
            .replace("{v1:62}", &v1[..62])
            .replace("{V1}", &v1.to_uppercase())
            .replace("{base64}", &STANDARD.encode(&right))
            .replace("{wrong-secret}", &hex::encode(&another))
            .replace("{body-only}", &hex::encode(hmac(STRIPE_SECRET, body)))
            .replace("{newline}", &hex::encode(&with_line_end))
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

#[tokio::test]
async fn every_query_of_the_table_is_answered_as_it_says_in_words_of_ours() {
    let hub = Hub::start().await.unwrap();
    let rows = rows("queries.tsv");
    assert!(rows.len() > 90);

    for row in rows {
        let [name, path, status, code] = row.as_slice() else {
            panic!("four columns: {row:?}");
        };
        let path = String::from_utf8(bytes_of(path, "")).unwrap();

        let answer = api::get(&hub.url(&path)).await.unwrap();

        let text = answer.text();
        assert_eq!(answer.status.as_str(), status, "{name}: {text}");
        if status != "200" {
            assert_eq!(&answer.code(), code, "{name}");
            for word in ["deserialize", "variant", "field", "digit", "canary"] {
                assert!(!text.contains(word), "{name}: {text}");
            }
        }
    }
}

#[tokio::test]
async fn every_framing_of_the_table_is_answered_as_it_says() {
    let hub = Hub::start().await.unwrap();
    let rows = rows("framing.tsv");
    assert!(rows.len() > 30);

    for row in rows {
        let [name, request, status, code] = row.as_slice() else {
            panic!("four columns: {row:?}");
        };

        let answer = exchange(&hub, &framed(request)).await;

        let found_status = answer.split(' ').nth(1).unwrap_or("-");
        let after = answer.split("\"code\":\"").nth(1);
        let found_code = after.and_then(|rest| rest.split('"').next()).unwrap_or("-");
        assert_eq!(
            (found_status, found_code),
            (&**status, &**code),
            "{name}: {answer}"
        );
    }
}

/// `\r \n \0 \\ \xHH` are bytes, `{a*3}` is `aaa`.
fn framed(escaped: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = escaped;
    while let Some(first) = rest.chars().next() {
        rest = &rest[first.len_utf8()..];
        if first == '\\' {
            let (escape, after) = rest.split_at(1);
            rest = after;
            bytes.push(match escape {
                "r" => b'\r',
                "n" => b'\n',
                "0" => 0,
                "x" => {
                    let (digits, after) = rest.split_at(2);
                    rest = after;
                    u8::from_str_radix(digits, 16).unwrap()
                }
                _ => b'\\',
            });
        } else if first == '{' && rest[1..].starts_with('*') {
            let (count, after) = rest[2..].split_once('}').unwrap();
            bytes.extend(rest[..1].repeat(count.parse().unwrap()).bytes());
            rest = after;
        } else {
            bytes.extend(first.to_string().bytes());
        }
    }
    bytes
}

/// Sends bytes, and reads until the gateway closes or, once it has answered, says nothing more for a moment.
async fn exchange(hub: &Hub, request: &[u8]) -> String {
    let address = hub.gateway_url().trim_start_matches("http://").to_owned();
    let mut stream = TcpStream::connect(address).await.unwrap();
    // It may answer and close before it has read everything.
    let _sent = stream.write_all(request).await;
    let mut answer = Vec::new();
    loop {
        let patience = if answer.is_empty() { 10_000 } else { 200 };
        let mut chunk = [0; 4096];
        let read = tokio::time::timeout(Duration::from_millis(patience), stream.read(&mut chunk));
        match read.await {
            Ok(Ok(length)) if length > 0 => answer.extend_from_slice(&chunk[..length]),
            _ => return String::from_utf8_lossy(&answer).into_owned(),
        }
    }
}
