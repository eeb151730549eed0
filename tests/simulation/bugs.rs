//! Mistakes that a delivery service can be built with: the eleven of `reliability.md`, one against strict order, and one with
//! kept connections. Each is planted around the production code, and must be found.

use super::invariants::Invariant;

/// What is done wrong.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// The attempt is counted when its result is written, not before it is sent.
    CountedAtCommit,
    /// What breaks on a kept connection is sent again as often as that happens.
    ResendsWithoutEnd,
    /// The lease ends before a request does.
    LeaseShorterThanTimeout,
    /// An intake looks whether its key is known, and stores later.
    CheckThenInsert,
    /// What was delivered is queued once more.
    RedeliversDelivered,
    /// The intake answers before its record is on disk.
    AckBeforeSync,
    /// The notice follows its event in a transaction of its own.
    NoticeLater,
    /// A breaker that opens drops what waits.
    BreakerDropsQueued,
    /// What is due is sent although the breaker is open.
    SendsWhileOpen,
    /// The epoch lives in memory, and begins again when the store crashes.
    EpochReused,
    /// A commit does not ask whether its writer saw the last version, nor who owns the lane.
    NoFence,
    /// The lane of a dead owner is left to it.
    NeverReclaimed,
    /// In a strict line the next is sent before the outcome of the one ahead is on disk.
    NextBeforeOutcome,
}

impl Bug {
    pub(crate) const ALL: [Self; 13] = [
        Self::CountedAtCommit,
        Self::ResendsWithoutEnd,
        Self::LeaseShorterThanTimeout,
        Self::CheckThenInsert,
        Self::RedeliversDelivered,
        Self::AckBeforeSync,
        Self::NoticeLater,
        Self::BreakerDropsQueued,
        Self::SendsWhileOpen,
        Self::EpochReused,
        Self::NoFence,
        Self::NeverReclaimed,
        Self::NextBeforeOutcome,
    ];

    /// What finds it. With lanes a stale commit is told by S3 and S9 alike; what is sent again breaks its
    /// line too.
    pub(crate) fn found_by(self) -> &'static [Invariant] {
        match self {
            Self::CountedAtCommit | Self::ResendsWithoutEnd => &[Invariant::S6],
            Self::LeaseShorterThanTimeout | Self::EpochReused => &[Invariant::S7],
            Self::CheckThenInsert => &[Invariant::S2],
            Self::RedeliversDelivered => &[Invariant::S8, Invariant::Order],
            Self::AckBeforeSync | Self::NoticeLater | Self::BreakerDropsQueued => &[Invariant::S1],
            Self::SendsWhileOpen => &[Invariant::S10],
            Self::NoFence => &[Invariant::S3, Invariant::S9],
            Self::NeverReclaimed => &[Invariant::L1],
            Self::NextBeforeOutcome => &[Invariant::Order],
        }
    }

    /// Within how many seeds it must be found.
    pub(crate) fn seeds(self) -> u64 {
        match self {
            Self::EpochReused | Self::NextBeforeOutcome => 3_000,
            _ => 200,
        }
    }
}
