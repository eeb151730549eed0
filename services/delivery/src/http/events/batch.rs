//! `POST /webhooks/events/batch`.

use std::fmt;

use axum::Json;
use axum::extract::State;
use http::{HeaderMap, StatusCode};
use runtime::extract::Correlation;
use runtime::problem::{Code, Problem};
use schema::webhooks::{Accepted, BATCH_BYTES_MAX, BATCH_EVENTS_MAX, BatchAnswer, BatchItem};
use schema::{CorrelationId, names};
use serde::de::{Error as _, SeqAccess, Visitor};
use serde::{Deserialize, Deserializer};
use serde_json::value::RawValue;

use super::{answered, incoming_of};
use crate::domain::requests;
use crate::http::private::Private;
use crate::http::who::Who;
use crate::http::{Api, refuse};

/// How many of a batch are accepted at once; the store takes as many in one commit.
const AT_ONCE: usize = 256;

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(in crate::http) struct Batch {
    #[serde(deserialize_with = "at_most")]
    events: Vec<Box<RawValue>>,
}

/// Each is accepted as if it came alone. A client's events reach the store in their order.
pub(in crate::http) async fn post(
    State(api): State<Api>,
    who: Who,
    Correlation(correlation_id): Correlation,
    headers: HeaderMap,
    Private(batch): Private<Batch, BATCH_BYTES_MAX>,
) -> Result<Json<BatchAnswer>, Problem> {
    if headers.contains_key(names::IDEMPOTENCY_KEY) {
        return Err(Code::InvalidRequest
            .because("Idempotency-Key is of one event: give each of a batch its idempotency_key"));
    }
    let mut results = Vec::with_capacity(batch.events.len());
    for together in batch.events.chunks(AT_ONCE) {
        results.extend(api.accept_texts(&who, together, &correlation_id).await);
    }
    Ok(Json(BatchAnswer { results }))
}

impl Api {
    async fn accept_texts(
        &self,
        who: &Who,
        texts: &[Box<RawValue>],
        correlation_id: &CorrelationId,
    ) -> Vec<BatchItem> {
        let read = texts.iter().map(|text| read(who, text.get()));
        let (mut incoming, mut refused) = (Vec::new(), Vec::new());
        for event in read {
            match event {
                Ok(event) => {
                    refused.push(None);
                    incoming.push(incoming_of(event, correlation_id.clone(), None));
                }
                Err(problem) => refused.push(Some(problem)),
            }
        }
        let mut posted = self.worker.post_together(incoming).await.into_iter();
        let results = refused.into_iter().map(|refused| match refused {
            Some(problem) => item(Err(problem)),
            // As many as were posted.
            None => item(posted.next().map_or_else(
                || {
                    Err(Code::Unavailable
                        .because("the event was not taken in")
                        .retry_after(refuse::STORE_RETRY_S))
                },
                answered,
            )),
        });
        results.collect()
    }
}

fn read(who: &Who, text: &str) -> Result<requests::CheckedEvent, Problem> {
    let event = requests::read_event(text).and_then(|told| requests::check_event(told, None));
    let event = event.map_err(refuse::asked)?;
    who.must_see(&event.client_id)?;
    Ok(event)
}

fn item(result: Result<(StatusCode, Accepted), Problem>) -> BatchItem {
    match result {
        Ok((status, accepted)) => BatchItem {
            status: status.as_u16(),
            event: Some(accepted),
            code: None,
            detail: None,
            retry_after_s: None,
        },
        Err(problem) => BatchItem {
            status: problem.code.status().as_u16(),
            event: None,
            code: Some(problem.code.as_str().to_owned()),
            detail: Some(problem.detail),
            retry_after_s: problem.retry_after_s,
        },
    }
}

/// Stops at the first event too many: millions of small ones fit a batch's bytes.
fn at_most<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<Box<RawValue>>, D::Error> {
    struct Events;

    impl<'de> Visitor<'de> for Events {
        type Value = Vec<Box<RawValue>>;

        fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
            write!(f, "at most {BATCH_EVENTS_MAX} events")
        }

        fn visit_seq<A: SeqAccess<'de>>(self, mut list: A) -> Result<Self::Value, A::Error> {
            let mut events = Vec::new();
            while let Some(event) = list.next_element()? {
                if events.len() == BATCH_EVENTS_MAX {
                    return Err(A::Error::invalid_length(BATCH_EVENTS_MAX + 1, &self));
                }
                events.push(event);
            }
            Ok(events)
        }
    }

    deserializer.deserialize_seq(Events)
}
