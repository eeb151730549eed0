//! Who is delivered to.

use std::sync::Arc;
use std::time::Duration;

use url::Url;

use super::schedule::Policy;

/// The name under which event-store knows the built-in endpoint, in `delivered_to`.
pub const PAGERDUTY: &str = "pagerduty";
/// Whose endpoint it is.
pub const ONCALL: &str = "oncall";

/// One destination of one client.
#[derive(Clone, Debug)]
pub struct Endpoint {
    pub endpoint_id: Arc<str>,
    pub url: Url,
    /// One deadline over connecting, headers and body.
    pub timeout: Duration,
    /// How many requests may be on their way at once.
    pub max_in_flight: usize,
    pub policy: Policy,
}

impl Endpoint {
    /// The on-call's PagerDuty, which routed events page.
    pub fn pagerduty(url: Url, timeout: Duration, policy: Policy) -> Self {
        Self {
            endpoint_id: PAGERDUTY.into(),
            url,
            timeout,
            max_in_flight: 64,
            policy,
        }
    }
}
