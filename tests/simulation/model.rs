//! The store: what is on disk, and what is committed but not synced. One model stands for event-store and delivery.
//!
//! A transaction applies to `written` at once, which is what the writer sees; what others read, and what an
//! acknowledgement or a send may rest on, is `durable`. A crash leaves `durable` only.

use std::time::Duration;

use delivery::domain::schedule::Policy;
use delivery::domain::transition::Life;

use super::bugs::Bug;

/// A place in the order of commits.
pub(crate) type Position = u64;

/// A count of commits: what is committed under a number is durable when that number is synced.
pub(crate) type Commit = u64;

/// A worker process in one of its lives.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Process {
    pub(crate) worker: usize,
    pub(crate) life: u32,
}

/// Who owns the lane, and until when by the monotonic clock.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lease {
    pub(crate) owner: Option<Process>,
    pub(crate) epoch: u64,
    pub(crate) end: Duration,
}

/// One destination of one client. What never changes is here, what does is in [`Standing`].
pub(crate) struct Endpoint {
    pub(crate) client: usize,
    pub(crate) policy: Policy,
    /// The waits of the policy, in seconds.
    pub(crate) waits: &'static [u64],
    pub(crate) strict: bool,
    /// An exhausted delivery of a strict endpoint stops its line.
    pub(crate) blocks: bool,
    pub(crate) max_in_flight: u32,
    pub(crate) rate_per_s: Option<u32>,
}

#[derive(Clone, Copy)]
pub(crate) struct Standing {
    pub(crate) enabled: bool,
    /// Where in the order it was last changed.
    pub(crate) version: Position,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Event {
    pub(crate) position: Position,
    pub(crate) client: usize,
    pub(crate) key: u8,
    pub(crate) body: u8,
    /// It comes from the hub: its deliveries are made from its notice.
    pub(crate) hub: bool,
    pub(crate) line: u64,
}

/// A delivery.
#[derive(Clone, Debug)]
pub(crate) struct Row {
    pub(crate) position: Position,
    pub(crate) event: Position,
    pub(crate) client: usize,
    pub(crate) endpoint: usize,
    pub(crate) line: u64,
    pub(crate) order_at: Position,
    pub(crate) life: Life,
    /// Its line stops here.
    pub(crate) blocks: bool,
    /// Where in the order somebody other than an owner changed it last.
    pub(crate) told: Position,
    /// When it last changed, by the monotonic clock: for the observer.
    pub(crate) decided_at: Duration,
}

#[derive(Clone)]
pub(crate) struct Tables {
    pub(crate) head: Position,
    pub(crate) lease: Lease,
    pub(crate) events: Vec<Event>,
    /// The hub's feed: positions of events, in the order of their commits.
    pub(crate) notices: Vec<Position>,
    /// How many notices have been taken in.
    pub(crate) cursor: usize,
    /// By position.
    pub(crate) rows: Vec<Row>,
    pub(crate) endpoints: Vec<Standing>,
}

/// One row's worth of a transaction.
#[derive(Clone)]
pub(crate) enum Write {
    Lease(Lease),
    Event(Event),
    Notice(Position),
    Cursor(usize),
    /// New or changed.
    Row(Row),
    Forget(Position),
    Endpoint(usize, bool),
}

impl Tables {
    fn new(endpoints: usize) -> Self {
        let standing = Standing {
            enabled: true,
            version: 0,
        };
        Self {
            head: 0,
            lease: Lease {
                owner: None,
                epoch: 0,
                end: Duration::ZERO,
            },
            events: Vec::new(),
            notices: Vec::new(),
            cursor: 0,
            rows: Vec::new(),
            endpoints: vec![standing; endpoints],
        }
    }

    pub(crate) fn row(&self, position: Position) -> Option<&Row> {
        let at = self
            .rows
            .binary_search_by_key(&position, |row| row.position);
        at.ok().map(|at| &self.rows[at])
    }

    pub(crate) fn event(&self, client: usize, key: u8) -> Option<&Event> {
        let same = |event: &&Event| (event.client, event.key) == (client, key);
        self.events.iter().find(same)
    }

    pub(crate) fn rows_of(&self, event: Position) -> impl Iterator<Item = &Row> {
        self.rows.iter().filter(move |row| row.event == event)
    }

    fn apply(&mut self, write: &Write) {
        self.head += 1;
        match write {
            Write::Lease(lease) => self.lease = *lease,
            Write::Event(event) => self.events.push(*event),
            Write::Notice(event) => self.notices.push(*event),
            Write::Cursor(cursor) => self.cursor = *cursor,
            Write::Row(row) => {
                let at = self
                    .rows
                    .binary_search_by_key(&row.position, |row| row.position);
                match at {
                    Ok(at) => self.rows[at] = row.clone(),
                    Err(at) => self.rows.insert(at, row.clone()),
                }
            }
            Write::Forget(position) => self.rows.retain(|row| row.position != *position),
            Write::Endpoint(endpoint, enabled) => {
                self.endpoints[*endpoint] = Standing {
                    enabled: *enabled,
                    version: self.head,
                };
            }
        }
    }
}

/// A change of a delivery, decided from what `from` says of it.
#[derive(Clone)]
pub(crate) struct Change {
    pub(crate) from: u32,
    pub(crate) row: Row,
    /// Only the owner with this epoch may do it.
    pub(crate) fence: Option<u64>,
    /// The endpoint is disabled with it.
    pub(crate) disable: bool,
    /// The start of the one behind it: both, or neither.
    pub(crate) next: Option<Box<Change>>,
}

impl Change {
    fn writes(self) -> Vec<Write> {
        let endpoint = self.row.endpoint;
        let mut writes = vec![Write::Row(self.row)];
        writes.extend(self.disable.then_some(Write::Endpoint(endpoint, false)));
        writes.extend(self.next.into_iter().flat_map(|next| next.writes()));
        writes
    }
}

pub(crate) struct Store {
    pub(crate) durable: Tables,
    pub(crate) written: Tables,
    tail: Vec<Write>,
    commits: Commit,
    synced: Commit,
    /// Lanes granted since the last crash.
    granted: u64,
    /// Changes that were refused because their writer had not seen the last.
    pub(crate) refused: u64,
    /// How often what is durable has changed.
    pub(crate) syncs: u64,
    bug: Option<Bug>,
}

impl Store {
    pub(crate) fn new(endpoints: usize, bug: Option<Bug>) -> Self {
        Self {
            durable: Tables::new(endpoints),
            written: Tables::new(endpoints),
            tail: Vec::new(),
            commits: 0,
            synced: 0,
            granted: 0,
            refused: 0,
            syncs: 0,
            bug,
        }
    }

    /// One transaction.
    pub(crate) fn commit(&mut self, writes: impl IntoIterator<Item = Write>) -> Commit {
        for write in writes {
            self.written.apply(&write);
            self.tail.push(write);
        }
        self.commits += 1;
        self.commits
    }

    pub(crate) fn is_durable(&self, commit: Commit) -> bool {
        commit <= self.synced
    }

    pub(crate) fn sync(&mut self) {
        if self.tail.is_empty() {
            return;
        }
        self.syncs += 1;
        for write in self.tail.drain(..) {
            self.durable.apply(&write);
        }
        self.synced = self.commits;
    }

    /// Only what was synced is left. Whoever waits for more is told that it failed.
    pub(crate) fn crash(&mut self) {
        self.tail.clear();
        if self.bug == Some(Bug::EpochReused) {
            self.granted = 0;
            self.durable.lease.owner = None;
        }
        self.written = self.durable.clone();
        self.commits = self.synced;
        self.syncs += 1;
    }

    /// The position that the write after `ahead` others of the next transaction gets.
    pub(crate) fn next_position(&self, ahead: usize) -> Position {
        self.written.head + 1 + ahead as u64
    }

    /// A free lane, or one whose lease has ended, or one's own, is taken under the next epoch.
    pub(crate) fn take_lane(
        &mut self,
        process: Process,
        now: Duration,
        length: Duration,
    ) -> Option<(Lease, Commit)> {
        let lease = self.written.lease;
        let ended = lease.end <= now && self.bug != Some(Bug::NeverReclaimed);
        let may = lease.owner.is_none_or(|owner| owner == process) || ended;
        if !may {
            return None;
        }
        self.granted += 1;
        let epoch = match self.bug {
            Some(Bug::EpochReused) => self.granted,
            _ => lease.epoch + 1,
        };
        let taken = Lease {
            owner: Some(process),
            epoch,
            end: now + length,
        };
        Some((taken, self.commit([Write::Lease(taken)])))
    }

    /// `None` when it is not this epoch's any more.
    pub(crate) fn renew(&mut self, epoch: u64, end: Duration) -> Option<Commit> {
        let lease = self.written.lease;
        let renewed = Write::Lease(Lease { end, ..lease });
        (lease.epoch == epoch).then(|| self.commit([renewed]))
    }

    /// `None`, and nothing is changed, when somebody else was first, or owns the lane.
    pub(crate) fn change(&mut self, change: Change) -> Option<Commit> {
        if !self.takes(&change) && self.bug != Some(Bug::NoFence) {
            self.refused += 1;
            return None;
        }
        Some(self.commit(change.writes()))
    }

    /// Whether its writer saw the last version, and owns the lane where only an owner may write.
    fn takes(&self, change: &Change) -> bool {
        let found = self.written.row(change.row.position);
        let seen = found.is_some_and(|row| row.life.version == change.from);
        let owned = change
            .fence
            .is_none_or(|epoch| epoch == self.written.lease.epoch);
        let next = change.next.as_deref();
        seen && owned && next.is_none_or(|next| self.takes(next))
    }
}
