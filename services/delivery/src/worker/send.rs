//! One request to a destination, and what came of it.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use reqwest_middleware::{ClientWithMiddleware, RequestBuilder};
use runtime::http_client::{self, OverAFreshConnection, failure_code, phases};
use schema::names;
use schema::webhooks::Phases;
use signature::standard;
use tokio::time::{Instant, timeout_at};

use super::Worker;
use super::registry::{Live, Target};
use crate::domain::egress::{self, Need, Nets};
use crate::domain::queues::Answer as Said;
use crate::domain::result::Verdict;
use crate::storage::Stored;

/// What is read of an answer's body, and kept of the latest. A longer one costs its connection.
const RESPONSE_MAX: usize = 16 * 1024;

/// Who sends, by who chose the URL.
#[derive(Clone)]
pub struct Senders {
    /// The operator: anywhere.
    pub operators: ClientWithMiddleware,
    /// A client, with a URL that leads to the internet or to what is open beside it.
    pub public: ClientWithMiddleware,
    /// A client, with a URL that must stay within what is open beside the internet.
    pub in_nets: ClientWithMiddleware,
}

impl Senders {
    pub fn over_sockets(nets: &Nets) -> Self {
        let guarded = |need: Need| {
            let nets = nets.clone();
            http_client::hostile(Arc::new(move |_, address| {
                egress::permits(need, address, &nets)
            }))
        };
        Self {
            operators: http_client::hostile(Arc::new(|_, _| true)),
            public: guarded(Need::Public),
            in_nets: guarded(Need::InNets),
        }
    }
}

/// What came of one request.
pub(super) struct Answer {
    pub(super) verdict: Verdict,
    pub(super) status_code: Option<u16>,
    pub(super) response: Option<String>,
    /// Of a failure that has several causes.
    pub(super) error_reason: Option<&'static str>,
    /// Sent twice (R4).
    pub(super) resent: bool,
    pub(super) took: Duration,
    pub(super) phases: Phases,
}

impl Answer {
    fn failed(error: &'static str, took: Duration) -> Self {
        Self {
            verdict: Verdict::of_transport(error),
            error_reason: None,
            resent: false,
            status_code: None,
            response: None,
            took,
            phases: Phases::default(),
        }
    }

    pub(super) fn took_ms(&self) -> u64 {
        u64::try_from(self.took.as_millis()).unwrap_or(u64::MAX)
    }

    /// What it says of the endpoint, not of the delivery.
    pub(super) fn of_the_endpoint(&self, now: Timestamp) -> Said {
        self.verdict
            .of_the_endpoint(self.status_code, self.took, now)
    }
}

impl Worker {
    /// One request within the endpoint's deadline, over connecting, headers and body.
    pub(super) async fn send(&self, live: &Live, stored: &Stored) -> Answer {
        let started = Instant::now();
        let Some(request) = self.request(live, stored) else {
            return Answer::failed("blocked", started.elapsed());
        };
        let deadline = started + live.timeout;
        let resent = AtomicBool::new(false);
        let sending = timeout_at(deadline, send_over_what_is_kept(request, &resent));
        let (sent, spent) = phases::watched(sending).await;
        let resent = resent.into_inner();
        let head = started.elapsed();
        let phases = Phases {
            dns_ms: spent.dns.map(millis),
            connect_ms: spent.connect.map(millis),
            ..Phases::default()
        };
        let mut response = match sent {
            Ok(Ok(response)) => response,
            Ok(Err(fault)) => {
                return Answer {
                    phases,
                    resent,
                    error_reason: http_client::failure_reason(&fault),
                    ..Answer::failed(failure_code(&fault), head)
                };
            }
            Err(_) => {
                return Answer {
                    phases,
                    resent,
                    ..Answer::failed("timeout", head)
                };
            }
        };
        let status = response.status().as_u16();
        let retry_after = response
            .headers()
            .get(header::RETRY_AFTER)
            .and_then(|value| value.to_str().ok());
        let verdict = Verdict::of_response(status, retry_after);
        let mut body = Vec::new();
        // The status is the answer; what of the body has come by the deadline is kept.
        let _cut_off = timeout_at(deadline, read_some(&mut response, &mut body)).await;
        let response = (!body.is_empty()).then(|| String::from_utf8_lossy(&body).into_owned());
        let took = started.elapsed();
        Answer {
            verdict,
            error_reason: None,
            resent,
            status_code: Some(status),
            response,
            took,
            phases: Phases {
                head_ms: Some(millis(head)),
                body_ms: Some(millis(took.saturating_sub(head))),
                ..phases
            },
        }
    }

    /// `None` where nothing may be sent: a resolver is not asked about an address in a URL, so that is looked at here, each
    /// time.
    fn request(&self, live: &Live, stored: &Stored) -> Option<RequestBuilder> {
        let senders = &self.outside.senders;
        let request = match &live.target {
            Target::Nowhere => return None,
            Target::Operators(url) => senders.operators.post(url.clone()),
            Target::Clients(url) => {
                let (need, nets) = (url.need(), &self.outside.defaults.nets);
                let literal = url.literal();
                if literal.is_some_and(|address| !egress::permits(need, address, nets)) {
                    return None;
                }
                let sender = match need {
                    Need::Public => &senders.public,
                    Need::InNets => &senders.in_nets,
                };
                sender.post(url.as_url().clone())
            }
        };
        let headers = self.headers(live, stored);
        Some(request.headers(headers).body(stored.event.payload.clone()))
    }

    /// The endpoint's own, then ours, which they cannot replace.
    fn headers(&self, live: &Live, stored: &Stored) -> HeaderMap {
        let mut headers = live.headers.clone();
        let event = &stored.event;
        let (id, unix) = (event.event_id.to_string(), self.now().as_second());
        let signatures: Vec<String> = live
            .keys(self.now())
            .filter_map(|key| standard::sign(key, &id, unix, &event.payload).ok())
            .collect();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/json"),
        );
        for (name, value) in [
            (names::WEBHOOK_ID, id),
            (names::WEBHOOK_TIMESTAMP, unix.to_string()),
            (names::WEBHOOK_SIGNATURE, signatures.join(" ")),
            (names::WEBHOOK_ATTEMPT, stored.life.started.to_string()),
            (
                names::CORRELATION_ID,
                event.correlation_id.as_str().to_owned(),
            ),
        ] {
            if let Ok(value) = HeaderValue::try_from(value) {
                headers.insert(name, value);
            }
        }
        headers
    }
}

/// Sends, and once more over a connection of its own where one that was kept turns out to be closed. The same bytes, so
/// that a receiver which took the first knows the second by its `webhook-id`.
async fn send_over_what_is_kept(
    request: RequestBuilder,
    resent: &AtomicBool,
) -> reqwest_middleware::Result<reqwest::Response> {
    let again = request.try_clone();
    match (request.send().await, again) {
        (Err(fault), Some(again)) if http_client::is_of_a_kept_connection(&fault) => {
            resent.store(true, Ordering::Relaxed);
            again.with_extension(OverAFreshConnection).send().await
        }
        (sent, _) => sent,
    }
}

fn millis(time: Duration) -> u32 {
    u32::try_from(time.as_millis()).unwrap_or(u32::MAX)
}

/// Reads an answer's body up to its bound.
async fn read_some(response: &mut reqwest::Response, kept: &mut Vec<u8>) {
    while let Ok(Some(chunk)) = response.chunk().await {
        let room = RESPONSE_MAX - kept.len();
        kept.extend_from_slice(&chunk[..chunk.len().min(room)]);
        if chunk.len() >= room {
            return;
        }
    }
}
