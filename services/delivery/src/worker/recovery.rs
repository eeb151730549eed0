//! What a new owner finds: everything open is scheduled again, and attempts whose owner died are put on record.

use std::collections::HashSet;
use std::sync::Arc;

use super::Worker;
use crate::domain::delivery::Position;
use crate::domain::transition::Input;
use crate::error::Error;
use crate::storage::{Ended, INTERRUPTED, LANE, Stored};

const PAGE: usize = 4_096;

impl Worker {
    pub(super) async fn recover(&self) -> Result<(), Error> {
        let (mut after, mut open, mut interrupted) = (0, 0_usize, 0_usize);
        let mut unknown: HashSet<Arc<str>> = HashSet::new();
        loop {
            let page = self.outside.storage.waiting(LANE, after, PAGE).await?;
            let Some(last) = page.last() else { break };
            after = last.position;
            open += page.len();
            let mut left_open = Vec::new();
            for waiting in page {
                let Some(endpoint) = self.index_of(&waiting.endpoint_id) else {
                    unknown.insert(waiting.endpoint_id);
                    continue;
                };
                if waiting.attempt_open {
                    left_open.push(waiting.position);
                } else {
                    self.enqueue(endpoint, waiting.position, waiting.due_at, waiting.suspect);
                }
            }
            interrupted += left_open.len();
            self.interrupt(left_open).await?;
        }
        for endpoint_id in unknown {
            tracing::warn!(%endpoint_id, "open deliveries are held: there is no such endpoint");
        }
        tracing::info!(
            epoch = self.epoch,
            open,
            interrupted,
            "took over what is open"
        );
        Ok(())
    }

    async fn interrupt(&self, positions: Vec<Position>) -> Result<(), Error> {
        for stored in self.outside.storage.load(LANE, positions).await? {
            self.interrupt_one(stored).await?;
        }
        Ok(())
    }

    async fn interrupt_one(&self, stored: Stored) -> Result<(), Error> {
        let Some(endpoint) = self.index_of(&stored.endpoint_id) else {
            return Ok(());
        };
        let Some((open, target)) = stored.life.open.zip(self.endpoint(endpoint)) else {
            return Ok(());
        };
        let input = Input::Interrupt { epoch: self.epoch };
        let (life, effects) = self.decide(&stored, input, target);
        let ended = Ended::without_answer(INTERRUPTED);
        let finish = self.result(&stored, open.epoch, &life, &effects, ended);
        self.outside.storage.finish(finish).await?;
        self.outside.vitals.interrupted.inc();
        tracing::warn!(
            correlation_id = %stored.event.correlation_id, event_id = %stored.event.event_id,
            delivery_id = %stored.delivery_id, attempt = life.started, "attempt was interrupted",
        );
        self.act(endpoint, &stored, &life, &effects);
        Ok(())
    }
}
