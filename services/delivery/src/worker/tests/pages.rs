//! A page is delivered, or somebody is told (R11).

use schema::webhooks::{DisabledReason, Trigger};

use super::clients::asked;
use super::world::Running;
use super::*;
use crate::domain::endpoint::{Disabled, Endpoint, Pattern};
use crate::domain::ids::EndpointId;
use crate::domain::requests::switched;
use crate::storage::{Put, PutEndpoint};

const DAY: Duration = Duration::from_secs(24 * 3_600);

async fn switch(running: &Running, disabled: bool) {
    let change = |endpoint: &Endpoint, now| Ok(switched(endpoint, disabled, now));
    let id = EndpointId::pagerduty();
    let changed = running.worker.change_endpoint(&id, &asked(), change).await;
    assert_eq!(changed.unwrap().disabled.is_some(), disabled);
}

/// Waits until so many are undelivered, for these reasons.
async fn until_undelivered(world: &World, count: u64, why: &str) {
    let what = format!("{count} undelivered: {why}");
    world
        .until(&what, |world| {
            let pages = world.vitals.facts().pages;
            pages.count == count && pages.to_string() == why
        })
        .await;
    // The gauges follow within a second.
    tokio::time::sleep(Duration::from_secs(2)).await;
    assert_eq!(
        world.vitals.pages_undelivered.get(),
        i64::try_from(count).unwrap()
    );
}

#[tokio::test(start_paused = true)]
async fn while_pagerduty_is_disabled_by_hand_pages_are_held_whatever_their_age_and_sent_when_it_is_enabled()
 {
    let world = World::new();
    let running = world.start().await;
    switch(&running, true).await;

    world.publish("evt_new");
    let yesterday = world.clock.now() - SignedDuration::from_hours(30);
    world.publish_as("evt_old", yesterday, &[]);
    until_undelivered(&world, 2, "held").await;
    tokio::time::sleep(2 * DAY).await;

    assert_eq!(world.received().len(), 0);
    assert!(world.vitals.pages_oldest_age_s.get() > 2 * 24 * 3_600 - 60);
    running.kill();
    let running = world.start().await;
    until_undelivered(&world, 2, "held").await;

    switch(&running, false).await;
    world.until_received(2).await;
    until_undelivered(&world, 0, "").await;
    assert_eq!(world.vitals.pages_oldest_age_s.get(), 0);
}

#[tokio::test(start_paused = true)]
async fn a_page_that_is_refused_counts_from_its_first_failure_over_restarts_until_somebody_has_it()
{
    let world = World::new();
    let running = world.start().await;
    world.always(Reply::Status(500));

    world.publish("evt_1");
    until_undelivered(&world, 1, "refused").await;
    assert_eq!(failed_pages(&world, "http_5xx"), 1, "once for each page");
    world.until_reported(3).await;
    let exhausted = (Status::Exhausted, Some("max_attempts"));
    assert_eq!(status(&world, "evt_1").await, exhausted);
    assert_eq!(failed_pages(&world, "http_5xx"), 1);
    assert_eq!(failed_pages(&world, "max_attempts"), 1);
    running.kill();
    world.vitals.note(|facts| facts.pages = Default::default());

    let running = world.start().await;
    until_undelivered(&world, 1, "refused").await;
    world.always(Reply::Status(202));
    let id = look(&world, "evt_1").await.0.delivery_id;
    running.worker.retry(id, Trigger::Manual).await.unwrap();
    until_undelivered(&world, 0, "").await;
    assert_eq!(status(&world, "evt_1").await, (Status::Delivered, None));
}

#[tokio::test(start_paused = true)]
async fn a_page_that_somebody_cancels_stays_undelivered_until_it_is_sent_again() {
    let world = World::new();
    let running = world.start().await;
    world.then(&[Reply::Status(500)]);
    world.publish("evt_1");
    world.until_reported(1).await;

    let id = look(&world, "evt_1").await.0.delivery_id;
    running.worker.cancel(id).await.unwrap();
    until_undelivered(&world, 1, "canceled").await;

    assert_eq!(failed_pages(&world, "canceled"), 1);
    running.worker.retry(id, Trigger::Manual).await.unwrap();
    until_undelivered(&world, 0, "").await;
}

#[tokio::test(start_paused = true)]
async fn a_page_that_waits_for_its_first_attempt_is_late_and_one_that_came_a_day_too_late_too() {
    let world = World::new();
    let _running = world.start().await;
    world.always(Reply::Hang);

    // More than may be on their way at once.
    for n in 0..20 {
        world.publish(&format!("evt_{n}"));
    }
    until_undelivered(&world, 20, "late").await;
    world.always(Reply::Status(202));
    until_undelivered(&world, 0, "").await;

    let yesterday = world.clock.now() - SignedDuration::from_hours(25);
    world.publish_as("evt_old", yesterday, &[]);
    until_undelivered(&world, 1, "late").await;
    assert_eq!(failed_pages(&world, "too_old"), 1);
}

#[tokio::test(start_paused = true)]
async fn a_410_is_a_failed_attempt_of_a_page_and_disables_nothing() {
    let world = World::new();
    let running = world.start().await;
    world.then(&[Reply::Status(410)]);

    world.publish("evt_1");
    world.until_reported(2).await;

    assert_eq!(status(&world, "evt_1").await, (Status::Delivered, None));
    let pagerduty = running.worker.endpoint(&EndpointId::pagerduty()).unwrap();
    assert_eq!(pagerduty.disabled, None);
}

#[tokio::test(start_paused = true)]
async fn however_many_pages_are_open_none_is_skipped_and_pagerduty_stays_enabled() {
    let mut world = World::new();
    world.bounds.open_of_endpoint = 1;
    let running = world.start().await;
    world.always(Reply::Hang);

    for n in 0..5 {
        world.publish(&format!("evt_{n}"));
    }
    world.until_received(5).await;

    let pagerduty = running.worker.endpoint(&EndpointId::pagerduty()).unwrap();
    assert_eq!(pagerduty.disabled, None);
    for n in 0..5 {
        let found = status(&world, &format!("evt_{n}")).await;
        assert_ne!(found.0, Status::Skipped, "evt_{n}");
    }
}

#[tokio::test(start_paused = true)]
async fn what_an_earlier_release_stored_turns_no_page_away() {
    let world = World::new();
    let running = world.start().await;
    let stored = running.worker.endpoint(&EndpointId::pagerduty()).unwrap();
    running.kill();
    let mut earlier = Endpoint::clone(&stored);
    earlier.settings.event_types = Pattern::parse("order.*").map(|pattern| vec![pattern]);
    earlier.disabled = Some(Disabled {
        reason: DisabledReason::Gone,
        at: world.clock.now(),
    });
    let put = PutEndpoint {
        lane: LANE,
        endpoint: earlier,
        at_most: None,
        now: world.clock.now(),
    };
    let put = world.storage.put_endpoint(put).await.unwrap();
    assert!(matches!(put, Put::Done(_)), "{put:?}");

    let _running = world.start().await;
    world.publish("evt_1");
    world.until_reported(1).await;

    assert_eq!(status(&world, "evt_1").await, (Status::Delivered, None));
}

fn failed_pages(world: &World, reason: &'static str) -> u64 {
    world.vitals.failed_pages(reason)
}
