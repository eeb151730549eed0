//! Passing a request on. It is built anew, so that nothing of the caller's framing reaches a service, and repeated only
//! while it was never sent.

use std::error::Error;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};

use axum::body::{Body, HttpBody};
use axum::extract::Request;
use axum::response::Response;
use bytes::Bytes;
use http::header::{self, HeaderMap, HeaderName, HeaderValue};
use http::{Method, Uri};
use http_body_util::{BodyExt as _, Full};
use hyper::body::{Frame, Incoming, SizeHint};
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use runtime::problem::{Code, Problem};
use runtime::shares::Claim;
use runtime::upstream::{Lease, Upstream};
use runtime::{extract, http_client, internal_key};
use schema::{CorrelationId, names};
use tokio::time::{Instant, Sleep, sleep_until};

use super::Route;
use super::guard::BoundTo;
use super::rooms::{Asker, Rooms, Unread};
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
/// A longer answer is taken from its replica as a whole, so that a caller who does not read it keeps no replica.
const STREAMED_MAX: u64 = 64 * 1024;

/// Passes requests on to the replicas.
pub struct Proxy {
    client: Client<HttpConnector, Full<Bytes>>,
    upstreams: Arc<Upstreams>,
    rooms: Rooms,
    key: HeaderValue,
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
            rooms: Rooms::new(),
        }
    }

    /// Reads the request, sends it to a replica, and streams the answer back.
    pub async fn pass_on(&self, route: &Route, request: Request) -> Result<Response, Problem> {
        let limit = if has_body(request.method()) {
            route.body_max
        } else {
            0
        };
        let asker = Asker::of(request.extensions());
        let claim = self.rooms.claim_for_body(route.room, &asker);
        let mut outgoing = Outgoing::read(request, limit, &claim).await?;
        let key = self.key.clone();
        outgoing.headers.insert(names::INTERNAL_KEY, key);
        let upstream = self.upstreams.of(route.service);
        let deadline = Instant::now() + route.timeout;
        let (answer, replica) = self.send(upstream, &outgoing, deadline).await?;
        self.answer_of(answer, replica, &asker, deadline).await
    }

    async fn send(
        &self,
        upstream: &Upstream,
        outgoing: &Outgoing,
        deadline: Instant,
    ) -> Result<(http::Response<Incoming>, Lease), Problem> {
        let mut chosen = upstream.pick();
        while let Some(replica) = chosen {
            let sent = self.client.request(outgoing.request(&replica)?);
            let answer = tokio::select! {
                answer = tokio::time::timeout_at(deadline, sent) => answer.ok(),
                () = replica.stopped() => {
                    if is_safe(&outgoing.method) {
                        chosen = upstream.pick_living();
                        continue;
                    }
                    None
                }
            };
            let Some(answer) = answer else {
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
                Ok(answer) => return Ok((answer, replica)),
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

    /// What the caller gets of an answer. The replica is busy with the request until its last byte has come.
    async fn answer_of(
        &self,
        answer: http::Response<Incoming>,
        replica: Lease,
        asker: &Asker,
        deadline: Instant,
    ) -> Result<Response, Problem> {
        let (parts, body) = answer.into_parts();
        let body = match body.size_hint().exact() {
            Some(length) if length > STREAMED_MAX => {
                Body::new(self.take_whole(body, length, asker, deadline).await?)
            }
            _ => Body::new(AnswerBody {
                body,
                deadline,
                waiting: None,
                _busy: replica,
            }),
        };
        let mut response = Response::new(body);
        *response.status_mut() = parts.status;
        for name in RESPONSE_HEADERS {
            if let Some(value) = parts.headers.get(&name) {
                response.headers_mut().insert(name, value.clone());
            }
        }
        Ok(response)
    }

    async fn take_whole(
        &self,
        body: Incoming,
        length: u64,
        asker: &Asker,
        deadline: Instant,
    ) -> Result<Unread, Problem> {
        let length = usize::try_from(length).unwrap_or(usize::MAX);
        let claim = self.rooms.claim_for_answer(length, asker);
        let claim = claim.map_err(|_| no_room("answers are unread"))?;
        match tokio::time::timeout_at(deadline, body.collect()).await {
            Ok(Ok(whole)) => Ok(Unread::new(whole.to_bytes(), claim)),
            Ok(Err(_)) => Err(Code::UpstreamFailed.because("the answer broke off")),
            Err(_) => Err(Code::UpstreamTimeout.because("the answer did not come in time")),
        }
    }
}

impl Outgoing {
    /// The room that the body takes is the claim's, which waits for the caller until the body has come.
    async fn read(request: Request, limit: usize, claim: &Claim) -> Result<Self, Problem> {
        let (parts, body) = request.into_parts();
        let take_room = |length| {
            claim.waiting().restart();
            let taken = claim.grow(length);
            taken.map_err(|_| no_room("bodies are being read"))
        };
        let body = tokio::select! {
            body = extract::read_body_into_room(body, limit, take_room) => body?,
            () = claim.ended() => return Err(no_room("bodies are being read")),
        };
        claim.waiting().end();
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
        Ok(Self {
            method: parts.method,
            uri: parts.uri,
            headers,
            body,
        })
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

fn no_room(what: &str) -> Problem {
    Code::Unavailable
        .because(format!("too many {what} at once"))
        .retry_after(RETRY_AFTER_S)
}

/// Whether it is as good to ask twice.
fn is_safe(method: &Method) -> bool {
    matches!(*method, Method::GET | Method::HEAD)
}

fn has_body(method: &Method) -> bool {
    !matches!(*method, Method::GET | Method::HEAD | Method::DELETE)
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
