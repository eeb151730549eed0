//! Takes an event in: one commit with a delivery for each endpoint that wants it, then sends what has a slot.

use std::sync::Arc;

use bytes::Bytes;
use futures_util::future::join_all;
use jiff::{SignedDuration, Timestamp};
use schema::CorrelationId;
use schema::webhooks::{self, AcceptedDelivery, DisabledReason};
use sha2::{Digest as _, Sha256};

use super::Worker;
use super::registry::Live;
use super::slot::{self, Slot};
use crate::domain::delivery::Carried;
use crate::domain::ids::{DeliveryId, EndpointId, EventId, Position};
use crate::domain::queues::{Class, Item, Kind, Place};
use crate::domain::rollup;
use crate::domain::transition::{Input, Life, SkipReason, State, transition};
use crate::error::Error;
use crate::storage::{
    Accept, Accepted, IdempotencyKey, KnownAs, LANE, NewDelivery, NewEvent, Placed, Seen,
    WholeEvent,
};

/// How long the same key gets the same answer.
const KEY_LIFE: SignedDuration = SignedDuration::from_hours(7 * 24);
/// Its endpoints cannot change so often while one event is taken in.
pub(super) const PLANS_MAX: usize = 16;
const RETRY_AFTER_S: u64 = 2;

/// An event that somebody posted, checked.
#[derive(Clone, Debug)]
pub struct Incoming {
    pub client_id: String,
    pub event_type: String,
    pub payload: Bytes,
    pub key: Option<String>,
    /// Of everything that makes two events the same.
    pub digest: [u8; 16],
    pub ordering_key: Option<String>,
    pub occurred_at: Option<Timestamp>,
    pub correlation_id: CorrelationId,
    /// For this endpoint alone, whatever it wants: a test.
    pub only: Option<EndpointId>,
}

#[derive(Debug)]
pub enum Posted {
    New(webhooks::Accepted),
    /// The key is known: how its event stands.
    Known(Box<WholeEvent>),
}

/// Why an event was not taken in.
#[derive(Debug)]
pub enum PostFault {
    KeyReused,
    /// The client has more waiting than is its share.
    ClientOverloaded {
        retry_after_s: u64,
    },
    /// More is open than is kept.
    Overloaded {
        retry_after_s: u64,
    },
    UnknownEndpoint,
    Unavailable(Error),
}

/// A delivery of an event, and the slot of its first attempt where one was free.
pub(super) struct Planned {
    pub(super) live: Arc<Live>,
    pub(super) slot: Option<Slot>,
    /// Where it will wait, in a strict line.
    pub(super) place: Option<slot::Place>,
    pub(super) new: NewDelivery,
}

/// An event with its deliveries, before they are committed.
pub(super) struct Plan {
    pub(super) seen: Option<Seen>,
    pub(super) planned: Vec<Planned>,
}

impl Plan {
    /// Gives the slots back: nothing came of it.
    pub(super) fn drop_slots(self) {
        for slot in self.planned.into_iter().filter_map(|planned| planned.slot) {
            slot.unreserve();
        }
    }

    pub(super) fn deliveries(&self) -> Vec<NewDelivery> {
        self.planned
            .iter()
            .map(|planned| planned.new.clone())
            .collect()
    }
}

/// The line of a strictly ordered endpoint that a key stands for; the same in every release, since it is stored.
pub(super) fn line_of(ordering_key: Option<&str>) -> u64 {
    let Some(key) = ordering_key else { return 0 };
    let digest = Sha256::digest(key.as_bytes());
    let first = digest.first_chunk::<8>();
    first.map_or(0, |first| u64::from_be_bytes(*first))
}

impl Worker {
    /// Commits an event, and starts what has a slot. A caller that leaves before the answer changes nothing.
    pub async fn post(self: &Arc<Self>, incoming: Incoming) -> Result<Posted, PostFault> {
        let task = Arc::clone(self).take(incoming);
        match self.attempts.spawn(task).await {
            Ok(posted) => posted,
            Err(fault) => Err(PostFault::Unavailable(Error::Passing(fault.to_string()))),
        }
    }

    /// As [`post`](Self::post), of many; each has an answer of its own. Those of one client are committed in their order.
    pub async fn post_together(
        self: &Arc<Self>,
        incoming: Vec<Incoming>,
    ) -> Vec<Result<Posted, PostFault>> {
        let count = incoming.len();
        let worker = Arc::clone(self);
        // One task, which asks the store in order.
        let task = async move {
            let posts = incoming
                .into_iter()
                .map(|one| Arc::clone(&worker).take(one));
            join_all(posts).await
        };
        match self.attempts.spawn(task).await {
            Ok(posted) => posted,
            Err(fault) => {
                let fault = Error::Passing(fault.to_string());
                let unavailable = || Err(PostFault::Unavailable(fault.clone()));
                std::iter::repeat_with(unavailable).take(count).collect()
            }
        }
    }

    async fn take(self: Arc<Self>, incoming: Incoming) -> Result<Posted, PostFault> {
        self.admit(&incoming.client_id)?;
        let (event, only) = (self.event_of(&incoming), incoming.only.as_ref());
        let client_id: Arc<str> = incoming.client_id.as_str().into();
        for _ in 0..PLANS_MAX {
            let plan = self.plan(&client_id, &event, only, |_| None);
            if only.is_some() && plan.planned.is_empty() {
                return Err(PostFault::UnknownEndpoint);
            }
            let accept = self.accept(&client_id, &event, &plan);
            match self.outside.storage.accept(accept).await {
                Ok(Accepted::New(placed)) => {
                    if plan.seen.is_none() {
                        let now = self.now();
                        self.registry.note_client(&client_id, placed.client, now);
                    }
                    let answer = answer_to(&event, &plan);
                    self.set_going(plan, &placed, &event.carried);
                    return Ok(Posted::New(answer));
                }
                Ok(Accepted::Duplicate { event: known }) => {
                    plan.drop_slots();
                    return self.known(known).await;
                }
                Ok(Accepted::KeyReused) => {
                    plan.drop_slots();
                    return Err(PostFault::KeyReused);
                }
                Ok(Accepted::Replan) => {
                    plan.drop_slots();
                    self.read_endpoints()
                        .await
                        .map_err(PostFault::Unavailable)?;
                }
                Err(fault) => {
                    plan.drop_slots();
                    return Err(self.not_taken(fault));
                }
            }
        }
        let fault = Error::Passing("the client's endpoints change all the time".to_owned());
        Err(PostFault::Unavailable(fault))
    }

    /// What waits for a dead endpoint is no reason to refuse; what waits for its turn is (R10).
    fn admit(&self, client_id: &str) -> Result<(), PostFault> {
        let bounds = self.outside.bounds;
        let client = self.registry.client(client_id);
        let queues = self.queues();
        if queues.open() >= bounds.open {
            return Err(PostFault::Overloaded {
                retry_after_s: RETRY_AFTER_S,
            });
        }
        let fresh = client.map_or(0, |client| queues.fresh_of(client.position));
        if fresh >= bounds.fresh_of_client {
            return Err(PostFault::ClientOverloaded {
                retry_after_s: RETRY_AFTER_S,
            });
        }
        Ok(())
    }

    fn not_taken(&self, fault: Error) -> PostFault {
        if fault.is_final() {
            self.note_fault(&fault);
        }
        match fault {
            Error::OverShare => PostFault::ClientOverloaded {
                retry_after_s: RETRY_AFTER_S,
            },
            fault => PostFault::Unavailable(fault),
        }
    }

    fn event_of(&self, incoming: &Incoming) -> NewEvent {
        let now = self.now();
        NewEvent {
            carried: Carried {
                event_id: EventId::mint(LANE, now),
                event_type: incoming.event_type.clone(),
                correlation_id: incoming.correlation_id.clone(),
                source: None,
                operational: false,
                payload: incoming.payload.clone(),
            },
            ordering_key: incoming.ordering_key.clone(),
            occurred_at: incoming.occurred_at,
            known_as: incoming.key.clone().map(|key| {
                KnownAs::Client(IdempotencyKey {
                    key,
                    digest: incoming.digest,
                    until: now.saturating_add(KEY_LIFE).unwrap_or(Timestamp::MAX),
                })
            }),
        }
    }

    pub(super) fn accept(&self, client_id: &Arc<str>, event: &NewEvent, plan: &Plan) -> Accept {
        Accept {
            lane: LANE,
            epoch: self.epoch,
            client_id: Arc::clone(client_id),
            seen: plan.seen,
            event: event.clone(),
            deliveries: plan.deliveries(),
            now: self.now(),
        }
    }

    /// One delivery for each endpoint that wants the event; `skip` may say that one is on record only.
    pub(super) fn plan(
        self: &Arc<Self>,
        client_id: &str,
        event: &NewEvent,
        only: Option<&EndpointId>,
        skip: impl Fn(&Live) -> Option<SkipReason>,
    ) -> Plan {
        let carried = &event.carried;
        let (seen, wanting) = self.registry.wanting(client_id, |endpoint| match only {
            Some(id) => endpoint.endpoint_id == *id,
            None => endpoint.wants(&carried.event_type, carried.operational),
        });
        let (now, line) = (self.now(), line_of(event.ordering_key.as_deref()));
        let planned = wanting.into_iter().map(|live| {
            let disabled = self.skips(&live, carried).then_some(SkipReason::Disabled);
            match skip(&live).or(disabled) {
                Some(reason) => Planned {
                    new: NewDelivery {
                        delivery_id: DeliveryId::mint(LANE, now),
                        endpoint: live.endpoint.position,
                        line,
                        life: Life::skipped(reason, now),
                    },
                    live,
                    slot: None,
                    place: None,
                },
                None => self.planned(live, line, now),
            }
        });
        Plan {
            seen,
            planned: planned.collect(),
        }
    }

    /// Whether what is new is skipped there. One that has too much open is disabled by this. A page is never skipped: it waits,
    /// and is told of.
    fn skips(self: &Arc<Self>, live: &Arc<Live>, event: &Carried) -> bool {
        if live.endpoint.endpoint_id.is_built_in() {
            return false;
        }
        if live.endpoint.disabled.is_some() {
            return true;
        }
        let open = self.queues().open_of(live.endpoint.position);
        let full = open >= self.outside.bounds.open_of_endpoint;
        if full {
            let (worker, endpoint) = (Arc::clone(self), live.endpoint.position);
            let correlation_id = event.correlation_id.clone();
            self.attempts.spawn(async move {
                let reason = DisabledReason::Backlog;
                worker.disable(endpoint, reason, &correlation_id).await;
            });
        }
        full
    }

    /// Where a slot is free, the intake's commit carries the first count (R4).
    fn planned(self: &Arc<Self>, live: Arc<Live>, line: u64, now: Timestamp) -> Planned {
        let accepted = Life::accepted(&live.policy, now);
        let due = accepted.due_at.is_some_and(|due| due <= now);
        let endpoint = live.endpoint.position;
        let slot = due.then(|| Slot::reserve(self, endpoint, line)).flatten();
        let waits_in_line = slot.is_none() && live.is_strict();
        let place = waits_in_line.then(|| slot::Place::expect(self, endpoint, line));
        let (life, slot) = match slot {
            None => (accepted, None),
            Some(slot) => {
                let input = Input::Start {
                    epoch: self.epoch,
                    alone: false,
                };
                let rng = &mut *self.outside.chance.draw();
                let (life, _) = transition(&accepted, input, &live.policy, now, rng);
                (life, Some(slot))
            }
        };
        Planned {
            new: NewDelivery {
                delivery_id: DeliveryId::mint(LANE, now),
                endpoint,
                line,
                life,
            },
            live,
            slot,
            place,
        }
    }

    /// Sends or queues what is committed now.
    pub(super) fn set_going(self: &Arc<Self>, plan: Plan, placed: &Placed, carried: &Carried) {
        for (position, planned) in placed.deliveries.iter().zip(plan.planned) {
            let Planned {
                live,
                slot,
                place,
                new,
            } = planned;
            let Some(position) = *position else {
                if let Some(slot) = slot {
                    slot.unreserve();
                }
                continue;
            };
            if new.life.state.is_terminal() {
                self.tell_skipped(&live, carried, &new);
                continue;
            }
            let Some(slot) = slot else {
                let item = self.item(position, position, new.line, &carried.event_type, &new.life);
                match place {
                    Some(place) => place.take(item),
                    None => self.enqueue(&live, item),
                }
                continue;
            };
            slot.settle(position);
            let stored = new.stored(position, placed, carried.clone());
            let number = stored.life.started;
            let attempt = Arc::clone(self).send_and_record(live, slot, stored);
            self.go(position, number, attempt);
        }
    }

    /// A delivery, as its endpoint's queue takes it.
    pub(super) fn item(
        &self,
        position: Position,
        order_at: Position,
        line: u64,
        event_type: &str,
        life: &Life,
    ) -> Item {
        Item {
            position,
            kind: Kind::of(event_type),
            due_at: life.due_at.unwrap_or_else(|| self.now()),
            class: if life.has_begun() {
                Class::Retry
            } else {
                Class::First
            },
            suspect: life.is_suspect(),
            place: Some(Place {
                line,
                order_at,
                started: life.has_begun(),
            }),
        }
    }

    pub(super) fn enqueue(&self, live: &Live, item: Item) {
        let now = self.both_clocks();
        self.queues().insert(live.endpoint.position, item, now);
        self.look_again.notify_one();
    }

    /// One that somebody has already, or that its owner has disabled, is as it should be; one that is too old is a page that
    /// nobody got.
    fn tell_skipped(&self, live: &Live, event: &Carried, new: &NewDelivery) {
        let reason = new.life.state.reason().unwrap_or_default();
        let (vitals, endpoint_id) = (&self.outside.vitals, &live.endpoint.endpoint_id);
        vitals.skipped.with_label_values(&[reason]).inc();
        if new.life.state == State::Skipped(SkipReason::TooOld) {
            vitals.count_failed_page(SkipReason::TooOld.as_str());
            tracing::warn!(
                correlation_id = %event.correlation_id, event_id = %event.event_id,
                delivery_id = %new.delivery_id, %endpoint_id, reason, "delivery skipped",
            );
        } else {
            tracing::info!(
                correlation_id = %event.correlation_id, event_id = %event.event_id,
                delivery_id = %new.delivery_id, %endpoint_id, reason, "delivery skipped",
            );
        }
    }

    async fn known(&self, event: Position) -> Result<Posted, PostFault> {
        let found = self.outside.storage.event_at(LANE, event).await;
        match found.map_err(PostFault::Unavailable)? {
            Some(event) => Ok(Posted::Known(Box::new(event))),
            None => Err(PostFault::Unavailable(Error::Passing(
                "the first event of the key is being removed".to_owned(),
            ))),
        }
    }
}

/// What a caller is told, as of the commit.
fn answer_to(event: &NewEvent, plan: &Plan) -> webhooks::Accepted {
    let deliveries = plan.planned.iter().map(|planned| AcceptedDelivery {
        delivery_id: planned.new.delivery_id.to_string(),
        endpoint_id: planned.live.endpoint.endpoint_id.to_string(),
        status: planned.new.life.state.status(),
    });
    let deliveries: Vec<_> = deliveries.collect();
    let statuses = deliveries.iter().map(|delivery| delivery.status);
    webhooks::Accepted {
        event_id: event.carried.event_id.to_string(),
        status: rollup::roll_up(rollup::count(statuses)),
        duplicate: false,
        deliveries,
    }
}
