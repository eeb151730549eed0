//! Why a source could not be polled.

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
    #[error("the page answered {0}")]
    Status(u16),
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
    pub fn code(&self) -> &'static str {
        match self {
            Self::Timeout => "timeout",
            Self::Connect(_) => "connect",
            Self::NotHttp(word) => word,
            Self::Status(_) => "status",
            Self::Redirect => "redirect",
            Self::TooLarge(_) => "too_large",
            Self::Page(page::Fault::NotJson) => "not_json",
            Self::Page(page::Fault::NotAStatusPage) => "not_a_status_page",
            Self::StoreUnavailable(_) => "store_unavailable",
        }
    }
}
