//! One row of a page as one event: severities, identity, text.

use jiff::Timestamp;
use schema::{Event, EventId, Kind, Severity, Source};
use sha2::{Digest as _, Sha256};

use super::page::{Component, Incident};

/// The longest part of an event id that is the vendor's own; with the longest source and an episode it stays below 255.
const VENDOR_ID_MAX: usize = 160;
/// Characters of a name.
const NAME_MAX: usize = 256;
/// Characters of a description.
const DESCRIPTION_MAX: usize = 4096;
/// Bytes of an update's text that are looked at.
const UPDATE_MAX: usize = 32 * 1024;

/// A severity, and whether the vendor's word for it was one we know.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Graded {
    pub(super) severity: Severity,
    pub(super) known: bool,
}

/// An unknown or missing word is a warning: too much said rather than too little.
const UNKNOWN: Graded = Graded {
    severity: Severity::Warning,
    known: false,
};

fn known(severity: Severity) -> Graded {
    Graded {
        severity,
        known: true,
    }
}

pub(super) fn incident_severity(impact: Option<&str>) -> Graded {
    match impact {
        Some("critical" | "major") => known(Severity::Critical),
        Some("minor") => known(Severity::Warning),
        Some("none" | "maintenance") => known(Severity::Info),
        _ => UNKNOWN,
    }
}

/// `None` where nothing is wrong.
pub(super) fn component_severity(status: &str) -> Option<Graded> {
    match status {
        "operational" | "under_maintenance" => None,
        "degraded_performance" => Some(known(Severity::Warning)),
        // `full_outage` is what incident.io's compatible pages say.
        "partial_outage" | "major_outage" | "full_outage" => Some(known(Severity::Critical)),
        _ => Some(UNKNOWN),
    }
}

pub(super) fn incident_event(
    source: &Source,
    service: &str,
    incident: &Incident,
    now: Timestamp,
) -> Option<Event> {
    let started_at = incident
        .started_at
        .or(incident.created_at)
        .or(incident.updated_at)
        .unwrap_or(now);
    Some(Event {
        event_id: incident_id(source, &incident.id)?,
        source: source.clone(),
        kind: Kind::Incident,
        severity: incident_severity(incident.impact.as_deref()).severity,
        service: service.to_owned(),
        summary: name_or_id(incident.name.as_deref(), &incident.id),
        description: incident.newest_update.as_deref().and_then(description),
        started_at,
        resolved_at: resolved_at(incident, now),
        raw: incident.raw.clone(),
    })
}

/// When an incident ended, for one that has.
fn resolved_at(incident: &Incident, now: Timestamp) -> Option<Timestamp> {
    let over = matches!(incident.status.as_deref(), Some("resolved" | "postmortem"));
    incident
        .resolved_at
        .or_else(|| over.then(|| incident.updated_at.unwrap_or(now)))
}

/// The event that opens an episode of a bad component.
pub(super) fn component_event(
    source: &Source,
    service: &str,
    component: &Component,
    severity: Severity,
    now: Timestamp,
) -> Option<Event> {
    let started_at = component.updated_at.unwrap_or(now);
    let episode = started_at.strftime("%Y%m%dT%H%M%S%3fZ");
    let event_id = EventId::parse(&format!(
        "{}{episode}",
        component_prefix(source, &component.id)
    ))?;
    let name = name_or_id(component.name.as_deref(), &component.id);
    Some(Event {
        event_id,
        source: source.clone(),
        kind: Kind::Status,
        severity,
        service: service.to_owned(),
        summary: format!("{name} is {}", one_line(&component.status, NAME_MAX)),
        description: None,
        started_at,
        resolved_at: None,
        raw: component.raw.clone(),
    })
}

fn incident_id(source: &Source, id: &str) -> Option<EventId> {
    EventId::parse(&format!("{source}:incident:{}", vendor_id(id)))
}

/// What the ids of all episodes of a component begin with, and of no other component.
pub(super) fn component_prefix(source: &Source, id: &str) -> String {
    format!("{source}:component:{}:", vendor_id(id))
}

/// The vendor's id as it stands in ours. One that is too long or has other characters (the colon too, which parts ours)
/// keeps what fits, and a hash of the whole keeps it unique.
fn vendor_id(id: &str) -> String {
    let allowed = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '.' | '-');
    if id.len() <= VENDOR_ID_MAX && id.chars().all(allowed) {
        return id.to_owned();
    }
    let hash = hex::encode(Sha256::digest(id));
    let kept: String = id
        .chars()
        .take(VENDOR_ID_MAX - hash.len() - 1)
        .map(|c| if allowed(c) { c } else { '_' })
        .collect();
    format!("{kept}-{hash}")
}

fn name_or_id(name: Option<&str>, id: &str) -> String {
    let name = one_line(name.unwrap_or_default(), NAME_MAX);
    if name.is_empty() {
        one_line(id, NAME_MAX)
    } else {
        name
    }
}

pub(super) fn service(page_name: Option<&str>, source: &Source) -> String {
    name_or_id(page_name, source.as_str())
}

fn description(update: &str) -> Option<String> {
    let looked_at = &update[..update.floor_char_boundary(UPDATE_MAX.min(update.len()))];
    let text = one_line(&without_html(looked_at), DESCRIPTION_MAX);
    (!text.is_empty()).then_some(text)
}

/// Every run of blanks and control characters as one blank, and at most `max` characters.
fn one_line(text: &str, max: usize) -> String {
    let spaced = text.replace(char::is_control, " ");
    let mut line = String::with_capacity(spaced.len().min(4 * max));
    for word in spaced.split_whitespace() {
        if !line.is_empty() {
            line.push(' ');
        }
        line.push_str(word);
    }
    if let Some((end, _)) = line.char_indices().nth(max) {
        line.truncate(end);
    }
    line
}

/// Tags become blanks, the common entities their characters. A `<` that begins no tag stays.
fn without_html(text: &str) -> String {
    let mut plain = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(open) = rest.find('<') {
        plain.push_str(&rest[..open]);
        let tag = &rest[open + 1..];
        let begins_tag =
            tag.starts_with(|c: char| c.is_ascii_alphabetic() || matches!(c, '/' | '!'));
        match tag.find('>') {
            Some(close) if begins_tag => {
                plain.push(' ');
                rest = &tag[close + 1..];
            }
            _ => {
                plain.push('<');
                rest = tag;
            }
        }
    }
    plain.push_str(rest);
    [
        ("&lt;", "<"),
        ("&gt;", ">"),
        ("&quot;", "\""),
        ("&#39;", "'"),
        ("&nbsp;", " "),
        // Last, so that `&amp;lt;` becomes `&lt;`.
        ("&amp;", "&"),
    ]
    .iter()
    .fold(plain, |text, (entity, character)| {
        text.replace(entity, character)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_impact_has_its_severity() {
        for (impact, severity, known) in [
            (Some("critical"), Severity::Critical, true),
            (Some("major"), Severity::Critical, true),
            (Some("minor"), Severity::Warning, true),
            (Some("none"), Severity::Info, true),
            (Some("maintenance"), Severity::Info, true),
            (Some("Major"), Severity::Warning, false),
            (Some("catastrophic"), Severity::Warning, false),
            (Some(""), Severity::Warning, false),
            (None, Severity::Warning, false),
        ] {
            assert_eq!(
                incident_severity(impact),
                Graded { severity, known },
                "{impact:?}"
            );
        }
    }

    #[test]
    fn every_component_status_has_its_severity_or_none() {
        for (status, severity, known) in [
            ("degraded_performance", Severity::Warning, true),
            ("partial_outage", Severity::Critical, true),
            ("major_outage", Severity::Critical, true),
            ("full_outage", Severity::Critical, true),
            ("on_fire", Severity::Warning, false),
            ("", Severity::Warning, false),
        ] {
            assert_eq!(
                component_severity(status),
                Some(Graded { severity, known }),
                "{status}"
            );
        }
        for status in ["operational", "under_maintenance"] {
            assert_eq!(component_severity(status), None, "{status}");
        }
    }

    #[test]
    fn a_vendors_id_stands_in_ours_as_it_is_or_hashed_but_always_fits() {
        let source = Source::status_page(&"v".repeat(48)).unwrap();
        let longest = "x".repeat(VENDOR_ID_MAX);
        for id in ["comp_api", "8l4ygp009s5s", "01HX.A-B", longest.as_str()] {
            assert_eq!(vendor_id(id), id);
        }
        let long = "x".repeat(10_000);
        let odd = ["a b", "a:b", "ä", "a/../b", long.as_str(), "\u{0}", "a_b:"];
        for id in odd.into_iter().chain([longest.as_str()]) {
            let ours = format!("{}20240115T110000000Z", component_prefix(&source, id));
            assert!(EventId::parse(&ours).is_some(), "{ours}");
            assert!(incident_id(&source, id).is_some());
            assert_eq!(component_prefix(&source, id).matches(':').count(), 3);
        }
        assert_ne!(vendor_id("a b"), vendor_id("a:b"));
        assert_ne!(vendor_id(&long), vendor_id(&"x".repeat(10_001)));
    }

    #[test]
    fn descriptions_are_plain_text_on_one_line() {
        for (update, text) in [
            (
                "<p>We are <b>investigating</b>.</p><br/>More\r\nsoon",
                Some("We are investigating . More soon"),
            ),
            (
                "latency < 5 ms &amp; 3 > 2 &amp;lt;",
                Some("latency < 5 ms & 3 > 2 &lt;"),
            ),
            ("<a href=\"https://x.example\">a link</a>", Some("a link")),
            ("an open <tag", Some("an open <tag")),
            ("<!-- hidden -->", None),
            ("\u{1b}[31mred\u{0}", Some("[31mred")),
            ("  ", None),
        ] {
            assert_eq!(description(update).as_deref(), text, "{update}");
        }
        assert_eq!(
            description(&"é".repeat(100_000)).unwrap().chars().count(),
            DESCRIPTION_MAX
        );
    }
}
