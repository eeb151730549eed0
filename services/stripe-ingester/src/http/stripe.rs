//! `POST /ingest/stripe`.

use std::sync::Arc;

use axum::Json;
use axum::extract::{Request, State};
use http::{HeaderMap, HeaderValue, header};
use runtime::extract::{Correlation, read_body};
use runtime::problem::{Code, Problem};
use schema::intake::{Receipt, STRIPE_BODY_MAX};
use schema::names;
use serde::Serialize;
use signature::stripe::{ADVICE, verify};

use super::Ingester;
use crate::domain::{normalize::normalize, parse::parse};
use crate::metrics::outcome;

/// What Stripe is told once the event is on disk.
#[derive(Serialize)]
pub(super) struct Received {
    received: bool,
    /// Present when the event was there before.
    #[serde(skip_serializing_if = "Option::is_none")]
    deduped: Option<bool>,
}

pub(super) async fn ingest(
    State(ingester): State<Arc<Ingester>>,
    Correlation(correlation_id): Correlation,
    request: Request,
) -> Result<Json<Received>, Problem> {
    let (head, body) = request.into_parts();
    refuse_encoded(&head.headers)?;
    let body = read_body(body, STRIPE_BODY_MAX).await?;
    ingester.authenticate(&head.headers, &body)?;
    let stripe_event =
        parse(&body).map_err(|fault| Code::InvalidPayload.because(fault.to_string()))?;
    let event = normalize(&stripe_event);
    let (event_id, severity) = (event.event_id.clone(), event.severity);

    let receipt = ingester.intake.submit(event, correlation_id.clone()).await;

    ingester.metrics.count_receipt(&receipt, severity);
    tracing::info!(
        %correlation_id,
        %event_id,
        event_type = &*stripe_event.event_type,
        %severity,
        outcome = outcome(&receipt),
        "stripe event handled"
    );
    answer(receipt)
}

impl Ingester {
    /// Refuses with one answer whatever the reason: the reason is for our metrics.
    fn authenticate(&self, headers: &HeaderMap, body: &[u8]) -> Result<(), Problem> {
        let lines = headers.get_all(names::STRIPE_SIGNATURE).into_iter();
        let now_unix = self.clock.now().as_second();
        verify(
            lines.map(HeaderValue::as_bytes),
            body,
            self.secrets.expose(),
            now_unix,
        )
        .map_err(|refusal| {
            self.metrics.count_refusal(refusal);
            Code::InvalidSignature.because(ADVICE)
        })
    }
}

/// What is signed is what travels; nothing is unpacked on the way to the signature.
fn refuse_encoded(headers: &HeaderMap) -> Result<(), Problem> {
    if headers.contains_key(header::CONTENT_ENCODING) {
        return Err(Code::UnsupportedMedia.because("send the body without a Content-Encoding"));
    }
    Ok(())
}

fn answer(receipt: Receipt) -> Result<Json<Received>, Problem> {
    let received = |deduped| {
        Ok(Json(Received {
            received: true,
            deduped,
        }))
    };
    match receipt {
        Receipt::Stored { .. } => received(None),
        Receipt::Duplicate { .. } => received(Some(true)),
        Receipt::Rejected { detail } => {
            tracing::warn!(detail, "event-store rejected a normalized event");
            Err(Code::InvalidPayload.because("the event cannot be stored"))
        }
        Receipt::Unavailable { retry_after_s } => Err(Code::Unavailable
            .because("the event was not stored; send it again")
            .retry_after(retry_after_s)),
    }
}
