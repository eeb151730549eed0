//! The public API of delivery: clients, endpoints, events, deliveries, attempts, jobs.

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Deserializer, Serialize};
use serde_json::value::RawValue;

use crate::CorrelationId;
use crate::delivery::Status;
use crate::event::words;
use crate::whole;

/// The hub's own client. It takes pages alone, and those from event-store.
pub const ONCALL: &str = "oncall";

/// The longest `client_id`, in bytes of `A-Z a-z 0-9 . _ -`.
pub const CLIENT_ID_MAX: usize = 64;
/// The longest event type, in bytes.
pub const EVENT_TYPE_MAX: usize = 128;
/// The longest idempotency key or ordering key, in visible ASCII characters.
pub const KEY_MAX: usize = 255;
/// The largest payload of one event, in bytes.
pub const PAYLOAD_MAX: usize = 256 * 1024;
/// The most events of one batch.
pub const BATCH_EVENTS_MAX: usize = 1_000;
/// The largest body of a batch, in bytes.
pub const BATCH_BYTES_MAX: usize = 16 << 20;
/// The most endpoints of one client.
pub const ENDPOINTS_MAX: usize = 200;

words! {
    /// Whether events go out one at a time, in the order in which they were accepted.
    Ordering {
        /// As fast as they can be sent.
        None = "none",
        /// One in flight for each ordering key, in order; without a key, for the endpoint.
        Strict = "strict",
    }
}

words! {
    /// What a strictly ordered endpoint does when a delivery is exhausted.
    OnExhausted {
        /// Nothing after it is sent before somebody retries or cancels it.
        Block = "block",
        /// The next is sent.
        Skip = "skip",
    }
}

words! {
    /// What made an attempt.
    Trigger {
        Schedule = "schedule",
        /// `POST /webhooks/deliveries/{delivery_id}/retry`.
        Manual = "manual",
        /// `POST /webhooks/endpoints/{endpoint_id}/recover`.
        Recovery = "recovery",
    }
}

words! {
    /// What an open delivery waits for.
    WaitingFor {
        /// Its time.
        Schedule = "schedule",
        /// One of the endpoint's requests to end.
        Slot = "slot",
        /// The endpoint's rate limit.
        Rate = "rate",
        /// The circuit breaker, which holds back from an endpoint that fails.
        Breaker = "breaker",
        /// The end of the pause that the endpoint asked for.
        RetryAfter = "retry_after",
        /// Those before it.
        Order = "order",
        /// The endpoint to be enabled.
        Disabled = "disabled",
        /// The answer to the attempt that is on its way.
        Answer = "answer",
    }
}

words! {
    /// Why an endpoint is disabled.
    DisabledReason {
        /// `POST /webhooks/endpoints/{endpoint_id}/disable`, or `disabled` at registration.
        Manual = "manual",
        /// It answered 410.
        Gone = "gone",
        /// Too many deliveries were open for it.
        Backlog = "backlog",
    }
}

words! {
    /// Where a job stands.
    JobStatus { Running = "running", Done = "done", Canceled = "canceled" }
}

words! {
    JobKind {
        /// Sends again what an endpoint missed.
        Recover = "recover",
        /// Removes a client's data.
        RemoveClient = "remove_client",
        /// Ends what was open for a deleted endpoint.
        RemoveEndpoint = "remove_endpoint",
    }
}

/// When attempts are made. Either `schedule_s`, or the three of `base_s`, `factor` and `max_attempts`.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RetryPolicy {
    /// The wait before each attempt, in seconds; there are as many attempts as waits.
    #[serde(
        default,
        deserialize_with = "whole::list",
        skip_serializing_if = "Option::is_none"
    )]
    pub schedule_s: Option<Vec<u64>>,
    /// The wait before the second attempt, in seconds; the first is made at once.
    #[serde(
        default,
        deserialize_with = "whole::number",
        skip_serializing_if = "Option::is_none"
    )]
    pub base_s: Option<u64>,
    /// What each further wait is multiplied by, at least 1.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub factor: Option<f64>,
    #[serde(
        default,
        deserialize_with = "whole::number",
        skip_serializing_if = "Option::is_none"
    )]
    pub max_attempts: Option<u32>,
    /// No attempt is made for an event older than this, in seconds.
    #[serde(
        default,
        deserialize_with = "whole::number",
        skip_serializing_if = "Option::is_none"
    )]
    pub max_age_s: Option<u64>,
}

/// `POST /webhooks/clients/{client_id}/endpoints`.
// No Debug: it may hold a secret.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewEndpoint {
    /// An absolute https URL of a public host; others only where `DELIVERY_ALLOW_NETS` opens them.
    pub url: String,
    /// Which events are delivered: exact types, or `order.*` for everything below `order.`. Absent: all of the client's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event_types: Option<Vec<String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub description: Option<String>,
    /// `whsec_` and the base64 of 24 to 64 bytes. Absent: one is made.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
    /// Sent with every request.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub headers: Option<BTreeMap<String, String>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry: Option<RetryPolicy>,
    /// One deadline over connecting, headers and body; 100 to 30000, 15000 unless said.
    #[serde(
        default,
        deserialize_with = "whole::number",
        skip_serializing_if = "Option::is_none"
    )]
    pub timeout_ms: Option<u64>,
    /// The most requests on their way at once, 1 to 256; 64 unless said.
    #[serde(
        default,
        deserialize_with = "whole::number",
        skip_serializing_if = "Option::is_none"
    )]
    pub max_in_flight: Option<u32>,
    /// Requests a second, 1 to 10000. Absent: no limit.
    #[serde(
        default,
        deserialize_with = "whole::number",
        skip_serializing_if = "Option::is_none"
    )]
    pub rate_limit_per_s: Option<u32>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordering: Option<Ordering>,
    /// Of a strictly ordered endpoint; `block` unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub on_exhausted: Option<OnExhausted>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub disabled: Option<bool>,
}

/// `PATCH /webhooks/endpoints/{endpoint_id}`. What is absent stays; null takes the default again, where there is one.
// No Debug: it may hold secret headers.
#[derive(Clone, Default, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EndpointChange {
    /// Never null.
    #[serde(deserialize_with = "told")]
    pub url: Option<Option<String>>,
    #[serde(deserialize_with = "told")]
    pub event_types: Option<Option<Vec<String>>>,
    #[serde(deserialize_with = "told")]
    pub description: Option<Option<String>>,
    #[serde(deserialize_with = "told")]
    pub headers: Option<Option<BTreeMap<String, String>>>,
    #[serde(deserialize_with = "told")]
    pub retry: Option<Option<RetryPolicy>>,
    #[serde(deserialize_with = "whole::told")]
    pub timeout_ms: Option<Option<u64>>,
    #[serde(deserialize_with = "whole::told")]
    pub max_in_flight: Option<Option<u32>>,
    #[serde(deserialize_with = "whole::told")]
    pub rate_limit_per_s: Option<Option<u32>>,
    #[serde(deserialize_with = "told")]
    pub ordering: Option<Option<Ordering>>,
    #[serde(deserialize_with = "told")]
    pub on_exhausted: Option<Option<OnExhausted>>,
    /// Never null.
    #[serde(deserialize_with = "told")]
    pub disabled: Option<Option<bool>>,
}

/// Absence leaves a field alone, null clears it.
fn told<'de, D: Deserializer<'de>, T: Deserialize<'de>>(
    deserializer: D,
) -> Result<Option<Option<T>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// One endpoint. Its secret and the values of its headers are never shown again.
#[derive(Clone, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EndpointView {
    pub endpoint_id: String,
    pub client_id: String,
    pub url: String,
    #[cfg_attr(feature = "openapi", schema(required))]
    pub event_types: Option<Vec<String>>,
    #[cfg_attr(feature = "openapi", schema(required))]
    pub description: Option<String>,
    /// Names only.
    pub headers: Vec<String>,
    pub retry: RetryPolicy,
    pub timeout_ms: u64,
    pub max_in_flight: u32,
    #[cfg_attr(feature = "openapi", schema(required))]
    pub rate_limit_per_s: Option<u32>,
    pub ordering: Ordering,
    pub on_exhausted: OnExhausted,
    pub disabled: bool,
    #[cfg_attr(feature = "openapi", schema(required))]
    pub disabled_reason: Option<DisabledReason>,
    /// Deliveries that are neither ended nor skipped.
    pub open_deliveries: u64,
    /// Whether the circuit breaker holds back: `closed`, `open` or `half_open`.
    pub breaker: String,
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub updated_at: Timestamp,
    /// This once, at registration and rotation.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub secret: Option<String>,
}

impl fmt::Debug for EndpointView {
    /// Without the secret.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "EndpointView({})", self.endpoint_id)
    }
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct EndpointsPage {
    pub endpoints: Vec<EndpointView>,
    #[cfg_attr(feature = "openapi", schema(required))]
    pub next_cursor: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClientView {
    pub client_id: String,
    pub endpoints: usize,
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct ClientsPage {
    pub clients: Vec<ClientView>,
    #[cfg_attr(feature = "openapi", schema(required))]
    pub next_cursor: Option<String>,
}

/// `POST /webhooks/endpoints/{endpoint_id}/secret/rotate`.
// No Debug: it may hold a secret.
#[derive(Clone, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RotateSecret {
    /// Absent: one is made.
    pub secret: Option<String>,
    /// How long the one that is replaced signs too, in seconds, at most 7 days; 24 h unless said. 0 ends all older ones.
    #[serde(deserialize_with = "whole::number")]
    pub overlap_s: Option<u64>,
}

/// `POST /webhooks/events`.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct NewEvent {
    pub client_id: String,
    /// Such as `order.created`: 1 to 128 of `A-Z a-z 0-9 . _ -`.
    pub event_type: String,
    /// Any JSON; a destination gets these bytes as they came.
    #[cfg_attr(feature = "openapi", schema(value_type = serde_json::Value))]
    pub payload: Box<RawValue>,
    /// Or the header `Idempotency-Key`; remembered for 7 days.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub idempotency_key: Option<String>,
    /// What a strictly ordered endpoint keeps in order.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ordering_key: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub occurred_at: Option<Timestamp>,
}

/// `POST /webhooks/events/batch`. Items are kept as bytes, so that a bad one fails alone.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct NewEvents {
    pub events: Vec<Box<RawValue>>,
}

/// The answer to an event.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Accepted {
    pub event_id: String,
    pub status: Status,
    /// Whether the key was seen before; then this is the first event's answer, as it stands now.
    pub duplicate: bool,
    pub deliveries: Vec<AcceptedDelivery>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AcceptedDelivery {
    pub delivery_id: String,
    pub endpoint_id: String,
    pub status: Status,
}

/// One of a batch's results, in order.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BatchItem {
    /// 202, 200 for a duplicate, 4xx for what is wrong with it, 429 and 503 for what may work later.
    pub status: u16,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub event: Option<Accepted>,
    /// A problem's code.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub detail: Option<String>,
    /// With 429 and 503: seconds after which to try it again.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub retry_after_s: Option<u64>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct BatchAnswer {
    pub results: Vec<BatchItem>,
}

/// How many deliveries of an event stand where.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Counts {
    pub pending: u32,
    pub failed: u32,
    pub delivered: u32,
    pub exhausted: u32,
    pub skipped: u32,
}

/// An event with its roll-up. A list leaves the payload out.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WebhookEventView {
    pub event_id: String,
    pub client_id: String,
    pub event_type: String,
    /// The first that applies of failed, pending, exhausted, delivered, skipped.
    pub status: Status,
    pub counts: Counts,
    #[cfg_attr(feature = "openapi", schema(required))]
    pub idempotency_key: Option<String>,
    #[cfg_attr(feature = "openapi", schema(required))]
    pub ordering_key: Option<String>,
    #[cfg_attr(feature = "openapi", schema(required, value_type = Option<String>, format = DateTime))]
    pub occurred_at: Option<Timestamp>,
    /// Of an event of the hub: the id under which `GET /events` has it.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub source_event_id: Option<String>,
    pub correlation_id: CorrelationId,
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<serde_json::Value>))]
    pub payload: Option<Box<RawValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub deliveries: Option<Vec<DeliveryView>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct WebhookEventsPage {
    pub events: Vec<WebhookEventView>,
    /// Asks for the next page; null on the last one. A page may end before its limit.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub next_cursor: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeliveryView {
    pub delivery_id: String,
    pub event_id: String,
    pub event_type: String,
    pub client_id: String,
    pub endpoint_id: String,
    pub status: Status,
    /// Why no more attempts will come, or why none was made.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub reason: Option<String>,
    /// What an open one waits for.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub waiting_for: Option<WaitingFor>,
    /// Attempts started so far, with those that were interrupted.
    pub attempts_started: u32,
    /// Attempts whose process ended before their result was on record.
    pub interrupted: u32,
    /// Grows with each retry by hand or recovery, from 0; each has a full schedule.
    pub generation: u32,
    #[cfg_attr(feature = "openapi", schema(required))]
    pub idempotency_key: Option<String>,
    #[cfg_attr(feature = "openapi", schema(required))]
    pub source_event_id: Option<String>,
    pub correlation_id: CorrelationId,
    /// The status of the last attempt's answer.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub status_code: Option<u16>,
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
    #[cfg_attr(feature = "openapi", schema(required, value_type = Option<String>, format = DateTime))]
    pub next_attempt_at: Option<Timestamp>,
    #[cfg_attr(feature = "openapi", schema(required, value_type = Option<String>, format = DateTime))]
    pub ended_at: Option<Timestamp>,
    /// Every attempt, oldest first; told for one delivery only.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub attempts: Option<Vec<AttemptView>>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeliveriesPage {
    pub deliveries: Vec<DeliveryView>,
    /// Asks for the next page; null on the last one. A page may end before its limit.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub next_cursor: Option<String>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct AttemptView {
    pub number: u32,
    pub trigger: Trigger,
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub started_at: Timestamp,
    /// Null while it is on its way, and for an interrupted one.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub duration_ms: Option<u64>,
    pub phases: Phases,
    #[cfg_attr(feature = "openapi", schema(required))]
    pub status_code: Option<u16>,
    /// A stable word; null for a 2xx, and while it is on its way.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub error: Option<String>,
    /// Of a `tls_error`, why; of all else null.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub error_reason: Option<String>,
    /// Sent twice: a connection that had been kept broke before any byte of an answer came.
    pub resent: bool,
    /// The first KiB of the answer's body; of the latest attempt, 16 KiB.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub response: Option<String>,
    #[cfg_attr(feature = "openapi", schema(required, value_type = Option<String>, format = DateTime))]
    pub next_attempt_at: Option<Timestamp>,
}

/// Where an attempt's time went, in milliseconds. A reused connection has neither of the first two.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct Phases {
    /// Looking the name up.
    pub dns_ms: Option<u32>,
    /// Connecting, TLS included.
    pub connect_ms: Option<u32>,
    /// From the request to the answer's head.
    pub head_ms: Option<u32>,
    /// The answer's body.
    pub body_ms: Option<u32>,
}

/// `POST /webhooks/endpoints/{endpoint_id}/recover`.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct RecoverRequest {
    /// Events accepted then or later.
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub since: Timestamp,
    /// Events accepted before; now unless said.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[cfg_attr(feature = "openapi", schema(value_type = Option<String>, format = DateTime))]
    pub until: Option<Timestamp>,
    /// Only deliveries of this status. Absent: exhausted, skipped, and events that made no delivery for the endpoint.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub status: Option<Status>,
    /// Counts, and sends nothing.
    #[serde(default)]
    pub dry_run: bool,
}

/// A stored job. Survives restarts.
#[derive(Clone, Debug, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct JobView {
    pub job_id: String,
    pub kind: JobKind,
    pub client_id: String,
    #[cfg_attr(feature = "openapi", schema(required))]
    pub endpoint_id: Option<String>,
    pub status: JobStatus,
    pub dry_run: bool,
    /// Events looked at so far.
    pub examined: u64,
    /// Deliveries sent again, or that would be; of a removal, rows removed.
    pub done: u64,
    /// Events looked at a second, so far.
    pub rate_per_s: f64,
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub created_at: Timestamp,
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub updated_at: Timestamp,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_change_tells_absence_from_null() {
        let change: EndpointChange =
            serde_json::from_str(r#"{"description":null,"timeout_ms":5000}"#).unwrap();
        assert_eq!(change.description, Some(None));
        assert_eq!(change.timeout_ms, Some(Some(5_000)));
        assert!(change.headers.is_none());
    }

    #[test]
    fn a_payload_keeps_its_bytes() {
        let event: NewEvent = serde_json::from_str(
            r#"{"client_id":"a","event_type":"t","payload":{"b":1.0,  "a":2}}"#,
        )
        .unwrap();
        assert_eq!(event.payload.get(), r#"{"b":1.0,  "a":2}"#);
    }

    #[test]
    fn an_unknown_field_is_refused() {
        let told = r#"{"client_id":"a","event_type":"t","payload":1,"even_type":"x"}"#;
        assert!(serde_json::from_str::<NewEvent>(told).is_err());
    }
}
