//! The life of a delivery: one pure function.
//!
//! ```text
//! pending ─┬─start─► (attempt open) ─┬─2xx──────────────────────► delivered
//! failed  ─┘                         ├─failure, waits left──────► failed
//!                                    ├─failure, no wait left────► exhausted(max_attempts)
//!                                    ├─interrupted, given back──► as before, due at once
//!                                    └─interrupted as a suspect─► exhausted(poison)
//! ```
//!
//! What must hold, by the names of the design:
//! - **S3** `delivered`, `exhausted` and `skipped` are final.
//! - **S4** delivered only by an attempt that was answered 2xx.
//! - **S5** exhausted always has a reason; `max_attempts` only when all attempts finished.
//! - **S6** finished ≤ max, started ≤ max + interrupted, and every send is of a started attempt.
//! - **S7** one attempt open at a time; numbers grow by one and never repeat.
//! - **S8** without an interruption nothing is sent after a 2xx.
//! - **S9** a result of an attempt that is not open changes nothing.
//! - **S11** no start before it is due; due moves by the schedule only.

use jiff::Timestamp;
use rand::{Rng, RngExt as _};
use schema::delivery::Status;

use super::result::Verdict;
use super::schedule::Policy;

/// After so many interruptions in a row a delivery is sent alone, so that the next crash tells whether it is the cause.
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

/// Why no more attempts will come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ExhaustReason {
    MaxAttempts,
    /// Its attempts ended with the process three times, the last time with nothing else on its way.
    Poison,
}

/// Why it was never meant to be sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SkipReason {
    AlreadyDelivered,
    TooOld,
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
            Self::Exhausted(ExhaustReason::MaxAttempts) => Some("max_attempts"),
            Self::Exhausted(ExhaustReason::Poison) => Some("poison"),
            Self::Skipped(SkipReason::AlreadyDelivered) => Some("already_delivered"),
            Self::Skipped(SkipReason::TooOld) => Some("too_old"),
            Self::Pending | Self::Failed | Self::Delivered => None,
        }
    }

    /// From the words that [`status`](Self::status) and [`reason`](Self::reason) give.
    pub fn parse(status: &str, reason: Option<&str>) -> Option<Self> {
        match (Status::parse(status)?, reason) {
            (Status::Pending, None) => Some(Self::Pending),
            (Status::Failed, None) => Some(Self::Failed),
            (Status::Delivered, None) => Some(Self::Delivered),
            (Status::Exhausted, Some("max_attempts")) => {
                Some(Self::Exhausted(ExhaustReason::MaxAttempts))
            }
            (Status::Exhausted, Some("poison")) => Some(Self::Exhausted(ExhaustReason::Poison)),
            (Status::Skipped, Some("already_delivered")) => {
                Some(Self::Skipped(SkipReason::AlreadyDelivered))
            }
            (Status::Skipped, Some("too_old")) => Some(Self::Skipped(SkipReason::TooOld)),
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
    /// Whether nothing else was on its way.
    pub alone: bool,
}

/// Everything that decides what a delivery does next.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Life {
    pub state: State,
    /// Attempts counted before their send; also the number of the last one.
    pub started: u32,
    /// Attempts with a result: what the budget is charged for, and the step of the schedule.
    pub finished: u32,
    /// Attempts whose owner or task died, or stopped, before their result.
    pub interrupted: u32,
    /// Deaths of the owner since the last result.
    pub interrupted_in_a_row: u32,
    /// When the next attempt may start; none when terminal.
    pub due_at: Option<Timestamp>,
    pub open: Option<OpenAttempt>,
}

impl Life {
    /// A delivery to be sent; `None` where the policy has no first attempt.
    pub fn accepted(policy: &Policy, now: Timestamp) -> Self {
        Self {
            state: State::Pending,
            started: 0,
            finished: 0,
            interrupted: 0,
            interrupted_in_a_row: 0,
            due_at: policy.due(0, now, 0.0, None).or(Some(now)),
            open: None,
        }
    }

    /// A delivery that is on record only.
    pub fn skipped(reason: SkipReason) -> Self {
        Self {
            state: State::Skipped(reason),
            started: 0,
            finished: 0,
            interrupted: 0,
            interrupted_in_a_row: 0,
            due_at: None,
            open: None,
        }
    }

    /// Whether its next attempt must be the only one on its way.
    pub fn is_suspect(&self) -> bool {
        is_suspect(self.interrupted_in_a_row)
    }
}

/// As [`Life::is_suspect`], of the one field it looks at.
pub fn is_suspect(interrupted_in_a_row: u32) -> bool {
    interrupted_in_a_row >= SUSPECT_AFTER
}

/// What happens to a delivery.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Input {
    /// The owner wants to send; `alone` says that nothing else is on its way.
    Start { epoch: u64, alone: bool },
    /// An attempt has its result.
    Finish {
        attempt: u32,
        epoch: u64,
        verdict: Verdict,
    },
    /// The owner of `epoch` found an attempt left open by an earlier owner, or by a task of its own that is gone.
    Interrupt { epoch: u64 },
    /// The owner stops in good order and cannot wait for the result.
    GiveBack { epoch: u64 },
}

/// What must follow, once the new state is durable.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Effect {
    /// Send this attempt now (R4: the state that counts it is durable by then).
    Send { attempt: u32 },
    /// Come again at this time.
    Wake { at: Timestamp },
    /// Tell event-store.
    Report,
    /// Tell somebody: no more attempts will come.
    Shout(ExhaustReason),
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
        Input::Start { epoch, alone } => start(life, epoch, alone, now),
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
            Some(open) if open.epoch <= epoch => Ok(interrupt(life, open.alone, now)),
            _ => Err(Refusal::Stale),
        },
        Input::GiveBack { epoch } => match &life.open {
            Some(open) if open.epoch == epoch => Ok(give_back(life, now)),
            _ => Err(Refusal::Stale),
        },
    };
    decided.unwrap_or_else(|refusal| (life.clone(), vec![Effect::Refuse(refusal)]))
}

fn start(
    life: &Life,
    epoch: u64,
    alone: bool,
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
    if life.is_suspect() && !alone {
        return Err(Refusal::NotAlone);
    }
    let attempt = life.started + 1;
    let life = Life {
        started: attempt,
        open: Some(OpenAttempt { epoch, alone }),
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
    let finished = life.finished + 1;
    let life = Life {
        finished,
        interrupted_in_a_row: 0,
        due_at: None,
        open: None,
        ..life.clone()
    };
    let retry_after = match verdict {
        Verdict::Success => {
            let delivered = Life {
                state: State::Delivered,
                ..life
            };
            return (delivered, vec![Effect::Report]);
        }
        Verdict::Failure { retry_after, .. } => retry_after,
    };
    match policy.due(finished, now, jitter, retry_after) {
        Some(at) => {
            let failed = Life {
                state: State::Failed,
                due_at: Some(at),
                ..life
            };
            (failed, vec![Effect::Report, Effect::Wake { at }])
        }
        None => exhaust(life, ExhaustReason::MaxAttempts),
    }
}

/// The attempt may or may not have arrived. It is on record, due again at once, and not charged: the fault was ours.
fn interrupt(life: &Life, alone: bool, now: Timestamp) -> (Life, Vec<Effect>) {
    let life = Life {
        interrupted: life.interrupted + 1,
        interrupted_in_a_row: life.interrupted_in_a_row + 1,
        due_at: Some(now),
        open: None,
        ..life.clone()
    };
    // That nothing else happened to be on its way accuses nobody; that a suspect was sent alone does.
    if alone && life.interrupted_in_a_row > SUSPECT_AFTER {
        let life = Life {
            due_at: None,
            ..life
        };
        return exhaust(life, ExhaustReason::Poison);
    }
    (life, vec![Effect::Wake { at: now }])
}

/// As an interruption, but nobody died of it: it raises no suspicion.
fn give_back(life: &Life, now: Timestamp) -> (Life, Vec<Effect>) {
    let life = Life {
        interrupted: life.interrupted + 1,
        due_at: Some(now),
        open: None,
        ..life.clone()
    };
    (life, vec![Effect::Wake { at: now }])
}

fn exhaust(life: Life, reason: ExhaustReason) -> (Life, Vec<Effect>) {
    let life = Life {
        state: State::Exhausted(reason),
        ..life
    };
    (life, vec![Effect::Report, Effect::Shout(reason)])
}

#[cfg(test)]
mod tests;
