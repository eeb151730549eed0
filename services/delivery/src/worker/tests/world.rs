//! The worker's neighbours, in process: no socket, so that time can be paused.

use std::collections::{HashMap, VecDeque};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::{Extension, Query, State};
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use bytes::Bytes;
use http::{HeaderMap, StatusCode};
use jiff::Timestamp;
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware, Middleware, Next};
use runtime::clock::Clock;
use runtime::config::List;
use runtime::http_client::{self, Unanswered};
use runtime::internal_key::InternalKey;
use runtime::metrics::Metrics;
use runtime::upstream::Upstream;
use schema::delivery::{Outcome, Outcomes, Status};
use schema::feed::{Action, FeedPage, Notice};
use schema::{CorrelationId, EventId, names};
use serde::Deserialize;
use serde_json::value::RawValue;
use tokio::sync::Notify;
use tokio::task::JoinHandle;
use tower::ServiceExt as _;

use super::super::send::Senders;
use super::super::vitals::Vitals;
use super::super::{Bounds, Chance, Outside, Worker};
use crate::app;
use crate::config::Config;
use crate::domain::requests::Defaults;
use crate::error::Error;
use crate::storage::Storage;
use clients::event_store::EventStore;
use tokio_util::sync::CancellationToken;

/// What the destination does with one request.
#[derive(Clone, Copy, Debug)]
pub(super) enum Reply {
    Status(u16),
    RetryAfter(u16, &'static str),
    /// The answer comes after this.
    Late(Duration),
    LateStatus(Duration, u16),
    /// It is received over a connection that had been kept, which then breaks before any byte of an answer.
    KeptReset,
    /// No answer ever.
    Hang,
    /// The attempt's task dies of it.
    Panic,
}

/// One request that arrived at a destination.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Received {
    pub(super) host: String,
    pub(super) at: Timestamp,
    /// Of the hub, as the body has it.
    pub(super) event_id: String,
    pub(super) webhook_id: String,
    pub(super) attempt: u32,
    pub(super) correlation_id: String,
    pub(super) content_type: String,
    pub(super) body: Bytes,
}

/// The host of the built-in endpoint.
const PAGERDUTY: &str = "pagerduty";

/// Everything around the worker; it outlives the worker's deaths.
pub(super) struct World {
    pub(super) clock: Clock,
    pub(super) storage: Arc<dyn Storage>,
    pub(super) vitals: Arc<Vitals>,
    pub(super) schedule: Vec<u64>,
    pub(super) bounds: Bounds,
    state: Arc<Neighbours>,
}

struct Neighbours {
    clock: Clock,
    /// By host.
    scripts: Mutex<HashMap<String, Script>>,
    received: Mutex<Vec<Received>>,
    feed: Mutex<Feed>,
    published: Notify,
    outcomes: Mutex<Vec<Outcome>>,
    deaf_to_reports: Mutex<u32>,
    refused_event: Mutex<Option<String>>,
    /// Host and event of what ends the process that sends it.
    poison: Mutex<Option<(String, String)>>,
    poisoned: Notify,
}

/// What a destination does: each of these once, then the last for ever.
pub(super) struct Script {
    pub(super) next: VecDeque<Reply>,
    pub(super) always: Reply,
}

impl Default for Script {
    fn default() -> Self {
        Self {
            next: VecDeque::new(),
            always: Reply::Status(202),
        }
    }
}

#[derive(Default)]
struct Feed {
    run: u32,
    too_old: bool,
    away: bool,
    notices: Vec<(EventId, Timestamp, Vec<String>)>,
}

/// A worker at work.
pub(super) struct Running {
    pub(super) worker: Arc<Worker>,
    shutdown: CancellationToken,
    task: JoinHandle<Result<(), Error>>,
}

impl Running {
    /// As a crash: nothing is finished, nothing is said.
    pub(super) fn kill(self) {
        self.task.abort();
    }

    pub(super) async fn stop(self) -> Result<(), Error> {
        self.shutdown.cancel();
        self.task.await.unwrap()
    }

    pub(super) async fn ended(self) -> Result<(), Error> {
        self.task.await.unwrap()
    }
}

impl World {
    pub(super) fn new() -> Self {
        let clock = Clock::starting_at("2024-01-15T10:00:00Z".parse().unwrap());
        let state = Neighbours {
            clock: clock.clone(),
            scripts: Mutex::default(),
            received: Mutex::default(),
            feed: Mutex::default(),
            published: Notify::new(),
            outcomes: Mutex::default(),
            deaf_to_reports: Mutex::default(),
            refused_event: Mutex::default(),
            poison: Mutex::default(),
            poisoned: Notify::new(),
        };
        let vitals = Arc::new(Vitals::new(&Metrics::new()));
        let config = Config {
            delivery_database_url: "memory:".to_owned(),
            ..Config::default()
        };
        Self {
            clock,
            storage: app::open(&config, &vitals).unwrap(),
            vitals,
            schedule: vec![0, 5, 300],
            bounds: config.bounds(),
            state: Arc::new(state),
        }
    }

    pub(super) async fn start(&self) -> Running {
        let http = self.network();
        let store = Upstream::new("event-store", &List::of(&["http://event-store"]));
        let config = Config {
            pagerduty_url: "http://pagerduty/page".to_owned(),
            pagerduty_schedule_s: List(self.schedule.iter().map(u64::to_string).collect()),
            delivery_schedule_s: List(self.schedule.iter().map(u64::to_string).collect()),
            ..Config::default()
        };
        let outside = Outside {
            storage: Arc::clone(&self.storage),
            event_store: EventStore::over(http.clone(), Arc::new(store), &InternalKey::default()),
            senders: Senders::alike(&http),
            doors: Arc::default(),
            clock: self.clock.clone(),
            chance: Chance::seeded(1),
            defaults: Defaults {
                policy: config.policy().unwrap(),
                pages: config.pages_policy().unwrap(),
                nets: config.nets().unwrap(),
            },
            bounds: self.bounds,
            retention: jiff::SignedDuration::from_hours(24 * 30),
            vitals: Arc::clone(&self.vitals),
        };
        let built_in = app::built_in(&config, self.clock.now()).unwrap();
        let worker = Worker::start(outside, built_in).await.unwrap();
        let shutdown = CancellationToken::new();
        let task = tokio::spawn(Arc::clone(&worker).run(shutdown.clone()));
        Running {
            worker,
            shutdown,
            task,
        }
    }

    fn network(&self) -> ClientWithMiddleware {
        let event_store = Router::new()
            .route(names::FEED, get(feed))
            .route(names::INTERNAL_OUTCOMES, post(outcomes))
            .with_state(Arc::clone(&self.state));
        let destinations = Router::new()
            .route("/{*path}", post(arrive))
            .with_state(Arc::clone(&self.state));
        let never_used = http_client::single_try(Duration::from_secs(1));
        let in_process = InProcess {
            event_store,
            destinations,
        };
        ClientBuilder::from_client(never_used)
            .with(in_process)
            .build()
    }

    /// The store has a new event that pages.
    pub(super) fn publish(&self, event_id: &str) {
        self.publish_as(event_id, self.clock.now(), &[]);
    }

    pub(super) fn publish_as(&self, event_id: &str, stored_at: Timestamp, delivered_to: &[&str]) {
        let delivered_to = delivered_to.iter().map(|name| (*name).to_owned()).collect();
        let event_id = EventId::parse(event_id).unwrap();
        let mut feed = self.state.feed.lock().unwrap();
        feed.notices.push((event_id, stored_at, delivered_to));
        self.state.published.notify_one();
    }

    /// The store forgets who has read what, as one that was restored or restarted in memory.
    pub(super) fn new_run(&self) {
        self.state.feed.lock().unwrap().run += 1;
        self.state.published.notify_one();
    }

    pub(super) fn prune_past_the_reader(&self) {
        self.state.feed.lock().unwrap().too_old = true;
        self.state.published.notify_one();
    }

    /// Whether the feed answers 503.
    pub(super) fn feed_away(&self, away: bool) {
        self.state.feed.lock().unwrap().away = away;
    }

    /// What PagerDuty does next.
    pub(super) fn then(&self, replies: &[Reply]) {
        self.script(PAGERDUTY, |script| script.next.extend(replies));
    }

    /// What PagerDuty does when nothing else was said.
    pub(super) fn always(&self, reply: Reply) {
        self.at(PAGERDUTY, reply);
    }

    /// What a host does from now on.
    pub(super) fn at(&self, host: &str, reply: Reply) {
        self.script(host, |script| {
            script.next.clear();
            script.always = reply;
        });
    }

    pub(super) fn script(&self, host: &str, change: impl FnOnce(&mut Script)) {
        let mut scripts = self.state.scripts.lock().unwrap();
        change(scripts.entry(host.to_owned()).or_default());
    }

    /// What arrived at a host.
    pub(super) fn received_at(&self, host: &str) -> Vec<Received> {
        let mut received = self.received();
        received.retain(|received| received.host == host);
        received
    }

    /// The next so many reports are refused with 503.
    pub(super) fn deaf_to_reports(&self, times: u32) {
        *self.state.deaf_to_reports.lock().unwrap() = times;
    }

    /// A report that names this event is refused with 400, whatever else it says.
    pub(super) fn refuse_reports_of(&self, event_id: &str) {
        *self.state.refused_event.lock().unwrap() = Some(event_id.to_owned());
    }

    /// This event, sent to this host, is what ends a process.
    pub(super) fn poison(&self, host: &str, event_id: &str) {
        *self.state.poison.lock().unwrap() = Some((host.to_owned(), event_id.to_owned()));
    }

    /// The poison was sent.
    pub(super) async fn poisoned(&self) {
        self.state.poisoned.notified().await;
    }

    pub(super) fn received(&self) -> Vec<Received> {
        self.state.received.lock().unwrap().clone()
    }

    pub(super) fn outcomes(&self) -> Vec<Outcome> {
        self.state.outcomes.lock().unwrap().clone()
    }

    /// Waits until it holds, for two virtual days at most.
    pub(super) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let mut wait = Duration::from_millis(10);
        while !holds(self) {
            assert!(wait < Duration::from_secs(2 * 24 * 3600), "never: {what}");
            tokio::time::sleep(wait).await;
            // A look costs more than virtual time does.
            wait = wait.mul_f64(1.02);
        }
    }

    pub(super) async fn until_received(&self, count: usize) {
        let what = format!("{count} requests at the destination");
        self.until(&what, |world| world.received().len() >= count)
            .await;
    }

    pub(super) async fn until_reported(&self, count: usize) {
        let what = format!("{count} outcomes at event-store");
        self.until(&what, |world| world.outcomes().len() >= count)
            .await;
    }
}

/// The bytes of an event, spelled as no serializer would.
pub(super) fn payload(event_id: &str) -> String {
    format!("{{ \"event_id\":\"{event_id}\", \"raw\":{{\"z\":1.0,\"a\":2}} }}")
}

/// Answers by router instead of by socket; the clients' own layers stay in the path.
struct InProcess {
    event_store: Router,
    destinations: Router,
}

#[async_trait::async_trait]
impl Middleware for InProcess {
    async fn handle(
        &self,
        request: reqwest::Request,
        _: &mut http::Extensions,
        _: Next<'_>,
    ) -> reqwest_middleware::Result<reqwest::Response> {
        let router = match request.url().host_str() {
            Some("event-store") => self.event_store.clone(),
            _ => self.destinations.clone(),
        };
        let host = request.url().host_str().unwrap_or_default().to_owned();
        let request: http::Request<reqwest::Body> = request.try_into()?;
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(Host(host));
        let response = router.oneshot(request).await.unwrap();
        if response.extensions().get::<KeptReset>().is_some() {
            // Whatever it was sent over: who resends is to know when to end.
            return Err(reqwest_middleware::Error::Middleware(
                Unanswered::on_a_kept_connection().into(),
            ));
        }
        let (head, body) = response.into_parts();
        let body = axum::body::to_bytes(body, usize::MAX).await.unwrap();
        Ok(http::Response::from_parts(head, body).into())
    }
}

/// Instead of an answer.
#[derive(Clone)]
struct KeptReset;

/// Where a request was sent to.
#[derive(Clone)]
struct Host(String);

#[derive(Deserialize)]
struct Asked {
    after: Option<String>,
    limit: usize,
    wait: u64,
}

async fn feed(State(state): State<Arc<Neighbours>>, Query(asked): Query<Asked>) -> Response {
    let deadline = tokio::time::Instant::now() + Duration::from_millis(asked.wait);
    loop {
        let answer = feed_now(&state, &asked);
        let waited = tokio::time::timeout_at(deadline, state.published.notified());
        match answer {
            Ok(page) if page.notices.is_empty() => {
                if waited.await.is_err() {
                    return axum::Json(page).into_response();
                }
            }
            Ok(page) => return axum::Json(page).into_response(),
            Err(status) => return status.into_response(),
        }
    }
}

fn feed_now(state: &Neighbours, asked: &Asked) -> Result<FeedPage, StatusCode> {
    let delivered = |event_id: &EventId| {
        let told = state.outcomes.lock().unwrap();
        told.iter()
            .any(|told| told.event_id == *event_id && told.state.status == Status::Delivered)
    };
    let mut feed = state.feed.lock().unwrap();
    if feed.away {
        return Err(StatusCode::SERVICE_UNAVAILABLE);
    }
    let after = match asked.after.as_deref() {
        None => 0,
        Some(token) => {
            if std::mem::take(&mut feed.too_old) {
                return Err(StatusCode::GONE);
            }
            let (run, position) = token.split_once('.').unwrap();
            if run != feed.run.to_string() {
                return Err(StatusCode::CONFLICT);
            }
            position.parse().unwrap()
        }
    };
    let notices: Vec<Notice> = feed
        .notices
        .iter()
        .enumerate()
        .skip(after)
        .take(asked.limit)
        .map(|(index, (event_id, stored_at, delivered_to))| Notice {
            position: index as u64 + 1,
            event_id: event_id.clone(),
            revision: 0,
            action: Action::Page,
            stored_at: *stored_at,
            correlation_id: CorrelationId::parse(&format!("corr-{event_id}")).unwrap(),
            delivered_to: if delivered(event_id) {
                vec!["pagerduty".to_owned()]
            } else {
                delivered_to.clone()
            },
            event: RawValue::from_string(payload(event_id.as_str())).unwrap(),
        })
        .collect();
    Ok(FeedPage {
        next: format!("{}.{}", feed.run, after + notices.len()),
        more: after + notices.len() < feed.notices.len(),
        notices,
        head: feed.notices.len() as u64,
    })
}

async fn outcomes(
    State(state): State<Arc<Neighbours>>,
    axum::Json(batch): axum::Json<Outcomes>,
) -> Response {
    let mut deaf = state.deaf_to_reports.lock().unwrap();
    if *deaf > 0 {
        *deaf -= 1;
        return StatusCode::SERVICE_UNAVAILABLE.into_response();
    }
    let refused = state.refused_event.lock().unwrap();
    let mut named = batch.outcomes.iter().map(|told| told.event_id.as_str());
    if named.any(|named| refused.as_deref() == Some(named)) {
        return StatusCode::BAD_REQUEST.into_response();
    }
    state.outcomes.lock().unwrap().extend(batch.outcomes);
    axum::Json(serde_json::json!({})).into_response()
}

async fn arrive(
    State(state): State<Arc<Neighbours>>,
    Extension(Host(host)): Extension<Host>,
    headers: HeaderMap,
    body: Bytes,
) -> Response {
    let header = |name: &str| headers[name].to_str().unwrap().to_owned();
    let told: serde_json::Value = serde_json::from_slice(&body).unwrap();
    let received = Received {
        at: state.clock.now(),
        event_id: told["event_id"].as_str().unwrap_or_default().to_owned(),
        webhook_id: header(names::WEBHOOK_ID),
        attempt: header(names::WEBHOOK_ATTEMPT).parse().unwrap(),
        correlation_id: header(names::CORRELATION_ID),
        content_type: header("content-type"),
        host: host.clone(),
        body,
    };
    let sent = (received.host.clone(), received.event_id.clone());
    state.received.lock().unwrap().push(received);
    if state.poison.lock().unwrap().as_ref() == Some(&sent) {
        state.poisoned.notify_one();
        return std::future::pending().await;
    }
    let reply = {
        let mut scripts = state.scripts.lock().unwrap();
        let script = scripts.entry(host).or_default();
        script.next.pop_front().unwrap_or(script.always)
    };
    match reply {
        Reply::Status(status) => answer(status),
        Reply::RetryAfter(status, after) => {
            ([("retry-after", after)], answer(status)).into_response()
        }
        Reply::LateStatus(after, status) => {
            tokio::time::sleep(after).await;
            StatusCode::from_u16(status).unwrap().into_response()
        }
        Reply::Late(after) => {
            tokio::time::sleep(after).await;
            answer(202)
        }
        Reply::KeptReset => Extension(KeptReset).into_response(),
        Reply::Hang => std::future::pending().await,
        Reply::Panic => panic!("as a fault of the sender would"),
    }
}

fn answer(status: u16) -> Response {
    let status = StatusCode::from_u16(status).unwrap();
    (status, "x".repeat(3_000)).into_response()
}
