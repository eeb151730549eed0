//! The ordered feed: notices in commit order, read from the reader's own durable cursor.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::value::RawValue;

use crate::event::words;
use crate::{CorrelationId, EventId};

words! {
    /// What a notice asks of its readers.
    Action {
        /// Stored; nobody is paged.
        Store = "store",
        /// Stored, and the decision was to page.
        Page = "page",
        /// An open event has ended.
        Resolve = "resolve",
    }
}

/// The answer of `GET /feed?after=TOKEN&routed=true&limit=&wait=`.
#[derive(Debug, Serialize, Deserialize)]
pub struct FeedPage {
    pub notices: Vec<Notice>,
    /// Where to read on. Opaque; it holds the store's run (R3).
    pub next: String,
    /// The newest position, to tell how far behind a reader is.
    pub head: u64,
    /// The page ended by its limit or its bytes: there is more now. `false` from a store that does not tell yet.
    #[serde(default)]
    pub more: bool,
}

#[derive(Debug, Serialize, Deserialize)]
pub struct Notice {
    pub position: u64,
    pub event_id: EventId,
    pub revision: u32,
    pub action: Action,
    pub stored_at: Timestamp,
    pub correlation_id: CorrelationId,
    /// Who has it already: a reader that starts again must not send to these.
    pub delivered_to: Vec<String>,
    /// The [`Event`](crate::Event), as bytes: what is sent to a destination is what was stored.
    pub event: Box<RawValue>,
}
