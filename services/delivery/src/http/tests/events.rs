use super::*;

#[tokio::test]
async fn an_event_is_accepted_with_a_delivery_for_each_endpoint_that_wants_it() {
    let world = World::new().await;
    let all = world.endpoint("acme", json!({})).await;
    let some = world
        .endpoint("acme", json!({"event_types": ["order.*"]}))
        .await;
    world
        .endpoint("acme", json!({"event_types": ["invoice.paid"]}))
        .await;
    world.endpoint("other", json!({})).await;

    let told = r#"{"client_id":"acme","event_type":"order.created","ordering_key":"o-1",
        "occurred_at":"2026-01-01T02:00:00+02:00","payload": {"b":1.0,  "a":[]} }"#;
    let request = Request::post("/webhooks/events")
        .header("content-type", "application/json")
        .header(names::CORRELATION_ID, "trace-1");
    let accepted = world.send(request, told.into()).await.told(202);

    assert_eq!(accepted["status"], "pending");
    assert_eq!(accepted["duplicate"], false);
    let mut endpoints = column(&accepted["deliveries"], "endpoint_id");
    let mut expected = [all, some];
    endpoints.sort_unstable();
    expected.sort_unstable();
    assert_eq!(endpoints, expected);
    assert_eq!(column(&accepted["deliveries"], "status"), ["pending"; 2]);

    let id = text(&accepted["event_id"]);
    let path = format!("/webhooks/events/{id}");
    let event = world.get(&path).await.told(200);
    assert_eq!(event["event_id"], id);
    assert_eq!(event["status"], "pending");
    assert_eq!(event["counts"]["pending"], 2);
    assert_eq!(event["ordering_key"], "o-1");
    assert_eq!(event["occurred_at"], "2026-01-01T00:00:00Z");
    assert_eq!(event["correlation_id"], "trace-1");
    assert_eq!(event["source_event_id"], Value::Null);
    assert_eq!(event["payload"], json!({"b": 1.0, "a": []}));
    assert_eq!(
        column(&event["deliveries"], "correlation_id"),
        ["trace-1"; 2]
    );
    assert_eq!(column(&event["deliveries"], "waiting_for"), ["schedule"; 2]);
}

#[tokio::test]
async fn an_event_without_a_match_is_accepted_and_visible() {
    let world = World::new().await;
    let accepted = world.event("acme", json!({})).await;
    assert_eq!(accepted["status"], "skipped");
    assert_eq!(accepted["deliveries"], json!([]));

    let path = format!("/webhooks/events/{}", text(&accepted["event_id"]));
    let event = world.get(&path).await.told(200);
    assert_eq!(event["status"], "skipped");
    assert_eq!(event["deliveries"], json!([]));

    let id = world.endpoint("acme", json!({"disabled": true})).await;
    let accepted = world.event("acme", json!({})).await;
    assert_eq!(accepted["status"], "skipped");
    assert_eq!(column(&accepted["deliveries"], "endpoint_id"), [id]);
    let path = format!("/webhooks/events/{}", text(&accepted["event_id"]));
    let event = world.get(&path).await.told(200);
    assert_eq!(column(&event["deliveries"], "reason"), ["disabled"]);
}

#[tokio::test]
async fn the_same_event_again_is_answered_with_the_first() {
    let world = World::new().await;
    world.endpoint("acme", json!({})).await;
    let first = world.event("acme", json!({"idempotency_key": "k-1"})).await;
    let delivery = text(&first["deliveries"][0]["delivery_id"]);
    let cancel = format!("/webhooks/deliveries/{delivery}/cancel");
    world.bare(Method::POST, &cancel).await.told(202);

    // In the field, in the header, in both.
    let field = event("acme", json!({"idempotency_key": "k-1"}));
    let bare = event("acme", json!({}));
    for (body, header) in [(&field, None), (&bare, Some("k-1")), (&field, Some("k-1"))] {
        let again = post_keyed(&world, body, header).await.told(200);
        assert_eq!(again["event_id"], first["event_id"], "{body} {header:?}");
        assert_eq!(again["duplicate"], true);
        assert_eq!(again["status"], "exhausted");
        assert_eq!(again["deliveries"][0]["delivery_id"], delivery.as_str());
        assert_eq!(again["deliveries"][0]["status"], "exhausted");
    }

    for other in [
        json!({"payload": {"n":  2}}),
        json!({"event_type": "order.changed"}),
        json!({"ordering_key": "o"}),
        json!({"occurred_at": "2026-01-01T00:00:00Z"}),
    ] {
        let what = other.to_string();
        let reused = post_keyed(&world, &event("acme", other), Some("k-1")).await;
        reused.refused(409, "idempotency_key_reused", &what);
    }

    let differ = post_keyed(&world, &field, Some("k-2")).await;
    differ.refused(400, "invalid_payload", "header and field differ");
    let others = post_keyed(&world, &event("other", json!({})), Some("k-1")).await;
    assert_eq!(others.told(202)["duplicate"], false);
}

async fn post_keyed(world: &World, body: &Value, key: Option<&str>) -> Answer {
    let mut request = Request::post("/webhooks/events").header("content-type", "application/json");
    if let Some(key) = key {
        request = request.header("Idempotency-Key", key);
    }
    world.send(request, body.to_string().into()).await
}

#[tokio::test]
async fn a_batch_has_a_result_for_each_and_a_bad_one_fails_alone() {
    let world = World::new().await;
    world.endpoint("acme", json!({})).await;
    world.event("acme", json!({"idempotency_key": "old"})).await;

    let mut long = event("acme", json!({}));
    long["payload"] = json!("x".repeat(256 * 1024));
    let batch = json!({"events": [
        event("acme", json!({"idempotency_key": "new"})),
        event("acme", json!({"event_type": ""})),
        event("acme", json!({"idempotency_key": "old"})),
        event("acme", json!({"idempotency_key": "old", "payload": 2})),
        "no event",
        ["acme", "order.created", 1],
        long,
        event("other", json!({})),
    ]});
    let answer = world
        .post("/webhooks/events/batch", batch.clone())
        .await
        .told(200);

    let results = answer["results"].as_array().unwrap();
    let found: Vec<_> = results
        .iter()
        .map(|result| (result["status"].as_u64().unwrap(), result["code"].as_str()))
        .collect();
    assert_eq!(
        found,
        [
            (202, None),
            (400, Some("invalid_payload")),
            (200, None),
            (409, Some("idempotency_key_reused")),
            (400, Some("invalid_payload")),
            (400, Some("invalid_payload")),
            (413, Some("too_large")),
            (202, None),
        ]
    );
    assert_eq!(
        results[0]["event"]["deliveries"].as_array().unwrap().len(),
        1
    );
    assert_eq!(results[2]["event"]["duplicate"], true);
    assert!(results[1].get("event").is_none());
    assert!(text(&results[1]["detail"]).contains("event_type"));

    let bound = world.bound_to("acme");
    let answer = bound.post("/webhooks/events/batch", batch).await.told(200);
    assert_eq!(answer["results"][7]["status"], 404);
    assert_eq!(answer["results"][0]["status"], 200);
}

#[tokio::test]
async fn a_batch_keeps_its_order_and_has_an_end() {
    let world = World::new().await;
    let batch = |count: usize| {
        let numbered = |n: usize| event("acme", json!({"idempotency_key": format!("k-{n}")}));
        json!({"events": (0..count).map(numbered).collect::<Vec<_>>()})
    };
    let path = "/webhooks/events/batch";
    let answer = world.post(path, batch(1_000)).await.told(200);
    let results = answer["results"].as_array().unwrap();
    let accepted: Vec<_> = results
        .iter()
        .rev()
        .map(|result| text(&result["event"]["event_id"]))
        .collect();
    assert_eq!(accepted.len(), 1_000);
    let list = world.get("/webhooks/events?limit=500").await.told(200);
    assert_eq!(column(&list["events"], "event_id"), accepted[..500]);

    let more = world.post(path, batch(1_001)).await;
    more.refused(400, "invalid_payload", "1001 events");
    let none = world.post(path, batch(0)).await.told(200);
    assert_eq!(none, json!({"results": []}));
    let keyed = Request::post(path)
        .header("content-type", "application/json")
        .header("Idempotency-Key", "k");
    let keyed = world.send(keyed, batch(1).to_string().into()).await;
    keyed.refused(400, "invalid_request", "a key for all");
}

#[tokio::test]
async fn a_delivery_is_retried_and_canceled_by_hand() {
    let world = World::new().await;
    let one = format!("/webhooks/deliveries/{}", world.delivery("acme").await);
    let fresh = world.get(&one).await.told(200);
    assert_eq!(fresh["status"], "pending");
    assert_eq!(fresh["waiting_for"], "schedule");
    assert_eq!(fresh["attempts"], json!([]));
    assert_eq!(fresh["attempts_started"], 0);
    assert_ne!(fresh["next_attempt_at"], Value::Null);

    let canceled = world
        .bare(Method::POST, &format!("{one}/cancel"))
        .await
        .told(202);
    assert_eq!(canceled["status"], "exhausted");
    assert_eq!(canceled["reason"], "canceled");
    assert_ne!(canceled["ended_at"], Value::Null);
    let again = world.bare(Method::POST, &format!("{one}/cancel")).await;
    again.refused(409, "conflict", "it has ended");

    let retried = world
        .bare(Method::POST, &format!("{one}/retry"))
        .await
        .told(202);
    assert_eq!(retried["delivery_id"], fresh["delivery_id"]);
    assert_eq!(retried["status"], "pending");
    assert_eq!(retried["reason"], Value::Null);
    assert_eq!(retried["generation"], 1);
    assert_eq!(retried["ended_at"], Value::Null);
}

#[tokio::test]
async fn with_as_many_open_as_may_be_every_client_is_answered_503_until_one_has_ended() {
    let world = World::with(Config {
        delivery_max_open: 2,
        ..Config::default()
    })
    .await;
    world.endpoint("acme", json!({})).await;
    world.endpoint("other", json!({})).await;
    let first = world.event("acme", json!({})).await;
    world.event("acme", json!({})).await;

    for client in ["acme", "other"] {
        let full = world
            .post("/webhooks/events", event(client, json!({})))
            .await;
        assert_eq!(full.headers["retry-after"], "2", "{client}");
        assert_eq!(full.body["detail"], "too many deliveries are open");
        full.refused(503, "unavailable", client);
    }
    let batch = json!({"events": [event("other", json!({}))]});
    let answer = world.post("/webhooks/events/batch", batch).await.told(200);
    let result = &answer["results"][0];
    assert_eq!(result["status"], 503);
    assert_eq!(result["code"], "unavailable");
    assert_eq!(result["retry_after_s"], 2);

    let delivery = text(&first["deliveries"][0]["delivery_id"]);
    let cancel = format!("/webhooks/deliveries/{delivery}/cancel");
    world.bare(Method::POST, &cancel).await.told(202);
    world.event("other", json!({})).await;
}
