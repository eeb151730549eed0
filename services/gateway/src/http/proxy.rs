//! Passing a request on. It is built anew, so that nothing of the caller's framing reaches a service, and repeated only
//! while it was never sent.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri};
use http_body_util::Full;
use hyper::body::{Frame, Incoming, SizeHint};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use runtime::problem::{Code, Problem};
use runtime::upstream::{Lease, Upstream};
use runtime::{extract, http_client, internal_key};
use schema::{CorrelationId, names};
use tokio::sync::{Semaphore, SemaphorePermit};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Route;
use super::guard::BoundTo;
use crate::domain::framing;
use crate::upstreams::{KEY_REFUSED, Upstreams};

/// What a service gets of the caller's headers. Everything else stays here: hop-by-hop and framing headers, keys, and
/// whatever begins `x-signalpost-`.
const REQUEST_HEADERS: [HeaderName; 4] = [
    header::ACCEPT,
    header::CONTENT_TYPE,
    HeaderName::from_static(names::IDEMPOTENCY_KEY),
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
/// Bodies of batches in flight: four of the longest.
const BATCHES_MAX: usize = 64 << 20;

/// What the bodies of requests in flight are kept in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Room {
    Shared,
    /// Of its own, so that no other caller holds up Stripe's events, nor one of those without a key the others.
    Stripe,
    /// Of its own, so that a few long bodies do not hold up many short ones.
    Batches,
}

/// Passes requests on to the replicas.
pub struct Proxy {
    client: Client<HttpConnector, Full<Bytes>>,
    upstreams: Arc<Upstreams>,
    rooms: Rooms,
    key: HeaderValue,
}

/// A permit is a byte of a body that has come.
struct Rooms {
    shared: Semaphore,
    stripe: Semaphore,
    batches: Semaphore,
}

impl Rooms {
    fn of(&self, room: Room) -> &Semaphore {
        match room {
            Room::Shared => &self.shared,
            Room::Stripe => &self.stripe,
            Room::Batches => &self.batches,
        }
    }
}

/// A request for a service, before a replica is chosen.
struct Outgoing {
    method: Method,
    uri: Uri,
    headers: HeaderMap,
    body: Bytes,
}

impl Proxy {
    /// `key` is shown to the services.
    pub fn new(upstreams: Arc<Upstreams>, key: HeaderValue) -> Self {
        Self {
            client: http_client::forwarding(),
            upstreams,
            key,
            rooms: Rooms {
                shared: Semaphore::new(BODIES_MAX),
                stripe: Semaphore::new(BODIES_MAX),
                batches: Semaphore::new(BATCHES_MAX),
            },
        }
    }

    /// Reads the request, sends it to a replica, and streams the answer back.
    pub async fn pass_on(&self, route: &Route, request: Request) -> Result<Response, Problem> {
        let limit = if has_body(request.method()) {
            route.body_max
        } else {
            0
        };
        let room = self.rooms.of(route.room);
        let (mut outgoing, _held) = Outgoing::read(request, limit, room).await?;
        let key = self.key.clone();
        outgoing.headers.insert(names::INTERNAL_KEY, key);
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
            let sent = self.client.request(outgoing.request(&replica)?);
            let Ok(answer) = tokio::time::timeout_at(deadline, sent).await else {
                return Err(Code::UpstreamTimeout.because(format!(
                    "{} did not answer in time; the request may have been carried out",
                    upstream.name
                )));
            };
            match answer {
                Ok(answer) if internal_key::is_refusal(answer.status(), answer.headers()) => {
                    let detail = format!("{} {KEY_REFUSED}", upstream.name);
                    return Err(Code::UpstreamFailed.because(detail));
                }
                Ok(answer) => return Ok(answer_of(answer, replica, deadline)),
                // A connection that never was carried nothing; anything later may have been acted on.
                Err(fault) if fault.is_connect() => {
                    tracing::warn!(
                        upstream = upstream.name,
                        code = http_client::cause_code(&fault).unwrap_or("connect"),
                        "a replica could not be reached"
                    );
                    replica.mark_dead(upstream);
                    chosen = upstream.pick_living();
                }
                Err(_) => {
                    return Err(Code::UpstreamFailed.because(format!(
                        "{} broke off; the request may have been carried out",
                        upstream.name
                    )));
                }
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
            // Where there is none, what came is not kept.
            let before = held.take();
            let mut more = take(room, length)?;
            if let Some(before) = before {
                more.merge(before);
            }
            held = Some(more);
            Ok(())
        };
        let body = extract::read_body_into_room(body, limit, take_room).await?;
        let mut headers = HeaderMap::with_capacity(REQUEST_HEADERS.len() + 3);
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
    fn request(&self, replica: &Lease) -> Result<http::Request<Full<Bytes>>, Problem> {
        let path_and_query = self.uri.path_and_query().map_or("/", |both| both.as_str());
        let uri = Uri::try_from(replica.url(path_and_query))
            .ok()
            .filter(|_| framing::is_plain(self.uri.path()))
            .ok_or_else(|| Code::InvalidRequest.because("the path is not in its normal form"))?;
        let mut request = http::Request::new(Full::new(self.body.clone()));
        *request.method_mut() = self.method.clone();
        *request.uri_mut() = uri;
        *request.headers_mut() = self.headers.clone();
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

fn answer_of(answer: http::Response<Incoming>, replica: Lease, deadline: Instant) -> Response {
    let (parts, body) = answer.into_parts();
    let mut response = Response::new(Body::new(AnswerBody {
        body,
        deadline,
        waiting: None,
        _busy: replica,
    }));
    *response.status_mut() = parts.status;
    for name in RESPONSE_HEADERS {
        if let Some(value) = parts.headers.get(&name) {
            response.headers_mut().insert(name, value.clone());
        }
    }
    response
}

/// What a replica answers; broken off at the deadline.
struct AnswerBody {
    body: Incoming,
    deadline: Instant,
    waiting: Option<Pin<Box<Sleep>>>,
    /// The replica is busy with the request until its last byte has come.
    _busy: Lease,
}

impl HttpBody for AnswerBody {
    type Data = Bytes;
    type Error = Box<dyn Error + Send + Sync>;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Self::Error>>> {
        if let Poll::Ready(frame) = Pin::new(&mut self.body).poll_frame(cx) {
            return Poll::Ready(frame.map(|frame| frame.map_err(Into::into)));
        }
        let deadline = self.deadline;
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(sleep_until(deadline)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Some(Err("the answer took too long".into())))
    }

    fn is_end_stream(&self) -> bool {
        self.body.is_end_stream()
    }

    fn size_hint(&self) -> SizeHint {
        self.body.size_hint()
    }
}
