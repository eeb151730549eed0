//! Why the store did not do what it was asked.

/// A fault of the store. Only [`Passing`](Self::Passing) and [`OverShare`](Self::OverShare) are worth another try.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    /// Nothing was written; it may work later (a full disk, a full queue).
    #[error("the store takes no writes now: {0}")]
    Passing(String),
    /// Nothing was written: too much of this client's waits already.
    #[error("too many writes of this client are waiting")]
    OverShare,
    /// What is on disk is uncertain (a failed fsync, a damaged file): stop, and recover from the file (R6).
    #[error("the store is broken: {0}")]
    Broken(String),
    /// Another process owns the lane (R5): stop.
    #[error("the lane belongs to epoch {holder} now, not to {ours}")]
    Fenced { ours: u64, holder: u64 },
    /// The delivery is not as it was when the change was decided: nothing was changed (S9).
    #[error("the delivery has changed meanwhile")]
    Stale,
}

impl Error {
    /// Whether this process must stop.
    pub fn is_final(&self) -> bool {
        matches!(self, Self::Broken(_) | Self::Fenced { .. })
    }
}
