//! How normalized events reach event-store: in batches, with a result for each.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::{CorrelationId, Event, EventId};

/// The most items one internal request carries.
pub const BATCH_MAX_ITEMS: usize = 256;
/// The most bytes one internal request carries, save that a single larger item goes alone.
pub const BATCH_MAX_BYTES: usize = 1 << 20;

/// The longest body of a Stripe event, in bytes: a longer one is 413, and Stripe gives up on it after three days.
pub const STRIPE_BODY_MAX: usize = 1 << 20;

/// `POST /internal/events`. Items are kept as bytes so that a bad one fails alone.
#[derive(Debug, Serialize, Deserialize)]
pub struct Batch<T = Box<RawValue>> {
    pub items: Vec<T>,
}

/// One item of a [`Batch`]. A sender may hold the event as bytes already.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Submission<E = Event> {
    pub correlation_id: CorrelationId,
    /// How long the answer is waited for, from the receipt of the batch, in milliseconds.
    pub deadline_ms: u64,
    pub event: E,
}

/// What became of the items, in their order.
#[derive(Debug, Serialize, Deserialize)]
pub struct BatchResults {
    pub results: Vec<Receipt>,
}

#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(tag = "outcome", rename_all = "snake_case")]
pub enum Receipt {
    /// New, and on disk. `routed` tells the decision to page.
    Stored { routed: bool },
    /// Seen before; the first copy is on disk.
    Duplicate { routed: bool },
    /// Not an event; the same item will never be taken.
    Rejected { detail: String },
    /// Not taken now (full, failing disk, past its deadline); may be sent again.
    Unavailable { retry_after_s: u64 },
}

/// `POST /internal/resolutions`: events that have ended.
#[derive(Debug, Serialize, Deserialize)]
pub struct Resolutions {
    pub items: Vec<Resolution>,
}

#[derive(Clone, Debug, Serialize, Deserialize)]
pub struct Resolution {
    pub event_id: EventId,
    pub resolved_at: Timestamp,
    pub correlation_id: CorrelationId,
}

/// How many of the [`Resolutions`] named an open event and closed it.
#[derive(Debug, Serialize, Deserialize)]
pub struct Resolved {
    pub resolved: usize,
}
