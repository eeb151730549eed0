use super::*;

/// Five events of two clients, and the id of the endpoint that gets three of them.
async fn filled() -> (World, String) {
    let world = World::new().await;
    let endpoint = world.endpoint("acme", json!({})).await;
    world.endpoint("other", json!({})).await;
    for (client, key) in [
        ("acme", "a-1"),
        ("other", "o-1"),
        ("acme", "a-2"),
        ("nobody", "n-1"),
        ("acme", "a-3"),
    ] {
        world.event(client, json!({"idempotency_key": key})).await;
    }
    let list = world.get("/webhooks/deliveries?idempotency_key=a-2").await;
    let id = text(&list.told(200)["deliveries"][0]["delivery_id"]);
    let cancel = format!("/webhooks/deliveries/{id}/cancel");
    world.bare(Method::POST, &cancel).await.told(202);
    (world, endpoint)
}

async fn keys(world: &World, noun: &str, query: &str) -> Vec<String> {
    let list = world
        .get(&format!("/webhooks/{noun}?{query}"))
        .await
        .told(200);
    assert_eq!(list["next_cursor"], Value::Null, "{noun} {query}");
    column(&list[noun], "idempotency_key")
}

#[tokio::test]
async fn a_list_has_the_rows_that_were_asked_for_newest_first() {
    let (world, endpoint) = filled().await;
    let of_endpoint = format!("endpoint={endpoint}");
    for (noun, query, expected) in [
        ("events", "", &["a-3", "n-1", "a-2", "o-1", "a-1"][..]),
        ("events", "client=acme", &["a-3", "a-2", "a-1"]),
        ("events", "client=unknown", &[]),
        ("events", "idempotency_key=o-1", &["o-1"]),
        ("events", "status=skipped", &["n-1"]),
        ("events", "status=exhausted", &["a-2"]),
        ("events", "client=acme&status=pending", &["a-3", "a-1"]),
        ("events", &of_endpoint, &["a-3", "a-2", "a-1"]),
        ("events", "code=503", &[]),
        ("deliveries", "", &["a-3", "a-2", "o-1", "a-1"]),
        ("deliveries", "client=other", &["o-1"]),
        ("deliveries", &of_endpoint, &["a-3", "a-2", "a-1"]),
        ("deliveries", "idempotency_key=a-1", &["a-1"]),
        ("deliveries", "status=exhausted", &["a-2"]),
        ("deliveries", "code=503", &[]),
    ] {
        assert_eq!(keys(&world, noun, query).await, expected, "{noun} {query}");
    }
}

#[tokio::test]
async fn a_time_is_counted_in_at_its_beginning_and_not_at_its_end() {
    let (world, _) = filled().await;
    for noun in ["events", "deliveries"] {
        let list = world.get(&format!("/webhooks/{noun}")).await.told(200);
        let made = column(&list[noun], "created_at");
        let second = made[made.len() - 2].parse::<jiff::Timestamp>().unwrap();
        let from = |at: &&String| at.parse::<jiff::Timestamp>().unwrap() >= second;
        let since = keys(&world, noun, &format!("since={second}")).await;
        let until = keys(&world, noun, &format!("until={second}")).await;
        assert_eq!(since.len(), made.iter().filter(from).count(), "{noun}");
        assert_eq!(since.len() + until.len(), made.len(), "{noun}");
    }
}

#[tokio::test]
async fn lists_go_on_where_the_cursor_says() {
    let (world, _) = filled().await;
    for (noun, field, total) in [
        ("events", "event_id", 5),
        ("deliveries", "delivery_id", 4),
        ("clients", "client_id", 4),
    ] {
        let whole = world.get(&format!("/webhooks/{noun}")).await.told(200);
        let whole = column(&whole[noun], field);
        assert_eq!(whole.len(), total, "{noun}");
        let mut gathered = Vec::new();
        let mut query = "limit=2".to_owned();
        loop {
            let page = world
                .get(&format!("/webhooks/{noun}?{query}"))
                .await
                .told(200);
            gathered.extend(column(&page[noun], field));
            let Some(cursor) = page["next_cursor"].as_str() else {
                break;
            };
            assert_eq!(page[noun].as_array().unwrap().len(), 2, "{noun}");
            query = format!("limit=2&cursor={cursor}");
        }
        assert_eq!(gathered, whole, "{noun}");
    }
}

#[tokio::test]
async fn a_list_shows_a_bound_caller_its_own_rows() {
    let (world, endpoint) = filled().await;
    let other = world.bound_to("other");
    for noun in ["events", "deliveries"] {
        assert_eq!(keys(&other, noun, "").await, ["o-1"], "{noun}");
        assert_eq!(keys(&other, noun, "client=other").await, ["o-1"], "{noun}");
        assert!(keys(&other, noun, "client=acme").await.is_empty(), "{noun}");
        let of_another = keys(&other, noun, "idempotency_key=a-1").await;
        assert!(of_another.is_empty(), "{noun}");
    }
    let of_endpoint = keys(&other, "deliveries", &format!("endpoint={endpoint}")).await;
    assert!(of_endpoint.is_empty());
    let clients = other.get("/webhooks/clients").await.told(200);
    assert_eq!(column(&clients["clients"], "client_id"), ["other"]);
    assert_eq!(clients["next_cursor"], Value::Null);
}
