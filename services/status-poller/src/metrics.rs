//! What is counted. Labels are of closed sets: results, and sources, which configuration bounds.

use prometheus::IntCounterVec;
use runtime::metrics::Metrics;

use crate::config::StatusPage;
use crate::error::Error;
use crate::poll::Outcome;

pub(crate) struct Counts {
    polls: IntCounterVec,
    failures: IntCounterVec,
    stored: IntCounterVec,
    malformed: IntCounterVec,
    unknown: IntCounterVec,
    undated: IntCounterVec,
}

impl Counts {
    /// Every series stands at 0 from the start, so that the first failure shows as a rise.
    pub(crate) fn new<'a>(
        metrics: &Metrics,
        pages: impl Iterator<Item = &'a StatusPage> + Clone,
    ) -> Self {
        let polls = metrics.counters(
            "polls_total",
            "Polls of one page, by `ok` or why they failed.",
            "result",
        );
        for result in Error::CODES.iter().chain(&["ok"]) {
            polls.with_label_values(&[result]);
        }
        let counters = |name, help| {
            let counters = metrics.counters(name, help, "source");
            for page in pages.clone() {
                counters.with_label_values(&[page.source.as_str()]);
            }
            counters
        };
        Self {
            polls,
            failures: counters("poll_failures_total", "Polls that failed."),
            stored: counters("events_stored_total", "New events stored."),
            malformed: counters(
                "rows_malformed_total",
                "Rows of pages that could not be read.",
            ),
            unknown: counters(
                "words_unknown_total",
                "Severity words of pages that are not known.",
            ),
            undated: counters(
                "dates_unreadable_total",
                "Dates of pages that are not RFC 3339; where one is needed, now stands for it.",
            ),
        }
    }

    /// Counts one poll.
    pub(crate) fn note(&self, page: &StatusPage, outcome: &Outcome) {
        let result = outcome.error.as_ref().map_or("ok", Error::code);
        self.polls.with_label_values(&[result]).inc();
        let failed = usize::from(outcome.error.is_some());
        for (counter, by) in [
            (&self.failures, failed),
            (&self.stored, outcome.stored),
            (&self.malformed, outcome.malformed),
            (&self.unknown, outcome.unknown),
            (&self.undated, outcome.undated),
        ] {
            counter
                .with_label_values(&[page.source.as_str()])
                .inc_by(u64::try_from(by).unwrap_or_default());
        }
    }
}
