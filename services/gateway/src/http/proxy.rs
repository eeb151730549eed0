//! Passing a request on. It is built anew, so that nothing of the caller's framing reaches a service, and repeated only
//! while it was never sent.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri};
use http_body_util::BodyExt as _;
use reqwest::Url;
use reqwest_middleware::{ClientWithMiddleware, Error};
use runtime::problem::{Code, Problem};
use runtime::upstream::{Lease, Upstream};
use runtime::{extract, http_client};
use schema::{CorrelationId, names};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::Instant;

use super::Route;
use super::guard::BoundTo;
use crate::upstreams::{Service, Upstreams};

/// What a service gets of the caller's headers. Everything else stays here: hop-by-hop and framing headers, keys, and
/// whatever begins `x-signalpost-`.
const REQUEST_HEADERS: [HeaderName; 4] = [
    header::ACCEPT,
    header::CONTENT_TYPE,
    HeaderName::from_static("idempotency-key"),
    HeaderName::from_static(names::STRIPE_SIGNATURE),
];
/// What the caller gets of a service's headers. The correlation id joins in [`runtime::base`].
const RESPONSE_HEADERS: [HeaderName; 6] = [
    header::ALLOW,
    header::CACHE_CONTROL,
    header::CONTENT_TYPE,
    header::ETAG,
    header::LOCATION,
    header::RETRY_AFTER,
];

/// Seconds after which a caller may find a living replica.
const RETRY_AFTER_S: u64 = 2;
/// Bodies of requests in flight, all together, in bytes; Stripe's events have as much for themselves.
const BODIES_MAX: usize = 128 << 20;

/// Passes requests on to the replicas.
pub struct Proxy {
    client: ClientWithMiddleware,
    upstreams: Arc<Upstreams>,
    /// A permit is a byte of a body that has come.
    room: Semaphore,
    /// Of its own, so that no other caller holds up Stripe's events, nor one of those without a key the others.
    stripe_room: Semaphore,
}

/// A request for a service, before a replica is chosen.
struct Outgoing {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

impl Proxy {
    pub fn new(upstreams: Arc<Upstreams>) -> Self {
        Self {
            // Each request has its route's timeout.
            client: http_client::single_try(Duration::from_secs(60)),
            upstreams,
            room: Semaphore::new(BODIES_MAX),
            stripe_room: Semaphore::new(BODIES_MAX),
        }
    }

    /// Reads the request, sends it to a replica, and streams the answer back.
    pub async fn pass_on(&self, route: &Route, request: Request) -> Result<Response, Problem> {
        let limit = if has_body(request.method()) {
            route.body_max
        } else {
            0
        };
        let room = match route.service {
            Service::StripeIngester => &self.stripe_room,
            _ => &self.room,
        };
        let (outgoing, _held) = Outgoing::read(request, limit, room).await?;
        let upstream = self.upstreams.of(route.service);
        self.send(upstream, &outgoing, route.timeout).await
    }

    async fn send(
        &self,
        upstream: &Upstream,
        outgoing: &Outgoing,
        timeout: Duration,
    ) -> Result<Response, Problem> {
        let deadline = Instant::now() + timeout;
        let mut chosen = upstream.pick();
        while let Some(replica) = chosen {
            let left = deadline.saturating_duration_since(Instant::now());
            match self.client.execute(outgoing.request(&replica, left)?).await {
                Ok(answer) => return Ok(answer_of(answer, replica)),
                Err(fault) if never_sent(&fault) => {
                    tracing::warn!(
                        upstream = upstream.name,
                        code = http_client::failure_code(&fault),
                        "a replica could not be reached"
                    );
                    replica.mark_dead(upstream);
                    chosen = upstream.pick_living();
                }
                Err(fault) => return Err(failed(upstream.name, &fault)),
            }
        }
        Err(Code::Unavailable
            .because(format!("no replica of {} answers", upstream.name))
            .retry_after(RETRY_AFTER_S))
    }
}

impl Outgoing {
    /// The room that the body takes is held by the permit.
    async fn read(
        request: Request,
        limit: usize,
        room: &Semaphore,
    ) -> Result<(Self, Option<SemaphorePermit<'_>>), Problem> {
        let (parts, body) = request.into_parts();
        let mut held: Option<SemaphorePermit<'_>> = None;
        let take_room = |length| {
            let more = take(room, length)?;
            match &mut held {
                Some(held) => held.merge(more),
                None => held = Some(more),
            }
            Ok(())
        };
        let body = extract::read_body_into_room(body, limit, take_room).await?;
        let mut headers = HeaderMap::with_capacity(REQUEST_HEADERS.len() + 2);
        for name in &REQUEST_HEADERS {
            if let Some(value) = parts.headers.get(name) {
                headers.insert(name, value.clone());
            }
        }
        let correlation_id = parts
            .extensions
            .get::<CorrelationId>()
            .and_then(|id| HeaderValue::from_str(id.as_str()).ok())
            .ok_or_else(|| Code::Internal.because("the request has no correlation id"))?;
        headers.insert(names::CORRELATION_ID, correlation_id);
        if let Some(BoundTo(client)) = parts.extensions.get() {
            headers.insert(names::CLIENT, client.clone());
        }
        let outgoing = Self {
            method: parts.method,
            uri: parts.uri,
            headers,
            body,
        };
        Ok((outgoing, held))
    }

    /// The request as it goes to one replica.
    fn request(&self, replica: &Lease, timeout: Duration) -> Result<reqwest::Request, Problem> {
        let path_and_query = self.uri.path_and_query().map_or("/", |both| both.as_str());
        let url = Url::parse(&replica.url(path_and_query))
            .ok()
            // A path with dot segments or backslashes would become another one on the way.
            .filter(|url| url.path() == self.uri.path())
            .ok_or_else(|| Code::InvalidRequest.because("the path is not in its normal form"))?;
        let mut request = reqwest::Request::new(self.method.clone(), url);
        *request.headers_mut() = self.headers.clone();
        if has_body(&self.method) {
            *request.body_mut() = Some(self.body.clone().into());
        }
        *request.timeout_mut() = Some(timeout);
        Ok(request)
    }
}

fn take(room: &Semaphore, length: usize) -> Result<SemaphorePermit<'_>, Problem> {
    let permits = u32::try_from(length).ok();
    permits
        .and_then(|permits| room.try_acquire_many(permits).ok())
        .ok_or_else(|| {
            Code::Unavailable
                .because("too many bodies are being read at once")
                .retry_after(RETRY_AFTER_S)
        })
}

fn has_body(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::DELETE)
}

fn answer_of(answer: reqwest::Response, replica: Lease) -> Response {
    let answer: http::Response<reqwest::Body> = answer.into();
    let (parts, body) = answer.into_parts();
    // The replica is busy with the request until its last byte has come.
    let body = body.map_err(move |fault| {
        let _busy = &replica;
        fault
    });
    let mut response = Response::new(Body::new(body));
    *response.status_mut() = parts.status;
    for name in RESPONSE_HEADERS {
        if let Some(value) = parts.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

/// A connection that never was carried nothing; anything later may have been acted on.
fn never_sent(fault: &Error) -> bool {
    matches!(fault, Error::Reqwest(fault) if fault.is_connect())
}

fn failed(service: &str, fault: &Error) -> Problem {
    if http_client::failure_code(fault) == "timeout" {
        Code::UpstreamTimeout.because(format!(
            "{service} did not answer in time; the request may have been carried out"
        ))
    } else {
        Code::UpstreamFailed.because(format!(
            "{service} broke off; the request may have been carried out"
        ))
    }
}
