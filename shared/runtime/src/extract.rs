//! What handlers extract: bounded bodies, strict JSON, strict queries. Every refusal is a [`Problem`].

use std::time::Duration;

use axum::body::Body;
use axum::extract::{FromRequest, FromRequestParts, Request};
use bytes::Bytes;
use http::{header, request::Parts};
use http_body_util::{BodyExt as _, LengthLimitError, Limited};
use schema::CorrelationId;
use serde::de::DeserializeOwned;

use crate::problem::{Code, Problem};

/// A body that trickles is cut off after this.
pub const BODY_TIMEOUT: Duration = Duration::from_secs(10);

/// Reads a body of at most `limit` bytes.
pub async fn read_body(body: Body, limit: usize) -> Result<Bytes, Problem> {
    let collected = tokio::time::timeout(BODY_TIMEOUT, Limited::new(body, limit).collect())
        .await
        .map_err(|_| {
            Code::RequestTimeout.because(format!(
                "the body took longer than {} s",
                BODY_TIMEOUT.as_secs()
            ))
        })?;
    match collected {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(fault) if fault.is::<LengthLimitError>() => Err(Code::TooLarge.because(format!(
            "the body is longer than the {limit} bytes that are taken"
        ))),
        Err(_) => Err(Code::InvalidRequest.because("the body broke off")),
    }
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
            .map_err(|fault| Code::InvalidPayload.because(fault.to_string()))
    }
}

/// The query string; unknown parameters are refused where the type denies unknown fields.
pub struct Query<T>(pub T);

impl<S: Send + Sync, T: DeserializeOwned> FromRequestParts<S> for Query<T> {
    type Rejection = Problem;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Problem> {
        axum::extract::Query::try_from_uri(&parts.uri)
            .map(|axum::extract::Query(query)| Self(query))
            .map_err(|fault| Code::InvalidQuery.because(fault.body_text()))
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
