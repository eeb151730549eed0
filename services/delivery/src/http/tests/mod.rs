mod endpoints;
mod events;
mod lists;
mod refusals;

use axum::Router;
use axum::body::Body;
use http::{HeaderMap, Method, Request, StatusCode};
use runtime::clock::Clock;
use runtime::internal_key::InternalKey;
use schema::names;
use serde_json::{Value, json};
use tower::ServiceExt as _;

use crate::app::App;
use crate::config::Config;

/// Nothing is sent before a test has ended: the first attempt is due in an hour, and nobody dispatches.
const LATER: u64 = 3_600;
/// A public address without a name, so that nobody is asked about it.
const URL: &str = "https://1.1.1.1/hook";
const KEY: &str = "key-of-the-tests";
const SECRET: &str = "whsec_MDEyMzQ1Njc4OTAxMjM0NTY3ODkwMTIz";

/// The whole service on a store in memory, without its loops.
#[derive(Clone)]
struct World {
    router: Router,
    bound_to: Option<&'static str>,
}

#[derive(Debug)]
struct Answer {
    status: StatusCode,
    headers: HeaderMap,
    body: Value,
}

impl World {
    async fn new() -> Self {
        Self::with(Config::default()).await
    }

    async fn with(config: Config) -> Self {
        let config = Config {
            delivery_database_url: "memory:".to_owned(),
            signalpost_internal_key: InternalKey::parse(KEY).unwrap(),
            ..config
        };
        let app = App::build(config, Clock::system()).await.unwrap();
        Self {
            router: app.router(),
            bound_to: None,
        }
    }

    /// The same, asked with a key that is bound to a client.
    fn bound_to(&self, client: &'static str) -> Self {
        Self {
            bound_to: Some(client),
            ..self.clone()
        }
    }

    async fn send(&self, request: http::request::Builder, body: Body) -> Answer {
        let request = match self.bound_to {
            Some(client) => request.header(names::CLIENT, client),
            None => request,
        };
        let request = request.header(names::INTERNAL_KEY, KEY);
        let request = request.body(body).unwrap();
        let response = self.router.clone().oneshot(request).await.unwrap();
        let (head, body) = response.into_parts();
        let body = axum::body::to_bytes(body, 32 << 20).await.unwrap();
        Answer {
            status: head.status,
            headers: head.headers,
            body: serde_json::from_slice(&body).unwrap_or_default(),
        }
    }

    async fn text(&self, method: Method, path: &str, text: &str) -> Answer {
        let request = Request::builder().method(method).uri(path);
        let request = request.header("content-type", "application/json");
        self.send(request, text.to_owned().into()).await
    }

    async fn call(&self, method: Method, path: &str, body: Value) -> Answer {
        self.text(method, path, &body.to_string()).await
    }

    async fn post(&self, path: &str, body: Value) -> Answer {
        self.call(Method::POST, path, body).await
    }

    /// Without a body.
    async fn bare(&self, method: Method, path: &str) -> Answer {
        let request = Request::builder().method(method).uri(path);
        self.send(request, Body::empty()).await
    }

    async fn get(&self, path: &str) -> Answer {
        self.bare(Method::GET, path).await
    }

    /// Registers an endpoint that says what `more` says, and answers its id.
    async fn endpoint(&self, client: &str, more: Value) -> String {
        let mut body = json!({"url": URL, "retry": {"schedule_s": [LATER, 5]}});
        let fields = more.as_object().unwrap().clone();
        body.as_object_mut().unwrap().extend(fields);
        let path = format!("/webhooks/clients/{client}/endpoints");
        let answer = self.post(&path, body).await.told(201);
        text(&answer["endpoint_id"])
    }

    /// Accepts an event that says what `more` says.
    async fn event(&self, client: &str, more: Value) -> Value {
        self.post("/webhooks/events", event(client, more))
            .await
            .told(202)
    }

    /// An endpoint with one delivery; answers the delivery's id.
    async fn delivery(&self, client: &str) -> String {
        self.endpoint(client, json!({})).await;
        let accepted = self.event(client, json!({})).await;
        text(&accepted["deliveries"][0]["delivery_id"])
    }
}

impl Answer {
    /// The body of an answer that has this status.
    #[track_caller]
    fn told(self, status: u16) -> Value {
        assert_eq!(self.status, status, "{}", self.body);
        self.body
    }

    #[track_caller]
    fn refused(self, status: u16, code: &str, what: &str) {
        assert_eq!(self.status, status, "{what}: {}", self.body);
        assert_eq!(self.body["code"], code, "{what}");
    }
}

fn event(client: &str, more: Value) -> Value {
    let mut body = json!({"client_id": client, "event_type": "order.created", "payload": {"n": 1}});
    let fields = more.as_object().unwrap().clone();
    body.as_object_mut().unwrap().extend(fields);
    body
}

#[track_caller]
fn text(value: &Value) -> String {
    value.as_str().unwrap().to_owned()
}

/// One field of each row.
#[track_caller]
fn column(rows: &Value, field: &str) -> Vec<String> {
    let rows = rows.as_array().unwrap().iter();
    rows.map(|row| text(&row[field])).collect()
}

#[tokio::test]
async fn readyz_says_that_memory_is_not_durable_and_the_feed_not_read() {
    let body = World::new().await.get("/readyz").await.told(200);

    let dependencies = &body["dependencies"];
    assert_eq!(dependencies["storage"]["backend"], "memory");
    assert_eq!(dependencies["storage"]["durable"], false);
    assert_eq!(dependencies["event-store"]["status"], "degraded");
}
