//! Events on their way to event-store: what is queued goes as one request, with an answer for each.
//!
//! Nobody waits for company: an event that comes alone is sent alone, and those that arrive while requests are under way
//! form the next one.

use std::sync::Arc;
use std::time::Duration;

use runtime::metrics::Metrics;
use schema::intake::{BATCH_MAX_BYTES, BATCH_MAX_ITEMS, Receipt, Submission};
use schema::{CorrelationId, Event};
use serde_json::value::RawValue;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};
use tokio::task::JoinSet;
use tokio::time::{Instant, timeout_at};
use tokio_util::sync::CancellationToken;

use crate::event_store::EventStore;

/// Items that may wait for the next request; beyond it the answer is [`Receipt::Unavailable`].
const QUEUE_CAPACITY: usize = 8192;
/// Bytes of events that may be waiting and under way together; beyond it the answer is the same.
const ROOM_BYTES: usize = 32 << 20;
/// Requests under way at once: while one is committed, the next is on its way.
const IN_FLIGHT: usize = 2;
/// How long a caller waits. No request outlives those who wait for it.
const DEADLINE: Duration = Duration::from_secs(8);
/// What a caller is told to wait when the store cannot take its event.
const RETRY_AFTER_S: u64 = 2;
/// What a request has around its items, and an item around its event, at most, in bytes.
const WRAPPING_MAX: usize = 128;

/// Takes events one by one, sends them together.
#[derive(Clone)]
pub struct Intake {
    queue: mpsc::Sender<Item>,
    room: Arc<Semaphore>,
}

struct Item {
    event: Box<RawValue>,
    correlation_id: CorrelationId,
    deadline: Instant,
    waiter: Waiter,
}

/// Who waits for an item, and the room it takes until then.
struct Waiter {
    receipt: oneshot::Sender<Receipt>,
    _room: OwnedSemaphorePermit,
}

impl Intake {
    /// The intake and the loop that sends for it.
    pub fn new(store: EventStore, metrics: &Metrics) -> (Self, Sender) {
        let (queue, items) = mpsc::channel(QUEUE_CAPACITY);
        let room = Arc::new(Semaphore::new(ROOM_BYTES));
        let batches = metrics.counter("intake_batches_total", "Requests sent to event-store.");
        let sent = metrics.counter("intake_items_total", "Events sent to event-store.");
        (
            Self { queue, room },
            Sender {
                store,
                items,
                left_over: None,
                batches,
                sent,
            },
        )
    }

    /// Submits one event and waits for what became of it, 8 s at most. Durable on [`Receipt::Stored`] and
    /// [`Receipt::Duplicate`]; after [`Receipt::Unavailable`] it may be stored all the same, so send it again.
    pub async fn submit(&self, event: Event, correlation_id: CorrelationId) -> Receipt {
        let deadline = Instant::now() + DEADLINE;
        let event = match serde_json::value::to_raw_value(&event) {
            Ok(event) => event,
            Err(fault) => {
                return Receipt::Rejected {
                    detail: fault.to_string(),
                };
            }
        };
        let bytes = u32::try_from(event.get().len()).unwrap_or(u32::MAX);
        let Ok(room) = Arc::clone(&self.room).try_acquire_many_owned(bytes) else {
            return unavailable();
        };
        let (receipt, received) = oneshot::channel();
        let item = Item {
            event,
            correlation_id,
            deadline,
            waiter: Waiter {
                receipt,
                _room: room,
            },
        };
        if self.queue.try_send(item).is_err() {
            return unavailable();
        }
        match timeout_at(deadline, received).await {
            Ok(Ok(receipt)) => receipt,
            Ok(Err(_)) | Err(_) => unavailable(),
        }
    }
}

fn unavailable() -> Receipt {
    Receipt::Unavailable {
        retry_after_s: RETRY_AFTER_S,
    }
}

/// The loop behind an [`Intake`].
pub struct Sender {
    store: EventStore,
    items: mpsc::Receiver<Item>,
    /// Taken from the queue, but too large for the request it was meant for.
    left_over: Option<Item>,
    batches: prometheus::IntCounter,
    sent: prometheus::IntCounter,
}

impl Sender {
    /// Sends until the token is cancelled; from then on takes nothing new, and ends when what is queued is answered.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut under_way = JoinSet::new();
        while let Some(first) = self.next(&shutdown).await {
            while under_way.len() >= IN_FLIGHT {
                under_way.join_next().await;
            }
            let batch = self.batch_from(first);
            if batch.is_empty() {
                continue;
            }
            self.batches.inc();
            self.sent
                .inc_by(u64::try_from(batch.len()).unwrap_or_default());
            under_way.spawn(send(self.store.clone(), batch));
        }
        while under_way.join_next().await.is_some() {}
    }

    async fn next(&mut self, shutdown: &CancellationToken) -> Option<Item> {
        if let Some(item) = self.left_over.take() {
            return Some(item);
        }
        tokio::select! {
            biased;
            item = self.items.recv() => item,
            () = shutdown.cancelled() => {
                self.items.close();
                self.items.recv().await
            }
        }
    }

    /// The item and what else is queued now, within the bounds of one request, for those who still wait: whoever has
    /// stopped was told to come again, and sending it now could only make a duplicate.
    fn batch_from(&mut self, first: Item) -> Vec<Item> {
        let mut bytes = WRAPPING_MAX + first.bytes_on_the_wire();
        let mut batch = vec![first];
        while batch.len() < BATCH_MAX_ITEMS {
            let Ok(item) = self.items.try_recv() else {
                break;
            };
            bytes += item.bytes_on_the_wire();
            if bytes > BATCH_MAX_BYTES {
                self.left_over = Some(item);
                break;
            }
            batch.push(item);
        }
        batch.retain(|item| !item.waiter.receipt.is_closed());
        batch
    }
}

impl Item {
    fn bytes_on_the_wire(&self) -> usize {
        self.event.get().len() + WRAPPING_MAX
    }
}

async fn send(store: EventStore, batch: Vec<Item>) {
    let now = Instant::now();
    let latest = batch.iter().map(|item| item.deadline).max().unwrap_or(now);
    let (submissions, waiters): (Vec<_>, Vec<_>) = batch
        .into_iter()
        .map(|item| {
            let left = item.deadline.saturating_duration_since(now);
            let submission = Submission {
                correlation_id: item.correlation_id,
                deadline_ms: u64::try_from(left.as_millis()).unwrap_or(u64::MAX),
                event: item.event,
            };
            (submission, item.waiter)
        })
        .unzip();
    let fault = match timeout_at(latest, store.submit(submissions)).await {
        Ok(Ok(receipts)) => {
            for (waiter, receipt) in waiters.into_iter().zip(receipts) {
                let _unheard = waiter.receipt.send(receipt);
            }
            return;
        }
        Ok(Err(fault)) => fault.to_string(),
        Err(_) => "no answer by the deadline".to_owned(),
    };
    tracing::warn!(
        fault,
        events = waiters.len(),
        "event-store did not take the batch"
    );
    for waiter in waiters {
        let _unheard = waiter.receipt.send(unavailable());
    }
}
