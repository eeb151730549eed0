//! What waits at one endpoint, and which of it goes next.

use std::cmp::Reverse;
use std::collections::{BTreeSet, BinaryHeap, HashMap, HashSet};

use jiff::Timestamp;

use super::line::{Change, Lines, Member, Ticket};
use super::{Class, Item, Kind, Place};
use crate::domain::delivery::Position;

/// When it is due, in [`micros`], and which it is.
pub(super) type Entry = (i64, Position);

/// A due retry goes before first attempts so often (L2).
const RETRY_EVERY: u8 = 4;
/// Fewer outdated entries than this are not worth a walk.
const STALE_MIN: usize = 64;

/// Sixteen bytes a delivery, unless its order is strict or it is a suspect.
#[derive(Default)]
pub(super) struct Waiting {
    first: Pile,
    retries: Pile,
    /// Those that must be sent alone.
    suspects: BTreeSet<Entry>,
    /// How many suspects stand in no line.
    loose_suspects: usize,
    lines: Lines,
    superseded: HashMap<Position, Superseded>,
    /// Entries in the piles that are outdated.
    stale: usize,
    turns: u8,
}

/// Those of one class that may go, each kind on its shelf.
#[derive(Default)]
struct Pile {
    shelves: Vec<Shelf>,
}

struct Shelf {
    kind: Kind,
    loose: BinaryHeap<Reverse<Entry>>,
    /// Of each line the first.
    heads: BTreeSet<Entry>,
}

/// A delivery of which an outdated entry is still in a pile.
struct Superseded {
    outdated: usize,
    /// The due time that counts, if it waits at all.
    due: Option<i64>,
}

/// One that was taken out.
#[derive(Clone, Copy)]
pub(super) struct Taken {
    pub(super) entry: Entry,
    pub(super) line: Option<u64>,
    pub(super) class: Class,
    pub(super) kind: Kind,
}

impl Shelf {
    fn new(kind: Kind) -> Self {
        Self {
            kind,
            loose: BinaryHeap::new(),
            heads: BTreeSet::new(),
        }
    }

    fn peek(&self) -> Option<Entry> {
        let loose = self.loose.peek().map(|Reverse(entry)| *entry);
        let head = self.heads.first().copied();
        loose.into_iter().chain(head).min()
    }
}

impl Pile {
    fn shelf(&mut self, kind: Kind) -> &mut Shelf {
        let found = self.shelves.iter().position(|shelf| shelf.kind == kind);
        let at = found.unwrap_or_else(|| {
            self.shelves.push(Shelf::new(kind));
            self.shelves.len() - 1
        });
        &mut self.shelves[at]
    }

    fn loose(&self) -> usize {
        self.shelves.iter().map(|shelf| shelf.loose.len()).sum()
    }

    /// The next, of all kinds but one.
    fn peek(&self, but: Option<Kind>) -> Option<(Entry, Kind)> {
        let shelves = self.shelves.iter();
        let shelves = shelves.filter(|shelf| Some(shelf.kind) != but);
        shelves
            .filter_map(|shelf| Some((shelf.peek()?, shelf.kind)))
            .min()
    }

    fn due(&self, now: i64, but: Option<Kind>) -> Option<(Entry, Kind)> {
        self.peek(but).filter(|((due, _), _)| *due <= now)
    }
}

impl Waiting {
    pub(super) fn len(&self) -> usize {
        let loose = self.first.loose() + self.retries.loose() + self.loose_suspects;
        (loose + self.lines.len()).saturating_sub(self.stale)
    }

    /// First attempts that order does not hold up; of those superseded, some for a while.
    pub(super) fn first_len(&self) -> usize {
        self.first.loose() + self.lines.fresh()
    }

    /// The due time of the next that need not be sent alone.
    pub(super) fn next_due(&self) -> Option<i64> {
        let (first, retry) = (self.first.peek(None), self.retries.peek(None));
        first
            .into_iter()
            .chain(retry)
            .map(|((due, _), _)| due)
            .min()
    }

    pub(super) fn suspect_due(&self) -> Option<i64> {
        self.suspects.first().map(|(due, _)| *due)
    }

    /// The earliest due time of all.
    pub(super) fn oldest(&self) -> Option<i64> {
        let in_lines = self.lines.oldest().map(|(due, _)| due);
        let loose = self.next_due().into_iter().chain(self.suspect_due());
        loose.chain(in_lines).min()
    }

    pub(super) fn lines(&self) -> &Lines {
        &self.lines
    }

    pub(super) fn insert(&mut self, item: &Item, place: Option<Place>, due: i64, ticket: Ticket) {
        let member = Member {
            entry: (due, item.position),
            class: item.class,
            kind: item.kind,
            suspect: item.suspect,
            ticket,
        };
        match place {
            Some(place) => {
                let changes = self.lines.insert(place, member);
                changes
                    .into_iter()
                    .flatten()
                    .for_each(|change| self.follow(&change));
            }
            None => self.insert_loose(member),
        }
    }

    fn insert_loose(&mut self, member: Member) {
        let (due, position) = member.entry;
        if member.suspect {
            self.loose_suspects += usize::from(self.suspects.insert(member.entry));
            return;
        }
        if let Some(superseded) = self.superseded.get_mut(&position) {
            superseded.due = Some(due);
        }
        let shelf = self.pile(member.class).shelf(member.kind);
        shelf.loose.push(Reverse(member.entry));
    }

    fn pile(&mut self, class: Class) -> &mut Pile {
        match class {
            Class::First => &mut self.first,
            Class::Retry => &mut self.retries,
        }
    }

    /// The piles hold of each line its eligible first.
    fn follow(&mut self, change: &Change) {
        if let Some(Member {
            entry,
            class,
            kind,
            suspect,
            ..
        }) = change.before
        {
            if suspect {
                self.suspects.remove(&entry);
            } else {
                self.pile(class).shelf(kind).heads.remove(&entry);
            }
        }
        if let Some(Member {
            entry,
            class,
            kind,
            suspect,
            ..
        }) = change.after
        {
            if suspect {
                self.suspects.insert(entry);
            } else {
                self.pile(class).shelf(kind).heads.insert(entry);
            }
        }
    }

    /// Takes the next that is due: first attempts first, but every fourth time a retry.
    pub(super) fn take(&mut self, now: i64) -> Option<Taken> {
        self.take_but(None, now)
    }

    /// As [`take`](Self::take), another than that one, and of another kind where one is due.
    pub(super) fn take_unlike(&mut self, other: (Position, Kind), now: i64) -> Option<Taken> {
        let (position, kind) = other;
        if let Some(unlike) = self.take_but(Some(kind), now) {
            return Some(unlike);
        }
        let aside = self.set_aside(position);
        let another = self.take(now);
        if let Some((class, kind, entry)) = aside {
            self.pile(class).shelf(kind).heads.insert(entry);
        }
        let taken = another.or_else(|| self.take(now))?;
        if taken.entry.1 != position || taken.line.is_some() {
            return Some(taken);
        }
        let another = self.take(now);
        if another.is_some() {
            self.put_back(taken);
        }
        another.or(Some(taken))
    }

    /// Leaves out a line's head that would be the next of its shelf; answers what to put back, and where.
    fn set_aside(&mut self, position: Position) -> Option<(Class, Kind, Entry)> {
        let piles = [
            (Class::First, &mut self.first),
            (Class::Retry, &mut self.retries),
        ];
        for (class, pile) in piles {
            for shelf in &mut pile.shelves {
                let head = shelf.heads.first().copied();
                if let Some(entry) = head.filter(|entry| entry.1 == position) {
                    shelf.heads.remove(&entry);
                    return Some((class, shelf.kind, entry));
                }
            }
        }
        None
    }

    fn take_but(&mut self, but: Option<Kind>, now: i64) -> Option<Taken> {
        let (first, retry) = (self.first.due(now, but), self.retries.due(now, but));
        if first.is_none() && retry.is_none() {
            return None;
        }
        self.turns = (self.turns + 1) % RETRY_EVERY;
        let ((entry, kind), class) = match (first, retry) {
            (Some(first), None) => (first, Class::First),
            (Some(first), Some(_)) if self.turns != 0 => (first, Class::First),
            (_, Some(retry)) => (retry, Class::Retry),
            (None, None) => return None,
        };
        let line = self.take_head(entry.1);
        if line.is_none() {
            self.pile(class).shelf(kind).loose.pop();
            if let Some(superseded) = self.superseded.get_mut(&entry.1) {
                superseded.due = None;
            }
            self.tidy();
        }
        Some(Taken {
            entry,
            line,
            class,
            kind,
        })
    }

    /// One of no line that was taken out and does not go.
    fn put_back(&mut self, taken: Taken) {
        self.insert_loose(Member {
            entry: taken.entry,
            class: taken.class,
            kind: taken.kind,
            suspect: false,
            ticket: 0,
        });
    }

    pub(super) fn take_suspect(&mut self) -> Option<Taken> {
        let entry = self.suspects.first().copied()?;
        let line = self.take_head(entry.1);
        if line.is_none() {
            self.suspects.remove(&entry);
            self.loose_suspects -= 1;
        }
        Some(Taken {
            entry,
            line,
            class: Class::Retry,
            kind: Kind::default(),
        })
    }

    fn take_head(&mut self, position: Position) -> Option<u64> {
        let (line, change) = self.lines.take(position)?;
        self.follow(&change);
        Some(line)
    }

    /// As [`take`](Self::take), of the one behind another that keeps its line busy.
    pub(super) fn take_behind(&mut self, line: u64, ahead: Position, now: i64) -> Option<Taken> {
        let member = self.lines.take_behind(line, ahead, now)?;
        Some(Taken {
            entry: member.entry,
            line: Some(line),
            class: member.class,
            kind: member.kind,
        })
    }

    pub(super) fn hand_over(&mut self, line: u64, ahead: Position, behind: Position) {
        self.lines.hand_over(line, ahead, behind);
    }

    /// Forgets one that waits. In a pile, which has no way to its middle, its entry stays until it comes up or there are
    /// many such.
    pub(super) fn supersede(&mut self, position: Position) {
        if let Some(change) = self.lines.leave(position) {
            return self.follow(&change);
        }
        let loose = |entry: &&Entry| entry.1 == position;
        if let Some(entry) = self.suspects.iter().find(loose).copied() {
            self.suspects.remove(&entry);
            self.loose_suspects -= 1;
            return;
        }
        let none = Superseded {
            outdated: 0,
            due: None,
        };
        let superseded = self.superseded.entry(position).or_insert(none);
        superseded.outdated += 1;
        superseded.due = None;
        self.stale += 1;
        self.tidy();
    }

    /// No pile begins with an outdated entry, and at most half of what is in them is outdated (S12).
    fn tidy(&mut self) {
        if self.stale == 0 {
            return;
        }
        let loose = self.first.loose() + self.retries.loose();
        if loose == 0 || (self.stale > STALE_MIN && self.stale > loose / 2) {
            return self.sweep();
        }
        let piles = [&mut self.first, &mut self.retries];
        for shelf in piles.into_iter().flat_map(|pile| &mut pile.shelves) {
            while let Some(Reverse((due, position))) = shelf.loose.peek().copied() {
                let Some(superseded) = self.superseded.get_mut(&position) else {
                    break;
                };
                if superseded.due == Some(due) {
                    break;
                }
                superseded.outdated -= 1;
                self.stale -= 1;
                if superseded.outdated == 0 {
                    self.superseded.remove(&position);
                }
                shelf.loose.pop();
            }
        }
    }

    /// Drops all outdated entries at once.
    fn sweep(&mut self) {
        let superseded = std::mem::take(&mut self.superseded);
        self.stale = 0;
        let mut kept = HashSet::new();
        for shelf in self.shelves() {
            shelf.loose.retain(|Reverse((due, position))| {
                superseded.get(position).is_none_or(|superseded| {
                    // An outdated one may look the same; one of them is enough.
                    superseded.due == Some(*due) && kept.insert(*position)
                })
            });
        }
    }

    fn shelves(&mut self) -> impl Iterator<Item = &mut Shelf> {
        let piles = [&mut self.first, &mut self.retries];
        piles.into_iter().flat_map(|pile| &mut pile.shelves)
    }

    /// Nothing is due later than this.
    pub(super) fn rein_in(&mut self, latest: i64) {
        self.sweep();
        self.lines.rein_in(latest);
        let reined = |(due, position): Entry| (due.min(latest), position);
        for shelf in self.shelves() {
            let loose = std::mem::take(&mut shelf.loose).into_iter();
            shelf.loose = loose.map(|Reverse(entry)| Reverse(reined(entry))).collect();
            let heads = std::mem::take(&mut shelf.heads).into_iter();
            shelf.heads = heads.map(reined).collect();
        }
        let suspects = std::mem::take(&mut self.suspects).into_iter();
        self.suspects = suspects.map(reined).collect();
    }

    /// Whether one that does not wait here could be its line's head at once.
    pub(super) fn is_free(&self, line: u64) -> bool {
        self.lines.is_free(line)
    }

    pub(super) fn reserve(&mut self, line: u64) {
        self.lines.reserve(line);
    }

    pub(super) fn settle(&mut self, line: u64, position: Position) {
        self.lines.settle(line, position);
    }

    pub(super) fn expect(&mut self, line: u64) -> Ticket {
        let (ticket, change) = self.lines.expect(line);
        self.follow(&change);
        ticket
    }

    pub(super) fn unexpect(&mut self, line: u64, ticket: Ticket) {
        let change = self.lines.unexpect(line, ticket);
        self.follow(&change);
    }

    pub(super) fn unreserve(&mut self, line: u64) {
        let change = self.lines.unreserve(line);
        self.follow(&change);
    }

    pub(super) fn end(&mut self, line: u64, position: Position, blocked: bool) {
        let change = self.lines.end(line, position, blocked);
        self.follow(&change);
    }

    pub(super) fn unblock(&mut self) {
        let changes = self.lines.unblock();
        changes.iter().for_each(|change| self.follow(change));
    }

    /// Order is strict no more: what waits in lines waits as everything else does.
    pub(super) fn dissolve(&mut self) {
        let lines = std::mem::take(&mut self.lines);
        self.shelves().for_each(|shelf| shelf.heads.clear());
        self.suspects
            .retain(|(_, position)| !lines.contains(*position));
        lines
            .into_members()
            .for_each(|member| self.insert_loose(member));
    }
}

/// Microseconds since the epoch, rounded up, so that nothing goes before it is due (S11).
pub(super) fn micros(at: Timestamp) -> i64 {
    let whole = at.as_microsecond();
    let is_more = at.subsec_nanosecond() % 1_000 > 0;
    whole.saturating_add(i64::from(is_more))
}

pub(super) fn timestamp(micros: i64) -> Timestamp {
    Timestamp::from_microsecond(micros).unwrap_or(Timestamp::MAX)
}

/// The last moment that has passed: nothing due later is due.
pub(super) fn passed(now: Timestamp) -> i64 {
    let whole = now.as_microsecond();
    let is_less = now.subsec_nanosecond() % 1_000 < 0;
    whole.saturating_sub(i64::from(is_less))
}
