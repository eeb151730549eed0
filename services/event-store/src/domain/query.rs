//! Which events a reader asks for.

use jiff::Timestamp;
use schema::{Kind, Severity, Source};

/// One page of events, newest first.
#[derive(Clone, Debug)]
pub struct EventsQuery {
    pub filter: Filter,
    /// Stored at or after.
    pub since: Option<Timestamp>,
    /// Stored before.
    pub until: Option<Timestamp>,
    /// Only events at lower positions: where the page before ended.
    pub before: Option<u64>,
    pub limit: usize,
}

/// What an event must be like. Absent means any.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    pub source: Option<Source>,
    pub kind: Option<Kind>,
    pub severity: Option<Severity>,
    pub open: Option<bool>,
    pub text: Option<Needle>,
}

/// Text to be found in an event, whatever its case.
#[derive(Clone, Debug)]
pub struct Needle(String);

impl Needle {
    pub fn new(text: &str) -> Self {
        Self(text.to_lowercase())
    }

    fn is_in(&self, text: &str) -> bool {
        text.to_lowercase().contains(&self.0)
    }
}

/// What a filter looks at.
#[derive(Clone, Copy, Debug)]
pub struct Facts<'a> {
    pub source: &'a str,
    pub kind: Kind,
    pub severity: Severity,
    pub resolved: bool,
    pub event_id: &'a str,
    pub service: &'a str,
    pub summary: &'a str,
    pub description: Option<&'a str>,
}

impl Facts<'_> {
    /// Has not ended. A payment has no end, so it is never open.
    pub fn open(&self) -> bool {
        !self.resolved && self.kind != Kind::Payment
    }
}

impl Filter {
    pub fn matches(&self, facts: &Facts<'_>) -> bool {
        let source = self.source.as_ref();
        source.is_none_or(|source| source.as_str() == facts.source)
            && self.kind.is_none_or(|kind| kind == facts.kind)
            && self
                .severity
                .is_none_or(|severity| severity == facts.severity)
            && self.open.is_none_or(|open| open == facts.open())
            && self.text.as_ref().is_none_or(|needle| {
                [facts.service, facts.summary, facts.event_id]
                    .into_iter()
                    .chain(facts.description)
                    .any(|text| needle.is_in(text))
            })
    }
}

/// Notices after a position, in commit order.
#[derive(Clone, Debug)]
pub struct FeedQuery {
    /// `None`: from the oldest kept.
    pub after: Option<super::token::Token>,
    pub routed_only: bool,
    pub limit: usize,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_is_found_in_four_fields_whatever_its_case() {
        let facts = Facts {
            source: "braze_status",
            kind: Kind::Incident,
            severity: Severity::Info,
            resolved: false,
            event_id: "braze_status:incident:ABC",
            service: "Braze",
            summary: "Latenz über 5 s",
            description: Some("API Errors"),
        };
        for (text, found) in [
            ("incident:abc", true),
            ("BRAZE", true),
            ("ÜBER", true),
            ("api e", true),
            ("", true),
            // Neither the source nor other fields are searched.
            ("braze_status ", false),
            ("incident api", false),
        ] {
            let filter = Filter {
                text: Some(Needle::new(text)),
                ..Filter::default()
            };
            assert_eq!(filter.matches(&facts), found, "{text:?}");
        }
    }
}
