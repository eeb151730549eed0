//! What a snapshot of a page changes, given the source's open events.
//!
//! A pure function of (snapshot, open events, now). It stores an incident once and opens one episode of a bad component;
//! an episode goes on while the component is bad, whatever `updated_at` does, and ends when it is well again.

use std::collections::HashMap;

use jiff::Timestamp;
use schema::{Event, EventId, Source};

use super::normalize::{
    component_event, component_prefix, component_severity, incident_event, incident_severity,
    service,
};
use super::page::{Component, Page};

/// An event of the source that event-store has as open.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Open {
    pub event_id: EventId,
    pub started_at: Timestamp,
}

/// An event that has ended, and when.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ended {
    pub event_id: EventId,
    pub resolved_at: Timestamp,
}

/// What must be done so that the store says what the page says.
#[derive(Debug, Default)]
pub struct Plan {
    /// Events that are not open in the store. One that was stored and has ended is a duplicate there.
    pub store: Vec<Event>,
    pub resolve: Vec<Ended>,
    /// Incidents and bad components on the page now, known or new.
    pub fetched: usize,
    /// Severity words that we do not know.
    pub unknown: usize,
    /// Rows of the page that could not be read.
    pub malformed: usize,
    /// Dates of the page that could not be read.
    pub undated: usize,
}

pub fn diff(source: &Source, page: &Page, open: &[Open], now: Timestamp) -> Plan {
    let mut plan = Plan {
        malformed: page.malformed,
        undated: page.undated,
        ..Plan::default()
    };
    let service = service(page.name.as_deref(), source);
    for incident in newest_of_each(&page.incidents, |row| (&row.id, row.updated_at)) {
        plan.count(incident_severity(incident.impact.as_deref()).known);
        match incident_event(source, &service, incident, now) {
            Some(event) if open.iter().any(|open| open.event_id == event.event_id) => {}
            Some(event) => plan.store.push(event),
            None => plan.malformed += 1,
        }
    }
    for component in newest_of_each(&page.components, |row| (&row.id, row.updated_at)) {
        let prefix = component_prefix(source, &component.id);
        let mut episodes = open
            .iter()
            .filter(|open| open.event_id.as_str().starts_with(&prefix))
            .peekable();
        match component_severity(&component.status) {
            None => plan
                .resolve
                .extend(episodes.filter_map(|episode| ended(episode, component, now))),
            Some(graded) => {
                plan.count(graded.known);
                if episodes.peek().is_some() {
                    continue;
                }
                match component_event(source, &service, component, graded.severity, now) {
                    Some(event) => plan.store.push(event),
                    None => plan.malformed += 1,
                }
            }
        }
    }
    plan
}

impl Plan {
    fn count(&mut self, known: bool) {
        self.fetched += 1;
        self.unknown += usize::from(!known);
    }
}

/// `None` where the row is older than the episode: a vendor's cache sometimes answers with an earlier page.
fn ended(episode: &Open, component: &Component, now: Timestamp) -> Option<Ended> {
    let resolved_at = component.updated_at.unwrap_or(now);
    (resolved_at >= episode.started_at).then(|| Ended {
        event_id: episode.event_id.clone(),
        resolved_at,
    })
}

/// In the page's order; of rows with one id the one updated last.
fn newest_of_each<'a, T>(
    rows: &'a [T],
    key: impl Fn(&'a T) -> (&'a String, Option<Timestamp>),
) -> Vec<&'a T> {
    let mut places: HashMap<&str, usize> = HashMap::with_capacity(rows.len());
    let mut newest: Vec<&T> = Vec::with_capacity(rows.len());
    for row in rows {
        let (id, updated_at) = key(row);
        match places.get(id.as_str()) {
            Some(&place) if updated_at >= key(newest[place]).1 => newest[place] = row,
            Some(_) => {}
            None => {
                places.insert(id, newest.len());
                newest.push(row);
            }
        }
    }
    newest
}

#[cfg(test)]
mod tests;
