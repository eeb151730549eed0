//! The routes: any POST is a webhook; `/received` tells what came.

use std::sync::Arc;
use std::time::Duration;

use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse as _, Response};
use axum::routing::{get, post};
use axum::{Json, Router};
use bytes::Bytes;
use http::{HeaderMap, StatusCode, Uri, header};
use runtime::extract::read_body;
use schema::names;
use serde::Serialize;
use sha2::{Digest as _, Sha256};
use signature::standard;

use super::Desk;
use super::receiver::{Answer, Counts, Received, Verdict};

/// The largest body that is taken, in bytes.
const BODY_MAX: usize = 1 << 20;
/// What is never answered is given up after this, so that a forgotten sender holds no connection for ever.
const HANG_MAX: Duration = Duration::from_secs(600);
/// The longest path or header value that is remembered, in bytes.
const TEXT_MAX: usize = 255;

const RECEIVED: &str = "/received";

pub(super) fn router(desk: Arc<Desk>) -> Router {
    let webhooks = post(receive).with_state(Arc::clone(&desk));
    Router::new()
        .route(RECEIVED, get(list).delete(empty))
        .fallback_service(webhooks)
        .with_state(desk)
}

/// Takes a webhook: verifies, decides, remembers, answers.
async fn receive(
    State(desk): State<Arc<Desk>>,
    uri: Uri,
    headers: HeaderMap,
    body: Body,
) -> Response {
    let body = match read_body(body, BODY_MAX).await {
        Ok(body) => body,
        Err(problem) => {
            desk.printer.refused(&problem.detail);
            return (problem.code.status(), problem.detail).into_response();
        }
    };
    let answer = take(&desk, &uri, &headers, &body);
    tokio::select! {
        response = carry_out(answer, desk.behaviour.delay) => response,
        () = desk.stopping.cancelled() => StatusCode::SERVICE_UNAVAILABLE.into_response(),
    }
}

fn take(desk: &Desk, uri: &Uri, headers: &HeaderMap, body: &Bytes) -> Answer {
    let received_at = desk.clock.now();
    let signature = verify(&desk.keys, headers, body, received_at.as_second());
    let body_sha256 = hex::encode(Sha256::digest(body));
    let (answer, received) = {
        let mut receiver = desk.receiver();
        let answer = desk.behaviour.answer(receiver.arrive(), signature);
        let received = Arc::new(Received {
            received_at,
            webhook_id: short(headers, names::WEBHOOK_ID),
            attempt: text(headers, names::WEBHOOK_ATTEMPT).and_then(|number| number.parse().ok()),
            correlation_id: short(headers, names::CORRELATION_ID),
            signature,
            path: cut(uri.path()),
            bytes: body.len(),
            body_sha256,
            answered: answer.code(),
        });
        receiver.remember(Arc::clone(&received));
        (answer, received)
    };
    desk.printer.received(&received, body);
    answer
}

async fn carry_out(answer: Answer, delay: Duration) -> Response {
    if !delay.is_zero() {
        tokio::time::sleep(delay).await;
    }
    match answer {
        Answer::Status {
            status,
            retry_after_s,
        } => {
            let mut response = status.into_response();
            if let Some(seconds) = retry_after_s {
                response
                    .headers_mut()
                    .insert(header::RETRY_AFTER, seconds.into());
            }
            response
        }
        Answer::Never => {
            tokio::time::sleep(HANG_MAX).await;
            StatusCode::SERVICE_UNAVAILABLE.into_response()
        }
    }
}

fn verify(keys: &[standard::Key], headers: &HeaderMap, body: &[u8], now_unix: i64) -> Verdict {
    if keys.is_empty() {
        return Verdict::Unverified;
    }
    let (Some(id), Some(timestamp), Some(signatures)) = (
        text(headers, names::WEBHOOK_ID),
        text(headers, names::WEBHOOK_TIMESTAMP),
        text(headers, names::WEBHOOK_SIGNATURE),
    ) else {
        return Verdict::Missing;
    };
    match standard::verify(keys, id, timestamp, signatures, body, now_unix) {
        Ok(()) => Verdict::Valid,
        Err(_) => Verdict::Invalid,
    }
}

fn text<'h>(headers: &'h HeaderMap, name: &str) -> Option<&'h str> {
    headers.get(name)?.to_str().ok()
}

fn short(headers: &HeaderMap, name: &str) -> Option<String> {
    text(headers, name).map(cut)
}

fn cut(text: &str) -> String {
    text.chars().take(TEXT_MAX).collect()
}

#[derive(Serialize)]
struct Told {
    #[serde(flatten)]
    counts: Counts,
    received: Vec<Arc<Received>>,
}

/// What was received, newest first.
async fn list(State(desk): State<Arc<Desk>>) -> Json<Told> {
    let receiver = desk.receiver();
    Json(Told {
        counts: receiver.counts(),
        received: receiver.newest(),
    })
}

/// Forgets it.
async fn empty(State(desk): State<Arc<Desk>>) -> StatusCode {
    desk.receiver().empty();
    StatusCode::NO_CONTENT
}
