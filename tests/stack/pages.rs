//! A page is delivered, or somebody is told (R11): through the gateway, with processes.

use std::process::Stdio;

use http::Method;
use serde_json::{Value, json};
use system_tests::api::{self, Answer};
use system_tests::binaries;
use system_tests::client::Client;
use system_tests::eventually::{PATIENCE, eventually};
use system_tests::hub::{Hub, STRIPE_SECRET};
use system_tests::receiver::{Receiver, Receiving};
use system_tests::stage::{Stage as _, unique_id};
use tokio::process::Command;

const PAGERDUTY: &str = "/webhooks/endpoints/pagerduty";
const FAULTS: &str = "/destinations/pagerduty/faults";

/// Stripe's event of a payout that failed; answers its id.
async fn payout_fails(hub: &Hub) -> String {
    let id = format!("evt_{}", unique_id());
    let body = api::stripe_event(&id, "payout.failed");
    let answer = api::post_stripe(hub.gateway_url(), STRIPE_SECRET, body).await;
    assert_eq!(answer.unwrap().status, 200);
    id
}

async fn post(hub: &Hub, path: &str, body: &Value) -> Answer {
    let answer = api::post_json(&hub.url(path), body).await.unwrap();
    assert!(answer.status.is_success(), "{path}: {}", answer.text());
    answer
}

/// Waits until `/readyz` says so many are undelivered, and why; it is 200 when it does.
async fn until_undelivered(hub: &Hub, count: u64, why: Value) {
    let status = if count == 0 { "up" } else { "degraded" };
    let what = format!("{count} undelivered, {why}");
    eventually(&what, PATIENCE, async || {
        let answer = api::get(&hub.url("/readyz")).await.unwrap();
        let (ready, body) = (answer.status, answer.json());
        let delivery = &body["dependencies"]["delivery"];
        let pages = &delivery["dependencies"]["pages"];
        let as_said = pages["undelivered"] == count
            && pages["why"] == why
            && pages["status"] == status
            && (count == 0 || delivery["status"] == "degraded");
        if as_said {
            assert_eq!(ready, 200, "{body}");
        }
        as_said.then_some(()).ok_or_else(|| delivery.to_string())
    })
    .await
    .unwrap();
}

async fn until_delivered(hub: &Hub, event_id: &str) {
    let path = format!("/events/{event_id}");
    eventually("the page", PATIENCE, async || {
        let event = api::get(&hub.url(&path)).await.unwrap().json();
        let delivered = event["delivered_to"] == json!(["pagerduty"]);
        delivered.then_some(()).ok_or(event)
    })
    .await
    .unwrap();
}

/// Waits for a metric of delivery to have a value.
async fn until_metric(hub: &Hub, line: &str) {
    eventually(line, PATIENCE, async || {
        let metrics = api::get(&hub.url("/metrics/delivery")).await.unwrap();
        let found = metrics.text().lines().any(|told| told == line);
        found.then_some(()).ok_or_else(|| metrics.text())
    })
    .await
    .unwrap();
}

/// What the operator's command says.
async fn pages(hub: &Hub, arguments: &[&str]) -> String {
    let signalpost = binaries::folder().await.unwrap().join("signalpost");
    let gateway = hub.url("");
    let output = Command::new(signalpost)
        .arg("pages")
        .args(arguments)
        .args(["--gateway", &gateway])
        .env_clear()
        .current_dir(hub.folder())
        .stdin(Stdio::null())
        .output()
        .await
        .unwrap();
    let complaint = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{complaint}");
    String::from_utf8(output.stdout).unwrap()
}

/// A line's fields, from the service's log.
async fn line(hub: &Hub, parts: &[&str]) -> Value {
    let text = hub.wait_for_log("delivery", parts).await.unwrap();
    serde_json::from_str(&text).unwrap()
}

#[tokio::test]
async fn while_pagerduty_is_disabled_by_hand_pages_wait_and_readyz_and_the_log_say_so() {
    let hub = Hub::start().await.unwrap();
    until_undelivered(&hub, 0, Value::Null).await;
    until_metric(&hub, "pages_undelivered 0").await;

    post(&hub, &format!("{PAGERDUTY}/disable"), &json!({})).await;
    let event = payout_fails(&hub).await;

    until_undelivered(&hub, 1, json!("held")).await;
    until_metric(&hub, "pages_undelivered 1").await;
    line(
        &hub,
        &["\"warn\"", "\"pages are not delivered\"", "\"held\""],
    )
    .await;
    let listed = pages(&hub, &[]).await;
    assert!(listed.contains("waits: disabled"), "{listed}");
    assert!(listed.contains("pagerduty is disabled"), "{listed}");

    // A restart forgets neither.
    hub.kill("delivery").await.unwrap();
    hub.restart("delivery").await.unwrap();
    eventually("the line of the next start", PATIENCE, async || {
        let log = hub.log("delivery").await.unwrap();
        let told = log
            .iter()
            .filter(|line| line.contains("\"pages are not delivered\""));
        let told = told.count();
        (told == 2).then_some(()).ok_or(told)
    })
    .await
    .unwrap();
    until_undelivered(&hub, 1, json!("held")).await;

    post(&hub, &format!("{PAGERDUTY}/enable"), &json!({})).await;
    until_delivered(&hub, &event).await;
    until_undelivered(&hub, 0, Value::Null).await;
    assert_eq!(pages(&hub, &[]).await, "every page was delivered\n");
}

#[tokio::test]
async fn pages_that_were_refused_or_canceled_are_told_over_restarts_and_one_command_sends_them() {
    let hub = Hub::start_with(&[("PAGERDUTY_SCHEDULE_S", "0,1")])
        .await
        .unwrap();
    post(&hub, FAULTS, &json!({"status": 410})).await;
    let refused = payout_fails(&hub).await;
    let failed = line(&hub, &["\"page not delivered, trying again\"", &refused]).await;
    assert_eq!(failed["level"], "warn");
    assert_eq!(failed["error"], "gone");
    until_metric(&hub, "pages_failed_total{reason=\"gone\"} 1").await;
    until_metric(&hub, "pages_failed_total{reason=\"max_attempts\"} 1").await;
    // Held, so that it is open when it is canceled.
    post(&hub, &format!("{PAGERDUTY}/disable"), &json!({})).await;
    let canceled = payout_fails(&hub).await;
    let open = format!("/webhooks/deliveries?client=oncall&idempotency_key={canceled}");
    let delivery = eventually("its delivery", PATIENCE, async || {
        let found = api::get(&hub.url(&open)).await.unwrap().json();
        let id = found["deliveries"][0]["delivery_id"].as_str();
        id.map(str::to_owned).ok_or(found)
    })
    .await
    .unwrap();
    post(
        &hub,
        &format!("/webhooks/deliveries/{delivery}/cancel"),
        &json!({}),
    )
    .await;
    line(&hub, &["\"warn\"", "\"page canceled\"", &delivery]).await;
    post(&hub, &format!("{PAGERDUTY}/enable"), &json!({})).await;
    until_undelivered(&hub, 2, json!("refused, canceled")).await;
    let pagerduty = api::get(&hub.url(PAGERDUTY)).await.unwrap().json();
    assert_eq!(
        pagerduty["disabled"], false,
        "a 410 is a failure like any other"
    );

    hub.kill("delivery").await.unwrap();
    hub.restart("delivery").await.unwrap();
    until_undelivered(&hub, 2, json!("refused, canceled")).await;
    post(&hub, FAULTS, &json!({})).await;
    let told = pages(&hub, &["resend"]).await;

    assert!(told.starts_with("2 pages are sent again"), "{told}");
    until_delivered(&hub, &refused).await;
    until_delivered(&hub, &canceled).await;
    until_undelivered(&hub, 0, Value::Null).await;
}

#[tokio::test]
async fn nobody_changes_what_pagerduty_takes() {
    let hub = Hub::start().await.unwrap();
    let headers = [("content-type".to_owned(), "application/json".to_owned())];
    for body in [
        json!({"event_types": ["order.*"]}),
        json!({"event_types": null}),
    ] {
        let text = body.to_string().into_bytes();
        let url = hub.url(PAGERDUTY);
        let answer = api::call(Method::PATCH, &url, &headers, text)
            .await
            .unwrap();
        assert_eq!(
            (answer.status.as_u16(), &*answer.code()),
            (409, "endpoint_built_in"),
            "{body}"
        );
    }
    let event = payout_fails(&hub).await;
    until_delivered(&hub, &event).await;
}

/// The lines that the runbook rests on, each with what LOGGING.md promises.
#[tokio::test]
async fn whatever_disables_an_endpoint_is_one_warn_line_with_the_id_of_who_did_it() {
    let hub = Hub::start_with(&[("ENDPOINT_MAX_OPEN", "1")])
        .await
        .unwrap();
    let client = Client::of(&hub);
    let leaving = Receiving {
        fail_first: 1,
        fail_status: Some(410),
        ..Receiving::default()
    };
    let leaves = Receiver::start(&leaving).await.unwrap();
    let gone = client
        .register(leaves.url(), &json!({"max_in_flight": 1}))
        .await
        .unwrap();
    client.post(1).await.unwrap();
    let by_410 = line(&hub, &["\"endpoint disabled\"", &gone]).await;
    let attempt = line(&hub, &["\"attempt failed\"", "\"status_code\":410"]).await;

    // Its one delivery is open for an hour.
    let once = json!({"retry": {"schedule_s": [0, 3_600]}});
    let nobody = client
        .register("http://127.0.0.1:1024/", &once)
        .await
        .unwrap();
    client.post(1).await.unwrap();
    eventually("its delivery waits", PATIENCE, async || {
        let deliveries = client.deliveries(&nobody).await.unwrap();
        let waits = deliveries[0]["status"] == "failed";
        waits.then_some(()).ok_or(deliveries)
    })
    .await
    .unwrap();
    client.post(1).await.unwrap();
    let by_backlog = line(&hub, &["\"endpoint disabled\"", &nobody]).await;

    let other = client.register(leaves.url(), &json!({})).await.unwrap();
    let disable = format!("/webhooks/endpoints/{other}/disable");
    let id = unique_id();
    let headers = [
        ("content-type".to_owned(), "application/json".to_owned()),
        ("x-correlation-id".to_owned(), id.clone()),
    ];
    for _ in 0..2 {
        let url = hub.url(&disable);
        let answer = api::call(Method::POST, &url, &headers, b"{}".to_vec())
            .await
            .unwrap();
        assert_eq!(answer.status, 200);
    }
    let by_hand = line(&hub, &["\"endpoint disabled\"", &other]).await;

    for (line, reason) in [
        (&by_410, "gone"),
        (&by_backlog, "backlog"),
        (&by_hand, "manual"),
    ] {
        assert_eq!(line["level"], "warn", "{line}");
        assert_eq!(line["reason"], reason, "{line}");
        assert!(line["correlation_id"].is_string(), "{line}");
        assert!(line["client_id"].is_string(), "{line}");
    }
    assert_eq!(by_410["correlation_id"], attempt["correlation_id"]);
    assert_eq!(by_hand["correlation_id"], id.as_str());
    assert_eq!(attempt["level"], "warn");
    let log = hub.log("delivery").await.unwrap();
    let lines = log
        .iter()
        .filter(|line| line.contains("\"endpoint disabled\""));
    assert_eq!(lines.count(), 3, "one each");
}

#[tokio::test]
async fn lines_of_endpoints_breakers_and_jobs_have_the_id_of_what_they_came_from() {
    let hub = Hub::start().await.unwrap();
    let client = Client::of(&hub);
    let nobody = client
        .register("http://127.0.0.1:1024/", &json!({}))
        .await
        .unwrap();
    client.post(20).await.unwrap();
    let opened = line(&hub, &["\"breaker opened, deliveries are held\"", &nobody]).await;
    let attempt = line(&hub, &["\"attempt failed\"", "connection_refused"]).await;
    assert_eq!(opened["correlation_id"], attempt["correlation_id"]);

    let id = unique_id();
    let headers = [
        ("content-type".to_owned(), "application/json".to_owned()),
        ("x-correlation-id".to_owned(), id.clone()),
    ];
    let recover = hub.url(&format!("/webhooks/endpoints/{nobody}/recover"));
    let body = json!({"since": "2026-01-01T00:00:00Z", "dry_run": true}).to_string();
    let job = api::call(Method::POST, &recover, &headers, body.into_bytes())
        .await
        .unwrap();
    let job = job.json()["job_id"].as_str().unwrap().to_owned();
    let done = line(&hub, &["\"job done\"", &job]).await;
    assert_eq!(done["correlation_id"], id.as_str());

    let one = hub.url(&format!("/webhooks/endpoints/{nobody}"));
    let removed = api::call(Method::DELETE, &one, &headers[1..], Vec::new())
        .await
        .unwrap();
    assert_eq!(removed.status, 202, "{}", removed.text());
    for message in ["\"endpoint removed\"", "\"kind\":\"remove_endpoint\""] {
        let line = line(&hub, &[message, &id]).await;
        assert_eq!(line["correlation_id"], id.as_str());
    }
}

#[tokio::test]
async fn every_counter_of_delivery_stands_at_nought_for_each_value_that_is_known() {
    let hub = Hub::start().await.unwrap();
    let metrics = api::get(&hub.url("/metrics/delivery"))
        .await
        .unwrap()
        .text();
    for line in [
        "delivery_attempts_total{result=\"success\"} 0",
        "delivery_attempts_total{result=\"timeout\"} 0",
        "delivery_attempts_total{result=\"http_5xx\"} 0",
        "delivery_attempts_total{result=\"tls_error\"} 0",
        "delivery_attempts_total{result=\"blocked\"} 0",
        "delivery_exhausted_total{reason=\"max_attempts\"} 0",
        "delivery_exhausted_total{reason=\"expired\"} 0",
        "delivery_exhausted_total{reason=\"gone\"} 0",
        "delivery_exhausted_total{reason=\"poison\"} 0",
        "deliveries_skipped_total{reason=\"already_delivered\"} 0",
        "deliveries_skipped_total{reason=\"disabled\"} 0",
        "deliveries_skipped_total{reason=\"too_old\"} 0",
        "delivery_feed_restarts_total{reason=\"diverged\"} 0",
        "delivery_feed_restarts_total{reason=\"too_old\"} 0",
        "pages_failed_total{reason=\"connection_refused\"} 0",
        "pages_failed_total{reason=\"max_attempts\"} 0",
        "pages_failed_total{reason=\"canceled\"} 0",
        "pages_failed_total{reason=\"too_old\"} 0",
    ] {
        assert!(
            metrics.lines().any(|told| told == line),
            "{line} in {metrics}"
        );
    }
}
