//! An event as it comes in, and as it is kept.

use jiff::Timestamp;
use schema::delivery::DeliveryState;
use schema::feed::Action;
use schema::{CorrelationId, Event, Kind, Severity};

/// An event on its way in, with what was decided about it.
#[derive(Clone, Debug)]
pub struct Draft {
    pub event: Event,
    pub correlation_id: CorrelationId,
    /// Whether the decision is to page.
    pub routed: bool,
}

impl Draft {
    /// What the event's first notice asks of its readers.
    pub fn action(&self) -> Action {
        if self.routed {
            Action::Page
        } else {
            Action::Store
        }
    }
}

/// One event as it is kept. Texts are as they go on the wire, `raw` is the bytes that came (R9).
#[derive(Clone, Debug, PartialEq)]
pub struct Record {
    /// The position of the event's first notice; the order of storing.
    pub position: u64,
    pub event_id: String,
    pub source: String,
    pub kind: Kind,
    pub severity: Severity,
    pub service: String,
    pub summary: String,
    pub description: Option<String>,
    pub started_at: String,
    pub resolved_at: Option<String>,
    pub routed: bool,
    /// Sorted, each once.
    pub delivered_to: Vec<String>,
    pub raw: String,
    /// In whole microseconds; never less than that of the event before.
    pub stored_at: Timestamp,
    pub revision: u32,
    pub correlation_id: String,
}

impl Record {
    pub fn new(draft: &Draft, position: u64, stored_at: Timestamp) -> Self {
        let event = &draft.event;
        Self {
            position,
            event_id: event.event_id.to_string(),
            source: event.source.to_string(),
            kind: event.kind,
            severity: event.severity,
            service: event.service.clone(),
            summary: event.summary.clone(),
            description: event.description.clone(),
            started_at: event.started_at.to_string(),
            resolved_at: event.resolved_at.map(|at| at.to_string()),
            routed: draft.routed,
            delivered_to: Vec::new(),
            raw: event.raw.get().to_owned(),
            stored_at,
            revision: 0,
            correlation_id: draft.correlation_id.to_string(),
        }
    }

    /// About what the event takes in an answer, in bytes.
    pub fn weight(&self) -> usize {
        const METADATA: usize = 512;
        let description = self.description.as_ref().map_or(0, String::len);
        self.raw.len() + self.service.len() + self.summary.len() + description + METADATA
    }
}

/// An event with what each destination has answered so far.
#[derive(Clone, Debug, PartialEq)]
pub struct History {
    pub record: Record,
    pub deliveries: Vec<DeliveryState>,
}

/// One entry of the feed, with its event as it stands now.
#[derive(Clone, Debug, PartialEq)]
pub struct Notice {
    pub position: u64,
    pub revision: u32,
    pub action: Action,
    pub stored_at: Timestamp,
    pub correlation_id: String,
    pub record: Record,
}
