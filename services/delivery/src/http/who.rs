//! Who asks.

use std::convert::Infallible;

use axum::extract::FromRequestParts;
use http::request::Parts;
use runtime::problem::Problem;
use schema::names;

use super::refuse;
use crate::storage::Filter;

/// The one client whose rows the caller may see, as the gateway says; none for a caller who may see all.
pub(super) struct Who(Option<String>);

impl<S: Send + Sync> FromRequestParts<S> for Who {
    type Rejection = Infallible;

    async fn from_request_parts(parts: &mut Parts, _: &S) -> Result<Self, Infallible> {
        let bound_to = parts.headers.get(names::CLIENT);
        // No client's name has anything that is lost here.
        Ok(Self(bound_to.map(|client| {
            String::from_utf8_lossy(client.as_bytes()).into_owned()
        })))
    }
}

impl Who {
    pub(super) fn sees(&self, client_id: &str) -> bool {
        self.0.as_deref().is_none_or(|own| own == client_id)
    }

    /// Another client is as if it were not there.
    pub(super) fn must_see(&self, client_id: &str) -> Result<(), Problem> {
        if self.sees(client_id) {
            return Ok(());
        }
        Err(refuse::unknown("client"))
    }

    /// Which rows a list shows when it is asked for one client's, or for all; none for another client's.
    pub(super) fn narrow(&self, filter: Filter, client_id: Option<String>) -> Option<Filter> {
        if client_id.as_deref().is_some_and(|asked| !self.sees(asked)) {
            return None;
        }
        Some(Filter {
            client_id: self.0.clone().or(client_id),
            ..filter
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bound_caller_is_shown_its_own_rows_whatever_it_asks_for() {
        for (bound_to, asked, shown) in [
            (None, None, Some(None)),
            (None, Some("a"), Some(Some("a"))),
            (Some("a"), None, Some(Some("a"))),
            (Some("a"), Some("a"), Some(Some("a"))),
            (Some("a"), Some("b"), None),
        ] {
            let who = Who(bound_to.map(str::to_owned));
            let filter = who.narrow(Filter::default(), asked.map(str::to_owned));
            let found = filter.map(|filter| filter.client_id);
            let shown = shown.map(|client| client.map(str::to_owned));
            assert_eq!(found, shown, "{bound_to:?} {asked:?}");
            assert_eq!(who.sees("b"), bound_to.is_none());
        }
    }
}
