//! The accept loop. `axum::serve` has no timer on request heads, so a silent connection would stay for ever.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll, ready};
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::time::Sleep;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

/// The target of the line that tells the address; shown at every log level.
pub(crate) const LISTENING: &str = "listening";
/// After a failed accept (out of file descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);

/// The bounds of a server.
#[derive(Clone, Debug)]
pub struct Limits {
    /// From the opening of a connection, or the end of the last answer, to the end of the next request's head.
    pub head_timeout: Duration,
    /// A caller who takes no byte of its answer for so long is cut off.
    pub write_timeout: Duration,
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
        write_timeout: Duration::from_secs(15),
        max_head_bytes: 64 * 1024,
        max_connections: 4096,
        drain: Duration::from_secs(10),
    };

    /// For the open port.
    pub const PUBLIC: Self = Self {
        head_timeout: Duration::from_secs(5),
        write_timeout: Duration::from_secs(15),
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
    allow_open_files();
    let listener = TcpListener::bind(address).await.map_err(|fault| {
        io::Error::new(fault.kind(), format!("listening on {address}: {fault}"))
    })?;
    tracing::info!(target: LISTENING, address = %listener.local_addr()?, "listening");
    Ok(listener)
}

/// As many as the process may have: the usual soft limit, 1,024, is below [`Limits::max_connections`].
fn allow_open_files() {
    let mut limit = getrlimit(Resource::Nofile);
    limit.current = limit.maximum;
    if let Err(fault) = setrlimit(Resource::Nofile, limit) {
        tracing::warn!(%fault, "raising the limit of open files");
    }
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
        .max_buf_size(limits.max_head_bytes);
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
        let stream = ImpatientStream {
            stream,
            timeout: limits.write_timeout,
            waiting: None,
        };
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

/// A stream whose write fails when it has been pending for the timeout.
struct ImpatientStream {
    stream: TcpStream,
    timeout: Duration,
    waiting: Option<Pin<Box<Sleep>>>,
}

impl ImpatientStream {
    fn poll_in_time<T>(
        &mut self,
        cx: &mut Context<'_>,
        write: impl FnOnce(Pin<&mut TcpStream>, &mut Context<'_>) -> Poll<io::Result<T>>,
    ) -> Poll<io::Result<T>> {
        let written = write(Pin::new(&mut self.stream), cx);
        if written.is_ready() {
            self.waiting = None;
            return written;
        }
        let timeout = self.timeout;
        let waiting = self
            .waiting
            .get_or_insert_with(|| Box::pin(tokio::time::sleep(timeout)));
        ready!(waiting.as_mut().poll(cx));
        Poll::Ready(Err(io::ErrorKind::TimedOut.into()))
    }
}

impl AsyncWrite for ImpatientStream {
    fn poll_write(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        self.poll_in_time(cx, |stream, cx| stream.poll_write(cx, bytes))
    }

    fn poll_write_vectored(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        slices: &[io::IoSlice<'_>],
    ) -> Poll<io::Result<usize>> {
        self.poll_in_time(cx, |stream, cx| stream.poll_write_vectored(cx, slices))
    }

    fn is_write_vectored(&self) -> bool {
        self.stream.is_write_vectored()
    }

    // A TCP stream has nothing to flush: only writes wait for the caller.
    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncRead for ImpatientStream {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_read(cx, buffer)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::atomic::{AtomicUsize, Ordering};

    use axum::routing::get;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    use super::*;

    const QUICK: Limits = Limits {
        head_timeout: Duration::from_millis(200),
        write_timeout: Duration::from_millis(200),
        max_head_bytes: 16 * 1024,
        max_connections: 8,
        drain: Duration::from_secs(5),
    };

    async fn start(
        router: Router,
        limits: Limits,
    ) -> (
        SocketAddr,
        CancellationToken,
        tokio::task::JoinHandle<io::Result<()>>,
    ) {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let shutdown = CancellationToken::new();
        let server = tokio::spawn(serve(listener, router, limits, shutdown.clone()));
        (address, shutdown, server)
    }

    /// Everything the server sends until it closes; fails the test if it stays open.
    async fn read_to_close(stream: &mut TcpStream) -> String {
        let mut answer = Vec::new();
        let closed =
            tokio::time::timeout(Duration::from_secs(5), stream.read_to_end(&mut answer)).await;
        closed.expect("the server closes the connection").unwrap();
        String::from_utf8(answer).unwrap()
    }

    #[tokio::test]
    async fn a_connection_that_sends_nothing_or_half_a_head_is_closed() {
        let (address, _shutdown, _server) = start(Router::new(), QUICK).await;
        for sent in ["", "GET", "GET / HTTP/1.1\r\nHost: a\r\nX-Half"] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            stream.write_all(sent.as_bytes()).await.unwrap();

            let answer = read_to_close(&mut stream).await;

            assert_eq!(answer, "", "{sent:?}");
        }
    }

    #[tokio::test]
    async fn a_head_beyond_the_limit_reaches_no_handler() {
        let handled = Arc::new(AtomicUsize::new(0));
        let counter = Arc::clone(&handled);
        let handler = async move || counter.fetch_add(1, Ordering::SeqCst).to_string();
        let (address, _shutdown, _server) =
            start(Router::new().route("/", get(handler)), QUICK).await;
        for (length, reached) in [(1024, 1), (32 * 1024, 1)] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!(
                "GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\nX-Long: {}\r\n\r\n",
                "x".repeat(length)
            );
            // The server may close before all of it is written, and the reset may overtake its 431.
            let _cut_off = stream.write_all(request.as_bytes()).await;
            let mut answer = Vec::new();
            let _reset = stream.read_to_end(&mut answer).await;

            assert_eq!(handled.load(Ordering::SeqCst), reached, "{length}");
        }
    }

    #[tokio::test]
    async fn a_caller_who_never_reads_makes_way() {
        let large = bytes::Bytes::from(vec![0; 64 << 20]);
        let router = Router::new()
            .route("/large", get(async move || large))
            .route("/", get(async || "handled"));
        let limits = Limits {
            max_connections: 1,
            ..QUICK
        };
        let (address, _shutdown, _server) = start(router, limits).await;
        let mut silent = TcpStream::connect(address).await.unwrap();
        let request = b"GET /large HTTP/1.1\r\nHost: a\r\n\r\n";
        silent.write_all(request).await.unwrap();

        let mut next = TcpStream::connect(address).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: a\r\nConnection: close\r\n\r\n";
        next.write_all(request).await.unwrap();

        assert!(read_to_close(&mut next).await.ends_with("handled"));
    }

    #[tokio::test]
    async fn as_many_files_may_be_open_as_the_system_lets_the_process_have() {
        let mut limit = getrlimit(Resource::Nofile);
        limit.current = limit.maximum.map(|maximum| maximum - 1);
        setrlimit(Resource::Nofile, limit).unwrap();

        bind("127.0.0.1:0").await.unwrap();

        let limit = getrlimit(Resource::Nofile);
        assert_eq!(limit.current, limit.maximum);
    }

    #[tokio::test]
    async fn what_is_in_flight_is_answered_after_the_shutdown() {
        let (entered, mut inside) = tokio::sync::mpsc::channel::<()>(1);
        let go = Arc::new(Semaphore::new(0));
        let gate = Arc::clone(&go);
        let handler = async move || {
            entered.send(()).await.unwrap();
            gate.acquire().await.unwrap().forget();
            "done"
        };
        let (address, shutdown, server) =
            start(Router::new().route("/", get(handler)), QUICK).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        stream
            .write_all(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
            .await
            .unwrap();
        inside.recv().await.unwrap();

        shutdown.cancel();
        go.add_permits(1);

        assert!(read_to_close(&mut stream).await.ends_with("done"));
        server.await.unwrap().unwrap();
        assert!(TcpStream::connect(address).await.is_err());
    }
}
