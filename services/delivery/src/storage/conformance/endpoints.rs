//! Clients and their endpoints.

use schema::webhooks::DisabledReason;

use super::*;
use crate::domain::endpoint::Disabled;

pub(super) async fn an_endpoint_is_kept_as_it_was_put(storage: &dyn Storage) {
    let mut new = endpoint_of("acme");
    new.settings.description = Some("orders".to_owned());
    let headers = &mut new.confidential.headers;
    headers.insert("authorization".to_owned(), "Bearer t".to_owned());
    new.disabled = Some(Disabled {
        reason: DisabledReason::Manual,
        at: at(1),
    });

    let made = put(storage, new.clone()).await;

    assert_eq!(storage.endpoints(LANE).await, Ok(vec![made.clone()]));
    assert_eq!(made.settings, new.settings);
    assert!(made.confidential == new.confidential);
    assert_eq!(made.disabled, new.disabled);
    let plan = seen(storage, "acme").await.unwrap();
    assert_eq!((made.client, made.version), (plan.client, plan.version));
    assert_eq!(made.position, made.version);
}

pub(super) async fn a_change_of_an_endpoint_is_decided_from_its_last_version(
    storage: &dyn Storage,
) {
    let made = register(storage, "acme").await;
    let with_url = |url: &str| {
        let mut changed = made.clone();
        url.clone_into(&mut changed.settings.url);
        PutEndpoint {
            lane: LANE,
            endpoint: changed,
            at_most: Some(1),
            now: at(9),
        }
    };

    let first = storage.put_endpoint(with_url("https://one.example")).await;
    let second = storage.put_endpoint(with_url("https://two.example")).await;

    let Ok(Put::Done(first)) = first else {
        panic!("{first:?}");
    };
    assert_eq!(second, Ok(Put::Stale));
    assert_eq!(storage.endpoints(LANE).await, Ok(vec![*first.clone()]));
    assert_eq!(first.settings.url, "https://one.example");
    assert_eq!((first.created_at, first.updated_at), (at(1), at(9)));
    let plan = seen(storage, "acme").await.unwrap();
    assert!(plan.version == first.version && first.version > made.version);
}

pub(super) async fn a_client_has_no_more_endpoints_than_it_may(storage: &dyn Storage) {
    let first = register(storage, "acme").await;
    let another = PutEndpoint {
        lane: LANE,
        endpoint: endpoint_of("acme"),
        at_most: Some(1),
        now: at(1),
    };
    let elsewhere = PutEndpoint {
        endpoint: endpoint_of("globex"),
        ..another.clone()
    };

    let refused = storage.put_endpoint(another.clone()).await;
    assert_eq!(refused, Ok(Put::TooMany));
    let made = storage.put_endpoint(elsewhere).await;
    assert!(matches!(made, Ok(Put::Done(_))), "{made:?}");

    let job = job_of(JobKind::RemoveEndpoint, &first);
    storage.remove_endpoint(LANE, job).await.unwrap();
    let made = storage.put_endpoint(another.clone()).await;
    assert!(matches!(made, Ok(Put::Done(_))), "{made:?}");
    let again = PutEndpoint {
        at_most: None,
        ..another
    };
    assert_eq!(storage.put_endpoint(again).await, Ok(Put::Stale));
}

pub(super) async fn a_removed_endpoint_is_gone_and_its_deliveries_tell_so(storage: &dyn Storage) {
    let removed = register(storage, "acme").await;
    let kept = register(storage, "acme").await;
    let plan = seen(storage, "acme").await;
    let both = [removed.position, kept.position];
    let event = take(storage, accept_of("acme", plan, "order.created", &both)).await;
    let before = stored(storage, event + 1).await;
    let job = job_of(JobKind::RemoveEndpoint, &removed);

    let version = storage.remove_endpoint(LANE, job.clone()).await.unwrap();

    assert_eq!(version, Some(seen(storage, "acme").await.unwrap().version));
    assert!(version > plan.map(|plan| plan.version));
    assert_eq!(storage.endpoints(LANE).await, Ok(vec![kept]));
    assert_eq!(storage.running_jobs(LANE).await, Ok(vec![job.clone()]));
    assert_eq!(
        stored(storage, event + 1).await,
        before,
        "nothing is written"
    );
    let (summary, _) = storage.delivery(before.delivery_id).await.unwrap().unwrap();
    assert!(summary.endpoint_deleted);
    assert_eq!(summary.endpoint_id, removed.endpoint_id);
    let other = stored(storage, event + 2).await.delivery_id;
    let (summary, _) = storage.delivery(other).await.unwrap().unwrap();
    assert!(!summary.endpoint_deleted);
    let newest = Filter {
        limit: 1,
        ..Filter::default()
    };
    let listed = storage.events(LANE, newest).await.unwrap();
    let counts = listed.rows[0].counts;
    assert_eq!(
        (counts.pending, counts.exhausted),
        (1, 1),
        "as their own views"
    );

    let again = Job {
        job_id: JobId::mint(LANE, at(2)),
        ..job
    };
    assert_eq!(storage.remove_endpoint(LANE, again).await, Ok(None));
    assert_eq!(storage.running_jobs(LANE).await.unwrap().len(), 1);
    let put = PutEndpoint {
        lane: LANE,
        endpoint: removed,
        at_most: None,
        now: at(9),
    };
    assert_eq!(storage.put_endpoint(put).await, Ok(Put::Stale));
}

/// A client with an endpoint, an event and a delivery; answers them.
async fn with_an_event(storage: &dyn Storage, client_id: &str) -> (Endpoint, Stored) {
    let endpoint = register(storage, client_id).await;
    let plan = seen(storage, client_id).await;
    let accept = accept_of(client_id, plan, "order.created", &[endpoint.position]);
    let event = take(storage, keyed(accept, "key", at(1_000))).await;
    (endpoint, stored(storage, event + 1).await)
}

pub(super) async fn a_removed_client_is_gone_at_once_and_its_name_is_free(storage: &dyn Storage) {
    let (endpoint, delivery) = with_an_event(storage, "acme").await;
    let (kept, _) = with_an_event(storage, "globex").await;
    let job = job_of(JobKind::RemoveClient, &endpoint);

    assert_eq!(storage.remove_client(LANE, job.clone()).await, Ok(true));

    assert_eq!(seen(storage, "acme").await, None);
    assert_eq!(storage.endpoints(LANE).await, Ok(vec![kept.clone()]));
    let id = delivery.delivery_id;
    assert_eq!(storage.delivery(id).await, Ok(None));
    let event = storage.event(delivery.event.event_id).await;
    assert!(event.unwrap().is_none());
    let place = storage.event_at(LANE, delivery.position - 1).await;
    assert!(place.unwrap().is_none());
    for client_id in [None, Some("acme".to_owned())] {
        let filter = Filter {
            client_id: client_id.clone(),
            limit: 10,
            ..Filter::default()
        };
        let deliveries = storage.deliveries(LANE, filter.clone()).await.unwrap();
        let events = storage.events(LANE, filter).await.unwrap();
        let left = usize::from(client_id.is_none());
        assert_eq!((deliveries.rows.len(), events.rows.len()), (left, left));
    }
    let by_endpoint = Filter {
        endpoint_id: Some(endpoint.endpoint_id.as_str().to_owned()),
        limit: 10,
        ..Filter::default()
    };
    assert_eq!(
        storage.deliveries(LANE, by_endpoint).await,
        Ok(Page::default())
    );
    assert_eq!(storage.running_jobs(LANE).await, Ok(vec![job.clone()]));
    let again = Job {
        job_id: JobId::mint(LANE, at(2)),
        ..job
    };
    assert_eq!(storage.remove_client(LANE, again).await, Ok(false));

    let (made, _) = with_an_event(storage, "acme").await;
    assert_ne!(made.client, endpoint.client);
}

pub(super) async fn a_purge_leaves_nothing_but_the_job(storage: &Sqlite) {
    let hub = hub(storage).await;
    hub.live(storage, "evt_1", State::Failed).await;
    hub.live(storage, "evt_2", State::Delivered).await;
    hub.insert(storage, &["evt_3"]).await;
    let built_in = storage.endpoints(LANE).await.unwrap().remove(0);
    let (endpoint, delivery) = with_an_event(storage, "acme").await;
    let late = JobSlice {
        lane: LANE,
        job_id: job_of(JobKind::Recover, &endpoint).job_id,
        began_at: 0,
        progress: job_of(JobKind::Recover, &endpoint).progress,
        changes: vec![],
        late: vec![Late {
            event: delivery.position - 1,
            new: pending(register(storage, "acme").await.position),
        }],
    };
    let recovery = Job {
        job_id: late.job_id,
        ..job_of(JobKind::Recover, &endpoint)
    };
    storage.add_job(LANE, recovery).await.unwrap();
    storage.slice(late).await.unwrap();
    assert_eq!(
        storage.purge(LANE, endpoint.client).await,
        Ok(0),
        "it lives"
    );

    for of_client in [&built_in, &endpoint] {
        let job = job_of(JobKind::RemoveClient, of_client);
        storage.remove_client(LANE, job).await.unwrap();
        let mut slices = 0;
        while storage.purge(LANE, of_client.client).await.unwrap() > 0 {
            slices += 1;
            assert!(slices < 10, "it ends");
        }
    }

    let mut left = storage.tables_with_rows();
    // Of the store, not of a client.
    left.retain(|table| !["cursors", "lanes", "meta"].contains(&table.as_str()));
    assert_eq!(left, ["jobs"]);
}
