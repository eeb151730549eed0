//! `/metrics` is what Prometheus reads.

use std::process::Stdio;

use system_tests::api;
use system_tests::hub::Hub;
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
