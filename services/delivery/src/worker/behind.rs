//! Strict order: the start of the one behind is counted in the commit that ends the one ahead. A crash leaves both or
//! neither, and a line costs one commit a delivery, not two.

use std::sync::Arc;

use super::Worker;
use super::registry::Live;
use super::slot::Slot;
use crate::domain::ids::Position;
use crate::domain::queues::Turn;
use crate::domain::transition::{Effect, Input, Life};
use crate::storage::{Change, Stored};

/// One that was taken out of its line for that, with a slot. It is put back when dropped.
pub(super) struct Behind {
    worker: Arc<Worker>,
    live: Arc<Live>,
    turn: Turn,
    slot: Option<Slot>,
    /// As it was read.
    stored: Stored,
    /// With its attempt started.
    life: Life,
}

impl Worker {
    /// Takes the one behind, if it could be sent at once.
    pub(super) async fn take_behind(self: &Arc<Self>, ahead: &Stored) -> Option<Behind> {
        let live = self.registry.by_position(ahead.endpoint)?;
        let (endpoint, line, now) = (ahead.endpoint, ahead.line, self.both_clocks());
        let taken = self
            .queues()
            .take_behind(endpoint, line, ahead.position, now);
        let turn = taken?;
        let slot = Slot::of_turn(self, &turn);
        // Not there: a job has removed it, or the process stops.
        let mut stored = self.reload(turn.position).await?;
        // As where it is taken by turns: the schedule's due time counts.
        stored.life.due_at = stored.life.due_at.map(|due_at| due_at.min(turn.due_at));
        let input = Input::Start {
            epoch: self.epoch,
            alone: false,
        };
        let (life, effects) = self.decide(&stored, input, &live);
        let behind = Behind {
            worker: Arc::clone(self),
            live,
            turn,
            slot: Some(slot),
            stored,
            life,
        };
        if matches!(effects[..], [Effect::Send { .. }]) {
            return Some(behind);
        }
        behind.give_back().await;
        None
    }
}

impl Behind {
    /// What counts its attempt.
    pub(super) fn count(&self) -> Change {
        Change {
            fence: Some(self.worker.epoch),
            ..self.worker.change(&self.stored, self.life.clone())
        }
    }

    /// Sends it, now that its count and the end of the one ahead are durable.
    pub(super) fn go(mut self, ahead: Position) {
        let Some(slot) = self.slot.take() else { return };
        let (worker, now) = (&self.worker, self.worker.both_clocks());
        worker.queues().hand_over(&self.turn, ahead, now);
        let stored = Stored {
            life: self.life.clone(),
            ..self.stored.clone()
        };
        let attempt = Arc::clone(worker).send_and_record(Arc::clone(&self.live), slot, stored);
        worker.go(self.turn.position, self.life.started, attempt);
    }

    /// It was not counted: it is as the store says, which somebody may have changed.
    pub(super) async fn give_back(mut self) {
        drop(self.slot.take());
        if let Some(stored) = self.worker.reload(self.turn.position).await {
            self.worker.follow(&self.live, &stored);
        }
    }
}

impl Drop for Behind {
    fn drop(&mut self) {
        if self.slot.take().is_some() {
            self.worker.put_back_soon(self.turn.position);
        }
    }
}
