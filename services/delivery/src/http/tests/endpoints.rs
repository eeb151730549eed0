use super::*;

#[tokio::test]
async fn an_endpoint_is_registered_shown_changed_switched_rotated_and_removed() {
    let world = World::new().await;
    let told = json!({
        "url": URL, "event_types": ["order.*"], "description": "shop", "timeout_ms": 5_000,
        "headers": {"x-key": "a"}, "rate_limit_per_s": 7, "ordering": "strict",
    });
    let path = "/webhooks/clients/acme/endpoints";
    let made = world.post(path, told).await.told(201);
    let id = text(&made["endpoint_id"]);
    let one = format!("/webhooks/endpoints/{id}");

    let mut shown = made.clone();
    assert!(shown.as_object_mut().unwrap().remove("secret").is_some());
    assert_eq!(world.get(&one).await.told(200), shown);
    let list = world.get(path).await.told(200);
    assert_eq!(list, json!({"endpoints": [shown], "next_cursor": null}));
    assert_eq!(shown["client_id"], "acme");
    assert_eq!(shown["url"], URL);
    assert_eq!(shown["headers"], json!(["x-key"]));
    assert_eq!(shown["retry"]["schedule_s"].as_array().unwrap().len(), 8);
    assert_eq!(shown["max_in_flight"], 64);
    assert_eq!(shown["on_exhausted"], "block");
    assert_eq!(shown["open_deliveries"], 0);
    assert_eq!(shown["breaker"], "closed");

    let change = json!({"description": null, "max_in_flight": 2});
    let changed = world.call(Method::PATCH, &one, change).await.told(200);
    assert_eq!(changed["description"], Value::Null);
    assert_eq!(changed["max_in_flight"], 2);
    assert_eq!(changed["rate_limit_per_s"], 7);

    let disabled = world.bare(Method::POST, &format!("{one}/disable")).await;
    assert_eq!(disabled.told(200)["disabled_reason"], "manual");
    let enabled = world.bare(Method::POST, &format!("{one}/enable")).await;
    assert_eq!(enabled.told(200)["disabled"], false);

    let rotated = world
        .bare(Method::POST, &format!("{one}/secret/rotate"))
        .await;
    let rotated = rotated.told(200);
    assert!(text(&rotated["secret"]).starts_with("whsec_"));
    assert_ne!(rotated["secret"], made["secret"]);

    let job = world.bare(Method::DELETE, &one).await.told(202);
    assert_eq!(job["kind"], "remove_endpoint");
    assert_eq!(job["endpoint_id"], id);
    world.get(&one).await.refused(404, "not_found", "removed");
    let list = world.get(path).await.told(200);
    assert_eq!(list["endpoints"], json!([]));
}

#[tokio::test]
async fn endpoints_are_listed_newest_first() {
    let world = World::new().await;
    let first = world.endpoint("acme", json!({})).await;
    let second = world.endpoint("acme", json!({})).await;
    world.endpoint("other", json!({})).await;

    let list = world
        .get("/webhooks/clients/acme/endpoints")
        .await
        .told(200);

    assert_eq!(column(&list["endpoints"], "endpoint_id"), [second, first]);
}

#[tokio::test]
async fn a_secret_is_told_once_and_never_again() {
    let world = World::new().await;
    let given = "whsec_YWJjZGVmZ2hpamFiY2RlZmdoaWphYmNk";
    let told = json!({"url": URL, "secret": SECRET, "headers": {"authorization": "canary"}});
    let clients = "/webhooks/clients/acme/endpoints";
    let made = world.post(clients, told).await.told(201);
    assert_eq!(made["secret"], SECRET);
    let one = format!("/webhooks/endpoints/{}", text(&made["endpoint_id"]));
    let rotate = format!("{one}/secret/rotate");
    let rotated = world.post(&rotate, json!({"secret": given})).await;
    assert_eq!(rotated.told(200)["secret"], given);

    let patch = |body| world.call(Method::PATCH, &one, body);
    for (what, answer) in [
        ("one", world.get(&one).await),
        ("list", world.get(clients).await),
        ("clients", world.get("/webhooks/clients").await),
        ("change", patch(json!({"description": "d"})).await),
        (
            "enable",
            world.bare(Method::POST, &format!("{one}/enable")).await,
        ),
        (
            "test",
            world.bare(Method::POST, &format!("{one}/test")).await,
        ),
        ("unknown field", patch(json!({"secret": SECRET})).await),
        ("wrong place", patch(json!({"headers": "canary"})).await),
        (
            "unsendable",
            patch(json!({"headers": {"x": "canary\n"}})).await,
        ),
        (
            "bad secret",
            world.post(&rotate, json!({"secret": "canary"})).await,
        ),
        ("remove", world.bare(Method::DELETE, &one).await),
    ] {
        let shown = answer.body.to_string();
        for secret in [SECRET, given, "canary"] {
            assert!(!shown.contains(secret), "{what}: {shown}");
        }
        assert!(answer.body.get("secret").is_none(), "{what}");
    }
}

#[tokio::test]
async fn what_is_asked_of_an_endpoint_is_checked() {
    let world = World::new().await;
    let one = format!(
        "/webhooks/endpoints/{}",
        world.endpoint("acme", json!({})).await
    );
    for (told, status, code) in [
        (json!({"url": "nowhere"}), 422, "invalid_url"),
        (
            json!({"url": "https://10.0.0.1/"}),
            422,
            "endpoint_url_forbidden",
        ),
        (
            json!({"url": "http://1.1.1.1/"}),
            422,
            "endpoint_url_forbidden",
        ),
        (json!({"event_types": []}), 400, "invalid_payload"),
        (json!({"event_types": ["*"]}), 422, "invalid_endpoint"),
        (json!({"timeout_ms": 99}), 422, "invalid_endpoint"),
        (json!({"timeout_ms": "long"}), 400, "invalid_payload"),
        (json!({"headers": {"host": "x"}}), 422, "invalid_endpoint"),
        (json!({"retry": {"base_s": 1}}), 422, "invalid_endpoint"),
        (json!({"retry": {"wait_s": 1}}), 400, "invalid_payload"),
        (json!({"ordering": "some"}), 400, "invalid_payload"),
        (json!({"colour": "red"}), 400, "invalid_payload"),
    ] {
        let mut new = json!({"url": URL});
        new.as_object_mut()
            .unwrap()
            .extend(told.as_object().unwrap().clone());
        let what = told.to_string();
        let made = world.post("/webhooks/clients/acme/endpoints", new).await;
        made.refused(status, code, &what);
        let changed = world.call(Method::PATCH, &one, told).await;
        changed.refused(status, code, &what);
    }
    let strict = world
        .call(Method::PATCH, &one, json!({"ordering": "strict"}))
        .await;
    strict.refused(422, "invalid_endpoint", "ordering");
    let rotate = format!("{one}/secret/rotate");
    let overlap = world.post(&rotate, json!({"overlap_s": 604_801})).await;
    overlap.refused(422, "invalid_endpoint", "overlap_s");
}

#[tokio::test]
async fn a_change_that_would_change_nothing_it_names_is_refused() {
    let world = World::new().await;
    let one = format!(
        "/webhooks/endpoints/{}",
        world.endpoint("acme", json!({})).await
    );
    let before = world.get(&one).await.told(200);
    for (told, status, code, word) in [
        (json!({"url": null}), 422, "invalid_endpoint", "url"),
        (
            json!({"disabled": null}),
            422,
            "invalid_endpoint",
            "disabled",
        ),
        (
            json!({"max_in_flight": 2, "disabled": null}),
            422,
            "invalid_endpoint",
            "disabled",
        ),
        (json!({"secret": null}), 400, "invalid_payload", "secret"),
        (
            json!({"client_id": "other"}),
            400,
            "invalid_payload",
            "client_id",
        ),
        (
            json!({"endpoint_id": "ep_1"}),
            400,
            "invalid_payload",
            "endpoint_id",
        ),
        (
            json!({"breaker": "closed"}),
            400,
            "invalid_payload",
            "breaker",
        ),
        (
            json!({"retry": {"schedule_s": [1.5]}}),
            400,
            "invalid_payload",
            "1.5",
        ),
        (
            json!({"timeout_ms": 200.5}),
            400,
            "invalid_payload",
            "200.5",
        ),
    ] {
        let what = told.to_string();
        let answer = world.call(Method::PATCH, &one, told).await;
        let detail = answer.body["detail"].as_str().unwrap().to_owned();
        answer.refused(status, code, &what);
        assert!(detail.contains(word), "{what}: {detail}");
    }
    assert_eq!(world.get(&one).await.told(200), before);
    let new = json!({"url": null});
    let made = world.post("/webhooks/clients/acme/endpoints", new).await;
    made.refused(400, "invalid_payload", "a new one without a url");
}

#[tokio::test]
async fn a_sixth_older_secret_is_refused_until_they_are_ended() {
    let world = World::new().await;
    let id = world.endpoint("acme", json!({})).await;
    let rotate = format!("/webhooks/endpoints/{id}/secret/rotate");
    for _ in 0..5 {
        world.post(&rotate, json!({})).await.told(200);
    }

    let sixth = world.post(&rotate, json!({})).await;

    sixth.refused(409, "too_many_secrets", "the sixth");
    world.post(&rotate, json!({"overlap_s": 0})).await.told(200);
    world.post(&rotate, json!({})).await.told(200);
}

#[tokio::test]
async fn the_built_in_endpoint_is_the_operators() {
    let world = World::new().await;
    let one = "/webhooks/endpoints/pagerduty";
    let shown = world.get(one).await.told(200);
    assert_eq!(shown["client_id"], "oncall");

    for told in [
        json!({"url": URL}),
        json!({"timeout_ms": 1_000}),
        json!({"retry": null}),
        json!({"event_types": ["order.*"]}),
        json!({"event_types": null, "description": "mine"}),
    ] {
        let what = told.to_string();
        let changed = world.call(Method::PATCH, one, told).await;
        changed.refused(409, "endpoint_built_in", &what);
    }
    assert_eq!(world.get(one).await.told(200), shown, "as it was");
    let removed = world.bare(Method::DELETE, one).await;
    removed.refused(409, "endpoint_built_in", "removed");
    let tested = world.bare(Method::POST, &format!("{one}/test")).await;
    tested.refused(409, "endpoint_built_in", "a test");

    let disabled = world.bare(Method::POST, &format!("{one}/disable")).await;
    assert_eq!(disabled.told(200)["disabled"], true);
    let enabled = world.bare(Method::POST, &format!("{one}/enable")).await;
    assert_eq!(enabled.told(200)["disabled"], false);
}

#[tokio::test]
async fn a_test_goes_to_one_endpoint_alone_whatever_it_wants() {
    let world = World::new().await;
    let id = world
        .endpoint("acme", json!({"event_types": ["order.*"]}))
        .await;
    world.endpoint("acme", json!({})).await;
    let one = format!("/webhooks/endpoints/{id}");

    let accepted = world
        .bare(Method::POST, &format!("{one}/test"))
        .await
        .told(202);

    let endpoints = column(&accepted["deliveries"], "endpoint_id");
    assert_eq!(endpoints, [id.as_str()]);
    let path = format!("/webhooks/events/{}", text(&accepted["event_id"]));
    let event = world.get(&path).await.told(200);
    assert_eq!(event["event_type"], "signalpost.test");
    assert_eq!(event["payload"]["endpoint_id"], id);

    world
        .bare(Method::POST, &format!("{one}/disable"))
        .await
        .told(200);
    let refused = world.bare(Method::POST, &format!("{one}/test")).await;
    refused.refused(409, "conflict", "disabled");
}

#[tokio::test]
async fn a_recovery_is_a_stored_job_that_can_be_canceled() {
    let world = World::new().await;
    let id = world.endpoint("acme", json!({})).await;
    let path = format!("/webhooks/endpoints/{id}/recover");

    let told = json!({"since": "2026-01-01T00:00:00Z", "dry_run": true});
    let job = world.post(&path, told).await.told(202);

    assert_eq!(job["kind"], "recover");
    assert_eq!(job["client_id"], "acme");
    assert_eq!(job["endpoint_id"], id);
    assert_eq!(job["status"], "running");
    assert_eq!(job["dry_run"], true);
    assert_eq!(job["done"], 0);
    let one = format!("/webhooks/jobs/{}", text(&job["job_id"]));
    assert_eq!(world.get(&one).await.told(200), job);
    let canceled = world.bare(Method::DELETE, &one).await.told(200);
    assert_eq!(canceled["status"], "canceled");
    assert_eq!(world.get(&one).await.told(200)["status"], "canceled");
}

#[tokio::test]
async fn a_client_is_known_by_being_named_and_removed_with_all_it_has() {
    let world = World::new().await;
    let id = world.endpoint("acme", json!({})).await;
    world.event("quiet", json!({})).await;

    let list = world.get("/webhooks/clients").await.told(200);
    let clients = list["clients"].as_array().unwrap().iter();
    let known: Vec<_> = clients
        .map(|client| (text(&client["client_id"]), client["endpoints"].as_u64()))
        .collect();
    assert!(known.contains(&("acme".to_owned(), Some(1))), "{known:?}");
    assert!(known.contains(&("quiet".to_owned(), Some(0))), "{known:?}");

    let job = world
        .bare(Method::DELETE, "/webhooks/clients/acme")
        .await
        .told(202);
    assert_eq!(job["kind"], "remove_client");
    let one = world.get(&format!("/webhooks/endpoints/{id}")).await;
    one.refused(404, "not_found", "its endpoint");
    let list = world.get("/webhooks/clients").await.told(200);
    assert!(!column(&list["clients"], "client_id").contains(&"acme".to_owned()));
    let again = world.bare(Method::DELETE, "/webhooks/clients/acme").await;
    again.refused(404, "not_found", "a second time");
}

#[tokio::test]
async fn what_is_open_for_a_removed_endpoint_has_ended() {
    let world = World::new().await;
    let delivery = format!("/webhooks/deliveries/{}", world.delivery("acme").await);
    let before = world.get(&delivery).await.told(200);
    let endpoint = format!("/webhooks/endpoints/{}", text(&before["endpoint_id"]));
    world.bare(Method::DELETE, &endpoint).await.told(202);

    let after = world.get(&delivery).await.told(200);
    assert_eq!(after["status"], "exhausted");
    assert_eq!(after["reason"], "endpoint_deleted");
    assert_eq!(after["waiting_for"], Value::Null);
    assert_eq!(after["next_attempt_at"], Value::Null);
    let event = format!("/webhooks/events/{}", text(&before["event_id"]));
    let event = world.get(&event).await.told(200);
    assert_eq!(event["status"], "exhausted");
    assert_eq!(event["counts"]["exhausted"], 1);
}
