//! Strict order: one after the other, whatever happens in between.

use std::time::Duration;

use schema::delivery::Status;
use schema::webhooks::{Ordering, RetryPolicy, Trigger};

use super::clients::{incoming, numbers, post, register, settings, until_none_is};
use super::world::{Reply, World};
use crate::domain::endpoint::Settings;
use crate::domain::ids::DeliveryId;

fn strict(host: &str) -> Settings {
    Settings {
        ordering: Ordering::Strict,
        ..settings(host)
    }
}

#[tokio::test(start_paused = true)]
async fn a_strict_endpoint_gets_one_after_the_other_in_order() {
    let world = World::new();
    let running = world.start().await;
    register(&running, "acme", strict("a.example")).await;
    world.script("a.example", |script| {
        script.next.push_back(Reply::Status(500));
        script.always = Reply::Late(Duration::from_millis(50));
    });

    for number in 0..30 {
        post(&running, incoming("acme", number)).await;
    }
    world.until_received(31).await;
    until_none_is(&world, Status::Pending).await;

    let mut expected: Vec<String> = (0..30).map(|number| number.to_string()).collect();
    expected.insert(0, "0".to_owned());
    assert_eq!(numbers(&world, "a.example"), expected);
}

#[tokio::test(start_paused = true)]
async fn the_outcome_of_one_and_the_count_of_the_next_are_one_commit() {
    let world = World::new();
    let running = world.start().await;
    register(&running, "acme", strict("a.example")).await;
    world.at("a.example", Reply::Late(Duration::from_millis(50)));
    for number in 0..30 {
        post(&running, incoming("acme", number)).await;
    }
    let commits = || world.vitals.timers.commit.get_sample_count();
    let posted = commits();

    until_none_is(&world, Status::Pending).await;

    assert_eq!(commits() - posted, 30);
    assert_eq!(world.received_at("a.example").len(), 30);
}

#[tokio::test(start_paused = true)]
async fn a_stop_begins_nothing_more_of_a_strict_line() {
    let world = World::new();
    let running = world.start().await;
    register(&running, "acme", strict("a.example")).await;
    world.at("a.example", Reply::Late(Duration::from_millis(50)));
    for number in 0..100 {
        post(&running, incoming("acme", number)).await;
    }
    world.until_received(3).await;

    let (before, began) = (world.received().len(), tokio::time::Instant::now());
    assert_eq!(running.stop().await, Ok(()));

    assert_eq!(world.received().len(), before);
    assert!(began.elapsed() < Duration::from_secs(1));
}

#[tokio::test(start_paused = true)]
async fn a_command_on_the_one_ahead_meanwhile_keeps_the_next_in_its_place() {
    let world = World::new();
    let running = world.start().await;
    register(&running, "acme", strict("a.example")).await;
    world.at("a.example", Reply::Late(Duration::from_secs(1)));
    let first = post(&running, incoming("acme", 0)).await;
    for number in 1..4 {
        post(&running, incoming("acme", number)).await;
    }
    world.until_received(1).await;

    // Its attempt becomes the first of a new generation: what was decided when it was sent is stale.
    let id = DeliveryId::parse(&first.deliveries[0].delivery_id).unwrap();
    running.worker.retry(id, Trigger::Manual).await.unwrap();
    until_none_is(&world, Status::Pending).await;

    assert_eq!(numbers(&world, "a.example"), ["0", "1", "2", "3"]);
    assert_eq!(world.vitals.put_back.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_restart_never_sends_what_was_before_again_after_what_is_behind() {
    let world = World::new();
    let mut running = world.start().await;
    register(&running, "acme", strict("a.example")).await;
    world.at("a.example", Reply::Late(Duration::from_millis(40)));
    for number in 0..40 {
        post(&running, incoming("acme", number)).await;
    }
    for wait in [10, 55, 130, 90, 15, 200] {
        tokio::time::sleep(Duration::from_millis(wait)).await;
        running.kill();
        running = world.start().await;
    }
    until_none_is(&world, Status::Pending).await;

    // A repeat follows its own first sending at once: 1 2 2 3, and never 1 2 1.
    let mut seen = numbers(&world, "a.example");
    seen.dedup();
    let expected: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    assert_eq!(seen, expected);
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn a_blocked_line_goes_on_when_its_head_is_retried_and_that_joins_at_the_tail() {
    let world = World::new();
    let mut running = world.start().await;
    let once = Settings {
        retry: Some(RetryPolicy {
            schedule_s: Some(vec![0]),
            ..RetryPolicy::default()
        }),
        ..strict("a.example")
    };
    register(&running, "acme", once).await;
    world.script("a.example", |script| {
        script.next.push_back(Reply::Status(500));
    });
    let first = post(&running, incoming("acme", 0)).await;
    for number in 1..3 {
        post(&running, incoming("acme", number)).await;
    }
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    running.kill();
    running = world.start().await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(numbers(&world, "a.example"), ["0"], "also after a restart");

    let id = DeliveryId::parse(&first.deliveries[0].delivery_id).unwrap();
    running.worker.retry(id, Trigger::Manual).await.unwrap();
    until_none_is(&world, Status::Pending).await;

    assert_eq!(numbers(&world, "a.example"), ["0", "1", "2", "0"]);
    drop(running);
}

#[tokio::test(start_paused = true)]
async fn a_kept_connection_that_closes_costs_a_strict_line_neither_an_attempt_nor_time() {
    let world = World::new();
    let running = world.start().await;
    register(&running, "acme", strict("a.example")).await;
    world.script("a.example", |script| {
        for _ in 0..10 {
            script.next.extend([Reply::Status(200), Reply::KeptReset]);
        }
    });
    let began = tokio::time::Instant::now();

    for number in 0..20 {
        post(&running, incoming("acme", number)).await;
    }
    until_none_is(&world, Status::Pending).await;

    let mut received = world.received_at("a.example");
    assert_eq!(received.len(), 30, "every second was sent once more");
    assert!(received.iter().all(|received| received.attempt == 1));
    received
        .dedup_by(|one, other| (&one.webhook_id, &one.body) == (&other.webhook_id, &other.body));
    assert_eq!(received.len(), 20, "at once, and as the same bytes");
    assert!(began.elapsed() < Duration::from_secs(1));
}
