use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use futures_util::{StreamExt as _, future, stream};
use http::{Method, StatusCode};
use runtime::http_client;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::TcpStream;
use tokio::task::JoinSet;

use crate::support::{Fake, Running, all_at, ask, assert_problem, router, until};

const KIB: usize = 1024;

#[tokio::test]
async fn a_body_is_taken_up_to_its_bound_and_not_beyond() {
    let fake = Fake::start().await;
    let router = router(all_at(&[&fake.url()]));

    for (method, path, bound) in [
        ("POST", "/ingest/stripe", 256 * KIB),
        ("POST", "/destinations/pagerduty", 256 * KIB),
        ("POST", "/ai/summarize", 64 * KIB),
        ("POST", "/webhooks/events", 320 * KIB),
        ("POST", "/webhooks/events/batch", 16 * 1024 * KIB),
        ("PATCH", "/webhooks/endpoints/ep_1", 256 * KIB),
        ("GET", "/events", 0),
        ("DELETE", "/destinations/pagerduty", 0),
    ] {
        let request = || Request::builder().method(method).uri(path);

        let taken = ask(&router, request(), Body::from(vec![b' '; bound])).await;
        assert_eq!(taken.status(), StatusCode::OK, "{path}");
        assert_eq!(fake.take_one().body.len(), bound, "{path}");

        let refused = ask(&router, request(), Body::from(vec![b' '; bound + 1])).await;
        assert_eq!(refused.headers()["connection"], "close");
        assert_problem(refused, 413, "too_large").await;
        assert!(fake.take_seen().is_empty(), "{path}");
    }
}

#[tokio::test]
async fn who_sends_too_much_reads_why() {
    let fake = Fake::start().await;
    let gateway = Running::start(all_at(&[&fake.url()])).await;
    let client = http_client::single_try(Duration::from_secs(5));

    for length in [257 * KIB, 1024 * KIB] {
        let response = client
            .post(gateway.url("/ingest/stripe"))
            .body(vec![b' '; length])
            .send()
            .await
            .unwrap();
        assert_eq!(response.status(), StatusCode::PAYLOAD_TOO_LARGE);
    }
    assert!(fake.take_seen().is_empty());
}

/// Bodies that are being read and never end.
struct Stalled {
    reading: JoinSet<()>,
    waiting: Arc<AtomicUsize>,
}

impl Stalled {
    fn new() -> Self {
        Self {
            reading: JoinSet::new(),
            waiting: Arc::new(AtomicUsize::new(0)),
        }
    }

    /// `count` requests that have sent `piece` and hold their connection.
    async fn send(&mut self, router: &Router, path: &'static str, piece: &Bytes, count: usize) {
        let all = self.reading.len() + count;
        for _ in 0..count {
            let (router, waiting) = (router.clone(), Arc::clone(&self.waiting));
            let came = stream::iter([Ok(piece.clone())]);
            let rest = stream::once(async move {
                waiting.fetch_add(1, Ordering::SeqCst);
                future::pending::<io::Result<Bytes>>().await
            });
            let body = Body::from_stream(came.chain(rest));
            self.reading.spawn(async move {
                ask(&router, Request::post(path), body).await;
            });
        }
        until("all are being read", async || {
            self.waiting.load(Ordering::SeqCst) == all
        })
        .await;
    }
}

#[tokio::test]
async fn bodies_in_flight_hold_no_more_than_their_room_and_leave_stripe_its_own() {
    let fake = Fake::start().await;
    let router = router(all_at(&[&fake.url()]));
    let (path, whole) = ("/webhooks/events", Bytes::from(vec![b' '; 256 * KIB]));
    let mut stalled = Stalled::new();
    stalled.send(&router, path, &whole, 512).await;

    let refused = ask(&router, Request::post(path), Body::from("{}")).await;
    assert_eq!(refused.headers()["retry-after"], "2");
    assert_problem(refused, 503, "unavailable").await;
    for request in [Request::get("/events"), Request::post("/ingest/stripe")] {
        let body = if request.method_ref() == Some(&Method::GET) {
            ""
        } else {
            "{}"
        };
        let response = ask(&router, request, Body::from(body)).await;
        assert_eq!(response.status(), StatusCode::OK);
    }
    stalled.reading.abort_all();
    until("room is back", async || {
        let response = ask(&router, Request::post(path), Body::from("{}")).await;
        response.status() == StatusCode::OK
    })
    .await;
}

#[tokio::test]
async fn batches_find_room_for_four_of_the_longest_and_who_finds_none_reads_why() {
    let fake = Fake::start().await;
    let gateway = Running::start(all_at(&[&fake.url()])).await;
    let client = http_client::single_try(Duration::from_secs(5));
    let send = async |path: &str, length: usize| {
        let request = client.post(gateway.url(path)).body(vec![b' '; length]);
        request.send().await.unwrap()
    };
    let (path, longest) = ("/webhooks/events/batch", 16 * 1024 * KIB);
    assert_eq!(send(path, longest).await.status(), StatusCode::OK);
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {longest}\r\n\r\n");
    let begin = async |length: usize| {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b' '; length]).await.unwrap();
        stream
    };
    let mut stalled = Vec::new();
    for _ in 0..4 {
        stalled.push(begin(longest - 1).await);
    }
    until("there is no room", async || {
        send(path, KIB).await.status() == StatusCode::SERVICE_UNAVAILABLE
    })
    .await;

    // Sends all that it has before it reads, as many clients do.
    let mut refused = begin(longest).await;
    let mut answer = [0; 4096];
    let length = refused.read(&mut answer).await.unwrap();
    let answer = String::from_utf8_lossy(&answer[..length]).into_owned();
    let single = send("/webhooks/events", KIB).await;

    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("retry-after: 2"), "{answer}");
    assert_eq!(single.status(), StatusCode::OK);
    drop(stalled);
    until("room is back", async || {
        send(path, longest).await.status() == StatusCode::OK
    })
    .await;
}

#[tokio::test]
async fn bodies_that_have_not_come_take_no_room() {
    let fake = Fake::start().await;
    let router = router(all_at(&[&fake.url()]));
    let mut stalled = Stalled::new();
    let nothing = Bytes::new();

    for path in ["/ingest/stripe", "/webhooks/events/batch"] {
        stalled.send(&router, path, &nothing, 1500).await;

        let response = ask(&router, Request::post(path), Body::from("{}")).await;
        assert_eq!(response.status(), StatusCode::OK, "{path}");
    }
}
