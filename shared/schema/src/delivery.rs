//! What became of a delivery.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};

use crate::event::words;
use crate::{CorrelationId, EventId};

words! {
    /// Where a delivery stands.
    Status {
        /// No attempt has finished.
        Pending = "pending",
        /// At least one attempt failed and another is due.
        Failed = "failed",
        /// An attempt was answered 2xx.
        Delivered = "delivered",
        /// No more attempts will come.
        Exhausted = "exhausted",
        /// Never meant to be sent: already delivered, or too old.
        Skipped = "skipped",
    }
}

/// One destination's state for one event, as `GET /events/{event_id}` tells it.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct DeliveryState {
    pub destination: String,
    pub delivery_id: String,
    pub status: Status,
    /// Attempts finished so far.
    pub attempts: u32,
    /// Why it stands so: an error code, or the reason no more attempts will come.
    #[cfg_attr(feature = "openapi", schema(required))]
    pub reason: Option<String>,
    #[cfg_attr(feature = "openapi", schema(value_type = String, format = DateTime))]
    pub at: Timestamp,
}

/// `POST /internal/outcomes`: delivery tells event-store, in commit order, at least once. A receiver may read the items as
/// bytes, so that a bad one fails alone.
#[derive(Debug, Serialize, Deserialize)]
pub struct Outcomes<T = Outcome> {
    pub outcomes: Vec<T>,
}

/// Outcomes of one delivery are ordered by `(epoch, position)`: a later one never loses to an earlier one.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Outcome {
    pub epoch: u64,
    pub position: u64,
    pub event_id: EventId,
    pub revision: u32,
    pub correlation_id: CorrelationId,
    #[serde(flatten)]
    pub state: DeliveryState,
}
