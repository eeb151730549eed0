//! From a Stripe event to ours.

use schema::{Event, Kind, Severity, Source};

use super::parse::StripeEvent;

/// The longest summary, in characters.
const SUMMARY_MAX: usize = 1024;
/// The longest description, in characters.
const DESCRIPTION_MAX: usize = 4096;

/// The event as everything after the ingester sees it.
pub fn normalize(stripe: &StripeEvent<'_>) -> Event {
    let subject = &stripe.subject;
    let summary = match subject.id.as_deref().or(subject.object.as_deref()) {
        Some(about) => one_line(&[&stripe.event_type, ": ", about], SUMMARY_MAX),
        None => one_line(&[&stripe.event_type], SUMMARY_MAX),
    };
    Event {
        event_id: stripe.id.clone(),
        source: Source::stripe(),
        kind: Kind::Payment,
        severity: severity(&stripe.event_type),
        service: "stripe".to_owned(),
        summary,
        description: subject
            .failure
            .as_deref()
            .map(|failure| one_line(&[failure], DESCRIPTION_MAX)),
        started_at: stripe.created,
        resolved_at: None,
        raw: stripe.raw.to_owned(),
    }
}

fn severity(event_type: &str) -> Severity {
    match event_type {
        "payout.failed" => Severity::Critical,
        "payment_intent.payment_failed" => Severity::Warning,
        _ => Severity::Info,
    }
}

/// The parts as one text of at most `max` characters, with blanks for what would move a terminal's cursor.
fn one_line(parts: &[&str], max: usize) -> String {
    parts
        .iter()
        .flat_map(|part| part.chars())
        .take(max)
        .map(|c| if c.is_control() { ' ' } else { c })
        .collect()
}
