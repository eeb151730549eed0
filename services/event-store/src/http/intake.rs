//! `POST /internal/events`: a batch in, a receipt for each.

use std::sync::Arc;
use std::time::Duration;

use axum::Json;
use axum::extract::State;
use runtime::extract::{self, Correlation};
use runtime::problem::{Code, Problem};
use schema::CorrelationId;
use schema::intake::{BATCH_MAX_ITEMS, Batch, BatchResults, Receipt, Submission};
use tokio::time::timeout;

use super::Hub;
use crate::domain::record::Draft;
use crate::domain::{route, submission};
use crate::error::Error;
use crate::storage::Inserted;

/// A batch is about 1 MiB, but one larger item goes alone.
pub(super) const BODY_MAX: usize = 4 << 20;
/// The longest that any item is waited for, whatever its deadline.
const WAIT_MAX: Duration = Duration::from_secs(30);

pub(super) async fn submit(
    State(hub): State<Arc<Hub>>,
    Correlation(request): Correlation,
    extract::Json(batch): extract::Json<Batch, BODY_MAX>,
) -> Result<Json<BatchResults>, Problem> {
    if batch.items.len() > BATCH_MAX_ITEMS {
        return Err(Code::InvalidPayload.because(format!("more than {BATCH_MAX_ITEMS} items")));
    }
    let read: Vec<_> = batch
        .items
        .iter()
        .map(|item| submission::parse(item.get()))
        .collect();
    drop(batch);
    Ok(Json(BatchResults {
        results: store(&hub, read, &request).await,
    }))
}

/// Stores what could be read as one write; each item has its receipt, in order.
async fn store(
    hub: &Hub,
    read: Vec<Result<Submission, String>>,
    request: &CorrelationId,
) -> Vec<Receipt> {
    let mut longest = Duration::ZERO;
    let mut drafts = Vec::with_capacity(read.len());
    // `None` where the item is a draft: its receipt comes from the store.
    let mut receipts: Vec<Option<Receipt>> = Vec::with_capacity(read.len());
    for item in read {
        receipts.push(match item {
            Err(detail) => Some(Receipt::Rejected { detail }),
            Ok(submission) if submission.deadline_ms == 0 => Some(unavailable(&Error::Overloaded)),
            Ok(submission) => {
                longest = longest.max(Duration::from_millis(submission.deadline_ms));
                drafts.push(draft(hub, submission));
                None
            }
        });
    }
    let drafts: Arc<[Draft]> = drafts.into();
    let stored = insert(hub, &drafts, longest.min(WAIT_MAX)).await;
    let mut stored = drafts.iter().zip(stored);
    receipts
        .into_iter()
        .map(|receipt| {
            let (draft, receipt) = match receipt {
                Some(receipt) => (None, receipt),
                None => match stored.next() {
                    Some((draft, receipt)) => (Some(draft), receipt),
                    None => (None, unavailable(&Error::Overloaded)),
                },
            };
            tell(hub, draft, &receipt, request);
            receipt
        })
        .collect()
}

fn draft(hub: &Hub, submission: Submission) -> Draft {
    Draft {
        routed: route::pages(&submission.event, hub.routing),
        event: submission.event,
        correlation_id: submission.correlation_id,
    }
}

/// A receipt for each draft, durable where it says so.
async fn insert(hub: &Hub, drafts: &Arc<[Draft]>, wait: Duration) -> Vec<Receipt> {
    if drafts.is_empty() {
        return Vec::new();
    }
    let inserted = match timeout(wait, hub.storage.insert(Arc::clone(drafts))).await {
        Ok(inserted) => inserted,
        // It may still be written: sent again, it is a duplicate.
        Err(_) => Err(Error::Overloaded),
    };
    match inserted {
        Ok(inserted) => inserted.into_iter().map(receipt).collect(),
        Err(fault) => {
            tracing::warn!(%fault, events = drafts.len(), "events were not taken");
            vec![unavailable(&fault); drafts.len()]
        }
    }
}

fn receipt(inserted: Inserted) -> Receipt {
    match inserted {
        Inserted::New { routed } => Receipt::Stored { routed },
        Inserted::Known { routed } => Receipt::Duplicate { routed },
    }
}

fn unavailable(fault: &Error) -> Receipt {
    Receipt::Unavailable {
        retry_after_s: fault.retry_after_s(),
    }
}

/// One line and one count for each item. What could not be read has no correlation id but the request's.
fn tell(hub: &Hub, draft: Option<&Draft>, receipt: &Receipt, request: &CorrelationId) {
    hub.metrics.count(draft, receipt);
    match (draft, receipt) {
        (Some(draft), Receipt::Stored { routed }) => {
            let (event, correlation_id) = (&draft.event, &draft.correlation_id);
            tracing::info!(%correlation_id, event_id = event.event_id.as_str(), severity = event.severity.as_str(), routed, "event stored");
        }
        (Some(draft), Receipt::Duplicate { routed }) => {
            let (event, correlation_id) = (&draft.event, &draft.correlation_id);
            tracing::info!(%correlation_id, event_id = event.event_id.as_str(), severity = event.severity.as_str(), routed, "event seen before");
        }
        (_, Receipt::Rejected { detail }) => {
            tracing::warn!(correlation_id = %request, detail, "an item is not an event")
        }
        (_, _) => {}
    }
}
