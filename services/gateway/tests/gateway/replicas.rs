use std::time::{Duration, Instant};

use axum::response::IntoResponse as _;
use futures_util::future::join_all;
use gateway::config::Config;
use http::StatusCode;
use runtime::config::List;
use runtime::http_client;
use tokio::net::TcpListener;

use crate::support::{Fake, Running, all_at, get, json, nobody, router, until};

#[tokio::test]
async fn a_replica_that_dies_is_left_out_without_an_error_and_is_back_when_it_answers() {
    let (one, two) = (Fake::start().await, Fake::start().await);
    let gateway = Running::start(all_at(&[&one.url(), &two.url()])).await;
    let client = http_client::single_try(Duration::from_secs(5));
    let ask = async || {
        let response = client.get(gateway.url("/events")).send().await.unwrap();
        assert_eq!(response.status(), StatusCode::OK);
    };
    until("both serve", async || {
        ask().await;
        !one.take_seen().is_empty() && !two.take_seen().is_empty()
    })
    .await;

    let address = two.address.to_string();
    drop(two);
    for _ in 0..50 {
        ask().await;
    }

    let back = Fake::answering(&address, |_| "{}".into_response()).await;
    until("the one that is back serves", async || {
        ask().await;
        !back.take_seen().is_empty()
    })
    .await;
}

#[tokio::test]
async fn readyz_tells_each_service_and_is_unready_only_without_one_that_is_needed() {
    let up = Fake::start().await;
    let down = List::of(&[&nobody().await]);

    let told = get(
        &router(Config {
            summarizer_url: down.clone(),
            ..all_at(&[&up.url()])
        }),
        "/readyz",
    )
    .await;
    let unready = get(
        &router(Config {
            delivery_url: down,
            ..all_at(&[&up.url()])
        }),
        "/readyz",
    )
    .await;

    assert_eq!(told.status(), StatusCode::OK);
    let told = json(told).await;
    assert_eq!(told["dependencies"]["summarizer"]["status"], "down");
    assert_eq!(
        told["dependencies"]["summarizer"]["reason"],
        "connection_refused"
    );
    assert_eq!(told["dependencies"]["event-store"]["status"], "up");
    assert_eq!(told["dependencies"].as_object().unwrap().len(), 6);
    assert_eq!(unready.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(json(unready).await["ready"], false);
}

#[tokio::test]
async fn a_service_that_is_itself_unready_counts_as_down() {
    let unready = Fake::answering("127.0.0.1:0", |seen| match seen.uri.path() {
        "/readyz" => StatusCode::SERVICE_UNAVAILABLE.into_response(),
        _ => StatusCode::OK.into_response(),
    })
    .await;

    let told = get(&router(all_at(&[&unready.url()])), "/readyz").await;

    assert_eq!(told.status(), StatusCode::SERVICE_UNAVAILABLE);
    assert_eq!(
        json(told).await["dependencies"]["event-store"]["reason"],
        "answered 503"
    );
}

#[tokio::test]
async fn who_waits_for_a_replica_that_has_stopped_is_answered_by_a_living_one_or_told_at_once() {
    let living = Fake::start().await;
    let stopped = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let stopped_url = format!("http://{}", stopped.local_addr().unwrap());
    let gateway = Running::start(all_at(&[&living.url(), &stopped_url])).await;
    let client = http_client::single_try(Duration::from_secs(12));
    let started = Instant::now();
    let path = |n: usize| gateway.url(&format!("/webhooks/deliveries?n={n}"));

    // At once, while it is not known yet who has stopped.
    let reads = (0..8).map(|n| client.get(path(n)).send());
    let posts = (0..8).map(|_| client.post(gateway.url("/webhooks/events")).body("").send());
    let (reads, posts) = tokio::join!(join_all(reads), join_all(posts));

    assert!(started.elapsed() < Duration::from_secs(10));
    for read in reads {
        assert_eq!(read.unwrap().status(), StatusCode::OK);
    }
    let statuses: Vec<_> = posts
        .into_iter()
        .map(|post| post.unwrap().status())
        .collect();
    let told = |status: StatusCode| statuses.iter().filter(|one| **one == status).count();
    assert!(told(StatusCode::GATEWAY_TIMEOUT) > 0, "{statuses:?}");
    assert_eq!(
        told(StatusCode::GATEWAY_TIMEOUT) + told(StatusCode::OK),
        statuses.len()
    );

    let started = Instant::now();
    for n in 0..20 {
        let answer = client.get(path(n)).send().await.unwrap();
        assert_eq!(answer.status(), StatusCode::OK);
    }
    assert!(started.elapsed() < Duration::from_secs(2));
}
