//! `/metrics` is what Prometheus reads.

use std::process::Stdio;

use system_tests::eventually::{PATIENCE, eventually};
use system_tests::hub::Hub;
use system_tests::{alerts, api};
use tokio::io::AsyncWriteExt as _;
use tokio::process::Command;

/// Of the gateway, and of each service through it.
const PATHS: [&str; 7] = [
    "",
    "/stripe-ingester",
    "/status-poller",
    "/event-store",
    "/delivery",
    "/summarizer",
    "/mock-pagerduty",
];

#[tokio::test]
async fn promtool_has_no_complaint() {
    let found = Command::new("promtool").arg("--version").output().await;
    if found.is_err() {
        println!("skipped: promtool is not installed");
        return;
    }
    let hub = Hub::start().await.unwrap();

    for path in PATHS {
        let url = hub.url(&format!("/metrics{path}"));
        // Once before, so that the request counters have something to tell.
        api::get(&url).await.unwrap();
        let metrics = api::get(&url).await.unwrap();
        assert_eq!(metrics.status, 200, "{path}");
        let mut promtool = Command::new("promtool")
            .args(["check", "metrics"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut stdin = promtool.stdin.take().unwrap();
        stdin.write_all(&metrics.body).await.unwrap();
        drop(stdin);
        let verdict = promtool.wait_with_output().await.unwrap();
        let complaints = String::from_utf8_lossy(&verdict.stderr).into_owned();
        assert!(verdict.status.success(), "{path}: {complaints}");
        assert_eq!(complaints, "", "{path}");
    }
}

/// `increase` sees the first loss after a start only where the counter stood at 0 before it.
#[tokio::test]
async fn whatever_an_alert_asks_for_stands_from_the_start() {
    // Nobody is there: the age of a page that was never read stands from the start, too.
    let page = [(
        "STATUS_PAGES",
        "never=http://127.0.0.1:9/api/v2/summary.json",
    )];
    let hub = Hub::start_with(&page).await.unwrap();

    for alert in alerts::read().unwrap() {
        for (metric, labels) in alert.series() {
            let what = format!("{metric} {labels:?} of {}", alert.name);
            eventually(&what, PATIENCE, async || {
                let metrics = all(&hub).await;
                let stands = metrics.lines().any(|line| {
                    let rest = line.strip_prefix(&metric);
                    rest.is_some_and(|rest| rest.starts_with(['{', ' ']))
                        && labels.iter().all(|label| line.contains(label))
                });
                if stands { Ok(()) } else { Err("absent") }
            })
            .await
            .unwrap();
        }
    }
}

async fn all(hub: &Hub) -> String {
    let mut metrics = String::new();
    for path in PATHS {
        let answer = api::get(&hub.url(&format!("/metrics{path}"))).await;
        metrics.push_str(&answer.unwrap().text());
    }
    metrics
}
