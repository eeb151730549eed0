//! From a turn to its outcome: what a worker does with one attempt.

use std::time::Duration;

use delivery::domain::queues::{Answer, Permit};
use delivery::domain::transition::{Effect, Input};
use jiff::Timestamp;
use rand::RngExt as _;

use super::bugs::Bug;
use super::destination::Outcome;
use super::invariants::Invariant;
use super::model::{Commit, Position, Row};
use super::reign::Reign;
use super::shared::Shared;
use super::worker::{Flight, TIMEOUT, Then, Worker};

/// So many are taken in one go.
const AT_ONCE: usize = 3;

impl Worker {
    pub(crate) fn claim(&mut self, shared: &mut Shared) {
        let Some(mut reign) = self.reign.take() else {
            return;
        };
        let now = shared.now;
        if reign.starts_from <= now.mono && may_send(&reign, shared) {
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
        let sends = decided
            .effects
            .iter()
            .any(|effect| matches!(effect, Effect::Send { .. }));
        match decided.commit {
            Some(commit) if sends => {
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
        shared.ledger.sent(&shared.store, position, attempt);
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

    fn release(&mut self, flight: &mut Flight, answer: Option<Answer>, shared: &mut Shared) {
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

    /// Writes the end of an attempt: decided from what was last seen and, if somebody was before us, once more.
    fn record(&mut self, flight: Flight, input: Input, shared: &mut Shared) {
        let (position, epoch) = (flight.row.position, flight.epoch);
        let asked_s = flight.outcome.asked_s();
        let mut decided = shared.decide(&flight.row, input, None);
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

/// It was not sent.
fn give_back(reign: &mut Reign, permit: Option<Permit>, shared: &mut Shared) {
    if let Some(permit) = permit {
        reign.release(&permit, None, 0.0, shared);
    }
}
