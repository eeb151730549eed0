//! Deliveries that end the task or the process that sends them, and those that were on their way beside them.

use std::time::Duration;

use schema::delivery::Status;

use super::clients::{deliveries, incoming, of_status, post, register, settings, until_none_is};
use super::look;
use super::world::{Reply, Running, World};
use crate::domain::transition::{ExhaustReason, State};
use crate::storage::Filter;

const POISON: State = State::Exhausted(ExhaustReason::Poison);

async fn only_state(world: &World) -> State {
    let found = deliveries(world, Filter::default()).await;
    assert_eq!(found.len(), 1);
    found[0].life.state
}

#[tokio::test(start_paused = true)]
async fn what_kills_its_task_every_time_is_tried_by_its_schedule_and_then_poison() {
    let world = World::new();
    let running = world.start().await;
    register(&running, "acme", settings("a.example")).await;
    world.at("a.example", Reply::Panic);

    post(&running, incoming("acme", 1)).await;
    until_none_is(&world, Status::Pending).await;
    until_none_is(&world, Status::Failed).await;

    assert_eq!(only_state(&world).await, POISON);
    let times = world.received().into_iter().map(|request| request.at);
    let times: Vec<_> = times.collect();
    let waits = times.windows(2).map(|pair| pair[1].duration_since(pair[0]));
    let waits: Vec<i64> = waits.map(|wait| wait.as_secs()).collect();
    assert_eq!(waits.len(), 4, "two that are not charged, and three");
    assert!(waits[..2].iter().all(|wait| *wait <= 2), "{waits:?}");
    assert!(waits[2] >= 5 && waits[3] >= 300, "{waits:?}");
}

#[tokio::test(start_paused = true)]
async fn what_ends_the_process_every_time_is_tried_by_its_schedule_and_then_poison() {
    let world = World::new();
    world.at("a.example", Reply::Hang);
    let mut running = world.start().await;
    register(&running, "acme", settings("a.example")).await;
    post(&running, incoming("acme", 1)).await;
    for requests in 1..=5 {
        world.until_received(requests).await;
        running.kill();
        running = world.start().await;
    }

    tokio::time::sleep(Duration::from_secs(3_600)).await;

    assert_eq!(world.received().len(), 5);
    assert_eq!(only_state(&world).await, POISON);
    assert_eq!(world.vitals.facts().exhausted, 1);
}

#[tokio::test(start_paused = true)]
async fn a_page_that_ends_the_process_every_time_goes_on_by_its_schedule() {
    let world = World::new();
    world.always(Reply::Hang);
    world.publish("evt_1");
    for requests in 1..=20 {
        let running = world.start().await;
        world.until_received(requests).await;
        running.kill();
    }

    world.always(Reply::Status(202));
    let _running = world.start().await;
    world.until_reported(1).await;

    let (page, _) = look(&world, "evt_1").await;
    assert_eq!(page.life.state, State::Delivered);
    assert_eq!(world.vitals.facts().exhausted, 0);
    let received = world.received();
    let took = received[19].at.duration_since(received[2].at);
    assert!(took.as_secs() > 300, "not at every start: {took:?}");
}

/// One life of a process that is killed a second after its start, or by the poison.
async fn live_for_a_second(world: &World, running: Running) {
    let second = tokio::time::sleep(Duration::from_secs(1));
    tokio::pin!(second);
    let poisoned = tokio::select! {
        () = &mut second => false,
        () = world.poisoned() => true,
    };
    running.kill();
    if poisoned {
        second.await;
    }
}

#[tokio::test(start_paused = true)]
async fn in_a_crash_loop_the_poison_is_found_and_everything_else_arrives() {
    let mut world = World::new();
    world.schedule = vec![0, 2, 4, 8];
    world.bounds.fresh_of_client = 100_000;
    let hosts = ["a.example", "b.example", "c.example", "d.example"];
    let mut running = world.start().await;
    for host in hosts {
        world.at(host, Reply::Late(Duration::from_millis(300)));
        register(&running, "acme", settings(host)).await;
    }
    world.poison("b.example", "1");
    for number in 0..2_500 {
        post(&running, incoming("acme", number)).await;
    }

    for _ in 0..200 {
        live_for_a_second(&world, running).await;
        running = world.start().await;
    }
    until_none_is(&world, Status::Pending).await;
    until_none_is(&world, Status::Failed).await;

    let exhausted = Filter {
        status: Some(Status::Exhausted),
        ..Filter::default()
    };
    let exhausted = deliveries(&world, exhausted).await;
    assert_eq!(exhausted.len(), 1, "of 10,000");
    assert_eq!(exhausted[0].life.state, POISON);
    assert_eq!(exhausted[0].life.started, 6);
    assert_eq!(of_status(&world, Status::Skipped).await, 0);
    let arrived: std::collections::HashSet<_> = world
        .received()
        .into_iter()
        .map(|request| (request.host, request.event_id))
        .collect();
    assert_eq!(arrived.len(), 10_000);
}
