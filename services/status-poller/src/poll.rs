//! One poll of one source: fetch the page, compare it with what is open, store what is new, close what has ended.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use clients::event_store::{self, EventStore};
use http::{HeaderMap, StatusCode, header};
use jiff::Timestamp;
use reqwest_middleware::ClientWithMiddleware;
use runtime::clock::Clock;
use runtime::http_client::{self, BodyFault, failure_code};
use runtime::retry_after::RetryAfter;
use schema::intake::{
    BATCH_MAX_BYTES, BATCH_MAX_ITEMS, Receipt, Resolution, Resolutions, Submission,
};
use schema::{CorrelationId, Event, EventId, Severity};
use serde_json::value::RawValue;
use url::Url;

use crate::config::{Origin, StatusPage};
use crate::domain::diff::{Ended, Open, Plan, diff};
use crate::domain::page;
use crate::error::Error;
use crate::metrics::Counts;

/// Real pages reach 830 KB.
const BODY_MAX: usize = 4 << 20;

/// The longest that a page is not asked because it said so.
const WAIT_MAX: Duration = Duration::from_secs(15 * 60);

/// How long a poll may take.
#[derive(Clone, Copy, Debug)]
pub struct Deadlines {
    /// From the first try to the end of the body, a second try included.
    pub fetch: Duration,
    /// Reading what is open, storing and closing.
    pub store: Duration,
}

impl Default for Deadlines {
    fn default() -> Self {
        Self {
            fetch: Duration::from_secs(15),
            store: Duration::from_secs(10),
        }
    }
}

/// What one poll of one source came to.
#[derive(Clone, Debug, Default)]
pub(crate) struct Outcome {
    /// 0 if the poll failed.
    pub(crate) fetched: usize,
    /// What was stored before a failure stays stored, and counts; so in the two below.
    pub(crate) stored: usize,
    pub(crate) routed: usize,
    pub(crate) resolved: usize,
    pub(crate) malformed: usize,
    /// Severity words that are not known.
    pub(crate) unknown: usize,
    /// Dates that could not be read.
    pub(crate) undated: usize,
    pub(crate) error: Option<Error>,
}

impl Outcome {
    pub(crate) fn failed(error: Error) -> Self {
        Self {
            error: Some(error),
            ..Self::default()
        }
    }
}

pub(crate) struct Poller {
    http: ClientWithMiddleware,
    store: EventStore,
    clock: Clock,
    deadlines: Deadlines,
    counts: Counts,
}

impl Poller {
    pub(crate) fn new(
        store: EventStore,
        clock: Clock,
        deadlines: Deadlines,
        counts: Counts,
    ) -> Arc<Self> {
        Arc::new(Self {
            http: http_client::vendor(),
            store,
            clock,
            deadlines,
            counts,
        })
    }

    /// Polls one page. Never fails as a whole: what went wrong is in the outcome.
    pub(crate) async fn poll(&self, page: &StatusPage, correlation_id: &CorrelationId) -> Outcome {
        let mut outcome = Outcome::default();
        if let Err(error) = self.try_poll(page, correlation_id, &mut outcome).await {
            outcome.fetched = 0;
            outcome.error = Some(error);
        }
        tell(page, correlation_id, &outcome);
        self.counts.note(page, &outcome);
        outcome
    }

    async fn try_poll(
        &self,
        page: &StatusPage,
        correlation_id: &CorrelationId,
        outcome: &mut Outcome,
    ) -> Result<(), Error> {
        let body = self.body(&page.origin).await?;
        let snapshot = page::parse(&body)?;
        let applying = async {
            let open = self.open(page, correlation_id).await?;
            let plan = diff(&page.source, &snapshot, &open, self.clock.now());
            self.apply(plan, correlation_id, outcome).await
        };
        tokio::time::timeout(self.deadlines.store, applying)
            .await
            .unwrap_or_else(|_| Err(Error::StoreUnavailable("no answer in time".to_owned())))
    }

    async fn body(&self, origin: &Origin) -> Result<Bytes, Error> {
        match origin {
            Origin::Fixture(body) => Ok(Bytes::from_static(body.as_bytes())),
            Origin::Url(url) => {
                let fetching = self.fetch(url.clone());
                tokio::time::timeout(self.deadlines.fetch, fetching)
                    .await
                    .unwrap_or(Err(Error::Timeout))
            }
        }
    }

    async fn fetch(&self, url: Url) -> Result<Bytes, Error> {
        let response = self
            .http
            .get(url)
            .header(header::ACCEPT, "application/json")
            .send()
            .await
            .map_err(|fault| broken(failure_code(&fault)))?;
        match response.status() {
            StatusCode::OK => {}
            status if status.is_redirection() => return Err(Error::Redirect),
            status => {
                return Err(Error::Status {
                    status: status.as_u16(),
                    wait: wait(status, response.headers(), self.clock.now()),
                });
            }
        }
        http_client::read_body(response, BODY_MAX)
            .await
            .map_err(|fault| match fault {
                BodyFault::TooLarge(_) => Error::TooLarge(fault.to_string()),
                BodyFault::Broken(code) => broken(code),
            })
    }

    async fn open(
        &self,
        page: &StatusPage,
        correlation_id: &CorrelationId,
    ) -> Result<Vec<Open>, Error> {
        let events = self.store.open_events(&page.source, correlation_id).await?;
        let open = |event: schema::event::EventView| Open {
            event_id: event.event_id,
            started_at: event.started_at,
        };
        Ok(events.into_iter().map(open).collect())
    }

    async fn apply(
        &self,
        plan: Plan,
        correlation_id: &CorrelationId,
        outcome: &mut Outcome,
    ) -> Result<(), Error> {
        outcome.fetched = plan.fetched;
        outcome.malformed = plan.malformed;
        outcome.unknown = plan.unknown;
        outcome.undated = plan.undated;
        let stored = self.submit(plan.store, correlation_id, outcome).await;
        // An event that cannot be stored now must not keep others from being closed.
        self.resolve(plan.resolve, correlation_id, outcome).await?;
        stored
    }

    async fn submit(
        &self,
        events: Vec<Event>,
        correlation_id: &CorrelationId,
        outcome: &mut Outcome,
    ) -> Result<(), Error> {
        let mut taken = Ok(());
        for batch in batches(events, correlation_id, self.deadlines.store) {
            let (facts, items): (Vec<_>, Vec<_>) = batch
                .into_iter()
                .map(|item| (item.facts, item.encoded))
                .unzip();
            let receipts = self.store.submit(items).await?;
            for (facts, receipt) in facts.iter().zip(receipts) {
                taken = taken.and(facts.enter(receipt, correlation_id, outcome));
            }
        }
        taken
    }

    async fn resolve(
        &self,
        ended: Vec<Ended>,
        correlation_id: &CorrelationId,
        outcome: &mut Outcome,
    ) -> Result<(), Error> {
        for ended in ended.chunks(BATCH_MAX_ITEMS) {
            let resolution = |ended: &Ended| Resolution {
                event_id: ended.event_id.clone(),
                resolved_at: ended.resolved_at,
                correlation_id: correlation_id.clone(),
            };
            let items = ended.iter().map(resolution).collect();
            outcome.resolved += self.store.resolve(&Resolutions { items }).await?;
        }
        Ok(())
    }
}

/// How long not to ask again: what 429 and 503 say in their Retry-After, up to a bound, since a page that is not read
/// tells of no outage.
fn wait(status: StatusCode, headers: &HeaderMap, now: Timestamp) -> Option<Duration> {
    if !matches!(
        status,
        StatusCode::TOO_MANY_REQUESTS | StatusCode::SERVICE_UNAVAILABLE
    ) {
        return None;
    }
    let header = headers.get(header::RETRY_AFTER)?.to_str().ok()?;
    let wait = RetryAfter::parse(header)?.until(now).duration_since(now);
    // A moment that has passed is no wait.
    Duration::try_from(wait).ok().map(|wait| wait.min(WAIT_MAX))
}

/// One line for each poll.
fn tell(page: &StatusPage, correlation_id: &CorrelationId, outcome: &Outcome) {
    let source = &page.source;
    if let Some(error) = &outcome.error {
        let wait_s = error.wait().map(|wait| wait.as_secs());
        tracing::warn!(%correlation_id, %source, code = error.code(), wait_s, %error, "page could not be polled");
        return;
    }
    tracing::info!(
        %correlation_id,
        %source,
        fetched = outcome.fetched,
        stored = outcome.stored,
        routed = outcome.routed,
        resolved = outcome.resolved,
        malformed = outcome.malformed,
        undated = outcome.undated,
        "status page polled"
    );
}

fn broken(code: &'static str) -> Error {
    match code {
        "timeout" => Error::Timeout,
        "invalid_response" | "head_too_large" => Error::NotHttp(code),
        other => Error::Connect(other.to_owned()),
    }
}

impl From<event_store::Error> for Error {
    fn from(error: event_store::Error) -> Self {
        Self::StoreUnavailable(error.to_string())
    }
}

/// An event on its way to the store.
struct Item {
    facts: Facts,
    encoded: Box<RawValue>,
}

/// What is logged of an event when its receipt is there.
struct Facts {
    event_id: EventId,
    severity: Severity,
}

impl Facts {
    fn enter(
        &self,
        receipt: Receipt,
        correlation_id: &CorrelationId,
        outcome: &mut Outcome,
    ) -> Result<(), Error> {
        let Self { event_id, severity } = self;
        match receipt {
            Receipt::Stored { routed } => {
                tracing::info!(%correlation_id, %event_id, %severity, routed, "event found");
                outcome.stored += 1;
                outcome.routed += usize::from(routed);
                Ok(())
            }
            Receipt::Duplicate { .. } => Ok(()),
            Receipt::Rejected { detail } => {
                tracing::warn!(%correlation_id, %event_id, detail, "event rejected");
                outcome.malformed += 1;
                Ok(())
            }
            Receipt::Unavailable { .. } => {
                Err(Error::StoreUnavailable(format!("{event_id} was not taken")))
            }
        }
    }
}

/// The events, encoded, in requests of the size that event-store takes.
fn batches(
    events: Vec<Event>,
    correlation_id: &CorrelationId,
    deadline: Duration,
) -> Vec<Vec<Item>> {
    let deadline_ms = u64::try_from(deadline.as_millis()).unwrap_or(u64::MAX);
    let mut batches: Vec<Vec<Item>> = Vec::new();
    let mut bytes = 0;
    for event in events {
        let facts = Facts {
            event_id: event.event_id.clone(),
            severity: event.severity,
        };
        let submission = Submission {
            correlation_id: correlation_id.clone(),
            deadline_ms,
            event,
        };
        let encoded = match serde_json::value::to_raw_value(&submission) {
            Ok(encoded) => encoded,
            Err(fault) => {
                tracing::error!(%correlation_id, event_id = %facts.event_id, %fault, "event could not be encoded");
                continue;
            }
        };
        bytes += encoded.get().len();
        let item = Item { facts, encoded };
        match batches.last_mut() {
            Some(batch) if batch.len() < BATCH_MAX_ITEMS && bytes <= BATCH_MAX_BYTES => {
                batch.push(item);
            }
            _ => {
                bytes = item.encoded.get().len();
                batches.push(vec![item]);
            }
        }
    }
    batches
}

#[cfg(test)]
mod tests {
    use http::HeaderValue;
    use schema::{Kind, Source};

    use super::*;

    #[test]
    fn a_page_is_given_the_time_it_asks_for_and_no_more_than_a_quarter_of_an_hour() {
        let now = "2026-11-28T08:00:00Z".parse().unwrap();
        for (status, header, wait_s) in [
            (429, "120", Some(120)),
            (503, "120", Some(120)),
            (503, "0", Some(0)),
            (429, "3600", Some(900)),
            (429, "Saturday, 28-Nov-26 08:02:00 GMT", Some(120)),
            (429, "Sat Nov 28 08:02:00 2026", Some(120)),
            (429, "Sat, 28 Nov 2026 07:00:00 GMT", None),
            (429, "soon", None),
            (500, "120", None),
            (404, "120", None),
        ] {
            let headers =
                HeaderMap::from_iter([(header::RETRY_AFTER, HeaderValue::from_static(header))]);
            let found = wait(StatusCode::from_u16(status).unwrap(), &headers, now);
            assert_eq!(found, wait_s.map(Duration::from_secs), "{status} {header}");
        }
    }

    fn event(number: usize, bytes: usize) -> Event {
        Event {
            event_id: EventId::parse(&format!("x_status:incident:{number}")).unwrap(),
            source: Source::parse("x_status").unwrap(),
            kind: Kind::Incident,
            severity: Severity::Info,
            service: "s".to_owned(),
            summary: "s".to_owned(),
            description: None,
            started_at: "2024-01-15T10:00:00Z".parse().unwrap(),
            resolved_at: None,
            raw: RawValue::from_string(format!("\"{}\"", "x".repeat(bytes))).unwrap(),
        }
    }

    fn sizes(events: Vec<Event>) -> Vec<usize> {
        let correlation_id = CorrelationId::parse("c").unwrap();
        let batches = batches(events, &correlation_id, Duration::from_secs(1));
        for batch in &batches {
            let bytes: usize = batch.iter().map(|item| item.encoded.get().len()).sum();
            assert!(batch.len() == 1 || bytes <= BATCH_MAX_BYTES);
        }
        batches.iter().map(Vec::len).collect()
    }

    #[test]
    fn no_request_is_larger_than_the_store_takes() {
        assert_eq!(sizes(Vec::new()), [0; 0]);
        assert_eq!(
            sizes((0..600).map(|n| event(n, 10)).collect()),
            [256, 256, 88]
        );
        assert_eq!(
            sizes((0..5).map(|n| event(n, 400 * 1024)).collect()),
            [2, 2, 1]
        );
        assert_eq!(
            sizes(vec![event(0, 10), event(1, 2 << 20), event(2, 10)]),
            [1, 1, 1]
        );
    }
}
