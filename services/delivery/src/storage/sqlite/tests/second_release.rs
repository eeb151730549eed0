//! A kept dump of the second schema opens in every later one. In it an earlier release had taken in pages, and somebody had
//! posted to `oncall` under the id of an event that then was never paged.

use super::*;
use crate::domain::endpoint::ONCALL;
use crate::storage::conformance::{Hub, keyed};

const KEPT: &str = include_str!(concat!(
    env!("CARGO_MANIFEST_DIR"),
    "/../../fixtures/stores/delivery-0.2.sql"
));
/// What its release had taken in, delivered or not.
const TAKEN_IN: [&str; 6] = [
    "evt_delivered",
    "evt_exhausting",
    "evt_failed",
    "evt_gone",
    "evt_disabled",
    "evt_unwanted",
];
/// Later than everything in it.
const LATER: i64 = 1_795_910_300;

fn opened(directory: &Path) -> Sqlite {
    let path = directory.join("d.db");
    let kept = Connection::open(&path).unwrap();
    kept.execute_batch(KEPT).unwrap();
    drop(kept);
    Sqlite::open(&path, timers(), no_key()).unwrap()
}

async fn owner_of(store: &Sqlite) -> Hub {
    let endpoints = store.endpoints(LANE).await.unwrap();
    let built_in = endpoints.iter().find(|one| one.endpoint_id.is_built_in());
    Hub {
        epoch: store.take_lane(LANE, "later", at(LATER)).await.unwrap(),
        endpoint: built_in.unwrap().position,
        seen: seen(store, ONCALL).await,
    }
}

#[tokio::test]
async fn a_feed_that_is_read_again_pages_nobody_twice() {
    let directory = tempfile::tempdir().unwrap();
    let store = opened(directory.path());
    let hub = owner_of(&store).await;

    let events = TAKEN_IN.map(|id| hub.feed_event(id)).to_vec();
    let taken = store.take_in(hub.page(events)).await.unwrap().unwrap();

    for (id, taken) in TAKEN_IN.iter().zip(taken) {
        let Accepted::Duplicate { event } = taken else {
            panic!("{id}: {taken:?}");
        };
        let known = store.event_at(LANE, event).await.unwrap().unwrap();
        let source = known.summary.source.unwrap();
        assert_eq!(source.event_id.as_str(), *id);
    }
}

#[tokio::test]
async fn a_page_that_somebody_posted_before_is_paged_when_the_feed_is_read_again() {
    let directory = tempfile::tempdir().unwrap();
    let store = opened(directory.path());
    let hub = owner_of(&store).await;

    let swallowed = hub.page(vec![hub.feed_event("evt_swallowed")]);
    let taken = store.take_in(swallowed).await.unwrap().unwrap();

    assert!(matches!(taken[..], [Accepted::New { .. }]), "{taken:?}");
}

#[tokio::test]
async fn a_clients_key_is_remembered_over_the_release() {
    let directory = tempfile::tempdir().unwrap();
    let store = opened(directory.path());
    let all = Filter {
        client_id: Some("acme".to_owned()),
        idempotency_key: Some("order-42".to_owned()),
        limit: 5,
        ..Filter::default()
    };
    let known = store.events(LANE, all).await.unwrap().rows;
    assert_eq!(known.len(), 1);

    let plan = seen(&store, "acme").await;
    let again = keyed(
        accept_of("acme", plan, "order.created", &[]),
        "order-42",
        at(LATER),
    );
    let again = Accept {
        now: at(LATER),
        ..again
    };

    assert_eq!(
        store.accept(again).await,
        Ok(Accepted::KeyReused),
        "its digest is kept"
    );
}
