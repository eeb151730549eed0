//! `memory:`: everything is gone with the process. Bounded: the oldest ended deliveries leave first.

use std::collections::{BTreeMap, BTreeSet, HashMap, VecDeque};
use std::convert::Infallible;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use schema::EventId;
use schema::delivery::{DeliveryState, Outcome};

use super::{
    Attempt, Condition, Epoch, Filler, Filter, Finish, Intake, NewDelivery, Page, RETIRE_SLICE,
    Retired, SLICE, Start, Storage, Stored, Summary, Waiting, next_epoch,
};
use crate::domain::delivery::{DeliveryId, Lane, Position};
use crate::error::Error;

/// Ended deliveries that are kept.
const ENDED_MAX: usize = 10_000;
/// Ids that are kept of those that left for others: a feed that is read again must not page them again.
const EVICTED_MAX: usize = 10 * ENDED_MAX;

/// What makes a feed that is read again harmless.
type Key = (EventId, u32, Arc<str>);

#[derive(Default)]
pub struct Memory {
    lanes: Mutex<HashMap<Lane, Rows>>,
}

#[derive(Default)]
struct Rows {
    epoch: Epoch,
    head: Position,
    cursor: Option<String>,
    reported: Position,
    deliveries: BTreeMap<Position, Row>,
    ids: HashMap<DeliveryId, Position>,
    known: BTreeMap<Key, Position>,
    evicted: VecDeque<Key>,
    open: BTreeSet<Position>,
    ended: BTreeSet<Position>,
    outcomes: BTreeMap<Position, Outcome>,
}

struct Row {
    stored: Stored,
    attempts: Vec<Attempt>,
    ended_at: Option<Timestamp>,
    last_outcome: Position,
}

impl Row {
    fn summary(&self) -> Summary {
        let Stored { event, .. } = &self.stored;
        Summary {
            position: self.stored.position,
            delivery_id: self.stored.delivery_id,
            endpoint_id: Arc::clone(&self.stored.endpoint_id),
            life: self.stored.life.clone(),
            created_at: self.stored.created_at,
            event_id: event.event_id.clone(),
            revision: event.revision,
            correlation_id: event.correlation_id.clone(),
        }
    }
}

impl Memory {
    /// Nothing under the lock can panic between two updates.
    fn lock(&self) -> MutexGuard<'_, HashMap<Lane, Rows>> {
        self.lanes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    fn on<T>(&self, lane: Lane, act: impl FnOnce(&mut Rows) -> T) -> T {
        act(self.lock().entry(lane).or_default())
    }
}

impl Rows {
    fn fence(&self, ours: Epoch) -> Result<(), Error> {
        if self.epoch == ours {
            Ok(())
        } else {
            Err(Error::Fenced {
                ours,
                holder: self.epoch,
            })
        }
    }

    fn advance(&mut self) -> Position {
        self.head += 1;
        self.head
    }

    fn insert(&mut self, new: NewDelivery, epoch: Epoch, now: Timestamp) -> Option<Position> {
        let key = (
            new.event.event_id.clone(),
            new.event.revision,
            Arc::clone(&new.endpoint_id),
        );
        if let Some(position) = self.known.get(&key).copied() {
            if new.untold {
                self.report_again(position, epoch, now);
            }
            return None;
        }
        let position = self.advance();
        self.known.insert(key, position);
        self.ids.insert(new.delivery_id, position);
        let ended_at = new.life.state.is_terminal().then_some(now);
        if ended_at.is_none() {
            self.open.insert(position);
        } else {
            self.ended.insert(position);
        }
        let attempts = new.life.open.map(|open| Attempt {
            number: new.life.started,
            epoch: open.epoch,
            started_at: now,
            ended: None,
            next_attempt_at: None,
        });
        let stored = Stored {
            position,
            delivery_id: new.delivery_id,
            endpoint_id: new.endpoint_id,
            life: new.life,
            created_at: now,
            event: new.event,
        };
        let row = Row {
            stored,
            attempts: attempts.into_iter().collect(),
            ended_at,
            last_outcome: 0,
        };
        self.deliveries.insert(position, row);
        if new.untold && ended_at.is_some() {
            self.report(position, epoch, None, now);
        }
        Some(position)
    }

    fn report_again(&mut self, delivery: Position, epoch: Epoch, now: Timestamp) {
        let Some(row) = self.deliveries.get(&delivery) else {
            return;
        };
        if row.stored.life.finished > 0 || row.ended_at.is_some() {
            let at = row.ended_at.unwrap_or(now);
            self.report(delivery, epoch, None, at);
        }
    }

    fn report(&mut self, delivery: Position, epoch: Epoch, error: Option<String>, at: Timestamp) {
        let position = self.advance();
        let Some(row) = self.deliveries.get_mut(&delivery) else {
            return;
        };
        row.last_outcome = position;
        let stored = &row.stored;
        let state = DeliveryState {
            destination: stored.endpoint_id.to_string(),
            delivery_id: stored.delivery_id.to_string(),
            status: stored.life.state.status(),
            attempts: stored.life.finished,
            reason: stored.life.state.reason().map(str::to_owned).or(error),
            at,
        };
        let outcome = Outcome {
            epoch,
            position,
            event_id: stored.event.event_id.clone(),
            revision: stored.event.revision,
            correlation_id: stored.event.correlation_id.clone(),
            state,
        };
        self.outcomes.insert(position, outcome);
    }

    fn start(&mut self, start: Start) -> Result<(), Error> {
        let open = start.life.open.ok_or(Error::Stale)?;
        self.fence(open.epoch)?;
        let row = self
            .deliveries
            .get_mut(&start.position)
            .ok_or(Error::Stale)?;
        let before = &row.stored.life;
        if before.open.is_some()
            || before.state.is_terminal()
            || before.started + 1 != start.life.started
        {
            return Err(Error::Stale);
        }
        row.attempts.push(Attempt {
            number: start.life.started,
            epoch: open.epoch,
            started_at: start.now,
            ended: None,
            next_attempt_at: None,
        });
        row.stored.life = start.life;
        Ok(())
    }

    fn finish(&mut self, finish: Finish) -> Result<(), Error> {
        let row = self
            .deliveries
            .get_mut(&finish.position)
            .ok_or(Error::Stale)?;
        let before = &row.stored.life;
        if before.started != finish.life.started
            || before.open.map(|open| open.epoch) != Some(finish.attempt_epoch)
        {
            return Err(Error::Stale);
        }
        let error = finish.ended.error.clone();
        if let Some(attempt) = row.attempts.last_mut() {
            attempt.ended = Some(finish.ended);
            attempt.next_attempt_at = finish.life.due_at;
        }
        if finish.life.state.is_terminal() {
            row.ended_at = Some(finish.now);
            self.open.remove(&finish.position);
            self.ended.insert(finish.position);
        }
        row.stored.life = finish.life;
        if finish.report {
            self.report(finish.position, finish.epoch, error, finish.now);
        }
        self.evict();
        Ok(())
    }

    fn evict(&mut self) {
        while self.ended.len() > ENDED_MAX {
            let Some(oldest) = self.ended.pop_first() else {
                return;
            };
            let key = self.remove(oldest);
            self.evicted.extend(key);
        }
        while self.evicted.len() > EVICTED_MAX {
            if let Some(key) = self.evicted.pop_front() {
                self.known.remove(&key);
            }
        }
    }

    /// Removes a delivery; its key stays known.
    fn remove(&mut self, position: Position) -> Option<Key> {
        self.ended.remove(&position);
        let Row { stored, .. } = self.deliveries.remove(&position)?;
        self.ids.remove(&stored.delivery_id);
        let event = stored.event;
        Some((event.event_id, event.revision, stored.endpoint_id))
    }

    fn retire(&mut self, after: Position, before: Timestamp) -> Retired {
        let (mut old, mut next) = (Vec::new(), None);
        for (position, row) in self.deliveries.range(after + 1..).take(RETIRE_SLICE) {
            if row.stored.created_at >= before {
                next = None;
                break;
            }
            next = Some(*position);
            if row.ended_at.is_some_and(|ended| ended < before) && row.last_outcome <= self.reported
            {
                old.push(*position);
            }
        }
        for position in &old {
            if let Some(key) = self.remove(*position) {
                self.known.remove(&key);
            }
        }
        Retired {
            removed: old.len(),
            next,
        }
    }
}

#[async_trait]
impl Storage for Memory {
    async fn take_lane(&self, lane: Lane, _owner: &str, now: Timestamp) -> Result<Epoch, Error> {
        Ok(self.on(lane, |rows| {
            rows.epoch = next_epoch(rows.epoch, now);
            rows.epoch
        }))
    }

    async fn cursor(&self, lane: Lane) -> Result<Option<String>, Error> {
        Ok(self.on(lane, |rows| rows.cursor.clone()))
    }

    async fn intake(&self, intake: Intake) -> Result<Vec<Option<Position>>, Error> {
        self.on(intake.lane, |rows| {
            rows.fence(intake.epoch)?;
            rows.cursor = Some(intake.cursor);
            let inserted = intake
                .deliveries
                .into_iter()
                .map(|new| rows.insert(new, intake.epoch, intake.now))
                .collect();
            rows.evict();
            Ok(inserted)
        })
    }

    async fn start(&self, start: Start) -> Result<(), Error> {
        self.on(start.lane, |rows| rows.start(start))
    }

    async fn finish(&self, finish: Finish) -> Result<(), Error> {
        self.on(finish.lane, |rows| rows.finish(finish))
    }

    async fn waiting(
        &self,
        lane: Lane,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Waiting>, Error> {
        Ok(self.on(lane, |rows| {
            let open = rows.open.range(after + 1..).take(limit);
            open.filter_map(|position| {
                let stored = &rows.deliveries.get(position)?.stored;
                Some(Waiting {
                    position: *position,
                    endpoint_id: Arc::clone(&stored.endpoint_id),
                    due_at: stored.life.due_at?,
                    suspect: stored.life.is_suspect(),
                    attempt_open: stored.life.open.is_some(),
                })
            })
            .collect()
        }))
    }

    async fn load(&self, lane: Lane, positions: Vec<Position>) -> Result<Vec<Stored>, Error> {
        Ok(self.on(lane, |rows| {
            let found = positions
                .iter()
                .filter_map(|position| rows.deliveries.get(position));
            found.map(|row| row.stored.clone()).collect()
        }))
    }

    async fn unreported(&self, lane: Lane) -> Result<Vec<Outcome>, Error> {
        Ok(self.on(lane, |rows| {
            rows.outcomes.values().take(SLICE).cloned().collect()
        }))
    }

    async fn reported(&self, lane: Lane, upto: Position) -> Result<(), Error> {
        self.on(lane, |rows| {
            rows.outcomes = rows.outcomes.split_off(&(upto + 1));
            rows.reported = rows.reported.max(upto);
        });
        Ok(())
    }

    async fn retire(
        &self,
        lane: Lane,
        after: Position,
        before: Timestamp,
    ) -> Result<Retired, Error> {
        Ok(self.on(lane, |rows| rows.retire(after, before)))
    }

    async fn deliveries(&self, lane: Lane, filter: Filter) -> Result<Page, Error> {
        let before = filter.before.unwrap_or(Position::MAX);
        let wanted = |stored: &Stored| {
            filter
                .status
                .is_none_or(|status| status == stored.life.state.status())
                && filter
                    .event_id
                    .as_deref()
                    .is_none_or(|id| id == stored.event.event_id.as_str())
        };
        Ok(self.on(lane, |rows| {
            let mut filler = Filler::new(filter.limit);
            for (position, row) in rows.deliveries.range(..before).rev() {
                let summary = || Ok::<_, Infallible>(row.summary());
                let Ok(offered) = filler.offer(*position, wanted(&row.stored), summary);
                if offered.is_break() {
                    break;
                }
            }
            filler.page
        }))
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<(Summary, Vec<Attempt>)>, Error> {
        Ok(self.on(id.lane, |rows| {
            let row = rows.deliveries.get(rows.ids.get(&id)?)?;
            Some((row.summary(), row.attempts.clone()))
        }))
    }

    fn condition(&self) -> Condition {
        Condition {
            backend: "memory",
            durable: false,
            fault: None,
            disk_reserve_reached: false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::super::LANE;
    use super::super::conformance::{page, pending};
    use super::*;
    use crate::domain::transition::{Life, SkipReason};

    fn ended(event_ids: impl Iterator<Item = usize>) -> Vec<NewDelivery> {
        let ended = |n| NewDelivery {
            life: Life::skipped(SkipReason::TooOld),
            ..pending(&format!("evt_{n}"))
        };
        event_ids.map(ended).collect()
    }

    #[tokio::test]
    async fn what_was_evicted_is_still_known_when_the_feed_is_read_again() {
        let storage = Memory::default();
        let now = Timestamp::UNIX_EPOCH;
        let epoch = storage.take_lane(LANE, "test", now).await.unwrap();
        let many = page(epoch, ended(0..ENDED_MAX + 10));
        storage.intake(many).await.unwrap();
        assert_eq!(storage.on(LANE, |rows| rows.deliveries.len()), ENDED_MAX);

        let again = storage.intake(page(epoch, vec![pending("evt_0")])).await;
        assert_eq!(again, Ok(vec![None]));

        let more = page(epoch, ended(ENDED_MAX + 10..EVICTED_MAX + ENDED_MAX + 11));
        storage.intake(more).await.unwrap();
        let kept = storage.on(LANE, |rows| (rows.known.len(), rows.evicted.len()));
        assert_eq!(kept, (ENDED_MAX + EVICTED_MAX, EVICTED_MAX));
    }
}
