//! One attempt: count, send, record. The count is durable before the send (R4).

use std::panic::AssertUnwindSafe;
use std::sync::Arc;
use std::time::Duration;

use futures_util::FutureExt as _;
use schema::webhooks::Phases;

use super::backoff::{Backoff, PROMPT};
use super::registry::Live;
use super::send::Answer;
use super::{Slot, Worker};
use crate::domain::ids::Position;
use crate::domain::queues::{Item, Rules};
use crate::domain::transition::{
    Effect, ExhaustReason, Input, Life, OpenAttempt, Refusal, State, transition,
};
use crate::domain::verdict::Verdict;
use crate::error::Error;
use crate::storage::{Change, Changed, Ended, INTERRUPTED, LANE, Stored};

/// After a start that could not be counted.
const RECOUNT_AFTER: Duration = Duration::from_secs(1);

/// Where an attempt left its delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Left {
    /// Ended, or queued again; or this process is to stop.
    Settled,
    /// The store knows better than this attempt: nothing in memory has it any more.
    Astray,
}

impl Worker {
    /// Runs an attempt, by its number. However it ends, its delivery is not forgotten before the next start.
    pub(super) fn go(
        self: &Arc<Self>,
        position: Position,
        number: u32,
        attempt: impl Future<Output = Left> + Send + 'static,
    ) {
        let worker = Arc::clone(self);
        // It is large, and would be moved several times on its way into a task.
        let attempt = Box::pin(attempt);
        self.attempts.spawn(async move {
            // A panic ends this attempt alone.
            let left = AssertUnwindSafe(attempt).catch_unwind().await;
            if left.ok() != Some(Left::Settled) {
                worker.put_back(position, number).await;
            }
        });
    }

    /// Counts the next attempt of a queued delivery durably, then sends it.
    pub(super) async fn count_and_send(self: Arc<Self>, slot: Slot, mut stored: Stored) -> Left {
        let Some(live) = self.registry.by_position(stored.endpoint) else {
            // Its endpoint was removed, and a job ends what is open there.
            return Left::Settled;
        };
        let input = Input::Start {
            epoch: self.epoch,
            alone: slot.is_alone(),
        };
        let (life, effects) = self.decide(&stored, input, &live);
        match effects[..] {
            [Effect::Send { .. }] => {}
            // The clock was set back since it was taken as due.
            [Effect::Refuse(Refusal::NotDue { .. })] => {
                self.queue_again(&live, &stored);
                return Left::Settled;
            }
            // An entry that a command has overtaken.
            [Effect::Refuse(Refusal::Terminal | Refusal::AttemptOpen)] => {
                self.end_line(&live, &stored);
                return Left::Settled;
            }
            [Effect::Refuse(Refusal::NotAlone | Refusal::Stale)] => {
                self.queue_again(&live, &stored);
                return Left::Settled;
            }
            // Too old to be sent.
            _ => {
                drop(slot);
                return self.conclude(&live, &stored, life, effects, None).await;
            }
        }
        let change = Change {
            fence: Some(self.epoch),
            ..self.change(&stored, life.clone())
        };
        match self.change_one(change).await {
            Ok(_) => {
                stored.life = life;
                self.send_and_record(live, slot, stored).await
            }
            Err(Error::Passing(_)) => {
                let now = self.now();
                stored.life.due_at = now.checked_add(RECOUNT_AFTER).ok();
                self.queue_again(&live, &stored);
                Left::Settled
            }
            // A command came in between: it has queued what is to be sent, and ended what is not.
            Err(Error::Stale) => {
                self.note_fault(&Error::Stale);
                Left::Settled
            }
            Err(fault) => self.note_fault(&fault),
        }
    }

    /// Sends an attempt that is counted, and records how it ended.
    pub(super) async fn send_and_record(
        self: Arc<Self>,
        live: Arc<Live>,
        slot: Slot,
        stored: Stored,
    ) -> Left {
        let Some(open) = stored.life.open else {
            return Left::Astray;
        };
        let answer = tokio::select! {
            answer = self.send(&live, &stored) => Some(answer),
            () = self.give_back.cancelled() => None,
        };
        // A slot covers the socket, not the commit.
        let said = answer
            .as_ref()
            .map(|answer| answer.of_the_endpoint(self.now()));
        slot.answered(said, &stored.event.correlation_id);
        match &answer {
            Some(answer) => self.tell(&live, &stored, answer),
            None => self.outside.vitals.interrupted.inc(),
        }
        self.record(live, stored, open, answer).await
    }

    /// Tries until the store takes it, or never will: a result that is known is not thrown away for a full disk. Where a
    /// command came in between, it is decided again from what that left.
    async fn record(
        self: Arc<Self>,
        live: Arc<Live>,
        mut stored: Stored,
        open: OpenAttempt,
        answer: Option<Answer>,
    ) -> Left {
        let attempt = stored.life.started;
        loop {
            let input = match &answer {
                Some(answer) => Input::Finish {
                    attempt,
                    epoch: open.epoch,
                    verdict: answer.verdict,
                },
                None => Input::GiveBack { epoch: open.epoch },
            };
            let (life, effects) = self.decide(&stored, input, &live);
            if matches!(effects[..], [Effect::Refuse(_)]) {
                return self.note_fault(&Error::Stale);
            }
            let ended = Some(ended_of(attempt, open, answer.as_ref(), &life));
            match self
                .try_conclude(&live, &stored, life, effects, ended)
                .await
            {
                Ok(()) => return Left::Settled,
                Err(Error::Stale) => match self.reload(stored.position).await {
                    Some(reloaded) => stored = reloaded,
                    None => return Left::Settled,
                },
                Err(fault) => {
                    tracing::warn!(
                        correlation_id = %stored.event.correlation_id, event_id = %stored.event.event_id,
                        delivery_id = %stored.delivery_id, attempt, %fault, "a result was not recorded",
                    );
                    return self.note_fault(&fault);
                }
            }
        }
    }

    /// As [`try_conclude`](Self::try_conclude), of what was not sent.
    async fn conclude(
        self: &Arc<Self>,
        live: &Arc<Live>,
        stored: &Stored,
        life: Life,
        effects: Vec<Effect>,
        ended: Option<Ended>,
    ) -> Left {
        match self.try_conclude(live, stored, life, effects, ended).await {
            Ok(()) => Left::Settled,
            // As of a count: a command came in between.
            Err(Error::Stale) => {
                self.note_fault(&Error::Stale);
                Left::Settled
            }
            Err(fault) => self.note_fault(&fault),
        }
    }

    /// Commits a change with what follows from it, then carries that out.
    pub(super) async fn try_conclude(
        self: &Arc<Self>,
        live: &Arc<Live>,
        stored: &Stored,
        life: Life,
        effects: Vec<Effect>,
        ended: Option<Ended>,
    ) -> Result<(), Error> {
        // Its policy may have changed since the attempt began.
        let live = &self
            .registry
            .by_position(stored.endpoint)
            .unwrap_or_else(|| Arc::clone(live));
        let blocks = live.blocks() && stops_its_line(life.state);
        let raised = self.raise(live, stored, &life, &effects);
        let mut change = Change {
            ended,
            blocks,
            disable: effects.iter().find_map(|effect| match effect {
                Effect::Disable(reason) => Some(*reason),
                _ => None,
            }),
            raise: raised.iter().map(|raised| raised.accept.clone()).collect(),
            ..self.change(stored, life)
        };
        self.report_if(&mut change, stored, &effects);
        let (life, disables) = (change.life.clone(), change.disable.is_some());
        let frees_its_line = live.is_strict() && life.state.is_terminal() && !blocks;
        // A process that stops begins nothing.
        let goes_on = frees_its_line && !disables && !self.attempts.is_closed();
        let mut behind = match goes_on {
            true => self.take_behind(stored).await,
            false => None,
        };
        change.next = behind.as_ref().map(|behind| Box::new(behind.count()));
        let mut backoff = Backoff::up_to(PROMPT);
        let changed = loop {
            match self.change_one(change.clone()).await {
                Err(Error::Passing(_) | Error::OverShare) => backoff.wait().await,
                Ok(changed) => break changed,
                Err(fault) => {
                    // Whichever of the two was not as it had been read: this one is decided without the other.
                    if let Some(behind) = behind.take() {
                        change.next = None;
                        behind.give_back().await;
                        continue;
                    }
                    for raised in raised {
                        raised.plan.drop_slots();
                    }
                    return Err(fault);
                }
            }
        };
        if disables && self.registry.by_position(stored.endpoint).is_some() {
            let rules = Rules {
                enabled: false,
                ..live.rules()
            };
            let now = self.both_clocks();
            self.queues().set_endpoint(stored.endpoint, rules, now);
        }
        self.act(live, stored, &life, &effects);
        self.tell_ended_page(live, stored, &life);
        match behind {
            Some(behind) => behind.go(stored.position),
            None => self.end_in_line(live, stored, life.state, blocks),
        }
        if disables {
            self.learn_endpoints(&stored.event.correlation_id).await;
        }
        for (raised, placed) in raised.into_iter().zip(changed.raised) {
            self.set_raised_going(raised, placed.as_ref());
        }
        Ok(())
    }

    /// Asks the one function in which a delivery changes.
    pub(super) fn decide(&self, stored: &Stored, input: Input, live: &Live) -> (Life, Vec<Effect>) {
        let rng = &mut *self.outside.chance.draw();
        transition(&stored.life, input, &live.policy, self.now(), rng)
    }

    /// A change of a delivery as it was read, and nothing beside it.
    pub(super) fn change(&self, stored: &Stored, life: Life) -> Change {
        Change {
            lane: LANE,
            position: stored.position,
            version: stored.life.version,
            life,
            fence: None,
            ended: None,
            blocks: false,
            to_tail: false,
            report: None,
            disable: None,
            raise: Vec::new(),
            next: None,
            now: self.now(),
        }
    }

    /// Event-store is told of its own events.
    pub(super) fn report_if(&self, change: &mut Change, stored: &Stored, effects: &[Effect]) {
        let reports = stored.event.source.is_some() && effects.contains(&Effect::Report);
        change.report = reports.then_some(self.epoch);
    }

    pub(super) async fn change_one(&self, change: Change) -> Result<Changed, Error> {
        let mut changed = self.outside.storage.change(vec![change]).await?;
        changed.pop().unwrap_or(Err(Error::Stale))
    }

    /// Carries out what the transition asked for, now that it is durable.
    pub(super) fn act(&self, live: &Live, stored: &Stored, life: &Life, effects: &[Effect]) {
        for effect in effects {
            match effect {
                Effect::Wake { .. } => {
                    self.enqueue(live, self.item_of(stored, life));
                }
                // Of a client's own events event-store knows nothing.
                Effect::Report if stored.event.source.is_some() => self.outcomes.notify_one(),
                Effect::Shout(reason) => self.shout(live, stored, life, *reason),
                Effect::Report | Effect::Send { .. } | Effect::Disable(_) | Effect::Refuse(_) => {}
            }
        }
    }

    /// What has ended leaves its strict line, which goes on unless it stops there.
    pub(super) fn end_line(&self, live: &Live, stored: &Stored) {
        self.end_in_line(live, stored, stored.life.state, stored.blocks);
    }

    fn end_in_line(&self, live: &Live, stored: &Stored, state: State, blocks: bool) {
        if live.is_strict() && state.is_terminal() {
            let (now, endpoint) = (self.both_clocks(), live.endpoint.position);
            self.queues()
                .end(endpoint, stored.line, stored.position, blocks, now);
            self.look_again.notify_one();
        }
    }

    fn item_of(&self, stored: &Stored, life: &Life) -> Item {
        let event_type = &stored.event.event_type;
        self.item(
            stored.position,
            stored.order_at,
            stored.line,
            event_type,
            life,
        )
    }

    /// As its life says.
    pub(super) fn queue_again(&self, live: &Live, stored: &Stored) {
        self.enqueue(live, self.item_of(stored, &stored.life));
    }

    pub(super) async fn reload(&self, position: Position) -> Option<Stored> {
        let mut backoff = Backoff::up_to(PROMPT);
        loop {
            match self.outside.storage.load(LANE, vec![position]).await {
                Ok(mut loaded) => return loaded.pop(),
                Err(fault) if fault.is_final() => {
                    self.note_fault(&fault);
                    return None;
                }
                Err(_) => backoff.wait().await,
            }
        }
    }

    fn shout(&self, live: &Live, stored: &Stored, life: &Life, reason: ExhaustReason) {
        let reason = reason.as_str();
        tracing::warn!(
            correlation_id = %stored.event.correlation_id, event_id = %stored.event.event_id,
            delivery_id = %stored.delivery_id, endpoint_id = %live.endpoint.endpoint_id,
            client_id = &*live.endpoint.client_id, attempts = life.started, reason, "delivery exhausted",
        );
        let vitals = &self.outside.vitals;
        vitals.exhausted.with_label_values(&[reason]).inc();
        vitals.note(|facts| facts.exhausted += 1);
    }

    fn tell(&self, live: &Live, stored: &Stored, answer: &Answer) {
        let (word, vitals) = (answer.verdict.word(), &self.outside.vitals);
        vitals.attempts.with_label_values(&[word]).inc();
        let delivered = answer.verdict == Verdict::Success;
        if live.endpoint.endpoint_id.is_built_in() {
            let now = self.now();
            vitals.note(|facts| {
                let since = facts
                    .destination_failing
                    .take()
                    .map_or(now, |(since, _)| since);
                facts.destination_failing = (!delivered).then(|| (since, word.to_owned()));
            });
        }
        let (event, took_ms) = (&stored.event, answer.took_ms());
        let source_event_id = event.source.as_ref().map(|source| source.event_id.as_str());
        if delivered {
            tracing::info!(
                correlation_id = %event.correlation_id, event_id = %event.event_id, source_event_id,
                delivery_id = %stored.delivery_id, attempt = stored.life.started,
                status_code = answer.status_code, resent = answer.resent, took_ms, "delivered",
            );
        } else {
            tracing::warn!(
                correlation_id = %event.correlation_id, event_id = %event.event_id, source_event_id,
                delivery_id = %stored.delivery_id, attempt = stored.life.started,
                status_code = answer.status_code, error = word, error_reason = answer.error_reason,
                resent = answer.resent, took_ms, "attempt failed",
            );
            self.tell_failing_page(live, stored, word);
        }
    }
}

/// Whether a strictly ordered endpoint that blocks stops here. What its owner has canceled is settled.
fn stops_its_line(state: State) -> bool {
    matches!(state, State::Exhausted(reason) if reason != ExhaustReason::Canceled)
}

/// The end of an attempt, as it is kept; `None`: nobody read an answer.
pub(super) fn ended_of(
    number: u32,
    open: OpenAttempt,
    answer: Option<&Answer>,
    life: &Life,
) -> Ended {
    let error = match answer.map(|answer| answer.verdict) {
        Some(Verdict::Success) => None,
        Some(Verdict::Failure { error, .. }) => Some(error.to_owned()),
        None => Some(INTERRUPTED.to_owned()),
    };
    Ended {
        number,
        epoch: open.epoch,
        trigger: open.trigger,
        started_at: open.at,
        duration_ms: answer.map(Answer::took_ms),
        phases: answer.map_or(Phases::default(), |answer| answer.phases),
        status_code: answer.and_then(|answer| answer.status_code),
        error,
        error_reason: answer.and_then(|answer| answer.error_reason.map(str::to_owned)),
        resent: answer.is_some_and(|answer| answer.resent),
        response: answer.and_then(|answer| answer.response.clone()),
        next_attempt_at: life.due_at,
    }
}
