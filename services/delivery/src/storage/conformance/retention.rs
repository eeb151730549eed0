//! What is old leaves.

use jiff::SignedDuration;

use super::*;

pub(super) async fn retention_takes_what_is_old_ended_and_reported(storage: &dyn Storage) {
    let hub = hub(storage).await;
    let done = hub.live(storage, "evt_done", State::Delivered).await;
    let upto = storage.unreported(LANE).await.unwrap()[0].position;
    storage.reported(LANE, upto).await.unwrap();
    let open = hub.live(storage, "evt_open", State::Failed).await;
    let unreported = hub.live(storage, "evt_unreported", State::Delivered).await;
    // Nobody wanted it.
    let bare = accept_of(ONCALL, hub.seen, "t", &[]);
    take(storage, bare.clone()).await;
    let mut young = hub.skipped("evt_young");
    young.accept.now = at(100);
    storage.take_in(hub.page(vec![young])).await.unwrap();

    let too_early = storage.retire(LANE, 0, at(2)).await.unwrap();
    let retired = storage.retire(LANE, 0, at(50)).await.unwrap();

    assert_eq!((too_early.removed, too_early.next), (0, None));
    assert_eq!((retired.removed, retired.next), (2, None));
    let left = storage.load(LANE, vec![done, open, unreported]).await;
    let left: Vec<Position> = left.unwrap().iter().map(|left| left.position).collect();
    assert_eq!(left, [open, unreported]);
    let event = storage.event(bare.event.carried.event_id).await;
    assert!(event.unwrap().is_none());

    // A slice that is full says where the next begins.
    let many = (0..=RETIRE_SLICE).map(|n| {
        let mut event = hub.skipped(&format!("evt_{n}"));
        event.accept.now = at(100);
        event
    });
    storage.take_in(hub.page(many.collect())).await.unwrap();
    let later = at(100) + SignedDuration::from_secs(1);
    report_all(storage).await;
    let first = storage.retire(LANE, unreported, later).await.unwrap();
    let next = first.next.unwrap();
    let second = storage.retire(LANE, next, later).await.unwrap();
    let next = second.next.unwrap();
    let end = storage.retire(LANE, next, later).await.unwrap();
    assert_eq!((first.removed, second.removed), (RETIRE_SLICE, 2));
    assert_eq!((end.removed, end.next), (0, None));
}

pub(super) async fn what_a_line_stops_at_stays(storage: &dyn Storage) {
    let hub = hub(storage).await;
    let position = hub.live(storage, "evt_1", State::Delivered).await;
    let before = stored(storage, position).await;
    let stop = Change {
        blocks: true,
        ..change_of(&before, before.life.clone())
    };
    change(storage, stop).await.unwrap();
    report_all(storage).await;

    let retired = storage.retire(LANE, 0, at(50)).await.unwrap();

    assert_eq!(retired.removed, 0);
    let before = stored(storage, position).await;
    let goes_on = change_of(&before, before.life.clone());
    change(storage, goes_on).await.unwrap();
    let retired = storage.retire(LANE, 0, at(50)).await.unwrap();
    assert_eq!(retired.removed, 1);
}

pub(super) async fn a_retired_event_leaves_nothing_behind(storage: &Sqlite) {
    let hub = hub(storage).await;
    let position = hub.live(storage, "evt_1", State::Delivered).await;
    let id = stored(storage, position).await.delivery_id;
    report_all(storage).await;

    storage.retire(LANE, 0, at(50)).await.unwrap();

    assert_eq!(storage.delivery(id).await, Ok(None));
    let left = storage.tables_with_rows();
    assert_eq!(left, ["clients", "cursors", "endpoints", "lanes", "meta"]);
    let again = hub.insert(storage, &["evt_1"]).await[0];
    assert!(again > position, "a position is never used twice");
}

pub(super) async fn a_key_outlives_its_event_until_it_expires(storage: &dyn Storage) {
    let with_key = |plan, now| {
        let accept = accept_of("acme", plan, "t", &[]);
        Accept {
            now,
            ..keyed(accept, "key", at(1_000))
        }
    };
    let event = take(storage, with_key(None, at(2))).await;
    let plan = seen(storage, "acme").await;

    let retired = storage.retire(LANE, 0, at(50)).await.unwrap();
    assert_eq!(retired.removed, 1);
    let duplicate = storage.accept(with_key(plan, at(60))).await;
    assert_eq!(duplicate, Ok(Accepted::Duplicate { event }));
    assert!(storage.event_at(LANE, event).await.unwrap().is_none());

    // The newest event says how late it is.
    let newest = Accept {
        now: at(1_000),
        ..accept_of("acme", plan, "t", &[])
    };
    take(storage, newest).await;
    storage.retire(LANE, 0, at(50)).await.unwrap();
    // Were it still there, this earlier time would find it.
    take(storage, with_key(plan, at(60))).await;
}
