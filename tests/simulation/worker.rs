//! A worker process: owns the lane or waits for it, and asks the production code at every turn what to do.
//!
//! Whatever it decides is committed first; what follows ([`Then`]) happens when the commit is durable, in a later step, so
//! that a kill, a pause or a crash can come between any two of them.

use std::time::Duration;

use delivery::domain::queues::{Permit, Turn};
use delivery::domain::transition::Input;

use super::bugs::Bug;
use super::destination::Outcome;
use super::model::{Change, Commit, Position, Process, Row};
use super::reign::Reign;
use super::shared::Shared;

/// One deadline over the whole request.
pub(crate) const TIMEOUT: Duration = Duration::from_secs(15);
pub(crate) const LEASE: Duration = Duration::from_secs(30);
/// A lease with less left is renewed.
const RENEW: Duration = Duration::from_secs(20);

pub(crate) struct Worker {
    pub(crate) process: Process,
    pub(crate) is_alive: bool,
    pub(crate) paused_until: Option<Duration>,
    pub(crate) reign: Option<Reign>,
    pub(crate) pending: Vec<(Commit, Then)>,
    pub(crate) flights: Vec<Flight>,
}

/// A request that is to be sent, is on its way, or has been answered.
#[derive(Clone)]
pub(crate) struct Flight {
    /// As it was when the attempt was started.
    pub(crate) row: Row,
    pub(crate) epoch: u64,
    pub(crate) permit: Option<Permit>,
    pub(crate) outcome: Outcome,
    pub(crate) sent_at: Duration,
    pub(crate) ends_at: Duration,
}

/// What follows when a commit is durable.
pub(crate) enum Then {
    Own {
        epoch: u64,
        end: Duration,
        starts_from: Duration,
    },
    Renewed {
        epoch: u64,
        end: Duration,
    },
    Send(Flight),
    /// As [`Send`](Self::Send), of one that was counted with the end of the one ahead of it.
    HandOver(Box<Behind>),
    /// The queues are told what has become of it. A result is kept until it is durable.
    Follow {
        position: Position,
        epoch: u64,
        flight: Option<Flight>,
    },
}

/// The one behind another in a strict line, taken to be counted with the end of that one.
pub(crate) struct Behind {
    pub(crate) turn: Turn,
    pub(crate) ahead: Position,
    pub(crate) change: Change,
    pub(crate) flight: Flight,
}

impl Flight {
    pub(crate) fn new(row: Row, epoch: u64, permit: Option<Permit>) -> Self {
        Self {
            row,
            epoch,
            permit,
            outcome: Outcome::Accepted,
            sent_at: Duration::ZERO,
            ends_at: Duration::ZERO,
        }
    }

    pub(crate) fn attempt(&self) -> u32 {
        self.row.life.started
    }
}

fn lease_length(bug: Option<Bug>) -> Duration {
    match bug {
        Some(Bug::LeaseShorterThanTimeout) => TIMEOUT - Duration::from_secs(5),
        _ => LEASE,
    }
}

impl Worker {
    pub(crate) fn new(worker: usize) -> Self {
        Self {
            process: Process { worker, life: 0 },
            is_alive: true,
            paused_until: None,
            reign: None,
            pending: Vec::new(),
            flights: Vec::new(),
        }
    }

    /// Everything in memory is gone; what is on its way arrives.
    pub(crate) fn kill(&mut self, shared: &mut Shared) {
        self.excuse(shared);
        *self = Self {
            process: Process {
                life: self.process.life + 1,
                ..self.process
            },
            is_alive: false,
            ..Self::new(self.process.worker)
        };
    }

    pub(crate) fn pause(&mut self, until: Duration, shared: &mut Shared) {
        let lease_end = self
            .reign
            .as_ref()
            .map_or(Duration::ZERO, |reign| reign.lease_end);
        if until + RENEW > lease_end {
            self.excuse(shared);
        }
        self.paused_until = Some(until);
    }

    /// The store crashed: what was not durable was refused. The lane is taken anew, and results are offered again.
    pub(crate) fn lose(&mut self, shared: &mut Shared) {
        self.excuse(shared);
        self.reign = None;
        for (commit, then) in std::mem::take(&mut self.pending) {
            match then {
                Then::Follow {
                    flight: Some(flight),
                    ..
                } if !shared.store.is_durable(commit) => {
                    self.flights.push(flight);
                }
                then @ (Then::Send(_) | Then::HandOver(_) | Then::Own { .. })
                    if shared.store.is_durable(commit) =>
                {
                    self.pending.push((commit, then));
                }
                Then::Own { .. }
                | Then::Renewed { .. }
                | Then::Send(_)
                | Then::HandOver(_)
                | Then::Follow { .. } => {}
            }
        }
    }

    fn excuse(&self, shared: &mut Shared) {
        let recording = self.pending.iter().filter_map(|(_, then)| match then {
            Then::Follow { flight, .. } => flight.as_ref(),
            Then::Own { .. } | Then::Renewed { .. } | Then::Send(_) | Then::HandOver(_) => None,
        });
        for flight in self.flights.iter().chain(recording) {
            shared.ledger.fault(flight.row.position, flight.attempt());
        }
    }

    /// Whether it may be the lane's owner by what it knows.
    pub(crate) fn believes(&self, now: Duration) -> bool {
        self.reign
            .as_ref()
            .is_some_and(|reign| now < reign.lease_end)
    }

    /// Whether a delivery is on its way, or something of it is being written.
    pub(crate) fn holds(&self, position: Position) -> bool {
        let of_it = |(_, then): &(Commit, Then)| match then {
            Then::Send(flight) => flight.row.position == position,
            Then::HandOver(behind) => behind.flight.row.position == position,
            Then::Follow {
                position: other, ..
            } => *other == position,
            Then::Own { .. } | Then::Renewed { .. } => false,
        };
        self.flights
            .iter()
            .any(|flight| flight.row.position == position)
            || self.pending.iter().any(of_it)
    }

    /// Does what is due.
    pub(crate) fn run(&mut self, shared: &mut Shared) {
        if !self.is_alive || self.paused_until.is_some() {
            return;
        }
        self.settle(shared);
        self.answers(shared);
        self.keep_lane(shared);
        self.tail(shared);
        self.interrupt(shared);
        self.take_in(shared);
        self.claim(shared);
    }

    fn settle(&mut self, shared: &mut Shared) {
        let pending = std::mem::take(&mut self.pending);
        let (ready, waiting): (Vec<_>, _) = pending
            .into_iter()
            .partition(|(commit, _)| shared.store.is_durable(*commit));
        self.pending = waiting;
        for (_, then) in ready {
            match then {
                Then::Own {
                    epoch,
                    end,
                    starts_from,
                } => self.own(epoch, end, starts_from, shared),
                Then::Renewed { epoch, end } => {
                    if let Some(reign) = self.reign.as_mut().filter(|reign| reign.epoch == epoch) {
                        reign.lease_end = end;
                    }
                }
                Then::Send(flight) => self.send(flight, shared),
                Then::HandOver(behind) => self.hand_over(*behind, shared),
                Then::Follow {
                    position, epoch, ..
                } => self.follow(position, epoch, shared),
            }
        }
    }

    /// Loads the lane, unless its lease has ended meanwhile.
    fn own(&mut self, epoch: u64, end: Duration, starts_from: Duration, shared: &mut Shared) {
        if shared.now.mono >= end {
            return;
        }
        shared.ledger.granted(epoch);
        self.reign = Some(Reign::new(epoch, end, starts_from, shared));
    }

    fn follow(&mut self, position: Position, epoch: u64, shared: &mut Shared) {
        let reign = self.reign.as_mut().filter(|reign| reign.epoch == epoch);
        let row = shared.store.durable.row(position).cloned();
        if let Some((reign, row)) = reign.zip(row) {
            reign.follow(&row, shared);
        }
    }

    fn keep_lane(&mut self, shared: &mut Shared) {
        let now = shared.now.mono;
        let is_asking = self
            .pending
            .iter()
            .any(|(_, then)| matches!(then, Then::Own { .. } | Then::Renewed { .. }));
        let length = lease_length(shared.bug);
        if let Some(reign) = &self.reign {
            if now >= reign.lease_end {
                self.reign = None;
            } else if !is_asking && reign.lease_end - now < RENEW {
                let (epoch, end) = (reign.epoch, now + length);
                match shared.store.renew(epoch, end) {
                    Some(commit) => self.pending.push((commit, Then::Renewed { epoch, end })),
                    None => self.reign = None,
                }
            }
        } else if !is_asking {
            let before = shared.store.written.lease;
            let Some((taken, commit)) = shared.store.take_lane(self.process, now, length) else {
                return;
            };
            let has_ended = before.owner.is_none() || before.end <= now;
            let starts_from = if has_ended { now } else { now + TIMEOUT };
            let then = Then::Own {
                epoch: taken.epoch,
                end: taken.end,
                starts_from,
            };
            self.pending.push((commit, then));
        }
    }

    fn tail(&mut self, shared: &Shared) {
        if let Some(mut reign) = self.reign.take() {
            reign.tail(|position| self.holds(position), shared);
            self.reign = Some(reign);
        }
    }

    /// What an earlier epoch had on its way has ended with it, unless its result came in time.
    fn interrupt(&mut self, shared: &mut Shared) {
        let Some(reign) = self
            .reign
            .as_mut()
            .filter(|reign| reign.starts_from <= shared.now.mono)
        else {
            return;
        };
        let (epoch, left_open) = (reign.epoch, std::mem::take(&mut reign.left_open));
        for position in left_open {
            let Some(row) = shared.store.written.row(position).cloned() else {
                continue;
            };
            let commit = if row.life.open.is_some() {
                shared.decide(&row, Input::Interrupt { epoch }, None).commit
            } else {
                Some(shared.store.commit([]))
            };
            if let Some(reign) = &mut self.reign {
                reign.interrupting.extend(commit.map(|_| position));
            }
            self.then_follow(commit, position, epoch, None);
        }
    }

    /// Makes deliveries of the hub's notices: cursor and rows in one commit.
    fn take_in(&mut self, shared: &mut Shared) {
        let (durable, written) = (&shared.store.durable, &shared.store.written);
        let owns = self
            .reign
            .as_ref()
            .is_some_and(|reign| reign.epoch == written.lease.epoch);
        if owns && durable.cursor == written.cursor && durable.cursor < durable.notices.len() {
            let notices = durable.notices[durable.cursor..].to_vec();
            shared.take_in(&notices);
        }
    }
}
