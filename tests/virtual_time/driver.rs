//! What callers, destinations, operators and misfortune do, by chance, from a seed.

use std::collections::VecDeque;
use std::time::Duration;

use anyhow::{Context as _, ensure};
use http::Method;
use rand::rngs::StdRng;
use rand::{RngExt as _, SeedableRng as _};
use schema::names;
use schema::webhooks::{Accepted, BatchAnswer};
use serde_json::Value;
use tokio::task::yield_now;
use tokio::time::sleep;

use super::book::{Asked, Book, Endpoint, Event};
use super::destination::Mood;
use super::network::Weather;
use super::world::{PAGERDUTY, World, ask};

/// Lines of a timeline that are shown.
const TIMELINE: usize = 60;
pub(crate) const CLIENTS: [&str; 3] = ["acme", "globex", "initech"];
const TYPES: [&str; 4] = [
    "order.created",
    "order.paid",
    "order.item.lost",
    "user.gone",
];

pub(crate) struct Driver {
    pub(crate) world: World,
    pub(crate) book: Book,
    pub(crate) rng: StdRng,
    pub(crate) timeline: VecDeque<String>,
    posted: u32,
}

impl Driver {
    pub(crate) async fn new(seed: u64) -> anyhow::Result<Self> {
        let mut driver = Self {
            world: World::new(seed).await?,
            book: Book::default(),
            rng: StdRng::seed_from_u64(seed),
            timeline: VecDeque::new(),
            posted: 0,
        };
        driver.book.endpoints.push(Endpoint {
            id: PAGERDUTY.to_owned(),
            client: "oncall".to_owned(),
            host: PAGERDUTY.to_owned(),
            strict: false,
            types: Some(Vec::new()),
            deleted: false,
        });
        driver.rotate(0).await?;
        for client in CLIENTS {
            for _ in 0..driver.rng.random_range(1..=3) {
                driver.register(client).await?;
            }
        }
        Ok(driver)
    }

    pub(crate) fn note(&mut self, what: impl Into<String>) {
        if self.timeline.len() == TIMELINE {
            self.timeline.pop_front();
        }
        let at = self.world.clock.now();
        self.timeline.push_back(format!("{at:.3} {}", what.into()));
    }

    /// One thing that happens.
    pub(crate) async fn step(&mut self) -> anyhow::Result<()> {
        self.world.net.look_for_wrong()?;
        ensure!(!self.world.has_stopped_itself(), "L1: delivery has stopped");
        match self.rng.random_range(0..100) {
            0..18 => self.pass_time().await,
            18..32 => self.change_mood(),
            32..36 => self.change_weather(),
            36..43 => self.page().await,
            43..44 => self.lose_store().await,
            _ if !self.world.is_up() => self.come_back().await,
            44..66 => self.post().await,
            66..71 => self.post_batch().await,
            71..76 => self.repeat().await,
            76..80 => self.command("retry").await,
            80..83 => self.command("cancel").await,
            83..86 => self.switch("disable").await,
            86..90 => self.switch("enable").await,
            90..92 => self.recover().await,
            92..93 => self.delete().await,
            93..94 => self.register_another().await,
            94..95 => self.rotate_one().await,
            95..96 => self.test().await,
            _ => self.end_process().await,
        }
    }

    pub(crate) async fn pass_time(&mut self) -> anyhow::Result<()> {
        let most = [40, 1_000, 20_000, 300_000, 3_600_000][self.rng.random_range(0..5)];
        let millis = self.rng.random_range(1..most);
        sleep(Duration::from_millis(millis)).await;
        Ok(())
    }

    fn change_mood(&mut self) -> anyhow::Result<()> {
        let chosen = self.rng.random_range(0..self.book.endpoints.len());
        let host = self.book.endpoints[chosen].host.clone();
        let mood = match self.rng.random_range(0..3) {
            0 => Mood::Well,
            _ => Mood::ALL[self.rng.random_range(0..Mood::ALL.len())],
        };
        self.note(format!("{host} is {mood:?}"));
        self.world.net.set_mood(&host, mood);
        Ok(())
    }

    fn change_weather(&mut self) -> anyhow::Result<()> {
        let weather = match self.rng.random_range(0..5) {
            0 => Weather::Away,
            1 => Weather::Failing,
            2 => Weather::Mute,
            _ => Weather::Fair,
        };
        self.note(format!("event-store is {weather:?}"));
        self.world.net.set_weather(weather);
        Ok(())
    }

    /// The hub stores an event that pages, and perhaps one before it again.
    async fn page(&mut self) -> anyhow::Result<()> {
        let again = self.rng.random_bool(0.3) && !self.book.pages.is_empty();
        let id = if again {
            let chosen = self.rng.random_range(0..self.book.pages.len());
            self.book.pages[chosen].clone()
        } else {
            let id = format!("evt_page{}", self.book.pages.len());
            self.book.pages.push(id.clone());
            id
        };
        self.note(format!("the hub has {id}"));
        self.store_pages(std::slice::from_ref(&id)).await
    }

    async fn store_pages(&self, ids: &[String]) -> anyhow::Result<()> {
        let items = ids.iter().map(|id| {
            format!(
                r#"{{"correlation_id":"c-{id}","deadline_ms":5000,"event":{{"event_id":"{id}","source":"stripe",
                "kind":"payment","severity":"critical","service":"stripe","summary":"s","description":null,
                "started_at":"2024-01-15T10:00:00Z","resolved_at":null,"raw":{{"z":1.0,  "a":2}}}}}}"#
            )
        });
        let items: Vec<_> = items.collect();
        let body = format!(r#"{{"items":[{}]}}"#, items.join(","));
        let path = names::INTERNAL_EVENTS;
        let answer = self.world.ask_store(Method::POST, path, Some(body)).await?;
        let receipts: Value = answer.told(200)?;
        for receipt in receipts["results"].as_array().context("results")? {
            ensure!(receipt["routed"] == true, "S1: {receipt}");
        }
        Ok(())
    }

    /// The hub's store starts empty, and its sources say everything again.
    async fn lose_store(&mut self) -> anyhow::Result<()> {
        self.note("event-store starts empty");
        self.book.store_was_lost = true;
        self.world.new_store().await?;
        self.store_pages(&self.book.pages).await
    }

    pub(crate) async fn come_back(&mut self) -> anyhow::Result<()> {
        self.note("delivery starts");
        self.world.start().await
    }

    /// The process ends, in one of four ways.
    async fn end_process(&mut self) -> anyhow::Result<()> {
        match self.rng.random_range(0..4) {
            0 => {
                self.note("delivery is stopped");
                self.world.stop().await
            }
            1 => {
                self.note("delivery is replaced while it is paused");
                self.world.replace();
                self.come_back().await
            }
            2 => self.die_while_posting().await,
            _ => {
                self.note("delivery is killed");
                self.world.kill();
                Ok(())
            }
        }
    }

    /// The caller cannot know whether it was accepted, and repeats it by its key.
    async fn die_while_posting(&mut self) -> anyhow::Result<()> {
        let asked = Asked {
            key: Some(format!("unsure{}", self.posted)),
            ..self.event()
        };
        let (router, text) = (self.world.router()?, asked.text());
        let call = tokio::spawn(async move {
            ask(
                &router,
                Method::POST,
                names::WEBHOOK_EVENTS,
                None,
                Some(text),
            )
            .await
        });
        for _ in 0..self.rng.random_range(0..6) {
            yield_now().await;
        }
        call.abort();
        self.note("delivery is killed while an event is posted");
        self.world.kill();
        self.come_back().await?;
        let answer = self
            .world
            .post(names::WEBHOOK_EVENTS, Some(asked.text()))
            .await?;
        let status = answer.status;
        ensure!(
            matches!(status, 200 | 202),
            "S2: {status} for a repeated event"
        );
        let accepted: Accepted = answer.told(status)?;
        self.keep(asked, accepted);
        Ok(())
    }

    fn event(&mut self) -> Asked {
        self.posted += 1;
        let n = self.posted;
        let ordering_key = self.rng.random_bool(0.5);
        Asked {
            client: CLIENTS[self.rng.random_range(0..CLIENTS.len())].to_owned(),
            event_type: TYPES[self.rng.random_range(0..TYPES.len())].to_owned(),
            payload: Some(format!(r#"{{"z": 1.0,  "n":{n}, "a":"ä"}}"#)),
            key: self.rng.random_bool(0.6).then(|| format!("key{n}")),
            ordering_key: ordering_key.then(|| format!("line{}", self.rng.random_range(0..2))),
        }
    }

    async fn post(&mut self) -> anyhow::Result<()> {
        for _ in 0..self.rng.random_range(1..=3) {
            let asked = self.event();
            let answer = self
                .world
                .post(names::WEBHOOK_EVENTS, Some(asked.text()))
                .await?;
            self.take(asked, answer.told(202)?)?;
        }
        Ok(())
    }

    async fn post_batch(&mut self) -> anyhow::Result<()> {
        let events: Vec<_> = (0..self.rng.random_range(2..=12))
            .map(|_| self.event())
            .collect();
        let texts: Vec<_> = events.iter().map(Asked::text).collect();
        let body = format!(r#"{{"events":[{},{{"nonsense":1}}]}}"#, texts.join(","));
        let answer = self
            .world
            .post(names::WEBHOOK_EVENTS_BATCH, Some(body))
            .await?;
        let mut results = answer.told::<BatchAnswer>(200)?.results;
        let nonsense = results.pop().context("a result each")?;
        ensure!(nonsense.status == 400, "R10: {nonsense:?}");
        ensure!(results.len() == events.len(), "a result each");
        for (asked, result) in events.into_iter().zip(results) {
            ensure!(result.status == 202, "S1: {result:?}");
            self.take(asked, result.event.context("an event")?)?;
        }
        Ok(())
    }

    /// S1: the answer names a delivery for each endpoint that wants the event, and for no other.
    fn take(&mut self, asked: Asked, accepted: Accepted) -> anyhow::Result<()> {
        ensure!(!accepted.duplicate, "S2: {accepted:?}");
        let wanting = self.book.living().filter(|endpoint| {
            endpoint.client == asked.client && endpoint.wants(&asked.event_type)
        });
        let mut wanting: Vec<_> = wanting.map(|endpoint| endpoint.id.as_str()).collect();
        let named = accepted.deliveries.iter();
        let mut named: Vec<_> = named
            .map(|delivery| delivery.endpoint_id.as_str())
            .collect();
        wanting.sort_unstable();
        named.sort_unstable();
        ensure!(named == wanting, "S1: {accepted:?} and not for {wanting:?}");
        self.keep(asked, accepted);
        Ok(())
    }

    pub(crate) fn keep(&mut self, asked: Asked, accepted: Accepted) {
        self.note(format!(
            "{} {} for {} to {}",
            asked.event_type,
            accepted.event_id,
            asked.client,
            accepted.deliveries.len()
        ));
        let deliveries = accepted.deliveries.into_iter();
        self.book.events.push(Event {
            id: accepted.event_id,
            asked,
            deliveries: deliveries
                .map(|delivery| (delivery.delivery_id, delivery.endpoint_id))
                .collect(),
        });
    }

    /// S2: the same key has the same answer, and another body is refused.
    async fn repeat(&mut self) -> anyhow::Result<()> {
        let now = self.world.clock.now();
        let Some(event) = self.one_of_the_last(|event| event.asked.key.is_some()) else {
            return Ok(());
        };
        let path = names::WEBHOOK_EVENTS;
        let answer = self.world.post(path, Some(event.asked.text())).await?;
        let accepted: Accepted = answer.told(200)?;
        ensure!(
            accepted.duplicate && accepted.event_id == event.id,
            "S2: {} was answered as {accepted:?} at {now}",
            event.id
        );
        let named = |(delivery, _): &(String, String)| {
            accepted
                .deliveries
                .iter()
                .any(|it| it.delivery_id == *delivery)
        };
        ensure!(event.deliveries.iter().all(named), "S2: {accepted:?}");
        let other = Asked {
            payload: Some(r#"{"another": true}"#.to_owned()),
            ..event.asked
        };
        let answer = self.world.post(path, Some(other.text())).await?;
        answer.refused(409, "idempotency_key_reused").context("S2")
    }

    /// One of the last forty that are such; older keys may be forgotten.
    fn one_of_the_last(&mut self, such: impl Fn(&Event) -> bool) -> Option<Event> {
        let events: Vec<_> = self
            .book
            .events
            .iter()
            .rev()
            .filter(|it| such(it))
            .take(40)
            .collect();
        let chosen = self.rng.random_range(0..events.len().max(1));
        events.get(chosen).map(|event| (*event).clone())
    }

    async fn command(&mut self, what: &str) -> anyhow::Result<()> {
        let Some(event) = self.one_of_the_last(|event| !event.deliveries.is_empty()) else {
            return Ok(());
        };
        let (delivery, _) = &event.deliveries[self.rng.random_range(0..event.deliveries.len())];
        let path = format!("/webhooks/deliveries/{delivery}/{what}");
        let answer = self.world.post(&path, None).await?;
        let status = answer.status;
        self.note(format!("{what} {delivery}: {status}"));
        match status {
            202 => Ok(()),
            // It has ended, or its endpoint is gone.
            _ => answer.refused(409, "conflict").context("S3"),
        }
    }
}
