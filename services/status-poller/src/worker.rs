//! The loop that polls: one poll at a time, rung for by the schedule or asked for by a caller.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use prometheus::IntGaugeVec;
use runtime::clock::Clock;
use runtime::health::Finding;
use runtime::ids;
use runtime::metrics::Metrics;
use schema::CorrelationId;
use schema::status::{PullError, PullReport};
use serde_json::json;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::Instant;
use tokio_util::sync::CancellationToken;

use crate::config::StatusPage;
use crate::poll::{Outcome, Poller};
use crate::schedule::Ring;

/// A source that has not been polled well for this long, or for three rings of a slower schedule, is stale.
const STALE_AFTER: Duration = Duration::from_secs(5 * 60);
/// Between two settings of the age gauges.
const AGES_EVERY: Duration = Duration::from_secs(5);

/// Somebody asks for a poll of all pages, fixtures included.
pub(crate) struct Pull {
    pub(crate) correlation_id: CorrelationId,
    pub(crate) report: oneshot::Sender<PullReport>,
}

pub(crate) struct Worker {
    pub(crate) poller: Arc<Poller>,
    pub(crate) pages: Vec<Arc<StatusPage>>,
    pub(crate) freshness: Arc<Freshness>,
    pub(crate) clock: Clock,
    pub(crate) rings: mpsc::Receiver<Ring>,
    pub(crate) pulls: mpsc::Receiver<Pull>,
}

impl Worker {
    /// Polls until the token is cancelled. A poll under way is given up: the next one finds what it would have found.
    pub(crate) async fn run(mut self, shutdown: CancellationToken) {
        shutdown
            .run_until_cancelled(async {
                loop {
                    self.step().await;
                }
            })
            .await;
    }

    /// Waits for one ring or pull, and does it.
    async fn step(&mut self) {
        tokio::select! {
            Some(Ring) = self.rings.recv() => {
                let correlation_id = ids::correlation_id(self.clock.now());
                self.poll(&correlation_id, StatusPage::is_configured).await;
            }
            Some(pull) = self.pulls.recv() => {
                // Whoever has stopped waiting was told to come again.
                if !pull.report.is_closed() {
                    let report = self.poll(&pull.correlation_id, |_| true).await;
                    let _unheard = pull.report.send(report);
                }
            }
            // Both senders are gone only while the service stops.
            else => std::future::pending().await,
        }
    }

    /// Polls the chosen pages at once; each is bounded, and none waits for another.
    async fn poll(
        &self,
        correlation_id: &CorrelationId,
        chosen: impl Fn(&StatusPage) -> bool,
    ) -> PullReport {
        let mut polls = JoinSet::new();
        for page in self.pages.iter().filter(|page| chosen(page)) {
            let (poller, page, correlation_id) = (
                Arc::clone(&self.poller),
                Arc::clone(page),
                correlation_id.clone(),
            );
            polls.spawn(async move {
                let outcome = poller.poll(&page, &correlation_id).await;
                (page, outcome)
            });
        }
        let mut report = PullReport::default();
        while let Some(polled) = polls.join_next().await {
            match polled {
                Ok((page, outcome)) => {
                    self.freshness.note(&page, &outcome);
                    enter(&mut report, &page, outcome);
                }
                Err(fault) => tracing::error!(%correlation_id, %fault, "a poll broke off"),
            }
        }
        report.errors.sort_by(|a, b| a.source.cmp(&b.source));
        tracing::info!(
            %correlation_id,
            pages = report.fetched.len(),
            failed = report.errors.len(),
            stored = report.stored,
            routed = report.routed,
            resolved = report.resolved,
            malformed = report.malformed,
            "status pages polled"
        );
        report
    }
}

fn enter(report: &mut PullReport, page: &StatusPage, outcome: Outcome) {
    report.fetched.insert(page.vendor.clone(), outcome.fetched);
    report.stored += outcome.stored;
    report.routed += outcome.routed;
    report.resolved += outcome.resolved;
    report.malformed += outcome.malformed;
    report.errors.extend(outcome.error.map(|error| PullError {
        source: page.source.to_string(),
        code: error.code().to_owned(),
    }));
}

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
        let sources = pages
            .iter()
            .filter(|page| page.is_configured())
            .map(|page| (page.source.to_string(), Polled::default()))
            .collect();
        Arc::new(Self {
            started: Instant::now(),
            stale_after: STALE_AFTER.max(longest_gap * 3),
            sources: Mutex::new(sources),
            ages: metrics.gauges(
                "poll_age_seconds",
                "Since the last poll that went well, or since the start.",
                "source",
            ),
        })
    }

    fn note(&self, page: &StatusPage, outcome: &Outcome) {
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
