//! Hostile callers of the webhook API, through the gateway: every row of the tables is answered as it says, never with a
//! 500, and what is refused leaves nothing behind.

use std::time::Duration;

use http::Method;
use serde_json::{Value, json};
use system_tests::api;
use system_tests::hub::Hub;
use tokio::net::lookup_host;

use crate::security::{bytes_of, rows};

/// As long as delivery waits for a name.
const LOOKUP_TIMEOUT: Duration = Duration::from_secs(2);

#[tokio::test]
async fn every_event_of_the_table_is_answered_as_it_says_and_stored_or_not() {
    let hub = Hub::start().await.unwrap();
    let url = hub.url("/webhooks/events");
    let rows = rows("webhook_events.tsv");
    assert!(rows.len() > 100);

    let mut accepted = Vec::new();
    for row in rows {
        let [name, head, body, status, code] = row.as_slice() else {
            panic!("five columns: {row:?}");
        };
        let body = bytes_of(body, "");

        let answer = api::call(Method::POST, &url, &headers(head), body)
            .await
            .unwrap();

        assert_eq!(answer.status.as_str(), status, "{name}: {}", answer.text());
        if status == "202" {
            accepted.push(answer.json()["event_id"].clone());
        } else {
            assert_eq!(&answer.code(), code, "{name}: {}", answer.text());
        }
    }

    let stored = api::get(&hub.url("/webhooks/events?limit=500"))
        .await
        .unwrap()
        .json();
    let stored: Vec<&Value> = stored["events"]
        .as_array()
        .unwrap()
        .iter()
        .rev()
        .map(|event| &event["event_id"])
        .collect();
    assert_eq!(stored, accepted.iter().collect::<Vec<_>>());
}

/// As the table's head describes them.
fn headers(head: &str) -> Vec<(String, String)> {
    match head {
        "-" => vec![("content-type".to_owned(), "application/json".to_owned())],
        "(none)" => Vec::new(),
        _ => head
            .split(" || ")
            .map(|line| {
                let (name, value) = line.split_once(": ").unwrap();
                let value = String::from_utf8(bytes_of(value, "")).unwrap();
                (name.to_owned(), value)
            })
            .collect(),
    }
}

#[tokio::test]
async fn every_url_of_the_table_is_registered_or_refused_as_it_says() {
    // As an operator has it who opens no network.
    let hub = Hub::start_with(&[("DELIVERY_ALLOW_NETS", "")])
        .await
        .unwrap();
    let endpoints = hub.url("/webhooks/clients/acme/endpoints");
    let rows = rows("endpoint_urls.tsv");
    assert!(rows.len() > 150);

    let mut registered = 0;
    for row in rows {
        let [form, text, code] = row.as_slice() else {
            panic!("three columns: {row:?}");
        };
        for (url, code) in tried(form, &unescaped(text), code) {
            let code = if code == "ok" && leads_inside(&url).await {
                "endpoint_url_forbidden"
            } else {
                code
            };

            let answer = api::post_json(&endpoints, &json!({"url": url})).await;

            let answer = answer.unwrap();
            if code == "ok" {
                registered += 1;
                assert_eq!(answer.status, 201, "{url:?}: {}", answer.text());
            } else {
                let found = (answer.status.as_u16(), answer.code());
                assert_eq!(found, (422, code.to_owned()), "{url:?}");
            }
        }
    }
    let list = api::get(&endpoints).await.unwrap().json();
    assert_eq!(list["endpoints"].as_array().unwrap().len(), registered);
}

/// What a row stands for, as the table's head describes it.
fn tried<'r>(form: &str, text: &str, code: &'r str) -> Vec<(String, &'r str)> {
    if form == "url" {
        return vec![(text.to_owned(), code)];
    }
    let plain = if code == "ok" {
        "endpoint_url_forbidden"
    } else {
        code
    };
    vec![
        (format!("https://{text}/hook"), code),
        (format!("http://{text}/hook"), plain),
    ]
}

/// Whether this machine's resolver knows the one name of the table that stands for 127.0.0.1 where there is a network.
async fn leads_inside(url: &str) -> bool {
    let name = "127.0.0.1.nip.io";
    if !url.contains(name) {
        return false;
    }
    let lookup = tokio::time::timeout(LOOKUP_TIMEOUT, lookup_host((name, 443)));
    let Ok(Ok(mut addresses)) = lookup.await else {
        return false;
    };
    addresses.any(|found| found.ip().is_loopback())
}

/// Reads the escapes that the table's head describes.
fn unescaped(text: &str) -> String {
    let mut read = String::new();
    let mut rest = text.chars();
    while let Some(next) = rest.next() {
        match next {
            '\\' => read.push(match rest.next().unwrap() {
                't' => '\t',
                'r' => '\r',
                'n' => '\n',
                '0' => '\0',
                'x' => {
                    let digits: String = rest.by_ref().take(2).collect();
                    u8::from_str_radix(&digits, 16).unwrap().into()
                }
                itself => itself,
            }),
            '{' => {
                let inside: String = rest.by_ref().take_while(|next| *next != '}').collect();
                let (times, what) = inside.split_once('*').unwrap();
                read.push_str(&what.repeat(times.parse().unwrap()));
            }
            _ => read.push(next),
        }
    }
    read
}
