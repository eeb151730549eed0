//! What every backend must do. A case that is not listed below does not compile without a warning.

use std::path::Path;

use bytes::Bytes;
use jiff::Timestamp;
use schema::CorrelationId;
use schema::webhooks::{JobKind, JobStatus, Phases, Trigger};

use super::*;
use crate::domain::endpoint::{self, ONCALL};
use crate::domain::schedule::Policy;
use crate::domain::transition::{OpenAttempt, SkipReason, State};

mod changes;
mod endpoints;
mod events;
mod feed;
mod jobs;
mod lists;
mod retention;

macro_rules! conformance {
    ($($module:ident: $($case:ident),+;)+) => {
        mod memory {
            $($(#[tokio::test]
            async fn $case() {
                super::$module::$case(&super::in_memory()).await;
            })+)+
        }

        mod sqlite {
            $($(#[tokio::test]
            async fn $case() {
                let directory = tempfile::tempdir().unwrap();
                super::$module::$case(&super::sqlite_in(directory.path())).await;
            })+)+
        }
    };
}

conformance! {
    feed:
        a_new_owner_has_a_higher_epoch_whatever_the_clock_says,
        a_page_moves_the_cursor_with_or_without_events,
        an_event_of_the_feed_is_taken_in_once_for_each_revision,
        a_page_is_taken_in_whatever_was_posted_under_its_key,
        a_page_of_an_old_owner_is_fenced,
        a_page_planned_from_other_endpoints_writes_nothing,
        outcomes_come_in_commit_order_until_they_are_reported,
        only_events_of_the_hub_are_reported,
        what_event_store_has_forgotten_is_reported_again,
        pages_that_nobody_got_are_counted_by_what_became_of_them;
    events:
        an_accepted_event_has_its_deliveries_at_the_positions_that_follow,
        an_intake_may_carry_the_first_count_of_the_owner,
        a_client_exists_by_being_named,
        a_plan_from_other_endpoints_is_made_again,
        a_key_is_one_event_of_one_client_until_it_expires,
        a_payload_is_kept_byte_for_byte,
        an_event_is_found_by_its_id_and_by_its_place;
    endpoints:
        an_endpoint_is_kept_as_it_was_put,
        a_change_of_an_endpoint_is_decided_from_its_last_version,
        a_client_has_no_more_endpoints_than_it_may,
        a_removed_endpoint_is_gone_and_its_deliveries_tell_so,
        a_removed_client_is_gone_at_once_and_its_name_is_free,
        a_purge_leaves_nothing_but_the_job;
    changes:
        a_life_is_kept_with_everything_that_decides,
        a_start_is_counted_once_and_only_by_the_owner,
        a_result_counts_whoever_owns_the_lane,
        a_change_from_an_older_version_is_refused_alone,
        an_outcome_and_the_count_of_the_next_are_taken_both_or_neither,
        what_is_said_of_a_delivery_is_in_its_commit,
        a_change_tells_where_lies_what_it_raised,
        an_endpoint_is_disabled_in_the_commit_of_what_disables_it,
        that_an_endpoint_was_disabled_is_said_by_the_one_that_disabled_it,
        a_line_stops_at_a_delivery_until_its_next_change,
        lines_of_an_endpoint_that_skips_stop_nowhere,
        a_change_may_move_a_delivery_to_the_tail,
        what_waits_is_listed_in_order_and_by_pages,
        a_delivery_tells_its_ended_attempts,
        an_answer_is_cut_once_there_is_a_later_one;
    lists:
        deliveries_are_listed_newest_first_and_filtered,
        a_name_that_stands_for_nothing_lists_nothing,
        events_are_listed_newest_first_with_their_counts,
        a_list_that_finds_little_ends_early_and_goes_on;
    jobs:
        a_slice_moves_its_job_once,
        a_canceled_job_writes_nothing_more,
        a_removal_is_not_canceled,
        a_late_delivery_is_made_once,
        candidates_are_a_clients_events_of_a_time_with_the_endpoints_delivery,
        open_deliveries_of_an_endpoint_are_told_in_order;
    retention:
        retention_takes_what_is_old_ended_and_reported,
        what_a_line_stops_at_stays,
        a_retired_event_leaves_nothing_behind,
        a_key_outlives_its_event_until_it_expires;
}

pub(crate) fn timers() -> Timers {
    let metrics = runtime::metrics::Metrics::new();
    Timers {
        commit: metrics.seconds("commit_seconds", "Test."),
        checkpoint: metrics.seconds("checkpoint_seconds", "Test."),
    }
}

pub(crate) fn in_memory() -> Sqlite {
    Sqlite::in_memory(timers(), Vault::open(None).unwrap()).unwrap()
}

pub(super) fn sqlite_in(directory: &Path) -> Sqlite {
    let path = directory.join("made/here/d.db");
    Sqlite::open(&path, timers(), Vault::open(None).unwrap()).unwrap()
}

pub(crate) fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

pub(crate) async fn own(storage: &dyn Storage) -> Epoch {
    storage.take_lane(LANE, "test", at(1)).await.unwrap()
}

/// An endpoint of a client, to be made.
pub(crate) fn endpoint_of(client_id: &str) -> Endpoint {
    Endpoint {
        position: 0,
        endpoint_id: EndpointId::mint(LANE, at(1)),
        client: 0,
        client_id: client_id.into(),
        version: 0,
        ..endpoint::tests::endpoint(None)
    }
}

pub(crate) async fn put(storage: &dyn Storage, endpoint: Endpoint) -> Endpoint {
    let put = PutEndpoint {
        lane: LANE,
        endpoint,
        at_most: None,
        now: at(1),
    };
    match storage.put_endpoint(put).await.unwrap() {
        Put::Done(endpoint) => *endpoint,
        other => panic!("{other:?}"),
    }
}

pub(crate) async fn register(storage: &dyn Storage, client_id: &str) -> Endpoint {
    put(storage, endpoint_of(client_id)).await
}

/// What a plan is made from now.
pub(crate) async fn seen(storage: &dyn Storage, client_id: &str) -> Option<Seen> {
    let clients = storage.clients(LANE).await.unwrap();
    let found = clients
        .into_iter()
        .find(|client| &*client.client_id == client_id);
    found.map(|client| Seen {
        client: client.position,
        version: client.version,
    })
}

pub(crate) fn pending(endpoint: Position) -> NewDelivery {
    NewDelivery {
        delivery_id: DeliveryId::mint(LANE, at(1)),
        endpoint,
        line: u64::MAX - 1,
        life: Life::accepted(&Policy::default(), at(1)),
    }
}

pub(crate) fn skipped(endpoint: Position) -> NewDelivery {
    NewDelivery {
        life: Life::skipped(SkipReason::TooOld, at(1)),
        ..pending(endpoint)
    }
}

/// An event of a client without a key, and a pending delivery of it for each endpoint.
pub(crate) fn accept_of(
    client_id: &str,
    seen: Option<Seen>,
    event_type: &str,
    endpoints: &[Position],
) -> Accept {
    Accept {
        lane: LANE,
        epoch: 0,
        client_id: client_id.into(),
        seen,
        event: NewEvent {
            carried: Carried {
                event_id: EventId::mint(LANE, at(1)),
                event_type: event_type.to_owned(),
                correlation_id: CorrelationId::parse("corr").unwrap(),
                source: None,
                operational: false,
                payload: Bytes::from_static(b"{}"),
            },
            ordering_key: None,
            occurred_at: None,
            known_as: None,
        },
        deliveries: endpoints.iter().map(|at| pending(*at)).collect(),
        now: at(2),
    }
}

pub(crate) fn keyed(accept: Accept, key: &str, until: Timestamp) -> Accept {
    let key = IdempotencyKey {
        key: key.to_owned(),
        digest: [7; 16],
        until,
    };
    known_as(accept, KnownAs::Client(key))
}

pub(crate) fn known_as(accept: Accept, known_as: KnownAs) -> Accept {
    let event = NewEvent {
        known_as: Some(known_as),
        ..accept.event
    };
    Accept { event, ..accept }
}

/// Accepts an event; answers where it is.
pub(crate) async fn take(storage: &dyn Storage, accept: Accept) -> Position {
    match storage.accept(accept).await.unwrap() {
        Accepted::New(placed) => placed.event,
        other => panic!("{other:?}"),
    }
}

/// An owned lane with the built-in endpoint.
pub(crate) struct Hub {
    pub(crate) epoch: Epoch,
    pub(crate) endpoint: Position,
    pub(crate) seen: Option<Seen>,
}

pub(crate) async fn hub(storage: &dyn Storage) -> Hub {
    let epoch = own(storage).await;
    let endpoint = Endpoint {
        endpoint_id: EndpointId::pagerduty(),
        ..endpoint_of(ONCALL)
    };
    let endpoint = put(storage, endpoint).await;
    Hub {
        epoch,
        endpoint: endpoint.position,
        seen: seen(storage, ONCALL).await,
    }
}

impl Hub {
    /// An event of the hub that nobody has been told of, as the feed brings it.
    pub(crate) fn feed_event(&self, event_id: &str) -> FeedEvent {
        let mut accept = accept_of(ONCALL, self.seen, "signalpost.page", &[self.endpoint]);
        accept.epoch = self.epoch;
        accept.event.carried.source = Some(Source {
            event_id: schema::EventId::parse(event_id).unwrap(),
            revision: 0,
            stored_at: at(1),
        });
        FeedEvent {
            accept: known_as(accept, KnownAs::Page(event_id.to_owned())),
            told: Vec::new(),
        }
    }

    pub(crate) fn skipped(&self, event_id: &str) -> FeedEvent {
        let mut event = self.feed_event(event_id);
        event.accept.deliveries = vec![skipped(self.endpoint)];
        event
    }

    pub(crate) fn page(&self, events: Vec<FeedEvent>) -> Intake {
        Intake {
            lane: LANE,
            epoch: self.epoch,
            cursor: "run:1".to_owned(),
            events,
            now: at(2),
        }
    }

    /// Takes events in; answers where their deliveries are.
    pub(crate) async fn insert(&self, storage: &dyn Storage, ids: &[&str]) -> Vec<Position> {
        let events = ids.iter().map(|id| self.feed_event(id)).collect();
        let taken = storage.take_in(self.page(events)).await.unwrap().unwrap();
        let deliveries = taken.into_iter().map(|taken| match taken {
            Accepted::New(placed) => placed.event + 1,
            other => panic!("{other:?}"),
        });
        deliveries.collect()
    }

    /// Takes in, starts and ends one delivery; answers where it is.
    pub(crate) async fn live(&self, storage: &dyn Storage, id: &str, state: State) -> Position {
        let position = self.insert(storage, &[id]).await[0];
        run(storage, self.epoch, position, state, at(4)).await;
        position
    }
}

pub(crate) async fn stored(storage: &dyn Storage, position: Position) -> Stored {
    let mut found = storage.load(LANE, vec![position]).await.unwrap();
    found.pop().unwrap()
}

/// A change of what is stored, with the next version.
pub(crate) fn change_of(before: &Stored, life: Life) -> Change {
    Change {
        lane: LANE,
        position: before.position,
        version: before.life.version,
        life: Life {
            version: before.life.version + 1,
            ..life
        },
        fence: None,
        ended: None,
        blocks: false,
        to_tail: false,
        report: None,
        disable: None,
        raise: Vec::new(),
        next: None,
        now: at(3),
    }
}

pub(crate) async fn change(storage: &dyn Storage, one: Change) -> Result<(), Error> {
    changed(storage, one).await.map(drop)
}

/// As [`change`]; what it left.
pub(crate) async fn changed(storage: &dyn Storage, change: Change) -> Result<Changed, Error> {
    let mut answers = storage.change(vec![change]).await.unwrap();
    assert_eq!(answers.len(), 1);
    answers.remove(0)
}

/// The start of the next attempt.
pub(crate) fn started(before: &Stored, epoch: Epoch) -> Change {
    let life = Life {
        started: before.life.started + 1,
        open: Some(OpenAttempt {
            epoch,
            alone: false,
            at: at(3),
            trigger: Trigger::Schedule,
        }),
        ..before.life.clone()
    };
    Change {
        fence: Some(epoch),
        ..change_of(before, life)
    }
}

/// The end of the open attempt; reported.
pub(crate) fn ended(before: &Stored, epoch: Epoch, state: State, now: Timestamp) -> Change {
    let life = Life {
        state,
        finished: before.life.finished + 1,
        due_at: (!state.is_terminal()).then_some(at(60)),
        open: None,
        ..before.life.clone()
    };
    let is_2xx = state == State::Delivered;
    let ended = Ended {
        number: before.life.started,
        epoch,
        trigger: Trigger::Schedule,
        started_at: at(3),
        duration_ms: Some(7),
        phases: Phases {
            connect_ms: Some(1),
            ..Phases::default()
        },
        status_code: Some(if is_2xx { 202 } else { 503 }),
        error: (!is_2xx).then(|| "http_5xx".to_owned()),
        error_reason: (!is_2xx).then(|| "expired".to_owned()),
        resent: is_2xx,
        response: Some("later".to_owned()),
        next_attempt_at: life.due_at,
    };
    Change {
        ended: Some(ended),
        report: Some(epoch),
        now,
        ..change_of(before, life)
    }
}

/// Starts and ends an attempt.
pub(crate) async fn run(
    storage: &dyn Storage,
    epoch: Epoch,
    position: Position,
    state: State,
    now: Timestamp,
) {
    let before = stored(storage, position).await;
    change(storage, started(&before, epoch)).await.unwrap();
    let before = stored(storage, position).await;
    change(storage, ended(&before, epoch, state, now))
        .await
        .unwrap();
}

pub(crate) async fn report_all(storage: &dyn Storage) {
    while let Some(last) = storage.unreported(LANE).await.unwrap().last() {
        storage.reported(LANE, last.position).await.unwrap();
    }
}

/// A running job of a client, of an endpoint of it if that is given.
pub(crate) fn job_of(kind: JobKind, endpoint: &Endpoint) -> Job {
    let of_endpoint = kind != JobKind::RemoveClient;
    Job {
        job_id: JobId::mint(LANE, at(1)),
        kind,
        client: endpoint.client,
        client_id: endpoint.client_id.clone(),
        endpoint: of_endpoint.then(|| (endpoint.position, endpoint.endpoint_id.clone())),
        since: at(0),
        until: at(1_000),
        wanted: None,
        dry_run: false,
        correlation_id: CorrelationId::parse("asked").unwrap(),
        progress: Progress {
            status: JobStatus::Running,
            cursor: 0,
            examined: 0,
            done: 0,
            updated_at: at(5),
        },
        created_at: at(5),
    }
}
