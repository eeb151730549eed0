//! From a turn to its outcome: what a worker does with one attempt.

use std::time::Duration;

use delivery::domain::queues::{Feedback, Permit};
use delivery::domain::transition::Input;
use jiff::Timestamp;
use rand::RngExt as _;

use super::bugs::Bug;
use super::destination::Outcome;
use super::invariants::Invariant;
use super::model::{Change, Commit, Position, Row};
use super::reign::Reign;
use super::shared::{Decided, Shared};
use super::worker::{Behind, Flight, TIMEOUT, Then, Worker};

/// So many are taken in one go.
const AT_ONCE: usize = 3;

impl Worker {
    pub(crate) fn claim(&mut self, shared: &mut Shared) {
        let Some(mut reign) = self.reign.take() else {
            return;
        };
        let now = shared.now;
        if reign.starts_from <= now.mono && reign.is_settled() && may_send(&reign, shared) {
            for turn in reign.queues.take(now, AT_ONCE) {
                reign.queued.remove(&turn.position);
                let endpoint = usize::try_from(turn.endpoint).expect("an index");
                reign.taken(endpoint, Some(&turn.permit), shared);
                self.start(
                    &mut reign,
                    turn.position,
                    turn.due_at,
                    Some(turn.permit),
                    shared,
                );
            }
            if shared.bug == Some(Bug::SendsWhileOpen) {
                self.start_anyway(&mut reign, shared);
            }
        }
        self.reign = Some(reign);
    }

    fn start_anyway(&mut self, reign: &mut Reign, shared: &mut Shared) {
        let waits = |row: &&Row| {
            reign.queued.contains(&row.position)
                && reign.queues.breaker(row.endpoint as u64) == "open"
        };
        let row = shared.store.durable.rows.iter().find(waits);
        let due = row.and_then(|row| Some((row.position, row.endpoint, row.life.due_at?)));
        if let Some((position, endpoint, due_at)) =
            due.filter(|(_, _, due)| *due <= shared.now.wall)
        {
            reign.taken(endpoint, None, shared);
            self.start(reign, position, due_at, None, shared);
        }
    }

    /// Counts the attempt, to be sent when that is durable.
    fn start(
        &mut self,
        reign: &mut Reign,
        position: Position,
        due_at: Timestamp,
        permit: Option<Permit>,
        shared: &mut Shared,
    ) {
        let Some(mut row) = shared.store.durable.row(position).cloned() else {
            return give_back(reign, permit, shared);
        };
        let (now, epoch) = (shared.now, reign.epoch);
        shared.ledger.taken(&row, due_at, now);
        row.life.due_at = row.life.due_at.map(|due| due.min(due_at));
        let alone = permit.is_some_and(|permit| permit.alone);
        let input = Input::Start { epoch, alone };
        if shared.bug == Some(Bug::CountedAtCommit) {
            row.life.started += 1;
            return self.send_now(Flight::new(row, epoch, permit), shared);
        }
        let decided = shared.decide(&row, input, Some(epoch));
        match decided.commit {
            Some(commit) if decided.sends() => {
                let flight = Flight::new(decided.row, epoch, permit);
                self.pending.push((commit, Then::Send(flight)));
            }
            commit => {
                give_back(reign, permit, shared);
                // Somebody was before us: what he did will be read, and until then it waits.
                let commit = commit.or_else(|| Some(shared.store.commit([])));
                self.then_follow(commit, position, epoch, None);
            }
        }
    }

    /// The count is durable: the request leaves, unless the lease might end before it.
    pub(crate) fn send(&mut self, mut flight: Flight, shared: &mut Shared) {
        let epoch = flight.epoch;
        let reign = self.reign.as_ref().filter(|reign| reign.epoch == epoch);
        if reign.is_some_and(|reign| may_send(reign, shared)) {
            return self.send_now(flight, shared);
        }
        self.release(&mut flight, None, shared);
        self.record(flight, Input::GiveBack { epoch }, shared);
    }

    fn send_now(&mut self, mut flight: Flight, shared: &mut Shared) {
        let (position, attempt, now) = (flight.row.position, flight.attempt(), shared.now.mono);
        let lease_end = self
            .reign
            .as_ref()
            .map_or(Duration::ZERO, |reign| reign.lease_end);
        let lease = shared.store.durable.lease;
        let fits = lease.epoch == flight.epoch && now + TIMEOUT <= lease.end.min(lease_end);
        shared.ledger.must(
            fits || shared.bug == Some(Bug::CountedAtCommit),
            Invariant::S7,
            || {
                format!(
                    "{position} is sent at {now:?} by epoch {} under {lease:?}",
                    flight.epoch
                )
            },
        );
        let line = shared.endpoints[flight.row.endpoint].strict;
        let line = line.then_some((flight.row.endpoint, flight.row.line));
        shared.ledger.sent(&shared.store, &flight.row, line);
        if finds_its_connection_closed(position, attempt) {
            shared.ledger.resent(position, attempt);
            if shared.bug == Some(Bug::ResendsWithoutEnd) {
                shared.ledger.resent(position, attempt);
            }
        }
        let (outcome, took) = shared.moods[flight.row.endpoint].answer(&mut shared.rng);
        let worker = self.process.worker;
        shared.note(|| {
            format!("    worker {worker} sends {position}, attempt {attempt}: {outcome:?}")
        });
        if outcome == Outcome::LostReply {
            shared.ledger.fault(position, attempt);
        }
        if outcome.is_accepted() {
            shared.ledger.accepted(&shared.store, position, attempt);
        }
        flight.outcome = outcome;
        flight.sent_at = now;
        flight.ends_at = now + took.min(TIMEOUT);
        self.flights.push(flight);
    }

    /// Takes the answers: the slot is given back first, the outcome is written then.
    pub(crate) fn answers(&mut self, shared: &mut Shared) {
        let now = shared.now;
        let flights = std::mem::take(&mut self.flights);
        let (ended, on_their_way): (Vec<_>, _) = flights
            .into_iter()
            .partition(|flight| flight.ends_at <= now.mono);
        self.flights = on_their_way;
        for mut flight in ended {
            let answer = flight
                .outcome
                .answer(flight.ends_at - flight.sent_at, now.wall);
            self.release(&mut flight, Some(answer), shared);
            let (attempt, epoch, verdict) =
                (flight.attempt(), flight.epoch, flight.outcome.verdict());
            self.record(
                flight,
                Input::Finish {
                    attempt,
                    epoch,
                    verdict,
                },
                shared,
            );
        }
    }

    fn release(&mut self, flight: &mut Flight, answer: Option<Feedback>, shared: &mut Shared) {
        let permit = flight.permit.take();
        let reign = self
            .reign
            .as_mut()
            .filter(|reign| reign.epoch == flight.epoch);
        if let Some((reign, permit)) = reign.zip(permit) {
            let jitter = shared.rng.random();
            reign.release(&permit, answer, jitter, shared);
        }
    }

    /// Writes the end of an attempt, where it can with the start of the one behind it: decided from what was last seen and,
    /// if somebody was before us, once more.
    fn record(&mut self, flight: Flight, input: Input, shared: &mut Shared) {
        let (position, epoch) = (flight.row.position, flight.epoch);
        let asked_s = flight.outcome.asked_s();
        let mut decided = shared.ask(&flight.row, input);
        if let Some(behind) = self.take_behind(&decided, epoch, shared) {
            if shared.bug == Some(Bug::NextBeforeOutcome) {
                return self.send_next_first(behind, flight, shared);
            }
            decided.commit = self.offer_both(&decided, behind, shared);
        }
        if decided.commit.is_none() {
            decided = shared.decide(&flight.row, input, None);
        }
        if decided.commit.is_none()
            && let Some(row) = shared.store.written.row(position).cloned()
        {
            decided = shared.decide(&row, input, None);
        }
        if decided.commit.is_none() {
            let worker = self.process.worker;
            return shared.note(|| format!("    worker {worker} is too late with {position}"));
        }
        if matches!(input, Input::Finish { .. }) {
            let waits = shared.endpoints[decided.row.endpoint].waits;
            shared
                .ledger
                .due_again(waits, &decided.row.life, shared.now.wall, asked_s);
        }
        let result = matches!(input, Input::Finish { .. }).then_some(flight);
        self.then_follow(decided.commit, position, epoch, result);
    }

    /// Of a strict line that goes on: the one behind, if it could be sent at once, with its start decided.
    fn take_behind(&mut self, ahead: &Decided, epoch: u64, shared: &mut Shared) -> Option<Behind> {
        let row = &ahead.row;
        let ends = row.life.state.is_terminal() && !row.blocks && !ahead.disables();
        if !shared.endpoints[row.endpoint].strict || !ends {
            return None;
        }
        let reign = self.reign.as_mut().filter(|reign| reign.epoch == epoch)?;
        if !may_send(reign, shared) {
            return None;
        }
        let key = row.endpoint as u64;
        let turn = reign
            .queues
            .take_behind(key, row.line, row.position, shared.now)?;
        reign.queued.remove(&turn.position);
        reign.taken(row.endpoint, Some(&turn.permit), shared);
        let mut behind = shared.store.durable.row(turn.position).cloned()?;
        shared.ledger.taken(&behind, turn.due_at, shared.now);
        behind.life.due_at = behind.life.due_at.map(|due| due.min(turn.due_at));
        let alone = false;
        let decided = shared.ask(&behind, Input::Start { epoch, alone });
        let taken = Behind {
            change: decided.change(Some(epoch)),
            flight: Flight::new(decided.row.clone(), epoch, Some(turn.permit)),
            turn,
            ahead: row.position,
        };
        if decided.sends() {
            return Some(taken);
        }
        self.give_back(taken, shared);
        None
    }

    /// Both in one commit. Where somebody was before us, the one behind is given back.
    fn offer_both(
        &mut self,
        ahead: &Decided,
        behind: Behind,
        shared: &mut Shared,
    ) -> Option<Commit> {
        let both = Change {
            next: Some(Box::new(behind.change.clone())),
            ..ahead.change(None)
        };
        let commit = shared.offer(both);
        match commit {
            Some(commit) => self
                .pending
                .push((commit, Then::HandOver(Box::new(behind)))),
            None => self.give_back(behind, shared),
        }
        commit
    }

    /// The planted bug: the next is counted and sent, and the outcome of the one ahead is written when there is time.
    fn send_next_first(&mut self, behind: Behind, mut ahead: Flight, shared: &mut Shared) {
        match shared.offer(behind.change.clone()) {
            Some(commit) => self
                .pending
                .push((commit, Then::HandOver(Box::new(behind)))),
            None => self.give_back(behind, shared),
        }
        ahead.ends_at = shared.now.mono + TIMEOUT;
        self.flights.push(ahead);
    }

    /// Its line is its own.
    pub(crate) fn hand_over(&mut self, behind: Behind, shared: &mut Shared) {
        let Behind {
            turn,
            ahead,
            flight,
            ..
        } = behind;
        let epoch = flight.epoch;
        if let Some(reign) = self.reign.as_mut().filter(|reign| reign.epoch == epoch) {
            reign.queues.hand_over(&turn, ahead, shared.now);
        }
        self.send(flight, shared);
    }

    fn give_back(&mut self, behind: Behind, shared: &mut Shared) {
        let Some(reign) = &mut self.reign else {
            return;
        };
        give_back(reign, behind.flight.permit, shared);
        // What somebody did meanwhile will be read, and until then it waits.
        if let Some(row) = shared.store.durable.row(behind.turn.position).cloned() {
            reign.follow(&row, shared);
        }
    }

    pub(crate) fn then_follow(
        &mut self,
        commit: Option<Commit>,
        position: Position,
        epoch: u64,
        flight: Option<Flight>,
    ) {
        let then = Then::Follow {
            position,
            epoch,
            flight,
        };
        self.pending.extend(commit.map(|commit| (commit, then)));
    }
}

fn may_send(reign: &Reign, shared: &Shared) -> bool {
    let now = shared.now.mono;
    match shared.bug {
        Some(Bug::LeaseShorterThanTimeout) => now < reign.lease_end,
        _ => now + TIMEOUT <= reign.lease_end,
    }
}

/// What was kept for it is closed by the time it is there: of some, whatever else happens.
fn finds_its_connection_closed(position: Position, attempt: u32) -> bool {
    (position + u64::from(attempt)).is_multiple_of(7)
}

/// It was not sent.
fn give_back(reign: &mut Reign, permit: Option<Permit>, shared: &mut Shared) {
    if let Some(permit) = permit {
        reign.release(&permit, None, 0.0, shared);
    }
}
