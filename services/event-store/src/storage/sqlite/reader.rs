//! Reads: short, by key or index, on connections of their own.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rusqlite::types::Type;
use rusqlite::{Connection, OpenFlags, OptionalExtension as _, Row, params_from_iter};
use schema::delivery::{self, DeliveryState};
use schema::feed::Action;
use schema::{EventId, Kind, Severity};
use tokio::sync::Semaphore;

use super::super::{FEED_BYTES, FeedSlice, LANE, PAGE_BYTES};
use super::{classify, from_sql, sql, to_sql};
use crate::domain::outcome::{Known, delivered_to};
use crate::domain::page::{FeedFiller, Filler, Page, Verdict};
use crate::domain::query::{EventsQuery, Facts, FeedQuery, Filter};
use crate::domain::record::{History, Notice, Record};
use crate::domain::token::resume;
use crate::error::{Error, FeedError};

/// How long a read waits for its turn.
const TURN: Duration = Duration::from_secs(5);
/// How long one page of events is looked for: under load 20,000 rows took a second.
pub(super) const SCAN_TIME: Duration = Duration::from_millis(50);
/// After so many rows the time is looked at.
const SCAN_STEP: usize = 256;
/// Each connection's page cache, in KiB.
const CACHE_KIB: u32 = 2 * 1024;

/// A few read-only connections, opened when first needed.
pub(super) struct Readers {
    path: PathBuf,
    turns: Arc<Semaphore>,
    idle: Arc<Mutex<Vec<Connection>>>,
}

impl Readers {
    /// At most `connections` reads go on at once; the others wait in line.
    pub(super) fn new(path: PathBuf, connections: usize) -> Self {
        Self {
            path,
            turns: Arc::new(Semaphore::new(connections)),
            idle: Arc::default(),
        }
    }

    /// Runs the read on a thread that may block, within one snapshot.
    pub(super) async fn read<T: Send + 'static>(
        &self,
        read: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let turn = tokio::time::timeout(TURN, Arc::clone(&self.turns).acquire_owned()).await;
        let turn = turn.map_err(|_| Error::Overloaded)?;
        let idle = Arc::clone(&self.idle);
        let path = self.path.clone();
        let reading = tokio::task::spawn_blocking(move || {
            // A caller that gives up does not end the read: the turn is over when the connection is back, so that there are
            // never more connections than turns.
            let _turn = turn;
            let lock = || idle.lock().unwrap_or_else(PoisonError::into_inner);
            let waiting = lock().pop();
            let connection = match waiting {
                Some(connection) => connection,
                None => open(&path).map_err(classify)?,
            };
            let snapshot = connection.unchecked_transaction().map_err(classify)?;
            let answer = read(&snapshot);
            drop(snapshot);
            lock().push(connection);
            answer
        });
        reading
            .await
            .map_err(|fault| Error::Failed(format!("a read did not end: {fault}")))?
    }
}

fn open(path: &Path) -> rusqlite::Result<Connection> {
    let connection = Connection::open_with_flags(
        path,
        OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX,
    )?;
    connection.execute_batch(&format!("PRAGMA cache_size = -{CACHE_KIB}"))?;
    connection.set_prepared_statement_cache_capacity(sql_cache());
    Ok(connection)
}

/// Room for every statement a connection can need.
pub(super) const fn sql_cache() -> usize {
    48
}

/// One page; after `time` it ends early, with a cursor.
pub(super) fn events(
    connection: &Connection,
    query: &EventsQuery,
    time: Duration,
) -> Result<Page, Error> {
    page(connection, query, Instant::now() + time).map_err(classify)
}

fn page(connection: &Connection, query: &EventsQuery, end: Instant) -> rusqlite::Result<Page> {
    let below = query.before.unwrap_or(u64::MAX);
    let below = match query.until {
        Some(until) => below.min(first_stored_from(connection, until)?),
        None => below,
    };
    let from = match query.since {
        Some(since) => first_stored_from(connection, since)?,
        None => 0,
    };
    let (statement, value) = narrowest(&query.filter);
    let mut statement = connection.prepare_cached(statement)?;
    let bounds = [i64::from(LANE), to_sql(below), to_sql(from)];
    let bounds = bounds.map(rusqlite::types::Value::from);
    let values = bounds.into_iter().chain(value.map(Into::into));
    let mut rows = statement.query(params_from_iter(values))?;

    let mut filler = Filler::new(query.limit, PAGE_BYTES);
    let mut looked_at = 0_usize;
    while let Some(row) = rows.next()? {
        looked_at += 1;
        if looked_at.is_multiple_of(SCAN_STEP) && Instant::now() >= end {
            filler.stop();
        }
        let matches = query.filter.matches(&facts(row)?);
        match filler.offer(from_sql(row.get(0)?), matches) {
            Verdict::Skip => {}
            Verdict::Done => break,
            Verdict::Take if filler.take(told(connection, row, 0)?) => {}
            Verdict::Take => break,
        }
    }
    Ok(filler.finish())
}

/// The index that leaves the fewest rows; what it does not decide, the filter does.
pub(super) fn narrowest(filter: &Filter) -> (&'static str, Option<String>) {
    let source = filter
        .source
        .as_ref()
        .filter(|source| source.as_str() != "stripe")
        .map(ToString::to_string);
    match (source, filter) {
        (
            Some(source),
            Filter {
                open: Some(true), ..
            },
        ) => (sql::OPEN_OF_SOURCE, Some(source)),
        (
            None,
            Filter {
                open: Some(true), ..
            },
        ) => (sql::OPEN, None),
        (Some(source), _) => (sql::OF_SOURCE, Some(source)),
        (
            None,
            Filter {
                kind: Some(kind @ (Kind::Incident | Kind::Status)),
                ..
            },
        ) => (sql::OF_KIND, Some(kind.to_string())),
        (
            None,
            Filter {
                severity: Some(severity @ (Severity::Warning | Severity::Critical)),
                ..
            },
        ) => (sql::OF_SEVERITY, Some(severity.to_string())),
        _ => (sql::NEWEST, None),
    }
}

/// The first position stored at or after a moment. Times grow with positions, so halving finds it without an index.
fn first_stored_from(connection: &Connection, moment: Timestamp) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare_cached(sql::STORED_AT_FROM)?;
    let (mut low, mut high) = (0, head(connection)? + 1);
    while low < high {
        let middle = low + (high - low) / 2;
        let found = statement
            .query_row((LANE, to_sql(middle)), |row| {
                Ok((from_sql(row.get(0)?), moment_at(row, 1)?))
            })
            .optional()?;
        match found {
            Some((position, stored_at)) if stored_at < moment => low = position + 1,
            _ => high = middle,
        }
    }
    Ok(low)
}

pub(super) fn event(connection: &Connection, event_id: &EventId) -> Result<Option<History>, Error> {
    let read = || -> rusqlite::Result<Option<History>> {
        let Some(position) = position_of(connection, event_id)? else {
            return Ok(None);
        };
        let mut one = connection.prepare_cached(sql::ONE)?;
        let record = one
            .query_row((LANE, to_sql(position)), |row| told(connection, row, 0))
            .optional()?;
        let Some(record) = record else {
            return Ok(None);
        };
        let mut outcomes = connection.prepare_cached(sql::OUTCOMES_OF)?;
        let deliveries = outcomes
            .query_map((LANE, to_sql(position)), |row| Ok(known_at(row)?.state))?
            .collect::<rusqlite::Result<_>>()?;
        Ok(Some(History { record, deliveries }))
    };
    read().map_err(classify)
}

pub(super) fn feed(
    connection: &Connection,
    run: &str,
    query: &FeedQuery,
) -> Result<FeedSlice, FeedError> {
    let head = head(connection).map_err(classify)?;
    let from = match &query.after {
        None => 0,
        Some(token) => {
            let run_end = run_end(connection, &token.run, head).map_err(classify)?;
            let oldest = oldest(connection).map_err(classify)?;
            resume(token.position, run_end, oldest.unwrap_or(head + 1))?
        }
    };
    let filler = notices(connection, query, from).map_err(classify)?;
    Ok(FeedSlice::new(filler, run, head))
}

fn notices(connection: &Connection, query: &FeedQuery, from: u64) -> rusqlite::Result<FeedFiller> {
    let statement = if query.routed_only {
        sql::FEED_ROUTED
    } else {
        sql::FEED
    };
    let mut statement = connection.prepare_cached(statement)?;
    // One more than the limit tells whether there is more.
    let one_more = i64::try_from(query.limit).unwrap_or(i64::MAX - 1) + 1;
    let mut rows = statement.query((LANE, to_sql(from), one_more))?;
    let mut filler = FeedFiller::new(query.limit, FEED_BYTES);
    while let Some(row) = rows.next()? {
        let notice = Notice {
            position: from_sql(row.get(0)?),
            revision: row.get(1)?,
            action: word(row, 2, Action::parse)?,
            stored_at: moment_at(row, 3)?,
            correlation_id: row.get(4)?,
            record: told(connection, row, 5)?,
        };
        if !filler.take(notice) {
            break;
        }
    }
    Ok(filler)
}

pub(super) fn head(connection: &Connection) -> rusqlite::Result<u64> {
    let mut statement = connection.prepare_cached(sql::HEAD)?;
    statement.query_row([LANE], |row| Ok(from_sql(row.get(0)?)))
}

fn oldest(connection: &Connection) -> rusqlite::Result<Option<u64>> {
    let mut statement = connection.prepare_cached(sql::OLDEST)?;
    statement.query_row([LANE], |row| {
        Ok(row.get::<_, Option<i64>>(0)?.map(from_sql))
    })
}

/// Where a run ended; the current one has come to the head. `None` when it is unknown.
fn run_end(connection: &Connection, run: &str, head: u64) -> rusqlite::Result<Option<u64>> {
    let mut statement = connection.prepare_cached(sql::RUN_END)?;
    let next_began = statement
        .query_row((LANE, run), |row| row.get::<_, Option<i64>>(0))
        .optional()?;
    Ok(next_began.map(|began| began.map_or(head, from_sql)))
}

pub(super) fn file_bytes(connection: &Connection) -> rusqlite::Result<u64> {
    connection.query_row(sql::FILE_BYTES, [], |row| Ok(from_sql(row.get(0)?)))
}

pub(super) fn position_of(
    connection: &Connection,
    event_id: &EventId,
) -> rusqlite::Result<Option<u64>> {
    let mut statement = connection.prepare_cached(sql::POSITION_OF)?;
    statement
        .query_row((LANE, event_id.as_str()), |row| Ok(from_sql(row.get(0)?)))
        .optional()
}

/// The record at a row's columns, with who has it: only what was routed can have been delivered.
fn told(connection: &Connection, row: &Row<'_>, first: usize) -> rusqlite::Result<Record> {
    let mut record = record_at(row, first)?;
    if record.routed {
        let mut statement = connection.prepare_cached(sql::DELIVERED_TO)?;
        let destinations = statement
            .query_map((LANE, to_sql(record.position)), |row| row.get(0))?
            .collect::<rusqlite::Result<Vec<String>>>()?;
        record.delivered_to = delivered_to(destinations);
    }
    Ok(record)
}

fn record_at(row: &Row<'_>, first: usize) -> rusqlite::Result<Record> {
    Ok(Record {
        position: from_sql(row.get(first)?),
        stored_at: moment_at(row, first + 1)?,
        revision: row.get(first + 2)?,
        routed: row.get(first + 3)?,
        kind: word(row, first + 4, Kind::parse)?,
        severity: word(row, first + 5, Severity::parse)?,
        source: row.get(first + 6)?,
        resolved_at: row.get(first + 7)?,
        event_id: row.get(first + 8)?,
        service: row.get(first + 9)?,
        summary: row.get(first + 10)?,
        description: row.get(first + 11)?,
        started_at: row.get(first + 12)?,
        correlation_id: row.get(first + 13)?,
        raw: row.get(first + 14)?,
        delivered_to: Vec::new(),
    })
}

/// What a filter looks at, without copying it.
fn facts<'a>(row: &'a Row<'_>) -> rusqlite::Result<Facts<'a>> {
    Ok(Facts {
        kind: word(row, 4, Kind::parse)?,
        severity: word(row, 5, Severity::parse)?,
        source: row.get_ref(6)?.as_str()?,
        resolved: row.get_ref(7)?.as_str_or_null()?.is_some(),
        event_id: row.get_ref(8)?.as_str()?,
        service: row.get_ref(9)?.as_str()?,
        summary: row.get_ref(10)?.as_str()?,
        description: row.get_ref(11)?.as_str_or_null()?,
    })
}

/// What is known of a delivery, from the columns of `sql::OUTCOME`.
pub(super) fn known_at(row: &Row<'_>) -> rusqlite::Result<Known> {
    Ok(Known {
        epoch: from_sql(row.get(0)?),
        position: from_sql(row.get(1)?),
        delivered: row.get(2)?,
        state: DeliveryState {
            destination: row.get(3)?,
            delivery_id: row.get(4)?,
            status: word(row, 5, delivery::Status::parse)?,
            attempts: row.get(6)?,
            reason: row.get(7)?,
            at: word(row, 8, |text| text.parse().ok())?,
        },
    })
}

/// A column that holds one of our words.
fn word<T>(row: &Row<'_>, column: usize, parse: impl Fn(&str) -> Option<T>) -> rusqlite::Result<T> {
    let text = row.get_ref(column)?.as_str()?;
    parse(text).ok_or_else(|| unreadable(column, Type::Text))
}

pub(super) fn moment_at(row: &Row<'_>, column: usize) -> rusqlite::Result<Timestamp> {
    Timestamp::from_microsecond(row.get(column)?).map_err(|_| unreadable(column, Type::Integer))
}

fn unreadable(column: usize, found: Type) -> rusqlite::Error {
    rusqlite::Error::FromSqlConversionFailure(column, found, "not what was written here".into())
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn a_read_whose_caller_gave_up_keeps_its_turn_until_it_ends() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("a.db");
        Connection::open(&path).unwrap();
        let readers = Arc::new(Readers::new(path, 1));
        let (begun, wait_for_begin) = mpsc::channel();
        let (let_go, held) = mpsc::channel::<()>();
        let abandoned = tokio::spawn({
            let readers = Arc::clone(&readers);
            async move {
                let read = move |_: &Connection| {
                    begun.send(()).unwrap();
                    held.recv().unwrap();
                    Ok(())
                };
                readers.read(read).await
            }
        });
        wait_for_begin.recv().unwrap();

        abandoned.abort();
        assert!(abandoned.await.unwrap_err().is_cancelled());

        assert_eq!(readers.turns.available_permits(), 0);
        let_go.send(()).unwrap();
        let next = readers.read(|_| Ok("next")).await;
        assert_eq!(next, Ok("next"));
        assert_eq!(readers.idle.lock().unwrap().len(), 1);
    }
}
