//! A pull through the running service.

use std::time::Duration;

use crate::support::{Behaviour, Poller, Store, Vacant, Vendor};
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
async fn pages_are_told_in_the_order_of_the_configuration() {
    let store = Store::default();
    let vendor = Vendor::start(page("operational", "2024-01-15T10:00:00Z")).await;
    let pages = format!("z={url},a={url}", url = vendor.url());
    let poller = Poller::start(&store.start().await, &[("STATUS_PAGES", &pages)]).await;

    let report = poller.pull_as_text().await;

    assert!(
        report.starts_with(r#"{"fetched":{"spreedly":1,"braze":1,"z":0,"a":0},"stored":2"#),
        "{report}"
    );
}

#[tokio::test]
async fn a_page_that_hangs_slows_no_others_schedule_nor_is_asked_twice_at_once() {
    let store = Store::default();
    let hangs = Vendor::start(Behaviour::Silent).await;
    let answers = Vendor::start(page("operational", "2024-01-15T10:00:00Z")).await;
    let pages = format!("hangs={},answers={}", hangs.url(), answers.url());
    let variables = [
        ("STATUS_PAGES", pages.as_str()),
        ("STATUS_POLL_CRON", "* * * * * *"),
    ];
    let patient = Duration::from_secs(40);
    let _poller = Poller::start_within(patient, &store.start().await, &variables).await;

    answers.has_been_asked(4).await;

    assert_eq!(hangs.asked(), 1);
}

#[tokio::test]
async fn a_page_that_asks_for_time_is_given_it_by_the_schedule_and_by_hand() {
    let store = Store::default();
    let throttles = |retry_after: &str| {
        let head = format!(
            "HTTP/1.1 503 Slow down\r\nRetry-After: {retry_after}\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
        );
        Behaviour::Bare(head.into_bytes())
    };
    let (long, short) = (
        Vendor::start(throttles("Friday, 01-Jan-49 00:00:00 GMT")).await,
        Vendor::start(throttles("1")).await,
    );
    let pages = format!("long={},short={}", long.url(), short.url());
    let variables = [
        ("STATUS_PAGES", pages.as_str()),
        ("STATUS_POLL_CRON", "* * * * * *"),
    ];
    let poller = Poller::start(&store.start().await, &variables).await;

    short.has_been_asked(3).await;
    let report = poller.pull().await;

    assert_eq!(long.asked(), 1);
    let of_long = json!({"source": "long_status", "code": "retry_after"});
    assert_eq!(report["errors"][0], of_long, "{report}");
    assert_eq!(report["fetched"]["long"], 0);
    assert_eq!(long.asked(), 1);
}

#[tokio::test]
async fn every_series_stands_at_0_before_anything_happened() {
    let store = Store::default();
    let vendor = Vendor::start(Behaviour::Silent).await;
    let pages = format!("x={}", vendor.url());
    let poller = Poller::start(&store.start().await, &[("STATUS_PAGES", &pages)]).await;

    let metrics = poller.get("/metrics").await;

    for result in [
        "ok",
        "timeout",
        "connect",
        "status",
        "retry_after",
        "redirect",
        "invalid_response",
        "head_too_large",
        "too_large",
        "not_json",
        "not_a_status_page",
        "store_unavailable",
    ] {
        let series = format!("polls_total{{result=\"{result}\"}} 0\n");
        assert!(metrics.contains(&series), "{series}{metrics}");
    }
    for counter in [
        "poll_failures_total",
        "events_stored_total",
        "rows_malformed_total",
        "words_unknown_total",
        "dates_unreadable_total",
    ] {
        for source in ["spreedly_status", "braze_status", "x_status"] {
            let series = format!("{counter}{{source=\"{source}\"}} 0\n");
            assert!(metrics.contains(&series), "{series}{metrics}");
        }
    }
    assert!(
        metrics.contains("poll_age_seconds{source=\"x_status\"} "),
        "{metrics}"
    );
}
