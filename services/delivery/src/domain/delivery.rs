//! What a delivery carries.

use bytes::Bytes;
use jiff::Timestamp;
use schema::CorrelationId;

pub use super::ids::{DeliveryId, EventId, Lane, Position};

/// The event a delivery carries. Its payload is sent byte for byte as it came, on every attempt (R9).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Carried {
    pub event_id: EventId,
    pub event_type: String,
    pub correlation_id: CorrelationId,
    /// Of an event of the hub.
    pub source: Option<Source>,
    /// Says what became of other deliveries; deliveries of it raise none.
    pub operational: bool,
    pub payload: Bytes,
}

/// Where an event of the hub comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Source {
    /// The id under which event-store has it.
    pub event_id: schema::EventId,
    pub revision: u32,
    pub stored_at: Timestamp,
}
