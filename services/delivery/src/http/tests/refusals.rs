use super::*;

const DAY: &str = r#"{"since":"2026-01-01T00:00:00Z"}"#;

#[tokio::test]
async fn another_clients_row_is_as_if_it_were_not_there() {
    let world = World::new().await;
    let delivery = world.delivery("acme").await;
    let shown = world
        .get(&format!("/webhooks/deliveries/{delivery}"))
        .await
        .told(200);
    let endpoint = text(&shown["endpoint_id"]);
    let event_id = text(&shown["event_id"]);
    let recover = format!("/webhooks/endpoints/{endpoint}/recover");
    let job = world.text(Method::POST, &recover, DAY).await.told(202);
    let job = text(&job["job_id"]);

    let one = format!("/webhooks/endpoints/{endpoint}");
    let delivery = format!("/webhooks/deliveries/{delivery}");
    let new = format!(r#"{{"url":"{URL}"}}"#);
    let posted = event("acme", json!({})).to_string();
    let calls = [
        (
            Method::GET,
            "/webhooks/clients/acme/endpoints".to_owned(),
            "",
        ),
        (
            Method::POST,
            "/webhooks/clients/acme/endpoints".to_owned(),
            &new,
        ),
        (Method::DELETE, "/webhooks/clients/acme".to_owned(), ""),
        (Method::GET, one.clone(), ""),
        (Method::PATCH, one.clone(), "{}"),
        (Method::POST, format!("{one}/disable"), ""),
        (Method::POST, format!("{one}/enable"), ""),
        (Method::POST, format!("{one}/secret/rotate"), ""),
        (Method::POST, format!("{one}/test"), ""),
        (Method::POST, recover, DAY),
        (Method::DELETE, one, ""),
        (Method::POST, "/webhooks/events".to_owned(), &posted),
        (Method::GET, format!("/webhooks/events/{event_id}"), ""),
        (Method::GET, delivery.clone(), ""),
        (Method::POST, format!("{delivery}/retry"), ""),
        (Method::POST, format!("{delivery}/cancel"), ""),
        (Method::GET, format!("/webhooks/jobs/{job}"), ""),
        (Method::DELETE, format!("/webhooks/jobs/{job}"), ""),
    ];
    let other = world.bound_to("other");
    for (method, path, body) in &calls {
        let answer = other.text(method.clone(), path, body).await;
        answer.refused(404, "not_found", &format!("{method} {path}"));
    }
    // Its owner may do all of it, and nothing of it has happened yet.
    let own = world.bound_to("acme");
    for (method, path, body) in &calls {
        if *method != Method::DELETE {
            let answer = own.text(method.clone(), path, body).await;
            assert!(answer.status.is_success(), "{method} {path}: {answer:?}");
        }
    }
}

#[tokio::test]
async fn what_cannot_be_asked_is_refused_with_a_code() {
    let world = World::new().await;
    let endpoint = world.endpoint("acme", json!({})).await;
    let recover = format!("/webhooks/endpoints/{endpoint}/recover");
    let rotate = format!("/webhooks/endpoints/{endpoint}/secret/rotate");
    let one = format!("/webhooks/endpoints/{endpoint}");
    let clients = "/webhooks/clients/acme/endpoints";
    let backwards = r#"{"since":"2026-01-02T00:00:00Z","until":"2026-01-01T00:00:00Z"}"#;
    let posts = [
        (Method::POST, clients, "", 400, "invalid_payload"),
        (Method::POST, clients, "{}", 400, "invalid_payload"),
        (Method::POST, clients, "[]", 400, "invalid_payload"),
        (
            Method::POST,
            "/webhooks/clients/a%20b/endpoints",
            r#"{"url":"u"}"#,
            400,
            "invalid_request",
        ),
        (Method::PATCH, &one, "", 400, "invalid_payload"),
        (Method::PATCH, &one, "{", 400, "invalid_payload"),
        (Method::POST, &rotate, "1", 400, "invalid_payload"),
        (
            Method::POST,
            &rotate,
            r#"{"secret":"x"}"#,
            422,
            "invalid_endpoint",
        ),
        (Method::POST, &recover, "", 400, "invalid_payload"),
        (Method::POST, &recover, "{}", 400, "invalid_payload"),
        (
            Method::POST,
            &recover,
            r#"{"since":"then"}"#,
            400,
            "invalid_payload",
        ),
        (Method::POST, &recover, backwards, 400, "invalid_payload"),
        (Method::POST, "/webhooks/events", "", 400, "invalid_payload"),
        (
            Method::POST,
            "/webhooks/events",
            "{}",
            400,
            "invalid_payload",
        ),
        (
            Method::POST,
            "/webhooks/events",
            r#"["acme","t",1]"#,
            400,
            "invalid_payload",
        ),
        (
            Method::POST,
            "/webhooks/events/batch",
            "{}",
            400,
            "invalid_payload",
        ),
        (
            Method::POST,
            "/webhooks/events/batch",
            r#"{"events":{}}"#,
            400,
            "invalid_payload",
        ),
        (
            Method::PUT,
            "/webhooks/events",
            "{}",
            405,
            "method_not_allowed",
        ),
        (
            Method::DELETE,
            "/webhooks/clients/unknown",
            "",
            404,
            "not_found",
        ),
        (
            Method::DELETE,
            "/webhooks/clients/oncall",
            "",
            409,
            "endpoint_built_in",
        ),
    ];
    for (method, path, body, status, code) in posts {
        let answer = world.text(method.clone(), path, body).await;
        answer.refused(status, code, &format!("{method} {path} {body}"));
    }
    for path in [
        clients,
        &recover,
        "/webhooks/events",
        "/webhooks/events/batch",
    ] {
        let answer = world.send(Request::post(path), "{}".into()).await;
        answer.refused(415, "unsupported_media", path);
    }
    let long = event("acme", json!({"payload": "x".repeat(256 * 1024 - 1)}));
    world
        .post("/webhooks/events", long)
        .await
        .refused(413, "too_large", "payload");
    let longer = event("acme", json!({"payload": "x".repeat(321 * 1024)}));
    world
        .post("/webhooks/events", longer)
        .await
        .refused(413, "too_large", "body");
}

#[tokio::test]
async fn what_is_the_hubs_own_is_reserved_whoever_asks_and_in_a_batch_that_item_alone() {
    let world = World::new().await;
    let other_type = |event_type: &str| event("acme", json!({"event_type": event_type}));
    let reserved = [
        event("oncall", json!({})),
        event("oncall", json!({"idempotency_key": "evt_1"})),
        other_type("signalpost.page"),
        other_type("signalpost.later"),
        other_type("delivery.exhausted"),
        other_type("endpoint.disabled"),
    ];

    for bound_to in [None, Some("acme"), Some("oncall")] {
        let world = World {
            bound_to,
            ..world.clone()
        };
        for body in &reserved {
            let answer = world.post("/webhooks/events", body.clone()).await;
            answer.refused(403, "reserved", &format!("{bound_to:?} {body}"));
        }
        let mut events = reserved.to_vec();
        events.insert(1, event("acme", json!({})));
        let batch = world.post("/webhooks/events/batch", json!({"events": events}));
        let results = batch.await.told(200)["results"].clone();
        for (index, result) in results.as_array().unwrap().iter().enumerate() {
            match index {
                1 => assert_ne!(result["code"], "reserved", "{bound_to:?} {result}"),
                _ => assert_eq!(result["code"], "reserved", "{bound_to:?} {result}"),
            }
        }
    }
    let to = json!({"url": URL});
    let registered = world.post("/webhooks/clients/oncall/endpoints", to).await;
    registered.refused(403, "reserved", "an endpoint beside pagerduty");
    let stored = world.get("/webhooks/events?client=oncall").await.told(200);
    assert_eq!(stored["events"], json!([]), "reading stays open");
    // Asking to be told is not saying it.
    let types = json!({"event_types": ["delivery.exhausted", "endpoint.disabled"]});
    world.endpoint("acme", types).await;
}

#[tokio::test]
async fn a_list_takes_the_parameters_it_knows_with_the_values_they_have() {
    let world = World::new().await;
    for (noun, query) in [
        ("events", "limit=0"),
        ("events", "limit=501"),
        ("events", "limit=x"),
        ("events", "cursor=-1"),
        ("events", "cursor=18446744073709551615"),
        ("events", "cursor=x"),
        ("events", "status=gone"),
        ("events", "since=1"),
        ("events", "until=then"),
        ("events", "client=a%20b"),
        ("events", "idempotency_key="),
        ("events", "endpoint=ep_1"),
        ("events", "code=-"),
        ("events", "limit=1&limit=2"),
        ("deliveries", "limit=0"),
        ("deliveries", "cursor=x"),
        ("deliveries", "status=gone"),
        ("deliveries", "endpoint=ep_1"),
        ("deliveries", "code=-"),
        ("deliveries", "event_id=evt_1"),
        ("clients", "limit=0"),
        ("clients", "cursor=a%20b"),
        ("clients", "q=a"),
        ("clients/acme/endpoints", "limit=1"),
    ] {
        let answer = world.get(&format!("/webhooks/{noun}?{query}")).await;
        answer.refused(400, "invalid_query", &format!("{noun} {query}"));
    }
}

#[tokio::test]
async fn what_does_not_exist_is_not_found() {
    let world = World::new().await;
    for path in [
        "/webhooks",
        "/webhooks/clients/a%20b/endpoints",
        "/webhooks/endpoints/ep_1",
        "/webhooks/endpoints/slack",
        "/webhooks/events/evt_1",
        "/webhooks/events/evt_00000000000000000000000000000000000",
        "/webhooks/deliveries/dlv_1",
        "/webhooks/deliveries/dlv_00000000000000000000000000000000000",
        "/webhooks/jobs/job_1",
        "/webhooks/jobs/job_00000000000000000000000000000000000",
    ] {
        world.get(path).await.refused(404, "not_found", path);
    }
}
