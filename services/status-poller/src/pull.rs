//! A pull: every source at once, fixtures included, each in a run of its own.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::join_all;
use schema::status::{Fetched, PullError, PullReport};
use schema::{CorrelationId, Source};
use tokio::sync::watch;
use tokio::time::{Instant, timeout_at};

use crate::config::StatusPage;
use crate::error::Error;
use crate::poll::Outcome;
use crate::worker::{Asked, Done};

/// A source that is not read within this is told as `timeout`: as long as a page that hangs takes twice, in the run under
/// way and in the one that is waited for.
const WITHIN: Duration = Duration::from_secs(30);

/// The way to the runs of every source, in the order of the configuration.
#[derive(Clone)]
pub(crate) struct Sources(pub(crate) Arc<[AskSource]>);

/// The way to one source's runs.
pub(crate) struct AskSource {
    pub(crate) vendor: String,
    pub(crate) source: Source,
    pub(crate) asked: watch::Sender<Asked>,
    pub(crate) done: watch::Receiver<Done>,
}

/// The service is stopping, and nothing runs any more.
#[derive(Debug)]
pub(crate) struct Stopping;

impl Sources {
    /// Reads every page, in 30 s at most. A source that fails is told in the report.
    pub(crate) async fn pull(
        &self,
        correlation_id: &CorrelationId,
    ) -> Result<PullReport, Stopping> {
        let until = Instant::now() + WITHIN;
        let runs = self
            .0
            .iter()
            .map(|source| source.run(correlation_id, until));
        let mut report = PullReport::default();
        for (source, outcome) in self.0.iter().zip(join_all(runs).await) {
            enter(&mut report, source, outcome?);
        }
        report.errors.sort_by(|a, b| a.source.cmp(&b.source));
        Ok(report)
    }
}

impl AskSource {
    pub(crate) fn of(
        page: &StatusPage,
        asked: watch::Sender<Asked>,
        done: watch::Receiver<Done>,
    ) -> Self {
        Self {
            vendor: page.vendor.clone(),
            source: page.source.clone(),
            asked,
            done,
        }
    }

    /// What a run that begins from now on comes to.
    pub(crate) async fn run(
        &self,
        correlation_id: &CorrelationId,
        until: Instant,
    ) -> Result<Outcome, Stopping> {
        let mut done = self.done.clone();
        let mine = self.ask(correlation_id);
        match timeout_at(until, done.wait_for(|done| done.number >= mine)).await {
            Ok(Ok(done)) => Ok(done.outcome.clone()),
            Ok(Err(_)) => Err(Stopping),
            Err(_) => Ok(Outcome::failed(Error::Timeout)),
        }
    }

    /// The number to wait for.
    fn ask(&self, correlation_id: &CorrelationId) -> u64 {
        let mut mine = 0;
        self.asked.send_modify(|asked| {
            asked.number += 1;
            asked.correlation_id = Some(correlation_id.clone());
            mine = asked.number;
        });
        mine
    }
}

fn enter(report: &mut PullReport, source: &AskSource, outcome: Outcome) {
    let Fetched(fetched) = &mut report.fetched;
    fetched.push((source.vendor.clone(), outcome.fetched));
    report.stored += outcome.stored;
    report.routed += outcome.routed;
    report.resolved += outcome.resolved;
    report.malformed += outcome.malformed;
    report.errors.extend(outcome.error.map(|error| PullError {
        source: source.source.to_string(),
        code: error.code().to_owned(),
    }));
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_source_that_does_not_come_to_an_end_is_a_timeout_beside_the_others() {
        let (mut sources, mut kept) = (Vec::new(), Vec::new());
        for vendor in ["hangs", "answers"] {
            let (asked, of_worker) = watch::channel(Asked::default());
            let (done, ended) = watch::channel(Done::default());
            sources.push(AskSource {
                vendor: vendor.to_owned(),
                source: Source::status_page(vendor).unwrap(),
                asked,
                done: ended,
            });
            if vendor == "answers" {
                let outcome = Outcome {
                    fetched: 3,
                    ..Outcome::default()
                };
                done.send_replace(Done { number: 1, outcome });
            }
            kept.push((of_worker, done));
        }
        let begun = Instant::now();

        let pulled = Sources(sources.into())
            .pull(&CorrelationId::parse("c").unwrap())
            .await
            .unwrap();

        assert_eq!(begun.elapsed(), WITHIN);
        let fetched =
            [("hangs", 0), ("answers", 3)].map(|(vendor, items)| (vendor.to_owned(), items));
        assert_eq!(pulled.fetched.0, fetched);
        let error = PullError {
            source: "hangs_status".to_owned(),
            code: "timeout".to_owned(),
        };
        assert_eq!(pulled.errors, [error]);
    }
}
