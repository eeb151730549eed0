use std::io;
use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::Duration;

use axum::body::Body;
use axum::extract::Request;
use bytes::Bytes;
use futures_util::{future, stream};
use http::StatusCode;
use runtime::http_client;
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
        ("POST", "/webhooks/events", 256 * KIB),
        ("PATCH", "/webhooks/endpoints/ep_1", 256 * KIB),
        ("POST", "/webhooks/events/batch", 16 * KIB * KIB),
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

#[tokio::test]
async fn bodies_that_never_end_take_no_more_than_their_share_of_memory() {
    let fake = Fake::start().await;
    let router = router(all_at(&[&fake.url()]));
    let batch = || Request::post("/webhooks/events/batch");
    let being_read = Arc::new(AtomicUsize::new(0));
    let mut stalled = JoinSet::new();
    for _ in 0..16 {
        let (router, being_read) = (router.clone(), Arc::clone(&being_read));
        let body = stream::once(async move {
            being_read.fetch_add(1, Ordering::SeqCst);
            future::pending::<io::Result<Bytes>>().await
        });
        stalled.spawn(async move { ask(&router, batch(), Body::from_stream(body)).await });
    }
    until("sixteen batches are being read", async || {
        being_read.load(Ordering::SeqCst) == 16
    })
    .await;

    let refused = ask(&router, batch(), Body::from("{}")).await;
    assert_eq!(refused.headers()["retry-after"], "2");
    assert_problem(refused, 503, "unavailable").await;
    let bodiless = ask(&router, Request::get("/events"), Body::empty()).await;
    assert_eq!(bodiless.status(), StatusCode::OK);
    stalled.abort_all();
    until("room is back", async || {
        let response = ask(&router, batch(), Body::from("{}")).await;
        response.status() == StatusCode::OK
    })
    .await;
}
