//! Why the store did not do what it was asked, and what callers are told of it.

use runtime::group_commit::Refusal;
use runtime::problem::{Code, Problem};

/// Why a write or a read was not done. Nothing was written.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("too many requests are waiting for the store")]
    Overloaded,
    /// Less is free than what outcomes and deletes need; intake waits until there is more.
    #[error("the disk is nearly full")]
    DiskReserve,
    #[error("the disk is full")]
    DiskFull,
    #[error("the store failed: {0}")]
    Failed(String),
    /// What is on disk is not known any more; the process must stop and recover (R6).
    #[error("the store cannot go on: {0}")]
    Fatal(String),
}

impl Error {
    /// Seconds after which another try makes sense.
    pub fn retry_after_s(&self) -> u64 {
        match self {
            Self::Overloaded => 1,
            Self::Failed(_) | Self::Fatal(_) => 2,
            Self::DiskReserve | Self::DiskFull => 5,
        }
    }
}

impl From<Refusal<Self>> for Error {
    fn from(refusal: Refusal<Self>) -> Self {
        match refusal {
            // Its writes are nobody's, so that no share is over.
            Refusal::Overloaded | Refusal::OverShare => Self::Overloaded,
            Refusal::Stopped => Self::Fatal("the writer has stopped".to_owned()),
            Refusal::Failed(fault) => fault,
        }
    }
}

impl From<Error> for Problem {
    fn from(error: Error) -> Self {
        let retry_after_s = error.retry_after_s();
        if let Error::Failed(fault) | Error::Fatal(fault) = &error {
            tracing::error!(fault, "the store failed");
        }
        Code::Unavailable
            .because("the event store cannot do this now, try again")
            .retry_after(retry_after_s)
    }
}

/// Why the feed cannot be read from a token.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum FeedError {
    /// The token is of another history of the store.
    #[error("the token is not of this store's history")]
    Diverged,
    /// The token is below the oldest notice kept.
    #[error("the token is older than what is kept")]
    TooOld,
    #[error(transparent)]
    Store(#[from] Error),
}

impl From<FeedError> for Problem {
    fn from(error: FeedError) -> Self {
        match error {
            FeedError::Diverged => Code::FeedDiverged.because(
                "start again without a token; what was delivered is told with each notice",
            ),
            FeedError::TooOld => Code::FeedTooOld
                .because("notices after this token are gone; start again without a token"),
            FeedError::Store(error) => error.into(),
        }
    }
}
