//! One shape for every error: RFC 9457 problem+json with a stable code and the correlation id.

use axum::response::{IntoResponse, Response};
use http::{HeaderValue, StatusCode, header};
use schema::CorrelationId;
use serde::Serialize;

/// Declares the codes once: name, word on the wire, status, title.
macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $word:literal, $status:ident, $title:literal;)+) => {
        /// What went wrong, as a word that clients may rely on.
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum Code { $($(#[$doc])* $name),+ }

        impl Code {
            pub const ALL: &[Self] = &[$(Self::$name),+];

            pub fn as_str(self) -> &'static str {
                match self { $(Self::$name => $word),+ }
            }

            pub fn status(self) -> StatusCode {
                match self { $(Self::$name => StatusCode::$status),+ }
            }

            pub fn title(self) -> &'static str {
                match self { $(Self::$name => $title),+ }
            }
        }
    };
}

codes! {
    InvalidRequest = "invalid_request", BAD_REQUEST, "The request is not well formed";
    InvalidSignature = "invalid_signature", BAD_REQUEST, "The signature does not match the body";
    InvalidPayload = "invalid_payload", BAD_REQUEST, "The body is not what this call takes";
    InvalidQuery = "invalid_query", BAD_REQUEST, "A query parameter is unknown or has a wrong value";
    Unauthorized = "unauthorized", UNAUTHORIZED, "A valid key is needed";
    /// What only the hub itself does, whoever asks.
    Reserved = "reserved", FORBIDDEN, "This is kept for the hub itself";
    /// An open gateway was asked by a name that is not its own.
    HostNotAllowed = "host_not_allowed", FORBIDDEN, "This host is not answered without a key";
    /// A page of another site asked an open gateway to change something.
    OriginNotAllowed = "origin_not_allowed", FORBIDDEN, "Another site may not ask this";
    /// A valid key, whose scope does not have the call.
    Forbidden = "forbidden", FORBIDDEN, "This key does not open that call";
    NotFound = "not_found", NOT_FOUND, "There is nothing here";
    MethodNotAllowed = "method_not_allowed", METHOD_NOT_ALLOWED, "This path does not take that method";
    RequestTimeout = "request_timeout", REQUEST_TIMEOUT, "The request took too long to arrive";
    Conflict = "conflict", CONFLICT, "What was asked does not fit how things stand";
    IdempotencyKeyReused = "idempotency_key_reused", CONFLICT, "The idempotency key belongs to another event";
    EndpointBuiltIn = "endpoint_built_in", CONFLICT, "This endpoint is set by configuration";
    TooManySecrets = "too_many_secrets", CONFLICT, "As many secrets sign for this endpoint as may at once";
    TooManyEndpoints = "too_many_endpoints", CONFLICT, "This client has as many endpoints as it may have";
    /// The reader's token is of another history of the store (R3).
    FeedDiverged = "feed_diverged", CONFLICT, "The token is not of this store's history";
    /// The reader's token is below the oldest notice kept (R3).
    FeedTooOld = "feed_too_old", GONE, "The token is older than what is kept";
    TooLarge = "too_large", PAYLOAD_TOO_LARGE, "The body is too large";
    UriTooLong = "uri_too_long", URI_TOO_LONG, "The address is too long";
    UnsupportedMedia = "unsupported_media", UNSUPPORTED_MEDIA_TYPE, "The body has a type or encoding that is not taken";
    InvalidUrl = "invalid_url", UNPROCESSABLE_ENTITY, "This is no URL of an endpoint";
    /// It may be a good URL, but leads where nothing may be sent.
    EndpointUrlForbidden = "endpoint_url_forbidden", UNPROCESSABLE_ENTITY, "Nothing is sent to where this URL leads";
    /// Another setting than the URL.
    InvalidEndpoint = "invalid_endpoint", UNPROCESSABLE_ENTITY, "A setting of the endpoint is not taken";
    RateLimited = "rate_limited", TOO_MANY_REQUESTS, "Too many requests";
    /// The client's own limit; ours is `Unavailable` (R10).
    ClientOverloaded = "client_overloaded", TOO_MANY_REQUESTS, "This client has too much waiting";
    Internal = "internal", INTERNAL_SERVER_ERROR, "Something went wrong here";
    UpstreamFailed = "upstream_failed", BAD_GATEWAY, "The service behind the gateway broke off";
    Unavailable = "unavailable", SERVICE_UNAVAILABLE, "Not possible now, try again";
    UpstreamTimeout = "upstream_timeout", GATEWAY_TIMEOUT, "The service behind the gateway took too long";
}

impl Code {
    /// A problem with this code, and what a caller can do about it.
    pub fn because(self, detail: impl Into<String>) -> Problem {
        Problem {
            code: self,
            detail: detail.into(),
            retry_after_s: None,
        }
    }
}

/// An error on its way to the caller. The correlation id joins it in [`crate::base`], as the last step.
#[derive(Clone, Debug, thiserror::Error)]
#[error("{}: {detail}", code.as_str())]
pub struct Problem {
    pub code: Code,
    pub detail: String,
    /// Seconds, for the Retry-After header.
    pub retry_after_s: Option<u64>,
}

/// The body of a problem.
#[derive(Serialize)]
struct Body<'a> {
    r#type: String,
    title: &'a str,
    status: u16,
    code: &'a str,
    detail: &'a str,
    correlation_id: &'a CorrelationId,
}

impl Problem {
    #[must_use]
    pub fn retry_after(mut self, seconds: u64) -> Self {
        self.retry_after_s = Some(seconds);
        self
    }

    /// The whole answer.
    pub(crate) fn render(&self, correlation_id: &CorrelationId) -> Response {
        let body = Body {
            r#type: format!("urn:signalpost:problem:{}", self.code.as_str()),
            title: self.code.title(),
            status: self.code.status().as_u16(),
            code: self.code.as_str(),
            detail: &self.detail,
            correlation_id,
        };
        let bytes = serde_json::to_vec(&body).unwrap_or_default();
        let mut response = (self.code.status(), bytes).into_response();
        let headers = response.headers_mut();
        headers.insert(
            header::CONTENT_TYPE,
            HeaderValue::from_static("application/problem+json"),
        );
        if let Some(seconds) = self.retry_after_s {
            headers.insert(header::RETRY_AFTER, seconds.into());
        }
        // What follows a request that could not be read is not the next request.
        if matches!(self.code, Code::TooLarge | Code::RequestTimeout) {
            headers.insert(header::CONNECTION, HeaderValue::from_static("close"));
        }
        response
    }
}

impl IntoResponse for Problem {
    fn into_response(self) -> Response {
        let mut response = self.code.status().into_response();
        response.extensions_mut().insert(self);
        response
    }
}
