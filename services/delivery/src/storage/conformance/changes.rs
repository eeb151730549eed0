//! The life of a delivery, as it is written.

use schema::webhooks::{DisabledReason, OnExhausted};

use super::*;
use crate::domain::endpoint::DISABLED_TYPE;
use crate::domain::queues::Kind;
use crate::domain::transition::ExhaustReason;

pub(super) async fn a_life_is_kept_with_everything_that_decides(storage: &dyn Storage) {
    let hub = hub(storage).await;
    let position = hub.insert(storage, &["evt_1"]).await[0];
    let open = OpenAttempt {
        epoch: 5,
        alone: true,
        at: at(11),
        trigger: Trigger::Manual,
    };
    for (state, open, stop) in [
        (
            State::Failed,
            Some(open),
            Some(ExhaustReason::EndpointDeleted),
        ),
        (State::Exhausted(ExhaustReason::Gone), None, None),
        (State::Skipped(SkipReason::Disabled), None, None),
        (State::Pending, None, Some(ExhaustReason::Canceled)),
    ] {
        let before = stored(storage, position).await;
        let life = Life {
            version: before.life.version + 1,
            state,
            generation: 3,
            trigger: Trigger::Recovery,
            started: 9,
            before: 4,
            finished: 2,
            interrupted: 3,
            interrupted_in_a_row: 1,
            stop,
            due_at: (!state.is_terminal()).then_some(at(70)),
            age_from: at(12),
            open,
        };
        let written = change(storage, change_of(&before, life.clone())).await;
        assert_eq!(written, Ok(()));
        assert_eq!(stored(storage, position).await.life, life);
        let id = before.delivery_id;
        let (summary, _) = storage.delivery(id).await.unwrap().unwrap();
        assert_eq!(summary.life, life);
        assert_eq!(summary.ended_at.is_some(), state.is_terminal());
    }
}

pub(super) async fn a_start_is_counted_once_and_only_by_the_owner(storage: &dyn Storage) {
    let old = hub(storage).await;
    let position = old.insert(storage, &["evt_1"]).await[0];
    let new = own(storage).await;
    let before = stored(storage, position).await;

    let late = change(storage, started(&before, old.epoch)).await;
    let fenced = Error::Fenced {
        ours: old.epoch,
        holder: new,
    };
    assert_eq!(late, Err(fenced));
    assert_eq!(stored(storage, position).await, before);

    assert_eq!(change(storage, started(&before, new)).await, Ok(()));
    let twice = change(storage, started(&before, new)).await;
    assert_eq!(twice, Err(Error::Stale));
    assert_eq!(stored(storage, position).await.life.started, 1);
}

pub(super) async fn a_result_counts_whoever_owns_the_lane(storage: &dyn Storage) {
    let hub = hub(storage).await;
    let position = hub.insert(storage, &["evt_1"]).await[0];
    let before = stored(storage, position).await;
    change(storage, started(&before, hub.epoch)).await.unwrap();
    let open = stored(storage, position).await;
    let end = ended(&open, hub.epoch, State::Failed, at(4));

    own(storage).await;
    assert_eq!(change(storage, end.clone()).await, Ok(()));
    assert_eq!(change(storage, end).await, Err(Error::Stale));

    let life = stored(storage, position).await.life;
    assert_eq!((life.state, life.finished), (State::Failed, 1));
    assert_eq!((life.due_at, life.open), (Some(at(60)), None));
    assert_eq!(storage.unreported(LANE).await.unwrap().len(), 1);
}

pub(super) async fn a_change_from_an_older_version_is_refused_alone(storage: &dyn Storage) {
    let hub = hub(storage).await;
    let positions = hub.insert(storage, &["evt_1", "evt_2"]).await;
    let first = stored(storage, positions[0]).await;
    let second = stored(storage, positions[1]).await;
    change(storage, change_of(&first, first.life.clone()))
        .await
        .unwrap();
    let nowhere = Stored {
        position: 9_999,
        ..first.clone()
    };

    let answers = storage
        .change(vec![
            started(&first, hub.epoch),
            started(&second, hub.epoch),
            started(&nowhere, hub.epoch),
        ])
        .await;

    let taken = Ok(Changed::default());
    let expected = vec![Err(Error::Stale), taken, Err(Error::Stale)];
    assert_eq!(answers, Ok(expected));
    assert_eq!(stored(storage, positions[0]).await.life.started, 0);
    assert_eq!(stored(storage, positions[1]).await.life.started, 1);
}

pub(super) async fn an_outcome_and_the_count_of_the_next_are_taken_both_or_neither(
    storage: &dyn Storage,
) {
    let hub = hub(storage).await;
    let positions = hub.insert(storage, &["evt_1", "evt_2"]).await;
    let first = stored(storage, positions[0]).await;
    change(storage, started(&first, hub.epoch)).await.unwrap();
    let open = stored(storage, positions[0]).await;
    let second = stored(storage, positions[1]).await;
    let both = |open: &Stored, second: &Stored, epoch| Change {
        next: Some(Box::new(started(second, epoch))),
        ..ended(open, hub.epoch, State::Delivered, at(4))
    };
    let other = Stored {
        life: Life {
            version: second.life.version + 7,
            ..second.life.clone()
        },
        ..second.clone()
    };
    let fenced = Error::Fenced {
        ours: hub.epoch - 1,
        holder: hub.epoch,
    };

    for (refused, why) in [
        (both(&open, &other, hub.epoch), Error::Stale),
        (both(&first, &second, hub.epoch), Error::Stale),
        (both(&open, &second, hub.epoch - 1), fenced),
    ] {
        assert_eq!(change(storage, refused).await, Err(why));
        assert_eq!(stored(storage, positions[0]).await, open);
        assert_eq!(stored(storage, positions[1]).await, second);
    }
    let taken = changed(storage, both(&open, &second, hub.epoch)).await;

    assert!(taken.unwrap().next.is_some());
    let states = [
        stored(storage, positions[0]).await.life.state,
        stored(storage, positions[1]).await.life.state,
    ];
    assert_eq!(states, [State::Delivered, State::Pending]);
    let next = stored(storage, positions[1]).await.life;
    assert_eq!((next.started, next.open.is_some()), (1, true));
}

pub(super) async fn what_is_said_of_a_delivery_is_in_its_commit(storage: &dyn Storage) {
    let epoch = own(storage).await;
    let ours = register(storage, "acme").await;
    let removed = register(storage, "acme").await;
    let plan = seen(storage, "acme").await;
    let accept = accept_of("acme", plan, "order.created", &[ours.position]);
    let event = take(storage, accept).await;
    let job = job_of(JobKind::RemoveEndpoint, &removed);
    storage.remove_endpoint(LANE, job).await.unwrap();
    let before = stored(storage, event + 1).await;
    let mut end = started(&before, epoch);
    let both = [ours.position, removed.position];
    end.raise = vec![
        // Planned before an endpoint was removed.
        accept_of("acme", plan, "delivery.exhausted", &both),
        accept_of("nobody", None, "delivery.exhausted", &[]),
    ];

    assert_eq!(change(storage, end.clone()).await, Ok(()));
    assert_eq!(change(storage, end).await, Err(Error::Stale));

    let filter = Filter {
        limit: 10,
        ..Filter::default()
    };
    let events = storage.events(LANE, filter).await.unwrap().rows;
    let types: Vec<&str> = events.iter().map(|told| told.event_type.as_str()).collect();
    assert_eq!(types, ["delivery.exhausted", "order.created"]);
    let raised = storage.event_at(LANE, events[0].position).await;
    let raised = raised.unwrap().unwrap();
    assert_eq!(raised.deliveries.len(), 1);
    assert_eq!(raised.deliveries[0].endpoint, ours.position);
    assert_eq!(seen(storage, "nobody").await, None);
}

pub(super) async fn a_change_tells_where_lies_what_it_raised(storage: &dyn Storage) {
    let hub = hub(storage).await;
    let positions = hub.insert(storage, &["evt_1", "evt_2"]).await;
    let (kept, removed) = (
        register(storage, "acme").await,
        register(storage, "acme").await,
    );
    let job = job_of(JobKind::RemoveEndpoint, &removed);
    storage.remove_endpoint(LANE, job).await.unwrap();
    let plan = seen(storage, "acme").await;
    let three = [removed.position, hub.endpoint, kept.position];
    let raise = vec![
        accept_of("nobody", None, "delivery.exhausted", &[kept.position]),
        accept_of("acme", plan, "delivery.exhausted", &three),
        // Of an endpoint that this change did not disable.
        accept_of("acme", plan, DISABLED_TYPE, &three),
    ];
    let [first, second] = [
        stored(storage, positions[0]).await,
        stored(storage, positions[1]).await,
    ];
    let behind = Change {
        raise: vec![accept_of("acme", plan, "delivery.exhausted", &[])],
        ..started(&second, hub.epoch)
    };
    let change = Change {
        raise: raise.clone(),
        next: Some(Box::new(behind.clone())),
        ..started(&first, hub.epoch)
    };

    let told = changed(storage, change.clone()).await.unwrap();

    let [None, Some(placed), None] = &told.raised[..] else {
        panic!("{told:?}");
    };
    let event = raise[1].event.carried.clone();
    let whole = storage.event(event.event_id).await.unwrap().unwrap();
    assert_eq!(placed.event, whole.summary.position);
    assert_eq!(placed.client, kept.client);
    let at = placed.event;
    assert_eq!(placed.deliveries, [None, Some(at + 1), Some(at + 2)]);
    for (new, place) in raise[1].deliveries.iter().zip(&placed.deliveries) {
        let Some(place) = *place else { continue };
        let told = new.clone().stored(place, placed, event.clone());
        assert_eq!(told, stored(storage, place).await);
    }
    let next = told.next.as_deref().unwrap();
    let [Some(after)] = &next.raised[..] else {
        panic!("{next:?}");
    };
    assert_eq!((after.event, &after.deliveries), (at + 3, &vec![]));
    assert_eq!(
        first.after(&change, &told),
        stored(storage, positions[0]).await
    );
    assert_eq!(
        second.after(&behind, next),
        stored(storage, positions[1]).await
    );
}

pub(super) async fn an_endpoint_is_disabled_in_the_commit_of_what_disables_it(
    storage: &dyn Storage,
) {
    let hub = hub(storage).await;
    let position = hub.insert(storage, &["evt_1"]).await[0];
    let disable = async |reason, now| {
        let before = stored(storage, position).await;
        let disable = Change {
            disable: Some(reason),
            now,
            ..change_of(&before, before.life.clone())
        };
        change(storage, disable).await.unwrap();
        storage.endpoints(LANE).await.unwrap().remove(0)
    };

    let first = disable(DisabledReason::Gone, at(8)).await;
    let again = disable(DisabledReason::Backlog, at(9)).await;

    let disabled = first.disabled.unwrap();
    assert_eq!(
        (disabled.reason, disabled.at),
        (DisabledReason::Gone, at(8))
    );
    assert_eq!(again, first);
    let plan = seen(storage, ONCALL).await.unwrap();
    assert_eq!(plan.version, first.version);
    assert!(plan.version > hub.seen.unwrap().version);
}

pub(super) async fn that_an_endpoint_was_disabled_is_said_by_the_one_that_disabled_it(
    storage: &dyn Storage,
) {
    let hub = hub(storage).await;
    let positions = hub.insert(storage, &["evt_1", "evt_2"]).await;
    let mut said = Vec::new();
    for (position, other) in [
        (positions[0], "other.first"),
        (positions[1], "other.second"),
    ] {
        let before = stored(storage, position).await;
        let raise = [DISABLED_TYPE, other].map(|kind| accept_of(ONCALL, hub.seen, kind, &[]));
        let ids = raise.each_ref().map(|raised| raised.event.carried.event_id);
        let disable = Change {
            disable: Some(DisabledReason::Gone),
            raise: raise.to_vec(),
            ..change_of(&before, before.life.clone())
        };
        change(storage, disable).await.unwrap();
        for id in ids {
            said.push(storage.event(id).await.unwrap().is_some());
        }
    }

    assert_eq!(said, [true, true, false, true]);
}

/// Given up, and its line stops there.
fn stopped(before: &Stored) -> Change {
    let life = Life {
        state: State::Exhausted(ExhaustReason::MaxAttempts),
        due_at: None,
        ..before.life.clone()
    };
    Change {
        blocks: true,
        ..change_of(before, life)
    }
}

pub(super) async fn a_line_stops_at_a_delivery_until_its_next_change(storage: &dyn Storage) {
    let hub = hub(storage).await;
    let position = hub.insert(storage, &["evt_1", "evt_2"]).await[0];
    let before = stored(storage, position).await;

    change(storage, stopped(&before)).await.unwrap();

    let blocking = storage.blocking(LANE).await.unwrap();
    let [stopped] = &blocking[..] else {
        panic!("{blocking:?}");
    };
    assert_eq!((stopped.position, stopped.blocks), (position, true));
    assert_eq!((stopped.line, stopped.order_at), (u64::MAX - 1, position));
    let waiting = storage.waiting(LANE, 0, 10).await.unwrap();
    assert_eq!(waiting.len(), 1, "it waits for nothing");

    let before = stored(storage, position).await;
    assert!(before.blocks);
    change(storage, change_of(&before, before.life.clone()))
        .await
        .unwrap();
    assert_eq!(storage.blocking(LANE).await, Ok(vec![]));
}

pub(super) async fn lines_of_an_endpoint_that_skips_stop_nowhere(storage: &dyn Storage) {
    let hub = hub(storage).await;
    let position = hub.insert(storage, &["evt_1"]).await[0];
    let before = stored(storage, position).await;
    change(storage, stopped(&before)).await.unwrap();
    let endpoint = storage.endpoints(LANE).await.unwrap().remove(0);
    let kept = put(storage, endpoint).await;
    assert_eq!(storage.blocking(LANE).await.unwrap().len(), 1);

    let mut skips = kept;
    skips.settings.on_exhausted = OnExhausted::Skip;
    let mut blocks = put(storage, skips).await;
    blocks.settings.on_exhausted = OnExhausted::Block;
    put(storage, blocks).await;

    assert_eq!(storage.blocking(LANE).await, Ok(vec![]));
}

pub(super) async fn a_change_may_move_a_delivery_to_the_tail(storage: &dyn Storage) {
    let hub = hub(storage).await;
    let positions = hub.insert(storage, &["evt_1", "evt_2"]).await;
    let before = stored(storage, positions[0]).await;
    let to_tail = Change {
        to_tail: true,
        ..change_of(&before, before.life.clone())
    };
    let told = changed(storage, to_tail.clone()).await.unwrap();

    let moved = stored(storage, positions[0]).await;
    assert_eq!(before.after(&to_tail, &told), moved);
    assert!(moved.order_at > positions[1]);
    assert_eq!(moved.position, positions[0]);
    change(storage, change_of(&moved, moved.life.clone()))
        .await
        .unwrap();
    let after = stored(storage, positions[0]).await;
    assert_eq!(after.order_at, moved.order_at);
}

pub(super) async fn what_waits_is_listed_in_order_and_by_pages(storage: &dyn Storage) {
    let hub = hub(storage).await;
    hub.live(storage, "evt_1", State::Delivered).await;
    let failed = hub.live(storage, "evt_2", State::Failed).await;
    storage
        .take_in(hub.page(vec![hub.skipped("evt_3")]))
        .await
        .unwrap();
    let fresh = hub.insert(storage, &["evt_4", "evt_5"]).await;
    let before = stored(storage, fresh[1]).await;
    change(storage, started(&before, hub.epoch)).await.unwrap();

    let first = storage.waiting(LANE, 0, 2).await.unwrap();
    let rest = storage.waiting(LANE, first[1].position, 2).await.unwrap();

    let waits = |position, due_at, attempt_open, begun| Waiting {
        position,
        endpoint: hub.endpoint,
        due_at,
        kind: Kind::of("signalpost.page"),
        suspect: false,
        attempt_open,
        begun,
        line: u64::MAX - 1,
        order_at: position,
        blocks: false,
    };
    assert_eq!(
        [first, rest].concat(),
        [
            waits(failed, at(60), false, true),
            waits(fresh[0], at(1), false, false),
            waits(fresh[1], at(1), true, true),
        ]
    );
}

pub(super) async fn a_delivery_tells_its_ended_attempts(storage: &dyn Storage) {
    let hub = hub(storage).await;
    let position = hub.live(storage, "evt_1", State::Failed).await;
    let before = stored(storage, position).await;
    change(storage, started(&before, hub.epoch)).await.unwrap();
    let open = stored(storage, position).await;

    let id = open.delivery_id;
    let (found, attempts) = storage.delivery(id).await.unwrap().unwrap();

    assert_eq!(found.position, position);
    assert_eq!(found.life, open.life);
    assert_eq!(found.code.as_deref(), Some("503"));
    let first = ended(&open, hub.epoch, State::Failed, at(4)).ended.unwrap();
    assert_eq!(attempts, [Ended { number: 1, ..first }]);

    let mut lost = ended(&open, hub.epoch, State::Failed, at(5));
    let record = lost.ended.as_mut().unwrap();
    record.status_code = None;
    record.duration_ms = None;
    record.error = Some(INTERRUPTED.to_owned());
    change(storage, lost).await.unwrap();
    let (found, attempts) = storage.delivery(id).await.unwrap().unwrap();
    assert_eq!(found.code.as_deref(), Some(INTERRUPTED));
    assert_eq!(attempts.len(), 2);

    let other = DeliveryId::mint(LANE, at(1));
    assert_eq!(storage.delivery(other).await, Ok(None));
    let elsewhere = DeliveryId { lane: 7, ..id };
    assert_eq!(storage.delivery(elsewhere).await, Ok(None));
}

pub(super) async fn an_answer_is_cut_once_there_is_a_later_one(storage: &dyn Storage) {
    let hub = hub(storage).await;
    let position = hub.insert(storage, &["evt_1"]).await[0];
    // A character of two bytes lies across the cut.
    let long = format!("a{}", "é".repeat(1_000));
    let mut lengths = Vec::new();
    for _ in 0..2 {
        let before = stored(storage, position).await;
        change(storage, started(&before, hub.epoch)).await.unwrap();
        let open = stored(storage, position).await;
        let mut end = ended(&open, hub.epoch, State::Failed, at(4));
        end.ended.as_mut().unwrap().response = Some(long.clone());
        change(storage, end).await.unwrap();
        let (_, attempts) = storage.delivery(open.delivery_id).await.unwrap().unwrap();
        let kept = attempts
            .iter()
            .map(|kept| kept.response.as_ref().unwrap().len());
        lengths.push(kept.collect::<Vec<_>>());
    }
    assert_eq!(lengths, [vec![2_001], vec![1_023, 2_001]]);
}
