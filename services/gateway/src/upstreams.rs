//! The services behind the gateway.

use std::sync::Arc;

use http::{HeaderValue, StatusCode};
use reqwest_middleware::ClientWithMiddleware;
use runtime::health::Finding;
use runtime::http_client::{self, failure_code};
use runtime::upstream::Upstream;
use schema::names;
use serde::Deserialize;
use serde_json::{Map, Value};

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

/// Why nothing can be asked of a service, until an operator mends it.
pub const KEY_REFUSED: &str =
    "refuses the internal key: SIGNALPOST_INTERNAL_KEY differs between the services";

/// The longest `/readyz` that is passed on, in bytes.
const TOLD_MAX: usize = 64 * 1024;

/// Asks one replica's `/readyz`, and tells what it told: whoever asks can reach the gateway alone.
pub async fn look_at(
    upstream: Arc<Upstream>,
    client: ClientWithMiddleware,
    key: HeaderValue,
) -> Finding {
    let count = upstream.count();
    let Some(replica) = upstream.pick() else {
        return Finding::down("no replica answers")
            .with("replicas", count.known)
            .with("living", count.living);
    };
    let request = client.get(replica.url(names::READYZ));
    let answer = request.header(names::INTERNAL_KEY, key).send().await;
    let finding = match answer {
        Ok(answer) => {
            let status = answer.status();
            let told = http_client::read_body(answer, TOLD_MAX).await;
            judge(status, &told.unwrap_or_default())
        }
        Err(fault) => Finding::down(failure_code(&fault)),
    };
    finding
        .with("replicas", count.known)
        .with("living", count.living)
}

/// Up when all it depends on is up, degraded when something is not, down when it says that it is of no use.
fn judge(status: StatusCode, told: &[u8]) -> Finding {
    #[derive(Deserialize)]
    struct Told {
        dependencies: Map<String, Value>,
    }
    let finding = |troubled: bool| match status {
        StatusCode::OK if troubled => Finding::degraded("see its dependencies"),
        StatusCode::OK => Finding::up(),
        StatusCode::UNAUTHORIZED => Finding::down(KEY_REFUSED),
        _ => Finding::down(format!("answered {}", status.as_u16())),
    };
    match serde_json::from_slice(told) {
        Ok(Told { dependencies }) => {
            let troubled = dependencies.values().any(|one| one["status"] != "up");
            finding(troubled).with("dependencies", dependencies)
        }
        Err(_) => finding(false),
    }
}

#[cfg(test)]
mod tests {
    use runtime::health::Status;

    use super::*;

    #[test]
    fn a_service_is_judged_by_what_it_tells_of_its_own_dependencies() {
        let trouble = r#"{"dependencies":{"storage":{"status":"degraded","reason":"disk"}}}"#;
        for (status, told, expected) in [
            (
                200,
                r#"{"dependencies":{"storage":{"status":"up"}}}"#,
                Status::Up,
            ),
            (200, "no JSON", Status::Up),
            (200, trouble, Status::Degraded),
            (503, trouble, Status::Down),
            (401, "{}", Status::Down),
        ] {
            let finding = judge(StatusCode::from_u16(status).unwrap(), told.as_bytes());

            assert_eq!(finding.status, expected, "{status} {told}");
            if told == trouble {
                assert_eq!(finding.detail["dependencies"]["storage"]["reason"], "disk");
            }
        }
    }
}
