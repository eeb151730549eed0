//! A slot of an endpoint, which covers the socket and not the commits around it.

use std::sync::Arc;

use schema::CorrelationId;

use super::Worker;
use crate::domain::endpoint::Endpoint;
use crate::domain::ids::Position;
use crate::domain::queues::{Expected, Feedback, Item, Permit, Turn};

/// Given back when dropped, as if nothing had been sent.
pub(super) struct Slot {
    worker: Arc<Worker>,
    permit: Option<Permit>,
}

impl Slot {
    /// Takes over the slot that [`Queues::take`](crate::domain::queues::Queues::take) took.
    pub(super) fn of_turn(worker: &Arc<Worker>, turn: &Turn) -> Self {
        Self {
            worker: Arc::clone(worker),
            permit: Some(turn.permit),
        }
    }

    /// Takes a free one for a delivery that is not queued.
    pub(super) fn reserve(worker: &Arc<Worker>, endpoint: Position, line: u64) -> Option<Self> {
        let now = worker.both_clocks();
        let permit = worker.queues().reserve(endpoint, Some(line), now)?;
        Some(Self {
            worker: Arc::clone(worker),
            permit: Some(permit),
        })
    }

    /// The delivery that it was reserved for is committed at this position.
    pub(super) fn settle(&self, position: Position) {
        if let Some(permit) = &self.permit {
            let now = self.worker.both_clocks();
            self.worker.queues().settle(permit, position, now);
        }
    }

    pub(super) fn is_alone(&self) -> bool {
        self.permit.is_some_and(|permit| permit.alone)
    }

    /// The answer has come, or the deadline.
    pub(super) fn answered(mut self, answer: Option<Feedback>, correlation_id: &CorrelationId) {
        self.release(answer, Some(correlation_id));
    }

    /// The delivery that it was reserved for never came to be.
    pub(super) fn unreserve(mut self) {
        if let Some(permit) = self.permit.take() {
            let now = self.worker.both_clocks();
            if self.worker.queues().unreserve(&permit, now) {
                self.worker.look_again.notify_one();
            }
        }
    }

    /// The id is of the delivery that was answered.
    fn release(&mut self, answer: Option<Feedback>, correlation_id: Option<&CorrelationId>) {
        let Some(permit) = self.permit.take() else {
            return;
        };
        let (now, jitter) = (self.worker.both_clocks(), self.worker.outside.chance.part());
        let mut queues = self.worker.queues();
        let before = queues.breaker(permit.endpoint);
        let look_again = queues.release(&permit, answer, now, jitter);
        let after = queues.breaker(permit.endpoint);
        drop(queues);
        if before != after {
            self.tell_breaker(permit.endpoint, after, correlation_id);
        }
        if look_again {
            self.worker.look_again.notify_one();
        }
    }

    fn tell_breaker(
        &self,
        endpoint: Position,
        breaker: &str,
        correlation_id: Option<&CorrelationId>,
    ) {
        let Some(live) = self.worker.registry.by_position(endpoint) else {
            return;
        };
        let correlation_id = correlation_id.map(CorrelationId::as_str);
        let Endpoint {
            client_id,
            endpoint_id,
            ..
        } = &*live.endpoint;
        let client_id = &**client_id;
        match breaker {
            "open" => tracing::warn!(
                correlation_id, client_id, %endpoint_id, "breaker opened, deliveries are held",
            ),
            "closed" => {
                tracing::info!(correlation_id, client_id, %endpoint_id, "breaker closed");
            }
            _ => {}
        }
    }
}

impl Drop for Slot {
    fn drop(&mut self) {
        self.release(None, None);
    }
}

/// A place in a strict line for a delivery that is being committed and will wait there. Given up when dropped.
pub(super) struct Place {
    worker: Arc<Worker>,
    expected: Option<Expected>,
}

impl Place {
    pub(super) fn expect(worker: &Arc<Worker>, endpoint: Position, line: u64) -> Self {
        let now = worker.both_clocks();
        Self {
            worker: Arc::clone(worker),
            expected: Some(worker.queues().expect(endpoint, line, now)),
        }
    }

    /// It waits there from now on.
    pub(super) fn take(mut self, item: Item) {
        if let Some(expected) = self.expected.take() {
            let now = self.worker.both_clocks();
            self.worker.queues().insert_expected(expected, item, now);
            self.worker.look_again.notify_one();
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(expected) = self.expected.take() {
            let now = self.worker.both_clocks();
            self.worker.queues().unexpect(expected, now);
            self.worker.look_again.notify_one();
        }
    }
}
