//! Requests to strangers: over connections that are [`Guarded`], kept for the next request or made for one.

use std::error::Error;
use std::io::{self, ErrorKind};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use http::header::USER_AGENT;
use http::{Extensions, HeaderValue, Uri};
use hyper_rustls::{HttpsConnector, MaybeHttpsStream};
use hyper_util::client::legacy::connect::HttpConnector;
use hyper_util::client::legacy::{self, Client};
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use reqwest::{Body, Request, Response};
use reqwest_middleware::{Middleware, Next};
use rustls::ClientConfig;
use tokio::net::TcpStream;
use tokio::time::timeout;
use tower::Service;

use super::connection::{Exchange, Guarded};
use super::hostile::LookUp;
use super::{CONNECT_TIMEOUT, IDLE, cause_code, phases};

/// Kept connections to one host: as many as may be in use at once, or a busy endpoint would be connected to anew all the
/// time.
const IDLE_PER_HOST: usize = 256;

/// In a request's extensions: no kept connection is used for it.
#[derive(Clone, Copy, Debug)]
pub struct OverAFreshConnection;

/// Sends instead of the client that it is a layer of.
pub(super) struct Strangers {
    kept: Client<Connector, Body>,
    fresh: Client<Connector, Body>,
}

impl Strangers {
    pub(super) fn new(look_up: LookUp, tls: ClientConfig) -> Self {
        let connector = Connector::new(look_up, tls);
        let client = |idle_per_host| {
            Client::builder(TokioExecutor::new())
                .pool_timer(TokioTimer::new())
                .pool_idle_timeout(IDLE)
                .pool_max_idle_per_host(idle_per_host)
                .build(connector.clone())
        };
        Self {
            kept: client(IDLE_PER_HOST),
            fresh: client(0),
        }
    }
}

#[async_trait::async_trait]
impl Middleware for Strangers {
    async fn handle(
        &self,
        request: Request,
        extensions: &mut Extensions,
        _: Next<'_>,
    ) -> reqwest_middleware::Result<Response> {
        let mut request: http::Request<Body> = request.try_into()?;
        let headers = request.headers_mut();
        headers
            .entry(USER_AGENT)
            .or_insert(HeaderValue::from_static(super::USER_AGENT));
        let client = match extensions.get::<OverAFreshConnection>() {
            Some(_) => &self.fresh,
            None => &self.kept,
        };
        match client.request(request).await {
            Ok(answer) => Ok(answer.map(Body::wrap).into()),
            Err(fault) => Err(reqwest_middleware::Error::Middleware(
                Unanswered::from(fault).into(),
            )),
        }
    }
}

/// Why a request to a stranger has no answer.
#[derive(Debug, thiserror::Error)]
#[error("no answer came")]
pub struct Unanswered {
    is_of_a_kept_connection: bool,
    source: Box<dyn Error + Send + Sync>,
}

impl Unanswered {
    /// As [`is_of_a_kept_connection`] is true of, without a network.
    pub fn on_a_kept_connection() -> Self {
        Self {
            is_of_a_kept_connection: true,
            source: io::Error::from(ErrorKind::ConnectionReset).into(),
        }
    }

    pub(super) fn word(&self) -> &'static str {
        let source: &(dyn Error + 'static) = &*self.source;
        let is_of_connecting = source.downcast_ref().is_some_and(legacy::Error::is_connect);
        cause_code(source).unwrap_or(if is_of_connecting {
            "connect"
        } else {
            "connection_reset"
        })
    }
}

impl From<legacy::Error> for Unanswered {
    fn from(fault: legacy::Error) -> Self {
        let mut extras = Extensions::new();
        if let Some(connection) = fault.connect_info() {
            connection.get_extras(&mut extras);
        }
        let exchange: Option<&Arc<Exchange>> = extras.get();
        Self {
            is_of_a_kept_connection: exchange
                .is_some_and(|exchange| exchange.is_unanswered_on_a_kept_connection()),
            source: fault.into(),
        }
    }
}

/// Whether a request was asked over a connection that had answered before and that then broke before any byte of an
/// answer: most likely the other side closed it for having been idle, and the request was on its way.
pub fn is_of_a_kept_connection(fault: &reqwest_middleware::Error) -> bool {
    let reqwest_middleware::Error::Middleware(fault) = fault else {
        return false;
    };
    fault
        .downcast_ref()
        .is_some_and(|fault: &Unanswered| fault.is_of_a_kept_connection)
}

/// Looks the name up, connects, shakes hands: all of it within one bound, and measured.
#[derive(Clone)]
struct Connector(HttpsConnector<HttpConnector<LookUp>>);

impl Connector {
    fn new(look_up: LookUp, tls: ClientConfig) -> Self {
        let mut http = HttpConnector::new_with_resolver(look_up);
        http.enforce_http(false);
        http.set_nodelay(true);
        // Shared among the addresses of a name, so that one that does not answer leaves time for the next.
        http.set_connect_timeout(Some(CONNECT_TIMEOUT));
        Self(HttpsConnector::from((http, tls)))
    }
}

impl Service<Uri> for Connector {
    type Response = Guarded<MaybeHttpsStream<TokioIo<TcpStream>>>;
    type Error = Box<dyn Error + Send + Sync>;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Self::Error>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Self::Error>> {
        self.0.poll_ready(cx)
    }

    fn call(&mut self, to: Uri) -> Self::Future {
        let connection = self.0.call(to);
        Box::pin(async move {
            // Dropped after the connection, so that a look-up within it is over.
            let _connecting = phases::connecting();
            let stream = timeout(CONNECT_TIMEOUT, connection)
                .await
                .map_err(|_| io::Error::from(ErrorKind::TimedOut))??;
            Ok(Guarded::over(stream))
        })
    }
}

#[cfg(test)]
mod tests;
