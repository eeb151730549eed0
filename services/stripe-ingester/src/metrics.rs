//! What is counted. Labels are of closed sets: nothing that a sender chose.

use prometheus::IntCounterVec;
use schema::Severity;
use schema::intake::Receipt;
use signature::stripe::Refusal;

#[derive(Clone)]
pub(crate) struct Metrics {
    signature_refusals: IntCounterVec,
    outcomes: IntCounterVec,
    events: IntCounterVec,
}

impl Metrics {
    /// Every series stands at 0 from the start, so that the first refusal shows as a rise.
    pub(crate) fn new(metrics: &runtime::metrics::Metrics) -> Self {
        let signature_refusals = metrics.counters(
            "stripe_signature_refusals_total",
            "Requests whose signature was refused. A lasting rise means a rotated secret or a wrong clock.",
            "reason",
        );
        for refusal in Refusal::ALL {
            signature_refusals.with_label_values(&[refusal.to_string()]);
        }
        let outcomes = metrics.counters(
            "stripe_receipts_total",
            "What event-store said of verified events.",
            "outcome",
        );
        for outcome in ["stored", "duplicate", "rejected", "unavailable"] {
            outcomes.with_label_values(&[outcome]);
        }
        let events = metrics.counters(
            "stripe_events_stored_total",
            "New events stored, by severity.",
            "severity",
        );
        for severity in Severity::ALL {
            events.with_label_values(&[severity.as_str()]);
        }
        Self {
            signature_refusals,
            outcomes,
            events,
        }
    }

    pub(crate) fn count_refusal(&self, refusal: Refusal) {
        self.signature_refusals
            .with_label_values(&[refusal.to_string()])
            .inc();
    }

    pub(crate) fn count_receipt(&self, receipt: &Receipt, severity: Severity) {
        self.outcomes.with_label_values(&[outcome(receipt)]).inc();
        if matches!(receipt, Receipt::Stored { .. }) {
            self.events.with_label_values(&[severity.as_str()]).inc();
        }
    }
}

/// A receipt as one word, for labels and logs.
pub(crate) fn outcome(receipt: &Receipt) -> &'static str {
    match receipt {
        Receipt::Stored { .. } => "stored",
        Receipt::Duplicate { .. } => "duplicate",
        Receipt::Rejected { .. } => "rejected",
        Receipt::Unavailable { .. } => "unavailable",
    }
}
