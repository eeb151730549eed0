use std::time::Duration;

use axum::Json;
use axum::extract::State;
use runtime::extract::Correlation;
use runtime::problem::{Code, Problem};
use schema::status::PullReport;
use tokio::sync::{mpsc, oneshot};

use crate::worker::Pull;

/// Two polls at their slowest, and shorter than the gateway's 60 s; who waits behind more may be told to come again.
const WAIT: Duration = Duration::from_secs(55);
const RETRY_AFTER_S: u64 = 5;

/// `POST /ingest/pull-status`: polls every page now. A source that fails is told in the answer.
pub(super) async fn pull(
    State(pulls): State<mpsc::Sender<Pull>>,
    Correlation(correlation_id): Correlation,
) -> Result<Json<PullReport>, Problem> {
    let (report, reported) = oneshot::channel();
    let pull = Pull {
        correlation_id,
        report,
    };
    pulls
        .try_send(pull)
        .map_err(|_| busy("other pulls are waiting already"))?;
    match tokio::time::timeout(WAIT, reported).await {
        Ok(Ok(report)) => Ok(Json(report)),
        Ok(Err(_)) => Err(busy("the poller is stopping")),
        Err(_) => Err(busy("the pull did not have its turn in time")),
    }
}

fn busy(detail: &str) -> Problem {
    Code::Unavailable.because(detail).retry_after(RETRY_AFTER_S)
}
