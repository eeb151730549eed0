//! How fresh what is known of each source is.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::IntGaugeVec;
use runtime::health::Finding;
use runtime::metrics::Metrics;
use serde_json::json;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::StatusPage;
use crate::poll::Outcome;

/// A source that has not been polled well for this long, or for three rings of a slower schedule, is stale.
const STALE_AFTER: Duration = Duration::from_secs(5 * 60);
/// Between two settings of the age gauges.
const AGES_EVERY: Duration = Duration::from_secs(5);

/// How long ago each configured source was last polled well.
pub(crate) struct Freshness {
    started: Instant,
    stale_after: Duration,
    sources: Mutex<BTreeMap<String, Polled>>,
    ages: IntGaugeVec,
}

#[derive(Clone, Copy, Default)]
struct Polled {
    well_at: Option<Instant>,
    /// Why the last poll failed, if it did.
    error: Option<&'static str>,
}

impl Freshness {
    /// Knows the configured pages. `longest_gap` is the schedule's.
    pub(crate) fn new(
        pages: &[Arc<StatusPage>],
        longest_gap: Duration,
        metrics: &Metrics,
    ) -> Arc<Self> {
        let ages = metrics.gauges(
            "poll_age_seconds",
            "Since the last poll that went well, or since the start.",
            "source",
        );
        let sources: BTreeMap<String, Polled> = pages
            .iter()
            .filter(|page| page.is_configured())
            .map(|page| (page.source.to_string(), Polled::default()))
            .collect();
        for source in sources.keys() {
            ages.with_label_values(&[source]);
        }
        Arc::new(Self {
            started: Instant::now(),
            stale_after: STALE_AFTER.max(longest_gap * 3),
            sources: Mutex::new(sources),
            ages,
        })
    }

    pub(crate) fn note(&self, page: &StatusPage, outcome: &Outcome) {
        if let Some(polled) = self.lock().get_mut(page.source.as_str()) {
            polled.error = outcome.error.as_ref().map(crate::error::Error::code);
            if polled.error.is_none() {
                polled.well_at = Some(Instant::now());
            }
        }
    }

    /// Each source with its age, for `/readyz`.
    pub(crate) fn finding(&self) -> Finding {
        let mut stale = Vec::new();
        let mut facts = serde_json::Map::new();
        for (source, polled) in self.lock().iter() {
            let age = self.age(polled);
            facts.insert(
                source.clone(),
                json!({"age_s": age.as_secs(), "last_error": polled.error}),
            );
            if age > self.stale_after {
                stale.push(source.clone());
            }
        }
        let finding = if stale.is_empty() {
            Finding::up()
        } else {
            Finding::degraded(format!("stale: {}", stale.join(", ")))
        };
        finding.with("sources", facts)
    }

    /// Sets the age gauges until the token is cancelled.
    pub(crate) async fn keep_ages(&self, shutdown: CancellationToken) {
        let mut every = tokio::time::interval(AGES_EVERY);
        let keeping = async {
            loop {
                every.tick().await;
                for (source, polled) in self.lock().iter() {
                    let age = i64::try_from(self.age(polled).as_secs()).unwrap_or(i64::MAX);
                    self.ages.with_label_values(&[source]).set(age);
                }
            }
        };
        shutdown.run_until_cancelled(keeping).await;
    }

    fn age(&self, polled: &Polled) -> Duration {
        polled.well_at.unwrap_or(self.started).elapsed()
    }

    // What a panicking holder left behind is whole: every change is one assignment.
    fn lock(&self) -> std::sync::MutexGuard<'_, BTreeMap<String, Polled>> {
        self.sources.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use runtime::health::Status;
    use schema::Source;

    use super::*;
    use crate::config::Origin;
    use crate::error::Error;

    fn page() -> Arc<StatusPage> {
        Arc::new(StatusPage {
            vendor: "x".to_owned(),
            source: Source::status_page("x").unwrap(),
            origin: Origin::Url("http://x.example/".parse().unwrap()),
        })
    }

    async fn status_after(freshness: &Freshness, seconds: u64) -> Status {
        tokio::time::sleep(Duration::from_secs(seconds)).await;
        freshness.finding().status
    }

    #[tokio::test(start_paused = true)]
    async fn a_source_is_stale_after_five_minutes_without_a_good_poll() {
        let page = page();
        let freshness = Freshness::new(
            std::slice::from_ref(&page),
            Duration::from_secs(60),
            &Metrics::new(),
        );
        let failed = || Outcome {
            error: Some(Error::Redirect),
            ..Outcome::default()
        };

        assert_eq!(status_after(&freshness, 299).await, Status::Up);
        freshness.note(&page, &failed());
        assert_eq!(status_after(&freshness, 2).await, Status::Degraded);
        freshness.note(&page, &Outcome::default());
        assert_eq!(status_after(&freshness, 299).await, Status::Up);
        freshness.note(&page, &failed());
        assert_eq!(status_after(&freshness, 2).await, Status::Degraded);
        assert_eq!(
            freshness.finding().detail["sources"]["x_status"],
            json!({"age_s": 301, "last_error": "redirect"})
        );
    }

    #[tokio::test(start_paused = true)]
    async fn a_slow_schedule_is_given_three_rings() {
        let hour = Duration::from_secs(3600);
        let freshness = Freshness::new(&[page()], hour, &Metrics::new());

        assert_eq!(status_after(&freshness, 3 * 3600).await, Status::Up);
        assert_eq!(status_after(&freshness, 1).await, Status::Degraded);
    }
}
