//! The target "100 of 1,000 endpoints are dead: at most 2 % of the sends are wasted", over ten minutes.
//!
//! How often a dead endpoint is tried depends on the time, not on what waits for it: at half the events the share is twice
//! as large. So 100 events a second, which take half as long to run, are the harder half of the target's 200.

use std::collections::HashMap;
use std::time::Duration;

use anyhow::Context as _;
use jiff::Timestamp;
use schema::names;
use schema::webhooks::EndpointView;
use serde_json::json;
use tokio::time::{Instant, sleep_until};

use super::destination::{Mood, QUICK};
use super::virtual_time;
use super::world::World;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use schema::webhooks::Accepted;

const CLIENTS: usize = 5;
const ENDPOINTS: usize = 1_000;
/// Every tenth is dead, so that every client has some.
const DEAD_OF: usize = 10;
const EVENTS_PER_S: u32 = 100;
const LENGTH_S: u32 = 600;

fn host(number: usize) -> String {
    format!("127.1.{}.{}", number / 200, number % 200)
}

fn client(number: usize) -> String {
    format!("client{}", number % CLIENTS)
}

fn is_dead(number: usize) -> bool {
    // Not the remainder by which clients are dealt.
    (number / CLIENTS).is_multiple_of(DEAD_OF)
}

async fn register(world: &World, number: usize) -> anyhow::Result<()> {
    let host = host(number);
    let body = json!({
        "url": format!("http://{host}/hook"),
        "event_types": [format!("to.{number}")],
    });
    let path = format!("/webhooks/clients/{}/endpoints", client(number));
    let answer = world.post(&path, Some(body.to_string())).await?;
    let endpoint: EndpointView = answer.told(201)?;
    world
        .net
        .set_key(&host, &endpoint.secret.context("its secret")?)?;
    if is_dead(number) {
        world.net.set_mood(&host, Mood::Dead);
    }
    Ok(())
}

/// When each event for a living endpoint was posted, by its id.
async fn post_all(world: &World) -> anyhow::Result<HashMap<String, Timestamp>> {
    let mut rng = StdRng::seed_from_u64(1);
    let mut posted = HashMap::new();
    let (began, between) = (Instant::now(), Duration::from_secs(1) / EVENTS_PER_S);
    for event in 0..LENGTH_S * EVENTS_PER_S {
        sleep_until(began + between * event).await;
        let number = rng.random_range(0..ENDPOINTS);
        let text = format!(
            r#"{{"client_id":"{}","event_type":"to.{number}","payload":{{"n":{event}}}}}"#,
            client(number)
        );
        let at = world.clock.now();
        let answer = world.post(names::WEBHOOK_EVENTS, Some(text)).await?;
        let accepted: Accepted = answer.told(202)?;
        anyhow::ensure!(accepted.deliveries.len() == 1, "S1: {accepted:?}");
        if !is_dead(number) {
            posted.insert(accepted.event_id, at);
        }
    }
    Ok(posted)
}

#[test]
fn what_is_sent_to_the_dead_is_at_most_a_fiftieth_and_nobody_waits_for_them() {
    let real = std::time::Instant::now();
    virtual_time(async {
        let world = World::new(1).await.expect("a world");
        for number in 0..ENDPOINTS {
            register(&world, number).await.expect("an endpoint");
        }
        let posted = post_all(&world).await.expect("events");
        world.net.look_for_wrong().expect("signed as they must be");

        let hosts = (0..ENDPOINTS).map(|number| (is_dead(number), world.net.asked(&host(number))));
        let (dead, living): (Vec<_>, Vec<_>) = hosts.partition(|(dead, _)| *dead);
        let sum = |hosts: Vec<(bool, u64)>| hosts.into_iter().map(|(_, asked)| asked).sum::<u64>();
        let (dead, living) = (sum(dead), sum(living));
        let share = 100.0 * dead as f64 / (dead + living) as f64;

        let receipts = world.net.receipts();
        let waits = receipts.iter().map(|receipt| {
            let posted = posted.get(&receipt.webhook_id).expect("it was posted");
            QUICK + Duration::try_from(receipt.at.duration_since(*posted)).unwrap_or_default()
        });
        let mut waits: Vec<_> = waits.collect();
        waits.sort_unstable();
        let p99 = waits[waits.len() * 99 / 100];
        println!(
            "{dead} of {} sends went to dead endpoints: {share:.2} %; the others' answers came within {p99:?} (p99), {:?} \
             (all); {:.0?}",
            dead + living,
            waits.last(),
            real.elapsed()
        );
        assert!(share <= 2.0, "{share} %");
        assert_eq!(p99, QUICK, "what the answer itself takes");
        assert_eq!(receipts.len(), posted.len(), "each once");
    });
}
