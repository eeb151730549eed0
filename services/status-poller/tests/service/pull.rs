//! A pull through the running service.

use std::time::Duration;

use crate::support::{Behaviour, Poller, Store, Vacant, Vendor};
use http::StatusCode;
use serde_json::{Value, json};

const SAMPLES: &str = "/work/shared/samples/seed_original/fixtures/statuspage";

fn page(status: &str, updated_at: &str) -> Behaviour {
    let body = json!({
        "page": {"name": "X Status"},
        "components": [{"id": "c", "name": "API", "status": status, "updated_at": updated_at}],
    });
    Behaviour::Answer(200, body.to_string().into_bytes())
}

/// The report without its siblings that are not of interest.
fn counts(report: &Value) -> Value {
    json!([
        report["fetched"],
        report["stored"],
        report["routed"],
        report["resolved"]
    ])
}

#[tokio::test]
async fn without_urls_a_pull_reads_the_fixtures_and_a_second_one_finds_nothing_new() {
    let store = Store::default();
    let poller = Poller::start(&store.start().await, &[]).await;

    let (first, second) = (poller.pull().await, poller.pull().await);

    assert_eq!(
        first,
        json!({
            "fetched": {"spreedly": 1, "braze": 1}, "stored": 2, "routed": 1,
            "resolved": 0, "malformed": 0, "errors": [],
        })
    );
    assert_eq!(
        counts(&second),
        json!([{"spreedly": 1, "braze": 1}, 0, 0, 0])
    );
    let ids: Vec<_> = store
        .events()
        .iter()
        .map(|event| event.event_id.to_string())
        .collect();
    assert_eq!(
        ids,
        [
            "braze_status:component:comp_dashboard:20240115T110000000Z",
            "spreedly_status:incident:inc_spreedly_1",
        ]
    );
}

#[tokio::test]
async fn the_fuller_pages_of_the_assignment_give_its_counts() {
    let read = |vendor: &str| std::fs::read(format!("{SAMPLES}/{vendor}_summary.json"));
    let (Ok(spreedly), Ok(braze)) = (read("spreedly"), read("braze")) else {
        println!("skipped: {SAMPLES} is not on this machine");
        return;
    };
    let store = Store::default();
    let (spreedly, braze) = (
        Vendor::start(Behaviour::Answer(200, spreedly)).await,
        Vendor::start(Behaviour::Answer(200, braze)).await,
    );
    let variables = [
        ("SPREEDLY_STATUS_SUMMARY_URL", spreedly.url()),
        ("BRAZE_STATUS_SUMMARY_URL", braze.url()),
    ];
    let variables = variables
        .each_ref()
        .map(|(name, value)| (*name, value.as_str()));
    let poller = Poller::start(&store.start().await, &variables).await;

    let (first, second) = (poller.pull().await, poller.pull().await);

    assert_eq!(
        counts(&first),
        json!([{"spreedly": 2, "braze": 1}, 3, 1, 0])
    );
    assert_eq!(
        counts(&second),
        json!([{"spreedly": 2, "braze": 1}, 0, 0, 0])
    );
}

#[tokio::test]
async fn a_component_that_recovers_and_fails_again_is_closed_and_then_a_new_event() {
    let store = Store::default();
    let vendor = Vendor::start(page("major_outage", "2024-01-15T10:00:00Z")).await;
    let pages = format!("x={}", vendor.url());
    let poller = Poller::start(&store.start().await, &[("STATUS_PAGES", &pages)]).await;
    let mut seen = Vec::new();

    for behaviour in [
        page("major_outage", "2024-01-15T10:00:00Z"),
        page("major_outage", "2024-01-15T10:05:00Z"),
        page("operational", "2024-01-15T10:10:00Z"),
        page("partial_outage", "2024-01-15T10:20:00Z"),
    ] {
        vendor.now(behaviour);
        let report = poller.pull().await;
        seen.push(json!([
            report["fetched"]["x"],
            report["stored"],
            report["resolved"]
        ]));
    }

    // The first pull stores the fixtures' two as well.
    assert_eq!(
        seen,
        [
            json!([1, 3, 0]),
            json!([1, 0, 0]),
            json!([0, 0, 1]),
            json!([1, 1, 0])
        ]
    );
    let ends: Vec<_> = store
        .events()
        .into_iter()
        .filter(|event| event.source.as_str() == "x_status")
        .map(|event| event.resolved_at.map(|at| at.to_string()))
        .collect();
    assert_eq!(ends, [Some("2024-01-15T10:10:00Z".to_owned()), None]);
}

#[tokio::test]
async fn a_page_that_fails_neither_closes_what_is_open_nor_hides_that_it_failed() {
    let store = Store::default();
    let vendor = Vendor::start(page("major_outage", "2024-01-15T10:00:00Z")).await;
    let pages = format!("x={}", vendor.url());
    let poller = Poller::start(&store.start().await, &[("STATUS_PAGES", &pages)]).await;
    poller.pull().await;

    vendor.now(Behaviour::Answer(200, b"<html>".to_vec()));
    let report = poller.pull().await;

    assert_eq!(
        report["errors"],
        json!([{"source": "x_status", "code": "not_json"}])
    );
    assert_eq!(report["resolved"], 0);
    assert!(
        store
            .events()
            .iter()
            .all(|event| event.resolved_at.is_none())
    );
    let metrics = poller.get("/metrics").await;
    assert!(
        metrics.contains("poll_failures_total{source=\"x_status\"} 1"),
        "{metrics}"
    );
    assert!(
        metrics.contains("polls_total{result=\"not_json\"} 1"),
        "{metrics}"
    );
    assert!(
        poller
            .get("/readyz")
            .await
            .contains("\"last_error\":\"not_json\"")
    );
}

#[tokio::test]
async fn without_its_store_a_pull_says_so_for_every_source() {
    let vacant = Vacant::bind();
    let poller = Poller::start(&vacant.url(), &[]).await;

    let report = poller.pull().await;

    assert_eq!(
        report["errors"],
        json!([
            {"source": "braze_status", "code": "store_unavailable"},
            {"source": "spreedly_status", "code": "store_unavailable"},
        ])
    );
    assert_eq!(
        counts(&report),
        json!([{"spreedly": 0, "braze": 0}, 0, 0, 0])
    );
}

#[tokio::test]
async fn the_schedule_polls_what_is_configured_and_never_a_fixture() {
    let store = Store::default();
    let vendor = Vendor::start(page("major_outage", "2024-01-15T10:00:00Z")).await;
    let pages = format!("x={}", vendor.url());
    let variables = [
        ("STATUS_PAGES", pages.as_str()),
        ("STATUS_POLL_CRON", "* * * * * *"),
    ];
    let poller = Poller::start(&store.start().await, &variables).await;

    let polled = async {
        // Twice, so that what the first ring began has ended.
        while !poller
            .get("/metrics")
            .await
            .contains("polls_total{result=\"ok\"} 2")
        {
            tokio::time::sleep(Duration::from_millis(50)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(20), polled)
        .await
        .unwrap();

    let sources: Vec<_> = store
        .events()
        .iter()
        .map(|event| event.source.to_string())
        .collect();
    assert_eq!(sources, ["x_status"]);
}

#[tokio::test]
async fn pulls_at_the_same_time_take_turns_and_too_many_are_told_to_come_again() {
    let store = Store::default();
    let vendor = Vendor::start(Behaviour::Silent).await;
    let pages = format!("x={}", vendor.url());
    let variables = [("STATUS_PAGES", pages.as_str())];
    let second = Duration::from_secs(1);
    let poller = Poller::start_within(second, &store.start().await, &variables).await;

    let pulls: Vec<_> = futures_util::future::join_all((0..8).map(|_| poller.try_pull())).await;

    let done: Vec<_> = pulls
        .iter()
        .filter(|(status, ..)| *status == StatusCode::OK)
        .collect();
    let stored: u64 = done
        .iter()
        .map(|(.., report)| report["stored"].as_u64().unwrap())
        .sum();
    assert!(
        (4..=5).contains(&done.len()),
        "one under way and four waiting: {}",
        done.len()
    );
    assert_eq!(stored, 2, "each event is counted by one of the pulls");
    for (status, retry_after, problem) in &pulls {
        if *status != StatusCode::OK {
            assert_eq!(*status, StatusCode::SERVICE_UNAVAILABLE);
            assert_eq!(problem["code"], "unavailable");
            assert!(retry_after.is_some());
        }
    }
}
