//! Owning a lane, reading the feed, telling event-store.

use schema::delivery::Status;

use super::*;
use crate::domain::transition::ExhaustReason;

pub(super) async fn a_new_owner_has_a_higher_epoch_whatever_the_clock_says(storage: &dyn Storage) {
    let first = storage.take_lane(LANE, "a", at(1_000)).await.unwrap();
    assert_eq!(first, 1_000_000);

    let back = storage.take_lane(LANE, "b", at(10)).await.unwrap();
    let later = storage.take_lane(LANE, "c", at(2_000)).await.unwrap();

    assert_eq!(back, 1_000_001);
    assert_eq!(later, 2_000_000);
}

pub(super) async fn a_page_moves_the_cursor_with_or_without_events(storage: &dyn Storage) {
    let hub = hub(storage).await;
    assert_eq!(storage.cursor(LANE).await, Ok(None));

    storage.take_in(hub.page(vec![])).await.unwrap();
    assert_eq!(storage.cursor(LANE).await, Ok(Some("run:1".to_owned())));

    let next = Intake {
        cursor: "run:2".to_owned(),
        ..hub.page(vec![hub.feed_event("evt_1")])
    };
    storage.take_in(next).await.unwrap();
    assert_eq!(storage.cursor(LANE).await, Ok(Some("run:2".to_owned())));
}

pub(super) async fn an_event_of_the_feed_is_taken_in_once_for_each_revision(storage: &dyn Storage) {
    let hub = hub(storage).await;
    let mut revised = hub.feed_event("evt_1");
    revised.accept = known_as(revised.accept, KnownAs::Page("evt_1#1".to_owned()));
    let events = vec![hub.feed_event("evt_1"), hub.feed_event("evt_1"), revised];

    let first = storage.take_in(hub.page(events.clone())).await.unwrap();
    let again = storage.take_in(hub.page(events)).await.unwrap();

    let client = hub.seen.unwrap().client;
    let Some(
        [
            Accepted::New(Placed { event, .. }),
            _,
            Accepted::New(Placed { event: later, .. }),
        ],
    ) = first.as_deref()
    else {
        panic!("{first:?}");
    };
    let (event, later) = (*event, *later);
    let new = |event| {
        Accepted::New(Placed {
            client,
            event,
            deliveries: vec![Some(event + 1)],
        })
    };
    assert_eq!(
        first.unwrap(),
        [new(event), Accepted::Duplicate { event }, new(later)]
    );
    assert_eq!(
        again.unwrap(),
        [
            Accepted::Duplicate { event },
            Accepted::Duplicate { event },
            Accepted::Duplicate { event: later },
        ]
    );
    let found = storage.load(LANE, vec![event + 1, later + 1]).await;
    assert_eq!(found.unwrap().len(), 2);
}

pub(super) async fn a_page_is_taken_in_whatever_was_posted_under_its_key(storage: &dyn Storage) {
    let hub = hub(storage).await;
    let posted = accept_of(ONCALL, hub.seen, "order.created", &[]);
    let posted = take(storage, keyed(posted, "evt_1", at(1_000))).await;

    let first = storage
        .take_in(hub.page(vec![hub.feed_event("evt_1")]))
        .await;
    let again = storage
        .take_in(hub.page(vec![hub.feed_event("evt_1")]))
        .await;

    let Ok(Some(first)) = first else {
        panic!("{first:?}");
    };
    let [Accepted::New(Placed { event, .. })] = first[..] else {
        panic!("{first:?}");
    };
    assert!(event > posted);
    assert_eq!(again, Ok(Some(vec![Accepted::Duplicate { event }])));
    // And the other way round: what is posted is no duplicate of a page.
    let later = accept_of(ONCALL, hub.seen, "order.created", &[]);
    hub.insert(storage, &["evt_2"]).await;
    take(storage, keyed(later, "evt_2", at(1_000))).await;
    let asked = Filter {
        client_id: Some(ONCALL.to_owned()),
        idempotency_key: Some("evt_1".to_owned()),
        limit: 10,
        ..Filter::default()
    };
    let found = storage.events(LANE, asked).await.unwrap().rows;
    let found: Vec<Position> = found.iter().map(|row| row.position).collect();
    assert_eq!(found, [event], "a list finds the page");
}

pub(super) async fn a_page_of_an_old_owner_is_fenced(storage: &dyn Storage) {
    let old = hub(storage).await;
    let holder = own(storage).await;
    let late = storage
        .take_in(old.page(vec![old.feed_event("evt_1")]))
        .await;
    let ours = old.epoch;
    assert_eq!(late, Err(Error::Fenced { ours, holder }));
    assert_eq!(storage.cursor(LANE).await, Ok(None));
}

pub(super) async fn a_page_planned_from_other_endpoints_writes_nothing(storage: &dyn Storage) {
    let hub = hub(storage).await;
    register(storage, ONCALL).await;

    let page = hub.page(vec![hub.feed_event("evt_1")]);
    assert_eq!(storage.take_in(page).await, Ok(None));

    assert_eq!(storage.cursor(LANE).await, Ok(None));
    assert_eq!(storage.waiting(LANE, 0, 10).await, Ok(vec![]));
}

pub(super) async fn outcomes_come_in_commit_order_until_they_are_reported(storage: &dyn Storage) {
    let hub = hub(storage).await;
    let exhausted = State::Exhausted(ExhaustReason::MaxAttempts);
    let late = hub.insert(storage, &["evt_late"]).await[0];
    hub.live(storage, "evt_1", State::Failed).await;
    hub.live(storage, "evt_2", exhausted).await;
    run(storage, hub.epoch, late, State::Delivered, at(9)).await;

    let outcomes = storage.unreported(LANE).await.unwrap();

    let told: Vec<_> = outcomes
        .iter()
        .map(|outcome| {
            let state = &outcome.state;
            (
                outcome.event_id.as_str(),
                state.status,
                state.reason.as_deref(),
            )
        })
        .collect();
    assert_eq!(
        told,
        [
            ("evt_1", Status::Failed, Some("http_5xx")),
            ("evt_2", Status::Exhausted, Some("max_attempts")),
            ("evt_late", Status::Delivered, None),
        ]
    );
    assert!(outcomes.is_sorted_by_key(|outcome| outcome.position));
    assert_eq!(outcomes[0].epoch, hub.epoch);
    assert_eq!(outcomes[0].state.destination, "pagerduty");

    storage.reported(LANE, outcomes[1].position).await.unwrap();

    assert_eq!(storage.unreported(LANE).await.unwrap(), outcomes[2..]);
}

pub(super) async fn only_events_of_the_hub_are_reported(storage: &dyn Storage) {
    let epoch = own(storage).await;
    let endpoint = register(storage, "acme").await.position;
    let plan = seen(storage, "acme").await;
    let event = take(
        storage,
        accept_of("acme", plan, "order.created", &[endpoint]),
    )
    .await;

    run(storage, epoch, event + 1, State::Delivered, at(4)).await;

    assert_eq!(storage.unreported(LANE).await, Ok(vec![]));
}

pub(super) async fn what_event_store_has_forgotten_is_reported_again(storage: &dyn Storage) {
    let hub = hub(storage).await;
    hub.live(storage, "evt_done", State::Delivered).await;
    hub.insert(storage, &["evt_fresh"]).await;
    let first = storage.unreported(LANE).await.unwrap();
    storage.reported(LANE, first[0].position).await.unwrap();
    let told = |event: FeedEvent| FeedEvent {
        told: vec!["pagerduty".to_owned()],
        ..event
    };

    let again = vec![
        told(hub.feed_event("evt_done")),
        hub.feed_event("evt_fresh"),
        told(hub.skipped("evt_had")),
    ];
    storage.take_in(hub.page(again)).await.unwrap();
    assert_eq!(storage.unreported(LANE).await, Ok(vec![]));

    let forgotten = vec![hub.feed_event("evt_done"), hub.skipped("evt_old")];
    storage.take_in(hub.page(forgotten)).await.unwrap();

    let outcomes = storage.unreported(LANE).await.unwrap();
    let told: Vec<_> = outcomes
        .iter()
        .map(|outcome| (outcome.event_id.as_str(), outcome.state.status))
        .collect();
    let expected = [
        ("evt_done", Status::Delivered),
        ("evt_old", Status::Skipped),
    ];
    assert_eq!(told, expected);
    assert_eq!(outcomes[0].state.at, at(4), "when it was delivered");
    assert!(outcomes[0].position > first[0].position);
}

pub(super) async fn pages_that_nobody_got_are_counted_by_what_became_of_them(
    storage: &dyn Storage,
) {
    let hub = hub(storage).await;
    assert_eq!(
        storage.undelivered(LANE, hub.endpoint, at(100)).await,
        Ok(vec![])
    );
    let exhausted = State::Exhausted(ExhaustReason::MaxAttempts);
    hub.live(storage, "evt_delivered", State::Delivered).await;
    hub.live(storage, "evt_exhausted", exhausted).await;
    hub.live(storage, "evt_failed", State::Failed).await;
    hub.insert(storage, &["evt_pending"]).await;
    let mut later = hub.feed_event("evt_later");
    later.accept.now = at(50);
    let mut had = hub.skipped("evt_had");
    had.accept.deliveries[0].life = Life::skipped(SkipReason::AlreadyDelivered, at(2));
    let pages = vec![later, hub.skipped("evt_old"), had];
    storage.take_in(hub.page(pages)).await.unwrap();
    // Not of the hub.
    let endpoint = register(storage, "acme").await.position;
    let plan = seen(storage, "acme").await;
    take(storage, accept_of("acme", plan, "t", &[endpoint])).await;

    let mut found = storage
        .undelivered(LANE, hub.endpoint, at(40))
        .await
        .unwrap();

    found.sort_by_key(|group| format!("{:?}", group.state));
    let group = |state, count, late| Group {
        state,
        count,
        late,
        oldest: at(2),
    };
    assert_eq!(
        found,
        [
            group(exhausted, 1, 1),
            group(State::Failed, 1, 1),
            group(State::Pending, 2, 1),
            group(State::Skipped(SkipReason::TooOld), 1, 1),
        ]
    );
    assert_eq!(
        storage.undelivered(LANE, endpoint, at(40)).await,
        Ok(vec![])
    );
}
