//! The accept loop. `axum::serve` has no timer on request heads, so a silent connection would stay for ever.

mod stream;

use std::io;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use http::Request;
use hyper::body::Incoming;
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::server::graceful::GracefulShutdown;
use hyper_util::service::TowerToHyperService;
use rustix::process::{Resource, getrlimit, setrlimit};
use tokio::io::Interest;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt as _;

use crate::proxies::TrustedProxies;
use crate::shares::{Claim, Holder, Shares};
use stream::Stream;

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
    /// Whether anybody may connect. Then a caller that has sent its whole request and closes its sending half is served,
    /// and at `max_connections` the address that holds the most makes way. Our own services never close half, so that a
    /// request whose caller is gone is dropped, and wait for their turn.
    pub for_anybody: bool,
    /// Whose word counts on who is asking.
    pub trusted_proxies: TrustedProxies,
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
        for_anybody: false,
        trusted_proxies: TrustedProxies::NONE,
        drain: Duration::from_secs(10),
    };

    /// For the open port.
    pub const PUBLIC: Self = Self {
        head_timeout: Duration::from_secs(5),
        write_timeout: Duration::from_secs(15),
        max_head_bytes: 16 * 1024,
        max_connections: 16_384,
        for_anybody: true,
        trusted_proxies: TrustedProxies::NONE,
        drain: Duration::from_secs(10),
    };
}

/// Whose request it is; in every request's extensions.
#[derive(Clone, Copy, Debug)]
pub struct Caller(pub IpAddr);

/// Ends the connection that a request came on; in every request's extensions.
#[derive(Clone, Debug)]
pub struct Connection(pub CancellationToken);

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
    let graceful = GracefulShutdown::new();
    let door = Door::new(limits.clone());
    loop {
        let slot = tokio::select! {
            slot = Arc::clone(&door.slots).acquire_owned() => slot.map_err(io::Error::other)?,
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
        let Some(claim) = door.admit(peer) else {
            tracing::debug!(%peer, "connection refused: no room, and nobody who holds as much is idle");
            continue;
        };
        let serving = door.serve(stream, peer, claim, router.clone(), &graceful);
        tokio::spawn(async move {
            serving.await;
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

/// What every connection passes.
struct Door {
    http: http1::Builder,
    limits: Limits,
    /// Of a service of ours, whose callers wait for their turn.
    slots: Arc<Semaphore>,
    /// Of the open port, whose callers make way for each other.
    shares: Shares,
}

impl Door {
    fn new(limits: Limits) -> Self {
        let mut http = http1::Builder::new();
        http.timer(TokioTimer::new())
            .header_read_timeout(limits.head_timeout)
            .max_buf_size(limits.max_head_bytes)
            .half_close(limits.for_anybody);
        let (slots, shares) = if limits.for_anybody {
            (Semaphore::MAX_PERMITS, connections_max(&limits))
        } else {
            (limits.max_connections, usize::MAX)
        };
        Self {
            http,
            limits,
            slots: Arc::new(Semaphore::new(slots)),
            shares: Shares::new(shares),
        }
    }

    fn admit(&self, peer: SocketAddr) -> Option<Claim> {
        let holder = Holder::at(peer.ip());
        let claim = self.shares.claim(holder, CancellationToken::new());
        claim.grow(1).is_ok().then_some(claim)
    }

    /// Until the connection has ended, by whichever side, or makes way for another.
    fn serve(
        &self,
        stream: TcpStream,
        peer: SocketAddr,
        claim: Claim,
        router: Router,
        graceful: &GracefulShutdown,
    ) -> impl Future<Output = ()> + use<> {
        // Answers are small and awaited; waiting to fill a packet would only delay them.
        if let Err(fault) = stream.set_nodelay(true) {
            tracing::debug!(%fault, "setting TCP_NODELAY");
        }
        let (stream, claim) = (Arc::new(stream), Arc::new(claim));
        let io = Stream::new(
            Arc::clone(&stream),
            self.limits.write_timeout,
            Arc::clone(claim.waiting()),
        );
        let proxies = self.limits.trusted_proxies.clone();
        let claimed = Arc::clone(&claim);
        let service = router.map_request(move |mut request: Request<Incoming>| {
            let caller = proxies.caller(peer.ip(), request.headers());
            if caller != peer.ip().to_canonical() {
                claimed.pass_to(Holder::at(caller));
            }
            let extensions = request.extensions_mut();
            extensions.insert(Caller(caller));
            extensions.insert(Connection(claimed.ends().clone()));
            request.map(axum::body::Body::new)
        });
        let connection = self
            .http
            .serve_connection(TokioIo::new(io), TowerToHyperService::new(service));
        let watched = graceful.watch(connection);
        async move {
            tokio::select! {
                ended = watched => if let Err(fault) = ended {
                    tracing::debug!(%fault, %peer, "connection ended");
                },
                () = claim.ended() => tracing::debug!(%peer, "connection made way for another"),
                () = reset(&stream) => tracing::debug!(%peer, "connection reset"),
            }
        }
    }
}

/// A connection that is passed on takes a second file, so that half of what may be open is for those.
fn connections_max(limits: &Limits) -> usize {
    let files = getrlimit(Resource::Nofile).current;
    let files = files.and_then(|files| usize::try_from(files).ok());
    let within = files.map_or(usize::MAX, |files| files / 2);
    limits.max_connections.min(within).max(1)
}

/// Until the caller has broken the connection off: what is being done for it is then done for nobody. One that closes its
/// sending half only has not.
async fn reset(stream: &TcpStream) {
    // A failure to watch is no sign of the caller's.
    if stream.ready(Interest::ERROR).await.is_err() {
        std::future::pending::<()>().await;
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
        for_anybody: true,
        trusted_proxies: TrustedProxies::NONE,
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
    async fn a_caller_who_never_reads_makes_way_at_both_kinds_of_port() {
        for for_anybody in [true, false] {
            never_reads_makes_way(for_anybody).await;
        }
    }

    async fn never_reads_makes_way(for_anybody: bool) {
        let large = bytes::Bytes::from(vec![0; 64 << 20]);
        let router = Router::new()
            .route("/large", get(async move || large))
            .route("/", get(async || "handled"));
        let limits = Limits {
            max_connections: 1,
            for_anybody,
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

    /// A connection from one of loopback's addresses.
    async fn connect_from(address: &str, server: SocketAddr) -> TcpStream {
        let socket = tokio::net::TcpSocket::new_v4().unwrap();
        socket
            .bind(format!("{address}:0").parse().unwrap())
            .unwrap();
        socket.connect(server).await.unwrap()
    }

    async fn ask(stream: &mut TcpStream) -> String {
        let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        stream.write_all(request).await.unwrap();
        let mut answer = [0; 1024];
        let reading = tokio::time::timeout(Duration::from_secs(5), stream.read(&mut answer));
        let length = reading.await.expect("an answer within 5 s").unwrap();
        String::from_utf8_lossy(&answer[..length]).into_owned()
    }

    #[tokio::test]
    async fn at_the_bound_the_address_with_the_most_connections_makes_way() {
        let limits = Limits {
            max_connections: 4,
            head_timeout: Duration::from_secs(60),
            ..QUICK
        };
        let router = Router::new().route("/", get(async || "handled"));
        let (address, _shutdown, _server) = start(router, limits).await;
        let mut flood = Vec::new();
        for _ in 0..4 {
            let mut stream = connect_from("127.0.0.2", address).await;
            assert!(ask(&mut stream).await.ends_with("handled"));
            flood.push(stream);
        }

        let mut other = connect_from("127.0.0.3", address).await;
        assert!(ask(&mut other).await.ends_with("handled"));
        let mut more = connect_from("127.0.0.2", address).await;
        assert!(ask(&mut more).await.ends_with("handled"));

        for place in [0, 1] {
            assert_eq!(read_to_close(&mut flood[place]).await, "", "{place}");
        }
        flood.push(other);
        for stream in &mut flood[2..] {
            assert!(ask(stream).await.ends_with("handled"));
        }
    }

    #[tokio::test]
    async fn who_closes_its_half_after_a_whole_request_is_answered_and_half_a_request_is_not() {
        let slow = async |body: String| {
            tokio::time::sleep(Duration::from_millis(50)).await;
            body
        };
        let router = Router::new().route("/", axum::routing::post(slow));
        let (address, _shutdown, _server) = start(router, QUICK).await;
        for (sent, answered) in [("whole", true), ("hal", false)] {
            let mut stream = TcpStream::connect(address).await.unwrap();
            let request = format!("POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 5\r\n\r\n{sent}");
            stream.write_all(request.as_bytes()).await.unwrap();
            stream.shutdown().await.unwrap();

            let answer = read_to_close(&mut stream).await;

            assert_eq!(answer.ends_with(sent), answered, "{answer}");
        }
    }

    #[tokio::test]
    async fn what_is_done_for_a_caller_who_broke_off_is_dropped() {
        let (entered, mut inside) = tokio::sync::mpsc::channel::<()>(1);
        let dropped = CancellationToken::new();
        let told = dropped.clone();
        let handler = async move || {
            let _guard = told.drop_guard();
            entered.send(()).await.unwrap();
            std::future::pending::<()>().await;
        };
        let (address, _shutdown, _server) =
            start(Router::new().route("/", get(handler)), QUICK).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let request = b"GET / HTTP/1.1\r\nHost: a\r\n\r\n";
        stream.write_all(request).await.unwrap();
        inside.recv().await.unwrap();

        stream.set_zero_linger().unwrap();
        drop(stream);

        let waiting = tokio::time::timeout(Duration::from_secs(5), dropped.cancelled()).await;
        assert!(waiting.is_ok());
    }

    #[tokio::test]
    async fn an_answer_to_a_request_whose_body_is_not_read_arrives() {
        let refuse = async || (http::StatusCode::FORBIDDEN, "refused");
        let router = Router::new().route("/", axum::routing::post(refuse));
        let (address, _shutdown, _server) = start(router, QUICK).await;
        let mut stream = TcpStream::connect(address).await.unwrap();
        let head = "POST / HTTP/1.1\r\nHost: a\r\nContent-Length: 1000000\r\n\r\n";
        stream.write_all(head.as_bytes()).await.unwrap();
        let _cut_off = stream.write_all(&vec![b'x'; 1_000_000]).await;

        assert!(read_to_close(&mut stream).await.ends_with("refused"));
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
