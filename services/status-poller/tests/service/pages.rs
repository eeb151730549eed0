//! Pages that misbehave, from the table in `fixtures/security/status_pages.tsv`.

#![expect(
    clippy::panic,
    reason = "a row that cannot be read is a fault of the table"
)]

use crate::support::{Behaviour, Poller, Store, Vacant, Vendor};
use serde_json::json;

const TABLE: &str = include_str!("../../../../fixtures/security/status_pages.tsv");

struct Row {
    name: &'static str,
    /// `None`: nobody listens.
    behaviour: Option<Behaviour>,
    /// `None`: no error.
    code: Option<&'static str>,
}

fn rows() -> Vec<Row> {
    let lines = TABLE.lines().filter(|line| !line.starts_with('#'));
    lines
        .map(|line| {
            let columns: Vec<&str> = line.split('\t').collect();
            let [name, behaviour, body, code] = columns.as_slice() else {
                panic!("a row has four columns: {line}");
            };
            let body = bytes(body);
            let behaviour = match *behaviour {
                "refuse" => None,
                "silent" => Some(Behaviour::Silent),
                "trickle" => Some(Behaviour::Trickle(body)),
                "cut" => Some(Behaviour::Cut(body)),
                "bare" => Some(Behaviour::Bare(body)),
                status => Some(Behaviour::Answer(status.parse().unwrap(), body)),
            };
            Row {
                name,
                behaviour,
                code: (*code != "-").then_some(*code),
            }
        })
        .collect()
}

/// `<<N*TEXT>>` is the text N times, `<<hex:C0AF>>` these bytes.
fn bytes(text: &str) -> Vec<u8> {
    let mut bytes = Vec::new();
    let mut rest = text;
    while let Some((before, after)) = rest.split_once("<<") {
        let (short, after) = after.split_once(">>").unwrap();
        bytes.extend_from_slice(before.as_bytes());
        match short.strip_prefix("hex:") {
            Some(digits) => bytes.extend(hex::decode(digits).unwrap()),
            None => {
                let (times, text) = short.split_once('*').unwrap();
                bytes.extend(text.repeat(times.parse().unwrap()).into_bytes());
            }
        }
        rest = after;
    }
    bytes.extend_from_slice(rest.as_bytes());
    bytes
}

/// Polls the page beside the two fixtures, which must be read whatever it does.
async fn try_row(row: Row) {
    let store = Store::default();
    let vacant = Vacant::bind();
    let url = match row.behaviour {
        Some(behaviour) => Vendor::start(behaviour).await.url(),
        None => vacant.url(),
    };
    let pages = format!("bad={url}");
    let poller = Poller::start(&store.start().await, &[("STATUS_PAGES", &pages)]).await;

    let report = poller.pull().await;

    let errors = match row.code {
        Some(code) => json!([{"source": "bad_status", "code": code}]),
        None => json!([]),
    };
    assert_eq!(report["errors"], errors, "{}", row.name);
    assert_eq!(
        report["fetched"],
        json!({"spreedly": 1, "braze": 1, "bad": 0}),
        "{}",
        row.name
    );
    assert_eq!(store.events().len(), 2, "{}", row.name);
}

#[tokio::test]
async fn a_page_that_misbehaves_is_an_error_of_its_source_alone() {
    let rows = rows();
    assert!(rows.len() > 30);

    // At once: the slow ones wait beside each other.
    futures_util::future::join_all(rows.into_iter().map(try_row)).await;
}
