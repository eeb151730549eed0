//! How rows are shown.

use bytes::Bytes;
use jiff::Timestamp;
use schema::webhooks::{
    Accepted, AcceptedDelivery, AttemptView, ClientView, Counts, DeliveryView, EndpointView,
    JobView, Phases, WaitingFor, WebhookEventView,
};
use serde_json::value::RawValue;

use crate::domain::endpoint::Endpoint;
use crate::domain::requests::{Defaults, policy_of};
use crate::domain::rollup::{count, roll_up};
use crate::domain::transition::{ExhaustReason, Life, State};
use crate::storage::{Client, Ended, EventSummary, Job, Summary, WholeEvent};
use crate::worker::Standing;

pub(super) fn client(client: Client, endpoints: usize) -> ClientView {
    ClientView {
        client_id: client.client_id.to_string(),
        endpoints,
        created_at: client.created_at,
    }
}

/// Without its secret.
pub(super) fn endpoint(
    endpoint: &Endpoint,
    standing: Standing,
    defaults: &Defaults,
) -> EndpointView {
    let settings = &endpoint.settings;
    let event_types = settings.event_types.as_ref();
    EndpointView {
        endpoint_id: endpoint.endpoint_id.to_string(),
        client_id: endpoint.client_id.to_string(),
        url: settings.url.clone(),
        event_types: event_types.map(|patterns| {
            let patterns = patterns.iter().map(|pattern| pattern.as_str().to_owned());
            patterns.collect()
        }),
        description: settings.description.clone(),
        headers: endpoint.confidential.headers.keys().cloned().collect(),
        retry: policy_of(endpoint, defaults).view(),
        timeout_ms: settings.timeout_ms,
        max_in_flight: settings.max_in_flight,
        rate_limit_per_s: settings.rate_limit_per_s,
        ordering: settings.ordering,
        on_exhausted: settings.on_exhausted,
        disabled: endpoint.disabled.is_some(),
        disabled_reason: endpoint.disabled.map(|disabled| disabled.reason),
        open_deliveries: standing.open,
        breaker: standing.breaker.to_owned(),
        created_at: endpoint.created_at,
        updated_at: endpoint.updated_at,
        secret: None,
    }
}

/// The answer to an event that is known already, as it stands now.
pub(super) fn duplicate(event: &WholeEvent) -> Accepted {
    let deliveries = event.deliveries.iter();
    Accepted {
        event_id: event.summary.event_id.to_string(),
        status: roll_up(counts(&event.deliveries)),
        duplicate: true,
        deliveries: deliveries
            .map(|delivery| AcceptedDelivery {
                delivery_id: delivery.delivery_id.to_string(),
                endpoint_id: delivery.endpoint_id.to_string(),
                status: shown(delivery).status(),
            })
            .collect(),
    }
}

pub(super) fn event(summary: EventSummary) -> WebhookEventView {
    WebhookEventView {
        event_id: summary.event_id.to_string(),
        client_id: summary.client_id.to_string(),
        event_type: summary.event_type,
        status: roll_up(summary.counts),
        counts: summary.counts,
        idempotency_key: summary.idempotency_key,
        ordering_key: summary.ordering_key,
        occurred_at: summary.occurred_at,
        source_event_id: summary.source.map(|source| source.event_id.to_string()),
        correlation_id: summary.correlation_id,
        created_at: summary.created_at,
        payload: None,
        deliveries: None,
    }
}

/// `waiting_for` tells what an open delivery waits for.
pub(super) fn whole_event(
    event: WholeEvent,
    waiting_for: impl Fn(&Summary) -> Option<WaitingFor>,
) -> WebhookEventView {
    let counts = counts(&event.deliveries);
    let deliveries = event.deliveries.into_iter().map(|summary| {
        let waiting_for = waiting_for(&summary);
        delivery(summary, waiting_for)
    });
    WebhookEventView {
        status: roll_up(counts),
        counts,
        payload: raw(event.payload),
        deliveries: Some(deliveries.collect()),
        ..self::event(event.summary)
    }
}

pub(super) fn delivery(summary: Summary, waiting_for: Option<WaitingFor>) -> DeliveryView {
    let state = shown(&summary);
    let open = !state.is_terminal();
    let life = summary.life;
    DeliveryView {
        delivery_id: summary.delivery_id.to_string(),
        event_id: summary.event_id.to_string(),
        event_type: summary.event_type,
        client_id: summary.client_id.to_string(),
        endpoint_id: summary.endpoint_id.to_string(),
        status: state.status(),
        reason: state.reason().map(str::to_owned),
        waiting_for: waiting_for.filter(|_| open),
        attempts_started: life.started,
        interrupted: life.interrupted,
        generation: life.generation,
        idempotency_key: summary.idempotency_key,
        source_event_id: summary.source.map(|source| source.event_id.to_string()),
        correlation_id: summary.correlation_id,
        status_code: summary.code.and_then(|code| code.parse().ok()),
        created_at: summary.created_at,
        next_attempt_at: life.due_at.filter(|_| open && life.open.is_none()),
        ended_at: summary.ended_at,
        attempts: None,
    }
}

/// With every attempt, the one on its way last.
pub(super) fn whole_delivery(
    summary: Summary,
    ended: Vec<Ended>,
    waiting_for: Option<WaitingFor>,
) -> DeliveryView {
    let on_its_way = on_its_way(&summary.life);
    let attempts = ended.into_iter().map(attempt).chain(on_its_way);
    DeliveryView {
        attempts: Some(attempts.collect()),
        ..delivery(summary, waiting_for)
    }
}

pub(super) fn job(job: Job) -> JobView {
    let progress = job.progress;
    let (created_at, updated_at) = (kept(job.created_at), kept(progress.updated_at));
    JobView {
        job_id: job.job_id.to_string(),
        kind: job.kind,
        client_id: job.client_id.to_string(),
        endpoint_id: job.endpoint.map(|(_, id)| id.to_string()),
        status: progress.status,
        dry_run: job.dry_run,
        examined: progress.examined,
        done: progress.done,
        rate_per_s: rate(progress.examined, created_at, updated_at),
        created_at,
        updated_at,
    }
}

/// Where a delivery stands. What is open for a deleted endpoint will not be sent any more, though its row does not say so
/// yet; an attempt that is on its way may still deliver it.
fn shown(summary: &Summary) -> State {
    let life = &summary.life;
    if summary.endpoint_deleted && !life.state.is_terminal() && life.open.is_none() {
        State::Exhausted(ExhaustReason::EndpointDeleted)
    } else {
        summary.life.state
    }
}

fn counts(deliveries: &[Summary]) -> Counts {
    count(deliveries.iter().map(|summary| shown(summary).status()))
}

fn attempt(ended: Ended) -> AttemptView {
    AttemptView {
        number: ended.number,
        trigger: ended.trigger,
        started_at: ended.started_at,
        duration_ms: ended.duration_ms,
        phases: ended.phases,
        status_code: ended.status_code,
        error: ended.error,
        error_reason: ended.error_reason,
        resent: ended.resent,
        response: ended.response,
        next_attempt_at: ended.next_attempt_at,
    }
}

fn on_its_way(life: &Life) -> Option<AttemptView> {
    life.open.map(|open| AttemptView {
        number: life.started,
        trigger: open.trigger,
        started_at: open.at,
        duration_ms: None,
        phases: Phases::default(),
        status_code: None,
        error: None,
        error_reason: None,
        resent: false,
        response: None,
        next_attempt_at: None,
    })
}

/// A payload came as JSON and is kept as it came.
fn raw(payload: Bytes) -> Option<Box<RawValue>> {
    let text = String::from_utf8(payload.into()).ok()?;
    RawValue::from_string(text).ok()
}

/// As the store keeps it, in whole microseconds: what a command answers is what is read later.
fn kept(at: Timestamp) -> Timestamp {
    Timestamp::from_microsecond(at.as_microsecond()).unwrap_or(at)
}

/// A second, to one decimal place.
fn rate(examined: u64, since: Timestamp, until: Timestamp) -> f64 {
    let seconds = until.duration_since(since).as_secs_f64();
    if seconds <= 0.0 {
        return 0.0;
    }
    #[expect(clippy::cast_precision_loss, reason = "a rate is an estimate")]
    let examined = examined as f64;
    (examined / seconds * 10.0).round() / 10.0
}

#[cfg(test)]
mod tests {
    use schema::CorrelationId;
    use schema::delivery::Status;
    use schema::webhooks::Trigger;

    use super::*;
    use crate::domain::ids::{DeliveryId, EndpointId, EventId};
    use crate::domain::schedule::Policy;
    use crate::domain::transition::OpenAttempt;

    fn at(second: i64) -> Timestamp {
        Timestamp::from_second(second).unwrap()
    }

    /// Failed once with a 503, and due in a minute.
    fn failed() -> Summary {
        Summary {
            position: 3,
            delivery_id: DeliveryId::mint(0, at(1)),
            client_id: "acme".into(),
            endpoint: 2,
            endpoint_id: EndpointId::mint(0, at(1)),
            endpoint_deleted: false,
            line: 0,
            life: Life {
                state: State::Failed,
                started: 1,
                finished: 1,
                due_at: Some(at(60)),
                ..Life::accepted(&Policy::default(), at(1))
            },
            created_at: at(1),
            ended_at: None,
            event_id: EventId::mint(0, at(1)),
            event_type: "order.created".to_owned(),
            idempotency_key: None,
            source: None,
            correlation_id: CorrelationId::parse("c").unwrap(),
            code: Some("503".to_owned()),
        }
    }

    fn first() -> Ended {
        Ended {
            number: 1,
            epoch: 1,
            trigger: Trigger::Schedule,
            started_at: at(2),
            duration_ms: Some(12),
            phases: Phases::default(),
            status_code: Some(503),
            error: Some("http_5xx".to_owned()),
            error_reason: None,
            resent: false,
            response: Some("busy".to_owned()),
            next_attempt_at: Some(at(60)),
        }
    }

    #[test]
    fn a_delivery_that_waits_says_for_what_and_until_when() {
        let view = whole_delivery(failed(), vec![first()], Some(WaitingFor::Schedule));
        assert_eq!(view.status, Status::Failed);
        assert_eq!(view.waiting_for, Some(WaitingFor::Schedule));
        assert_eq!(view.next_attempt_at, Some(at(60)));
        assert_eq!(view.status_code, Some(503));
        let attempts = view.attempts.unwrap();
        assert_eq!(attempts.len(), 1);
        assert_eq!(attempts[0].response.as_deref(), Some("busy"));
    }

    #[test]
    fn an_attempt_on_its_way_is_shown_without_an_end() {
        let mut summary = failed();
        summary.life.started = 2;
        summary.life.open = Some(OpenAttempt {
            epoch: 1,
            alone: false,
            at: at(60),
            trigger: Trigger::Manual,
        });
        let view = whole_delivery(summary, vec![first()], Some(WaitingFor::Answer));
        assert_eq!(view.next_attempt_at, None);
        let attempts = view.attempts.unwrap();
        let open = &attempts[1];
        assert_eq!((open.number, open.trigger), (2, Trigger::Manual));
        assert_eq!((open.started_at, open.duration_ms), (at(60), None));
        assert!(open.error.is_none() && open.status_code.is_none());
    }

    #[test]
    fn what_is_open_for_a_deleted_endpoint_has_ended_and_what_ended_stays() {
        let deleted = Summary {
            endpoint_deleted: true,
            ..failed()
        };
        let mut delivered = deleted.clone();
        delivered.life.state = State::Delivered;
        let mut on_its_way = deleted.clone();
        on_its_way.life.open = Some(OpenAttempt {
            epoch: 1,
            alone: false,
            at: at(60),
            trigger: Trigger::Schedule,
        });
        let view = delivery(deleted, Some(WaitingFor::Schedule));
        assert_eq!(view.status, Status::Exhausted);
        assert_eq!(view.reason.as_deref(), Some("endpoint_deleted"));
        assert_eq!((view.waiting_for, view.next_attempt_at), (None, None));
        assert_eq!(delivery(delivered, None).status, Status::Delivered);
        // Terminal is final, and this can still become delivered.
        let view = delivery(on_its_way, Some(WaitingFor::Answer));
        assert_eq!(view.status, Status::Failed);
        assert_eq!(view.waiting_for, Some(WaitingFor::Answer));
    }

    #[test]
    fn only_a_number_is_a_status() {
        for (code, status) in [
            (Some("503"), Some(503)),
            (Some("timeout"), None),
            (None, None),
        ] {
            let summary = Summary {
                code: code.map(str::to_owned),
                ..failed()
            };
            assert_eq!(delivery(summary, None).status_code, status, "{code:?}");
        }
    }

    #[test]
    fn a_rate_needs_time_to_have_passed() {
        for (examined, until, expected) in [(0, 0, 0.0), (9, 0, 0.0), (10, 3, 3.3), (10, -1, 0.0)] {
            assert_eq!(
                rate(examined, at(0), at(until)),
                expected,
                "{examined} {until}"
            );
        }
    }
}
