//! What a new owner finds: everything open is scheduled again, and attempts whose owner died are put on record.

use std::sync::Arc;
use std::time::Duration;

use futures_util::future::try_join_all;

use super::Worker;
use super::attempt::ended_of;
use super::backoff::{Backoff, PROMPT};
use super::registry::Live;
use crate::domain::ids::Position;
use crate::domain::queues::{Class, Item, Place};
use crate::domain::transition::{Effect, Input};
use crate::error::Error;
use crate::storage::{LANE, Stored, Waiting};

const PAGE: usize = 4_096;
/// So that what always fails at once does not fail in a tight loop.
const PUT_BACK_AFTER: Duration = Duration::from_secs(1);

/// No attempt has this number.
const NOT_COUNTED: u32 = 0;

/// What a new owner finds.
#[derive(Default)]
struct Found {
    open: usize,
    /// Attempts whose owner died.
    left_open: Vec<Position>,
}

impl Worker {
    pub(super) async fn recover_open(self: &Arc<Self>) -> Result<(), Error> {
        let storage = &self.outside.storage;
        let mut found = Found::default();
        let mut page = storage.waiting(LANE, 0, PAGE).await?;
        while let Some(last) = page.last() {
            let after = last.position;
            // The next page is read meanwhile: with a large backlog this is most of a start.
            let (next, ()) = tokio::join!(storage.waiting(LANE, after, PAGE), async {
                self.take_over_page(page, &mut found);
            });
            page = next?;
        }
        self.restore_blocks().await?;
        self.queues().presume_well(self.both_clocks());
        let interrupted = found.left_open.len();
        // Last, so that what this says to clients is not met on the way.
        for positions in found.left_open.chunks(PAGE) {
            self.interrupt(positions.to_vec()).await?;
        }
        tracing::info!(
            epoch = self.epoch,
            open = found.open,
            interrupted,
            "took over what is open"
        );
        Ok(())
    }

    fn take_over_page(&self, page: Vec<Waiting>, found: &mut Found) {
        found.open += page.len();
        for waiting in page {
            if waiting.attempt_open {
                found.left_open.push(waiting.position);
                continue;
            }
            self.schedule(&waiting);
        }
    }

    /// What is open for a removed endpoint is left to the job that ends it.
    fn schedule(&self, waiting: &Waiting) {
        let item = Item {
            position: waiting.position,
            due_at: waiting.due_at,
            class: if waiting.begun {
                Class::Retry
            } else {
                Class::First
            },
            kind: waiting.kind,
            suspect: waiting.suspect,
            place: Some(Place {
                line: waiting.line,
                order_at: waiting.order_at,
                started: waiting.begun,
            }),
        };
        let now = self.both_clocks();
        self.queues().insert(waiting.endpoint, item, now);
    }

    /// Lines that stopped at an exhausted delivery stay stopped.
    async fn restore_blocks(&self) -> Result<(), Error> {
        for blocking in self.outside.storage.blocking(LANE).await? {
            let live = self.registry.by_position(blocking.endpoint);
            if live.is_some_and(|live| live.blocks()) {
                let now = self.both_clocks();
                let (endpoint, line) = (blocking.endpoint, blocking.line);
                self.queues()
                    .end(endpoint, line, blocking.position, true, now);
            }
        }
        Ok(())
    }

    /// Queues a delivery again by what the store says of it; its attempt of this number ended without a result, or the store
    /// refused it.
    pub(super) async fn put_back(self: &Arc<Self>, position: Position, number: u32) {
        self.outside.vitals.put_back.inc();
        let known = self.outside.storage.load(LANE, vec![position]).await;
        let known = known.ok().and_then(|mut loaded| loaded.pop());
        let known = known.as_ref();
        tracing::error!(
            position,
            correlation_id = known.map(|stored| display(&stored.event.correlation_id)),
            event_id = known.map(|stored| display(&stored.event.event_id)),
            delivery_id = known.map(|stored| display(&stored.delivery_id)),
            "an attempt left its delivery astray, it is put back"
        );
        let mut backoff = Backoff::up_to(PROMPT);
        // What is astray at a stop is found at the next start.
        while !self.attempts.is_closed() {
            tokio::time::sleep(PUT_BACK_AFTER).await;
            match self.resume(position, number).await {
                Ok(()) => return,
                Err(fault) if fault.is_final() => {
                    self.note_fault(&fault);
                    return;
                }
                Err(_) => backoff.wait().await,
            }
        }
    }

    /// As [`put_back`](Self::put_back), of one whose attempt was not counted, beside what the caller does.
    pub(super) fn put_back_soon(self: &Arc<Self>, position: Position) {
        let worker = Arc::clone(self);
        self.attempts
            .spawn(async move { worker.put_back(position, NOT_COUNTED).await });
    }

    async fn resume(self: &Arc<Self>, position: Position, number: u32) -> Result<(), Error> {
        for stored in self.outside.storage.load(LANE, vec![position]).await? {
            if stored.life.open.is_some() && stored.life.started == number {
                self.interrupt_one(stored).await?;
            } else if let Some(live) = self.registry.by_position(stored.endpoint) {
                self.follow(&live, &stored);
            }
        }
        Ok(())
    }

    /// The queues learn where a delivery stands that they do not have. One that is on its way is somebody's.
    pub(super) fn follow(&self, live: &Live, stored: &Stored) {
        if stored.life.open.is_none() && stored.life.due_at.is_some() {
            self.queue_again(live, stored);
        }
        self.end_line(live, stored);
    }

    async fn interrupt(self: &Arc<Self>, positions: Vec<Position>) -> Result<(), Error> {
        let loaded = self.outside.storage.load(LANE, positions).await?;
        // Together, so that they share commits.
        let recorded = loaded.into_iter().map(|stored| self.interrupt_one(stored));
        try_join_all(recorded).await.map(drop)
    }

    async fn interrupt_one(self: &Arc<Self>, stored: Stored) -> Result<(), Error> {
        let (Some(open), Some(live)) =
            (stored.life.open, self.registry.by_position(stored.endpoint))
        else {
            return Ok(());
        };
        let input = Input::Interrupt { epoch: self.epoch };
        let (life, effects) = self.decide(&stored, input, &live);
        if let [Effect::Refuse(_)] = effects[..] {
            // It belongs to a later owner: our next write is fenced.
            return Ok(());
        }
        let ended = ended_of(stored.life.started, open, None, &life);
        let attempt = life.started;
        self.try_conclude(&live, &stored, life, effects, Some(ended))
            .await?;
        self.outside.vitals.interrupted.inc();
        tracing::warn!(
            correlation_id = %stored.event.correlation_id, event_id = %stored.event.event_id,
            delivery_id = %stored.delivery_id, attempt, "attempt was interrupted",
        );
        Ok(())
    }
}
