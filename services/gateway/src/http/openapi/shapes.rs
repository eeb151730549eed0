//! Shapes of answers whose types do not travel between services.
#![expect(dead_code, reason = "read by the derive, never made")]

use std::collections::BTreeMap;

use jiff::Timestamp;
use schema::webhooks::NewEvent;
use schema::{CorrelationId, Event};
use utoipa::ToSchema;

/// Every error (RFC 9457). Rely on `code`.
#[derive(ToSchema)]
pub(super) struct ProblemBody {
    /// `urn:signalpost:problem:{code}`.
    r#type: String,
    title: String,
    status: u16,
    code: String,
    /// What to do about it.
    detail: String,
    correlation_id: CorrelationId,
}

#[derive(ToSchema)]
pub(super) struct Received {
    received: bool,
    /// There, and true, if the event was seen before.
    deduped: Option<bool>,
}

#[derive(ToSchema)]
pub(super) struct Pages {
    /// Newest first.
    events: Vec<Page>,
}

/// A page as the fake PagerDuty received it.
#[derive(ToSchema)]
pub(super) struct Page {
    #[schema(inline)]
    #[serde(flatten)]
    event: Event,
    #[schema(value_type = String, format = DateTime)]
    received_at: Timestamp,
    correlation_id: CorrelationId,
    #[schema(required)]
    webhook_id: Option<String>,
}

/// What shall go wrong. `{}` makes all well.
#[derive(ToSchema)]
pub(super) struct Faults {
    /// Of a failing answer, 300 to 599; 500 unless said.
    status: Option<u16>,
    /// Before any answer, good or bad; at most 60000.
    delay_ms: Option<u64>,
    /// A failure is no answer.
    hang: Option<bool>,
    /// A failure is a connection that breaks off.
    reset: Option<bool>,
    /// Fails this many requests, counted from now.
    fail_first: Option<u64>,
    /// Fails this share of the requests, 0 to 1.
    failure_rate: Option<f64>,
    /// Chooses which ones the rate meets.
    seed: Option<u64>,
    retry_after_s: Option<u64>,
}

/// At most 1,000.
#[derive(ToSchema)]
pub(super) struct NewEvents {
    events: Vec<NewEvent>,
}

#[derive(ToSchema)]
pub(super) struct Alive {
    ok: bool,
}

#[derive(ToSchema)]
pub(super) struct Readiness {
    ready: bool,
    /// `up`, `degraded` or `down`, as a whole.
    status: String,
    /// By service: `status` is `up`, `degraded` or `down`; further facts beside it. Not there without a key where keys are
    /// set.
    dependencies: Option<BTreeMap<String, serde_json::Value>>,
}
