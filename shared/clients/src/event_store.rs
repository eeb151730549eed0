//! The caller of event-store's internal API.

use std::sync::Arc;
use std::time::Duration;

use http::{HeaderValue, Method, StatusCode, header};
use reqwest_middleware::{ClientWithMiddleware, RequestBuilder};
use runtime::health::Finding;
use runtime::http_client::{self, failure_code};
use runtime::internal_key::InternalKey;
use runtime::upstream::Upstream;
use schema::delivery::Outcomes;
use schema::event::EventsPage;
use schema::feed::FeedPage;
use schema::intake::{Batch, BatchResults, Receipt, Resolutions, Resolved};
use schema::{CorrelationId, Source, event::EventView, names};
use serde::Serialize;
use serde::de::DeserializeOwned;

const TIMEOUT: Duration = Duration::from_secs(10);
/// What the longest poll may take beyond its wait.
const POLL_MARGIN: Duration = Duration::from_secs(5);
/// A page of events ends at 8 MiB; a feed page is bounded alike.
const ANSWER_MAX: usize = 24 << 20;

/// More open events of one source than any page ever had; reading on would hold all of them in memory.
const OPEN_MAX: usize = 10_000;

/// Why event-store did not do what it was asked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// No answer, or one that says to come again.
    #[error("event-store is not available: {0}")]
    Unavailable(String),
    /// An answer that will not change.
    #[error("event-store answered {status}: {detail}")]
    Refused { status: u16, detail: String },
}

/// Why the feed cannot be read on from a token (R3).
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    #[error("the token is of another history of the store")]
    Diverged,
    #[error("the token is older than what the store keeps")]
    TooOld,
    #[error(transparent)]
    Store(#[from] Error),
}

/// Calls event-store.
#[derive(Clone)]
pub struct EventStore {
    http: ClientWithMiddleware,
    upstream: Arc<Upstream>,
    key: HeaderValue,
}

impl EventStore {
    pub fn new(upstream: Arc<Upstream>, key: &InternalKey) -> Self {
        Self::over(http_client::internal(TIMEOUT), upstream, key)
    }

    /// As [`new`](Self::new), over a client that is handed in, such as one that answers in process.
    pub fn over(http: ClientWithMiddleware, upstream: Arc<Upstream>, key: &InternalKey) -> Self {
        Self {
            http,
            upstream,
            key: key.header(),
        }
    }

    /// Submits [`Submission`](schema::intake::Submission)s; answers one receipt each, in order.
    pub async fn submit(&self, items: Vec<impl Serialize>) -> Result<Vec<Receipt>, Error> {
        let asked = items.len();
        let body = encode(&Batch { items })?;
        let answer: BatchResults = self
            .call(names::INTERNAL_EVENTS, |request| json(request, body))
            .await?;
        if answer.results.len() == asked {
            Ok(answer.results)
        } else {
            Err(Error::Unavailable(format!(
                "{} results for {asked} items",
                answer.results.len()
            )))
        }
    }

    /// Closes events that have ended; answers how many were open.
    pub async fn resolve(&self, resolutions: &Resolutions) -> Result<usize, Error> {
        let body = encode(resolutions)?;
        let answer: Resolved = self
            .call(names::INTERNAL_RESOLUTIONS, |request| json(request, body))
            .await?;
        Ok(answer.resolved)
    }

    /// Tells what became of deliveries.
    pub async fn report(&self, outcomes: &Outcomes) -> Result<(), Error> {
        let body = encode(outcomes)?;
        let _: serde_json::Value = self
            .call(names::INTERNAL_OUTCOMES, |request| json(request, body))
            .await?;
        Ok(())
    }

    /// Whether event-store answers, for a `/readyz`.
    pub async fn health(&self) -> Finding {
        match self.get(names::HEALTHZ, |request| request).await {
            Ok(serde_json::Value::Object(_)) => Finding::up(),
            Ok(_) => Finding::down("an unreadable answer"),
            Err(fault) => Finding::down(fault.to_string()),
        }
    }

    /// Every open event of a source.
    pub async fn open_events(
        &self,
        source: &Source,
        correlation_id: &CorrelationId,
    ) -> Result<Vec<EventView>, Error> {
        let mut events = Vec::new();
        let mut cursor: Option<String> = None;
        loop {
            let mut query = vec![
                ("source", source.as_str()),
                ("open", "true"),
                ("limit", "500"),
            ];
            if let Some(cursor) = &cursor {
                query.push(("cursor", cursor));
            }
            let path = path_with_query(names::EVENTS, &query);
            let page: EventsPage = self
                .get(&path, |request| {
                    request.header(names::CORRELATION_ID, correlation_id.as_str())
                })
                .await?;
            events.extend(page.events);
            if events.len() > OPEN_MAX {
                return Err(Error::Unavailable(format!(
                    "{source} has over {OPEN_MAX} open events"
                )));
            }
            match page.next_cursor {
                Some(next) => cursor = Some(next),
                None => return Ok(events),
            }
        }
    }

    /// Reads notices of routed events after a token (`None`: from the oldest kept), waiting up to `wait` for the first.
    pub async fn feed(
        &self,
        after: Option<&str>,
        limit: usize,
        wait: Duration,
    ) -> Result<FeedPage, FeedError> {
        let (limit, wait_ms) = (limit.to_string(), wait.as_millis().to_string());
        let mut query = vec![
            ("routed", "true"),
            ("limit", limit.as_str()),
            ("wait", wait_ms.as_str()),
        ];
        if let Some(token) = after {
            query.push(("after", token));
        }
        let path = path_with_query(names::FEED, &query);
        match self
            .get(&path, |request| request.timeout(wait + POLL_MARGIN))
            .await
        {
            Ok(page) => Ok(page),
            Err(Error::Refused { status: 409, .. }) => Err(FeedError::Diverged),
            Err(Error::Refused { status: 410, .. }) => Err(FeedError::TooOld),
            Err(other) => Err(other.into()),
        }
    }

    async fn call<T: DeserializeOwned>(
        &self,
        path: &str,
        prepare: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<T, Error> {
        self.ask(Method::POST, path, prepare).await
    }

    async fn get<T: DeserializeOwned>(
        &self,
        path: &str,
        prepare: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<T, Error> {
        self.ask(Method::GET, path, prepare).await
    }

    async fn ask<T: DeserializeOwned>(
        &self,
        method: Method,
        path: &str,
        prepare: impl FnOnce(RequestBuilder) -> RequestBuilder,
    ) -> Result<T, Error> {
        let lease = self
            .upstream
            .pick()
            .ok_or_else(|| Error::Unavailable("no replica answers".to_owned()))?;
        let request = self.http.request(method, lease.url(path));
        answer(prepare(request.header(names::INTERNAL_KEY, &self.key))).await
    }
}

fn encode(body: &impl Serialize) -> Result<Vec<u8>, Error> {
    serde_json::to_vec(body).map_err(|fault| Error::Refused {
        status: 400,
        detail: fault.to_string(),
    })
}

fn json(request: RequestBuilder, body: Vec<u8>) -> RequestBuilder {
    request
        .header(header::CONTENT_TYPE, "application/json")
        .body(body)
}

/// A path with its query; tokens and names are of characters that need no escape, which is asserted by their parsers.
fn path_with_query(path: &str, query: &[(&str, &str)]) -> String {
    let pairs: Vec<String> = query
        .iter()
        .map(|(name, value)| format!("{name}={value}"))
        .collect();
    format!("{path}?{}", pairs.join("&"))
}

async fn answer<T: DeserializeOwned>(request: RequestBuilder) -> Result<T, Error> {
    let response = request
        .send()
        .await
        .map_err(|fault| Error::Unavailable(failure_code(&fault).to_owned()))?;
    let status = response.status();
    let body = http_client::read_body(response, ANSWER_MAX)
        .await
        .map_err(|fault| Error::Unavailable(fault.to_string()))?;
    if status.is_success() {
        return serde_json::from_slice(&body)
            .map_err(|fault| Error::Unavailable(format!("an unreadable answer: {fault}")));
    }
    let detail = String::from_utf8_lossy(&body[..body.len().min(512)]).into_owned();
    // It says nothing of what was asked: while keys are replaced, the next try may show the right one.
    let is_of_the_key = status == StatusCode::UNAUTHORIZED;
    if status.is_server_error() || status == StatusCode::TOO_MANY_REQUESTS || is_of_the_key {
        Err(Error::Unavailable(format!("{status}: {detail}")))
    } else {
        Err(Error::Refused {
            status: status.as_u16(),
            detail,
        })
    }
}
