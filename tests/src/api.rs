//! Calls through the gateway, as a test makes them, and to the services behind it.

use std::time::Duration;

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, Method, StatusCode};
use runtime::clock::Clock;
use runtime::http_client;
use schema::names;
use serde_json::Value;
use signature::stripe;

const TIMEOUT: Duration = Duration::from_secs(20);
const ANSWER_MAX: usize = 64 << 20;

/// What the services of every hub show each other. A test looks for it where it must not be.
pub const INTERNAL_KEY: &str = "CANARY-internal-key-b81f";

/// An answer, whole.
#[derive(Clone, Debug)]
pub struct Answer {
    pub status: StatusCode,
    pub headers: HeaderMap,
    pub body: Bytes,
}

impl Answer {
    /// The body as JSON; `null` when it is none.
    pub fn json(&self) -> Value {
        serde_json::from_slice(&self.body).unwrap_or(Value::Null)
    }

    pub fn text(&self) -> String {
        String::from_utf8_lossy(&self.body).into_owned()
    }

    /// The stable word of a problem.
    pub fn code(&self) -> String {
        self.json()["code"].as_str().unwrap_or_default().to_owned()
    }
}

/// Sends one request and reads the whole answer.
pub async fn call(
    method: Method,
    url: &str,
    headers: &[(String, String)],
    body: Vec<u8>,
) -> anyhow::Result<Answer> {
    let mut request = http_client::single_try(TIMEOUT).request(method, url);
    for (name, value) in headers {
        // Whatever bytes a header can carry, a test can send.
        request = request.header(name, HeaderValue::from_bytes(value.as_bytes())?);
    }
    let response = request
        .body(body)
        .send()
        .await
        .with_context(|| format!("calling {url}"))?;
    let (status, headers) = (response.status(), response.headers().clone());
    let body = http_client::read_body(response, ANSWER_MAX).await?;
    Ok(Answer {
        status,
        headers,
        body,
    })
}

pub async fn get(url: &str) -> anyhow::Result<Answer> {
    call(Method::GET, url, &[], Vec::new()).await
}

pub async fn post_json(url: &str, body: &Value) -> anyhow::Result<Answer> {
    let headers = [("content-type".to_owned(), "application/json".to_owned())];
    call(Method::POST, url, &headers, body.to_string().into_bytes()).await
}

/// As [`get`], of a service behind the gateway.
pub async fn get_internal(url: &str, key: &str) -> anyhow::Result<Answer> {
    call(Method::GET, url, &[internal_key(key)], Vec::new()).await
}

/// As [`post_json`], of a service behind the gateway.
pub async fn post_json_internal(url: &str, key: &str, body: &Value) -> anyhow::Result<Answer> {
    let json = ("content-type".to_owned(), "application/json".to_owned());
    let headers = [json, internal_key(key)];
    call(Method::POST, url, &headers, body.to_string().into_bytes()).await
}

/// The header that a service behind the gateway asks for.
pub fn internal_key(key: &str) -> (String, String) {
    (names::INTERNAL_KEY.to_owned(), key.to_owned())
}

/// Posts a body to `/ingest/stripe`, signed now, as Stripe would.
pub async fn post_stripe(
    gateway: &str,
    secret: &str,
    body: impl Into<Vec<u8>>,
) -> anyhow::Result<Answer> {
    let body = body.into();
    let headers = [signature_header(secret, &body)];
    let url = format!("{gateway}{}", names::INGEST_STRIPE);
    call(Method::POST, &url, &headers, body).await
}

/// The header that makes a body Stripe's, as of now.
pub fn signature_header(secret: &str, body: &[u8]) -> (String, String) {
    let value = stripe::sign(secret, Clock::system().now().as_second(), body);
    (names::STRIPE_SIGNATURE.to_owned(), value)
}

/// A signed payload of the given type; a `payout.failed` pages.
pub fn stripe_event(event_id: &str, event_type: &str) -> String {
    serde_json::json!({
        "id": event_id, "object": "event", "type": event_type, "created": 1_705_315_200,
        "data": {"object": {"id": format!("obj_{event_id}"), "object": "payout",
                            "failure_message": "Insufficient funds"}},
    })
    .to_string()
}
