//! What every request passes before its path is looked at: framing, the caller's share, the caller's key. And the one
//! line that tells how it was answered.

use std::net::SocketAddr;
use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use runtime::config::Secrets;
use runtime::problem::{Code, Problem};
use runtime::server::Peer;
use schema::{CorrelationId, names};

use super::rate::{Payer, RateLimit};
use crate::domain::framing;
use crate::domain::keys::{Caller, KeyFault, Keys};

/// Paths that need no key: Stripe signs its requests, and a container's healthcheck has none.
const KEYLESS: [&str; 2] = [names::INGEST_STRIPE, names::HEALTHZ];

/// Who may call, and how often.
pub struct Guard {
    keys: Keys,
    rate: Option<RateLimit>,
}

/// A refusal, and a header that goes beside its problem.
struct Refusal {
    problem: Problem,
    beside: Option<(HeaderName, HeaderValue)>,
}

impl Guard {
    /// A rate of 0 is no limit.
    pub fn new(keys: &Secrets, rate_per_s: u32) -> Result<Self, KeyFault> {
        Ok(Self {
            keys: Keys::parse(keys)?,
            rate: NonZeroU32::new(rate_per_s).map(RateLimit::new),
        })
    }

    pub fn rate(&self) -> Option<&RateLimit> {
        self.rate.as_ref()
    }

    fn admit(&self, head: &Parts) -> Result<(), Refusal> {
        framing::check(head).map_err(Refusal::closing)?;
        let caller = self.caller(&head.headers);
        self.take_share(head, caller)?;
        if self.keys.are_needed() && caller.is_none() && !KEYLESS.contains(&head.uri.path()) {
            return Err(Refusal::unauthorized());
        }
        Ok(())
    }

    fn caller(&self, headers: &HeaderMap) -> Option<&Caller> {
        let shown = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        self.keys.identify(shown)
    }

    /// A wrong key pays from its address, so that keys cannot be guessed without bound.
    fn take_share(&self, head: &Parts, caller: Option<&Caller>) -> Result<(), Refusal> {
        let Some(rate) = self
            .rate
            .as_ref()
            .filter(|_| head.uri.path() != names::HEALTHZ)
        else {
            return Ok(());
        };
        let payer = match (caller, head.extensions.get::<Peer>()) {
            (Some(caller), _) => Payer::Key(caller.key),
            (None, Some(Peer(peer))) => Payer::at(SocketAddr::ip(peer)),
            (None, None) => Payer::unknown(),
        };
        rate.take(&payer).map_err(Refusal::rate_limited)
    }
}

impl Refusal {
    /// What follows on the connection may not be what the caller meant.
    fn closing(problem: Problem) -> Self {
        Self {
            problem,
            beside: Some((header::CONNECTION, HeaderValue::from_static("close"))),
        }
    }

    fn unauthorized() -> Self {
        Self {
            problem: Code::Unauthorized.because("send Authorization: Bearer with a valid key"),
            beside: Some((header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"))),
        }
    }

    fn rate_limited(wait: Duration) -> Self {
        let seconds = wait.as_secs() + u64::from(wait.subsec_nanos() > 0);
        let problem = Code::RateLimited.because("this caller's share of requests is used up");
        Self {
            problem: problem.retry_after(seconds.max(1)),
            beside: None,
        }
    }
}

impl IntoResponse for Refusal {
    fn into_response(self) -> Response {
        let mut response = self.problem.into_response();
        response.headers_mut().extend(self.beside);
        response
    }
}

/// Admits a request, or refuses it, and tells the answer in one line. A problem has its line from [`runtime::base`].
pub async fn guard(State(guard): State<Arc<Guard>>, request: Request, next: Next) -> Response {
    let started = Instant::now();
    let (head, body) = request.into_parts();
    if let Err(refusal) = guard.admit(&head) {
        return refusal.into_response();
    }
    let method = head.method.clone();
    let route = head.extensions.get::<MatchedPath>().cloned();
    let correlation_id = head.extensions.get::<CorrelationId>().cloned();

    let response = next.run(Request::from_parts(head, body)).await;

    if response.extensions().get::<Problem>().is_none() {
        tracing::info!(
            correlation_id = correlation_id.as_ref().map(CorrelationId::as_str),
            method = method.as_str(),
            route = route.as_ref().map_or("unmatched", MatchedPath::as_str),
            status = response.status().as_u16(),
            duration_ms = started.elapsed().as_micros() as f64 / 1000.0,
            "request answered"
        );
    }
    response
}
