//! The accept loop. `axum::serve` has no timer on request heads, so a silent connection would stay for ever.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// After a failed accept (out of file descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The bounds of a server.
#[derive(Clone, Debug)]
pub struct Limits {
    /// From the opening of a connection, or the end of the last answer, to the end of the next request's head.
    pub head_timeout: Duration,
    /// All header lines together, in bytes.
    pub max_head_bytes: usize,
    pub max_connections: usize,
    /// How long requests in flight may go on after the shutdown; the containers' grace is 15 s.
    pub drain: Duration,
}

impl Limits {
    /// For services that only Signalpost's own call. Longer than the clients' idle time, so that a pooled connection is
    /// never closed under a request.
    pub const INTERNAL: Self = Self {
        head_timeout: Duration::from_secs(60),
        max_head_bytes: 64 * 1024,
        max_connections: 4096,
        drain: Duration::from_secs(10),
    };

    /// For the open port.
    pub const PUBLIC: Self = Self {
        head_timeout: Duration::from_secs(5),
        max_head_bytes: 16 * 1024,
        max_connections: 16_384,
        drain: Duration::from_secs(10),
    };
}

/// Who is at the other end of the connection; in every request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Peer(pub SocketAddr);

/// Binds, and says where in the log: the supervisor and the tests read the port from that line.
pub async fn bind(address: &str) -> io::Result<TcpListener> {
    let listener = TcpListener::bind(address).await.map_err(|fault| {
        io::Error::new(fault.kind(), format!("listening on {address}: {fault}"))
    })?;
    tracing::info!(address = %listener.local_addr()?, "listening");
    Ok(listener)
}

/// Serves until the token is cancelled, then finishes what is in flight, within the drain's bound.
pub async fn serve(
    listener: TcpListener,
    router: Router,
    limits: Limits,
    shutdown: CancellationToken,
) -> io::Result<()> {
    let mut http = http1::Builder::new();
    http.timer(TokioTimer::new())
        .header_read_timeout(limits.head_timeout)
        .max_buf_size(limits.max_head_bytes)
        .pipeline_flush(true);
    let slots = Arc::new(Semaphore::new(limits.max_connections));
    let graceful = GracefulShutdown::new();

    loop {
        let slot = tokio::select! {
            slot = Arc::clone(&slots).acquire_owned() => slot.map_err(io::Error::other)?,
            () = shutdown.cancelled() => break,
        };
        let (stream, peer) = tokio::select! {
            accepted = listener.accept() => match accepted {
                Ok(accepted) => accepted,
                Err(fault) => {
                    tracing::warn!(%fault, "accepting a connection");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            },
            () = shutdown.cancelled() => break,
        };
        // Answers are small and awaited; waiting to fill a packet would only delay them.
        if let Err(fault) = stream.set_nodelay(true) {
            tracing::debug!(%fault, "setting TCP_NODELAY");
        }
        let service = router
            .clone()
            .map_request(move |mut request: Request<Incoming>| {
                request.extensions_mut().insert(Peer(peer));
                request.map(axum::body::Body::new)
            });
        let connection =
            http.serve_connection(TokioIo::new(stream), TowerToHyperService::new(service));
        let watched = graceful.watch(connection);
        tokio::spawn(async move {
            if let Err(fault) = watched.await {
                tracing::debug!(%fault, %peer, "connection ended");
            }
            drop(slot);
        });
    }

    drop(listener);
    if tokio::time::timeout(limits.drain, graceful.shutdown())
        .await
        .is_err()
    {
        tracing::warn!(
            drain_s = limits.drain.as_secs(),
            "requests in flight were cut off at the end of the drain"
        );
    }
    Ok(())
}
