//! What every backend must do. A case that is not listed below does not compile without a warning.

use bytes::Bytes;
use jiff::{SignedDuration, Timestamp};
use schema::delivery::Status;
use schema::{CorrelationId, EventId};

use super::*;
use crate::domain::schedule::Policy;
use crate::domain::transition::{ExhaustReason, OpenAttempt, SkipReason, State};

macro_rules! conformance {
    ($($case:ident),+ $(,)?) => {
        mod memory {
            $(#[tokio::test] async fn $case() { super::$case(&super::Memory::default()).await; })+
        }

        mod sqlite {
            $(#[tokio::test]
            async fn $case() {
                let directory = tempfile::tempdir().unwrap();
                super::$case(&super::sqlite_in(directory.path())).await;
            })+
        }
    };
}

conformance! {
    a_new_owner_has_a_higher_epoch_whatever_the_clock_says,
    a_page_moves_the_cursor_with_or_without_deliveries,
    an_event_is_taken_in_once_for_each_revision_and_endpoint,
    an_intake_may_carry_the_first_count,
    a_start_is_counted_once_and_only_by_the_owner,
    a_result_is_recorded_only_while_its_attempt_is_open,
    an_ended_delivery_is_not_started,
    what_waits_is_listed_in_order_and_by_pages,
    a_payload_is_kept_byte_for_byte,
    outcomes_come_in_commit_order_until_they_are_reported,
    what_event_store_has_forgotten_is_reported_again,
    lists_are_newest_first_and_filtered,
    a_list_that_finds_little_ends_early_and_goes_on,
    a_delivery_tells_its_attempts,
    retention_takes_what_is_old_ended_and_reported,
    a_retired_delivery_leaves_nothing_behind,
}

pub(crate) fn histogram() -> Histogram {
    runtime::metrics::Metrics::new().seconds("commit_seconds", "Test.")
}

pub(super) fn sqlite_in(directory: &Path) -> Sqlite {
    Sqlite::open(&directory.join("made/here/d.db"), histogram()).unwrap()
}

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

fn carried(event_id: &str) -> Carried {
    Carried {
        event_id: EventId::parse(event_id).unwrap(),
        revision: 0,
        correlation_id: CorrelationId::parse("corr").unwrap(),
        stored_at: at(1),
        payload: Bytes::from_static(b"{}"),
    }
}

pub(crate) fn pending(event_id: &str) -> NewDelivery {
    NewDelivery {
        delivery_id: DeliveryId::mint(LANE, at(1)),
        event: carried(event_id),
        endpoint_id: "pagerduty".into(),
        life: Life::accepted(&Policy::default(), at(1)),
        untold: true,
    }
}

fn skipped(event_id: &str) -> NewDelivery {
    NewDelivery {
        life: Life::skipped(SkipReason::TooOld),
        ..pending(event_id)
    }
}

pub(crate) fn page(epoch: Epoch, deliveries: Vec<NewDelivery>) -> Intake {
    Intake {
        lane: LANE,
        epoch,
        cursor: "run:1".to_owned(),
        deliveries,
        now: at(2),
    }
}

async fn own(storage: &dyn Storage) -> Epoch {
    storage.take_lane(LANE, "test", at(1)).await.unwrap()
}

/// Inserts pending deliveries; answers their positions.
async fn insert(storage: &dyn Storage, epoch: Epoch, event_ids: &[&str]) -> Vec<Position> {
    let new = event_ids.iter().map(|id| pending(id)).collect();
    let positions = storage.intake(page(epoch, new)).await.unwrap();
    positions.into_iter().map(Option::unwrap).collect()
}

async fn stored(storage: &dyn Storage, position: Position) -> Stored {
    let mut found = storage.load(LANE, vec![position]).await.unwrap();
    found.pop().unwrap()
}

pub(super) async fn start(
    storage: &dyn Storage,
    epoch: Epoch,
    position: Position,
) -> Result<(), Error> {
    let before = stored(storage, position).await.life;
    let life = Life {
        started: before.started + 1,
        open: Some(OpenAttempt {
            epoch,
            alone: false,
        }),
        ..before
    };
    let start = Start {
        lane: LANE,
        position,
        life,
        now: at(3),
    };
    storage.start(start).await
}

pub(super) fn ended(state: State, epoch: Epoch, position: Position, now: Timestamp) -> Finish {
    let terminal = state.is_terminal();
    Finish {
        lane: LANE,
        position,
        attempt_epoch: epoch,
        epoch,
        life: Life {
            state,
            started: 1,
            finished: 1,
            interrupted: 0,
            interrupted_in_a_row: 0,
            due_at: (!terminal).then_some(at(60)),
            open: None,
        },
        ended: Ended {
            duration_ms: Some(7),
            status_code: Some(503),
            error: Some("http_5xx".to_owned()),
            response: Some("later".to_owned()),
        },
        report: true,
        now,
    }
}

pub(super) async fn report_all(storage: &dyn Storage) {
    while let Some(last) = storage.unreported(LANE).await.unwrap().last() {
        storage.reported(LANE, last.position).await.unwrap();
    }
}

/// Takes in, starts and ends one delivery; answers its position.
async fn live(storage: &dyn Storage, epoch: Epoch, event_id: &str, state: State) -> Position {
    let position = insert(storage, epoch, &[event_id]).await[0];
    start(storage, epoch, position).await.unwrap();
    storage
        .finish(ended(state, epoch, position, at(4)))
        .await
        .unwrap();
    position
}

async fn a_new_owner_has_a_higher_epoch_whatever_the_clock_says(storage: &dyn Storage) {
    let first = storage.take_lane(LANE, "a", at(1_000)).await.unwrap();
    assert_eq!(first, 1_000_000);

    let back = storage.take_lane(LANE, "b", at(10)).await.unwrap();
    let later = storage.take_lane(LANE, "c", at(2_000)).await.unwrap();

    assert_eq!(back, 1_000_001);
    assert_eq!(later, 2_000_000);
}

async fn a_page_moves_the_cursor_with_or_without_deliveries(storage: &dyn Storage) {
    let epoch = own(storage).await;
    assert_eq!(storage.cursor(LANE).await, Ok(None));

    storage.intake(page(epoch, vec![])).await.unwrap();
    assert_eq!(storage.cursor(LANE).await, Ok(Some("run:1".to_owned())));

    let next = Intake {
        cursor: "run:2".to_owned(),
        ..page(epoch, vec![pending("evt_1")])
    };
    storage.intake(next).await.unwrap();
    assert_eq!(storage.cursor(LANE).await, Ok(Some("run:2".to_owned())));
}

async fn an_event_is_taken_in_once_for_each_revision_and_endpoint(storage: &dyn Storage) {
    let epoch = own(storage).await;
    let revised = NewDelivery {
        event: Carried {
            revision: 1,
            ..carried("evt_1")
        },
        ..pending("evt_1")
    };
    let elsewhere = NewDelivery {
        endpoint_id: "email".into(),
        ..pending("evt_1")
    };

    let new = vec![pending("evt_1"), pending("evt_1"), revised, elsewhere];
    let first = storage.intake(page(epoch, new.clone())).await.unwrap();
    let again = storage.intake(page(epoch, new)).await.unwrap();

    let taken: Vec<bool> = first.iter().map(Option::is_some).collect();
    assert_eq!(taken, [true, false, true, true]);
    assert_eq!(again, [None; 4]);
    let positions: Vec<Position> = first.into_iter().flatten().collect();
    assert!(positions.is_sorted_by(|a, b| a < b), "{positions:?}");
    let found = storage.load(LANE, positions).await.unwrap();
    assert_eq!(found.len(), 3);
}

async fn an_intake_may_carry_the_first_count(storage: &dyn Storage) {
    let epoch = own(storage).await;
    let mut new = pending("evt_1");
    new.life.started = 1;
    new.life.open = Some(OpenAttempt {
        epoch,
        alone: false,
    });

    let positions = storage
        .intake(page(epoch, vec![new.clone()]))
        .await
        .unwrap();

    let position = positions[0].unwrap();
    assert_eq!(stored(storage, position).await.life, new.life);
    let (_, attempts) = storage.delivery(new.delivery_id).await.unwrap().unwrap();
    assert_eq!((attempts[0].number, attempts[0].epoch), (1, epoch));
    assert_eq!(attempts[0].ended, None);
    assert_eq!(start(storage, epoch, position).await, Err(Error::Stale));
    let finish = ended(State::Delivered, epoch, position, at(4));
    assert_eq!(storage.finish(finish).await, Ok(()));
}

async fn a_start_is_counted_once_and_only_by_the_owner(storage: &dyn Storage) {
    let old = own(storage).await;
    let position = insert(storage, old, &["evt_1"]).await[0];
    let new = own(storage).await;
    let fenced = Error::Fenced {
        ours: old,
        holder: new,
    };

    assert_eq!(start(storage, old, position).await, Err(fenced.clone()));
    let late = storage.intake(page(old, vec![pending("evt_2")])).await;
    assert_eq!(late, Err(fenced));
    assert_eq!(stored(storage, position).await.life.started, 0);

    assert_eq!(start(storage, new, position).await, Ok(()));
    assert_eq!(start(storage, new, position).await, Err(Error::Stale));
    assert_eq!(stored(storage, position).await.life.started, 1);
}

async fn a_result_is_recorded_only_while_its_attempt_is_open(storage: &dyn Storage) {
    let epoch = own(storage).await;
    let position = insert(storage, epoch, &["evt_1"]).await[0];
    let finish = ended(State::Failed, epoch, position, at(4));
    assert_eq!(storage.finish(finish.clone()).await, Err(Error::Stale));

    start(storage, epoch, position).await.unwrap();
    let of_another = Finish {
        attempt_epoch: epoch - 1,
        ..finish.clone()
    };
    assert_eq!(storage.finish(of_another).await, Err(Error::Stale));
    // A true result counts although the lane has a new owner by now.
    own(storage).await;
    assert_eq!(storage.finish(finish.clone()).await, Ok(()));
    assert_eq!(storage.finish(finish).await, Err(Error::Stale));

    let life = stored(storage, position).await.life;
    assert_eq!((life.state, life.finished), (State::Failed, 1));
    assert_eq!((life.due_at, life.open), (Some(at(60)), None));
    assert_eq!(storage.unreported(LANE).await.unwrap().len(), 1);
}

async fn an_ended_delivery_is_not_started(storage: &dyn Storage) {
    let epoch = own(storage).await;
    let position = live(storage, epoch, "evt_1", State::Delivered).await;
    assert_eq!(start(storage, epoch, position).await, Err(Error::Stale));
}

async fn what_waits_is_listed_in_order_and_by_pages(storage: &dyn Storage) {
    let epoch = own(storage).await;
    live(storage, epoch, "evt_1", State::Delivered).await;
    let failed = live(storage, epoch, "evt_2", State::Failed).await;
    storage
        .intake(page(epoch, vec![skipped("evt_3")]))
        .await
        .unwrap();
    let fresh = insert(storage, epoch, &["evt_4", "evt_5"]).await;
    start(storage, epoch, fresh[1]).await.unwrap();

    let first = storage.waiting(LANE, 0, 2).await.unwrap();
    let rest = storage.waiting(LANE, first[1].position, 2).await.unwrap();

    let all: Vec<_> = first
        .iter()
        .chain(&rest)
        .map(|waiting| (waiting.position, waiting.due_at, waiting.attempt_open))
        .collect();
    assert_eq!(
        all,
        [
            (failed, at(60), false),
            (fresh[0], at(1), false),
            (fresh[1], at(1), true)
        ]
    );
    assert!(first.iter().all(|waiting| !waiting.suspect));
}

async fn a_payload_is_kept_byte_for_byte(storage: &dyn Storage) {
    let epoch = own(storage).await;
    let payload = Bytes::from_static("{ \"raw\":{\"b\":1.0,  \"a\":\"é\\u00e9\"} }".as_bytes());
    let mut new = pending("evt_1");
    new.event.payload = payload.clone();

    let positions = storage
        .intake(page(epoch, vec![new.clone()]))
        .await
        .unwrap();

    let found = stored(storage, positions[0].unwrap()).await;
    assert_eq!(found.event, new.event);
    assert_eq!(found.event.payload, payload);
}

async fn outcomes_come_in_commit_order_until_they_are_reported(storage: &dyn Storage) {
    let epoch = own(storage).await;
    let exhausted = State::Exhausted(ExhaustReason::MaxAttempts);
    let late = insert(storage, epoch, &["evt_late"]).await[0];
    start(storage, epoch, late).await.unwrap();
    live(storage, epoch, "evt_1", State::Failed).await;
    live(storage, epoch, "evt_2", exhausted).await;
    storage
        .finish(ended(State::Delivered, epoch, late, at(9)))
        .await
        .unwrap();

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
            ("evt_late", Status::Delivered, Some("http_5xx")),
        ]
    );
    assert!(outcomes.is_sorted_by_key(|outcome| outcome.position));
    assert_eq!(outcomes[0].epoch, epoch);
    assert_eq!(outcomes[0].state.destination, "pagerduty");

    storage.reported(LANE, outcomes[1].position).await.unwrap();

    assert_eq!(storage.unreported(LANE).await.unwrap(), outcomes[2..]);
}

async fn what_event_store_has_forgotten_is_reported_again(storage: &dyn Storage) {
    let epoch = own(storage).await;
    live(storage, epoch, "evt_done", State::Delivered).await;
    insert(storage, epoch, &["evt_fresh"]).await;
    let first = storage.unreported(LANE).await.unwrap();
    storage.reported(LANE, first[0].position).await.unwrap();
    let told = NewDelivery {
        untold: false,
        ..pending("evt_done")
    };

    let again = vec![told, pending("evt_fresh")];
    storage.intake(page(epoch, again)).await.unwrap();
    assert_eq!(storage.unreported(LANE).await, Ok(vec![]));

    let forgotten = vec![pending("evt_done"), skipped("evt_old")];
    storage.intake(page(epoch, forgotten)).await.unwrap();

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

async fn lists_are_newest_first_and_filtered(storage: &dyn Storage) {
    let epoch = own(storage).await;
    let exhausted = State::Exhausted(ExhaustReason::Poison);
    let first = live(storage, epoch, "evt_1", State::Delivered).await;
    let second = live(storage, epoch, "evt_2", exhausted).await;
    let third = insert(storage, epoch, &["evt_3"]).await[0];
    let list = async |filter: Filter| -> Vec<Position> {
        let page = storage.deliveries(LANE, filter).await.unwrap();
        page.deliveries.iter().map(|found| found.position).collect()
    };
    let all = Filter {
        limit: 10,
        ..Filter::default()
    };

    assert_eq!(list(all.clone()).await, [third, second, first]);
    for (status, expected) in [
        (Status::Pending, vec![third]),
        (Status::Exhausted, vec![second]),
        (Status::Delivered, vec![first]),
        (Status::Skipped, vec![]),
    ] {
        let by_status = Filter {
            status: Some(status),
            ..all.clone()
        };
        assert_eq!(list(by_status).await, expected, "{status}");
    }
    for (event_id, expected) in [("evt_2", vec![second]), ("evt_9", vec![])] {
        let by_event = Filter {
            event_id: Some(event_id.to_owned()),
            ..all.clone()
        };
        assert_eq!(list(by_event).await, expected, "{event_id}");
    }
    let older = Filter {
        before: Some(third),
        limit: 1,
        ..all
    };
    assert_eq!(list(older).await, [second]);
}

async fn a_list_that_finds_little_ends_early_and_goes_on(storage: &dyn Storage) {
    let epoch = own(storage).await;
    let first = live(storage, epoch, "evt_1", State::Delivered).await;
    let others = (0..SCAN_MAX).map(|n| pending(&format!("evt_other_{n}")));
    let intake = page(epoch, others.collect());
    storage.intake(intake).await.unwrap();
    let delivered = Filter {
        status: Some(Status::Delivered),
        limit: 10,
        ..Filter::default()
    };

    let early = storage.deliveries(LANE, delivered.clone()).await.unwrap();
    let rest = Filter {
        before: early.next,
        ..delivered
    };
    let rest = storage.deliveries(LANE, rest).await.unwrap();

    assert_eq!(early.deliveries, []);
    assert!(early.next.is_some());
    assert_eq!(rest.deliveries[0].position, first);
    assert_eq!((rest.deliveries.len(), rest.next), (1, None));
}

async fn a_delivery_tells_its_attempts(storage: &dyn Storage) {
    let epoch = own(storage).await;
    let position = live(storage, epoch, "evt_1", State::Failed).await;
    start(storage, epoch, position).await.unwrap();
    let id = stored(storage, position).await.delivery_id;

    let (found, attempts) = storage.delivery(id).await.unwrap().unwrap();

    assert_eq!(found.position, position);
    let first = Attempt {
        number: 1,
        epoch,
        started_at: at(3),
        ended: Some(ended(State::Failed, epoch, position, at(4)).ended),
        next_attempt_at: Some(at(60)),
    };
    let second = Attempt {
        number: 2,
        epoch,
        started_at: at(3),
        ended: None,
        next_attempt_at: None,
    };
    assert_eq!(attempts, [first, second]);
    let other = DeliveryId::mint(LANE, at(1));
    assert_eq!(storage.delivery(other).await, Ok(None));
    let elsewhere = DeliveryId { lane: 7, ..id };
    assert_eq!(storage.delivery(elsewhere).await, Ok(None));
}

async fn retention_takes_what_is_old_ended_and_reported(storage: &dyn Storage) {
    let epoch = own(storage).await;
    let done = live(storage, epoch, "evt_done", State::Delivered).await;
    let upto = storage.unreported(LANE).await.unwrap()[0].position;
    storage.reported(LANE, upto).await.unwrap();
    let open = live(storage, epoch, "evt_open", State::Failed).await;
    let unreported = live(storage, epoch, "evt_unreported", State::Delivered).await;
    let young = Intake {
        now: at(100),
        ..page(epoch, vec![skipped("evt_young")])
    };
    let young = storage.intake(young).await.unwrap()[0].unwrap();

    let too_early = storage.retire(LANE, 0, at(2)).await.unwrap();
    let retired = storage.retire(LANE, 0, at(50)).await.unwrap();

    assert_eq!((too_early.removed, too_early.next), (0, None));
    assert_eq!((retired.removed, retired.next), (1, None));
    let left = storage
        .load(LANE, vec![done, open, unreported, young])
        .await
        .unwrap();
    let left: Vec<Position> = left.iter().map(|stored| stored.position).collect();
    assert_eq!(left, [open, unreported, young]);

    // A slice that is full says where the next begins.
    let many: Vec<NewDelivery> = (0..=RETIRE_SLICE)
        .map(|n| skipped(&format!("evt_{n}")))
        .collect();
    let many = Intake {
        now: at(100),
        ..page(epoch, many)
    };
    storage.intake(many).await.unwrap();
    let later = at(100) + SignedDuration::from_secs(1);
    report_all(storage).await;
    let first = storage.retire(LANE, unreported, later).await.unwrap();
    let second = storage
        .retire(LANE, first.next.unwrap(), later)
        .await
        .unwrap();
    let end = storage
        .retire(LANE, second.next.unwrap(), later)
        .await
        .unwrap();
    assert_eq!((first.removed, second.removed), (RETIRE_SLICE, 2));
    assert_eq!((end.removed, end.next), (0, None));
}

async fn a_retired_delivery_leaves_nothing_behind(storage: &dyn Storage) {
    let epoch = own(storage).await;
    let position = live(storage, epoch, "evt_1", State::Delivered).await;
    let id = stored(storage, position).await.delivery_id;
    let upto = storage.unreported(LANE).await.unwrap()[0].position;
    storage.reported(LANE, upto).await.unwrap();

    storage.retire(LANE, 0, at(50)).await.unwrap();

    assert_eq!(storage.delivery(id).await, Ok(None));
    let again = insert(storage, epoch, &["evt_1"]).await[0];
    assert!(again > position, "a position is never used twice");
    let id = stored(storage, again).await.delivery_id;
    let (_, attempts) = storage.delivery(id).await.unwrap().unwrap();
    assert_eq!(attempts, []);
}
