use axum::Json;
use axum::extract::State;
use runtime::extract::Correlation;
use runtime::problem::{Code, Problem};
use schema::status::PullReport;

use crate::pull::Sources;

const RETRY_AFTER_S: u64 = 5;

/// `POST /ingest/pull-status`: polls every page now. A source that fails is told in the answer.
pub(super) async fn pull(
    State(sources): State<Sources>,
    Correlation(correlation_id): Correlation,
) -> Result<Json<PullReport>, Problem> {
    let report = sources.pull(&correlation_id).await.map_err(|_| {
        Code::Unavailable
            .because("the poller is stopping")
            .retry_after(RETRY_AFTER_S)
    })?;
    tracing::info!(
        %correlation_id,
        pages = report.fetched.0.len(),
        failed = report.errors.len(),
        stored = report.stored,
        routed = report.routed,
        resolved = report.resolved,
        malformed = report.malformed,
        "status pages pulled"
    );
    Ok(Json(report))
}
