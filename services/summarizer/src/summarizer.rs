//! The seam where a language model can stand; `docs/AI.md` says how one would.

use async_trait::async_trait;
use schema::summary::SummarizeResponse;

use crate::domain;

/// Summarizes alert text.
///
/// It cannot fail: an implementation that asks somebody else answers with [`Rules`] when nobody answers in time.
/// The summary is one line of at most [`SUMMARY_MAX`](domain::SUMMARY_MAX) characters.
#[async_trait]
pub trait Summarizer: Send + Sync {
    async fn summarize(&self, text: &str) -> SummarizeResponse;
}

/// The keyword rules: the same text always gives the same answer, without a network.
pub struct Rules;

#[async_trait]
impl Summarizer for Rules {
    async fn summarize(&self, text: &str) -> SummarizeResponse {
        domain::summarize(text)
    }
}
