//! Ended deliveries leave when they are old, a slice at a time.

use std::time::Duration;

use tokio::time::Instant;

use super::Worker;
use crate::domain::delivery::Position;
use crate::error::Error;
use crate::storage::LANE;

const EVERY: Duration = Duration::from_secs(3600);
/// Between two slices, so that deletes never crowd out deliveries.
const PAUSE: Duration = Duration::from_millis(50);

impl Worker {
    pub(super) async fn run_retention(&self) -> Result<(), Error> {
        let mut after = 0;
        loop {
            let pause = match self.retire(after).await {
                Ok(Some(next)) => {
                    after = next;
                    PAUSE
                }
                Ok(None) => {
                    after = 0;
                    EVERY
                }
                Err(fault) if fault.is_final() => return Err(fault),
                // Said by the store; what is left waits for the next hour.
                Err(_) => EVERY,
            };
            tokio::time::sleep(pause).await;
        }
    }

    /// One slice; answers where the next begins.
    async fn retire(&self, after: Position) -> Result<Option<Position>, Error> {
        let Ok(before) = self.now().checked_sub(self.outside.retention) else {
            return Ok(None);
        };
        let retired = self.outside.storage.retire(LANE, after, before).await?;
        self.outside
            .vitals
            .note(|facts| facts.retired_at = Some(Instant::now()));
        if retired.removed > 0 {
            tracing::debug!(removed = retired.removed, "old deliveries were removed");
        }
        Ok(retired.next)
    }
}
