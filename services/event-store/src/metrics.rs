//! What event-store counts.

use jiff::{SignedDuration, Timestamp};
use prometheus::{Histogram, IntCounter, IntCounterVec, IntGauge};
use runtime::metrics::{Metrics, at_zero};
use schema::intake::Receipt;
use schema::{Kind, Severity};

use crate::domain::record::Draft;

/// Handles into the service's registry. Cheap to clone.
#[derive(Clone)]
pub struct StoreMetrics {
    received: IntCounterVec,
    stored_severity: IntCounterVec,
    stored_kind: IntCounterVec,
    routed: IntCounter,
    pub outcomes_unknown: IntCounter,
    pub outcomes_rejected: IntCounter,
    pub feed_diverged: IntCounter,
    pub feed_too_old: IntCounter,
    pub forgotten: IntCounter,
    /// Unix seconds.
    pub retention_finished: IntGauge,
    /// Past their time, but open, not delivered or the newest.
    pub retention_kept: IntGauge,
    pub commits: CommitMetrics,
}

/// What the one writer counts.
#[derive(Clone)]
pub struct CommitMetrics {
    pub commits: IntCounter,
    pub failures: IntCounter,
    /// Rows per commit is this over `commits`.
    pub rows: IntCounter,
    pub seconds: Histogram,
    pub head: IntGauge,
    pub clock_clamped: IntCounter,
    pub wal_bytes: IntGauge,
}

const OUTCOMES: [&str; 4] = ["stored", "duplicate", "rejected", "unavailable"];

impl StoreMetrics {
    pub fn new(metrics: &Metrics) -> Self {
        let received = metrics.counters(
            "events_received_total",
            "Events received, by what became of them.",
            "outcome",
        );
        let stored_severity = metrics.counters(
            "events_stored_severity_total",
            "New events, by severity.",
            "severity",
        );
        let stored_kind =
            metrics.counters("events_stored_kind_total", "New events, by kind.", "kind");
        let severities = Severity::ALL.iter().map(|severity| severity.as_str());
        Self {
            received: at_zero(received, OUTCOMES),
            stored_severity: at_zero(stored_severity, severities),
            stored_kind: at_zero(stored_kind, Kind::ALL.iter().map(|kind| kind.as_str())),
            routed: metrics.counter("events_routed_total", "New events routed to a page."),
            outcomes_unknown: metrics.counter(
                "outcomes_unknown_total",
                "Outcomes of events that are not in the store, ignored.",
            ),
            outcomes_rejected: metrics.counter(
                "outcomes_rejected_total",
                "Outcomes that could not be read, ignored.",
            ),
            feed_diverged: metrics.counter(
                "feed_diverged_total",
                "Feed readers whose token was of another history.",
            ),
            feed_too_old: metrics.counter(
                "feed_too_old_total",
                "Feed readers whose token was below the oldest notice kept.",
            ),
            forgotten: metrics.counter(
                "events_forgotten_total",
                "Events that left at the end of their retention.",
            ),
            retention_finished: metrics.gauge(
                "retention_finished_timestamp_seconds",
                "When retention last went through to its end.",
            ),
            retention_kept: metrics.gauge(
                "retention_kept_events",
                "Events past their retention that the last pass kept: open, without an outcome, or the newest.",
            ),
            commits: CommitMetrics::new(metrics),
        }
    }

    /// Counts one item of a batch; `draft` is absent where it could not be read.
    pub fn count(&self, draft: Option<&Draft>, receipt: &Receipt) {
        let outcome = match receipt {
            Receipt::Stored { .. } => "stored",
            Receipt::Duplicate { .. } => "duplicate",
            Receipt::Rejected { .. } => "rejected",
            Receipt::Unavailable { .. } => "unavailable",
        };
        self.received.with_label_values(&[outcome]).inc();
        if let (Some(draft), Receipt::Stored { routed }) = (draft, receipt) {
            let event = &draft.event;
            self.stored_severity
                .with_label_values(&[event.severity.as_str()])
                .inc();
            self.stored_kind
                .with_label_values(&[event.kind.as_str()])
                .inc();
            self.routed.inc_by(u64::from(*routed));
        }
    }
}

/// Times are given out in order, so a clock that went back is overruled; beyond this somebody should know.
const CLAMP_UNREMARKED: SignedDuration = SignedDuration::from_mins(1);

impl CommitMetrics {
    /// Compares the clock with the time that was stored: after a clock that was far ahead, times stand still until the
    /// right one has caught up. Each is counted, the first is told.
    pub fn compare_clock(&self, now: Timestamp, stored_at: Timestamp) {
        let ahead = stored_at.duration_since(now);
        if ahead <= CLAMP_UNREMARKED {
            return;
        }
        if self.clock_clamped.get() == 0 {
            tracing::warn!(
                ahead_s = ahead.as_secs(),
                "the newest event is later than the clock: stored_at stands still until the clock has caught up"
            );
        }
        self.clock_clamped.inc();
    }

    fn new(metrics: &Metrics) -> Self {
        Self {
            commits: metrics.counter("store_commits_total", "Transactions committed."),
            failures: metrics.counter("store_commit_failures_total", "Transactions that failed."),
            rows: metrics.counter(
                "store_committed_rows_total",
                "Rows committed; over the commits, the size of a group.",
            ),
            seconds: metrics.seconds("store_commit_seconds", "Time of one transaction."),
            head: metrics.gauge("store_head", "The newest position."),
            clock_clamped: metrics.counter(
                "clock_clamped_total",
                "Writes at a time more than a minute before the newest stored one, which they were given.",
            ),
            wal_bytes: metrics.gauge("store_wal_bytes", "Size of the write-ahead log."),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_series_stands_at_0_before_anything_happened() {
        let metrics = Metrics::new();
        let _counted = StoreMetrics::new(&metrics);

        let told = String::from_utf8(metrics.render()).unwrap();

        for series in [
            "events_received_total{outcome=\"stored\"}",
            "events_received_total{outcome=\"duplicate\"}",
            "events_received_total{outcome=\"rejected\"}",
            "events_received_total{outcome=\"unavailable\"}",
            "events_stored_severity_total{severity=\"info\"}",
            "events_stored_severity_total{severity=\"warning\"}",
            "events_stored_severity_total{severity=\"critical\"}",
            "events_stored_kind_total{kind=\"incident\"}",
            "events_stored_kind_total{kind=\"status\"}",
            "events_stored_kind_total{kind=\"payment\"}",
            "feed_diverged_total",
            "store_commit_failures_total",
        ] {
            assert!(
                told.contains(&format!("\n{series} 0\n")),
                "{series}\n{told}"
            );
        }
    }

    #[test]
    fn a_clock_is_counted_that_is_more_than_a_minute_behind_what_is_stored() {
        let metrics = CommitMetrics::new(&Metrics::new());
        let stored_at: Timestamp = "2024-01-15T10:00:00Z".parse().unwrap();
        for (now, clamped) in [
            ("2024-01-15T10:00:01Z", 0),
            ("2024-01-15T09:59:00Z", 0),
            ("2024-01-15T09:58:59Z", 1),
            ("2023-01-15T10:00:00Z", 2),
        ] {
            metrics.compare_clock(now.parse().unwrap(), stored_at);
            assert_eq!(metrics.clock_clamped.get(), clamped, "{now}");
        }
    }
}
