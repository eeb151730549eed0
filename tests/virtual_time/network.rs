//! The network, in process: destinations by host, and the hub's store. No socket, so that time can be paused.

use std::collections::HashMap;
use std::future::pending;
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard};
use std::time::Duration;

use anyhow::anyhow;
use axum::Router;
use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use rand::SeedableRng as _;
use rand::rngs::StdRng;
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Error, Middleware, Next};
use runtime::clock::Clock;
use runtime::http_client::{OverAFreshConnection, Unanswered};
use schema::names;
use signature::standard::{self, Key};
use tokio::time::{sleep, timeout};
use tower::ServiceExt as _;

use super::destination::{Mood, Reply};

/// Where the hub's store is.
pub(crate) const EVENT_STORE: &str = "event-store";

/// Of calls to the hub's store that name no other.
pub(crate) const INTERNAL_TIMEOUT: Duration = Duration::from_secs(10);

/// One request that arrived at a destination.
#[derive(Clone, Debug)]
pub(crate) struct Receipt {
    pub(crate) at: Timestamp,
    pub(crate) host: String,
    pub(crate) webhook_id: String,
    pub(crate) attempt: u32,
    /// The destination took it, whatever the sender heard of that.
    pub(crate) accepted: bool,
    /// What the sender's process was told.
    pub(crate) answered: Option<u16>,
    /// It was still the one that owns the lane.
    pub(crate) to_the_living: bool,
}

/// How the hub's store can be reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Weather {
    Fair,
    /// Nobody is there.
    Away,
    /// It answers 503.
    Failing,
    /// What it answers is lost.
    Mute,
}

/// A process of delivery, as far as the network knows it.
#[derive(Default)]
pub(crate) struct Process(AtomicU8);

const DEAD: u8 = 1;
const FORGOTTEN: u8 = 2;

impl Process {
    /// Nothing more leaves it or reaches it.
    pub(crate) fn die(&self) {
        self.0.store(DEAD, Ordering::Relaxed);
    }

    /// It owns nothing any more and does not know; what was on its way goes on.
    pub(crate) fn be_forgotten(&self) {
        self.0.store(FORGOTTEN, Ordering::Relaxed);
    }

    fn is_dead(&self) -> bool {
        self.0.load(Ordering::Relaxed) == DEAD
    }

    fn is_living(&self) -> bool {
        self.0.load(Ordering::Relaxed) == 0
    }
}

#[derive(Default)]
struct Site {
    mood: Mood,
    asked: u64,
    /// With which of its secrets the next request is signed; none of them: not looked at.
    key: Option<Key>,
}

/// Everything that delivery reaches. It outlives delivery's deaths.
pub(crate) struct Net {
    clock: Clock,
    seed: u64,
    store: Mutex<Option<Router>>,
    weather: Mutex<Weather>,
    sites: Mutex<HashMap<String, Site>>,
    receipts: Mutex<Vec<Receipt>>,
    /// By `webhook-id`: the bytes that came first.
    bodies: Mutex<HashMap<String, Bytes>>,
    /// The first request that was not as it must be.
    wrong: Mutex<Option<String>>,
}

fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().expect("nobody panics with it")
}

impl Net {
    pub(crate) fn new(clock: Clock, seed: u64) -> Arc<Self> {
        Arc::new(Self {
            clock,
            seed,
            store: Mutex::default(),
            weather: Mutex::new(Weather::Fair),
            sites: Mutex::default(),
            receipts: Mutex::default(),
            bodies: Mutex::default(),
            wrong: Mutex::default(),
        })
    }

    /// The client with its own layers, over this network instead of sockets.
    pub(crate) fn under(
        self: &Arc<Self>,
        client: ClientWithMiddleware,
        process: &Arc<Process>,
    ) -> ClientWithMiddleware {
        let wire = Wire {
            net: Arc::clone(self),
            process: Arc::clone(process),
        };
        ClientBuilder::from_client(client).with(wire).build()
    }

    pub(crate) fn put_store(&self, router: Router) {
        *lock(&self.store) = Some(router);
    }

    pub(crate) fn set_weather(&self, weather: Weather) {
        *lock(&self.weather) = weather;
    }

    pub(crate) fn set_mood(&self, host: &str, mood: Mood) {
        lock(&self.sites).entry(host.to_owned()).or_default().mood = mood;
    }

    pub(crate) fn set_key(&self, host: &str, secret: &str) -> anyhow::Result<()> {
        let key = Key::parse(secret)?;
        lock(&self.sites).entry(host.to_owned()).or_default().key = Some(key);
        Ok(())
    }

    pub(crate) fn all_are_well(&self) {
        self.set_weather(Weather::Fair);
        for site in lock(&self.sites).values_mut() {
            site.mood = Mood::Well;
        }
    }

    pub(crate) fn receipts(&self) -> Vec<Receipt> {
        lock(&self.receipts).clone()
    }

    pub(crate) fn received(&self) -> usize {
        lock(&self.receipts).len()
    }

    /// Requests to a host, those that nobody received included.
    pub(crate) fn asked(&self, host: &str) -> u64 {
        lock(&self.sites).get(host).map_or(0, |site| site.asked)
    }

    pub(crate) fn body(&self, webhook_id: &str) -> Option<Bytes> {
        lock(&self.bodies).get(webhook_id).cloned()
    }

    pub(crate) fn look_for_wrong(&self) -> anyhow::Result<()> {
        match lock(&self.wrong).take() {
            Some(wrong) => Err(anyhow!(wrong)),
            None => Ok(()),
        }
    }

    async fn ask_store(&self, request: reqwest::Request) -> Result<reqwest::Response, Error> {
        let weather = *lock(&self.weather);
        match weather {
            Weather::Away => return Err(nobody()),
            Weather::Failing => return Ok(response(503, None)),
            Weather::Fair | Weather::Mute => {}
        }
        let Some(store) = lock(&self.store).clone() else {
            return Err(nobody());
        };
        let request: http::Request<reqwest::Body> = request.try_into()?;
        let answer = store.oneshot(request.map(Body::new)).await;
        let (head, body) = answer.unwrap_or_else(|never| match never {}).into_parts();
        let body = axum::body::to_bytes(body, usize::MAX)
            .await
            .map_err(|fault| Error::Middleware(fault.into()))?;
        if weather == Weather::Mute {
            return pending().await;
        }
        Ok(http::Response::from_parts(head, body).into())
    }

    /// What the destination does, as its mood and its count of requests say.
    fn reply(&self, host: &str) -> Reply {
        let mut sites = lock(&self.sites);
        let site = sites.entry(host.to_owned()).or_default();
        site.asked += 1;
        let of_host = host.bytes().fold(self.seed, |hash, byte| {
            hash.wrapping_mul(0x100_0000_01b3) ^ u64::from(byte)
        });
        let mut rng = StdRng::seed_from_u64(of_host.wrapping_add(site.asked << 32));
        site.mood.reply(&mut rng)
    }

    /// Writes the request down; answers its place.
    fn receive(&self, host: &str, request: &reqwest::Request, accepted: bool) -> usize {
        let text = |name: &str| header(request.headers(), name);
        let body = request.body().and_then(reqwest::Body::as_bytes);
        let body = Bytes::copy_from_slice(body.unwrap_or_default());
        let webhook_id = text(names::WEBHOOK_ID);
        if let Err(wrong) = self.verify(host, request.headers(), &webhook_id, &body) {
            lock(&self.wrong).get_or_insert(wrong);
        }
        let receipt = Receipt {
            at: self.clock.now(),
            host: host.to_owned(),
            attempt: text(names::WEBHOOK_ATTEMPT).parse().unwrap_or_default(),
            webhook_id,
            accepted,
            answered: None,
            to_the_living: false,
        };
        let mut receipts = lock(&self.receipts);
        receipts.push(receipt);
        receipts.len() - 1
    }

    fn verify(
        &self,
        host: &str,
        headers: &HeaderMap,
        webhook_id: &str,
        body: &Bytes,
    ) -> Result<(), String> {
        let mut bodies = lock(&self.bodies);
        let first = bodies
            .entry(webhook_id.to_owned())
            .or_insert_with(|| body.clone());
        if first != body {
            return Err(format!("R9: {webhook_id} has another body at {host}"));
        }
        let sites = lock(&self.sites);
        let Some(key) = sites.get(host).and_then(|site| site.key.as_ref()) else {
            return Ok(());
        };
        let (stamp, signatures) = (
            header(headers, names::WEBHOOK_TIMESTAMP),
            header(headers, names::WEBHOOK_SIGNATURE),
        );
        let now = self.clock.now().as_second();
        standard::verify([key], webhook_id, &stamp, &signatures, body, now)
            .map_err(|refusal| format!("signature of {webhook_id} at {host}: {refusal}"))
    }

    fn note_answer(&self, receipt: usize, status: u16, living: bool) {
        let mut receipts = lock(&self.receipts);
        receipts[receipt].answered = Some(status);
        receipts[receipt].to_the_living = living;
    }
}

/// Answers instead of a socket, below all of the client's own layers.
struct Wire {
    net: Arc<Net>,
    process: Arc<Process>,
}

impl Wire {
    async fn deliver(
        &self,
        host: &str,
        request: reqwest::Request,
        is_fresh: bool,
    ) -> Result<reqwest::Response, Error> {
        let reply = self.net.reply(host);
        if reply == Reply::Refuse {
            return Err(nobody());
        }
        let receipt = self.net.receive(host, &request, reply.is_acceptance());
        let (status, after, retry_after) = match reply {
            Reply::Status { status, after } => (status, after, None),
            Reply::Throttle { seconds } => (429, Duration::ZERO, Some(seconds)),
            Reply::KeptReset if !is_fresh => {
                return Err(Error::Middleware(Unanswered::on_a_kept_connection().into()));
            }
            Reply::Reset | Reply::KeptReset => {
                return Err(Error::Middleware(anyhow!("reset")));
            }
            Reply::Mute | Reply::Refuse => return pending().await,
        };
        if !after.is_zero() {
            sleep(after).await;
        }
        if self.process.is_dead() {
            return pending().await;
        }
        self.net
            .note_answer(receipt, status, self.process.is_living());
        Ok(response(status, retry_after))
    }
}

#[async_trait::async_trait]
impl Middleware for Wire {
    async fn handle(
        &self,
        request: reqwest::Request,
        extensions: &mut http::Extensions,
        _: Next<'_>,
    ) -> reqwest_middleware::Result<reqwest::Response> {
        if self.process.is_dead() {
            return pending().await;
        }
        let host = request.url().host_str().unwrap_or_default().to_owned();
        if host != EVENT_STORE {
            let is_fresh = extensions.get::<OverAFreshConnection>().is_some();
            return self.deliver(&host, request, is_fresh).await;
        }
        // What the connector, which is not reached, would see to.
        let patience = request.timeout().copied().unwrap_or(INTERNAL_TIMEOUT);
        let answer = timeout(patience, self.net.ask_store(request)).await;
        if self.process.is_dead() {
            return pending().await;
        }
        answer.unwrap_or_else(|late| Err(Error::Middleware(late.into())))
    }
}

fn header(headers: &HeaderMap, name: &str) -> String {
    let value = headers.get(name).and_then(|value| value.to_str().ok());
    value.unwrap_or_default().to_owned()
}

/// As a connection that is refused: told apart by no word of its own, but out of reach.
fn nobody() -> Error {
    Error::Middleware(anyhow!("connection refused"))
}

fn response(status: u16, retry_after: Option<u32>) -> reqwest::Response {
    let mut response = http::Response::new(Bytes::from_static(b"{}"));
    *response.status_mut() = StatusCode::from_u16(status).expect("a status");
    if let Some(seconds) = retry_after {
        let headers = response.headers_mut();
        headers.insert(http::header::RETRY_AFTER, seconds.into());
    }
    response.into()
}
