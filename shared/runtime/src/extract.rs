//! What handlers extract: bounded bodies, strict JSON, strict queries. Every refusal is a [`Problem`].

use std::time::Duration;

use axum::body::Body;
use axum::body::HttpBody as _;
use axum::extract::rejection::QueryRejection;
use axum::extract::{FromRequest, FromRequestParts, Request};
use bytes::{Bytes, BytesMut};
use http::{header, request::Parts};
use http_body_util::BodyExt as _;
use schema::CorrelationId;
use serde::de::DeserializeOwned;

use crate::complaint;
use crate::problem::{Code, Problem};

/// A body that trickles is cut off after this.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// What a body may be longer than its limit and still be read to its end, unkept: a connection closed on unread bytes is
/// reset, and the caller would never read why.
const OVERRUN_READ: usize = 1 << 20;

/// Reads a body of at most `limit` bytes.
pub async fn read_body(body: Body, limit: usize) -> Result<Bytes, Problem> {
    read_body_into_room(body, limit, |_| Ok(())).await
}

/// As [`read_body`]; asks for room for each piece, so many bytes long, before it is kept. Where there is none, the rest is
/// read unkept.
pub async fn read_body_into_room(
    body: Body,
    limit: usize,
    take_room: impl FnMut(usize) -> Result<(), Problem>,
) -> Result<Bytes, Problem> {
    if body.is_end_stream() {
        return Ok(Bytes::new());
    }
    tokio::time::timeout(BODY_TIMEOUT, read_frames(body, limit, take_room))
        .await
        .map_err(|_| {
            Code::RequestTimeout.because(format!(
                "the body took longer than {} s",
                BODY_TIMEOUT.as_secs()
            ))
        })?
}

async fn read_frames(
    mut body: Body,
    limit: usize,
    mut take_room: impl FnMut(usize) -> Result<(), Problem>,
) -> Result<Bytes, Problem> {
    let too_large = || {
        Code::TooLarge.because(format!(
            "the body is longer than the {limit} bytes that are taken"
        ))
    };
    let declared = usize::try_from(body.size_hint().lower()).unwrap_or(usize::MAX);
    if declared > limit.saturating_add(OVERRUN_READ) {
        return Err(too_large());
    }
    let mut first = Bytes::new();
    let mut kept = BytesMut::new();
    let mut length = 0;
    let mut no_room = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|_| Code::InvalidRequest.because("the body broke off"))?;
        // Trailers are dropped.
        let Ok(data) = frame.into_data() else {
            continue;
        };
        length += data.len();
        if length > limit.saturating_add(OVERRUN_READ) {
            return Err(too_large());
        }
        if no_room.is_none() && length <= limit {
            no_room = take_room(data.len()).err();
        }
        if no_room.is_some() || length > limit {
            (first, kept) = (Bytes::new(), BytesMut::new());
            continue;
        }
        if first.is_empty() && kept.is_empty() {
            // Most bodies are one frame, and need no copy.
            first = data;
        } else {
            // Grows with what came: a declared length is no reason to hold memory.
            if kept.is_empty() {
                kept.extend_from_slice(&std::mem::take(&mut first));
            }
            kept.extend_from_slice(&data);
        }
    }
    if length > limit {
        return Err(too_large());
    }
    if let Some(problem) = no_room {
        return Err(problem);
    }
    Ok(if kept.is_empty() {
        first
    } else {
        kept.freeze()
    })
}

/// A JSON body of at most `LIMIT` bytes, with its type said in the Content-Type.
pub struct Json<T, const LIMIT: usize = { 256 * 1024 }>(pub T);

impl<S: Send + Sync, T: DeserializeOwned, const LIMIT: usize> FromRequest<S> for Json<T, LIMIT> {
    type Rejection = Problem;

    async fn from_request(request: Request, _: &S) -> Result<Self, Problem> {
        let media = request
            .headers()
            .get(header::CONTENT_TYPE)
            .and_then(|value| value.to_str().ok())
            .unwrap_or_default();
        let media = media.split(';').next().unwrap_or_default().trim();
        if !media.eq_ignore_ascii_case("application/json") {
            return Err(Code::UnsupportedMedia.because("the Content-Type must be application/json"));
        }
        let body = read_body(request.into_body(), LIMIT).await?;
        // serde would also read an array as a struct, field by field.
        if body.trim_ascii_start().first() != Some(&b'{') {
            return Err(Code::InvalidPayload.because("the body must be a JSON object"));
        }
        serde_json::from_slice(&body)
            .map(Self)
            .map_err(|fault| Code::InvalidPayload.because(complaint::of_body(&fault.to_string())))
    }
}

/// The query string; unknown parameters are refused where the type denies unknown fields.
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        axum::extract::Query::try_from_uri(&parts.uri)
            .map(|axum::extract::Query(query)| Self(query))
            .map_err(|fault| Code::InvalidQuery.because(query_complaint(&fault)))
    }
}

/// What axum says of a query, without its own words before it.
pub(crate) fn query_complaint(fault: &QueryRejection) -> String {
    let said = fault.body_text();
    let complaint = said.strip_prefix("Failed to deserialize query string: ");
    complaint::of_query(complaint.unwrap_or(&said))
}

/// A part of the path; one that is not UTF-8 names nothing.
pub struct Path<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned + Send> FromRequestParts<S> for Path<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, state: &S) -> Result<Self, Problem> {
        axum::extract::Path::from_request_parts(parts, state)
            .await
            .map(|axum::extract::Path(part)| Self(part))
            .map_err(|_| Code::NotFound.because("the path cannot be read"))
    }
}

/// The request's correlation id, accepted or minted.
pub struct Correlation(pub CorrelationId);

impl<S: Send + Sync> FromRequestParts<S> for Correlation {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        let id = parts.extensions.get::<CorrelationId>().cloned();
        id.map(Self)
            .ok_or_else(|| Code::Internal.because("the request has no correlation id"))
    }
}
