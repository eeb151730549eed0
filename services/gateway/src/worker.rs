//! What is done every second, whatever is asked.

use std::sync::Arc;
use std::time::Duration;

use prometheus::IntGaugeVec;
use runtime::metrics::Metrics;
use tokio_util::sync::CancellationToken;

use crate::http::guard::Guard;
use crate::upstreams::Upstreams;

const STEP: Duration = Duration::from_secs(1);

/// Tells the replicas in the metrics, and forgets callers who have been silent.
pub struct Housekeeping {
    upstreams: Arc<Upstreams>,
    guard: Arc<Guard>,
    living: IntGaugeVec,
    age_seconds: IntGaugeVec,
}

impl Housekeeping {
    pub fn new(upstreams: Arc<Upstreams>, guard: Arc<Guard>, metrics: &Metrics) -> Self {
        Self {
            upstreams,
            guard,
            living: metrics.gauges(
                "gateway_replicas_living",
                "Replicas that answer.",
                "service",
            ),
            age_seconds: metrics.gauges(
                "gateway_replicas_age_seconds",
                "Since the replicas of a service were last looked at.",
                "service",
            ),
        }
    }

    /// Steps until the token is cancelled.
    pub async fn run(&self, shutdown: CancellationToken) {
        let mut ticks = tokio::time::interval(STEP);
        let stepping = async {
            loop {
                ticks.tick().await;
                self.step();
            }
        };
        shutdown.run_until_cancelled(stepping).await;
    }

    fn step(&self) {
        if let Some(rate) = self.guard.rate() {
            rate.forget_idle();
        }
        for upstream in self.upstreams.all() {
            let gauge = |value: u64| i64::try_from(value).unwrap_or(i64::MAX);
            let living = upstream.count().living as u64;
            let age = upstream.age().unwrap_or_default().as_secs();
            let labels = [upstream.name];
            self.living.with_label_values(&labels).set(gauge(living));
            self.age_seconds.with_label_values(&labels).set(gauge(age));
        }
    }
}
