//! The intake against a fake event-store on a real socket.
#![expect(clippy::unwrap_used, reason = "a test fails where it stands")]

use std::pin::pin;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use axum::Router;
use axum::body::Bytes;
use axum::extract::State;
use axum::routing::post;
use clients::event_store::EventStore;
use clients::intake::Intake;
use futures_util::future::join_all;
use runtime::config::List;
use runtime::internal_key::InternalKey;
use runtime::metrics::Metrics;
use runtime::upstream::Upstream;
use schema::intake::{BATCH_MAX_BYTES, BATCH_MAX_ITEMS, Batch, BatchResults, Receipt, Submission};
use schema::{CorrelationId, Event, EventId, Kind, Severity, Source, names};
use tokio::io::AsyncReadExt as _;
use tokio::net::TcpListener;
use tokio::sync::{Semaphore, watch};
use tokio::task::JoinHandle;
use tokio::time::timeout;
use tokio_util::sync::CancellationToken;

const STORED: Receipt = Receipt::Stored { routed: false };

/// Answers each batch when its gate has a permit; an event named `evt_bad` is rejected.
struct FakeStore {
    requests: watch::Sender<usize>,
    batches: Mutex<Vec<Vec<Submission>>>,
    gate: Semaphore,
}

impl FakeStore {
    /// The fake and its URL; `open` answers at once, else each answer waits for a permit.
    async fn start(open: bool) -> (Arc<Self>, String) {
        let fake = Arc::new(Self {
            requests: watch::Sender::new(0),
            batches: Mutex::default(),
            gate: Semaphore::new(if open { Semaphore::MAX_PERMITS } else { 0 }),
        });
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let router = Router::new()
            .route(names::INTERNAL_EVENTS, post(Self::take))
            .with_state(Arc::clone(&fake));
        let limited = router.layer(axum::extract::DefaultBodyLimit::max(BATCH_MAX_BYTES));
        tokio::spawn(async move { axum::serve(listener, limited).await });
        (fake, url)
    }

    async fn take(State(fake): State<Arc<Self>>, body: Bytes) -> Vec<u8> {
        let batch: Batch<Submission> = serde_json::from_slice(&body).unwrap();
        fake.requests.send_modify(|requests| *requests += 1);
        fake.gate.acquire().await.unwrap().forget();
        let receipt = |item: &Submission| match item.event.event_id.as_str() {
            "evt_bad" => Receipt::Rejected {
                detail: "bad".to_owned(),
            },
            _ => STORED,
        };
        let results = BatchResults {
            results: batch.items.iter().map(receipt).collect(),
        };
        fake.batches.lock().unwrap().push(batch.items);
        serde_json::to_vec(&results).unwrap()
    }

    async fn has_seen(&self, requests: usize) {
        let mut seen = self.requests.subscribe();
        let wait = seen.wait_for(|seen| *seen >= requests);
        timeout(Duration::from_secs(5), wait)
            .await
            .unwrap()
            .unwrap();
    }

    fn open(&self) {
        self.gate.add_permits(1 << 16);
    }

    fn batch_sizes(&self) -> Vec<usize> {
        self.batches.lock().unwrap().iter().map(Vec::len).collect()
    }
}

struct Running {
    intake: Intake,
    shutdown: CancellationToken,
    sender: JoinHandle<()>,
}

fn start(url: &str) -> Running {
    let upstream = Upstream::new("event-store", &List::of(&[url]));
    let store = EventStore::new(Arc::new(upstream), &InternalKey::default());
    let (intake, sender) = Intake::new(store, &Metrics::new());
    let shutdown = CancellationToken::new();
    Running {
        intake,
        sender: tokio::spawn(sender.run(shutdown.clone())),
        shutdown,
    }
}

fn event(id: &str, padding: usize) -> Event {
    Event {
        event_id: EventId::parse(id).unwrap(),
        source: Source::stripe(),
        kind: Kind::Payment,
        severity: Severity::Info,
        service: "stripe".to_owned(),
        summary: "s".to_owned(),
        description: None,
        started_at: "2024-01-15T10:40:00Z".parse().unwrap(),
        resolved_at: None,
        raw: serde_json::value::to_raw_value(&"x".repeat(padding)).unwrap(),
    }
}

impl Running {
    async fn submit(&self, id: &str) -> Receipt {
        self.submit_padded(id, 0).await
    }

    async fn submit_padded(&self, id: &str, padding: usize) -> Receipt {
        let correlation_id = CorrelationId::parse(&"c".repeat(64)).unwrap();
        self.intake.submit(event(id, padding), correlation_id).await
    }

    /// Fills both slots for requests, so that what comes next has to queue. Waits for the answers only when polled on.
    async fn occupy(&self, fake: &FakeStore) -> [JoinHandle<Receipt>; 2] {
        let mut waiting = Vec::new();
        for n in 1..=2 {
            let intake = self.intake.clone();
            waiting.push(tokio::spawn(async move {
                let correlation_id = CorrelationId::parse("c").unwrap();
                intake.submit(event("evt_first", 0), correlation_id).await
            }));
            fake.has_seen(n).await;
        }
        waiting.try_into().unwrap()
    }
}

fn is_unavailable(receipt: &Receipt) -> bool {
    matches!(receipt, Receipt::Unavailable { retry_after_s } if *retry_after_s > 0)
}

#[tokio::test]
async fn an_event_that_comes_alone_is_sent_alone_and_at_once() {
    let (fake, url) = FakeStore::start(true).await;
    let running = start(&url);

    let receipt = running.submit("evt_1").await;

    assert_eq!(receipt, STORED);
    assert_eq!(fake.batch_sizes(), [1]);
}

#[tokio::test]
async fn what_queues_behind_two_requests_goes_together() {
    let (fake, url) = FakeStore::start(false).await;
    let running = start(&url);
    let first = running.occupy(&fake).await;

    let queued = (0..300).map(|_| running.submit("evt_next"));
    let (receipts, ()) = tokio::join!(join_all(queued), async { fake.open() });

    assert!(receipts.iter().all(|receipt| *receipt == STORED));
    for receipt in first {
        assert_eq!(receipt.await.unwrap(), STORED);
    }
    let mut sizes = fake.batch_sizes();
    sizes.sort_unstable();
    assert_eq!(sizes, [1, 1, 300 - BATCH_MAX_ITEMS, BATCH_MAX_ITEMS]);
}

#[tokio::test]
async fn no_request_is_longer_than_a_mebibyte() {
    // The fake refuses a longer body.
    let (fake, url) = FakeStore::start(false).await;
    let running = start(&url);
    let _first = running.occupy(&fake).await;

    let queued = (0..10).map(|_| running.submit_padded("evt_next", 250 << 10));
    let (receipts, ()) = tokio::join!(join_all(queued), async { fake.open() });

    assert!(receipts.iter().all(|receipt| *receipt == STORED));
    let sizes = fake.batch_sizes();
    assert_eq!(sizes.iter().sum::<usize>(), 12);
    assert_eq!(sizes.iter().max(), Some(&4));
}

#[tokio::test]
async fn a_bad_event_fails_alone() {
    let (fake, url) = FakeStore::start(false).await;
    let running = start(&url);
    let _first = running.occupy(&fake).await;

    let ids = ["evt_1", "evt_bad", "evt_2"];
    let queued = ids.iter().map(|id| running.submit(id));
    let (receipts, ()) = tokio::join!(join_all(queued), async { fake.open() });

    assert_eq!(receipts[0], STORED);
    assert!(matches!(receipts[1], Receipt::Rejected { .. }));
    assert_eq!(receipts[2], STORED);
}

#[tokio::test]
async fn nobody_is_answered_before_the_store_has_answered() {
    let (fake, url) = FakeStore::start(false).await;
    let running = start(&url);

    let mut submitted = pin!(running.submit("evt_1"));
    tokio::select! {
        biased;
        receipt = &mut submitted => panic!("answered too early: {receipt:?}"),
        () = fake.has_seen(1) => {}
    }
    fake.open();

    assert_eq!(submitted.await, STORED);
}

#[tokio::test]
async fn the_store_is_told_how_long_each_is_still_waited_for() {
    let (fake, url) = FakeStore::start(false).await;
    let running = start(&url);
    let _first = running.occupy(&fake).await;
    let queued_for = Duration::from_millis(50);

    let (receipt, ()) = tokio::join!(running.submit("evt_next"), async {
        tokio::time::sleep(queued_for).await;
        fake.open();
    });

    assert_eq!(receipt, STORED);
    let batches = fake.batches.lock().unwrap();
    let last = batches.iter().flatten().last().unwrap();
    let left = last.deadline_ms;
    assert!((1..=8000 - 50).contains(&left), "{left}");
}

#[tokio::test]
async fn a_store_that_cannot_be_reached_makes_it_unavailable() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    drop(listener);
    let running = start(&url);

    let receipt = running.submit("evt_1").await;

    assert!(is_unavailable(&receipt), "{receipt:?}");
}

#[tokio::test]
async fn a_request_that_may_have_arrived_is_not_repeated() {
    let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
    let url = format!("http://{}", listener.local_addr().unwrap());
    let requests = watch::Sender::new(0);
    let seen = requests.subscribe();
    tokio::spawn(async move {
        while let Ok((mut stream, _)) = listener.accept().await {
            let read = stream.read(&mut [0; 1024]).await.unwrap_or_default();
            requests.send_modify(|requests| *requests += usize::from(read > 0));
        }
    });
    let running = start(&url);

    let receipt = running.submit("evt_1").await;

    assert!(is_unavailable(&receipt), "{receipt:?}");
    assert_eq!(*seen.borrow(), 1);
}

#[tokio::test(start_paused = true)]
async fn a_store_that_hangs_is_given_up_at_the_deadline() {
    let (_fake, url) = FakeStore::start(false).await;
    let running = start(&url);
    let asked = tokio::time::Instant::now();

    let receipt = running.submit("evt_1").await;

    assert!(is_unavailable(&receipt), "{receipt:?}");
    let waited = asked.elapsed().as_millis();
    assert!((8000..=8001).contains(&waited), "{waited}");
    running.shutdown.cancel();
    timeout(Duration::from_secs(1), running.sender)
        .await
        .unwrap()
        .unwrap();
}

#[tokio::test]
async fn what_does_not_fit_is_told_to_come_again() {
    let (fake, url) = FakeStore::start(false).await;
    let running = start(&url);
    let _first = running.occupy(&fake).await;

    let queued = (0..140).map(|_| running.submit_padded("evt_next", 250 << 10));
    let (receipts, ()) = tokio::join!(join_all(queued), async { fake.open() });

    let stored = receipts
        .iter()
        .filter(|receipt| **receipt == STORED)
        .count();
    let refused = receipts
        .iter()
        .filter(|receipt| is_unavailable(receipt))
        .count();
    assert_eq!(stored + refused, 140);
    // So many events of a little more than 250 KiB are within 32 MiB.
    assert_eq!(stored, 130);
}

#[tokio::test]
async fn what_is_queued_at_the_end_is_still_sent_and_nothing_after_it() {
    let (fake, url) = FakeStore::start(false).await;
    let running = start(&url);
    let _first = running.occupy(&fake).await;

    let queued = (0..5).map(|_| running.submit("evt_next"));
    let (receipts, ()) = tokio::join!(join_all(queued), async {
        running.shutdown.cancel();
        fake.open();
    });

    assert!(receipts.iter().all(|receipt| *receipt == STORED));
    let late = running.submit("evt_late").await;
    assert!(is_unavailable(&late), "{late:?}");
    timeout(Duration::from_secs(5), running.sender)
        .await
        .unwrap()
        .unwrap();
    assert_eq!(fake.batch_sizes().iter().sum::<usize>(), 7);
}
