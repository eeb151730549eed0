//! Tells event-store what became of deliveries: in commit order, at least once.

use std::time::Duration;

use schema::delivery::Outcomes;

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
        if let Err(fault) = self.outside.event_store.report(&batch).await {
            tracing::warn!(%fault, "outcomes could not be reported, trying again");
            return Err(Error::Passing(fault.to_string()));
        }
        self.outside.storage.reported(LANE, upto).await?;
        Ok(true)
    }
}
