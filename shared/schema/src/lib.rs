//! What travels on the wire: events, the feed, delivery reports, ids, header and path names.
//!
//! Types only. Nothing here waits, reads a clock or opens a socket.

pub mod correlation;
pub mod delivery;
pub mod event;
pub mod feed;
pub mod intake;
pub mod names;
pub mod status;
pub mod summary;
pub mod webhooks;
mod whole;

pub use correlation::CorrelationId;
pub use event::{Event, EventId, Kind, Severity, Source};
