//! Tells event-store what became of deliveries: in commit order, at least once.

use std::time::Duration;

use clients::event_store;
use schema::delivery::{Outcome, Outcomes};

use super::Worker;
use super::backoff::{Backoff, PATIENT};
use crate::error::Error;
use crate::storage::LANE;

/// A little company for an outcome that comes alone: nobody is waiting for it, and a batch costs as much as one.
const LINGER: Duration = Duration::from_millis(20);
/// A look without being woken: the store is the truth, the wake a hint.
const LOOK_AT_LEAST: Duration = Duration::from_secs(30);

impl Worker {
    pub(super) async fn run_reports(&self) -> Result<(), Error> {
        let mut backoff = Backoff::up_to(PATIENT);
        loop {
            match self.report().await {
                Ok(true) => backoff.reset(),
                Ok(false) => {
                    backoff.reset();
                    // Whichever comes first, the store is looked at.
                    let _woken =
                        tokio::time::timeout(LOOK_AT_LEAST, self.outcomes.notified()).await;
                    tokio::time::sleep(LINGER).await;
                }
                Err(Error::Passing(_)) => backoff.wait().await,
                Err(fault) => return Err(fault),
            }
        }
    }

    /// One batch; answers whether there was one.
    async fn report(&self) -> Result<bool, Error> {
        let outcomes = self.outside.storage.unreported(LANE).await?;
        let oldest = outcomes.first().map(|outcome| outcome.state.at);
        self.outside
            .vitals
            .note(|facts| facts.unreported_since = oldest);
        let Some(upto) = outcomes.last().map(|outcome| outcome.position) else {
            return Ok(false);
        };
        let batch = Outcomes { outcomes };
        match self.outside.event_store.report(&batch).await {
            Ok(()) => self.outside.storage.reported(LANE, upto).await?,
            Err(fault) if is_of_the_items(&fault) => self.report_each(batch.outcomes).await?,
            Err(fault) => return Err(not_now(&fault)),
        }
        Ok(true)
    }

    /// One bad item fails alone (R10): it is dropped, so that those after it are not held up for ever.
    async fn report_each(&self, outcomes: Vec<Outcome>) -> Result<(), Error> {
        for outcome in outcomes {
            let upto = outcome.position;
            let batch = Outcomes {
                outcomes: vec![outcome],
            };
            match self.outside.event_store.report(&batch).await {
                Ok(()) => {}
                Err(fault) if is_of_the_items(&fault) => {
                    self.outside.vitals.outcomes_dropped.inc();
                    for Outcome {
                        correlation_id,
                        event_id,
                        state,
                        ..
                    } in &batch.outcomes
                    {
                        tracing::error!(
                            %correlation_id, %event_id, delivery_id = %state.delivery_id, status = %state.status, %fault,
                            "an outcome is refused, it is dropped: event-store does not know what became of the delivery",
                        );
                    }
                }
                Err(fault) => return Err(not_now(&fault)),
            }
            self.outside.storage.reported(LANE, upto).await?;
        }
        Ok(())
    }
}

/// Whether the refusal is of what was said. Others, such as 401 and 404, are of how event-store is reached: nothing is
/// dropped for a wrong address.
fn is_of_the_items(fault: &event_store::Error) -> bool {
    matches!(
        fault,
        event_store::Error::Refused {
            status: 400 | 413 | 422,
            ..
        }
    )
}

fn not_now(fault: &event_store::Error) -> Error {
    tracing::warn!(%fault, "outcomes could not be reported, trying again");
    Error::Passing(fault.to_string())
}
