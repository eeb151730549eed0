//! Why a source could not be polled.

use std::time::Duration;

use crate::domain::page;

/// Each has a stable word, told in the answer of a pull and in the logs.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Error {
    #[error("the page did not answer in time")]
    Timeout,
    /// No connection, or one that broke off.
    #[error("no whole answer: {0}")]
    Connect(String),
    /// What came is not HTTP, as the stable word says.
    #[error("what answers is not a web server: {0}")]
    NotHttp(&'static str),
    #[error("the page answered {status}")]
    Status {
        status: u16,
        /// How long not to ask again, where the page said so.
        wait: Option<Duration>,
    },
    /// The page asked for time before, and that is not over.
    #[error("the page asked for time")]
    Paused,
    /// Not followed: the place it leads to was not configured.
    #[error("the page redirects")]
    Redirect,
    #[error("the page is {0}")]
    TooLarge(String),
    #[error("{0}")]
    Page(#[from] page::Fault),
    #[error("{0}")]
    StoreUnavailable(String),
}

impl Error {
    /// Every code, for the metrics.
    pub(crate) const CODES: &[&str] = &[
        "timeout",
        "connect",
        "status",
        "retry_after",
        "redirect",
        "invalid_response",
        "head_too_large",
        "too_large",
        "not_json",
        "not_a_status_page",
        "store_unavailable",
    ];

    pub fn code(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Connect(_) => "connect",
            Self::NotHttp(word) => word,
            Self::Status { .. } => "status",
            Self::Paused => "retry_after",
            Self::Redirect => "redirect",
            Self::TooLarge(_) => "too_large",
            Self::Page(page::Fault::NotJson) => "not_json",
            Self::Page(page::Fault::NotAStatusPage) => "not_a_status_page",
            Self::StoreUnavailable(_) => "store_unavailable",
        }
    }

    /// How long the page is not to be asked again.
    pub(crate) fn wait(&self) -> Option<Duration> {
        match self {
            Self::Status { wait, .. } => *wait,
            _ => None,
        }
    }
}
