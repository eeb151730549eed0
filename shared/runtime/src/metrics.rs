//! Prometheus metrics, one registry a service. No label holds an id or anything a caller chose.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{Method, StatusCode, header};
use prometheus::{
    Encoder as _, Histogram, HistogramOpts, HistogramVec, IntCounter, IntCounterVec, IntGauge,
    IntGaugeVec, Opts, Registry, TextEncoder,
};

use crate::base::Base;

/// Seconds; from a fast local answer to a slow destination.
const BUCKETS: &[f64] = &[
    0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 15.0,
];

/// Counters that stand at 0 from the start, for every value of their one label that is known: what counts first would else be
/// seen by nobody who looks for an increase.
pub fn at_zero<'a>(
    counters: IntCounterVec,
    values: impl IntoIterator<Item = &'a str>,
) -> IntCounterVec {
    for value in values {
        counters.with_label_values(&[value]);
    }
    counters
}

/// A service's metrics. Cheap to clone; every handle counts into the same registry.
#[derive(Clone)]
pub struct Metrics {
    registry: Registry,
    requests: IntCounterVec,
    request_seconds: HistogramVec,
}

#[expect(
    clippy::expect_used,
    reason = "names and labels are literals; a wrong one fails the first test that starts the service"
)]
impl Metrics {
    pub fn new() -> Self {
        let registry = Registry::new();
        let requests = register(
            &registry,
            IntCounterVec::new(
                Opts::new("http_requests_total", "Requests answered."),
                &["method", "route", "status"],
            )
            .expect("literal"),
        );
        let request_seconds = register(
            &registry,
            HistogramVec::new(
                HistogramOpts::new("http_request_duration_seconds", "Time to answer a request.")
                    .buckets(BUCKETS.to_vec()),
                &["method", "route"],
            )
            .expect("literal"),
        );
        Self {
            registry,
            requests,
            request_seconds,
        }
    }

    pub fn counter(&self, name: &str, help: &str) -> IntCounter {
        register(
            &self.registry,
            IntCounter::new(name, help).expect("literal"),
        )
    }

    pub fn counters(&self, name: &str, help: &str, label: &str) -> IntCounterVec {
        register(
            &self.registry,
            IntCounterVec::new(Opts::new(name, help), &[label]).expect("literal"),
        )
    }

    pub fn gauge(&self, name: &str, help: &str) -> IntGauge {
        register(&self.registry, IntGauge::new(name, help).expect("literal"))
    }

    pub fn gauges(&self, name: &str, help: &str, label: &str) -> IntGaugeVec {
        register(
            &self.registry,
            IntGaugeVec::new(Opts::new(name, help), &[label]).expect("literal"),
        )
    }

    /// A histogram of seconds.
    pub fn seconds(&self, name: &str, help: &str) -> Histogram {
        register(
            &self.registry,
            Histogram::with_opts(HistogramOpts::new(name, help).buckets(BUCKETS.to_vec()))
                .expect("literal"),
        )
    }

    pub(crate) fn observe_request(
        &self,
        method: &Method,
        route: &str,
        status: StatusCode,
        took: Duration,
    ) {
        let method = match *method {
            Method::GET
            | Method::POST
            | Method::PUT
            | Method::PATCH
            | Method::DELETE
            | Method::HEAD => method.as_str(),
            _ => "other",
        };
        self.requests
            .with_label_values(&[method, route, status.as_str()])
            .inc();
        self.request_seconds
            .with_label_values(&[method, route])
            .observe(took.as_secs_f64());
    }

    /// The text exposition.
    pub fn render(&self) -> Vec<u8> {
        let mut text = Vec::new();
        if let Err(fault) = TextEncoder::new().encode(&self.registry.gather(), &mut text) {
            tracing::warn!(%fault, "metrics could not be written");
        }
        text
    }
}

impl Default for Metrics {
    fn default() -> Self {
        Self::new()
    }
}

#[expect(
    clippy::expect_used,
    reason = "two metrics of one name fail the first test that starts the service"
)]
fn register<C: prometheus::core::Collector + Clone + 'static>(
    registry: &Registry,
    collector: C,
) -> C {
    registry
        .register(Box::new(collector.clone()))
        .expect("a metric of this name is registered once");
    collector
}

pub(crate) async fn metrics(State(base): State<Arc<Base>>) -> Response {
    (
        [(
            header::CONTENT_TYPE,
            "text/plain; version=0.0.4; charset=utf-8",
        )],
        base.metrics.render(),
    )
        .into_response()
}
