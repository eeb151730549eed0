use std::time::Duration;

use axum::response::IntoResponse as _;
use gateway::config::Config;
use http::StatusCode;
use runtime::config::List;
use runtime::http_client;

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
