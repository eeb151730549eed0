//! Strict order: of each line one on its way at a time, the next when the outcome of that one is durable.

use std::collections::{BTreeMap, BTreeSet, HashMap};

use super::fresh::Fresh;
use super::waiting::Entry;
use super::{Class, Kind, Place};
use crate::domain::delivery::Position;

/// All lines of one endpoint. A line is forgotten when it is empty and nothing of it is on its way (S12).
#[derive(Default)]
pub(super) struct Lines {
    lines: HashMap<u64, Line>,
    /// Where each that waits stands.
    places: HashMap<Position, (u64, Rank)>,
    /// The line that each blocking one blocks.
    blocking: HashMap<Position, u64>,
    /// All that wait, heads or not, by due time.
    by_due: BTreeSet<Entry>,
    /// Of all lines.
    fresh: usize,
    /// The last ticket given out.
    last: Ticket,
}

/// The order in which deliveries that will wait are planned, which is that of their commits. 0 is before all.
pub(super) type Ticket = u64;

/// Those not started come after those that were, then by age.
type Rank = (bool, Position, Position);

#[derive(Default)]
struct Line {
    waiting: BTreeMap<Rank, Member>,
    hold: Option<Hold>,
    /// Those that are being committed, to wait here: none that was planned later may be first before them.
    expected: BTreeSet<Ticket>,
    /// So many of those that wait are first attempts.
    firsts: usize,
    /// The one on its way has failed before.
    retries: bool,
    fresh: Fresh,
}

/// Why a line's first must wait.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Hold {
    /// One is on its way, or its outcome is being committed. A reserved one has no position before it is committed itself.
    Busy(Option<Position>),
    /// One was exhausted, and nothing goes before somebody decided about it.
    Blocked(Position),
}

/// One that waits in a line.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Member {
    pub(super) entry: Entry,
    pub(super) class: Class,
    pub(super) kind: Kind,
    pub(super) suspect: bool,
    /// 0 of what was not expected here.
    pub(super) ticket: Ticket,
}

/// A line's eligible first, before and after.
pub(super) struct Change {
    pub(super) before: Option<Member>,
    pub(super) after: Option<Member>,
}

impl Line {
    fn head(&self) -> Option<Member> {
        self.first().filter(|_| self.hold.is_none())
    }

    /// The one whose turn is next, unless one that is planned before it is still to come.
    fn first(&self) -> Option<Member> {
        let (_, member) = self.waiting.first_key_value()?;
        let earlier = self.expected.first();
        let is_first = earlier.is_none_or(|earlier| *earlier > member.ticket);
        is_first.then_some(*member)
    }

    /// Whether those that wait have their turns, one after the other. Behind one that failed, or where the line stops, they
    /// have not.
    fn moves(&self) -> bool {
        match self.hold {
            Some(Hold::Blocked(_)) => false,
            Some(Hold::Busy(_)) => !self.retries,
            None => self
                .waiting
                .first_key_value()
                .is_none_or(|(_, member)| member.class == Class::First),
        }
    }

    fn is_over(&self) -> bool {
        self.waiting.is_empty() && self.hold.is_none() && self.expected.is_empty()
    }
}

impl Lines {
    pub(super) fn len(&self) -> usize {
        self.places.len()
    }

    /// First attempts that wait for nothing but their turn.
    pub(super) fn fresh(&self) -> usize {
        self.fresh
    }

    pub(super) fn oldest(&self) -> Option<Entry> {
        self.by_due.first().copied()
    }

    pub(super) fn contains(&self, position: Position) -> bool {
        self.places.contains_key(&position)
    }

    /// Whether this one stands behind another, or behind nothing that goes on.
    pub(super) fn is_behind(&self, line: u64, position: Position) -> bool {
        let Some(line) = self.lines.get(&line) else {
            return false;
        };
        match line.hold {
            Some(Hold::Busy(busy)) => busy != Some(position),
            Some(Hold::Blocked(_)) => true,
            None => line.head().is_some_and(|member| member.entry.1 != position),
        }
    }

    /// Joins its line, or comes back to the head of it.
    pub(super) fn insert(&mut self, place: Place, member: Member) -> [Option<Change>; 2] {
        let position = member.entry.1;
        let left = self.leave(position);
        let rank = (!place.started, place.order_at, position);
        self.places.insert(position, (place.line, rank));
        self.by_due.insert(member.entry);
        let joined = self.change(place.line, |line| {
            if line.hold == Some(Hold::Busy(Some(position))) {
                line.hold = None;
            }
            line.firsts += usize::from(member.class == Class::First);
            line.waiting.insert(rank, member);
        });
        [left, Some(joined)]
    }

    /// The head goes on its way; answers its line.
    pub(super) fn take(&mut self, position: Position) -> Option<(u64, Change)> {
        let (line, _) = *self.places.get(&position)?;
        let mut change = self.leave(position)?;
        let retries = change
            .before
            .is_some_and(|member| member.class == Class::Retry);
        change.after = self
            .change(line, |line| {
                line.hold = Some(Hold::Busy(Some(position)));
                line.retries = retries;
            })
            .after;
        Some((line, change))
    }

    /// The one behind `ahead`, which is on its way or was, leaves its place, if it is due by `passed`. The line stays busy
    /// with `ahead` until [`hand_over`](Self::hand_over).
    pub(super) fn take_behind(
        &mut self,
        line: u64,
        ahead: Position,
        passed: i64,
    ) -> Option<Member> {
        let found = self.lines.get(&line)?;
        let member = found.first()?;
        let Member { entry, suspect, .. } = member;
        // A suspect waits until it can go alone.
        if suspect || entry.0 > passed || found.hold != Some(Hold::Busy(Some(ahead))) {
            return None;
        }
        // The line has no head before and after.
        self.leave(entry.1);
        Some(member)
    }

    /// The one behind is on its way now.
    pub(super) fn hand_over(&mut self, line: u64, ahead: Position, behind: Position) {
        self.change(line, |line| {
            if line.hold == Some(Hold::Busy(Some(ahead))) {
                line.hold = Some(Hold::Busy(Some(behind)));
                line.retries = false;
            }
        });
    }

    /// Whether one that does not wait could be the head at once.
    pub(super) fn is_free(&self, line: u64) -> bool {
        !self.lines.contains_key(&line)
    }

    pub(super) fn reserve(&mut self, line: u64) {
        self.change(line, |line| {
            line.hold = Some(Hold::Busy(None));
            line.retries = false;
        });
    }

    /// The reserved one is committed.
    pub(super) fn settle(&mut self, line: u64, position: Position) {
        self.change(line, |line| {
            if line.hold == Some(Hold::Busy(None)) {
                line.hold = Some(Hold::Busy(Some(position)));
            }
        });
    }

    /// One more is being committed, to wait here.
    pub(super) fn expect(&mut self, line: u64) -> (Ticket, Change) {
        self.last += 1;
        let ticket = self.last;
        let change = self.change(line, |line| {
            line.expected.insert(ticket);
        });
        (ticket, change)
    }

    /// It waits, or will never come.
    pub(super) fn unexpect(&mut self, line: u64, ticket: Ticket) -> Change {
        self.change(line, |line| {
            line.expected.remove(&ticket);
        })
    }

    /// Undoes a reservation.
    pub(super) fn unreserve(&mut self, line: u64) -> Change {
        self.change(line, |line| {
            line.hold = line.hold.filter(|hold| *hold != Hold::Busy(None));
        })
    }

    /// The one on its way has ended: the next is eligible, or none is before this one is superseded.
    pub(super) fn end(&mut self, line: u64, position: Position, blocked: bool) -> Change {
        let mut blocks = false;
        let waits = self.places.contains_key(&position);
        let change = self.change(line, |line| {
            let ended = match line.hold {
                Some(Hold::Busy(busy)) => busy == Some(position),
                Some(Hold::Blocked(_)) => false,
                // As it is found after a restart; else a command was faster, and it waits again.
                None => blocked && !waits,
            };
            if ended {
                blocks = blocked;
                line.hold = blocked.then_some(Hold::Blocked(position));
            }
        });
        if blocks {
            self.blocking.insert(position, line);
        }
        change
    }

    /// Takes one out that waits or blocks; `None` if it does neither.
    pub(super) fn leave(&mut self, position: Position) -> Option<Change> {
        if let Some(line) = self.blocking.remove(&position) {
            return Some(self.change(line, |line| line.hold = None));
        }
        let (line, rank) = self.places.remove(&position)?;
        let mut left = None;
        let change = self.change(line, |line| {
            left = line.waiting.remove(&rank);
            let is_first = left.is_some_and(|member| member.class == Class::First);
            line.firsts -= usize::from(is_first);
        });
        if let Some(member) = left {
            self.by_due.remove(&member.entry);
        }
        Some(change)
    }

    /// All blocked lines go on.
    pub(super) fn unblock(&mut self) -> Vec<Change> {
        let blocking: Vec<Position> = self.blocking.keys().copied().collect();
        let go_on = blocking.into_iter().map(|position| self.leave(position));
        go_on.flatten().collect()
    }

    /// All that wait, for whoever goes on without lines.
    pub(super) fn into_members(self) -> impl Iterator<Item = Member> {
        self.lines
            .into_values()
            .flat_map(|line| line.waiting.into_values())
    }

    /// Nothing is due later than this; the heads change with it.
    pub(super) fn rein_in(&mut self, latest: i64) {
        for line in self.lines.values_mut() {
            for member in line.waiting.values_mut() {
                member.entry.0 = member.entry.0.min(latest);
            }
        }
        let reined = |(due, position): Entry| (due.min(latest), position);
        self.by_due = std::mem::take(&mut self.by_due)
            .into_iter()
            .map(reined)
            .collect();
    }

    fn change(&mut self, line: u64, how: impl FnOnce(&mut Line)) -> Change {
        let found = self.lines.entry(line).or_default();
        let (before, fresh) = (found.head(), found.fresh.count());
        how(found);
        let after = found.head();
        found.fresh.look(found.firsts, found.moves());
        self.fresh = self.fresh - fresh + found.fresh.count();
        if found.is_over() {
            self.lines.remove(&line);
        }
        Change { before, after }
    }
}
