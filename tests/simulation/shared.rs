//! What all parts of a run share: the store, the clocks, chance, the destinations, and the observer.

use std::collections::VecDeque;
use std::rc::Rc;

use delivery::domain::now::Now;
use delivery::domain::transition::{
    Effect, ExhaustReason, Input, Life, SkipReason, State, transition,
};
use rand::rngs::StdRng;

use super::bugs::Bug;
use super::destination::Mood;
use super::invariants::Ledger;
use super::model::{Change, Commit, Endpoint, Event, Position, Row, Store, Write};

/// Lines of a timeline that are shown.
const TIMELINE: usize = 40;

pub(crate) struct Shared {
    pub(crate) store: Store,
    pub(crate) ledger: Ledger,
    pub(crate) endpoints: Rc<[Endpoint]>,
    pub(crate) moods: Vec<Mood>,
    pub(crate) rng: StdRng,
    pub(crate) now: Now,
    pub(crate) bug: Option<Bug>,
    /// Kept only when a run that failed is repeated.
    pub(crate) timeline: Option<VecDeque<String>>,
}

/// What the production code said, and whether the store took it.
pub(crate) struct Decided {
    pub(crate) row: Row,
    pub(crate) effects: Vec<Effect>,
    pub(crate) commit: Option<Commit>,
}

impl Decided {
    pub(crate) fn sends(&self) -> bool {
        let mut effects = self.effects.iter();
        effects.any(|effect| matches!(effect, Effect::Send { .. }))
    }

    pub(crate) fn disables(&self) -> bool {
        let mut effects = self.effects.iter();
        effects.any(|effect| matches!(effect, Effect::Disable(_)))
    }

    fn is_refused(&self) -> bool {
        let mut effects = self.effects.iter();
        effects.any(|effect| matches!(effect, Effect::Refuse(_)))
    }

    /// As it is offered to the store.
    pub(crate) fn change(&self, fence: Option<u64>) -> Change {
        Change {
            from: self.row.life.version - 1,
            row: self.row.clone(),
            fence,
            disable: self.disables(),
            next: None,
        }
    }
}

impl Shared {
    pub(crate) fn note(&mut self, what: impl FnOnce() -> String) {
        if let Some(timeline) = &mut self.timeline {
            if timeline.len() == TIMELINE {
                timeline.pop_front();
            }
            timeline.push_back(what());
        }
    }

    /// Asks the production code what becomes of a delivery as it was seen, and offers that to the store.
    pub(crate) fn decide(&mut self, row: &Row, input: Input, fence: Option<u64>) -> Decided {
        let mut decided = self.ask(row, input);
        if !decided.is_refused() {
            decided.commit = self.offer(decided.change(fence));
        }
        decided
    }

    /// As [`decide`](Self::decide); nothing is offered yet.
    pub(crate) fn ask(&mut self, row: &Row, input: Input) -> Decided {
        let endpoint = &self.endpoints[row.endpoint];
        let is_wish = matches!(input, Input::Retry { .. } | Input::Stop(_));
        let is_planted = self.bug == Some(Bug::RedeliversDelivered) && !is_wish;
        let again = is_planted && row.life.state == State::Delivered;
        let mut from = row.life.clone();
        if again {
            (from.state, from.due_at) = (State::Pending, Some(self.now.wall));
        }
        let (mut life, effects) =
            transition(&from, input, &endpoint.policy, self.now.wall, &mut self.rng);
        if again {
            life.state = State::Delivered;
        }
        let row = Row {
            blocks: endpoint.strict && endpoint.blocks && has_failed(life.state),
            life,
            decided_at: self.now.mono,
            ..row.clone()
        };
        Decided {
            row,
            effects,
            commit: None,
        }
    }

    pub(crate) fn offer(&mut self, change: Change) -> Option<Commit> {
        self.ledger.stale += u64::from(!self.may_be_taken(&change));
        self.store.change(change)
    }

    /// By what the observer knows, who trusts no store.
    fn may_be_taken(&self, change: &Change) -> bool {
        let written = &self.store.written;
        let row = written.row(change.row.position);
        let is_seen = row.is_some_and(|row| row.life.version == change.from);
        let is_owner = change
            .fence
            .is_none_or(|epoch| epoch == written.lease.epoch);
        let next = change.next.as_deref();
        is_seen && is_owner && next.is_none_or(|next| self.may_be_taken(next))
    }

    /// A change by somebody who is not the owner, who will read it.
    pub(crate) fn command(&mut self, position: Position, input: Input) {
        let Some(mut row) = self.store.written.row(position).cloned() else {
            return;
        };
        row.told = self.store.next_position(0);
        if matches!(input, Input::Retry { .. }) {
            row.order_at = row.told;
        }
        self.decide(&row, input, None);
    }

    /// The event's deliveries, to be written after `ahead` other rows of the transaction.
    pub(crate) fn deliveries(&self, event: Event, ahead: usize) -> Vec<Write> {
        let standing = &self.store.written.endpoints;
        let all = self.endpoints.iter().enumerate();
        let matching = all.filter(|(_, endpoint)| endpoint.client == event.client);
        let row = |(nth, (at, endpoint)): (usize, (usize, &Endpoint))| {
            let position = self.store.next_position(ahead + nth);
            let life = match standing[at].enabled {
                true => Life::accepted(&endpoint.policy, self.now.wall),
                false => Life::skipped(SkipReason::Disabled, self.now.wall),
            };
            Write::Row(Row {
                position,
                event: event.position,
                client: event.client,
                endpoint: at,
                line: event.line,
                order_at: position,
                life,
                blocks: false,
                told: position,
                decided_at: self.now.mono,
            })
        };
        matching.enumerate().map(row).collect()
    }

    /// Notices become deliveries, and the cursor moves, in one commit.
    pub(crate) fn take_in(&mut self, notices: &[Position]) {
        let mut writes = vec![Write::Cursor(self.store.written.cursor + notices.len())];
        for notice in notices {
            let event = self
                .store
                .written
                .events
                .iter()
                .find(|event| event.position == *notice);
            if let Some(event) = event.copied() {
                let deliveries = self.deliveries(event, writes.len());
                writes.extend(deliveries);
            }
        }
        self.store.commit(writes);
    }
}

fn has_failed(state: State) -> bool {
    match state {
        State::Exhausted(reason) => !matches!(
            reason,
            ExhaustReason::Canceled | ExhaustReason::EndpointDeleted
        ),
        State::Pending | State::Failed | State::Delivered | State::Skipped(_) => false,
    }
}
