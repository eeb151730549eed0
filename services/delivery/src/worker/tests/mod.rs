use std::time::Duration;

use jiff::SignedDuration;
use runtime::clock::Clock;
use schema::delivery::Status;

use crate::domain::transition::{Life, State};
use crate::error::Error;
use crate::storage::{Change, Ended, Filter, LANE, Summary};
use world::{Reply, World, payload};

mod clients;
mod order;
mod pages;
mod poison;
mod world;

/// The one delivery of an event, with its attempts.
async fn look(world: &World, event_id: &str) -> (Summary, Vec<Ended>) {
    let filter = Filter {
        client_id: Some("oncall".to_owned()),
        idempotency_key: Some(event_id.to_owned()),
        limit: 10,
        ..Filter::default()
    };
    let found = world.storage.deliveries(LANE, filter).await.unwrap();
    let found = found.rows;
    assert_eq!(found.len(), 1, "{event_id} has one delivery");
    let id = found[0].delivery_id;
    world.storage.delivery(id).await.unwrap().unwrap()
}

async fn status(world: &World, event_id: &str) -> (Status, Option<&'static str>) {
    let state = look(world, event_id).await.0.life.state;
    (state.status(), state.reason())
}

fn errors(attempts: &[Ended]) -> Vec<Option<&str>> {
    attempts
        .iter()
        .map(|attempt| attempt.error.as_deref())
        .collect()
}

#[tokio::test(start_paused = true)]
async fn a_routed_event_is_paged_once_with_its_bytes_and_its_names() {
    let world = World::new();
    let running = world.start().await;

    world.publish("evt_1");
    world.until_reported(1).await;
    tokio::time::sleep(Duration::from_secs(3600)).await;

    let received = world.received();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].body, payload("evt_1"));
    assert!(received[0].webhook_id.starts_with("evt_000"));
    assert_eq!(received[0].attempt, 1);
    assert_eq!(received[0].correlation_id, "corr-evt_1");
    assert_eq!(received[0].content_type, "application/json");
    let (_, attempts) = look(&world, "evt_1").await;
    let ended = attempts[0].clone();
    assert_eq!((ended.status_code, ended.error), (Some(202), None));
    assert_eq!(
        ended.response.unwrap().len(),
        3_000,
        "of the latest attempt"
    );
    let outcome = &world.outcomes()[0].state;
    assert_eq!((outcome.status, outcome.attempts), (Status::Delivered, 1));
    assert_eq!(outcome.destination, "pagerduty");
    assert_eq!(running.stop().await, Ok(()));
}

#[tokio::test(start_paused = true)]
async fn a_failing_destination_is_tried_again_by_the_schedule_with_the_same_bytes() {
    let world = World::new();
    let _running = world.start().await;
    world.then(&[Reply::Status(500), Reply::RetryAfter(503, "10")]);

    world.publish("evt_1");
    world.until_received(3).await;
    world.until_reported(3).await;

    let received = world.received();
    let waits: Vec<i64> = received
        .windows(2)
        .map(|pair| pair[1].at.duration_since(pair[0].at).as_secs())
        .collect();
    assert!(
        (5..=6).contains(&waits[0]),
        "5 s and at most a fifth: {waits:?}"
    );
    assert!((300..=360).contains(&waits[1]), "not earlier: {waits:?}");
    for (index, request) in received.iter().enumerate() {
        assert_eq!(request.attempt as usize, index + 1);
        assert_eq!(request.body, payload("evt_1"));
    }
    let (_, attempts) = look(&world, "evt_1").await;
    assert_eq!(
        errors(&attempts),
        [Some("http_5xx"), Some("http_5xx"), None]
    );
    assert!(attempts[0].next_attempt_at.is_some());
    let told: Vec<Status> = world
        .outcomes()
        .iter()
        .map(|told| told.state.status)
        .collect();
    assert_eq!(told, [Status::Failed, Status::Failed, Status::Delivered]);
}

#[tokio::test(start_paused = true)]
async fn when_no_attempt_is_left_it_is_exhausted_and_that_is_told() {
    let world = World::new();
    let _running = world.start().await;
    world.always(Reply::Status(500));

    world.publish("evt_1");
    world.until_reported(3).await;
    tokio::time::sleep(Duration::from_secs(24 * 3600)).await;

    assert_eq!(world.received().len(), 3);
    let exhausted = (Status::Exhausted, Some("max_attempts"));
    assert_eq!(status(&world, "evt_1").await, exhausted);
    assert_eq!(world.vitals.facts().exhausted, 1);
    let last = world.outcomes().pop().unwrap().state;
    assert_eq!(last.reason.as_deref(), Some("max_attempts"));
}

#[tokio::test(start_paused = true)]
async fn a_hanging_destination_holds_its_slots_and_nothing_else() {
    let world = World::new();
    let _running = world.start().await;
    world.always(Reply::Hang);

    for n in 0..300 {
        world.publish(&format!("evt_{n}"));
    }
    world.until_received(16).await;
    tokio::time::sleep(Duration::from_secs(1)).await;

    assert_eq!(world.received().len(), 16, "in flight at most");
    let all = Filter {
        limit: 500,
        ..Filter::default()
    };
    let taken_in = world.storage.deliveries(LANE, all).await.unwrap();
    assert_eq!(taken_in.rows.len(), 300, "the feed is read on");

    world.always(Reply::Status(202));
    world
        .until("all delivered", |world| {
            let told = world.outcomes();
            let delivered = told
                .iter()
                .filter(|told| told.state.status == Status::Delivered);
            delivered.count() == 300
        })
        .await;
    let (_, attempts) = look(&world, "evt_0").await;
    assert_eq!(errors(&attempts), [Some("timeout"), None]);
    let took = attempts[0].duration_ms.unwrap();
    assert!((15_000..15_100).contains(&took), "{took}");
}

#[tokio::test(start_paused = true)]
async fn a_restart_resumes_the_schedule_where_it_was() {
    let world = World::new();
    let running = world.start().await;
    world.then(&[Reply::Status(500), Reply::Status(500)]);
    world.publish("evt_1");
    world.until_reported(2).await;
    let due = look(&world, "evt_1").await.0.life.due_at.unwrap();
    running.kill();

    tokio::time::sleep(Duration::from_secs(60)).await;
    let _running = world.start().await;
    world.until_received(3).await;

    let last = world.received().pop().unwrap();
    assert_eq!(last.attempt, 3);
    let late = last.at.duration_since(due);
    assert!(
        late >= SignedDuration::ZERO && late < SignedDuration::from_secs(1),
        "{late}"
    );
    assert_eq!(look(&world, "evt_1").await.0.life.interrupted, 0);
}

#[tokio::test(start_paused = true)]
async fn what_is_due_by_a_clock_that_was_ahead_is_sent_when_the_clock_is_right() {
    let mut world = World::new();
    let right = world.clock.now();
    world.clock = Clock::starting_at(right + SignedDuration::from_hours(365 * 24));
    let running = world.start().await;
    world.then(&[Reply::Status(500)]);
    world.publish("evt_1");
    world.until_reported(1).await;
    running.kill();

    world.clock = Clock::starting_at(right);
    let _running = world.start().await;
    world.until_reported(2).await;

    let waited = world.clock.now().duration_since(right);
    assert!(waited <= SignedDuration::from_mins(61), "{waited}");
    assert_eq!(status(&world, "evt_1").await, (Status::Delivered, None));
}

#[tokio::test(start_paused = true)]
async fn an_attempt_whose_owner_died_is_on_record_and_repeated_at_once() {
    let world = World::new();
    let running = world.start().await;
    // The old owner's answer comes when the new one is long at work.
    world.then(&[Reply::Late(Duration::from_secs(10))]);
    world.publish("evt_1");
    world.until_received(1).await;
    running.kill();

    let _running = world.start().await;
    world.until_reported(1).await;
    tokio::time::sleep(Duration::from_secs(60)).await;

    let received = world.received();
    assert_eq!(received.len(), 2);
    let between = received[1].at.duration_since(received[0].at);
    assert!(between < SignedDuration::from_secs(1), "{between}");
    let (stored, attempts) = look(&world, "evt_1").await;
    assert_eq!(errors(&attempts), [Some("interrupted"), None]);
    assert!(attempts[0].epoch < attempts[1].epoch);
    let life = stored.life;
    assert_eq!((life.started, life.finished, life.interrupted), (2, 1, 1));
    assert_eq!(
        world.outcomes().len(),
        1,
        "S9: the late answer changed nothing"
    );
    assert_eq!(world.vitals.refused.get(), 1, "and was counted");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_whose_task_died_is_on_record_and_repeated() {
    let world = World::new();
    let _running = world.start().await;
    world.then(&[Reply::Panic]);

    world.publish("evt_1");
    world.until_reported(1).await;

    let (stored, attempts) = look(&world, "evt_1").await;
    assert_eq!(errors(&attempts), [Some("interrupted"), None]);
    assert_eq!(stored.life.state.status(), Status::Delivered);
    assert_eq!(world.vitals.put_back.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_delivery_whose_result_the_store_refused_is_queued_by_what_the_store_says() {
    let world = World::new();
    let running = world.start().await;
    world.then(&[Reply::Late(Duration::from_secs(10))]);
    world.publish("evt_1");
    world.until_received(1).await;
    // As a commit that was answered with a fault and yet took place.
    let stored = look(&world, "evt_1").await.0;
    let life = stored.life;
    let elsewhere = Change {
        lane: LANE,
        position: stored.position,
        version: life.version,
        life: Life {
            version: life.version + 1,
            state: State::Failed,
            finished: 1,
            open: None,
            due_at: Some(world.clock.now() + SignedDuration::from_secs(30)),
            ..life
        },
        fence: None,
        ended: None,
        blocks: false,
        to_tail: false,
        report: None,
        disable: None,
        raise: vec![],
        next: None,
        now: world.clock.now(),
    };
    world.storage.change(vec![elsewhere]).await.unwrap();

    world.until_received(2).await;
    assert_eq!(running.stop().await, Ok(()));

    assert_eq!(status(&world, "evt_1").await, (Status::Delivered, None));
    assert_eq!(world.vitals.put_back.get(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_later_owner_sends_is_not_interrupted_by_an_earlier_one() {
    let world = World::new();
    let old = world.start().await;
    world.then(&[Reply::Late(Duration::from_secs(5))]);
    world.always(Reply::Late(Duration::from_secs(14)));
    world.publish("evt_1");
    world.until_received(1).await;

    let _new = world.start().await;
    world.until_reported(1).await;

    let (_, attempts) = look(&world, "evt_1").await;
    assert_eq!(errors(&attempts), [Some("interrupted"), None]);
    let took = attempts[1].duration_ms.unwrap();
    assert!((14_000..14_100).contains(&took), "{took}");
    assert_eq!(world.received().len(), 2);
    old.kill();
}

#[tokio::test(start_paused = true)]
async fn a_suspect_is_sent_alone_and_a_result_clears_it() {
    let world = World::new();
    world.always(Reply::Hang);
    for n in 0..3 {
        world.publish(&format!("evt_{n}"));
    }
    for requests in [3, 6] {
        let running = world.start().await;
        world.until_received(requests).await;
        running.kill();
    }

    world.always(Reply::Late(Duration::from_secs(2)));
    let _running = world.start().await;
    world.until_reported(3).await;

    let times: Vec<_> = world.received()[6..]
        .iter()
        .map(|request| request.at)
        .collect();
    for pair in times.windows(2) {
        let between = pair[1].duration_since(pair[0]);
        assert!(between >= SignedDuration::from_secs(2), "{times:?}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_feed_that_is_read_again_inserts_nothing_twice() {
    let world = World::new();
    let running = world.start().await;
    world.publish("evt_1");
    world.publish("evt_2");
    world.until_reported(2).await;

    world.new_run();
    world.publish("evt_3");
    world.until_reported(3).await;
    world.prune_past_the_reader();
    world.publish("evt_4");
    world.until_reported(4).await;
    running.kill();
    let _running = world.start().await;
    world.publish("evt_5");
    world.until_reported(5).await;

    let ids: Vec<String> = world
        .received()
        .into_iter()
        .map(|request| request.event_id)
        .collect();
    assert_eq!(ids, ["evt_1", "evt_2", "evt_3", "evt_4", "evt_5"]);
    let restarts = &world.vitals.feed_restarts;
    assert_eq!(restarts.with_label_values(&["diverged"]).get(), 1);
    assert_eq!(restarts.with_label_values(&["too_old"]).get(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_is_delivered_already_or_too_old_is_recorded_and_not_sent() {
    let world = World::new();
    let _running = world.start().await;
    let now = world.clock.now();

    world.publish_as("evt_had", now, &["pagerduty"]);
    world.publish_as("evt_old", now - SignedDuration::from_hours(25), &[]);
    world.publish("evt_new");
    world.until_reported(2).await;

    let received = world.received();
    assert_eq!(received.len(), 1);
    assert_eq!(received[0].event_id, "evt_new");
    let had = (Status::Skipped, Some("already_delivered"));
    assert_eq!(status(&world, "evt_had").await, had);
    assert_eq!(
        status(&world, "evt_old").await,
        (Status::Skipped, Some("too_old"))
    );
    let told: Vec<_> = world.outcomes();
    assert!(told.iter().all(|told| told.event_id.as_str() != "evt_had"));
    for reason in ["already_delivered", "too_old"] {
        let skipped = world.vitals.skipped.with_label_values(&[reason]).get();
        assert_eq!(skipped, 1, "{reason}");
    }
}

#[tokio::test(start_paused = true)]
async fn a_feed_that_was_never_read_is_as_old_as_the_process() {
    let world = World::new();
    world.feed_away(true);
    let _running = world.start().await;

    tokio::time::sleep(Duration::from_secs(90)).await;
    let age = world.vitals.feed_age_s.get();
    assert!((89..=91).contains(&age), "{age}");

    world.feed_away(false);
    tokio::time::sleep(Duration::from_secs(3600)).await;
    let age = world.vitals.feed_age_s.get();
    assert!(age <= 21, "a poll and a look: {age}");
    let age = world.vitals.retention_age_s.get();
    assert!((80..=100).contains(&age), "it came round again: {age}");
}

#[tokio::test(start_paused = true)]
async fn outcomes_arrive_in_commit_order_though_event_store_was_away() {
    let world = World::new();
    let running = world.start().await;
    world.deaf_to_reports(3);
    world.then(&[Reply::Status(500)]);
    world.publish("evt_1");
    world.until_received(2).await;
    world.publish("evt_2");
    world.until_received(3).await;
    running.kill();

    let _running = world.start().await;
    world.until_reported(3).await;

    let told: Vec<_> = world
        .outcomes()
        .into_iter()
        .map(|told| (told.event_id.to_string(), told.state.status))
        .collect();
    assert_eq!(
        told,
        [
            ("evt_1".to_owned(), Status::Failed),
            ("evt_1".to_owned(), Status::Delivered),
            ("evt_2".to_owned(), Status::Delivered),
        ]
    );
    let outcomes = world.outcomes();
    assert!(outcomes.is_sorted_by_key(|told| told.position));
}

#[tokio::test(start_paused = true)]
async fn an_outcome_that_is_refused_for_good_holds_up_no_other() {
    let world = World::new();
    world.refuse_reports_of("evt_2");
    let _running = world.start().await;
    for n in 1..=3 {
        world.publish(&format!("evt_{n}"));
    }

    world.until_reported(2).await;
    tokio::time::sleep(Duration::from_secs(60)).await;

    let told: Vec<String> = world
        .outcomes()
        .iter()
        .map(|told| told.event_id.to_string())
        .collect();
    assert_eq!(told, ["evt_1", "evt_3"]);
    assert_eq!(world.vitals.outcomes_dropped.get(), 1);
    assert_eq!(world.storage.unreported(LANE).await, Ok(vec![]));
}

#[tokio::test(start_paused = true)]
async fn a_graceful_stop_lets_what_is_on_its_way_finish() {
    let world = World::new();
    let running = world.start().await;
    world.then(&[Reply::Late(Duration::from_secs(9))]);
    world.publish("evt_1");
    world.until_received(1).await;

    assert_eq!(running.stop().await, Ok(()));

    assert_eq!(status(&world, "evt_1").await, (Status::Delivered, None));
}

#[tokio::test(start_paused = true)]
async fn a_graceful_stop_gives_back_what_takes_longer_than_its_grace() {
    let world = World::new();
    let running = world.start().await;
    world.always(Reply::Hang);
    world.publish("evt_1");
    world.until_received(1).await;
    let before = world.clock.now();

    assert_eq!(running.stop().await, Ok(()));

    let took = world.clock.now().duration_since(before);
    assert!((10..=11).contains(&took.as_secs()), "its grace: {took}");
    let (stored, attempts) = look(&world, "evt_1").await;
    assert_eq!(errors(&attempts), [Some("interrupted")]);
    let life = stored.life;
    assert_eq!((life.finished, life.interrupted_in_a_row), (0, 0));
    world.always(Reply::Status(202));
    let _running = world.start().await;
    world.until_reported(1).await;
    assert_eq!(status(&world, "evt_1").await, (Status::Delivered, None));
}

#[tokio::test(start_paused = true)]
async fn an_owner_that_lost_its_lane_stops() {
    let world = World::new();
    let old = world.start().await;
    let new = world.start().await;

    world.publish("evt_1");
    let ended = tokio::time::timeout(Duration::from_secs(60), old.ended()).await;

    assert!(matches!(ended.unwrap(), Err(Error::Fenced { .. })));
    assert!(world.vitals.refused.get() >= 1);
    world.until_reported(1).await;
    assert_eq!(world.received().len(), 1, "paged by the new owner alone");
    assert_eq!(new.worker.queues().open(), 0);
}
