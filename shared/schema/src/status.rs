//! The answer of a pull of the status pages.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PullReport {
    /// Normalized items in each page's body now, by vendor.
    pub fetched: BTreeMap<String, usize>,
    /// New events.
    pub stored: usize,
    /// Events whose routing decision was to page, among the new ones.
    pub routed: usize,
    /// Component episodes that ended.
    pub resolved: usize,
    /// Rows skipped because they could not be read.
    pub malformed: usize,
    /// Sources that could not be polled. Such a source says nothing: neither an incident nor an all-clear.
    pub errors: Vec<PullError>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PullError {
    /// The source, such as `braze_status`.
    pub source: String,
    /// A stable word: `timeout`, `connect`, `status`, `redirect`, `too_large`, `not_json`, `not_a_status_page`, `store_unavailable`.
    pub code: String,
}
