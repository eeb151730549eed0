//! HTTP out. Every client bounds its waits, follows no redirect and tells a failure by a stable word.

mod connection;
mod head;
mod hostile;
mod names;
pub mod phases;
mod strangers;
mod tls;

use std::error::Error;
use std::io::{self, ErrorKind};
use std::iter;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use futures_util::StreamExt as _;
use http::{StatusCode, header};
use http_body_util::Full;
use hyper_util::client::legacy::Client;
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::rt::{TokioExecutor, TokioTimer};
use reqwest_middleware::{ClientBuilder, ClientWithMiddleware};
use reqwest_retry::policies::ExponentialBackoff;
use reqwest_retry::{
    RetryError, RetryTransientMiddleware, Retryable, RetryableStrategy, default_on_request_success,
};

use hostile::LookUp;
use strangers::Strangers;

pub use names::Names;

pub use hostile::{Permits, hostile};
pub use strangers::{OverAFreshConnection, Unanswered, is_of_a_kept_connection};

const CONNECT_TIMEOUT: Duration = Duration::from_secs(3);
/// Shorter than [`Limits::INTERNAL`](crate::server::Limits::INTERNAL)'s head timeout.
const IDLE: Duration = Duration::from_secs(20);

const USER_AGENT: &str = concat!("Signalpost/", env!("CARGO_PKG_VERSION"));

/// For calls between our own services. Repeats only what was never sent, so that nothing is done twice.
pub fn internal(timeout: Duration) -> ClientWithMiddleware {
    let policy = ExponentialBackoff::builder()
        .retry_bounds(Duration::from_millis(20), Duration::from_millis(200))
        .build_with_max_retries(2);
    ClientBuilder::new(build(base().timeout(timeout)))
        .with(RetryTransientMiddleware::new_with_policy_and_strategy(
            policy, NeverSent,
        ))
        .build()
}

/// For one call, one try: the gateway, which chooses another replica itself.
pub fn single_try(timeout: Duration) -> ClientWithMiddleware {
    ClientBuilder::new(build(base().timeout(timeout))).build()
}

/// For requests that are passed on to our own services as they came, over plain HTTP: nothing is parsed again. Whoever
/// sends bounds the wait for the answer.
pub fn forwarding() -> Client<HttpConnector, Full<Bytes>> {
    let mut connector = HttpConnector::new();
    connector.set_nodelay(true);
    connector.set_connect_timeout(Some(CONNECT_TIMEOUT));
    Client::builder(TokioExecutor::new())
        .pool_timer(TokioTimer::new())
        .pool_idle_timeout(IDLE)
        .build(connector)
}

/// For vendors' status pages: reads are harmless, so a passing failure is tried once more, unless it
/// asks for time. Whoever asks bounds the whole.
pub fn vendor() -> ClientWithMiddleware {
    let policy = ExponentialBackoff::builder()
        .retry_bounds(Duration::from_millis(200), Duration::from_secs(1))
        .build_with_max_retries(1);
    let strangers = Strangers::new(LookUp::of_anything(), tls::config());
    ClientBuilder::new(build(base()))
        .with(RetryTransientMiddleware::new_with_policy_and_strategy(
            policy, Passing,
        ))
        .with(strangers)
        .build()
}

fn base() -> reqwest::ClientBuilder {
    reqwest::Client::builder()
        .tls_backend_preconfigured(tls::config())
        .no_proxy()
        .redirect(reqwest::redirect::Policy::none())
        .retry(reqwest::retry::never())
        .connect_timeout(CONNECT_TIMEOUT)
        .pool_idle_timeout(IDLE)
        .tcp_nodelay(true)
        .user_agent(USER_AGENT)
}

#[expect(
    clippy::expect_used,
    reason = "only a TLS backend that does not load can fail, at start-up"
)]
fn build(builder: reqwest::ClientBuilder) -> reqwest::Client {
    builder
        .build()
        .expect("the HTTP client's TLS backend loads")
}

/// A connection that was refused carried nothing; anything later may have been acted on.
struct NeverSent;

impl RetryableStrategy for NeverSent {
    fn handle(
        &self,
        result: &Result<reqwest::Response, reqwest_middleware::Error>,
    ) -> Option<Retryable> {
        match result {
            Err(reqwest_middleware::Error::Reqwest(fault)) if fault.is_connect() => {
                Some(Retryable::Transient)
            }
            _ => None,
        }
    }
}

fn asks_for_time(answer: &reqwest::Response) -> bool {
    answer.status() == StatusCode::TOO_MANY_REQUESTS
        || answer.headers().contains_key(header::RETRY_AFTER)
}

/// What may be otherwise in a moment.
struct Passing;

impl RetryableStrategy for Passing {
    fn handle(
        &self,
        result: &Result<reqwest::Response, reqwest_middleware::Error>,
    ) -> Option<Retryable> {
        let fault = match result {
            Ok(answer) if asks_for_time(answer) => return Some(Retryable::Fatal),
            Ok(answer) => return default_on_request_success(answer),
            Err(fault) => failure_code(fault),
        };
        let is_what_they_are = ["tls_error", "invalid_response", "head_too_large"].contains(&fault);
        Some(if is_what_they_are {
            Retryable::Fatal
        } else {
            Retryable::Transient
        })
    }
}

/// A stable word for why a call had no answer.
pub fn failure_code(fault: &reqwest_middleware::Error) -> &'static str {
    match fault {
        reqwest_middleware::Error::Reqwest(fault) => transport_code(fault),
        // The retries wrap whatever they gave up on.
        reqwest_middleware::Error::Middleware(fault) => match fault.downcast_ref() {
            Some(RetryError::WithRetries { err, .. } | RetryError::Error(err)) => failure_code(err),
            None => fault.downcast_ref().map_or("connect", Unanswered::word),
        },
    }
}

/// Every word of [`failure_code`].
pub const FAILURE_CODES: &[&str] = &[
    "timeout",
    "connect",
    "connection_refused",
    "connection_reset",
    "network_unreachable",
    "dns_error",
    "tls_error",
    "blocked",
    "invalid_response",
    "head_too_large",
];

fn transport_code(fault: &reqwest::Error) -> &'static str {
    if fault.is_timeout() {
        return "timeout";
    }
    cause_code(fault).unwrap_or(if fault.is_connect() {
        "connect"
    } else {
        "connection_reset"
    })
}

/// Why a `tls_error`, in a stable word.
pub fn failure_reason(fault: &reqwest_middleware::Error) -> Option<&'static str> {
    let fault: &(dyn Error + 'static) = match fault {
        reqwest_middleware::Error::Reqwest(fault) => fault,
        reqwest_middleware::Error::Middleware(fault) => fault.downcast_ref::<Unanswered>()?,
    };
    causes(fault).find_map(|cause| cause.downcast_ref().map(tls::reason))
}

/// The word for what an error comes from, if it is one of those with a word of their own.
pub fn cause_code(fault: &(dyn Error + 'static)) -> Option<&'static str> {
    // A name that is refused is a failure of the look-up as well, and told as what it is.
    if causes(fault).any(|cause| cause.is::<hostile::Blocked>()) {
        return Some("blocked");
    }
    causes(fault).find_map(word)
}

/// An error and what it comes from. One of I/O is passed over as a source by what wraps it: it is asked for its own.
fn causes<'a>(fault: &'a (dyn Error + 'static)) -> impl Iterator<Item = &'a (dyn Error + 'static)> {
    iter::successors(Some(fault), |&cause| {
        match cause.downcast_ref().and_then(io::Error::get_ref) {
            Some(within) => Some(within),
            None => cause.source(),
        }
    })
}

fn word(cause: &(dyn Error + 'static)) -> Option<&'static str> {
    if let Some(io) = cause.downcast_ref::<io::Error>() {
        match io.kind() {
            ErrorKind::ConnectionRefused => return Some("connection_refused"),
            ErrorKind::ConnectionReset
            | ErrorKind::ConnectionAborted
            | ErrorKind::BrokenPipe
            | ErrorKind::UnexpectedEof => return Some("connection_reset"),
            ErrorKind::NetworkUnreachable | ErrorKind::HostUnreachable | ErrorKind::NetworkDown => {
                return Some("network_unreachable");
            }
            ErrorKind::TimedOut => return Some("timeout"),
            _ => {}
        }
    }
    if let Some(fault) = cause.downcast_ref::<head::HeadFault>() {
        return Some(fault.word());
    }
    if cause.is::<rustls::Error>() {
        return Some("tls_error");
    }
    if let Some(fault) = cause.downcast_ref::<hyper::Error>() {
        if fault.is_parse_too_large() {
            return Some("head_too_large");
        }
        if fault.is_parse() {
            return Some("invalid_response");
        }
    }
    let text = cause.to_string();
    (text.contains("dns error") || text.contains("failed to lookup address")).then_some("dns_error")
}

/// Why a body could not be read.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub enum BodyFault {
    #[error("longer than the {0} bytes that are taken")]
    TooLarge(usize),
    #[error("broken off: {0}")]
    Broken(&'static str),
}

/// Reads a response's body up to `limit` bytes; the client's timeout covers it.
pub async fn read_body(response: reqwest::Response, limit: usize) -> Result<Bytes, BodyFault> {
    let mut chunks = response.bytes_stream();
    let mut body = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        let chunk = chunk.map_err(|fault| BodyFault::Broken(transport_code(&fault)))?;
        if body.len() + chunk.len() > limit {
            return Err(BodyFault::TooLarge(limit));
        }
        body.extend_from_slice(&chunk);
    }
    Ok(body.freeze())
}

#[cfg(test)]
mod tests;
