//! Large tasks in slices.

use super::*;

fn slice_of(job: &Job, cursor: Position) -> JobSlice {
    JobSlice {
        lane: LANE,
        job_id: job.job_id,
        began_at: job.progress.cursor,
        progress: Progress {
            cursor,
            examined: job.progress.examined + 2,
            done: job.progress.done + 1,
            updated_at: at(9),
            ..job.progress
        },
        changes: Vec::new(),
        late: Vec::new(),
    }
}

/// A client with an endpoint and an event with a delivery for it.
struct Told {
    epoch: Epoch,
    endpoint: Endpoint,
    event: Position,
    plan: Option<Seen>,
}

async fn told(storage: &dyn Storage) -> Told {
    let epoch = own(storage).await;
    let endpoint = register(storage, "acme").await;
    let plan = seen(storage, "acme").await;
    let event = take(storage, accept_of("acme", plan, "t", &[endpoint.position])).await;
    Told {
        epoch,
        endpoint,
        event,
        plan,
    }
}

pub(super) async fn a_slice_moves_its_job_once(storage: &dyn Storage) {
    let told = told(storage).await;
    let mut job = job_of(JobKind::Recover, &told.endpoint);
    job.wanted = Some(Status::Exhausted);
    storage.add_job(LANE, job.clone()).await.unwrap();
    assert_eq!(storage.job(job.job_id).await, Ok(Some(job.clone())));
    let before = stored(storage, told.event + 1).await;
    let nowhere = Stored {
        position: 9_999,
        ..before.clone()
    };
    let mut slice = slice_of(&job, told.event);
    slice.changes = vec![started(&before, told.epoch), started(&nowhere, told.epoch)];

    let first = storage.slice(slice.clone()).await;
    let again = storage.slice(slice.clone()).await;

    let changed = vec![Ok(Changed::default()), Err(Error::Stale)];
    let late = vec![];
    assert_eq!(first, Ok(Sliced::Done { changed, late }));
    assert_eq!(again, Ok(Sliced::NotThere));
    let progress = slice.progress;
    let moved = Job { progress, ..job };
    assert_eq!(storage.job(moved.job_id).await, Ok(Some(moved.clone())));
    assert_eq!(stored(storage, told.event + 1).await.life.started, 1);

    let mut last = slice_of(&moved, told.event + 9);
    last.progress.status = JobStatus::Done;
    storage.slice(last).await.unwrap();
    assert_eq!(storage.running_jobs(LANE).await, Ok(vec![]));
}

pub(super) async fn a_canceled_job_writes_nothing_more(storage: &dyn Storage) {
    let told = told(storage).await;
    let job = job_of(JobKind::Recover, &told.endpoint);
    storage.add_job(LANE, job.clone()).await.unwrap();
    let before = stored(storage, told.event + 1).await;

    let canceled = storage.cancel_job(job.job_id, at(7)).await.unwrap();
    let mut slice = slice_of(&job, told.event);
    slice.changes = vec![started(&before, told.epoch)];
    let late = storage.slice(slice).await;

    let canceled = canceled.unwrap();
    assert_eq!(canceled.progress.status, JobStatus::Canceled);
    assert_eq!(canceled.progress.updated_at, at(7));
    assert_eq!(late, Ok(Sliced::NotThere));
    assert_eq!(stored(storage, told.event + 1).await, before);
    assert_eq!(storage.running_jobs(LANE).await, Ok(vec![]));
    let again = storage.cancel_job(job.job_id, at(8)).await;
    assert_eq!(again, Ok(Some(canceled)), "as it stands");
    let unknown = JobId::mint(LANE, at(1));
    assert_eq!(storage.cancel_job(unknown, at(8)).await, Ok(None));
}

pub(super) async fn a_removal_is_not_canceled(storage: &dyn Storage) {
    let told = told(storage).await;
    let job = job_of(JobKind::RemoveEndpoint, &told.endpoint);
    storage.remove_endpoint(LANE, job.clone()).await.unwrap();

    let answered = storage.cancel_job(job.job_id, at(7)).await;

    assert_eq!(answered, Ok(Some(job)));
}

pub(super) async fn a_late_delivery_is_made_once(storage: &dyn Storage) {
    let told = told(storage).await;
    let later = register(storage, "acme").await;
    let job = job_of(JobKind::Recover, &later);
    storage.add_job(LANE, job.clone()).await.unwrap();
    let late = |event, endpoint: &Endpoint| Late {
        event,
        new: pending(endpoint.position),
    };
    let mut slice = slice_of(&job, told.event);
    slice.late = vec![
        late(told.event, &later),
        late(told.event, &later),
        late(told.event, &told.endpoint),
        late(9_999, &later),
    ];

    let Ok(Sliced::Done { late, .. }) = storage.slice(slice).await else {
        panic!("it was running");
    };

    let [Some(made), None, None, None] = late[..] else {
        panic!("{late:?}");
    };
    let found = stored(storage, made).await;
    assert_eq!(found.endpoint, later.position);
    assert_eq!(found.order_at, made);
    let event = storage.event_at(LANE, told.event).await.unwrap().unwrap();
    assert_eq!(event.summary.counts.pending, 2);
    assert_eq!(event.deliveries[1].created_at, at(9));
    let positions: Vec<Position> = event.deliveries.iter().map(|row| row.position).collect();
    assert_eq!(positions, [told.event + 1, made]);
}

pub(super) async fn candidates_are_a_clients_events_of_a_time_with_the_endpoints_delivery(
    storage: &dyn Storage,
) {
    let told = told(storage).await;
    let later = register(storage, "acme").await;
    let plan = seen(storage, "acme").await;
    let mut events = vec![told.event];
    for (second, endpoints) in [
        (10, vec![told.endpoint.position]),
        (20, vec![told.endpoint.position, later.position]),
        (30, vec![]),
        (40, vec![later.position]),
    ] {
        let accept = Accept {
            now: at(second),
            ..accept_of("acme", plan, "t", &endpoints)
        };
        events.push(take(storage, accept).await);
        take(
            storage,
            accept_of("globex", seen(storage, "globex").await, "t", &[]),
        )
        .await;
    }
    let mut job = job_of(JobKind::Recover, &later);
    (job.since, job.until) = (at(10), at(40));

    let mut found = storage.candidates(LANE, job.clone(), 2).await.unwrap();
    assert_eq!(found.len(), 2);
    job.progress.cursor = found[1].event;
    let rest = storage.candidates(LANE, job, 2).await.unwrap();
    assert_eq!(rest.len(), 1, "fewer at the end");
    found.extend(rest);

    let places: Vec<Position> = found.iter().map(|found| found.event).collect();
    assert_eq!(places, events[1..4]);
    let has: Vec<Option<Position>> = found
        .iter()
        .map(|found| found.delivery.as_ref().map(|delivery| delivery.position))
        .collect();
    assert_eq!(has, [None, Some(events[2] + 2), None]);
    assert_ne!(told.plan, plan);
}

pub(super) async fn open_deliveries_of_an_endpoint_are_told_in_order(storage: &dyn Storage) {
    let hub = hub(storage).await;
    hub.live(storage, "evt_1", State::Delivered).await;
    let failed = hub.live(storage, "evt_2", State::Failed).await;
    let other = register(storage, "acme").await;
    let plan = seen(storage, "acme").await;
    take(storage, accept_of("acme", plan, "t", &[other.position])).await;
    let fresh = hub.insert(storage, &["evt_3", "evt_4"]).await;

    let open = async |after, limit| -> Vec<Position> {
        let found = storage.open_of(LANE, hub.endpoint, after, limit).await;
        found.unwrap().iter().map(|open| open.position).collect()
    };

    assert_eq!(open(0, 2).await, [failed, fresh[0]]);
    assert_eq!(open(fresh[0], 2).await, [fresh[1]]);
    assert!(open(fresh[1], 2).await.is_empty());
}
