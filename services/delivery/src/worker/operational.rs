//! What Signalpost says of itself to a client: by the same durable path, in the commit of what it tells of. Deliveries of
//! such events raise none themselves.

use std::sync::Arc;

use bytes::Bytes;
use jiff::Timestamp;
use schema::CorrelationId;
use schema::webhooks::DisabledReason;
use serde_json::json;

use super::Worker;
use super::post::{PLANS_MAX, Plan};
use super::registry::Live;
use crate::domain::delivery::Carried;
use crate::domain::endpoint::{DISABLED_TYPE, EXHAUSTED_TYPE, Endpoint};
use crate::domain::ids::{EventId, Position};
use crate::domain::transition::{Effect, Life, SkipReason};
use crate::storage::{Accept, Accepted, LANE, NewEvent, Placed, Stored};

/// An event to be committed with a change, and the slots of its deliveries.
pub(super) struct Raised {
    pub(super) accept: Accept,
    pub(super) plan: Plan,
}

impl Worker {
    /// What a change says to its client. Nothing where nobody asked for it.
    pub(super) fn raise(
        self: &Arc<Self>,
        live: &Live,
        stored: &Stored,
        life: &Life,
        effects: &[Effect],
    ) -> Vec<Raised> {
        if stored.event.operational {
            return Vec::new();
        }
        let told = effects.iter().filter_map(|effect| match effect {
            Effect::Shout(reason) => self.raised(
                live,
                stored,
                EXHAUSTED_TYPE,
                json!({
                    "delivery_id": stored.delivery_id.to_string(),
                    "event_id": stored.event.event_id.to_string(),
                    "event_type": stored.event.event_type,
                    "endpoint_id": live.endpoint.endpoint_id.as_str(),
                    "reason": reason.as_str(),
                    "attempts": life.started,
                }),
            ),
            Effect::Disable(reason) => self.raised(
                live,
                stored,
                DISABLED_TYPE,
                disabled(&live.endpoint, *reason),
            ),
            _ => None,
        });
        told.collect()
    }

    fn raised(
        self: &Arc<Self>,
        live: &Live,
        stored: &Stored,
        event_type: &str,
        data: serde_json::Value,
    ) -> Option<Raised> {
        let event = operational_event(event_type, &data, &stored.event, self.now());
        let about = (event_type == DISABLED_TYPE).then_some(live.endpoint.position);
        self.plan_raised(&live.endpoint.client_id, &event, about)
    }

    /// An endpoint that is disabled with it is not sent to.
    fn plan_raised(
        self: &Arc<Self>,
        client_id: &Arc<str>,
        event: &NewEvent,
        disabled: Option<Position>,
    ) -> Option<Raised> {
        let plan = self.plan(client_id, event, None, |live| {
            let is_disabled = disabled == Some(live.endpoint.position);
            is_disabled.then_some(SkipReason::Disabled)
        });
        if plan.planned.is_empty() {
            return None;
        }
        Some(Raised {
            accept: self.accept(client_id, event, &plan),
            plan,
        })
    }

    /// Starts what was committed with a change; `None`: it was not said.
    pub(super) fn set_raised_going(self: &Arc<Self>, raised: Raised, placed: Option<&Placed>) {
        let Raised { accept, plan } = raised;
        match placed {
            Some(placed) => self.set_going(plan, placed, &accept.event.carried),
            None => plan.drop_slots(),
        }
    }

    /// Says that an endpoint was disabled, where no delivery tells so.
    pub(super) async fn say_disabled(
        self: &Arc<Self>,
        endpoint: &Endpoint,
        reason: DisabledReason,
        correlation_id: &CorrelationId,
    ) {
        let now = self.now();
        let carried = Carried {
            event_id: EventId::mint(LANE, now),
            event_type: DISABLED_TYPE.to_owned(),
            correlation_id: correlation_id.clone(),
            source: None,
            operational: true,
            payload: Bytes::new(),
        };
        let event = operational_event(DISABLED_TYPE, &disabled(endpoint, reason), &carried, now);
        for _ in 0..PLANS_MAX {
            let Some(raised) = self.plan_raised(&endpoint.client_id, &event, None) else {
                return;
            };
            let fault = match self.outside.storage.accept(raised.accept.clone()).await {
                Ok(Accepted::Replan) => {
                    raised.plan.drop_slots();
                    match self.read_endpoints().await {
                        Ok(()) => continue,
                        Err(fault) => fault,
                    }
                }
                Ok(Accepted::New(placed)) => {
                    return self.set_raised_going(raised, Some(&placed));
                }
                // It has no key under which it could be known.
                Ok(Accepted::Duplicate { .. } | Accepted::KeyReused) => {
                    return self.set_raised_going(raised, None);
                }
                Err(fault) => {
                    raised.plan.drop_slots();
                    fault
                }
            };
            tracing::warn!(
                %correlation_id, endpoint_id = %endpoint.endpoint_id, %fault,
                "that an endpoint was disabled is not told to its client",
            );
            return;
        }
    }
}

fn disabled(endpoint: &Endpoint, reason: DisabledReason) -> serde_json::Value {
    json!({
        "endpoint_id": endpoint.endpoint_id.as_str(),
        "reason": reason.as_str(),
    })
}

fn operational_event(
    event_type: &str,
    data: &serde_json::Value,
    about: &Carried,
    now: Timestamp,
) -> NewEvent {
    let payload = json!({
        "type": event_type,
        "timestamp": now.to_string(),
        "data": data,
    });
    NewEvent {
        carried: Carried {
            event_id: EventId::mint(LANE, now),
            event_type: event_type.to_owned(),
            correlation_id: about.correlation_id.clone(),
            source: None,
            operational: true,
            payload: Bytes::from(payload.to_string()),
        },
        ordering_key: None,
        occurred_at: None,
        known_as: None,
    }
}
