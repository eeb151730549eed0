//! Retention: what has been kept long enough leaves, in small slices between other writes.

use std::sync::Arc;
use std::time::Duration;

use jiff::SignedDuration;
use runtime::clock::Clock;
use tokio_util::sync::CancellationToken;

use crate::error::Error;
use crate::metrics::StoreMetrics;
use crate::storage::Storage;

/// Between two rounds, and after a failure.
const PAUSE: Duration = Duration::from_secs(60);
/// Between two slices, so that other writes come between. Some 10,000 events a second can still leave.
const SLICE_PAUSE: Duration = Duration::from_millis(20);

pub struct Retention {
    pub storage: Arc<dyn Storage>,
    pub clock: Clock,
    /// How long an event is kept.
    pub keep: SignedDuration,
    pub metrics: StoreMetrics,
}

impl Retention {
    /// Goes through all that is old enough, once; answers how many events left.
    pub async fn step(&self) -> Result<usize, Error> {
        let now = self.clock.now();
        let before = now
            .saturating_sub(self.keep)
            .unwrap_or(jiff::Timestamp::MIN);
        let (mut after, mut left, mut kept) = (0, 0, 0);
        loop {
            let forgotten = self.storage.forget(before, after).await?;
            left += forgotten.events;
            kept += forgotten.kept;
            self.metrics
                .forgotten
                .inc_by(u64::try_from(forgotten.events).unwrap_or_default());
            match forgotten.next {
                Some(next) => after = next,
                None => break,
            }
            tokio::time::sleep(SLICE_PAUSE).await;
        }
        self.metrics
            .retention_kept
            .set(i64::try_from(kept).unwrap_or(i64::MAX));
        self.metrics.retention_finished.set(now.as_second());
        Ok(left)
    }

    /// Steps until the token is cancelled. A failure is logged and tried again (R8).
    pub async fn run(self, shutdown: CancellationToken) {
        loop {
            tokio::select! {
                stepped = self.step() => match stepped {
                    Ok(0) => {}
                    Ok(events) => tracing::info!(events, "events left at the end of their retention"),
                    Err(fault) => tracing::warn!(%fault, "retention did not go through"),
                },
                () = shutdown.cancelled() => return,
            }
            tokio::select! {
                () = tokio::time::sleep(PAUSE) => {}
                () = shutdown.cancelled() => return,
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use runtime::metrics::Metrics;

    use super::*;
    use crate::storage::Memory;
    use crate::storage::conformance::{ids, newest, paging, payment};

    #[tokio::test(start_paused = true)]
    async fn what_is_older_than_its_retention_leaves_in_one_step() {
        let clock = Clock::starting_at("2024-01-15T10:00:00Z".parse().unwrap());
        let metrics = StoreMetrics::new(&Metrics::new());
        let storage = Arc::new(Memory::new(10_000, clock.clone(), metrics.commits.clone()));
        let retention = Retention {
            storage: Arc::clone(&storage) as Arc<dyn Storage>,
            clock,
            keep: SignedDuration::from_hours(24),
            metrics: metrics.clone(),
        };
        let drafts = (0..1000).map(|number| payment(&format!("old_{number}")));
        let untold = std::iter::once(paging("untold"));
        let drafts = untold.chain(drafts).collect();
        storage.insert(drafts).await.unwrap();

        assert_eq!(retention.step().await, Ok(0));
        tokio::time::advance(Duration::from_secs(24 * 3600 + 1)).await;
        storage.insert(vec![payment("young")].into()).await.unwrap();

        let begun = tokio::time::Instant::now();
        assert_eq!(retention.step().await, Ok(1000));
        assert_eq!(begun.elapsed(), 3 * SLICE_PAUSE);
        assert_eq!(metrics.retention_kept.get(), 1);
        assert_eq!(metrics.forgotten.get(), 1000);
        let page = storage.events(newest(50)).await.unwrap();
        assert_eq!(ids(&page.records), ["young", "untold"]);
    }
}
