//! The answer of a pull of the status pages.

use serde::{Serialize, Serializer};

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PullReport {
    /// Normalized items in each page's body now, by vendor, in the order of the configuration.
    #[cfg_attr(feature = "openapi", schema(value_type = std::collections::BTreeMap<String, usize>))]
    pub fetched: Fetched,
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

/// An object whose members keep their order.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Fetched(pub Vec<(String, usize)>);

impl Serialize for Fetched {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_map(self.0.iter().map(|(vendor, items)| (vendor, items)))
    }
}

#[derive(Clone, Debug, PartialEq, Serialize)]
#[cfg_attr(feature = "openapi", derive(utoipa::ToSchema))]
pub struct PullError {
    /// The source, such as `braze_status`.
    pub source: String,
    /// A stable word: `timeout`, `connect`, `status`, `retry_after`, `redirect`, `invalid_response`,
    /// `head_too_large`, `too_large`, `not_json`, `not_a_status_page`, `store_unavailable`.
    pub code: String,
}
