//! An endpoint of which a share of all answers is a failure, twenty events a second: a minute after an outage, or a kill of
//! delivery, it is served as if there had been none.

use std::time::Duration;

use anyhow::{Context as _, ensure};
use jiff::{SignedDuration, Timestamp};
use schema::names;
use schema::webhooks::{Accepted, EndpointView};
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::destination::Mood;
use super::virtual_time;
use super::world::World;

const HOST: &str = "127.1.2.3";
const POSTS_PER_S: u32 = 20;
const EVENT_AT_S: u32 = 60;
const OUTAGE_S: u32 = 15;
const PATIENCE_S: u32 = 60;
const LOOKED_AT_S: u32 = 60;
/// Something that is due waits for the breaker no longer.
const HELD_AT_MOST: Duration = Duration::from_secs(5);

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Event {
    None,
    Outage,
    Kill,
}

/// What was seen from a minute after the event on.
#[derive(Debug)]
struct Seen {
    attempts_per_s: f64,
    /// For how long on end the breaker was not closed.
    held: Duration,
}

async fn register(world: &World) -> anyhow::Result<String> {
    let waits: Vec<u64> = std::iter::once(0).chain([2; 12]).collect();
    let body = json!({
        "url": format!("http://{HOST}/hook"),
        "retry": {"schedule_s": waits},
    });
    let path = "/webhooks/clients/acme/endpoints";
    let answer = world.post(path, Some(body.to_string())).await?;
    let endpoint: EndpointView = answer.told(201)?;
    world
        .net
        .set_key(HOST, &endpoint.secret.context("its secret")?)?;
    Ok(endpoint.endpoint_id)
}

async fn post(world: &World, number: u32) -> anyhow::Result<()> {
    let text =
        format!(r#"{{"client_id":"acme","event_type":"order.paid","payload":{{"n":{number}}}}}"#);
    let answer = world.post(names::WEBHOOK_EVENTS, Some(text)).await?;
    let accepted: Accepted = answer.told(202)?;
    ensure!(accepted.deliveries.len() == 1, "S1: {accepted:?}");
    Ok(())
}

async fn happen(world: &mut World, event: Event, mood: Mood, second: u32) -> anyhow::Result<()> {
    match event {
        Event::Outage if second == EVENT_AT_S => world.net.set_mood(HOST, Mood::Dead),
        Event::Outage if second == EVENT_AT_S + OUTAGE_S => world.net.set_mood(HOST, mood),
        Event::Kill if second == EVENT_AT_S => {
            world.kill();
            world.start().await?;
        }
        Event::None | Event::Outage | Event::Kill => {}
    }
    Ok(())
}

async fn run(percent: u8, event: Event) -> anyhow::Result<Seen> {
    let mut world = World::new(u64::from(percent)).await?;
    let endpoint = register(&world).await?;
    let mood = Mood::Partly { percent };
    world.net.set_mood(HOST, mood);
    let from_s = EVENT_AT_S + OUTAGE_S + PATIENCE_S;
    let (began, from) = (Instant::now(), after(world.clock.now(), from_s));
    let (mut closed_at, mut held) = (began, Duration::ZERO);
    for number in 0..(from_s + LOOKED_AT_S) * POSTS_PER_S {
        sleep_until(began + Duration::from_secs(1) / POSTS_PER_S * number).await;
        if number.is_multiple_of(POSTS_PER_S) {
            happen(&mut world, event, mood, number / POSTS_PER_S).await?;
        }
        post(&world, number).await?;
        if number < from_s * POSTS_PER_S {
            closed_at = Instant::now();
        } else if number.is_multiple_of(POSTS_PER_S / 4) {
            let path = format!("/webhooks/endpoints/{endpoint}");
            let now: EndpointView = world.get(&path, None).await?;
            if now.breaker == "closed" {
                closed_at = Instant::now();
            }
            held = held.max(closed_at.elapsed());
        }
    }
    world.net.look_for_wrong()?;
    let receipts = world.net.receipts();
    let attempts = receipts.iter().filter(|receipt| receipt.at >= from).count();
    Ok(Seen {
        attempts_per_s: attempts as f64 / f64::from(LOOKED_AT_S),
        held,
    })
}

fn after(at: Timestamp, seconds: u32) -> Timestamp {
    at + SignedDuration::from_secs(seconds.into())
}

#[test]
fn a_minute_after_an_outage_or_a_kill_an_endpoint_that_fails_in_part_is_served_as_without() {
    for percent in [0, 20, 65] {
        let run = |event| virtual_time(run(percent, event)).expect("it runs");
        let without = run(Event::None);
        for event in [Event::Outage, Event::Kill] {
            let seen = run(event);
            println!("{percent} %, {event:?}: {seen:?}, without: {without:?}");
            assert!(seen.held <= HELD_AT_MOST, "{percent} % {event:?}: {seen:?}");
            let part = seen.attempts_per_s / without.attempts_per_s;
            assert!(part >= 0.9, "{percent} % {event:?}: {seen:?}, {without:?}");
        }
    }
}
