//! The services behind the gateway.

use std::sync::Arc;

use http::StatusCode;
use reqwest_middleware::ClientWithMiddleware;
use runtime::health::Finding;
use runtime::http_client::failure_code;
use runtime::upstream::Upstream;
use schema::names;

use crate::config::Config;

/// A service that requests are passed on to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Service {
    StripeIngester,
    StatusPoller,
    EventStore,
    Delivery,
    Summarizer,
    MockPagerduty,
}

impl Service {
    pub const ALL: &[Self] = &[
        Self::StripeIngester,
        Self::StatusPoller,
        Self::EventStore,
        Self::Delivery,
        Self::Summarizer,
        Self::MockPagerduty,
    ];

    pub fn name(self) -> &'static str {
        match self {
            Self::StripeIngester => "stripe-ingester",
            Self::StatusPoller => "status-poller",
            Self::EventStore => "event-store",
            Self::Delivery => "delivery",
            Self::Summarizer => "summarizer",
            Self::MockPagerduty => "mock-pagerduty",
        }
    }

    pub fn named(name: &str) -> Option<Self> {
        Self::ALL
            .iter()
            .copied()
            .find(|service| service.name() == name)
    }

    /// Whether the gateway is of no use without it.
    pub fn needed(self) -> bool {
        matches!(
            self,
            Self::StripeIngester | Self::EventStore | Self::Delivery
        )
    }
}

/// The replicas of each service, in the order of [`Service::ALL`].
pub struct Upstreams(Vec<Arc<Upstream>>);

impl Upstreams {
    pub fn new(config: &Config) -> Self {
        let upstream =
            |service: &Service| Arc::new(Upstream::new(service.name(), config.urls(*service)));
        Self(Service::ALL.iter().map(upstream).collect())
    }

    pub fn of(&self, service: Service) -> &Arc<Upstream> {
        &self.0[service as usize]
    }

    pub fn all(&self) -> &[Arc<Upstream>] {
        &self.0
    }
}

/// Asks one replica's `/readyz`.
pub async fn look_at(upstream: Arc<Upstream>, client: ClientWithMiddleware) -> Finding {
    let count = upstream.count();
    let Some(replica) = upstream.pick() else {
        return Finding::down("no replica is known");
    };
    let answer = client.get(replica.url(names::READYZ)).send().await;
    let finding = match answer.map(|answer| answer.status()) {
        Ok(StatusCode::OK) => Finding::up(),
        Ok(status) => Finding::down(format!("answered {}", status.as_u16())),
        Err(fault) => Finding::down(failure_code(&fault)),
    };
    finding
        .with("replicas", count.known)
        .with("living", count.living)
}
