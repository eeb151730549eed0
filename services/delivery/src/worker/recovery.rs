//! What a new owner finds: everything open is scheduled again, and attempts whose owner died are put on record.

use std::collections::HashSet;
use std::sync::Arc;
use std::time::Duration;

use super::Worker;
use super::backoff::{Backoff, PROMPT};
use crate::domain::delivery::Position;
use crate::domain::transition::{Effect, Input};
use crate::error::Error;
use crate::storage::{Ended, INTERRUPTED, LANE, Stored};

const PAGE: usize = 4_096;
/// So that what always fails at once does not fail in a tight loop.
const PUT_BACK_AFTER: Duration = Duration::from_secs(1);

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

    /// Queues a delivery again by what the store says of it; its attempt ended without a result, or the store refused it.
    pub(super) async fn put_back(&self, position: Position) {
        self.outside.vitals.put_back.inc();
        tracing::error!(
            position,
            "an attempt left its delivery astray, it is put back"
        );
        let mut backoff = Backoff::up_to(PROMPT);
        // What is astray at a stop is found at the next start.
        while !self.attempts.is_closed() {
            tokio::time::sleep(PUT_BACK_AFTER).await;
            match self.resume(position).await {
                Ok(()) => return,
                Err(fault) if fault.is_final() => {
                    self.note_fault(&fault);
                    return;
                }
                Err(_) => backoff.wait().await,
            }
        }
    }

    async fn resume(&self, position: Position) -> Result<(), Error> {
        for stored in self.outside.storage.load(LANE, vec![position]).await? {
            let life = &stored.life;
            if life.open.is_some() {
                self.interrupt_one(stored).await?;
            } else if let Some((endpoint, due_at)) =
                self.index_of(&stored.endpoint_id).zip(life.due_at)
            {
                self.enqueue(endpoint, position, due_at, life.is_suspect());
            }
        }
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
        if let [Effect::Refuse(_)] = effects[..] {
            // It belongs to a later owner: our next write is fenced.
            return Ok(());
        }
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
