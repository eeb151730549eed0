//! What the driver was told, to be held against what it is told later.

use std::collections::HashMap;

use schema::delivery::Status;

pub(crate) struct Endpoint {
    pub(crate) id: String,
    pub(crate) client: String,
    pub(crate) host: String,
    pub(crate) strict: bool,
    /// `None`: all of the client's own.
    pub(crate) types: Option<Vec<String>>,
    pub(crate) deleted: bool,
}

impl Endpoint {
    pub(crate) fn wants(&self, event_type: &str) -> bool {
        let matches = |pattern: &String| match pattern.strip_suffix('*') {
            Some(prefix) => event_type.starts_with(prefix) && event_type.len() > prefix.len(),
            None => pattern == event_type,
        };
        let types = self.types.as_ref();
        types.is_none_or(|types| types.iter().any(matches))
    }
}

/// An event that was answered with 202.
#[derive(Clone)]
pub(crate) struct Event {
    pub(crate) id: String,
    pub(crate) asked: Asked,
    /// Of each delivery: its id, and its endpoint's.
    pub(crate) deliveries: Vec<(String, String)>,
}

/// An event as it was posted.
#[derive(Clone)]
pub(crate) struct Asked {
    pub(crate) client: String,
    pub(crate) event_type: String,
    /// `None` where Signalpost itself said what.
    pub(crate) payload: Option<String>,
    pub(crate) key: Option<String>,
    pub(crate) ordering_key: Option<String>,
}

impl Asked {
    pub(crate) fn text(&self) -> String {
        let field = |name: &str, value: &Option<String>| match value {
            Some(value) => format!(r#","{name}":"{value}""#),
            None => String::new(),
        };
        format!(
            r#"{{"client_id":"{}","event_type":"{}","payload":{}{}{}}}"#,
            self.client,
            self.event_type,
            self.payload.as_deref().unwrap_or("null"),
            field("idempotency_key", &self.key),
            field("ordering_key", &self.ordering_key),
        )
    }
}

/// The last that was seen of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Seen {
    pub(crate) generation: u32,
    pub(crate) status: Status,
    pub(crate) reason: Option<String>,
    pub(crate) started: u32,
}

#[derive(Default)]
pub(crate) struct Book {
    pub(crate) endpoints: Vec<Endpoint>,
    /// In the order in which they were accepted.
    pub(crate) events: Vec<Event>,
    /// Ids of the hub's events that page.
    pub(crate) pages: Vec<String>,
    /// The hub's store has forgotten what it was told since.
    pub(crate) store_was_lost: bool,
    /// By delivery.
    pub(crate) seen: HashMap<String, Seen>,
}

impl Book {
    pub(crate) fn living(&self) -> impl Iterator<Item = &Endpoint> {
        self.endpoints.iter().filter(|endpoint| !endpoint.deleted)
    }

    pub(crate) fn endpoint(&self, id: &str) -> Option<&Endpoint> {
        self.endpoints.iter().find(|endpoint| endpoint.id == id)
    }
}
