//! What every request passes before its path is looked at: framing, host and origin where there are no keys, the caller's
//! share, the caller's key. And the one line that tells how it was answered.

use std::num::NonZeroU32;
use std::sync::Arc;
use std::time::{Duration, Instant};

use axum::extract::{MatchedPath, Request, State};
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};
use http::Method;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::request::Parts;
use prometheus::IntCounterVec;
use runtime::base::Base;
use runtime::clock::Clock;
use runtime::health::Briefly;
use runtime::problem::{Code, Problem};
use runtime::server::Caller;
use runtime::shares::Holder;
use schema::{CorrelationId, names};
use signature::stripe::{ADVICE, check_header};

use super::rate::{Payer, RateLimit};
use crate::domain::framing;
use crate::domain::keys::{self, Keys, Opens};
use crate::domain::origin::AllowedHosts;

/// What servers write for a caller who left before the answer; nobody receives it.
const CANCELLED: u16 = 499;

/// In the extensions of a request whose caller may see one client's rows only.
#[derive(Clone, Debug)]
pub struct BoundTo(pub HeaderValue);

/// Who may call, and how often.
pub struct Guard {
    keys: Keys,
    hosts: AllowedHosts,
    rate: Option<RateLimit>,
    clock: Clock,
    signature_refusals: IntCounterVec,
}

/// A refusal, and a header that goes beside its problem.
struct Refusal {
    problem: Problem,
    beside: Option<(HeaderName, HeaderValue)>,
}

impl Guard {
    /// A rate of 0 is no limit.
    pub fn new(keys: Keys, hosts: AllowedHosts, rate_per_s: u32, base: &Base) -> Self {
        let signature_refusals = base.metrics.counters(
            "stripe_signature_refusals_total",
            "Requests whose signature was refused by its header alone, before the body was read.",
            "reason",
        );
        for refusal in signature::stripe::Refusal::ALL {
            signature_refusals.with_label_values(&[refusal.to_string()]);
        }
        Self {
            keys,
            hosts,
            rate: NonZeroU32::new(rate_per_s).map(RateLimit::new),
            clock: base.clock.clone(),
            signature_refusals,
        }
    }

    pub fn rate(&self) -> Option<&RateLimit> {
        self.rate.as_ref()
    }

    /// Lets the request through, with what its caller may see written to its extensions.
    fn admit(&self, head: &mut Parts) -> Result<(), Refusal> {
        framing::check(head).map_err(|problem| {
            self.count_several_signatures(head);
            Refusal::closing(problem)
        })?;
        if !self.keys.are_needed() {
            self.hosts.check(head).map_err(Refusal::closing)?;
        }
        framing::check_media(head).map_err(Refusal::closing)?;
        let caller = self.caller(&head.headers);
        self.take_share(head, caller)?;
        self.check_signature_header(head)?;
        let opens = caller.map(|caller| &caller.opens);
        if !self.may_see_operation(head, opens) {
            head.extensions.insert(Briefly);
        }
        let path = head.uri.path();
        if !self.keys.are_needed() || keys::needs_none(path) {
            return Ok(());
        }
        let opens = opens.ok_or_else(Refusal::unauthorized)?;
        opens.check(&head.method, path).map_err(Refusal::plain)?;
        if let Opens::Client(client) = opens {
            let client = HeaderValue::from_str(client)
                .map_err(|_| Refusal::plain(Code::NotFound.because("no such path")))?;
            head.extensions.insert(BoundTo(client));
        }
        Ok(())
    }

    /// Anybody may post as Stripe: who did not even sign keeps no room for a body.
    fn check_signature_header(&self, head: &Parts) -> Result<(), Refusal> {
        if !is_from_stripe(head) {
            return Ok(());
        }
        let lines = head.headers.get_all(names::STRIPE_SIGNATURE).into_iter();
        let now_unix = self.clock.now().as_second();
        check_header(lines.map(HeaderValue::as_bytes), now_unix).map_err(|refusal| {
            self.count_signature_refusal(refusal);
            Refusal::closing(Code::InvalidSignature.because(ADVICE))
        })
    }

    /// Several lines are refused as framing, before the signature is looked at; whoever watches the reasons finds them.
    fn count_several_signatures(&self, head: &Parts) {
        let lines = head.headers.get_all(names::STRIPE_SIGNATURE).iter();
        if is_from_stripe(head) && lines.count() > 1 {
            self.count_signature_refusal(signature::stripe::Refusal::SeveralHeaders);
        }
    }

    fn count_signature_refusal(&self, refusal: signature::stripe::Refusal) {
        let reason = [refusal.to_string()];
        self.signature_refusals.with_label_values(&reason).inc();
    }

    /// Whether `/readyz` is told in full. Without keys a foreign name gets it too, as probes need, but not the whole.
    fn may_see_operation(&self, head: &Parts, opens: Option<&Opens>) -> bool {
        if self.keys.are_needed() {
            opens.is_some_and(Opens::shows_operation)
        } else {
            self.hosts.takes_host(&head.headers)
        }
    }

    fn caller(&self, headers: &HeaderMap) -> Option<&keys::Caller> {
        let shown = headers.get(header::AUTHORIZATION)?.to_str().ok()?;
        self.keys.identify(shown)
    }

    /// A wrong key pays from its address, so that keys cannot be guessed without bound.
    fn take_share(&self, head: &Parts, caller: Option<&keys::Caller>) -> Result<(), Refusal> {
        let Some(rate) = self
            .rate
            .as_ref()
            .filter(|_| head.uri.path() != names::HEALTHZ)
        else {
            return Ok(());
        };
        let payer = match (caller, head.extensions.get()) {
            (Some(caller), _) => Payer::Key(caller.key),
            (None, Some(Caller(address))) => Payer::Address(Holder::at(*address)),
            (None, None) => Payer::Address(Holder::unknown()),
        };
        rate.take(&payer).map_err(Refusal::rate_limited)
    }
}

fn is_from_stripe(head: &Parts) -> bool {
    head.uri.path() == names::INGEST_STRIPE && head.method == Method::POST
}

impl Refusal {
    /// What follows on the connection may not be what the caller meant.
    fn closing(problem: Problem) -> Self {
        Self {
            problem,
            beside: Some((header::CONNECTION, HeaderValue::from_static("close"))),
        }
    }

    fn plain(problem: Problem) -> Self {
        Self {
            problem,
            beside: None,
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
    let (mut head, body) = request.into_parts();
    if let Err(refusal) = guard.admit(&mut head) {
        return refusal.into_response();
    }
    let line = AccessLine::begin(&head);

    let response = next.run(Request::from_parts(head, body)).await;

    line.end(&response);
    response
}

/// The line of one request. Dropped before its end, it tells that the caller left.
struct AccessLine {
    started: Instant,
    method: Method,
    route: Option<MatchedPath>,
    correlation_id: Option<CorrelationId>,
    ended: bool,
}

impl AccessLine {
    fn begin(head: &Parts) -> Self {
        Self {
            started: Instant::now(),
            method: head.method.clone(),
            route: head.extensions.get().cloned(),
            correlation_id: head.extensions.get().cloned(),
            ended: false,
        }
    }

    fn end(mut self, response: &Response) {
        self.ended = true;
        if response.extensions().get::<Problem>().is_none() {
            self.tell(response.status().as_u16(), "request answered");
        }
    }

    fn tell(&self, status: u16, message: &'static str) {
        tracing::info!(
            correlation_id = self.correlation_id.as_ref().map(CorrelationId::as_str),
            method = self.method.as_str(),
            route = self.route.as_ref().map_or("unmatched", MatchedPath::as_str),
            status,
            duration_ms = self.started.elapsed().as_micros() as f64 / 1000.0,
            message
        );
    }
}

impl Drop for AccessLine {
    fn drop(&mut self) {
        // A panic has its line from the base.
        if !self.ended && !std::thread::panicking() {
            self.tell(CANCELLED, "request cancelled");
        }
    }
}
