//! Reads: by key, bounded, so that no read transaction is held for long.

mod events;
mod lists;
mod schedule;

pub(super) use events::{event, event_at};
#[cfg(test)]
pub(super) use lists::{Walk, walk_deliveries, walk_events};
pub(super) use lists::{deliveries, delivery, events, summary};
pub(super) use schedule::{blocking, candidates, load, open_of, undelivered, waiting};
