//! The poller on a free port, a vendor that does as it is told, and an event-store that keeps events in a map.

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use axum::extract::{Query, State};
use axum::routing::{get, post};
use axum::{Json, Router};
use http::StatusCode;
use runtime::clock::Clock;
use runtime::config::{self, List};
use runtime::{http_client, internal_key};
use schema::intake::{Batch, BatchResults, Receipt, Resolutions, Resolved, Submission};
use schema::{Event, EventId, Severity, names};
use serde_json::{Value, json};
use status_poller::app::{App, Deadlines};
use status_poller::config::Config;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpSocket, TcpStream};
use tokio_util::sync::{CancellationToken, DropGuard};

/// Longer than the second try of a page that answers, far shorter than anybody's patience.
const FETCH: Duration = Duration::from_secs(6);
const STORE: Duration = Duration::from_secs(10);
const KEY: &str = "key-of-the-tests";
const PATIENCE: Duration = Duration::from_secs(60);

/// What a vendor does with a request.
#[derive(Clone)]
pub(crate) enum Behaviour {
    Answer(u16, Vec<u8>),
    Silent,
    Trickle(Vec<u8>),
    Cut(Vec<u8>),
    Bare(Vec<u8>),
}

/// A status page that does as it is told.
#[derive(Clone)]
pub(crate) struct Vendor {
    pub(crate) address: SocketAddr,
    behaviour: Arc<Mutex<Behaviour>>,
    connections: Arc<AtomicUsize>,
}

impl Vendor {
    pub(crate) async fn start(behaviour: Behaviour) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let vendor = Self {
            address: listener.local_addr().unwrap(),
            behaviour: Arc::new(Mutex::new(behaviour)),
            connections: Arc::default(),
        };
        let (told, connections) = (
            Arc::clone(&vendor.behaviour),
            Arc::clone(&vendor.connections),
        );
        tokio::spawn(async move {
            while let Ok((stream, peer)) = listener.accept().await {
                let behaviour = told.lock().unwrap().clone();
                connections.fetch_add(1, Ordering::SeqCst);
                tokio::spawn(async move {
                    // A client that has read enough closes.
                    let _closed = answer(stream, peer, behaviour).await;
                });
            }
        });
        vendor
    }

    /// Requests so far: each has a connection of its own.
    pub(crate) fn asked(&self) -> usize {
        self.connections.load(Ordering::SeqCst)
    }

    /// Waits for that many requests, 40 s at most.
    pub(crate) async fn has_been_asked(&self, times: usize) {
        let asked = async {
            while self.asked() < times {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(40), asked)
            .await
            .unwrap();
    }

    pub(crate) fn now(&self, behaviour: Behaviour) {
        *self
            .behaviour
            .lock()
            .unwrap_or_else(PoisonError::into_inner) = behaviour;
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}/api/v2/summary.json", self.address)
    }
}

/// An address that refuses: bound, so that nobody else gets it, but without a listener.
pub(crate) struct Vacant(TcpSocket);

impl Vacant {
    pub(crate) fn bind() -> Self {
        let socket = TcpSocket::new_v4().unwrap();
        socket.bind("127.0.0.1:0".parse().unwrap()).unwrap();
        Self(socket)
    }

    pub(crate) fn url(&self) -> String {
        format!("http://{}", self.0.local_addr().unwrap())
    }
}

async fn answer(
    mut stream: TcpStream,
    peer: SocketAddr,
    behaviour: Behaviour,
) -> std::io::Result<()> {
    let mut head = Vec::new();
    while !head.ends_with(b"\r\n\r\n") {
        head.push(stream.read_u8().await?);
    }
    let whole = |status: u16, length: usize| {
        format!(
            "HTTP/1.1 {status} Status\r\nContent-Type: text/html\r\nLocation: http://{peer}/\r\nContent-Length: {length}\r\nConnection: close\r\n\r\n"
        )
    };
    match behaviour {
        Behaviour::Answer(status, body) => {
            stream
                .write_all(whole(status, body.len()).as_bytes())
                .await?;
            stream.write_all(&body).await?;
        }
        Behaviour::Silent => tokio::time::sleep(PATIENCE).await,
        Behaviour::Trickle(body) => {
            stream.write_all(whole(200, body.len()).as_bytes()).await?;
            for byte in body {
                stream.write_u8(byte).await?;
                tokio::time::sleep(FETCH / 8).await;
            }
        }
        Behaviour::Cut(body) => {
            stream
                .write_all(whole(200, body.len() + 1).as_bytes())
                .await?;
            stream.write_all(&body).await?;
        }
        Behaviour::Bare(bytes) => stream.write_all(&bytes).await?,
    }
    stream.shutdown().await
}

/// What event-store does, in a map. It routes what is critical and not over.
#[derive(Clone, Default)]
pub(crate) struct Store(Arc<Mutex<BTreeMap<EventId, Event>>>);

impl Store {
    pub(crate) async fn start(&self) -> String {
        let router = Router::new()
            .route(names::HEALTHZ, get(async || Json(json!({"ok": true}))))
            .route(names::EVENTS, get(events))
            .route(names::INTERNAL_EVENTS, post(take))
            .route(names::INTERNAL_RESOLUTIONS, post(resolve))
            .with_state(self.clone());
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        tokio::spawn(async move { axum::serve(listener, router).await });
        url
    }

    pub(crate) fn events(&self) -> Vec<Event> {
        self.0.lock().unwrap().values().cloned().collect()
    }
}

async fn take(State(store): State<Store>, Json(batch): Json<Batch>) -> Json<BatchResults> {
    let mut events = store.0.lock().unwrap();
    let receipt = |item: Submission| {
        let event = item.event;
        let routed = event.severity == Severity::Critical && event.resolved_at.is_none();
        match events.insert(event.event_id.clone(), event.clone()) {
            None => Receipt::Stored { routed },
            Some(first) => {
                events.insert(event.event_id, first);
                Receipt::Duplicate { routed }
            }
        }
    };
    let items = batch
        .items
        .iter()
        .map(|item| serde_json::from_str(item.get()).unwrap());
    let results = items.map(receipt).collect();
    Json(BatchResults { results })
}

async fn resolve(State(store): State<Store>, Json(asked): Json<Resolutions>) -> Json<Resolved> {
    let mut events = store.0.lock().unwrap();
    let closed = asked.items.iter().filter(|item| {
        events
            .get_mut(&item.event_id)
            .is_some_and(|event| event.resolved_at.replace(item.resolved_at).is_none())
    });
    Json(Resolved {
        resolved: closed.count(),
    })
}

/// One event a page, so that reading on is tried too.
async fn events(
    State(store): State<Store>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Json<Value> {
    assert_eq!(query["open"], "true");
    let open: Vec<Event> = store
        .events()
        .into_iter()
        .filter(|event| event.source.as_str() == query["source"] && event.resolved_at.is_none())
        .collect();
    let at: usize = query
        .get("cursor")
        .map_or(0, |cursor| cursor.parse().unwrap());
    let page: Vec<Value> = open.get(at).map(view).into_iter().collect();
    let next = (at + 1 < open.len()).then(|| (at + 1).to_string());
    Json(json!({"events": page, "next_cursor": next}))
}

fn view(event: &Event) -> Value {
    let mut view = serde_json::to_value(event).unwrap();
    let further = json!({
        "routed": false, "delivered_to": [], "stored_at": "2024-01-15T12:00:00Z", "revision": 0, "correlation_id": "c",
    });
    view.as_object_mut()
        .unwrap()
        .extend(further.as_object().unwrap().clone());
    view
}

/// The poller, running until dropped.
pub(crate) struct Poller {
    url: String,
    _running: DropGuard,
}

impl Poller {
    pub(crate) async fn start(store_url: &str, variables: &[(&str, &str)]) -> Self {
        Self::start_within(FETCH, store_url, variables).await
    }

    /// With a schedule that does not ring during a test, unless `variables` say otherwise.
    pub(crate) async fn start_within(
        fetch: Duration,
        store_url: &str,
        variables: &[(&str, &str)],
    ) -> Self {
        let key = (internal_key::VARIABLE, KEY);
        let mut config: Config = config::from_variables(
            [key]
                .iter()
                .chain(variables)
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
        )
        .unwrap();
        config.event_store_url = List::of(&[store_url]);
        if config.status_poll_cron == Config::default().status_poll_cron {
            config.status_poll_cron = "0 0 0 1 1 *".to_owned();
        }
        let deadlines = Deadlines {
            fetch,
            store: STORE,
        };
        let app = App::with_deadlines(&config, Clock::system(), deadlines).unwrap();
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let shutdown = CancellationToken::new();
        tokio::spawn(app.run(listener, shutdown.clone()));
        Self {
            url,
            _running: shutdown.drop_guard(),
        }
    }

    pub(crate) async fn get(&self, path: &str) -> String {
        let client = http_client::single_try(PATIENCE);
        let response = client
            .get(format!("{}{path}", self.url))
            .header(names::INTERNAL_KEY, KEY)
            .send()
            .await
            .unwrap();
        response.text().await.unwrap()
    }

    /// The bytes of a pull's answer.
    pub(crate) async fn pull_as_text(&self) -> String {
        let client = http_client::single_try(PATIENCE);
        let url = format!("{}{}", self.url, names::PULL_STATUS);
        let request = client.post(url).header(names::INTERNAL_KEY, KEY);
        let response = request.send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        response.text().await.unwrap()
    }

    pub(crate) async fn pull(&self) -> Value {
        serde_json::from_str(&self.pull_as_text().await).unwrap()
    }
}
