//! A load generator that costs little beside what it measures: raw HTTP/1.1 over connections that are kept alive.
//!
//! Loopback only, and bounded by count and by time.

use std::collections::BTreeMap;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use anyhow::ensure;
use runtime::clock::Clock;
use schema::names;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep_until, timeout_at};

use crate::api::INTERNAL_KEY;

pub mod steady;

/// Between two attempts to connect where nobody listens.
const RECONNECT_PAUSE: Duration = Duration::from_millis(10);
/// A longer answer fails the request.
const ANSWER_MAX: usize = 1024 * 1024;

/// What to send, and how hard.
pub struct Load<F> {
    /// Must be a loopback address.
    pub addr: SocketAddr,
    /// Each has one request under way at a time.
    pub connections: usize,
    /// Requests are numbered from 0 to here; each number is sent at most once.
    pub total: u64,
    /// What is not answered by then is left.
    pub time_limit: Duration,
    /// The bytes of request number `n`, head and body; see [`post`].
    pub make_request: F,
}

/// What came of it.
#[derive(Debug, Default)]
pub struct Report {
    pub elapsed: Duration,
    /// How many answers had each status.
    pub statuses: BTreeMap<u16, u64>,
    /// Requests whose connection could not be had, broke, or was silent until the end.
    pub unanswered: u64,
    /// The numbers of the requests that were answered 2xx, in order.
    pub acknowledged: Vec<u64>,
    /// From the first byte sent to the last received, of every answered request, in order.
    latencies: Vec<Duration>,
}

impl Report {
    /// Answers of any status.
    pub fn answered(&self) -> u64 {
        self.statuses.values().sum()
    }

    /// Acknowledged requests a second.
    pub fn per_second(&self) -> f64 {
        self.acknowledged.len() as f64 / self.elapsed.as_secs_f64().max(f64::EPSILON)
    }

    /// The latency that a share `q` (0 to 1) of the answers did not exceed; zero where there was none.
    pub fn quantile(&self, q: f64) -> Duration {
        let rank = (self.latencies.len() as f64 * q).ceil() as usize;
        self.latencies
            .get(rank.saturating_sub(1))
            .copied()
            .unwrap_or_default()
    }

    fn absorb(&mut self, other: Self) {
        for (status, count) in other.statuses {
            *self.statuses.entry(status).or_default() += count;
        }
        self.unanswered += other.unanswered;
        self.acknowledged.extend(other.acknowledged);
        self.latencies.extend(other.latencies);
    }
}

/// Sends the whole load and waits for its answers, at most `time_limit` long.
///
/// # Errors
/// The address is not a loopback address, or `make_request` panicked.
pub async fn run<F>(load: Load<F>) -> anyhow::Result<Report>
where
    F: Fn(u64) -> Vec<u8> + Send + Sync + 'static,
{
    ensure!(
        load.addr.ip().is_loopback(),
        "{} is not a loopback address: this generator is for one's own machine",
        load.addr
    );
    let started = Instant::now();
    let deadline = started + load.time_limit;
    let next = Arc::new(AtomicU64::new(0));
    let load = Arc::new(load);
    let mut workers = JoinSet::new();
    for _ in 0..load.connections {
        workers.spawn(work(Arc::clone(&load), Arc::clone(&next), deadline));
    }
    let mut report = Report::default();
    while let Some(share) = workers.join_next().await {
        report.absorb(share?);
    }
    report.elapsed = started.elapsed();
    report.acknowledged.sort_unstable();
    report.latencies.sort_unstable();
    Ok(report)
}

/// One connection's share of the load.
async fn work<F: Fn(u64) -> Vec<u8>>(
    load: Arc<Load<F>>,
    next: Arc<AtomicU64>,
    deadline: Instant,
) -> Report {
    let mut report = Report::default();
    let mut connection = None;
    while Instant::now() < deadline {
        let number = next.fetch_add(1, Ordering::Relaxed);
        if number >= load.total {
            break;
        }
        let request = (load.make_request)(number);
        let started = Instant::now();
        let exchange = exchange(&mut connection, load.addr, &request);
        if let Ok(Ok(status)) = timeout_at(deadline, exchange).await {
            report.latencies.push(started.elapsed());
            *report.statuses.entry(status).or_default() += 1;
            if (200..300).contains(&status) {
                report.acknowledged.push(number);
            }
        } else {
            report.unanswered += 1;
            connection = None;
            sleep_until(deadline.min(Instant::now() + RECONNECT_PAUSE)).await;
        }
    }
    report
}

/// Sends one request, over the connection that is there or a new one, and answers with the status.
async fn exchange(
    connection: &mut Option<Connection>,
    addr: SocketAddr,
    request: &[u8],
) -> io::Result<u16> {
    let open = match connection {
        Some(open) => open,
        None => connection.insert(Connection::open(addr).await?),
    };
    open.stream.write_all(request).await?;
    let answer = open.read_answer().await?;
    if answer.closes {
        *connection = None;
    }
    Ok(answer.status)
}

struct Connection {
    stream: TcpStream,
    received: Vec<u8>,
}

impl Connection {
    async fn open(addr: SocketAddr) -> io::Result<Self> {
        let stream = TcpStream::connect(addr).await?;
        stream.set_nodelay(true)?;
        Ok(Self {
            stream,
            received: Vec::with_capacity(4096),
        })
    }

    /// Reads one answer to its end. Nothing is pipelined, so what was received begins with it.
    async fn read_answer(&mut self) -> io::Result<Answer> {
        self.received.clear();
        loop {
            if let Some(answer) = Answer::parse(&self.received)? {
                return Ok(answer);
            }
            if self.received.len() > ANSWER_MAX {
                return Err(broken("the answer is too long"));
            }
            if self.stream.read_buf(&mut self.received).await? == 0 {
                return Err(io::ErrorKind::UnexpectedEof.into());
            }
        }
    }
}

#[derive(Debug, PartialEq, Eq)]
struct Answer {
    status: u16,
    /// The server closes the connection after it.
    closes: bool,
}

impl Answer {
    /// `None` while the answer is incomplete.
    fn parse(received: &[u8]) -> io::Result<Option<Self>> {
        let Some(head_end) = received.windows(4).position(|bytes| bytes == b"\r\n\r\n") else {
            return Ok(None);
        };
        let head = String::from_utf8_lossy(received.get(..head_end).unwrap_or_default())
            .to_ascii_lowercase();
        let body = received.get(head_end + 4..).unwrap_or_default();
        let header = |name: &str| {
            head.lines()
                .find_map(|line| line.strip_prefix(name)?.strip_prefix(':'))
                .map(str::trim)
        };
        let complete = if header("transfer-encoding") == Some("chunked") {
            body.ends_with(b"0\r\n\r\n")
        } else {
            let length: usize = header("content-length")
                .and_then(|length| length.parse().ok())
                .ok_or_else(|| broken("the answer does not say its length"))?;
            body.len() >= length
        };
        let status = head
            .split(' ')
            .nth(1)
            .and_then(|status| status.parse().ok())
            .ok_or_else(|| broken("the answer has no status"))?;
        Ok(complete.then(|| Self {
            status,
            closes: header("connection") == Some("close"),
        }))
    }
}

fn broken(why: &'static str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, why)
}

/// The bytes of a POST with a JSON body, to the gateway or to a service behind it. `headers` are whole lines, each with
/// its `\r\n`.
pub fn post(path: &str, headers: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!(
        "POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-type: application/json\r\n\
         content-length: {length}\r\n{key}: {INTERNAL_KEY}\r\n{headers}\r\n{body}",
        key = names::INTERNAL_KEY
    )
    .into_bytes()
}

/// The bytes of a GET.
pub fn get(path: &str) -> Vec<u8> {
    format!("GET {path} HTTP/1.1\r\nhost: localhost\r\n\r\n").into_bytes()
}

/// Signed Stripe events of one type, each with an id of its own that grows with time, as Stripe's do.
pub struct StripeEvents {
    event_type: &'static str,
    secret: String,
    clock: Clock,
    /// When these were begun, in milliseconds: no two loads share an id.
    begun_ms: u64,
}

impl StripeEvents {
    pub fn new(event_type: &'static str, secret: &str, clock: Clock) -> Self {
        Self {
            event_type,
            secret: secret.to_owned(),
            begun_ms: clock.now().as_millisecond().unsigned_abs(),
            clock,
        }
    }

    /// The id of event number `n`.
    pub fn id(&self, n: u64) -> String {
        format!("evt_1{}{}", base62::<8>(self.begun_ms), base62::<15>(n))
    }

    /// The request that Stripe would send for event number `n`, signed now.
    pub fn request(&self, n: u64) -> Vec<u8> {
        let event_type = self.event_type;
        let now = self.clock.now().as_second();
        let id = self.id(n);
        let object = base62::<24>(n);
        let body = format!(
            r#"{{"id":"{id}","object":"event","api_version":"2025-03-31","created":{now},"livemode":false,"pending_webhooks":1,"type":"{event_type}","request":{{"id":null,"idempotency_key":null}},"data":{{"object":{{"id":"in_{object}","object":"invoice","amount_due":1999,"amount_paid":1999,"currency":"usd","customer":"cus_{object}","status":"paid","attempt_count":1,"collection_method":"charge_automatically","metadata":{{"order":"{n}"}}}}}}}}"#
        );
        let signature = signature::stripe::sign(&self.secret, now, body.as_bytes());
        let header = format!("{}: {signature}\r\n", names::STRIPE_SIGNATURE);
        post(names::INGEST_STRIPE, &header, &body)
    }
}

/// `WIDTH` digits, so that the texts sort as the numbers do.
fn base62<const WIDTH: usize>(mut number: u64) -> String {
    const DIGITS: &[u8; 62] = b"0123456789ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz";
    let mut text = [b'0'; WIDTH];
    for place in text.iter_mut().rev() {
        *place = DIGITS[(number % 62) as usize];
        number /= 62;
    }
    text.iter().copied().map(char::from).collect()
}

#[cfg(test)]
mod tests {
    use axum::Router;
    use axum::routing::post as on_post;
    use runtime::server;
    use tokio::net::TcpListener;
    use tokio_util::sync::CancellationToken;

    use super::*;

    #[tokio::test]
    async fn every_request_is_sent_once_and_counted_by_its_status() {
        let seen = Arc::new(AtomicU64::new(0));
        let counter = Arc::clone(&seen);
        let router = Router::new().route(
            "/",
            on_post(async move |body: String| {
                counter.fetch_add(1, Ordering::Relaxed);
                if body == "7" {
                    http::StatusCode::SERVICE_UNAVAILABLE
                } else {
                    http::StatusCode::OK
                }
            }),
        );
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let serving = server::serve(listener, router, server::Limits::INTERNAL, shutdown.clone());
        let server = tokio::spawn(serving);

        let report = run(Load {
            addr,
            connections: 4,
            total: 100,
            time_limit: Duration::from_secs(30),
            make_request: |n: u64| post("/", "", &n.to_string()),
        })
        .await
        .unwrap();

        shutdown.cancel();
        server.await.unwrap().unwrap();
        assert_eq!(seen.load(Ordering::Relaxed), 100);
        assert_eq!(report.statuses, BTreeMap::from([(200, 99), (503, 1)]));
        assert_eq!(report.unanswered, 0);
        assert_eq!(report.acknowledged.len(), 99);
        assert!(!report.acknowledged.contains(&7));
        assert!(report.quantile(0.5) > Duration::ZERO);
        assert!(report.quantile(1.0) <= report.elapsed);
    }

    #[tokio::test]
    async fn a_load_where_nobody_listens_ends_in_time() {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let addr = listener.local_addr().unwrap();
        drop(listener);

        let report = run(Load {
            addr,
            connections: 2,
            total: 4,
            time_limit: Duration::from_secs(30),
            make_request: |n: u64| post("/", "", &n.to_string()),
        })
        .await
        .unwrap();

        assert_eq!(report.unanswered, 4);
        assert_eq!(report.answered(), 0);
    }

    #[tokio::test]
    async fn only_ones_own_machine_is_loaded() {
        let refused = run(Load {
            addr: "192.0.2.1:80".parse().unwrap(),
            connections: 1,
            total: 1,
            time_limit: Duration::from_secs(1),
            make_request: |_| Vec::new(),
        })
        .await;

        assert!(refused.unwrap_err().to_string().contains("loopback"));
    }

    #[test]
    fn answers_are_complete_at_their_length_or_last_chunk() {
        let ok = |closes| {
            Some(Answer {
                status: 200,
                closes,
            })
        };
        for (received, expected) in [
            ("HTTP/1.1 200 OK\r\ncontent-le", None),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{", None),
            ("HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}", ok(false)),
            (
                "HTTP/1.1 200 OK\r\nconnection: close\r\ncontent-length: 0\r\n\r\n",
                ok(true),
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n",
                None,
            ),
            (
                "HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n2\r\n{}\r\n0\r\n\r\n",
                ok(false),
            ),
        ] {
            assert_eq!(
                Answer::parse(received.as_bytes()).unwrap(),
                expected,
                "{received}"
            );
        }
    }

    #[test]
    fn events_are_signed_and_their_ids_grow() {
        let clock = Clock::system();
        let events = StripeEvents::new("invoice.paid", "whsec_test", clock.clone());

        let request = String::from_utf8(events.request(5)).unwrap();

        let (head, body) = request.split_once("\r\n\r\n").unwrap();
        let header = head
            .lines()
            .find_map(|line| line.strip_prefix("stripe-signature: "))
            .unwrap();
        let verified = signature::stripe::verify(
            [header.as_bytes()],
            body.as_bytes(),
            ["whsec_test"],
            clock.now().as_second(),
        );
        assert_eq!(verified, Ok(()));
        let event: serde_json::Value = serde_json::from_str(body).unwrap();
        assert_eq!(event["id"], events.id(5));
        assert!(events.id(61) < events.id(62) && events.id(62) < events.id(100_000));
        assert_eq!(events.id(0).len(), "evt_1NG8Du2eZvKYlo2CUI79vXWy".len());
    }
}
