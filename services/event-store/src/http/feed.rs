//! `GET /feed`: notices in commit order, waiting for the first where there is none.

use std::sync::Arc;
use std::time::Duration;

use axum::extract::State;
use axum::response::Response;
use runtime::extract::{Correlation, Query};
use runtime::problem::Problem;
use schema::CorrelationId;
use serde::Deserialize;
use tokio::time::{Instant, timeout_at};

use super::events::{limit, unwritable};
use super::{Hub, render};
use crate::domain::query::FeedQuery;
use crate::domain::token::Token;
use crate::error::FeedError;
use crate::storage::FeedSlice;

const LIMIT_DEFAULT: usize = 100;
/// The longest a reader waits.
const WAIT_MAX: Duration = Duration::from_secs(30);

#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Params {
    after: Option<String>,
    #[serde(default)]
    routed: bool,
    limit: Option<usize>,
    /// Milliseconds.
    #[serde(default)]
    wait: u64,
}

pub(super) async fn read(
    State(hub): State<Arc<Hub>>,
    Correlation(correlation_id): Correlation,
    Query(params): Query<Params>,
) -> Result<Response, Problem> {
    let until = Instant::now() + Duration::from_millis(params.wait).min(WAIT_MAX);
    let query = FeedQuery {
        // What is no token was given out by no run that this store knows.
        after: match params.after.as_deref().map(Token::parse) {
            None => None,
            Some(Some(token)) => Some(token),
            Some(None) => return Err(refused(&hub, FeedError::Diverged, &correlation_id)),
        },
        routed_only: params.routed,
        limit: limit(params.limit, LIMIT_DEFAULT)?,
    };
    let slice = wait_for_notices(&hub, query, until)
        .await
        .map_err(|fault| refused(&hub, fault, &correlation_id))?;
    Ok(render::json(render::feed(&slice).map_err(unwritable)?))
}

/// Reads until there is something, the time is over or the service stops.
async fn wait_for_notices(
    hub: &Hub,
    mut query: FeedQuery,
    until: Instant,
) -> Result<FeedSlice, FeedError> {
    // Subscribed before the first read: a commit between the two is seen.
    let mut heads = hub.storage.heads();
    loop {
        let slice = hub.storage.feed(query.clone()).await?;
        if !slice.notices.is_empty() {
            return Ok(slice);
        }
        let seen = slice.next.position;
        let routed_only = query.routed_only;
        let something = heads.wait_for(|heads| {
            let newest = if routed_only { heads.routed } else { heads.all };
            newest > seen
        });
        let woken = tokio::select! {
            woken = timeout_at(until, something) => woken.is_ok_and(|woken| woken.is_ok()),
            () = hub.stopping.cancelled() => false,
        };
        if !woken {
            return Ok(slice);
        }
        query.after = Some(slice.next);
    }
}

fn refused(hub: &Hub, fault: FeedError, correlation_id: &CorrelationId) -> Problem {
    match &fault {
        FeedError::Diverged => {
            hub.metrics.feed_diverged.inc();
            tracing::warn!(%correlation_id, "a reader of the feed is of another history");
        }
        FeedError::TooOld => {
            hub.metrics.feed_too_old.inc();
            tracing::warn!(%correlation_id, "a reader of the feed is behind the oldest notice kept");
        }
        FeedError::Store(_) => {}
    }
    fault.into()
}
