use std::sync::Arc;

use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream};
use tokio::task::JoinHandle;

use super::phases::{Spent, watched};
use super::*;

const LONG: Duration = Duration::from_secs(10);

/// A server that does the same with every connection, and its address.
async fn server<F, D>(does: F) -> (u16, JoinHandle<()>)
where
    F: Fn(TcpStream) -> D + Send + 'static,
    D: Future<Output = ()> + Send + 'static,
{
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let port = listener.local_addr().unwrap().port();
    let serving = tokio::spawn(async move {
        while let Ok((stream, _)) = listener.accept().await {
            tokio::spawn(does(stream));
        }
    });
    (port, serving)
}

/// Takes what has come of a request.
async fn take(stream: &mut TcpStream) {
    let _read = stream.read(&mut [0; 4096]).await;
}

async fn closes(mut stream: TcpStream) {
    take(&mut stream).await;
}

async fn resets(mut stream: TcpStream) {
    take(&mut stream).await;
    stream.set_zero_linger().unwrap();
}

async fn breaks_off(mut stream: TcpStream) {
    take(&mut stream).await;
    let head = b"HTTP/1.1 200 OK\r\ncontent-le";
    let _written = stream.write_all(head).await;
}

async fn speaks_plainly(mut stream: TcpStream) {
    take(&mut stream).await;
    let answer = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 0\r\n\r\n";
    let _written = stream.write_all(answer).await;
    take(&mut stream).await;
}

async fn is_silent(mut stream: TcpStream) {
    let mut rest = Vec::new();
    let _read = stream.read_to_end(&mut rest).await;
}

async fn leads_elsewhere(mut stream: TcpStream) {
    take(&mut stream).await;
    let answer =
        b"HTTP/1.1 302 Found\r\nlocation: http://127.0.0.1:1/\r\ncontent-length: 0\r\n\r\n";
    let _written = stream.write_all(answer).await;
    take(&mut stream).await;
}

/// Answers every request of a connection.
async fn answers(mut stream: TcpStream) {
    let mut request = [0; 4096];
    while stream.read(&mut request).await.is_ok_and(|read| read > 0) {
        let answer = b"HTTP/1.1 204 No Content\r\n\r\n";
        if stream.write_all(answer).await.is_err() {
            return;
        }
    }
}

async fn closed_port() -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    listener.local_addr().unwrap().port()
}

fn clients(timeout: Duration) -> [(&'static str, ClientWithMiddleware); 2] {
    [
        ("hostile", hostile(Arc::new(|_, _| true))),
        ("single_try", single_try(timeout)),
    ]
}

#[tokio::test]
async fn a_failure_keeps_its_word_through_the_retries() {
    let (silent, _serving) = server(is_silent).await;
    for (port, timeout, code) in [
        (closed_port().await, LONG, "connection_refused"),
        (silent, Duration::from_millis(100), "timeout"),
    ] {
        let url = format!("http://127.0.0.1:{port}");
        let fault = internal(timeout).get(&url).send().await.unwrap_err();
        assert_eq!(failure_code(&fault), code, "{fault:?}");
    }
}

#[tokio::test]
async fn failures_are_told_apart() {
    let refused = closed_port().await;
    let (closing, _one) = server(closes).await;
    let (resetting, _two) = server(resets).await;
    let (breaking, _three) = server(breaks_off).await;
    let (plain, _four) = server(speaks_plainly).await;
    for (scheme, port, code) in [
        ("http", refused, "connection_refused"),
        ("https", refused, "connection_refused"),
        ("http", closing, "connection_reset"),
        ("https", closing, "connection_reset"),
        ("http", resetting, "connection_reset"),
        ("https", resetting, "connection_reset"),
        ("http", breaking, "connection_reset"),
        ("https", plain, "tls_error"),
    ] {
        for (name, client) in clients(LONG) {
            let url = format!("{scheme}://127.0.0.1:{port}/hook");
            let fault = client.post(&url).body("{}").send().await.unwrap_err();
            assert_eq!(failure_code(&fault), code, "{name} {url}: {fault:?}");
        }
    }
}

#[tokio::test]
async fn a_name_that_cannot_be_resolved_is_told_as_such() {
    // No resolver is asked about a label of 64 letters.
    let url = format!("http://{}.example/", "a".repeat(64));
    for (name, client) in clients(LONG) {
        let fault = client.get(&url).send().await.unwrap_err();
        assert_eq!(failure_code(&fault), "dns_error", "{name}: {fault:?}");
    }
}

#[test]
fn an_error_of_the_network_has_its_word() {
    for (kind, word) in [
        (ErrorKind::NetworkUnreachable, Some("network_unreachable")),
        (ErrorKind::HostUnreachable, Some("network_unreachable")),
        (ErrorKind::ConnectionAborted, Some("connection_reset")),
        (ErrorKind::TimedOut, Some("timeout")),
        (ErrorKind::PermissionDenied, None),
    ] {
        let wrapped = io::Error::other(io::Error::from(kind));
        assert_eq!(cause_code(&wrapped), word, "{kind}");
    }
}

#[tokio::test]
async fn a_redirect_is_an_answer() {
    let (port, _serving) = server(leads_elsewhere).await;
    for (name, client) in clients(LONG) {
        let url = format!("http://127.0.0.1:{port}/hook");
        let answer = client.post(&url).send().await.unwrap();
        assert_eq!(answer.status(), 302, "{name}");
    }
}

#[tokio::test]
async fn a_request_tells_what_it_spent_on_name_and_connection() {
    let (port, _serving) = server(answers).await;
    let client = hostile(Arc::new(|_, _| true));
    for (host, by_name) in [("localhost", true), ("127.0.0.1", false)] {
        let url = format!("http://{host}:{port}/hook");
        let (answer, first) = watched(client.post(&url).send()).await;
        drop(answer.unwrap().bytes().await);
        assert_eq!(first.dns.is_some(), by_name, "{host}");
        assert!(first.connect.is_some(), "{host}");
    }
}

#[tokio::test]
async fn a_request_over_a_kept_connection_spent_nothing() {
    let (port, _serving) = server(answers).await;
    let client = hostile(Arc::new(|_, _| true));
    let url = format!("http://127.0.0.1:{port}/hook");
    let mut kept = false;
    // The connection is given back by a task of its own, in its own time.
    for _ in 0..1_000 {
        let (answer, spent) = watched(client.post(&url).send()).await;
        drop(answer.unwrap().bytes().await);
        kept = spent == Spent::default();
        if kept {
            break;
        }
        tokio::task::yield_now().await;
    }
    assert!(kept);
}

#[tokio::test]
async fn a_request_that_failed_or_was_given_up_tells_what_it_spent() {
    let (silent, _serving) = server(is_silent).await;
    let client = hostile(Arc::new(|_, _| true));
    let url = format!("http://127.0.0.1:{}/", closed_port().await);
    let (sent, spent) = watched(client.get(&url).send()).await;
    assert!(sent.is_err() && spent.connect.is_some());

    // TLS never gets its answer.
    let url = format!("https://127.0.0.1:{silent}/");
    let wait = Duration::from_millis(100);
    let request = tokio::time::timeout(wait, client.get(&url).send());
    let (sent, spent) = watched(request).await;
    assert!(sent.is_err() && spent.connect.is_some());
}
