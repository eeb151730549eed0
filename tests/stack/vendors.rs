//! Status pages that misbehave, each answered as `fixtures/security/status_pages.tsv` says, beside ones that do not.

use std::net::SocketAddr;
use std::time::Duration;

use futures_util::future::join_all;
use http::Method;
use serde_json::json;
use system_tests::api;
use system_tests::eventually::{PATIENCE, eventually};
use system_tests::hub::{Hub, STRIPE_SECRET};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};

use crate::security::{bytes_of, rows};

/// The poller takes at most 32, the two fixtures among them.
const PAGES_PER_HUB: usize = 24;
/// Longer than any fetch is waited for.
const FOR_EVER: Duration = Duration::from_secs(120);

struct Row {
    name: String,
    behaviour: String,
    body: Vec<u8>,
    code: String,
}

#[tokio::test]
async fn a_page_that_misbehaves_is_an_error_of_its_source_alone() {
    let mut table: Vec<Row> = rows("status_pages.tsv")
        .into_iter()
        .map(|columns| {
            let [name, behaviour, body, code] = columns.try_into().unwrap();
            let body = bytes_of(&body, "");
            Row {
                name,
                behaviour,
                body,
                code,
            }
        })
        .collect();
    assert!(table.len() > 30);

    while !table.is_empty() {
        let some = table.split_off(table.len().saturating_sub(PAGES_PER_HUB));
        pull(some).await;
    }
}

async fn pull(table: Vec<Row>) {
    let codes: Vec<(String, String)> = table
        .iter()
        .map(|row| (format!("{}_status", source(&row.name)), row.code.clone()))
        .collect();
    // Bound, so that nobody else gets it, but without a listener.
    let vacant = TcpSocket::new_v4().unwrap();
    vacant.bind("127.0.0.1:0".parse().unwrap()).unwrap();
    let pages = join_all(table.into_iter().map(async |row| {
        let address = if row.behaviour == "refuse" {
            vacant.local_addr().unwrap()
        } else {
            vendor(row.behaviour, row.body).await
        };
        format!("{}=http://{address}/api/v2/summary.json", source(&row.name))
    }))
    .await;
    // A schedule that does not ring during the test.
    let variables = [
        ("STATUS_PAGES", &*pages.join(",")),
        ("STATUS_POLL_CRON", "0 0 0 1 1 *"),
    ];
    let hub = Hub::start_with(&variables).await.unwrap();

    let url = hub.url("/ingest/pull-status");
    let answer = api::call(Method::POST, &url, &[], Vec::new())
        .await
        .unwrap();

    assert_eq!(answer.status, 200, "{}", answer.text());
    let report = answer.json();
    assert_eq!(report["stored"], 2, "the fixtures alone: {report}");
    let errors = report["errors"].as_array().unwrap();
    for (source, code) in codes {
        let found = errors.iter().find(|error| error["source"] == *source);
        if code == "-" {
            assert_eq!(found, None);
        } else {
            assert_eq!(found, Some(&json!({"source": source, "code": code})));
        }
    }
}

/// What the whole path must take: gateway, ingester, store, feed, delivery and destination.
#[tokio::test]
async fn a_stripe_event_of_a_mebibyte_pages_with_every_byte() {
    let hub = Hub::start().await.unwrap();
    let event = |padding: usize| {
        json!({
            "id": "evt_long", "object": "event", "type": "payout.failed", "created": 1_705_315_200,
            "data": {"object": {"id": "po_1", "note": "x".repeat(padding)}},
        })
    };
    let wrapping = event(0).to_string().len();
    let body = event((1 << 20) - wrapping).to_string();
    assert_eq!(body.len(), 1 << 20);

    let answer = api::post_stripe(&hub.url(""), STRIPE_SECRET, body.clone())
        .await
        .unwrap();

    assert_eq!(answer.status, 200, "{}", answer.text());
    let page = eventually("the page", PATIENCE, async || {
        let received = api::get(&hub.url("/destinations/pagerduty")).await.unwrap();
        let received = received.json();
        received["events"].get(0).cloned().ok_or(received)
    })
    .await
    .unwrap();
    let sent: serde_json::Value = serde_json::from_str(&body).unwrap();
    assert!(page["raw"] == sent, "the page has other bytes");
    let listed = api::get(&hub.url("/events?limit=50")).await.unwrap().json();
    assert!(
        listed["events"][0]["raw"] == sent,
        "the list has other bytes"
    );

    let longer = api::post_stripe(&hub.url(""), STRIPE_SECRET, format!("{body} ")).await;
    assert_eq!(longer.unwrap().status, 413);
}

/// A vendor's name is one to 48 of `a-z 0-9 _`.
fn source(name: &str) -> String {
    name.to_lowercase()
        .replace('-', "_")
        .chars()
        .take(48)
        .collect()
}

/// A server that does as it is told with every request.
async fn vendor(behaviour: String, body: Vec<u8>) -> SocketAddr {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let address = listener.local_addr().unwrap();
    tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            let (behaviour, body) = (behaviour.clone(), body.clone());
            tokio::spawn(async move {
                // A client that has read enough closes.
                let _closed = answer(stream, address, &behaviour, &body).await;
            });
        }
    });
    address
}

async fn answer(
    mut stream: TcpStream,
    address: SocketAddr,
    behaviour: &str,
    body: &[u8],
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let head = |status: &str, length: usize| {
        format!(
            "HTTP/1.1 {status} Status\r\nLocation: http://{address}/\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        )
    };
    match behaviour {
        "silent" => tokio::time::sleep(FOR_EVER).await,
        "trickle" => {
            stream.write_all(head("200", body.len()).as_bytes()).await?;
            for byte in body {
                stream.write_u8(*byte).await?;
                tokio::time::sleep(FOR_EVER / 40).await;
            }
        }
        "cut" => {
            stream
                .write_all(head("200", body.len() + 1).as_bytes())
                .await?;
            stream.write_all(body).await?;
        }
        "bare" => stream.write_all(body).await?,
        status => {
            stream
                .write_all(head(status, body.len()).as_bytes())
                .await?;
            stream.write_all(body).await?;
        }
    }
    stream.shutdown().await
}
