//! What bounds `memory:`: the oldest ended events leave first.

use rusqlite::{Connection, Result, Transaction, params};

use super::retention::{Keeps, retire_events};
use super::writer::Write;
use crate::domain::ids::Position;
use crate::storage::{LANE, RETIRE_SLICE};

/// Ended events that are kept, beside the pages below.
const ENDED_MAX: i64 = 10_000;
/// Pages that ended undelivered and are kept: `/readyz` tells of them as long as they are there (R11).
const MISSED_MAX: i64 = 10_000;
/// Keys of either space that are kept of what left for others: a feed that is read again must not page it again.
const KEYS_MAX: i64 = 10 * ENDED_MAX;
/// Slices of one look. Two, so that what is open among them does not let the store grow.
const SLICES: usize = 2;

#[derive(Default)]
pub(super) struct Bound {
    /// Events inserted since the last look.
    inserted: usize,
    /// Where the last slice ended.
    after: Position,
}

impl Bound {
    pub(super) fn prepare(connection: &Connection) -> Result<()> {
        connection.execute_batch(
            "CREATE INDEX keys_by_event ON keys (lane, event);
             CREATE INDEX page_keys_by_event ON page_keys (lane, event);",
        )
    }

    /// Looks once for each slice of new events.
    pub(super) fn keep(&mut self, tx: &Transaction<'_>, writes: &[Write]) -> Result<()> {
        self.inserted += writes.iter().map(Write::events).sum::<usize>();
        if self.inserted < RETIRE_SLICE {
            return Ok(());
        }
        self.inserted = 0;
        for _ in 0..SLICES {
            let missed = count(tx, MISSED)?;
            let ended = count(tx, EVENTS)? - count(tx, OPEN)? - missed;
            let keeps = if missed > MISSED_MAX {
                Keeps::Keys
            } else if ended > ENDED_MAX {
                Keeps::KeysAndMissedPages
            } else {
                break;
            };
            let retired = retire_events(tx, LANE, self.after, i64::MAX, keeps)?;
            self.after = retired.next.unwrap_or(0);
            let forgotten = missed - count(tx, MISSED)?;
            if forgotten > 0 {
                tracing::warn!(
                    forgotten,
                    "pages that were not delivered are forgotten, memory holds no more of them"
                );
            }
        }
        if count(tx, KEYS)? - count(tx, EVENTS)? > KEYS_MAX {
            for oldest in OLDEST_KEYS {
                tx.prepare_cached(oldest)?
                    .execute(params![LANE, SLICES * RETIRE_SLICE])?;
            }
        }
        Ok(())
    }
}

const EVENTS: &str = "SELECT count(*) FROM events";
const OPEN: &str = "SELECT count(*) FROM deliveries WHERE status <> 'delivered' AND status IN ('pending', 'failed')";
/// Of the index `pages_undelivered` what is not open.
const MISSED: &str = "SELECT count(*) FROM deliveries
    WHERE from_hub = 1 AND status <> 'delivered' AND reason IS NOT 'already_delivered'
        AND status NOT IN ('pending', 'failed')";
const KEYS: &str = "SELECT (SELECT count(*) FROM keys) + (SELECT count(*) FROM page_keys)";
/// Deletes some of the oldest that outlived their events.
const OLDEST_KEYS: [&str; 2] = [
    "DELETE FROM keys WHERE (lane, client, key) IN
        (SELECT k.lane, k.client, k.key FROM keys k
         WHERE k.lane = ?1
            AND NOT EXISTS (SELECT 1 FROM events e WHERE e.lane = k.lane AND e.position = k.event)
         ORDER BY k.event LIMIT ?2)",
    "DELETE FROM page_keys WHERE (lane, key) IN
        (SELECT k.lane, k.key FROM page_keys k
         WHERE k.lane = ?1
            AND NOT EXISTS (SELECT 1 FROM events e WHERE e.lane = k.lane AND e.position = k.event)
         ORDER BY k.event LIMIT ?2)",
];

fn count(connection: &Connection, sql: &str) -> Result<i64> {
    connection
        .prepare_cached(sql)?
        .query_row([], |row| row.get(0))
}
