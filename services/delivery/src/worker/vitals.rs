//! What the worker tells of itself: metrics, and the facts behind `/readyz`.

use std::iter;
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use jiff::Timestamp;
use prometheus::{IntCounter, IntCounterVec, IntGauge};
use runtime::metrics::{Metrics, at_zero};
use tokio::time::Instant;

use crate::domain::pages::Undelivered;
use crate::domain::transition::{ExhaustReason, SHOUTED, SkipReason};
use crate::domain::verdict::Verdict;
use crate::storage::Timers;

/// Why the feed is read again from the oldest.
const FEED_RESTARTS: [&str; 2] = ["too_old", "diverged"];

/// How a page can end undelivered.
const PAGES_GIVEN_UP: [&str; 3] = [
    ExhaustReason::MaxAttempts.as_str(),
    ExhaustReason::Canceled.as_str(),
    SkipReason::TooOld.as_str(),
];

pub struct Vitals {
    pub timers: Timers,
    pub(crate) attempts: IntCounterVec,
    pub(crate) interrupted: IntCounter,
    pub(crate) put_back: IntCounter,
    pub(crate) exhausted: IntCounterVec,
    pub(crate) skipped: IntCounterVec,
    pub(crate) refused: IntCounter,
    pub(crate) outcomes_dropped: IntCounter,
    pub(crate) feed_restarts: IntCounterVec,
    pages_failed: IntCounterVec,
    pub(crate) pages_undelivered: IntGauge,
    pub(crate) pages_oldest_age_s: IntGauge,
    pub(crate) pages_age_s: IntGauge,
    pub(crate) feed_behind: IntGauge,
    pub(crate) feed_age_s: IntGauge,
    pub(crate) feed_lag_s: IntGauge,
    pub(crate) jobs_age_s: IntGauge,
    pub(crate) retention_age_s: IntGauge,
    pub(crate) reports_age_s: IntGauge,
    pub(crate) oldest_due_age_s: IntGauge,
    pub(crate) open: IntGauge,
    pub(crate) breakers_open: IntGauge,
    pub(crate) wal_bytes: IntGauge,
    started: Instant,
    facts: Mutex<Facts>,
}

/// What is known of the worker's neighbours.
#[derive(Clone, Debug, Default)]
pub struct Facts {
    pub feed_read_at: Option<Instant>,
    /// Since when at most the feed has what is not read.
    pub unread_since: Option<Timestamp>,
    /// Why the last read of the feed failed, while none has worked since.
    pub feed_fault: Option<String>,
    /// When jobs were last looked for.
    pub jobs_at: Option<Instant>,
    /// When retention last took a slice.
    pub retired_at: Option<Instant>,
    /// When the oldest outcome that is not reported was made.
    pub unreported_since: Option<Timestamp>,
    /// The word of the last failed attempt, while none has worked since, and since when.
    pub destination_failing: Option<(Timestamp, String)>,
    /// Since the process started.
    pub exhausted: u64,
    /// Pages that nobody has got, as they were found last.
    pub pages: Undelivered,
    /// When they were looked for.
    pub pages_at: Option<Instant>,
}

impl Vitals {
    pub fn new(metrics: &Metrics) -> Self {
        Self {
            timers: Timers {
                commit: metrics.seconds(
                    "delivery_commit_seconds",
                    "Time of one commit of the store, with the checkpoint that it may have made.",
                ),
                checkpoint: metrics.seconds(
                    "delivery_checkpoint_seconds",
                    "Time of one checkpoint: what was committed is moved from the write-ahead log into the file.",
                ),
            },
            attempts: at_zero(
                metrics.counters(
                    "delivery_attempts_total",
                    "Finished attempts, by success or error.",
                    "result",
                ),
                iter::once(Verdict::Success.word()).chain(Verdict::errors()),
            ),
            interrupted: metrics.counter(
                "delivery_interrupted_total",
                "Attempts whose owner ended before their result was on record.",
            ),
            put_back: metrics.counter(
                "delivery_put_back_total",
                "Deliveries that were queued again because their attempt left them astray.",
            ),
            exhausted: at_zero(
                metrics.counters(
                    "delivery_exhausted_total",
                    "Deliveries for which no more attempts will come.",
                    "reason",
                ),
                SHOUTED.map(ExhaustReason::as_str),
            ),
            skipped: at_zero(
                metrics.counters(
                    "deliveries_skipped_total",
                    "Deliveries that are on record and were never sent.",
                    "reason",
                ),
                SkipReason::ALL.iter().map(|reason| reason.as_str()),
            ),
            refused: metrics.counter(
                "delivery_fence_refusals_total",
                "Writes of an owner or attempt that was not the current one.",
            ),
            outcomes_dropped: metrics.counter(
                "delivery_outcomes_dropped_total",
                "Outcomes that event-store refused for good.",
            ),
            feed_restarts: at_zero(
                metrics.counters(
                    "delivery_feed_restarts_total",
                    "Times the feed was read again from the oldest.",
                    "reason",
                ),
                FEED_RESTARTS,
            ),
            pages_failed: at_zero(
                metrics.counters(
                    "pages_failed_total",
                    "Pages by what went wrong: the error of the first attempt that failed, and why one was given up.",
                    "reason",
                ),
                Verdict::errors().chain(PAGES_GIVEN_UP),
            ),
            pages_undelivered: metrics.gauge(
                "pages_undelivered",
                "Pages that were held, refused, canceled or are late, and that nobody has got.",
            ),
            pages_oldest_age_s: metrics.gauge(
                "page_oldest_undelivered_age_seconds",
                "Time since delivery took in the oldest page that is undelivered.",
            ),
            pages_age_s: metrics.gauge(
                "delivery_pages_age_seconds",
                "Time since undelivered pages were last looked for, or since the start.",
            ),
            feed_behind: metrics.gauge(
                "delivery_feed_behind",
                "Positions of the feed that are not read yet.",
            ),
            feed_age_s: metrics.gauge(
                "delivery_feed_age_seconds",
                "Time since the feed was last read, or since the start.",
            ),
            feed_lag_s: metrics.gauge(
                "delivery_feed_lag_seconds",
                "Age at most of the oldest event that is not read, as of the last read.",
            ),
            jobs_age_s: metrics.gauge(
                "delivery_jobs_age_seconds",
                "Time since jobs were last looked for, or since the start.",
            ),
            retention_age_s: metrics.gauge(
                "delivery_retention_age_seconds",
                "Time since old deliveries were last removed, or since the start.",
            ),
            reports_age_s: metrics.gauge(
                "delivery_reports_age_seconds",
                "Age of the oldest outcome that event-store does not know.",
            ),
            oldest_due_age_s: metrics.gauge(
                "delivery_oldest_due_age_seconds",
                "How long the longest waiting delivery has been due.",
            ),
            open: metrics.gauge(
                "delivery_open",
                "Deliveries that are neither ended nor skipped.",
            ),
            breakers_open: metrics.gauge(
                "delivery_breakers_open",
                "Endpoints whose circuit breaker holds deliveries back.",
            ),
            wal_bytes: metrics.gauge("delivery_wal_bytes", "Size of the store's write-ahead log."),
            started: Instant::now(),
            facts: Mutex::default(),
        }
    }

    pub fn facts(&self) -> Facts {
        self.lock().clone()
    }

    /// Time since a moment of this process; since its start where there was none. Not by the wall clock (R7).
    pub fn since(&self, moment: Option<Instant>) -> Duration {
        moment.unwrap_or(self.started).elapsed()
    }

    pub(crate) fn count_failed_page(&self, reason: &'static str) {
        self.pages_failed.with_label_values(&[reason]).inc();
    }

    #[cfg(test)]
    pub(crate) fn failed_pages(&self, reason: &'static str) -> u64 {
        self.pages_failed.with_label_values(&[reason]).get()
    }

    pub(crate) fn note(&self, change: impl FnOnce(&mut Facts)) {
        change(&mut self.lock());
    }

    fn lock(&self) -> MutexGuard<'_, Facts> {
        self.facts.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Whole seconds from then to now, never negative.
pub(crate) fn age_s(then: Option<Timestamp>, now: Timestamp) -> i64 {
    then.map_or(0, |then| now.duration_since(then).as_secs().max(0))
}

pub(crate) fn whole_s(age: Duration) -> i64 {
    i64::try_from(age.as_secs()).unwrap_or(i64::MAX)
}
