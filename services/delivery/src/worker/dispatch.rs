//! Sends what is due, as slots allow.

use std::collections::HashMap;
use std::sync::Arc;
use std::time::Duration;

use jiff::Timestamp;

use super::backoff::{Backoff, PROMPT};
use super::{Slot, Worker};
use crate::domain::ids::Position;
use crate::error::Error;
use crate::storage::LANE;

/// Deliveries that one look takes.
const BATCH: usize = 64;
/// The longest sleep, after which the wall clock is read again: somebody may have set it (R7).
const LOOK_AT_LEAST: Duration = Duration::from_secs(30);

impl Worker {
    pub(super) async fn run_dispatch(self: &Arc<Self>) -> Result<(), Error> {
        let mut backoff = Backoff::up_to(PROMPT);
        loop {
            match self.dispatch().await {
                Ok(next_look) => {
                    backoff.reset();
                    let wait = next_look.unwrap_or(LOOK_AT_LEAST).min(LOOK_AT_LEAST);
                    // Whichever comes first, the queues are looked at.
                    let _woken = tokio::time::timeout(wait, self.look_again.notified()).await;
                }
                Err(fault) if fault.is_final() => return Err(fault),
                Err(fault) => {
                    tracing::warn!(%fault, "due deliveries could not be read");
                    backoff.wait().await;
                }
            }
        }
    }

    /// Starts everything that is due and has a slot; answers how long until the next may be.
    async fn dispatch(self: &Arc<Self>) -> Result<Option<Duration>, Error> {
        loop {
            let now = self.both_clocks();
            let turns = self.queues().take(now, BATCH);
            if turns.is_empty() {
                return Ok(self.queues().next_look(self.both_clocks()));
            }
            let mut slots: HashMap<Position, (Slot, Timestamp)> = turns
                .iter()
                .map(|turn| (turn.position, (Slot::of_turn(self, turn), turn.due_at)))
                .collect();
            let positions: Vec<Position> = slots.keys().copied().collect();
            let loaded = match self.outside.storage.load(LANE, positions).await {
                Ok(loaded) => loaded,
                Err(fault) => {
                    for (position, (slot, _)) in slots {
                        drop(slot);
                        self.put_back_soon(position);
                    }
                    return Err(fault);
                }
            };
            for mut stored in loaded {
                if let Some((slot, due_at)) = slots.remove(&stored.position) {
                    // The row may hold a due time of a clock that was ahead; the queue's is reined in.
                    stored.life.due_at = stored.life.due_at.map(|stored| stored.min(due_at));
                    let (position, number) = (stored.position, stored.life.started + 1);
                    let attempt = Arc::clone(self).count_and_send(slot, stored);
                    self.go(position, number, attempt);
                }
            }
        }
    }
}
