//! Taking a client's events in.

use super::*;

pub(super) async fn an_accepted_event_has_its_deliveries_at_the_positions_that_follow(
    storage: &dyn Storage,
) {
    let first = register(storage, "acme").await.position;
    let second = register(storage, "acme").await.position;
    let plan = seen(storage, "acme").await;
    let accept = accept_of("acme", plan, "order.created", &[first, second]);

    let accepted = storage.accept(accept.clone()).await;
    let Ok(Accepted::New(placed)) = accepted else {
        panic!("{accepted:?}");
    };
    let event = placed.event;
    let next = take(storage, accept_of("acme", plan, "order.created", &[])).await;

    assert_eq!(placed.client, plan.unwrap().client);
    assert_eq!(placed.deliveries, [Some(event + 1), Some(event + 2)]);
    for (at, new) in (event + 1..).zip(&accept.deliveries) {
        let found = stored(storage, at).await;
        let carried = accept.event.carried.clone();
        assert_eq!(new.clone().stored(at, &placed, carried), found);
    }
    assert_eq!(next, event + 3);
}

pub(super) async fn an_intake_may_carry_the_first_count_of_the_owner(storage: &dyn Storage) {
    let epoch = own(storage).await;
    let endpoint = register(storage, "acme").await.position;
    let plan = seen(storage, "acme").await;
    let mut accept = accept_of("acme", plan, "order.created", &[endpoint]);
    let life = &mut accept.deliveries[0].life;
    life.started = 1;
    life.open = Some(OpenAttempt {
        epoch,
        alone: true,
        at: at(2),
        trigger: Trigger::Schedule,
    });
    let life = life.clone();

    let ours = epoch - 1;
    let old = Accept {
        epoch: ours,
        ..accept.clone()
    };
    let fenced = Error::Fenced {
        ours,
        holder: epoch,
    };
    assert_eq!(storage.accept(old).await, Err(fenced));
    let event = take(storage, Accept { epoch, ..accept }).await;

    let found = stored(storage, event + 1).await;
    assert_eq!(found.life, life);
    let (_, attempts) = storage.delivery(found.delivery_id).await.unwrap().unwrap();
    assert_eq!(attempts, []);
    let end = ended(&found, epoch, State::Delivered, at(4));
    assert_eq!(change(storage, end).await, Ok(()));
}

pub(super) async fn a_client_exists_by_being_named(storage: &dyn Storage) {
    let event = take(storage, accept_of("acme", None, "order.created", &[])).await;
    let named = seen(storage, "acme").await.unwrap();
    assert!(named.client < event);
    assert_eq!(named.version, 0);

    let again = accept_of("acme", Some(named), "order.created", &[]);
    take(storage, again).await;

    let clients = storage.clients(LANE).await.unwrap();
    assert_eq!(clients.len(), 1);
    assert_eq!(clients[0].created_at, at(2));
}

pub(super) async fn a_plan_from_other_endpoints_is_made_again(storage: &dyn Storage) {
    let endpoint = register(storage, "acme").await;
    let now = seen(storage, "acme").await.unwrap();
    register(storage, "acme").await;
    let elsewhere = Seen {
        client: now.client + 100,
        ..now
    };

    for stale in [None, Some(now), Some(elsewhere)] {
        let accept = accept_of("acme", stale, "order.created", &[endpoint.position]);
        assert_eq!(storage.accept(accept).await, Ok(Accepted::Replan));
    }
    let unknown = accept_of("nobody", Some(now), "order.created", &[]);
    assert_eq!(storage.accept(unknown).await, Ok(Accepted::Replan));

    assert_eq!(storage.waiting(LANE, 0, 10).await, Ok(vec![]));
    assert_eq!(seen(storage, "nobody").await, None);
}

pub(super) async fn a_key_is_one_event_of_one_client_until_it_expires(storage: &dyn Storage) {
    let with_key = |client_id: &str, plan: Option<Seen>, now: i64| {
        let accept = keyed(
            accept_of(client_id, plan, "order.created", &[]),
            "key",
            at(now + 100),
        );
        Accept {
            now: at(now),
            ..accept
        }
    };
    let first = take(storage, with_key("acme", None, 10)).await;
    let plan = seen(storage, "acme").await;
    let duplicate = Ok(Accepted::Duplicate { event: first });

    assert_eq!(storage.accept(with_key("acme", plan, 20)).await, duplicate);
    // A duplicate is one whatever has become of the endpoints.
    assert_eq!(storage.accept(with_key("acme", None, 20)).await, duplicate);
    let other = KnownAs::Client(IdempotencyKey {
        key: "key".to_owned(),
        digest: [8; 16],
        until: at(120),
    });
    let other = known_as(with_key("acme", plan, 20), other);
    assert_eq!(storage.accept(other).await, Ok(Accepted::KeyReused));
    let elsewhere = take(storage, with_key("globex", None, 20)).await;
    assert!(elsewhere > first);

    assert_eq!(storage.accept(with_key("acme", plan, 109)).await, duplicate);
    let later = take(storage, with_key("acme", plan, 110)).await;
    let again = storage.accept(with_key("acme", plan, 120)).await;
    assert_eq!(again, Ok(Accepted::Duplicate { event: later }));
}

pub(super) async fn a_payload_is_kept_byte_for_byte(storage: &dyn Storage) {
    let hub = hub(storage).await;
    let payload = Bytes::from_static("{ \"raw\":{\"b\":1.0,  \"a\":\"é\\u00e9\"} }".as_bytes());
    let mut new = hub.feed_event("evt_1");
    new.accept.event.carried.payload = payload.clone();
    new.accept.event.carried.operational = true;

    let taken = storage.take_in(hub.page(vec![new.clone()])).await.unwrap();

    let Some([Accepted::New(Placed { event, .. })]) = taken.as_deref() else {
        panic!("{taken:?}");
    };
    let found = stored(storage, event + 1).await;
    assert_eq!(found.event, new.accept.event.carried);
    assert_eq!(found.event.payload, payload);
}

pub(super) async fn an_event_is_found_by_its_id_and_by_its_place(storage: &dyn Storage) {
    let endpoint = register(storage, "acme").await;
    let plan = seen(storage, "acme").await;
    let mut accept = accept_of("acme", plan, "order.created", &[endpoint.position]);
    accept.event.ordering_key = Some("cart-1".to_owned());
    accept.event.occurred_at = Some(at(1));
    let accept = keyed(accept, "key", at(100));
    let carried = accept.event.carried.clone();
    let position = take(storage, accept).await;

    let by_id = storage.event(carried.event_id).await.unwrap().unwrap();
    let by_place = storage.event_at(LANE, position).await.unwrap().unwrap();

    let expected = EventSummary {
        position,
        event_id: carried.event_id,
        client_id: "acme".into(),
        event_type: "order.created".to_owned(),
        counts: Counts {
            pending: 1,
            ..Counts::default()
        },
        idempotency_key: Some("key".to_owned()),
        ordering_key: Some("cart-1".to_owned()),
        occurred_at: Some(at(1)),
        source: None,
        correlation_id: carried.correlation_id,
        created_at: at(2),
    };
    assert_eq!(by_id.summary, expected);
    assert_eq!(by_place.summary, expected);
    assert_eq!(by_id.payload, carried.payload);
    let [delivery] = &by_id.deliveries[..] else {
        panic!("{by_id:?}");
    };
    assert_eq!(delivery.endpoint_id, endpoint.endpoint_id);
    assert_eq!(delivery.position, position + 1);
    let other = EventId::mint(LANE, at(1));
    assert!(storage.event(other).await.unwrap().is_none());
    let elsewhere = EventId {
        lane: 7,
        ..carried.event_id
    };
    assert!(storage.event(elsewhere).await.unwrap().is_none());
}
