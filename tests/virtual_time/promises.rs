//! What must hold, asked of the public API and of those who received; named as in `simulation`.

use std::collections::{HashMap, HashSet};

use anyhow::{Context as _, ensure};
use delivery::domain::rollup::{count, roll_up};
use http::Method;
use rand::RngExt as _;
use schema::delivery::Status;
use schema::webhooks::{
    DeliveriesPage, DeliveryView, Trigger, WebhookEventView, WebhookEventsPage,
};

use super::book::Seen;
use super::driver::Driver;

/// What Signalpost says of itself.
const OPERATIONAL: [&str; 2] = ["delivery.exhausted", "endpoint.disabled"];

/// Everything that the lists tell, newest first.
pub(crate) struct Told {
    pub(crate) events: Vec<WebhookEventView>,
    pub(crate) deliveries: Vec<DeliveryView>,
}

impl Driver {
    pub(crate) async fn read(&self, client: Option<&str>) -> anyhow::Result<Told> {
        let (mut events, mut deliveries) = (Vec::new(), Vec::new());
        let mut path = "/webhooks/events?limit=500".to_owned();
        loop {
            let page: WebhookEventsPage = self.world.get(&path, client).await?;
            events.extend(page.events);
            let Some(cursor) = page.next_cursor else {
                break;
            };
            path = format!("/webhooks/events?limit=500&cursor={cursor}");
        }
        path = "/webhooks/deliveries?limit=500".to_owned();
        loop {
            let page: DeliveriesPage = self.world.get(&path, client).await?;
            deliveries.extend(page.deliveries);
            let Some(cursor) = page.next_cursor else {
                break;
            };
            path = format!("/webhooks/deliveries?limit=500&cursor={cursor}");
        }
        Ok(Told { events, deliveries })
    }

    /// What holds at any time.
    pub(crate) async fn check(&mut self) -> anyhow::Result<()> {
        self.world.net.look_for_wrong()?;
        let told = self.read(None).await?;
        self.check_accepted(&told)?;
        self.check_terminal(&told)?;
        check_roll_ups(&told)?;
        self.check_clients(&told).await?;
        let receipts = self.world.net.receipts();
        let received = self.by_delivery(&receipts);
        let sample = self.rng.random_range(0..4);
        for delivery in told.deliveries.iter().skip(sample).step_by(4) {
            self.check_attempts(delivery, &received).await?;
        }
        Ok(())
    }

    /// What holds at any time, of everything, and the order in which strictly ordered endpoints were asked.
    pub(crate) async fn check_everything(&mut self) -> anyhow::Result<()> {
        self.check().await?;
        let told = self.read(None).await?;
        for event in &told.events {
            self.check_event(event).await?;
        }
        let receipts = self.world.net.receipts();
        let received = self.by_delivery(&receipts);
        let mut scheduled = HashSet::new();
        for delivery in &told.deliveries {
            let attempts = self.check_attempts(delivery, &received).await?;
            let first = attempts.first().map(|attempt| attempt.trigger);
            if delivery.generation == 0 && first.is_none_or(|it| it == Trigger::Schedule) {
                scheduled.insert((delivery.endpoint_id.as_str(), delivery.event_id.as_str()));
            }
        }
        self.check_order(&told, &receipts, &scheduled)
    }

    /// S1: what was answered 202 is there, with the deliveries that were named, in the order of acceptance.
    fn check_accepted(&self, told: &Told) -> anyhow::Result<()> {
        let events: HashMap<_, _> = told
            .events
            .iter()
            .map(|event| (&*event.event_id, event))
            .collect();
        let deliveries = told.deliveries.iter();
        let deliveries: HashMap<_, _> = deliveries.map(|it| (&*it.delivery_id, it)).collect();
        ensure!(
            events.len() == told.events.len(),
            "S1: an event is listed twice"
        );
        ensure!(
            deliveries.len() == told.deliveries.len(),
            "S1: a delivery is listed twice"
        );
        for event in &self.book.events {
            let found = events
                .get(&*event.id)
                .with_context(|| format!("S1: no {}", event.id))?;
            let asked = &event.asked;
            ensure!(
                found.client_id == asked.client
                    && found.event_type == asked.event_type
                    && found.idempotency_key == asked.key
                    && found.ordering_key == asked.ordering_key,
                "S1: {found:?}"
            );
            for (delivery, endpoint) in &event.deliveries {
                let found = deliveries
                    .get(&**delivery)
                    .with_context(|| format!("S1: no {delivery}"))?;
                ensure!(
                    found.event_id == event.id && found.endpoint_id == *endpoint,
                    "S1: {found:?}"
                );
            }
        }
        for delivery in &told.deliveries {
            let event = events.get(&*delivery.event_id);
            ensure!(
                event.is_some_and(|it| it.client_id == delivery.client_id),
                "S13: {delivery:?}"
            );
            let own = self.book.endpoint(&delivery.endpoint_id);
            ensure!(
                own.is_some_and(|it| it.client == delivery.client_id),
                "S14: {delivery:?}"
            );
        }
        let known: HashSet<_> = self.book.events.iter().map(|event| &*event.id).collect();
        let mut listed = told
            .events
            .iter()
            .rev()
            .filter(|event| known.contains(&*event.event_id));
        let in_order = self.book.events.iter().all(|event| {
            listed
                .next()
                .is_some_and(|listed| listed.event_id == event.id)
        });
        ensure!(
            in_order,
            "S1: events are not listed in the order of their acceptance"
        );
        let foreign = told.events.iter().find(|event| {
            !known.contains(&*event.event_id)
                && event.source_event_id.is_none()
                && !OPERATIONAL.contains(&&*event.event_type)
        });
        ensure!(foreign.is_none(), "S2: nobody posted {foreign:?}");
        let pages: Vec<_> = told
            .events
            .iter()
            .filter_map(|event| event.source_event_id.as_ref())
            .collect();
        let once: HashSet<_> = pages.iter().collect();
        ensure!(
            once.len() == pages.len(),
            "S2: an event of the hub was taken twice"
        );
        Ok(())
    }

    /// S3: terminal is final, save that a retry begins a new generation; nothing counted is uncounted.
    fn check_terminal(&mut self, told: &Told) -> anyhow::Result<()> {
        for delivery in &told.deliveries {
            let now = Seen {
                generation: delivery.generation,
                status: delivery.status,
                reason: delivery.reason.clone(),
                started: delivery.attempts_started,
            };
            // What was open for a deleted endpoint is told as ended before its row is.
            let is_ended = delivery.ended_at.is_some()
                || delivery.reason.as_deref() == Some("endpoint_deleted");
            ensure!(is_terminal(delivery.status) == is_ended, "S3: {delivery:?}");
            ensure!(
                (delivery.status == Status::Exhausted) <= delivery.reason.is_some(),
                "S5: {delivery:?}"
            );
            if let Some(before) = self.book.seen.get(&delivery.delivery_id) {
                let grows = before.generation <= now.generation && before.started <= now.started;
                let stays = before.generation < now.generation
                    || !is_terminal(before.status)
                    || *before == now;
                ensure!(grows && stays, "S3: {before:?} became {delivery:?}");
            }
            self.book.seen.insert(delivery.delivery_id.clone(), now);
        }
        let there: HashSet<_> = told.deliveries.iter().map(|it| &it.delivery_id).collect();
        let lost = self.book.seen.keys().find(|id| !there.contains(id));
        ensure!(lost.is_none(), "S13: {lost:?} is not there any more");
        Ok(())
    }

    /// S14: a client is shown its own rows, all of them and nobody else's.
    async fn check_clients(&self, told: &Told) -> anyhow::Result<()> {
        let mut clients: Vec<_> = self.book.endpoints.iter().map(|it| &*it.client).collect();
        clients.sort_unstable();
        clients.dedup();
        for client in clients {
            let own = self.read(Some(client)).await?;
            let events = told.events.iter().filter(|event| event.client_id == client);
            let deliveries = told.deliveries.iter().filter(|it| it.client_id == client);
            ensure!(
                own.events
                    .iter()
                    .map(|it| &it.event_id)
                    .eq(events.map(|it| &it.event_id)),
                "S14: {client} is shown other events"
            );
            ensure!(
                own.deliveries
                    .iter()
                    .map(|it| &it.delivery_id)
                    .eq(deliveries.map(|it| &it.delivery_id)),
                "S14: {client} is shown other deliveries"
            );
            let foreign = told.deliveries.iter().find(|it| it.client_id != client);
            let paths = foreign.into_iter().flat_map(|it| {
                [
                    (
                        Method::GET,
                        format!("/webhooks/deliveries/{}", it.delivery_id),
                    ),
                    (
                        Method::POST,
                        format!("/webhooks/deliveries/{}/retry", it.delivery_id),
                    ),
                    (Method::GET, format!("/webhooks/events/{}", it.event_id)),
                    (
                        Method::GET,
                        format!("/webhooks/endpoints/{}", it.endpoint_id),
                    ),
                    (
                        Method::POST,
                        format!("/webhooks/endpoints/{}/disable", it.endpoint_id),
                    ),
                    (
                        Method::GET,
                        format!("/webhooks/clients/{}/endpoints", it.client_id),
                    ),
                ]
            });
            for (method, path) in paths {
                let answer = self.world.call(method, &path, Some(client), None).await?;
                answer
                    .refused(404, "not_found")
                    .with_context(|| format!("S14: {client} at {path}"))?;
            }
        }
        Ok(())
    }

    /// R9: the payload is the bytes that came, here and at every destination.
    async fn check_event(&self, listed: &WebhookEventView) -> anyhow::Result<()> {
        let path = format!("/webhooks/events/{}", listed.event_id);
        let event: WebhookEventView = self.world.get(&path, None).await?;
        let statuses = event
            .deliveries
            .iter()
            .flatten()
            .map(|delivery| delivery.status);
        let counts = count(statuses);
        ensure!(
            counts == event.counts && roll_up(counts) == event.status,
            "roll-up: {event:?}"
        );
        ensure!(
            counts == listed.counts && event.status == listed.status,
            "roll-up: {event:?}"
        );
        let payload = event
            .payload
            .as_ref()
            .map(|payload| payload.get())
            .context("R9: a payload")?;
        if let Some(sent) = self.world.net.body(&event.event_id) {
            ensure!(
                sent == payload,
                "R9: {} was sent as {sent:?}, and is {payload}",
                event.event_id
            );
        }
        let posted = self
            .book
            .events
            .iter()
            .find(|posted| posted.id == event.event_id);
        let posted = posted.and_then(|posted| posted.asked.payload.as_deref());
        ensure!(
            posted.is_none_or(|posted| posted == payload),
            "R9: {posted:?} became {payload}"
        );
        if let Some(page) = &event.source_event_id {
            let raw = r#""raw":{"z":1.0,  "a":2}"#;
            ensure!(
                payload.contains(page) && payload.contains(raw),
                "R9: {payload}"
            );
        }
        Ok(())
    }
}

/// An event's status and counts are those of its deliveries.
fn check_roll_ups(told: &Told) -> anyhow::Result<()> {
    let mut statuses: HashMap<&str, Vec<Status>> = HashMap::new();
    for delivery in &told.deliveries {
        statuses
            .entry(&delivery.event_id)
            .or_default()
            .push(delivery.status);
    }
    for event in &told.events {
        let of_event = statuses.remove(&*event.event_id).unwrap_or_default();
        let counts = count(of_event);
        ensure!(counts == event.counts, "roll-up: {event:?} and {counts:?}");
        ensure!(roll_up(counts) == event.status, "roll-up: {event:?}");
    }
    Ok(())
}

pub(crate) fn is_terminal(status: Status) -> bool {
    matches!(
        status,
        Status::Delivered | Status::Exhausted | Status::Skipped
    )
}
