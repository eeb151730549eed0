//! The supervisor over stand-ins that announce an address and sleep.
#![expect(
    clippy::unwrap_used,
    clippy::panic,
    reason = "a test that cannot be set up has failed"
)]

use std::collections::BTreeMap;
use std::fs;
use std::os::unix::fs::symlink;
use std::time::Duration;

use signalpost::supervisor::{Line, Options, ROWS, Supervisor};
use tempfile::TempDir;
use tokio::sync::mpsc;

const PATIENCE: Duration = Duration::from_secs(20);

/// A folder with a stand-in for each service. They are links: a file that was just written cannot always be run yet.
fn stand_ins() -> TempDir {
    let folder = tempfile::tempdir().unwrap();
    let script = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/stand-in.sh");
    for service in ROWS.iter().copied().flatten() {
        symlink(script, folder.path().join(service)).unwrap();
    }
    folder
}

fn options(folder: &TempDir) -> (Options, mpsc::Receiver<Line>) {
    let (lines, received) = mpsc::channel(1024);
    let options = Options {
        bin_dir: folder.path().to_owned(),
        working_dir: None,
        inherit_environment: false,
        environment: BTreeMap::new(),
        gateway_host: "127.0.0.1".to_owned(),
        gateway_port: 0,
        lines,
    };
    (options, received)
}

async fn line_with(lines: &mut mpsc::Receiver<Line>, part: &str) -> String {
    line_with_any(lines, &[part]).await
}

async fn line_with_any(lines: &mut mpsc::Receiver<Line>, parts: &[&str]) -> String {
    let found = async {
        while let Some(line) = lines.recv().await {
            if parts.iter().any(|part| line.text.contains(part)) {
                return line.text;
            }
        }
        panic!("the lines ended without {parts:?}");
    };
    tokio::time::timeout(PATIENCE, found)
        .await
        .unwrap_or_else(|_| panic!("no line with {parts:?}"))
}

fn lives(pid: u32) -> bool {
    // A zombie is dead, though /proc still has it.
    fs::read_to_string(format!("/proc/{pid}/stat")).is_ok_and(|stat| !stat.contains(") Z "))
}

#[tokio::test]
async fn each_service_is_told_where_all_are_whichever_starts_first() {
    let folder = stand_ins();
    let (options, mut lines) = options(&folder);

    let supervisor = Supervisor::start(options).await.unwrap();

    let told = line_with(&mut lines, "event-store told").await;
    let url = |service| supervisor.url(service).unwrap();
    let port = url("event-store").rsplit(':').next().unwrap().to_owned();
    assert_eq!(
        told,
        format!(
            "event-store told {port} {} {} {}/destinations/pagerduty",
            url("event-store"),
            url("gateway"),
            url("mock-pagerduty")
        )
    );
}

#[tokio::test]
async fn a_killed_service_is_started_again_on_its_port() {
    let folder = stand_ins();
    let (options, mut lines) = options(&folder);
    let supervisor = Supervisor::start(options).await.unwrap();
    let first = supervisor.pid("event-store").unwrap().unwrap();
    let url = supervisor.url("event-store").unwrap();
    let told = format!("event-store told {}", url.rsplit(':').next().unwrap());
    line_with(&mut lines, &told).await;

    supervisor.kill("event-store").unwrap();

    // The child and the supervisor may speak in either order.
    let either = [&*told, "event-store started again"];
    let first_line = line_with_any(&mut lines, &either).await;
    let other = either.iter().find(|part| !first_line.contains(**part));
    line_with(&mut lines, other.unwrap()).await;
    assert_ne!(supervisor.pid("event-store").unwrap(), Some(first));
    assert!(!lives(first));
}

#[tokio::test]
async fn a_held_service_stays_dead_until_it_is_let_go() {
    let folder = stand_ins();
    let (options, mut lines) = options(&folder);
    let supervisor = Supervisor::start(options).await.unwrap();

    supervisor.hold("delivery").await.unwrap();
    line_with(&mut lines, "delivery died").await;
    // Long past the first back-off; another service shows that restarts do happen meanwhile.
    supervisor.kill("summarizer").unwrap();
    line_with(&mut lines, "summarizer started again").await;
    let while_held = supervisor.pid("delivery").unwrap();
    supervisor.restart("delivery").unwrap();

    line_with(&mut lines, "delivery started again").await;
    assert_eq!(while_held, None);
    assert!(supervisor.pid("delivery").unwrap().is_some());
}

#[tokio::test]
async fn a_service_that_cannot_start_is_told_with_its_last_lines_and_ends_the_others() {
    let folder = stand_ins();
    let (mut options, mut lines) = options(&folder);
    let failing = ("STAND_IN_FAILS".to_owned(), "stripe-ingester".to_owned());
    options.environment.extend([failing]);

    let Err(fault) = Supervisor::start(options).await else {
        panic!("it started");
    };

    let told = fault.to_string();
    assert!(told.contains("stripe-ingester did not start"), "{told}");
    assert!(told.contains("STRIPE_WEBHOOK_SECRET: required"), "{told}");
    let line = line_with(&mut lines, "event-store pid=").await;
    let pid = line.trim_start_matches("event-store pid=").parse().unwrap();
    let ended = async {
        while lives(pid) {
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    };
    tokio::time::timeout(PATIENCE, ended).await.unwrap();
}

#[tokio::test]
async fn stopping_leaves_nothing_running() {
    let folder = stand_ins();
    let (options, _lines) = options(&folder);
    let mut supervisor = Supervisor::start(options).await.unwrap();
    let pids: Vec<u32> = supervisor
        .services()
        .filter_map(|(_, _, pid)| pid)
        .collect();

    supervisor.stop().await;

    assert_eq!(pids.len(), 7);
    assert!(!pids.into_iter().any(lives));
}
