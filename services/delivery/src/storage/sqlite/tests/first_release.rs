//! A kept file of the first release opens in every later one.

use schema::webhooks::Trigger;

use super::*;
use crate::domain::transition::{ExhaustReason, OpenAttempt, SkipReason};
use crate::storage::{LANE, Placed, Stored};

const KEPT: &str = concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../fixtures/stores/delivery-0.1.db"
);
/// Its owner's epoch, in milliseconds.
const EPOCH: u64 = 1_750_000_000_000;

#[tokio::test]
async fn a_store_of_the_first_release_opens_with_everything_in_it() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("d.db");
    std::fs::copy(KEPT, &path).unwrap();

    let store = Sqlite::open(&path, timers(), key(1)).unwrap();

    let endpoints = store.endpoints(LANE).await.unwrap();
    assert_eq!(endpoints.len(), 1);
    assert!(endpoints[0].endpoint_id.is_built_in());
    assert_eq!(&*endpoints[0].client_id, "oncall");
    assert_eq!(endpoints[0].settings.url, "", "configuration says it");
    assert_eq!(store.cursor(LANE).await, Ok(Some("run:7".to_owned())));
    let all = Filter {
        limit: 50,
        ..Filter::default()
    };
    let page = store.deliveries(LANE, all).await.unwrap();
    let told: Vec<_> = page
        .rows
        .iter()
        .map(|row| {
            let source = row.source.as_ref().unwrap();
            let key = row.idempotency_key.as_deref().unwrap();
            (source.event_id.as_str(), key, row.life.state)
        })
        .collect();
    assert_eq!(
        told,
        [
            (
                "evt_skipped",
                "evt_skipped",
                State::Skipped(SkipReason::TooOld)
            ),
            ("evt_delivered", "evt_delivered#1", State::Pending),
            ("evt_open", "evt_open", State::Pending),
            ("evt_failed", "evt_failed", State::Failed),
            ("evt_pending", "evt_pending", State::Pending),
            (
                "evt_exhausted",
                "evt_exhausted",
                State::Exhausted(ExhaustReason::MaxAttempts)
            ),
            ("evt_delivered", "evt_delivered", State::Delivered),
        ]
    );

    let of = async |row: usize| stored(&store, page.rows[row].position).await;
    open_and_failed_go_on(&of(2).await, &of(3).await);
    let id = page.rows[3].delivery_id;
    let (failed, attempts) = store.delivery(id).await.unwrap().unwrap();
    assert_eq!(failed.code.as_deref(), Some("503"));
    assert_eq!(attempts.len(), 1);
    assert_eq!(attempts[0].error.as_deref(), Some("http_5xx"));
    let outcomes = store.unreported(LANE).await.unwrap();
    let told: Vec<&str> = outcomes
        .iter()
        .map(|outcome| outcome.event_id.as_str())
        .collect();
    assert_eq!(told, ["evt_exhausted", "evt_failed", "evt_skipped"]);
}

fn open_and_failed_go_on(open: &Stored, failed: &Stored) {
    let attempt = OpenAttempt {
        epoch: EPOCH,
        alone: false,
        at: at(3),
        trigger: Trigger::Schedule,
    };
    assert_eq!(open.life.open, Some(attempt));
    assert_eq!((open.life.started, open.life.finished), (1, 0));
    assert_eq!(
        open.event.payload,
        r#"{"event_id": "evt_open",  "summary":"kept"}"#
    );
    assert_eq!((failed.life.started, failed.life.finished), (1, 1));
    assert_eq!(failed.life.due_at, Some(at(1_750_000_064)));
    assert_eq!(failed.life.open, None);
    assert_eq!(failed.event.event_type, "signalpost.page");
    assert_eq!(failed.order_at, failed.position);
}

#[tokio::test]
async fn a_store_of_the_first_release_goes_on_where_it_was() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("d.db");
    std::fs::copy(KEPT, &path).unwrap();
    let store = Sqlite::open(&path, timers(), no_key()).unwrap();
    let epoch = store.take_lane(LANE, "later", at(1)).await.unwrap();
    assert_eq!(epoch, EPOCH + 1);
    let endpoint = store.endpoints(LANE).await.unwrap().remove(0);
    let hub = crate::storage::conformance::Hub {
        epoch,
        endpoint: endpoint.position,
        seen: seen(&store, "oncall").await,
    };

    // The feed is read again from before what was taken in.
    let events = vec![hub.feed_event("evt_pending"), hub.feed_event("evt_new")];
    let taken = store.take_in(hub.page(events)).await.unwrap().unwrap();

    let [
        Accepted::Duplicate { event: known },
        Accepted::New(Placed { event: new, .. }),
    ] = taken[..]
    else {
        panic!("{taken:?}");
    };
    assert!(new > endpoint.position);
    let known = store.event_at(LANE, known).await.unwrap().unwrap();
    assert_eq!(known.deliveries.len(), 1);
    run(&store, epoch, new + 1, State::Delivered, at(1_750_000_020)).await;
    run(
        &store,
        epoch,
        known.deliveries[0].position,
        State::Delivered,
        at(1_750_000_020),
    )
    .await;
    assert_eq!(store.unreported(LANE).await.unwrap().len(), 5);

    let mut filled = endpoint;
    filled.settings.url = "https://events.pagerduty.example".to_owned();
    let filled = put(&store, filled).await;
    assert_eq!(store.endpoints(LANE).await, Ok(vec![filled]));
    report_all(&store).await;
    let retired = store.retire(LANE, 0, at(1_750_000_005)).await.unwrap();
    assert_eq!(retired.removed, 2);
    let job = job_of(
        JobKind::RemoveClient,
        &store.endpoints(LANE).await.unwrap()[0],
    );
    let client = job.client;
    store.remove_client(LANE, job).await.unwrap();
    while store.purge(LANE, client).await.unwrap() > 0 {}
    let left = store.tables_with_rows();
    assert_eq!(left, ["cursors", "jobs", "lanes", "meta"]);
}
