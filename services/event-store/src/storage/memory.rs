//! Everything under one mutex, gone with the process. For demos and tests; bounded, the oldest events leave first.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use async_trait::async_trait;
use jiff::Timestamp;
use runtime::clock::Clock;
use runtime::ids;
use schema::delivery::Outcome;
use schema::feed::Action;
use schema::intake::Resolution;
use schema::{CorrelationId, EventId};
use tokio::sync::watch;

use super::{FEED_BYTES, FeedSlice, Heads, Inserted, PAGE_BYTES, Status, Storage, stored_at};
use crate::domain::outcome::{self, Known, delivered_to};
use crate::domain::page::{FeedFiller, Filler, Page, Verdict};
use crate::domain::query::{EventsQuery, Facts, FeedQuery};
use crate::domain::record::{Draft, History, Notice, Record};
use crate::domain::retention::{self, Forgotten, Stay, may_leave};
use crate::domain::token::resume;
use crate::error::{Error, FeedError};
use crate::metrics::CommitMetrics;

/// The most that all events together may weigh, by [`Record::weight`].
const EVENTS_BYTES: usize = 256 << 20;
/// Ids are remembered for this many times the events, so that a late repetition is still known.
const IDS_PER_EVENT: usize = 10;
/// The most that remembered ids may take, by [`id_weight`]; those of events that are there stay all the same.
const IDS_BYTES: usize = 32 << 20;

pub struct Memory {
    run: String,
    most: Most,
    clock: Clock,
    metrics: CommitMetrics,
    heads: watch::Sender<Heads>,
    state: Mutex<State>,
}

/// What is kept at most.
struct Most {
    events: usize,
    events_bytes: usize,
    ids_bytes: usize,
}

#[derive(Default)]
struct State {
    head: u64,
    events_bytes: usize,
    ids_bytes: usize,
    last_stored_at: Timestamp,
    events: BTreeMap<u64, Entry>,
    notices: BTreeMap<u64, Entered>,
    /// Identity → position; outlives the event.
    ids: HashMap<EventId, u64>,
    /// The same in order of age, with the decision of then.
    remembered: BTreeMap<u64, (EventId, bool)>,
}

struct Entry {
    record: Record,
    /// Positions of its notices, the first one's is its own.
    notices: Vec<u64>,
    /// By revision and delivery id.
    outcomes: BTreeMap<(u32, String), Known>,
}

/// A notice without its event.
struct Entered {
    event_position: u64,
    revision: u32,
    action: Action,
    routed: bool,
    stored_at: Timestamp,
    correlation_id: CorrelationId,
}

impl Memory {
    /// Keeps at most `capacity` events, and 256 MiB of them.
    pub fn new(capacity: usize, clock: Clock, metrics: CommitMetrics) -> Self {
        Self {
            run: ids::time_ordered(clock.now()).simple().to_string(),
            most: Most {
                events: capacity,
                events_bytes: EVENTS_BYTES,
                ids_bytes: IDS_BYTES,
            },
            clock,
            metrics,
            heads: watch::Sender::new(Heads::default()),
            state: Mutex::default(),
        }
    }

    /// A panic between two updates cannot happen: nothing under the lock can panic.
    fn lock(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// Tells those who wait, in commit order: still under the lock.
    fn publish(&self, state: &State, rows: usize, routed: Option<u64>) {
        self.metrics.commits.inc();
        self.metrics
            .rows
            .inc_by(u64::try_from(rows).unwrap_or_default());
        self.metrics
            .head
            .set(i64::try_from(state.head).unwrap_or(i64::MAX));
        self.heads.send_if_modified(|heads| {
            let before = *heads;
            heads.all = state.head;
            heads.routed = routed.unwrap_or(heads.routed);
            before != *heads
        });
    }
}

#[async_trait]
impl Storage for Memory {
    async fn insert(&self, drafts: Arc<[Draft]>) -> Result<Vec<Inserted>, Error> {
        let now = self.clock.now();
        let mut state = self.lock();
        let results = drafts
            .iter()
            .map(|draft| state.insert(draft, now))
            .collect();
        state.evict(&self.most);
        self.metrics.compare_clock(now, state.last_stored_at);
        let routed = state
            .notices
            .iter()
            .rev()
            .take(drafts.len())
            .find(|(_, notice)| notice.routed)
            .map(|(position, _)| *position);
        self.publish(&state, drafts.len(), routed);
        Ok(results)
    }

    async fn resolve(&self, resolutions: Vec<Resolution>) -> Result<usize, Error> {
        let now = self.clock.now();
        let mut state = self.lock();
        let resolved = resolutions
            .iter()
            .filter(|resolution| state.resolve(resolution, now))
            .count();
        self.metrics.compare_clock(now, state.last_stored_at);
        self.publish(&state, resolved, None);
        Ok(resolved)
    }

    async fn record_outcomes(&self, outcomes: Vec<Outcome>) -> Result<usize, Error> {
        let mut state = self.lock();
        let unknown = outcomes
            .iter()
            .filter(|outcome| !state.learn(outcome))
            .count();
        self.publish(&state, outcomes.len(), None);
        Ok(unknown)
    }

    async fn events(&self, query: EventsQuery) -> Result<Page, Error> {
        let state = self.lock();
        let below = query.before.unwrap_or(u64::MAX);
        let mut filler = Filler::new(query.limit, PAGE_BYTES);
        for (position, entry) in state.events.range(..below).rev() {
            let record = &entry.record;
            if query.until.is_some_and(|until| record.stored_at >= until) {
                continue;
            }
            if query.since.is_some_and(|since| record.stored_at < since) {
                break;
            }
            match filler.offer(*position, query.filter.matches(&facts(record))) {
                Verdict::Skip => {}
                Verdict::Done => break,
                Verdict::Take if filler.take(entry.told()) => {}
                Verdict::Take => break,
            }
        }
        Ok(filler.finish())
    }

    async fn event(&self, event_id: EventId) -> Result<Option<History>, Error> {
        let state = self.lock();
        let entry = state
            .ids
            .get(&event_id)
            .and_then(|position| state.events.get(position));
        Ok(entry.map(|entry| History {
            record: entry.told(),
            deliveries: entry
                .outcomes
                .values()
                .map(|known| known.state.clone())
                .collect(),
        }))
    }

    async fn feed(&self, query: FeedQuery) -> Result<FeedSlice, FeedError> {
        let state = self.lock();
        let head = state.head;
        let from = match &query.after {
            None => 0,
            Some(token) => {
                let run_end = (token.run == self.run).then_some(head);
                let oldest = state.notices.keys().next().copied();
                resume(token.position, run_end, oldest.unwrap_or(head + 1))?
            }
        };
        let mut filler = FeedFiller::new(query.limit, FEED_BYTES);
        for (position, entered) in state.notices.range(from + 1..) {
            if query.routed_only && !entered.routed {
                continue;
            }
            let Some(entry) = state.events.get(&entered.event_position) else {
                continue;
            };
            if !filler.take(entered.told(*position, entry)) {
                break;
            }
        }
        Ok(FeedSlice::new(filler, &self.run, head))
    }

    fn heads(&self) -> watch::Receiver<Heads> {
        self.heads.subscribe()
    }

    async fn forget(&self, before: Timestamp, after: u64) -> Result<Forgotten, Error> {
        let mut state = self.lock();
        let head = state.head;
        let mut looked_at: Vec<(u64, bool)> = state
            .events
            .range(after + 1..)
            .take_while(|(_, entry)| entry.record.stored_at < before)
            .take(retention::SLICE)
            .map(|(position, entry)| (*position, may_leave(entry.stay(head))))
            .collect();
        let next = looked_at
            .get(retention::SLICE - 1)
            .map(|(position, _)| *position);
        let old_enough = looked_at.len();
        looked_at.retain(|(_, leaves)| *leaves);
        for (position, _) in &looked_at {
            state.remove(*position);
            state.forget_id(*position);
        }
        Ok(Forgotten {
            events: looked_at.len(),
            kept: old_enough - looked_at.len(),
            next,
        })
    }

    async fn status(&self) -> Result<Status, Error> {
        Ok(Status {
            backend: "memory",
            durable: false,
            head: self.lock().head,
            bytes: None,
            disk_reserve_reached: false,
            fault: None,
        })
    }

    async fn failed(&self) -> Error {
        std::future::pending().await
    }
}

impl State {
    fn insert(&mut self, draft: &Draft, now: Timestamp) -> Inserted {
        let event_id = &draft.event.event_id;
        if let Some(position) = self.ids.get(event_id) {
            let routed = self
                .remembered
                .get(position)
                .is_some_and(|(_, routed)| *routed);
            return Inserted::Known { routed };
        }
        self.last_stored_at = stored_at(now, self.last_stored_at);
        let position = self.enter(Entered {
            event_position: self.head + 1,
            revision: 0,
            action: draft.action(),
            routed: draft.routed,
            stored_at: self.last_stored_at,
            correlation_id: draft.correlation_id.clone(),
        });
        self.ids.insert(event_id.clone(), position);
        self.remembered
            .insert(position, (event_id.clone(), draft.routed));
        let record = Record::new(draft, position, self.last_stored_at);
        self.events_bytes += record.weight();
        self.ids_bytes += id_weight(event_id);
        self.events.insert(
            position,
            Entry {
                record,
                notices: vec![position],
                outcomes: BTreeMap::new(),
            },
        );
        Inserted::New {
            routed: draft.routed,
        }
    }

    /// Gives the notice the next position.
    fn enter(&mut self, notice: Entered) -> u64 {
        self.head += 1;
        self.notices.insert(self.head, notice);
        self.head
    }

    fn entry(&mut self, event_id: &EventId) -> Option<(u64, &mut Entry)> {
        let position = *self.ids.get(event_id)?;
        Some((position, self.events.get_mut(&position)?))
    }

    fn resolve(&mut self, resolution: &Resolution, now: Timestamp) -> bool {
        let next = self.head + 1;
        self.last_stored_at = stored_at(now, self.last_stored_at);
        let Some((event_position, entry)) = self
            .entry(&resolution.event_id)
            .filter(|(_, entry)| facts(&entry.record).open())
        else {
            return false;
        };
        entry.record.resolved_at = Some(resolution.resolved_at.to_string());
        entry.record.revision += 1;
        entry.notices.push(next);
        let revision = entry.record.revision;
        self.enter(Entered {
            event_position,
            revision,
            action: Action::Resolve,
            routed: false,
            stored_at: self.last_stored_at,
            correlation_id: resolution.correlation_id.clone(),
        });
        true
    }

    fn learn(&mut self, report: &Outcome) -> bool {
        let Some((_, entry)) = self.entry(&report.event_id) else {
            return false;
        };
        let key = (report.revision, report.state.delivery_id.clone());
        if let Some(known) = outcome::learn(entry.outcomes.get(&key), report) {
            entry.outcomes.insert(key, known);
        }
        true
    }

    fn evict(&mut self, most: &Most) {
        while self.events.len() > most.events || self.events_bytes > most.events_bytes {
            let Some(oldest) = self.events.keys().next().copied() else {
                break;
            };
            self.remove(oldest);
        }
        while self.remembered.len() > most.events.saturating_mul(IDS_PER_EVENT)
            || self.ids_bytes > most.ids_bytes
        {
            let oldest = self.remembered.keys().next().copied();
            let Some(gone) = oldest.filter(|oldest| !self.events.contains_key(oldest)) else {
                break;
            };
            self.forget_id(gone);
        }
    }

    fn forget_id(&mut self, position: u64) {
        if let Some((event_id, _)) = self.remembered.remove(&position) {
            self.ids_bytes -= id_weight(&event_id);
            self.ids.remove(&event_id);
        }
    }

    /// The event leaves with its notices; its id stays known.
    fn remove(&mut self, position: u64) {
        if let Some(entry) = self.events.remove(&position) {
            self.events_bytes -= entry.record.weight();
            for notice in entry.notices {
                self.notices.remove(&notice);
            }
        }
    }
}

impl Entry {
    fn delivered_to(&self) -> Vec<String> {
        let delivered = self.outcomes.values().filter(|known| known.delivered);
        delivered_to(delivered.map(|known| known.state.destination.clone()))
    }

    /// The event as it is told now.
    fn told(&self) -> Record {
        Record {
            delivered_to: self.delivered_to(),
            ..self.record.clone()
        }
    }

    fn stay(&self, head: u64) -> Stay {
        Stay {
            open: facts(&self.record).open(),
            routed: self.record.routed,
            settled: self
                .outcomes
                .values()
                .any(|known| outcome::settled(known.state.status)),
            holds_head: self.notices.contains(&head),
        }
    }
}

impl Entered {
    fn told(&self, position: u64, entry: &Entry) -> Notice {
        Notice {
            position,
            revision: self.revision,
            action: self.action,
            stored_at: self.stored_at,
            correlation_id: self.correlation_id.to_string(),
            record: entry.told(),
        }
    }
}

/// About what a remembered id takes, in bytes: it is held twice, in a table and in a tree.
fn id_weight(event_id: &EventId) -> usize {
    const NODES: usize = 128;
    2 * event_id.as_str().len() + NODES
}

fn facts(record: &Record) -> Facts<'_> {
    Facts {
        source: &record.source,
        kind: record.kind,
        severity: record.severity,
        resolved: record.resolved_at.is_some(),
        event_id: &record.event_id,
        service: &record.service,
        summary: &record.summary,
        description: record.description.as_deref(),
    }
}

#[cfg(test)]
mod tests {
    use super::super::conformance::{after, ids, metrics, newest, noticed, payment};
    use super::*;

    fn store(capacity: usize) -> Memory {
        Memory::new(capacity, Clock::system(), metrics())
    }

    async fn insert(store: &Memory, number: u32) -> Inserted {
        let draft = payment(&format!("evt_{number}"));
        store.insert(vec![draft].into()).await.unwrap()[0]
    }

    #[tokio::test]
    async fn the_oldest_events_leave_with_their_notices_and_their_ids_are_remembered() {
        let store = store(2);
        for number in 0..4 {
            insert(&store, number).await;
        }

        let page = store.events(newest(50)).await.unwrap();
        assert_eq!(ids(&page.records), ["evt_3", "evt_2"]);
        let slice = store.feed(after(None)).await.unwrap();
        assert_eq!(noticed(&slice), ["store evt_2", "store evt_3"]);
        assert_eq!(insert(&store, 0).await, Inserted::Known { routed: false });
    }

    #[tokio::test]
    async fn ids_are_remembered_for_ten_times_the_events_and_no_longer() {
        let store = store(2);
        for number in 0..21 {
            insert(&store, number).await;
        }

        assert_eq!(insert(&store, 1).await, Inserted::Known { routed: false });
        assert_eq!(insert(&store, 0).await, Inserted::New { routed: false });
        assert_eq!(store.lock().ids.len(), 20);
    }

    #[tokio::test]
    async fn the_oldest_events_leave_when_all_weigh_too_much() {
        let mut store = store(100);
        let one = Record::new(&payment("evt_0"), 1, Timestamp::UNIX_EPOCH).weight();
        store.most.events_bytes = 3 * one;
        for number in 0..5 {
            insert(&store, number).await;
        }

        let page = store.events(newest(50)).await.unwrap();
        assert_eq!(ids(&page.records), ["evt_4", "evt_3", "evt_2"]);
        assert_eq!(store.lock().events_bytes, 3 * one);
    }

    #[tokio::test]
    async fn remembered_ids_are_bounded_in_bytes_but_those_of_kept_events_stay() {
        let mut store = store(4);
        store.most.ids_bytes = 6 * id_weight(&payment("evt_0").event.event_id);
        for number in 0..9 {
            insert(&store, number).await;
        }
        assert_eq!(insert(&store, 3).await, Inserted::Known { routed: false });
        assert_eq!(store.lock().ids.len(), 6);

        store.most.ids_bytes = 0;
        insert(&store, 9).await;

        assert_eq!(store.lock().ids.len(), 4);
        assert_eq!(insert(&store, 6).await, Inserted::Known { routed: false });
    }

    #[tokio::test]
    async fn a_reader_of_a_store_that_was_restarted_diverges() {
        let before = store(9);
        insert(&before, 1).await;
        let token = before.feed(after(None)).await.unwrap().next;
        let restarted = store(9);
        insert(&restarted, 1).await;

        let refused = restarted.feed(after(Some(token))).await;

        assert_eq!(refused.unwrap_err(), FeedError::Diverged);
    }
}
