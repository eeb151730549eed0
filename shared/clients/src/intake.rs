//! Events on their way to event-store: what is queued goes as one request, with an answer for each.
//!
//! Nobody waits for company: an event that comes alone is sent alone, and those that arrive while requests are under way
//! form the next one.

use std::time::Duration;

use runtime::metrics::Metrics;
use schema::intake::{BATCH_MAX_BYTES, BATCH_MAX_ITEMS, Receipt, Submission};
use schema::{CorrelationId, Event};
use serde_json::value::RawValue;
use tokio::sync::{mpsc, oneshot};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::event_store::EventStore;

/// Items that may wait for the next request; beyond it the answer is [`Receipt::Unavailable`].
const QUEUE_CAPACITY: usize = 8192;
/// Requests under way at once: while one is committed, the next is on its way.
const IN_FLIGHT: usize = 2;
/// How long an item is waited for.
const DEADLINE: Duration = Duration::from_secs(8);
/// What a caller is told to wait when the store cannot take its event.
const RETRY_AFTER_S: u64 = 2;

/// Takes events one by one, sends them together.
#[derive(Clone)]
pub struct Intake {
    queue: mpsc::Sender<Item>,
}

struct Item {
    encoded: Box<RawValue>,
    receipt: oneshot::Sender<Receipt>,
}

impl Intake {
    /// The intake and the loop that sends; the loop ends when the token is cancelled and the queue is empty.
    pub fn new(store: EventStore, metrics: &Metrics) -> (Self, Sender) {
        let (queue, items) = mpsc::channel(QUEUE_CAPACITY);
        let batches = metrics.counter("intake_batches_total", "Requests sent to event-store.");
        let sent = metrics.counter("intake_items_total", "Events sent to event-store.");
        (
            Self { queue },
            Sender {
                store,
                items,
                left_over: None,
                batches,
                sent,
            },
        )
    }

    /// Submits one event and waits for what became of it. Durable on [`Receipt::Stored`] and [`Receipt::Duplicate`].
    pub async fn submit(&self, event: Event, correlation_id: CorrelationId) -> Receipt {
        let deadline_ms = u64::try_from(DEADLINE.as_millis()).unwrap_or(u64::MAX);
        let encoded = match serde_json::value::to_raw_value(&Submission {
            correlation_id,
            deadline_ms,
            event,
        }) {
            Ok(encoded) => encoded,
            Err(fault) => {
                return Receipt::Rejected {
                    detail: fault.to_string(),
                };
            }
        };
        let (receipt, received) = oneshot::channel();
        if self.queue.try_send(Item { encoded, receipt }).is_err() {
            return unavailable();
        }
        match tokio::time::timeout(DEADLINE, received).await {
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
    /// Sends until the token is cancelled; then what is queued, and no more.
    pub async fn run(mut self, shutdown: CancellationToken) {
        let mut under_way = JoinSet::new();
        loop {
            if under_way.len() >= IN_FLIGHT {
                under_way.join_next().await;
                continue;
            }
            let first = match self.left_over.take() {
                Some(item) => item,
                None => {
                    let received = tokio::select! {
                        biased;
                        item = self.items.recv() => item,
                        () = shutdown.cancelled() => None,
                    };
                    let Some(item) = received else { break };
                    item
                }
            };
            let batch = self.batch_from(first);
            self.batches.inc();
            self.sent
                .inc_by(u64::try_from(batch.len()).unwrap_or_default());
            under_way.spawn(send(self.store.clone(), batch));
        }
        while under_way.join_next().await.is_some() {}
    }

    /// The item and what else is queued now, within the bounds of one request.
    fn batch_from(&mut self, first: Item) -> Vec<Item> {
        let mut bytes = first.encoded.get().len();
        let mut batch = vec![first];
        while batch.len() < BATCH_MAX_ITEMS {
            let Ok(item) = self.items.try_recv() else {
                break;
            };
            bytes += item.encoded.get().len();
            if bytes > BATCH_MAX_BYTES {
                self.left_over = Some(item);
                break;
            }
            batch.push(item);
        }
        batch
    }
}

async fn send(store: EventStore, batch: Vec<Item>) {
    let (encoded, receipts): (Vec<_>, Vec<_>) = batch
        .into_iter()
        // Whoever has stopped waiting was told to come again; sending it now could only make a duplicate.
        .filter(|item| !item.receipt.is_closed())
        .map(|item| (item.encoded, item.receipt))
        .unzip();
    if encoded.is_empty() {
        return;
    }
    match store.submit(encoded).await {
        Ok(results) => {
            for (receipt, result) in receipts.into_iter().zip(results) {
                let _unheard = receipt.send(result);
            }
        }
        Err(fault) => {
            tracing::warn!(%fault, events = receipts.len(), "event-store did not take the batch");
            for receipt in receipts {
                let _unheard = receipt.send(unavailable());
            }
        }
    }
}
