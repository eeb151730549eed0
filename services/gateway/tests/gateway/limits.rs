use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::Router;
use axum::body::Body;
use axum::extract::Request;
use axum::response::IntoResponse as _;
use bytes::Bytes;
use futures_util::{StreamExt as _, future, stream};
use http::StatusCode;
use runtime::clock::Clock;
use runtime::http_client;
use runtime::server::Caller;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpSocket, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;

use crate::support::{Fake, Running, all_at, ask, assert_problem, router, signature, until};

const KIB: usize = 1024;

#[tokio::test]
async fn a_body_is_taken_up_to_its_bound_and_not_beyond() {
    let fake = Fake::start().await;
    let router = router(all_at(&[&fake.url()]));

    for (method, path, bound) in [
        ("POST", "/ingest/stripe", 1024 * KIB),
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

    for length in [1025 * KIB, 1536 * KIB] {
        let response = client
            .post(gateway.url("/ingest/stripe"))
            .header("stripe-signature", signature())
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
    reading: JoinSet<StatusCode>,
    waiting: Arc<AtomicUsize>,
}

impl Stalled {
    fn new() -> Self {
        Self {
            reading: JoinSet::new(),
            waiting: Arc::new(AtomicUsize::new(0)),
        }
    }

    /// `count` requests from one address that have sent `piece` and hold their connection.
    async fn send(&mut self, router: &Router, path: &'static str, piece: &Bytes, count: usize) {
        let all = self.waiting.load(Ordering::SeqCst) + count;
        for _ in 0..count {
            let (router, waiting) = (router.clone(), Arc::clone(&self.waiting));
            let came = stream::iter([Ok(piece.clone())]);
            let rest = stream::once(async move {
                waiting.fetch_add(1, Ordering::SeqCst);
                future::pending::<io::Result<Bytes>>().await
            });
            let body = Body::from_stream(came.chain(rest));
            self.reading.spawn(async move {
                let request = from("192.0.2.1", Request::post(path));
                ask(&router, request, body).await.status()
            });
        }
        until("all are being read", async || {
            self.waiting.load(Ordering::SeqCst) == all
        })
        .await;
    }

    /// How many were told to come again.
    async fn made_way(&mut self) -> usize {
        let mut count = 0;
        while let Some(ended) = self.reading.try_join_next() {
            assert_eq!(ended.unwrap(), StatusCode::SERVICE_UNAVAILABLE);
            count += 1;
        }
        count
    }
}

fn from(address: &str, request: http::request::Builder) -> http::request::Builder {
    request.extension(Caller(address.parse().unwrap()))
}

#[tokio::test]
async fn slow_bodies_of_one_address_make_way_for_anothers() {
    let fake = Fake::start().await;
    let router = router(all_at(&[&fake.url()]));

    for path in ["/webhooks/events", "/ingest/stripe"] {
        let mut stalled = Stalled::new();
        let piece = Bytes::from(vec![b' '; 256 * KIB - 1]);
        stalled.send(&router, path, &piece, 512).await;
        let rest = Bytes::from(vec![b' '; 512]);
        stalled.send(&router, path, &rest, 1).await;

        for _ in 0..300 {
            let request = from("198.51.100.1", Request::post(path));
            let response = ask(&router, request, Body::from(vec![b' '; KIB])).await;
            assert_eq!(response.status(), StatusCode::OK, "{path}");
        }

        until("one has made way", async || stalled.made_way().await > 0).await;
        assert!(stalled.reading.len() > 500, "no more than need be");
    }
}

#[tokio::test]
async fn whoever_is_alone_fills_the_room_and_then_its_own_oldest_makes_way() {
    let fake = Fake::start().await;
    let router = router(all_at(&[&fake.url()]));
    let (path, whole) = ("/webhooks/events", Bytes::from(vec![b' '; 256 * KIB]));
    let mut stalled = Stalled::new();
    stalled.send(&router, path, &whole, 512).await;
    assert_eq!(stalled.made_way().await, 0);

    let request = from("192.0.2.1", Request::post(path));
    let response = ask(&router, request, Body::from("{}")).await;

    assert_eq!(response.status(), StatusCode::OK);
    until("one has made way", async || stalled.made_way().await == 1).await;
}

#[tokio::test]
async fn batches_find_room_for_four_of_the_longest_and_who_makes_way_reads_why() {
    let fake = Fake::start().await;
    let gateway = Running::start(all_at(&[&fake.url()])).await;
    let client = http_client::single_try(Duration::from_secs(5));
    let send = async |path: &str, length: usize| {
        let request = client.post(gateway.url(path)).body(vec![b' '; length]);
        request.send().await.unwrap()
    };
    let (path, longest) = ("/webhooks/events/batch", 16 * 1024 * KIB);
    let head =
        format!("POST {path} HTTP/1.1\r\nhost: localhost\r\ncontent-length: {longest}\r\n\r\n");
    let mut stalled = Vec::new();
    for _ in 0..4 {
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();
        stream.write_all(&vec![b' '; longest - 1]).await.unwrap();
        stalled.push(stream);
    }

    assert_eq!(send(path, longest).await.status(), StatusCode::OK);

    let mut refused = Box::pin(async {
        let reading = stalled.iter_mut().map(|stream| {
            Box::pin(async move {
                let mut answer = [0; 4096];
                let length = stream.read(&mut answer).await.unwrap();
                String::from_utf8_lossy(&answer[..length]).into_owned()
            })
        });
        future::select_all(reading).await.0
    });
    let reading = tokio::time::timeout(Duration::from_secs(5), &mut refused).await;
    let answer = reading.expect("one of the four made way");
    assert!(answer.starts_with("HTTP/1.1 503 "), "{answer}");
    assert!(answer.contains("retry-after: 2"), "{answer}");
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

#[tokio::test]
async fn what_the_header_of_a_stripe_post_shows_wrong_is_refused_before_its_body() {
    let fake = Fake::start().await;
    let gateway = Running::start(all_at(&[&fake.url()])).await;
    let now = Clock::system().now().as_second();
    let tag = "a".repeat(64);
    let lines = [
        String::new(),
        "stripe-signature: \r\n".to_owned(),
        format!("stripe-signature: t={now}\r\n"),
        format!("stripe-signature: v1={tag}\r\n"),
        format!("stripe-signature: t={},v1={tag}\r\n", now - 301),
        format!("stripe-signature: t={},v1={tag}\r\n", now + 400),
        format!("stripe-signature: t={now},v1={}\r\n", &tag[1..]),
        format!("stripe-signature: t={now},v1={tag}\r\n").repeat(2),
    ];
    for line in &lines {
        let head = format!(
            "POST /ingest/stripe HTTP/1.1\r\nhost: h\r\n{line}content-length: 1000\r\n\r\nhalf"
        );
        let mut stream = TcpStream::connect(gateway.address).await.unwrap();
        stream.write_all(head.as_bytes()).await.unwrap();

        let mut answer = String::new();
        let reading = stream.read_to_string(&mut answer);
        let read = tokio::time::timeout(Duration::from_secs(5), reading).await;

        read.expect("an answer before the body").unwrap();
        assert!(answer.starts_with("HTTP/1.1 400 "), "{line}: {answer}");
        assert!(answer.contains("invalid_signature"), "{line}: {answer}");
    }
    assert!(fake.take_seen().is_empty());
    let client = http_client::single_try(Duration::from_secs(5));
    let metrics = client.get(gateway.url("/metrics")).send().await.unwrap();
    let metrics = metrics.text().await.unwrap();
    for (reason, count) in [
        ("missing", 1),
        ("out_of_tolerance", 2),
        ("several_headers", 1),
        ("mismatch", 0),
    ] {
        let series = format!("stripe_signature_refusals_total{{reason=\"{reason}\"}} {count}\n");
        assert!(metrics.contains(&series), "{series} {metrics}");
    }
}

#[tokio::test]
async fn who_does_not_read_its_answers_keeps_them_from_nobody_else() {
    let length = 8 * 1024 * KIB;
    let page = Bytes::from(vec![b'x'; length]);
    // As event-store does: a page takes room until its last byte is handed over.
    let room = Arc::new(Semaphore::new(16));
    let fake = Fake::answering("127.0.0.1:0", move |_| {
        let Ok(held) = Arc::clone(&room).try_acquire_owned() else {
            return StatusCode::SERVICE_UNAVAILABLE.into_response();
        };
        let chunks = stream::unfold((page.clone(), held), async |(mut rest, held)| {
            let chunk = rest.split_to(rest.len().min(64 * KIB));
            (!chunk.is_empty()).then_some((Ok::<_, io::Error>(chunk), (rest, held)))
        });
        let headers = [("content-length", length.to_string())];
        (headers, Body::from_stream(chunks)).into_response()
    })
    .await;
    let gateway = Running::start(all_at(&[&fake.url()])).await;
    let mut silent = Vec::new();
    for _ in 0..20 {
        let socket = TcpSocket::new_v4().unwrap();
        socket.set_recv_buffer_size(4096).unwrap();
        socket.bind("127.0.0.2:0".parse().unwrap()).unwrap();
        let mut stream = socket.connect(gateway.address).await.unwrap();
        let request = b"GET /events HTTP/1.1\r\nhost: localhost\r\n\r\n";
        stream.write_all(request).await.unwrap();
        silent.push(stream);
        until("it was asked for", async || fake.seen() == silent.len()).await;
    }

    let client = http_client::single_try(Duration::from_secs(5));
    until("another is answered", async || {
        let response = client.get(gateway.url("/events")).send().await.unwrap();
        response.status() == StatusCode::OK
    })
    .await;
    for _ in 0..10 {
        let response = client.get(gateway.url("/events")).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
        assert_eq!(response.bytes().await.unwrap().len(), length);
    }
}
