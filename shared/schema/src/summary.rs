//! What `/ai/summarize` takes and answers.

use serde::{Deserialize, Serialize};

use crate::Severity;

/// The longest text that is summarized, in bytes.
pub const TEXT_MAX: usize = 16 * 1024;

#[derive(Clone, Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SummarizeRequest {
    pub text: String,
}

/// Advisory only: no page depends on it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct SummarizeResponse {
    pub summary: String,
    pub suggested_severity: Severity,
}
