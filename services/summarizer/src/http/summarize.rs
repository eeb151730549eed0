use std::sync::Arc;

use axum::extract::State;
use runtime::extract::{Correlation, Json};
use runtime::problem::{Code, Problem};
use schema::summary::{SummarizeRequest, SummarizeResponse, TEXT_MAX};

use crate::summarizer::Summarizer;

/// JSON may write one byte of text as six; beyond this the text is too long however it is written.
const BODY_MAX: usize = 64 * 1024;

/// `POST /ai/summarize`
pub(super) async fn summarize(
    State(summarizer): State<Arc<dyn Summarizer>>,
    Correlation(correlation_id): Correlation,
    Json(SummarizeRequest { text }): Json<SummarizeRequest, BODY_MAX>,
) -> Result<axum::Json<SummarizeResponse>, Problem> {
    check(&text)?;
    let answer = summarizer.summarize(&text).await;
    tracing::info!(%correlation_id, bytes = text.len(), suggested_severity = %answer.suggested_severity, "text summarized");
    Ok(axum::Json(answer))
}

fn check(text: &str) -> Result<(), Problem> {
    if text.trim().is_empty() {
        return Err(Code::InvalidPayload.because("`text` must not be blank"));
    }
    if text.len() > TEXT_MAX {
        return Err(Code::TooLarge.because(format!(
            "`text` is longer than the {TEXT_MAX} bytes that are summarized"
        )));
    }
    Ok(())
}
