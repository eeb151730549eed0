//! What becomes of events: `POST /internal/resolutions`, they end; `POST /internal/outcomes`, they were delivered or not.

use std::sync::Arc;

use axum::Json;
use axum::extract::State;
use runtime::extract::{self, Correlation};
use runtime::problem::{Code, Problem};
use schema::CorrelationId;
use schema::delivery::{Outcome, Outcomes};
use schema::intake::{Resolutions, Resolved};
use serde_json::value::RawValue;
use serde_json::{Value, json};

use super::Hub;

const BODY_MAX: usize = 4 << 20;
/// The most rows of one request: one transaction.
const ITEMS_MAX: usize = 4096;

pub(super) async fn resolve(
    State(hub): State<Arc<Hub>>,
    extract::Json(resolutions): extract::Json<Resolutions, BODY_MAX>,
) -> Result<Json<Resolved>, Problem> {
    bounded(resolutions.items.len())?;
    let told: Vec<_> = resolutions
        .items
        .iter()
        .map(|item| (item.correlation_id.clone(), item.event_id.clone()))
        .collect();
    let resolved = hub.storage.resolve(resolutions.items).await?;
    for (correlation_id, event_id) in told {
        tracing::info!(%correlation_id, %event_id, "resolution received");
    }
    Ok(Json(Resolved { resolved }))
}

pub(super) async fn report(
    State(hub): State<Arc<Hub>>,
    Correlation(request): Correlation,
    extract::Json(reports): extract::Json<Outcomes<Box<RawValue>>, BODY_MAX>,
) -> Result<Json<Value>, Problem> {
    bounded(reports.outcomes.len())?;
    let outcomes = readable(&hub, &reports.outcomes, &request);
    drop(reports);
    let unknown = hub.storage.record_outcomes(outcomes).await?;
    if unknown > 0 {
        hub.metrics
            .outcomes_unknown
            .inc_by(u64::try_from(unknown).unwrap_or_default());
        tracing::warn!(unknown, "outcomes of events that are not in the store");
    }
    Ok(Json(json!({})))
}

/// The outcomes that can be read. One of a newer release is left out and told of: refused, it would be sent for ever, and
/// the others with it.
fn readable(hub: &Hub, reports: &[Box<RawValue>], request: &CorrelationId) -> Vec<Outcome> {
    let mut first_fault = None;
    let outcomes: Vec<Outcome> = reports
        .iter()
        .filter_map(|report| {
            serde_json::from_str(report.get())
                .map_err(|fault| first_fault.get_or_insert(fault))
                .ok()
        })
        .collect();
    if let Some(fault) = first_fault {
        let rejected = reports.len() - outcomes.len();
        hub.metrics
            .outcomes_rejected
            .inc_by(u64::try_from(rejected).unwrap_or_default());
        tracing::warn!(correlation_id = %request, rejected, %fault, "outcomes could not be read and are not kept");
    }
    outcomes
}

fn bounded(items: usize) -> Result<(), Problem> {
    if items > ITEMS_MAX {
        return Err(Code::InvalidPayload.because(format!("more than {ITEMS_MAX} items")));
    }
    Ok(())
}
