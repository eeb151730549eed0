//! Clients' endpoints and events: isolation, order, what a caller may do, what Signalpost says of itself.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use jiff::SignedDuration;
use schema::CorrelationId;
use schema::delivery::Status;
use schema::webhooks::{
    DisabledReason, JobStatus, OnExhausted, Ordering, RecoverRequest, Trigger, WaitingFor,
};
use serde_json::json;

use super::world::{Reply, Running, World};
use crate::domain::endpoint::{Confidential, Disabled, Endpoint, Pattern, Settings};
use crate::domain::ids::{DeliveryId, EndpointId, EventId};
use crate::storage::{Filter, LANE, Summary};
use crate::worker::{CommandFault, Incoming, PostFault, Posted};

const SECRET: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";
/// Longer than the default schedule.
const DAYS: Duration = Duration::from_secs(2 * 24 * 3600);

pub(super) fn settings(host: &str) -> Settings {
    Settings {
        url: format!("https://{host}/hook"),
        event_types: None,
        description: None,
        retry: None,
        timeout_ms: 15_000,
        max_in_flight: 64,
        rate_limit_per_s: None,
        ordering: Ordering::None,
        on_exhausted: OnExhausted::Block,
    }
}

fn types(names: &[&str]) -> Option<Vec<Pattern>> {
    let parsed = names.iter().map(|name| Pattern::parse(name).unwrap());
    Some(parsed.collect())
}

pub(super) async fn register(
    running: &Running,
    client_id: &str,
    settings: Settings,
) -> Arc<Endpoint> {
    let confidential = Confidential {
        secret: SECRET.to_owned(),
        previous: Vec::new(),
        headers: [("X-Team".to_owned(), "hooks".to_owned())].into(),
    };
    let registered = running
        .worker
        .register(client_id, settings, confidential, false, &asked())
        .await;
    registered.unwrap()
}

/// Under which id a caller asks.
pub(super) fn asked() -> CorrelationId {
    CorrelationId::parse("asked").unwrap()
}

pub(super) fn incoming(client_id: &str, number: u32) -> Incoming {
    Incoming {
        client_id: client_id.to_owned(),
        event_type: "order.created".to_owned(),
        payload: Bytes::from(json!({"event_id": number.to_string()}).to_string()),
        key: None,
        digest: [0; 16],
        ordering_key: None,
        occurred_at: None,
        correlation_id: CorrelationId::parse("corr").unwrap(),
        only: None,
    }
}

pub(super) async fn post(running: &Running, incoming: Incoming) -> schema::webhooks::Accepted {
    match running.worker.post(incoming).await.unwrap() {
        Posted::New(accepted) => accepted,
        Posted::Known(event) => panic!("known already: {event:?}"),
    }
}

pub(super) async fn deliveries(world: &World, filter: Filter) -> Vec<Summary> {
    let filter = Filter {
        limit: 500,
        ..filter
    };
    world.storage.deliveries(LANE, filter).await.unwrap().rows
}

pub(super) async fn of_status(world: &World, status: Status) -> usize {
    let filter = Filter {
        status: Some(status),
        ..Filter::default()
    };
    deliveries(world, filter).await.len()
}

pub(super) async fn until_none_is(world: &World, status: Status) {
    let mut wait = Duration::from_millis(100);
    while of_status(world, status).await > 0 {
        assert!(wait < DAYS, "some stay {status}");
        tokio::time::sleep(wait).await;
        wait = wait.mul_f64(1.5);
    }
}

pub(super) fn numbers(world: &World, host: &str) -> Vec<String> {
    let received = world.received_at(host).into_iter();
    received.map(|request| request.event_id).collect()
}

#[tokio::test(start_paused = true)]
async fn an_event_goes_to_each_endpoint_that_wants_it_under_one_id() {
    let world = World::new();
    let running = world.start().await;
    register(&running, "acme", settings("one.example")).await;
    let orders = Settings {
        event_types: types(&["order.*"]),
        ..settings("two.example")
    };
    register(&running, "acme", orders).await;
    let others = Settings {
        event_types: types(&["invoice.*"]),
        ..settings("three.example")
    };
    register(&running, "acme", others).await;
    register(&running, "other", settings("four.example")).await;

    let accepted = post(&running, incoming("acme", 1)).await;
    world.until_received(2).await;

    assert_eq!(accepted.deliveries.len(), 2);
    for host in ["one.example", "two.example"] {
        let received = world.received_at(host);
        assert_eq!(received[0].webhook_id, accepted.event_id, "{host}");
    }
    assert_eq!(world.received().len(), 2);
    until_none_is(&world, Status::Pending).await;
    assert_eq!(of_status(&world, Status::Delivered).await, 2);
}

#[tokio::test(start_paused = true)]
async fn a_dead_endpoint_delays_no_other_of_the_same_client() {
    let world = World::new();
    let running = world.start().await;
    register(&running, "acme", settings("dead.example")).await;
    register(&running, "acme", settings("well.example")).await;
    world.at("dead.example", Reply::Hang);

    for number in 0..400 {
        post(&running, incoming("acme", number)).await;
        tokio::time::sleep(Duration::from_millis(100)).await;
    }

    let received = world.received_at("well.example");
    assert_eq!(received.len(), 400, "each at once");
    let wasted = world.received_at("dead.example").len();
    assert!(wasted <= 24, "the breaker holds them back: {wasted}");
    assert_eq!(
        of_status(&world, Status::Pending).await + of_status(&world, Status::Failed).await,
        400
    );
}

#[tokio::test(start_paused = true)]
async fn a_breaker_burns_no_attempt_and_lets_all_go_when_the_endpoint_is_back() {
    let world = World::new();
    let running = world.start().await;
    let endpoint = register(&running, "acme", settings("a.example")).await;
    world.at("a.example", Reply::Hang);
    for number in 0..200 {
        post(&running, incoming("acme", number)).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert_eq!(running.worker.standing(endpoint.position).open, 200);
    let held = deliveries(&world, Filter::default()).await;
    let started: u32 = held.iter().map(|held| held.life.started).sum();
    assert!(started <= 24, "{started}");
    let waits = held
        .iter()
        .filter(|held| running.worker.waiting_for(held) == Some(WaitingFor::Breaker));
    assert!(waits.count() > 150);

    world.at("a.example", Reply::Status(200));
    until_none_is(&world, Status::Pending).await;
    until_none_is(&world, Status::Failed).await;

    assert_eq!(of_status(&world, Status::Delivered).await, 200);
    assert_eq!(running.worker.standing(endpoint.position).breaker, "closed");
}

#[tokio::test(start_paused = true)]
async fn retry_after_holds_the_others_and_burns_none_of_their_attempts() {
    let world = World::new();
    let running = world.start().await;
    register(&running, "acme", settings("a.example")).await;
    world.script("a.example", |script| {
        script.next.push_back(Reply::RetryAfter(429, "600"));
    });
    post(&running, incoming("acme", 1)).await;
    world.until_received(1).await;

    for number in 2..20 {
        post(&running, incoming("acme", number)).await;
    }
    tokio::time::sleep(Duration::from_secs(590)).await;
    assert_eq!(world.received().len(), 1, "the endpoint is left alone");
    world.until_received(20).await;

    let delivered = deliveries(&world, Filter::default()).await;
    let twice = delivered.iter().filter(|one| one.life.started > 1);
    assert_eq!(twice.count(), 1, "the one that was answered 429");
}

#[tokio::test(start_paused = true)]
async fn a_410_ends_the_delivery_and_disables_the_endpoint() {
    let world = World::new();
    let running = world.start().await;
    let endpoint = register(&running, "acme", settings("a.example")).await;
    let told = Settings {
        event_types: types(&["endpoint.disabled", "delivery.exhausted"]),
        ..settings("told.example")
    };
    register(&running, "acme", told).await;
    world.at("a.example", Reply::Status(410));

    post(&running, incoming("acme", 1)).await;
    world.until_received(3).await;
    let after = post(&running, incoming("acme", 2)).await;

    let disabled = running.worker.endpoint(&endpoint.endpoint_id).unwrap();
    let reason = disabled.disabled.map(|disabled| disabled.reason);
    assert_eq!(reason, Some(DisabledReason::Gone));
    assert_eq!(after.deliveries[0].status, Status::Skipped);
    let bodies: Vec<serde_json::Value> = world
        .received_at("told.example")
        .iter()
        .map(|request| serde_json::from_slice(&request.body).unwrap())
        .collect();
    let mut kinds: Vec<&str> = bodies
        .iter()
        .map(|body| body["type"].as_str().unwrap())
        .collect();
    kinds.sort_unstable();
    assert_eq!(kinds, ["delivery.exhausted", "endpoint.disabled"]);
}

#[tokio::test(start_paused = true)]
async fn of_many_410_at_once_one_disables_the_endpoint_and_tells_it_to_the_others() {
    let world = World::new();
    let running = world.start().await;
    let itself = Settings {
        event_types: types(&["order.*", "endpoint.disabled"]),
        ..settings("a.example")
    };
    register(&running, "acme", itself).await;
    let told = Settings {
        event_types: types(&["endpoint.disabled"]),
        ..settings("told.example")
    };
    register(&running, "acme", told).await;
    world.script("a.example", |script| {
        script.always = Reply::Status(410);
        let late = (1..=5).map(|nth| Reply::LateStatus(Duration::from_millis(100 * nth), 410));
        script.next.extend(late);
    });

    for number in 0..5 {
        post(&running, incoming("acme", number)).await;
    }
    tokio::time::sleep(Duration::from_secs(60)).await;

    assert_eq!(world.received_at("a.example").len(), 5);
    assert_eq!(world.received_at("told.example").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn deliveries_of_what_signalpost_says_raise_nothing_themselves() {
    let world = World::new();
    let running = world.start().await;
    register(&running, "acme", settings("a.example")).await;
    let told = Settings {
        event_types: types(&["delivery.*"]),
        ..settings("told.example")
    };
    register(&running, "acme", told).await;
    world.at("a.example", Reply::Status(500));
    world.at("told.example", Reply::Status(500));

    post(&running, incoming("acme", 1)).await;
    tokio::time::sleep(DAYS).await;

    let exhausted = of_status(&world, Status::Exhausted).await;
    assert_eq!(exhausted, 2, "the event's, and that of what was said of it");
}

#[tokio::test(start_paused = true)]
async fn what_was_disabled_drains_when_it_is_enabled_and_what_was_skipped_is_recovered() {
    let world = World::new();
    let running = world.start().await;
    let endpoint = register(&running, "acme", settings("a.example")).await;
    let since = world.clock.now();
    world.at("a.example", Reply::Status(500));
    post(&running, incoming("acme", 1)).await;
    world.until_received(1).await;
    let set = async |disabled: Option<Disabled>| {
        let change = |endpoint: &Endpoint, _| {
            Ok(Endpoint {
                disabled,
                ..endpoint.clone()
            })
        };
        let changed = running
            .worker
            .change_endpoint(&endpoint.endpoint_id, &asked(), change)
            .await;
        changed.unwrap();
    };
    set(Some(Disabled {
        reason: DisabledReason::Manual,
        at: since,
    }))
    .await;
    post(&running, incoming("acme", 2)).await;
    post(&running, incoming("nobody", 3)).await;
    tokio::time::sleep(Duration::from_secs(3_600)).await;
    assert_eq!(world.received().len(), 1, "what is due is held");

    world.at("a.example", Reply::Status(200));
    set(None).await;
    world.until_received(2).await;
    let request = RecoverRequest {
        since,
        until: None,
        status: None,
        dry_run: true,
    };
    let counted = running
        .worker
        .recover(&endpoint.endpoint_id, request.clone(), asked())
        .await;
    let counted = until_done(&world, counted.unwrap().job_id).await;
    assert_eq!((counted.progress.examined, counted.progress.done), (2, 1));
    assert_eq!(world.received().len(), 2, "nothing is sent to count");

    let request = RecoverRequest {
        dry_run: false,
        ..request
    };
    let job = running
        .worker
        .recover(&endpoint.endpoint_id, request, asked())
        .await
        .unwrap();
    until_done(&world, job.job_id).await;
    world.until_received(3).await;
    assert_eq!(numbers(&world, "a.example"), ["1", "1", "2"]);
}

#[tokio::test(start_paused = true)]
async fn a_recovery_sends_neither_what_was_canceled_nor_what_was_a_test_of_another() {
    let world = World::new();
    let running = world.start().await;
    let since = world.clock.now();
    let endpoint = register(&running, "acme", settings("a.example")).await;
    let other = register(&running, "acme", settings("b.example")).await;
    world.at("a.example", Reply::Status(500));
    let canceled = post(&running, incoming("acme", 1)).await;
    let of_a = canceled
        .deliveries
        .iter()
        .find(|delivery| delivery.endpoint_id == endpoint.endpoint_id.to_string());
    world
        .until("one failed", |world| {
            !world.received_at("a.example").is_empty()
        })
        .await;
    let id = DeliveryId::parse(&of_a.unwrap().delivery_id).unwrap();
    running.worker.cancel(id).await.unwrap();
    let test = Incoming {
        event_type: "signalpost.test".to_owned(),
        only: Some(other.endpoint_id.clone()),
        ..incoming("acme", 2)
    };
    post(&running, test).await;
    world.at("a.example", Reply::Status(200));
    tokio::time::sleep(Duration::from_secs(1)).await;

    let request = RecoverRequest {
        since,
        until: None,
        status: None,
        dry_run: false,
    };
    let job = running
        .worker
        .recover(&endpoint.endpoint_id, request, asked())
        .await;
    let done = until_done(&world, job.unwrap().job_id).await;

    assert_eq!((done.progress.examined, done.progress.done), (2, 0));
    assert_eq!(world.received_at("a.example").len(), 1);
}

#[tokio::test(start_paused = true)]
async fn what_a_caller_changed_of_the_built_in_endpoint_outlives_a_restart() {
    let world = World::new();
    let running = world.start().await;
    let id = EndpointId::pagerduty();
    let change = |endpoint: &Endpoint, _| {
        let mut changed = endpoint.clone();
        changed.settings.max_in_flight = 3;
        changed.settings.description = Some("the night shift".to_owned());
        Ok(changed)
    };
    running
        .worker
        .change_endpoint(&id, &asked(), change)
        .await
        .unwrap();
    let before = running.worker.endpoint(&id).unwrap();

    running.kill();
    let running = world.start().await;

    let after = running.worker.endpoint(&id).unwrap();
    assert_eq!(after.settings, before.settings);
    assert_eq!(after.settings.max_in_flight, 3);
}

async fn until_done(world: &World, id: crate::domain::ids::JobId) -> crate::storage::Job {
    let mut wait = Duration::from_millis(100);
    loop {
        let job = world.storage.job(id).await.unwrap().unwrap();
        if job.progress.status != JobStatus::Running {
            return job;
        }
        assert!(wait < DAYS, "{job:?}");
        tokio::time::sleep(wait).await;
        wait = wait.mul_f64(1.5);
    }
}

#[tokio::test(start_paused = true)]
async fn an_endpoint_that_is_added_later_is_sent_what_it_missed() {
    let world = World::new();
    let running = world.start().await;
    let since = world.clock.now();
    for number in 0..300 {
        post(&running, incoming("acme", number)).await;
    }
    let endpoint = register(&running, "acme", settings("a.example")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;

    let request = RecoverRequest {
        since,
        until: None,
        status: None,
        dry_run: false,
    };
    let job = running
        .worker
        .recover(&endpoint.endpoint_id, request, asked())
        .await
        .unwrap();
    let done = until_done(&world, job.job_id).await;
    world.until_received(300).await;

    assert_eq!((done.progress.examined, done.progress.done), (300, 300));
    let filter = Filter {
        limit: 1,
        ..Filter::default()
    };
    let page = world.storage.events(LANE, filter).await.unwrap();
    let event = EventId::parse(&page.rows[0].event_id.to_string()).unwrap();
    let whole = world.storage.event(event).await.unwrap().unwrap();
    assert_eq!(whole.deliveries.len(), 1, "and told with their events");
}

#[tokio::test(start_paused = true)]
async fn what_is_open_for_a_removed_endpoint_ends_and_says_why() {
    let world = World::new();
    let running = world.start().await;
    let endpoint = register(&running, "acme", settings("a.example")).await;
    world.at("a.example", Reply::Hang);
    for number in 0..300 {
        post(&running, incoming("acme", number)).await;
    }

    let job = running
        .worker
        .remove_endpoint(&endpoint.endpoint_id, asked())
        .await
        .unwrap();
    let done = until_done(&world, job.job_id).await;

    assert_eq!(done.progress.done, 300);
    let ended = deliveries(&world, Filter::default()).await;
    let reasons: Vec<_> = ended.iter().map(|one| one.life.state.reason()).collect();
    assert_eq!(reasons, [Some("endpoint_deleted"); 300]);
    let gone = running
        .worker
        .remove_endpoint(&endpoint.endpoint_id, asked())
        .await;
    assert!(matches!(gone, Err(CommandFault::Unknown)), "{gone:?}");
}

#[tokio::test(start_paused = true)]
async fn an_attempt_that_died_with_its_owner_is_on_record_though_its_endpoint_is_removed() {
    let world = World::new();
    let running = world.start().await;
    let endpoint = register(&running, "acme", settings("a.example")).await;
    world.at("a.example", Reply::Hang);
    post(&running, incoming("acme", 1)).await;
    world.until_received(1).await;

    let id = &endpoint.endpoint_id;
    let job = running.worker.remove_endpoint(id, asked()).await.unwrap();
    running.kill();
    let _running = world.start().await;
    until_done(&world, job.job_id).await;

    let delivery_id = deliveries(&world, Filter::default()).await[0].delivery_id;
    let found = world.storage.delivery(delivery_id).await.unwrap();
    let (summary, attempts) = found.unwrap();
    let reason = summary.life.state.reason();
    assert_eq!(
        (reason, summary.life.started),
        (Some("endpoint_deleted"), 1)
    );
    let errors: Vec<_> = attempts.iter().map(|it| it.error.as_deref()).collect();
    assert_eq!(errors, [Some("interrupted")]);
}

#[tokio::test(start_paused = true)]
async fn a_removed_client_leaves_nothing() {
    let world = World::new();
    let running = world.start().await;
    let before = register(&running, "acme", settings("a.example")).await;
    for number in 0..200 {
        post(&running, incoming("acme", number)).await;
    }

    let job = running.worker.remove_client("acme", asked()).await.unwrap();
    assert!(running.worker.endpoints_of("acme").is_empty());
    until_done(&world, job.job_id).await;

    assert_eq!(deliveries(&world, Filter::default()).await, []);
    let again = register(&running, "acme", settings("a.example")).await;
    assert_ne!(
        again.client, before.client,
        "and may come again, as another"
    );
}

#[tokio::test(start_paused = true)]
async fn a_canceled_delivery_is_not_sent_and_an_ended_one_cannot_be_canceled() {
    let world = World::new();
    let running = world.start().await;
    register(&running, "acme", settings("a.example")).await;
    world.script("a.example", |script| {
        script.next.push_back(Reply::Status(500))
    });
    let accepted = post(&running, incoming("acme", 1)).await;
    world.until_received(1).await;
    tokio::time::sleep(Duration::from_secs(1)).await;

    let id = DeliveryId::parse(&accepted.deliveries[0].delivery_id).unwrap();
    running.worker.cancel(id).await.unwrap();
    tokio::time::sleep(DAYS).await;

    assert_eq!(world.received().len(), 1);
    let again = running.worker.cancel(id).await;
    assert!(matches!(again, Err(CommandFault::Conflict(_))), "{again:?}");
    running.worker.retry(id, Trigger::Manual).await.unwrap();
    world.until_received(2).await;
    let (found, attempts) = world.storage.delivery(id).await.unwrap().unwrap();
    assert_eq!(found.life.generation, 1);
    let triggers: Vec<_> = attempts.iter().map(|attempt| attempt.trigger).collect();
    assert_eq!(triggers[..1], [Trigger::Schedule]);
}

#[tokio::test(start_paused = true)]
async fn the_same_key_is_one_event_and_another_body_is_refused() {
    let world = World::new();
    let running = world.start().await;
    register(&running, "acme", settings("a.example")).await;
    let keyed = Incoming {
        key: Some("k1".to_owned()),
        ..incoming("acme", 1)
    };

    let first = post(&running, keyed.clone()).await;
    let again = running.worker.post(keyed.clone()).await.unwrap();
    let Posted::Known(known) = again else {
        panic!("a second event");
    };
    assert_eq!(known.summary.event_id.to_string(), first.event_id);
    let other = Incoming {
        digest: [1; 16],
        ..keyed.clone()
    };
    let reused = running.worker.post(other).await;
    assert!(matches!(reused, Err(PostFault::KeyReused)), "{reused:?}");
    let of_another_client = Incoming {
        client_id: "other".to_owned(),
        ..keyed.clone()
    };
    post(&running, of_another_client).await;

    running.kill();
    tokio::time::sleep(Duration::from_secs(7 * 24 * 3_600 + 1)).await;
    let running = world.start().await;
    let later = post(&running, keyed).await;
    assert_ne!(later.event_id, first.event_id, "forgotten after a week");
}

#[tokio::test(start_paused = true)]
async fn too_much_for_one_endpoint_disables_it_and_refuses_nothing_else() {
    let mut world = World::new();
    world.bounds.open_of_endpoint = 20;
    let running = world.start().await;
    let endpoint = register(&running, "acme", settings("dead.example")).await;
    register(&running, "acme", settings("well.example")).await;
    world.at("dead.example", Reply::Hang);

    let told = Settings {
        event_types: types(&["endpoint.disabled"]),
        ..settings("told.example")
    };
    register(&running, "acme", told).await;

    for number in 0..19 {
        post(&running, incoming("acme", number)).await;
    }
    let at_once = (19..30).map(|number| incoming("acme", number)).collect();
    let posted = running.worker.post_together(at_once).await;
    assert!(posted.iter().all(Result::is_ok));
    for number in 30..40 {
        post(&running, incoming("acme", number)).await;
    }
    tokio::time::sleep(Duration::from_secs(1)).await;

    assert_eq!(world.received_at("told.example").len(), 1, "told once");
    let reason = running
        .worker
        .endpoint(&endpoint.endpoint_id)
        .unwrap()
        .disabled;
    assert_eq!(
        reason.map(|disabled| disabled.reason),
        Some(DisabledReason::Backlog)
    );
    assert_eq!(world.received_at("well.example").len(), 40);
    assert_eq!(of_status(&world, Status::Skipped).await, 20);
}

#[tokio::test(start_paused = true)]
async fn who_has_too_much_fresh_work_waits_and_nobody_else() {
    let mut world = World::new();
    world.bounds.fresh_of_client = 10;
    let running = world.start().await;
    let slow = Settings {
        max_in_flight: 1,
        ..settings("slow.example")
    };
    register(&running, "acme", slow).await;
    register(&running, "other", settings("well.example")).await;
    world.at("slow.example", Reply::Late(Duration::from_secs(10)));

    // One on its way, ten that wait for their turn.
    for number in 0..11 {
        post(&running, incoming("acme", number)).await;
    }
    let refused = running.worker.post(incoming("acme", 99)).await;
    assert!(
        matches!(refused, Err(PostFault::ClientOverloaded { .. })),
        "{refused:?}"
    );
    post(&running, incoming("other", 1)).await;

    world.until_received(3).await;
    post(&running, incoming("acme", 100)).await;
}

#[tokio::test(start_paused = true)]
async fn with_too_many_open_in_all_nothing_is_taken_in_from_anybody_until_some_have_ended() {
    let mut world = World::new();
    world.bounds.open = 60;
    let running = world.start().await;
    register(&running, "acme", settings("slow.example")).await;
    register(&running, "other", settings("well.example")).await;
    world.at("slow.example", Reply::Late(Duration::from_secs(10)));

    for number in 0..60 {
        post(&running, incoming("acme", number)).await;
    }
    for client in ["acme", "other"] {
        let full = running.worker.post(incoming(client, 99)).await;
        assert!(
            matches!(full, Err(PostFault::Overloaded { .. })),
            "{client}: {full:?}"
        );
    }

    until_none_is(&world, Status::Pending).await;
    post(&running, incoming("other", 100)).await;
}

#[tokio::test(start_paused = true)]
async fn a_rate_limit_is_kept() {
    let world = World::new();
    let running = world.start().await;
    let limited = Settings {
        rate_limit_per_s: Some(10),
        ..settings("a.example")
    };
    register(&running, "acme", limited).await;
    let before = world.clock.now();

    for number in 0..100 {
        post(&running, incoming("acme", number)).await;
    }
    world.until_received(100).await;

    let took = world.clock.now().duration_since(before);
    assert!(took >= SignedDuration::from_millis(9_500), "{took}");
    assert!(took <= SignedDuration::from_secs(12), "{took}");
}

#[tokio::test(start_paused = true)]
async fn a_job_goes_on_after_a_restart_and_ends_when_it_is_canceled() {
    let world = World::new();
    let running = world.start().await;
    let since = world.clock.now();
    for number in 0..1_000 {
        post(&running, incoming("acme", number)).await;
    }
    let endpoint = register(&running, "acme", settings("a.example")).await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    let id: &EndpointId = &endpoint.endpoint_id;
    let request = RecoverRequest {
        since,
        until: None,
        status: None,
        dry_run: false,
    };
    let job = running
        .worker
        .recover(id, request.clone(), asked())
        .await
        .unwrap();
    let canceled = running.worker.cancel_job(job.job_id).await.unwrap();
    assert_eq!(canceled.progress.status, JobStatus::Canceled);
    let sent = canceled.progress.done;
    tokio::time::sleep(Duration::from_secs(60)).await;
    assert!(
        world.received().len() as u64 <= sent + 128,
        "a slice at most"
    );

    let job = running.worker.recover(id, request, asked()).await.unwrap();
    tokio::time::sleep(Duration::from_millis(60)).await;
    running.kill();
    let _running = world.start().await;
    until_done(&world, job.job_id).await;
    world
        .until("all are sent", |world| {
            let mut sent = numbers(world, "a.example");
            sent.sort_unstable();
            sent.dedup();
            sent.len() == 1_000
        })
        .await;
}

#[tokio::test(start_paused = true)]
async fn a_connection_that_breaks_unanswered_is_tried_twice_in_an_attempt_and_no_more() {
    let world = World::new();
    let running = world.start().await;
    register(&running, "acme", settings("a.example")).await;
    world.at("a.example", Reply::KeptReset);

    post(&running, incoming("acme", 0)).await;
    until_none_is(&world, Status::Pending).await;
    until_none_is(&world, Status::Failed).await;

    let attempts: Vec<_> = world
        .received_at("a.example")
        .iter()
        .map(|received| received.attempt)
        .collect();
    assert_eq!(attempts, [1, 1, 2, 2, 3, 3]);
    let id = deliveries(&world, Filter::default()).await[0].delivery_id;
    let (_, attempts) = world.storage.delivery(id).await.unwrap().unwrap();
    assert_eq!(attempts.len(), 3);
    for attempt in attempts {
        assert!(attempt.resent);
        assert_eq!(attempt.error.as_deref(), Some("connection_reset"));
    }
}
