//! The life of a delivery: one pure function.
//!
//! ```text
//! pending ─┬─start─► (attempt open) ─┬─2xx──────────────────────► delivered
//! failed  ─┘    │                    ├─failure, waits left──────► failed
//!               │                    ├─failure, no wait left────► exhausted(max_attempts)
//!               │                    ├─410, of no page──────────► exhausted(gone), and the endpoint is disabled
//!               │                    ├─interrupted, given back──► as before, due at once
//!               │                    ├─interrupted as a suspect─► failed, as by a failure
//!               │                    └─so often, and no result──► exhausted(poison)
//!               └─too old───────────────────────────────────────► exhausted(expired)
//! open ────stop────► exhausted(canceled | endpoint_deleted), after the attempt on its way
//! any ─────retry───► pending, with a full schedule: the next generation
//! ```
//!
//! What must hold, by the names of the design:
//! - **S3** `delivered`, `exhausted` and `skipped` are final, save that a retry begins a new generation.
//! - **S4** delivered only by an attempt that was answered 2xx.
//! - **S5** exhausted always has a reason; `max_attempts` only when all attempts of the generation finished.
//! - **S6** finished ≤ max, started ≤ max + interrupted (of a generation), and every send is of a started attempt: sends ≤
//!   started + those over a kept connection that broke before any byte of an answer (R4).
//! - **S7** one attempt open at a time; numbers grow by one and never repeat, over all generations.
//! - **S8** without an interruption nothing is sent after a 2xx.
//! - **S9** a result of an attempt that is not open changes nothing.
//! - **S11** no start before it is due; due moves by the schedule only.

use jiff::Timestamp;
use rand::{Rng, RngExt as _};
use schema::delivery::Status;
use schema::webhooks::{DisabledReason, Trigger};

use super::schedule::{Policy, RetryAfter};
use super::verdict::Verdict;

/// After so many interruptions in a row a delivery is sent alone at its endpoint, and each further one is charged. So one that
/// kills the process is tried by its schedule, not at every start, and the innocent are not taken down with it.
const SUSPECT_AFTER: u32 = 2;

/// Where a delivery stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    Pending,
    Failed,
    Delivered,
    Exhausted(ExhaustReason),
    Skipped(SkipReason),
}

/// Declares reasons with their words.
macro_rules! reasons {
    ($(#[$doc:meta])* $name:ident { $($(#[$variant_doc:meta])* $variant:ident = $word:literal),+ $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, Debug, PartialEq, Eq)]
        pub enum $name { $($(#[$variant_doc])* $variant),+ }

        impl $name {
            pub const ALL: &[Self] = &[$(Self::$variant),+];

            pub const fn as_str(self) -> &'static str {
                match self { $(Self::$variant => $word),+ }
            }

            pub fn parse(word: &str) -> Option<Self> {
                match word { $($word => Some(Self::$variant),)+ _ => None }
            }
        }
    };
}

reasons! {
    /// Why no more attempts will come.
    ExhaustReason {
        MaxAttempts = "max_attempts",
        /// Older than the endpoint wants.
        Expired = "expired",
        /// The endpoint answered 410.
        Gone = "gone",
        /// Its schedule is used up by attempts that ended with the process, and by nothing else.
        Poison = "poison",
        EndpointDeleted = "endpoint_deleted",
        Canceled = "canceled",
    }
}

/// What is told when it happens. The others somebody asked for, which is no news.
pub const SHOUTED: [ExhaustReason; 4] = [
    ExhaustReason::MaxAttempts,
    ExhaustReason::Expired,
    ExhaustReason::Gone,
    ExhaustReason::Poison,
];

reasons! {
    /// Why it was never meant to be sent.
    SkipReason {
        AlreadyDelivered = "already_delivered",
        TooOld = "too_old",
        /// The endpoint was disabled when the event came.
        Disabled = "disabled",
    }
}

impl State {
    pub fn status(self) -> Status {
        match self {
            Self::Pending => Status::Pending,
            Self::Failed => Status::Failed,
            Self::Delivered => Status::Delivered,
            Self::Exhausted(_) => Status::Exhausted,
            Self::Skipped(_) => Status::Skipped,
        }
    }

    pub fn reason(self) -> Option<&'static str> {
        match self {
            Self::Exhausted(reason) => Some(reason.as_str()),
            Self::Skipped(reason) => Some(reason.as_str()),
            Self::Pending | Self::Failed | Self::Delivered => None,
        }
    }

    /// From the words that [`status`](Self::status) and [`reason`](Self::reason) give.
    pub fn parse(status: &str, reason: Option<&str>) -> Option<Self> {
        match (Status::parse(status)?, reason) {
            (Status::Pending, None) => Some(Self::Pending),
            (Status::Failed, None) => Some(Self::Failed),
            (Status::Delivered, None) => Some(Self::Delivered),
            (Status::Exhausted, Some(reason)) => ExhaustReason::parse(reason).map(Self::Exhausted),
            (Status::Skipped, Some(reason)) => SkipReason::parse(reason).map(Self::Skipped),
            _ => None,
        }
    }

    pub fn is_terminal(self) -> bool {
        match self {
            Self::Pending | Self::Failed => false,
            Self::Delivered | Self::Exhausted(_) | Self::Skipped(_) => true,
        }
    }
}

/// An attempt that was counted and has no result yet. Its number is [`Life::started`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenAttempt {
    /// The owner that started it.
    pub epoch: u64,
    /// Whether nothing else of its endpoint was on its way.
    pub alone: bool,
    pub at: Timestamp,
    pub trigger: Trigger,
}

/// Everything that decides what a delivery does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    /// Grows with each change: a write is taken only from whoever saw the last.
    pub version: u32,
    pub state: State,
    /// Grows with each retry by hand or recovery; each has a full schedule.
    pub generation: u32,
    /// What makes the next attempt.
    pub trigger: Trigger,
    /// Attempts counted before their send; also the number of the last one.
    pub started: u32,
    /// Of those, in earlier generations.
    pub before: u32,
    /// Attempts of this generation that are charged to its budget, those with a result and interrupted suspects: the step
    /// of the schedule.
    pub finished: u32,
    /// Attempts of this generation whose owner or task died, or stopped, before their result, and that are not charged.
    pub interrupted: u32,
    /// Deaths of the owner since the last result.
    pub interrupted_in_a_row: u32,
    /// Why no further attempt shall follow the one on its way.
    pub stop: Option<ExhaustReason>,
    /// When the next attempt may start; none when terminal.
    pub due_at: Option<Timestamp>,
    /// What its age counts from.
    pub age_from: Timestamp,
    pub open: Option<OpenAttempt>,
}

impl Life {
    /// A delivery to be sent.
    pub fn accepted(policy: &Policy, now: Timestamp) -> Self {
        Self {
            due_at: policy.due(0, now, 0.0, None).or(Some(now)),
            ..Self::of(State::Pending, now)
        }
    }

    /// A delivery that is on record only.
    pub fn skipped(reason: SkipReason, now: Timestamp) -> Self {
        Self::of(State::Skipped(reason), now)
    }

    fn of(state: State, now: Timestamp) -> Self {
        Self {
            version: 0,
            state,
            generation: 0,
            trigger: Trigger::Schedule,
            started: 0,
            before: 0,
            finished: 0,
            interrupted: 0,
            interrupted_in_a_row: 0,
            stop: None,
            due_at: None,
            age_from: now,
            open: None,
        }
    }

    /// Whether it must be sent alone at its endpoint.
    pub fn is_suspect(&self) -> bool {
        is_suspect(self.interrupted_in_a_row)
    }

    /// Whether an attempt of this generation was made.
    pub fn has_begun(&self) -> bool {
        self.started > self.before
    }
}

/// As [`Life::is_suspect`], of the count alone.
pub fn is_suspect(interrupted_in_a_row: u32) -> bool {
    interrupted_in_a_row >= SUSPECT_AFTER
}

/// What happens to a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// An attempt is to be made by the owner.
    Start { epoch: u64, alone: bool },
    /// The attempt has a result, whoever reports it.
    Finish {
        attempt: u32,
        epoch: u64,
        verdict: Verdict,
    },
    /// The open attempt ended with its owner or its task; `epoch` is who says so.
    Interrupt { epoch: u64 },
    /// The owner stops in good order before the result is known.
    GiveBack { epoch: u64 },
    /// A full schedule from now on, whatever the state.
    Retry { trigger: Trigger },
    /// No attempt after the one on its way.
    Stop(ExhaustReason),
}

/// What is to be done, after the change is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    Send {
        attempt: u32,
    },
    /// Event-store is to be told.
    Report,
    /// Queue it again for this time.
    Wake {
        at: Timestamp,
    },
    /// Nobody got it, and no more attempts will come.
    Shout(ExhaustReason),
    /// Nothing more is to be sent there.
    Disable(DisabledReason),
    /// Nothing was changed.
    Refuse(Refusal),
}

/// Why an input changed nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Terminal is final (S3).
    Terminal,
    /// An attempt is open already (S7).
    AttemptOpen,
    /// Not before its time (S11).
    NotDue { until: Timestamp },
    /// A suspect is sent alone, or not at all.
    NotAlone,
    /// The result is of an attempt that is not open (S9).
    Stale,
}

/// The one place where a delivery changes.
pub fn transition<R: Rng + ?Sized>(
    life: &Life,
    input: Input,
    policy: &Policy,
    now: Timestamp,
    rng: &mut R,
) -> (Life, Vec<Effect>) {
    let decided = match input {
        Input::Start { epoch, alone } => start(life, epoch, alone, policy, now),
        Input::Finish {
            attempt,
            epoch,
            verdict,
        } => match &life.open {
            Some(open) if open.epoch == epoch && life.started == attempt => {
                Ok(finish(life, verdict, policy, now, rng.random()))
            }
            _ => Err(Refusal::Stale),
        },
        Input::Interrupt { epoch } => match &life.open {
            Some(open) if open.epoch <= epoch => Ok(interrupt(life, policy, now, rng.random())),
            _ => Err(Refusal::Stale),
        },
        Input::GiveBack { epoch } => match &life.open {
            Some(open) if open.epoch == epoch => Ok(give_back(life, now)),
            _ => Err(Refusal::Stale),
        },
        Input::Retry { trigger } => Ok(retry(life, trigger, now)),
        Input::Stop(reason) => stop(life, reason),
    };
    match decided {
        Ok((changed, effects)) => {
            let version = life.version.wrapping_add(1);
            (Life { version, ..changed }, effects)
        }
        Err(refusal) => (life.clone(), vec![Effect::Refuse(refusal)]),
    }
}

fn start(
    life: &Life,
    epoch: u64,
    alone: bool,
    policy: &Policy,
    now: Timestamp,
) -> Result<(Life, Vec<Effect>), Refusal> {
    if life.open.is_some() {
        return Err(Refusal::AttemptOpen);
    }
    let Some(due_at) = life.due_at.filter(|_| !life.state.is_terminal()) else {
        return Err(Refusal::Terminal);
    };
    if now < due_at {
        return Err(Refusal::NotDue { until: due_at });
    }
    let ages_from_here = policy.ages_from_first_attempt && !life.has_begun();
    let age_from = if ages_from_here { now } else { life.age_from };
    if policy.is_expired(age_from, now) {
        return Ok(exhaust(life.clone(), ExhaustReason::Expired));
    }
    if life.is_suspect() && !alone {
        return Err(Refusal::NotAlone);
    }
    let attempt = life.started + 1;
    let life = Life {
        started: attempt,
        trigger: Trigger::Schedule,
        age_from,
        open: Some(OpenAttempt {
            epoch,
            alone,
            at: now,
            trigger: life.trigger,
        }),
        ..life.clone()
    };
    Ok((life, vec![Effect::Send { attempt }]))
}

fn finish(
    life: &Life,
    verdict: Verdict,
    policy: &Policy,
    now: Timestamp,
    jitter: f64,
) -> (Life, Vec<Effect>) {
    let life = Life {
        finished: life.finished + 1,
        interrupted_in_a_row: 0,
        due_at: None,
        open: None,
        ..life.clone()
    };
    let (retry_after, gone) = match verdict {
        Verdict::Success => {
            let delivered = Life {
                state: State::Delivered,
                stop: None,
                ..life
            };
            return (delivered, vec![Effect::Report]);
        }
        Verdict::Failure {
            retry_after, gone, ..
        } => (retry_after, gone),
    };
    if gone && !policy.ends_by_schedule_only {
        let (life, mut effects) = exhaust(life, ExhaustReason::Gone);
        effects.push(Effect::Disable(DisabledReason::Gone));
        return (life, effects);
    }
    if let Some(reason) = life.stop {
        return exhaust(life, reason);
    }
    let end = ExhaustReason::MaxAttempts;
    fail(life, policy, now, jitter, retry_after, end)
}

/// What was charged is tried again while the schedule has a wait left.
fn fail(
    life: Life,
    policy: &Policy,
    now: Timestamp,
    jitter: f64,
    retry_after: Option<RetryAfter>,
    end: ExhaustReason,
) -> (Life, Vec<Effect>) {
    match policy.due(life.finished, now, jitter, retry_after) {
        None => exhaust(life, end),
        Some(at) if policy.is_expired(life.age_from, at) => exhaust(life, ExhaustReason::Expired),
        Some(at) => {
            let failed = Life {
                state: State::Failed,
                due_at: Some(at),
                ..life
            };
            (failed, vec![Effect::Report, Effect::Wake { at }])
        }
    }
}

/// The attempt may or may not have arrived. It is on record, due again at once, and not charged: the fault was ours, unless
/// it happens too often.
fn interrupt(life: &Life, policy: &Policy, now: Timestamp, jitter: f64) -> (Life, Vec<Effect>) {
    let life = Life {
        interrupted_in_a_row: life.interrupted_in_a_row + 1,
        ..life.clone()
    };
    if life.interrupted_in_a_row <= SUSPECT_AFTER || life.stop.is_some() {
        return give_back(&life, now);
    }
    if policy.ends_by_schedule_only {
        return put_off(&life, policy, now, jitter);
    }
    let life = Life {
        finished: life.finished + 1,
        open: None,
        ..life
    };
    // A result would have ended the row.
    let by_these_alone = life.finished <= life.interrupted_in_a_row - SUSPECT_AFTER;
    let end = match by_these_alone {
        true => ExhaustReason::Poison,
        false => ExhaustReason::MaxAttempts,
    };
    fail(life, policy, now, jitter, None, end)
}

/// Not charged, but by the schedule's waits, the last of them for as long as it takes.
fn put_off(life: &Life, policy: &Policy, now: Timestamp, jitter: f64) -> (Life, Vec<Effect>) {
    let last = policy.max_attempts().saturating_sub(1);
    let step = life.finished + life.interrupted_in_a_row - SUSPECT_AFTER;
    let at = policy.due(step.min(last), now, jitter, None).unwrap_or(now);
    let (life, _) = give_back(life, now);
    let life = Life {
        due_at: Some(at),
        ..life
    };
    (life, vec![Effect::Wake { at }])
}

/// As an interruption, but nobody died of it: it raises no suspicion.
fn give_back(life: &Life, now: Timestamp) -> (Life, Vec<Effect>) {
    let trigger = life.open.map_or(life.trigger, |open| open.trigger);
    let life = Life {
        interrupted: life.interrupted + 1,
        due_at: Some(now),
        trigger,
        open: None,
        ..life.clone()
    };
    match life.stop {
        Some(reason) => exhaust(life, reason),
        None => (life, vec![Effect::Wake { at: now }]),
    }
}

/// An attempt on its way becomes the first of the new generation.
fn retry(life: &Life, trigger: Trigger, now: Timestamp) -> (Life, Vec<Effect>) {
    let open = life.open.is_some();
    let life = Life {
        state: State::Pending,
        generation: life.generation + 1,
        trigger: if open { life.trigger } else { trigger },
        before: life.started - u32::from(open),
        finished: 0,
        interrupted: 0,
        stop: None,
        due_at: Some(now),
        age_from: now,
        ..life.clone()
    };
    let wake = (!open).then_some(Effect::Wake { at: now });
    (life, wake.into_iter().collect())
}

fn stop(life: &Life, reason: ExhaustReason) -> Result<(Life, Vec<Effect>), Refusal> {
    if life.state.is_terminal() {
        return Err(Refusal::Terminal);
    }
    if life.open.is_some() {
        let stopping = Life {
            stop: Some(reason),
            ..life.clone()
        };
        return Ok((stopping, Vec::new()));
    }
    Ok(exhaust(life.clone(), reason))
}

fn exhaust(life: Life, reason: ExhaustReason) -> (Life, Vec<Effect>) {
    let life = Life {
        state: State::Exhausted(reason),
        stop: None,
        due_at: None,
        ..life
    };
    let mut effects = vec![Effect::Report];
    if SHOUTED.contains(&reason) {
        effects.push(Effect::Shout(reason));
    }
    (life, effects)
}

#[cfg(test)]
mod tests;
