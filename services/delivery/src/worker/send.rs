//! One request to a destination, and what came of it.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use http::{HeaderMap, HeaderValue, header};
use jiff::Timestamp;
use reqwest_middleware::{ClientWithMiddleware, RequestBuilder};
use runtime::http_client::{self, OverAFreshConnection, failure_code, phases};
use schema::names;
use schema::webhooks::Phases;
use signature::standard;
use tokio::time::{Instant, timeout_at};

use super::registry::{Live, Target};
use super::{OwnDoors, Worker};
use crate::domain::egress::{self, Need, Nets};
use crate::domain::queues::Feedback as Said;
use crate::domain::verdict::Verdict;
use crate::storage::Stored;

/// What is read of an answer's body, and kept of the latest. A longer one costs its connection.
const RESPONSE_MAX: usize = 16 * 1024;

/// Who sends, by who chose the URL.
#[derive(Clone)]
pub struct Senders {
    /// The operator: anywhere.
    operators: ClientWithMiddleware,
    /// A client, with a URL that leads to the internet or to what is open beside it.
    public: ClientWithMiddleware,
    /// A client, with a URL that must stay within what is open beside the internet.
    in_nets: ClientWithMiddleware,
    at_our_ports: Option<Arc<AtOurPorts>>,
}

/// For the ports on which our own services answer somewhere: whoever resolves a name knows no port, so that each has
/// clients of its own. Made when the first is needed, which is hardly ever.
struct AtOurPorts {
    nets: Nets,
    doors: Arc<OwnDoors>,
    made: Mutex<HashMap<(Need, u16), ClientWithMiddleware>>,
}

impl AtOurPorts {
    fn get(&self, need: Need, port: u16) -> ClientWithMiddleware {
        let mut made = self.made.lock().unwrap_or_else(PoisonError::into_inner);
        let client = made
            .entry((need, port))
            .or_insert_with(|| self.make(need, port));
        client.clone()
    }

    fn make(&self, need: Need, port: u16) -> ClientWithMiddleware {
        let (nets, doors) = (self.nets.clone(), Arc::clone(&self.doors));
        http_client::hostile(Arc::new(move |_, address| {
            egress::permits(need, address, &nets) && !doors.hold(SocketAddr::new(address, port))
        }))
    }
}

impl Senders {
    pub fn over_sockets(nets: &Nets, doors: &Arc<OwnDoors>) -> Self {
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
            at_our_ports: Some(Arc::new(AtOurPorts {
                nets: nets.clone(),
                doors: Arc::clone(doors),
                made: Mutex::default(),
            })),
        }
    }

    /// By one that reaches nobody else, such as one that answers in process.
    pub fn alike(sender: &ClientWithMiddleware) -> Self {
        Self {
            operators: sender.clone(),
            public: sender.clone(),
            in_nets: sender.clone(),
            at_our_ports: None,
        }
    }

    fn for_clients(&self, need: Need, port: u16) -> ClientWithMiddleware {
        match (&self.at_our_ports, need) {
            (Some(ours), _) if ours.doors.have_port(port) => ours.get(need, port),
            (_, Need::Public) => self.public.clone(),
            (_, Need::InNets) => self.in_nets.clone(),
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
                let port = url.port();
                let literal = url.literal();
                if literal.is_some_and(|address| !egress::permits(need, address, nets)) {
                    return None;
                }
                if self.outside.doors.lead_to(url) {
                    return None;
                }
                senders.for_clients(need, port).post(url.as_url().clone())
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

#[cfg(test)]
mod tests {
    use tokio::net::TcpListener;
    use url::Url;

    use super::*;

    /// A listener, and its URL by a name: an address is looked at before a client is chosen.
    async fn listener() -> (TcpListener, Url) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let port = listener.local_addr().unwrap().port();
        let url = format!("http://localhost:{port}/hook");
        (listener, Url::parse(&url).unwrap())
    }

    #[tokio::test]
    async fn a_name_that_leads_to_our_own_service_is_blocked_at_its_port_alone() {
        let ((ours, ours_url), (theirs, theirs_url)) = (listener().await, listener().await);
        let nets = Nets::parse(&["127.0.0.0/8".to_owned(), "::1".to_owned()]).unwrap();
        let at = Url::parse(&format!("http://{}", ours.local_addr().unwrap())).unwrap();
        let doors = Arc::new(OwnDoors::behind([&at]));
        let senders = Senders::over_sockets(&nets, &doors);
        let send = async |need, url: &Url| {
            let sender = senders.for_clients(need, url.port().unwrap());
            sender.post(url.clone()).send().await
        };

        for need in [Need::InNets, Need::Public] {
            let fault = send(need, &ours_url).await.unwrap_err();
            assert_eq!(failure_code(&fault), "blocked", "{fault:?}");
        }
        let (_sent, came) = tokio::join!(
            tokio::time::timeout(Duration::from_secs(5), send(Need::InNets, &theirs_url)),
            async {
                let came = theirs.accept().await.map(drop);
                drop(theirs);
                came
            }
        );

        came.unwrap();
        let nobody = tokio::time::timeout(Duration::ZERO, ours.accept()).await;
        assert!(nobody.is_err(), "somebody connected");
    }
}
