//! The service as its callers see it: one router, one request at a time.

use std::time::Duration;

use axum::Router;
use axum::body::Body;
use http::{HeaderValue, Request, StatusCode, header};
use http_body_util::BodyExt as _;
use runtime::base::Base;
use runtime::clock::Clock;
use runtime::health::Health;
use runtime::internal_key::{Door, InternalKey};
use schema::event::{EventView, EventsPage};
use schema::feed::FeedPage;
use schema::intake::{BatchResults, Receipt};
use schema::names;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use super::*;
use crate::storage::{Memory, Sqlite};

const KEY: &str = "key-of-the-tests";

/// The service over a store.
struct Service {
    base: Arc<Base>,
    hub: Arc<Hub>,
    router: Router,
}

struct Answer {
    status: StatusCode,
    media: String,
    body: Vec<u8>,
}

impl Answer {
    fn json<T: serde::de::DeserializeOwned>(&self) -> T {
        serde_json::from_slice(&self.body)
            .unwrap_or_else(|fault| panic!("{fault}: {}", self.text()))
    }

    fn text(&self) -> String {
        String::from_utf8(self.body.clone()).unwrap()
    }

    fn code(&self) -> String {
        assert_eq!(self.media, "application/problem+json", "{}", self.text());
        self.json::<Value>()["code"].as_str().unwrap().to_owned()
    }
}

impl Service {
    fn new() -> Self {
        Self::over(|metrics| Arc::new(Memory::new(1000, Clock::system(), metrics.commits.clone())))
    }

    fn over(storage: impl FnOnce(&StoreMetrics) -> Arc<dyn Storage>) -> Self {
        let base = Arc::new(Base::new("event-store", Clock::system()));
        let metrics = StoreMetrics::new(&base.metrics);
        let hub = Arc::new(Hub {
            storage: storage(&metrics),
            routing: Routing::default(),
            metrics,
            answers: Answers::default(),
            stopping: CancellationToken::new(),
        });
        let door = Door::locked(InternalKey::parse(KEY).unwrap());
        let router = base.wrap(routes(Arc::clone(&hub)), Health::new(), door);
        Self { base, hub, router }
    }

    async fn ask(&self, mut request: Request<Body>) -> Answer {
        let key = HeaderValue::from_static(KEY);
        request.headers_mut().insert(names::INTERNAL_KEY, key);
        let response = self.router.clone().oneshot(request).await.unwrap();
        let media = response.headers().get(header::CONTENT_TYPE);
        Answer {
            status: response.status(),
            media: media.map_or("", |media| media.to_str().unwrap()).to_owned(),
            body: response
                .into_body()
                .collect()
                .await
                .unwrap()
                .to_bytes()
                .into(),
        }
    }

    async fn get(&self, path: &str) -> Answer {
        self.ask(Request::get(path).body(Body::empty()).unwrap())
            .await
    }

    async fn post(&self, path: &str, body: impl Into<Body>) -> Answer {
        let request = Request::post(path).header(header::CONTENT_TYPE, "application/json");
        self.ask(request.body(body.into()).unwrap()).await
    }

    async fn submit(&self, items: &[String]) -> Vec<Receipt> {
        let body = format!(r#"{{"items":[{}]}}"#, items.join(","));
        let answer = self.post("/internal/events", body).await;
        assert_eq!(answer.status, StatusCode::OK, "{}", answer.text());
        answer.json::<BatchResults>().results
    }

    fn metrics(&self) -> String {
        String::from_utf8(self.base.metrics.render()).unwrap()
    }
}

/// An event with spaces and numbers in `raw` that no re-serialization would keep.
fn event(event_id: &str, severity: &str) -> String {
    format!(
        r#"{{"event_id":"{event_id}","source":"stripe","kind":"payment","severity":"{severity}","service":"stripe","summary":"s","description":null,"started_at":"2024-01-15T10:40:00Z","resolved_at":null,"raw":{{"z": 1.0,"a":18446744073709551616}}}}"#
    )
}

fn item(event_id: &str, severity: &str) -> String {
    let event = event(event_id, severity);
    // A correlation id takes no colon.
    let event_id = event_id.replace(':', ".");
    format!(r#"{{"correlation_id":"c-{event_id}","deadline_ms":8000,"event":{event}}}"#)
}

fn stored(routed: bool) -> Receipt {
    Receipt::Stored { routed }
}

#[tokio::test]
async fn a_bad_item_fails_alone() {
    let service = Service::new();

    let receipts = service
        .submit(&[
            item("evt_1", "critical"),
            item("evt 2", "info"),
            item("evt_3", "fatal"),
            "7".to_owned(),
            item("evt_4", "warning"),
            item("evt_1", "critical"),
        ])
        .await;

    assert_eq!(receipts[0], stored(true));
    for receipt in &receipts[1..4] {
        assert!(matches!(receipt, Receipt::Rejected { .. }), "{receipt:?}");
    }
    assert_eq!(receipts[4], stored(false));
    assert_eq!(receipts[5], Receipt::Duplicate { routed: true });
    let metrics = service.metrics();
    for line in [
        r#"events_received_total{outcome="stored"} 2"#,
        r#"events_received_total{outcome="duplicate"} 1"#,
        r#"events_received_total{outcome="rejected"} 3"#,
        r#"events_stored_severity_total{severity="critical"} 1"#,
        r#"events_stored_kind_total{kind="payment"} 2"#,
        "events_routed_total 1",
    ] {
        assert!(metrics.contains(line), "{line} is not in\n{metrics}");
    }
}

#[tokio::test]
async fn a_batch_that_is_none_is_refused() {
    let service = Service::new();
    let many = vec!["1"; 257].join(",");
    for (body, status) in [
        ("", StatusCode::BAD_REQUEST),
        ("[]", StatusCode::BAD_REQUEST),
        ("{}", StatusCode::BAD_REQUEST),
        (r#"{"items":1}"#, StatusCode::BAD_REQUEST),
        (&format!(r#"{{"items":[{many}]}}"#), StatusCode::BAD_REQUEST),
        (
            &" ".repeat(intake::BODY_MAX + 1),
            StatusCode::PAYLOAD_TOO_LARGE,
        ),
    ] {
        let answer = service.post("/internal/events", body.to_owned()).await;
        assert_eq!(answer.status, status, "{} bytes", body.len());
    }
    let untyped = Request::post("/internal/events").body("{}".into()).unwrap();
    assert_eq!(service.ask(untyped).await.code(), "unsupported_media");
    assert_eq!(service.submit(&[]).await, []);
}

#[tokio::test]
async fn what_is_past_its_deadline_is_not_stored() {
    let service = Service::new();
    let late = item("evt_1", "info").replace("8000", "0");

    let receipts = service.submit(&[late, item("evt_2", "info")]).await;

    assert!(matches!(receipts[0], Receipt::Unavailable { .. }));
    assert_eq!(receipts[1], stored(false));
    let answer = service.get("/events/evt_1").await;
    assert_eq!(answer.status, StatusCode::NOT_FOUND);
}

#[tokio::test]
async fn a_store_that_cannot_write_says_so_for_each_item_and_goes_on_reading() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("events.db");
    let service = Service::over(|metrics| {
        let metrics = metrics.commits.clone();
        let nearly_full = Sqlite::open_with_reserve(&path, Clock::system(), metrics, u64::MAX);
        Arc::new(nearly_full.unwrap())
    });

    let receipts = service
        .submit(&[item("evt_1", "info"), "{}".to_owned()])
        .await;

    assert_eq!(receipts[0], Receipt::Unavailable { retry_after_s: 5 });
    assert!(matches!(receipts[1], Receipt::Rejected { .. }));
    assert_eq!(
        service.get("/events").await.text(),
        r#"{"events":[],"next_cursor":null}"#
    );
}

#[tokio::test]
async fn a_page_is_the_schema_with_raw_as_it_came() {
    let service = Service::new();
    service
        .submit(&[item("evt_1", "critical"), item("evt_2", "info")])
        .await;

    let answer = service.get("/events?limit=1").await;

    assert_eq!(answer.media, "application/json");
    let page: EventsPage = answer.json();
    // Written field by field here, by serde there: one order, the same bytes.
    assert_eq!(answer.text(), serde_json::to_string(&page).unwrap());
    assert_eq!(page.events[0].event_id.as_str(), "evt_2");
    assert_eq!(
        page.events[0].raw.get(),
        r#"{"z": 1.0,"a":18446744073709551616}"#
    );
    let next = page.next_cursor.unwrap();
    let last: EventsPage = service.get(&format!("/events?cursor={next}")).await.json();
    assert_eq!(last.events[0].event_id.as_str(), "evt_1");
    assert_eq!(last.next_cursor, None);
}

#[tokio::test]
async fn one_event_is_told_with_its_deliveries() {
    let service = Service::new();
    service.submit(&[item("evt_1", "critical")]).await;
    let report = json!({"outcomes": [{
        "epoch": 1, "position": 1, "event_id": "evt_1", "revision": 0, "correlation_id": "c-evt_1",
        "destination": "pagerduty", "delivery_id": "dlv_1", "status": "delivered", "attempts": 1,
        "reason": null, "at": "2024-01-15T10:41:00Z",
    }, {
        "epoch": 1, "position": 2, "event_id": "evt_9", "revision": 0, "correlation_id": "c-evt_9",
        "destination": "pagerduty", "delivery_id": "dlv_2", "status": "delivered", "attempts": 1,
        "reason": null, "at": "2024-01-15T10:41:00Z",
    }]});

    let reported = service.post("/internal/outcomes", report.to_string()).await;

    assert_eq!(reported.text(), "{}");
    let answer = service.get("/events/evt_1").await;
    let view: EventView = answer.json();
    assert_eq!(answer.text(), serde_json::to_string(&view).unwrap());
    assert_eq!(view.delivered_to, ["pagerduty"]);
    assert_eq!(view.deliveries.unwrap()[0].delivery_id, "dlv_1");
    assert_eq!(view.correlation_id.as_str(), "c-evt_1");
    assert!(service.metrics().contains("outcomes_unknown_total 1"));
    for unknown in ["/events/evt_2", "/events/a%20b", "/events/..%2f"] {
        assert_eq!(service.get(unknown).await.code(), "not_found", "{unknown}");
    }
}

#[tokio::test]
async fn an_outcome_that_cannot_be_read_is_left_out_and_the_others_are_kept() {
    let service = Service::new();
    service
        .submit(&[item("evt_1", "critical"), item("evt_2", "critical")])
        .await;
    let report = |event_id: &str, status: &str| {
        json!({
            "epoch": 1, "position": 1, "event_id": event_id, "revision": 0, "correlation_id": "c",
            "destination": "pagerduty", "delivery_id": "dlv_1", "status": status, "attempts": 1,
            "reason": null, "at": "2024-01-15T10:41:00Z",
        })
    };
    let reports = json!({"outcomes": [
        report("evt_1", "teleported"), 7, report("evt_2", "delivered"),
    ]});

    let reported = service
        .post("/internal/outcomes", reports.to_string())
        .await;

    assert_eq!(reported.status, StatusCode::OK);
    let kept: EventView = service.get("/events/evt_2").await.json();
    assert_eq!(kept.delivered_to, ["pagerduty"]);
    assert!(service.metrics().contains("outcomes_rejected_total 2"));
}

#[tokio::test]
async fn a_query_that_is_not_understood_is_refused() {
    let service = Service::new();
    for query in [
        "events?limit=0",
        "events?limit=501",
        "events?limit=-1",
        "events?limit=ten",
        "events?limit=",
        "events?limit=1&limit=2",
        "events?source=Stripe",
        "events?kind=outage",
        "events?severity=CRITICAL",
        "events?open=1",
        "events?since=yesterday",
        "events?until=2024-01-15",
        "events?cursor=",
        "events?cursor=-1",
        "events?cursor=abc",
        "events?colour=red",
        "feed?limit=0",
        "feed?limit=501",
        "feed?wait=-1",
        "feed?routed=yes",
        "feed?before=1",
    ] {
        let answer = service.get(&format!("/{query}")).await;
        assert_eq!(answer.status, StatusCode::BAD_REQUEST, "{query}");
        assert_eq!(answer.code(), "invalid_query", "{query}");
    }
    let everything = "/events?limit=500&source=stripe&kind=payment&severity=info&open=false\
        &since=2024-01-15T10:00:00Z&until=2124-01-15T10:00:00%2B01:00&q=a%20b&cursor=7";
    assert_eq!(service.get(everything).await.status, StatusCode::OK);
}

#[tokio::test]
async fn an_open_event_is_resolved() {
    let service = Service::new();
    let incident = item("braze_status:incident:1", "warning").replace(
        r#""stripe","kind":"payment""#,
        r#""braze_status","kind":"incident""#,
    );
    service.submit(&[incident]).await;
    let ended = json!({"items": [{
        "event_id": "braze_status:incident:1", "resolved_at": "2024-01-15T12:00:00Z", "correlation_id": "c-2",
    }]});

    for resolved in [1, 0] {
        let answer = service
            .post("/internal/resolutions", ended.to_string())
            .await;
        assert_eq!(answer.text(), format!(r#"{{"resolved":{resolved}}}"#));
    }

    let page: EventsPage = service.get("/events?open=false").await.json();
    assert!(page.events[0].resolved_at.is_some());
    assert_eq!(page.events[0].revision, 1);
}

#[tokio::test]
async fn the_feed_tells_notices_with_their_events_as_bytes() {
    let service = Service::new();
    service
        .submit(&[item("evt_1", "info"), item("evt_2", "critical")])
        .await;

    let answer = service.get("/feed?routed=true").await;

    let page: FeedPage = answer.json();
    assert_eq!(answer.text(), serde_json::to_string(&page).unwrap());
    assert_eq!((page.notices.len(), page.head), (1, 2));
    assert_eq!(page.notices[0].event.get(), event("evt_2", "critical"));
    let safe = |byte: u8| byte.is_ascii_alphanumeric() || b"._-".contains(&byte);
    assert!(page.next.bytes().all(safe), "{}", page.next);
    let rest: FeedPage = service
        .get(&format!("/feed?after={}", page.next))
        .await
        .json();
    assert_eq!((rest.notices.len(), rest.next), (0, page.next));
}

#[tokio::test]
async fn a_token_that_cannot_be_resumed_is_refused_and_counted() {
    let service =
        Service::over(|metrics| Arc::new(Memory::new(1, Clock::system(), metrics.commits.clone())));
    service.submit(&[item("evt_1", "info")]).await;
    let page: FeedPage = service.get("/feed").await.json();
    let items: Vec<_> = (2..5).map(|n| item(&format!("evt_{n}"), "info")).collect();
    service.submit(&items).await;

    let too_old = service.get(&format!("/feed?after={}", page.next)).await;
    let foreign = service
        .get(&format!("/feed?after={}.1", "0".repeat(32)))
        .await;
    let nonsense = service.get("/feed?after=nonsense").await;

    assert_eq!(
        (too_old.status, too_old.code().as_str()),
        (StatusCode::GONE, "feed_too_old")
    );
    for diverged in [foreign, nonsense] {
        assert_eq!(diverged.status, StatusCode::CONFLICT);
        assert_eq!(diverged.code(), "feed_diverged");
    }
    let metrics = service.metrics();
    assert!(metrics.contains("feed_too_old_total 1"));
    assert!(metrics.contains("feed_diverged_total 2"));
}

#[tokio::test(start_paused = true)]
async fn who_waits_for_the_feed_is_woken_by_what_matches_and_by_nothing_else() {
    let service = Service::new();
    let started = tokio::time::Instant::now();
    let waiting = service.get("/feed?routed=true&wait=20000");
    let happening = async {
        tokio::time::sleep(Duration::from_secs(2)).await;
        service.submit(&[item("evt_1", "info")]).await;
        tokio::time::sleep(Duration::from_secs(3)).await;
        service.submit(&[item("evt_2", "critical")]).await;
    };

    let (answer, ()) = tokio::join!(waiting, happening);

    assert_eq!(started.elapsed().as_secs(), 5);
    assert_eq!(
        answer.json::<FeedPage>().notices[0].event_id.as_str(),
        "evt_2"
    );
}

#[tokio::test(start_paused = true)]
async fn a_wait_has_an_end() {
    let service = Service::new();
    for (wait, seconds) in [(0, 0), (1500, 1), (86_400_000, 30)] {
        let started = tokio::time::Instant::now();
        let answer = service.get(&format!("/feed?wait={wait}")).await;
        assert_eq!(answer.status, StatusCode::OK);
        assert_eq!(started.elapsed().as_secs(), seconds, "wait={wait}");
    }
}

#[tokio::test(start_paused = true)]
async fn nobody_waits_for_a_service_that_stops() {
    let service = Service::new();
    let started = tokio::time::Instant::now();
    service.hub.stopping.cancel();

    let answer = service.get("/feed?wait=20000").await;

    assert_eq!(answer.json::<FeedPage>().notices.len(), 0);
    assert_eq!(started.elapsed(), Duration::ZERO);
}
