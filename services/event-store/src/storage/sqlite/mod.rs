//! One file, durable, no server: the default. One writer thread, a few readers, and no second process.

mod open;
mod reader;
mod sql;
mod writer;

#[cfg(test)]
mod tests;

use std::path::Path;
use std::sync::Arc;

use async_trait::async_trait;
use jiff::Timestamp;
use runtime::clock::Clock;
use runtime::disk::{DiskReserve, RESERVE_BYTES};
use runtime::group_commit::GroupCommit;
use runtime::lock_file::LockFile;
use rusqlite::Connection;
use schema::EventId;
use schema::delivery::Outcome;
use schema::intake::Resolution;
use tokio::sync::watch;

use super::{FeedSlice, Heads, Inserted, Status, Storage};
use crate::domain::page::Page;
use crate::domain::query::{EventsQuery, FeedQuery};
use crate::domain::record::{Draft, History};
use crate::domain::retention::Forgotten;
use crate::error::{Error, FeedError};
use crate::metrics::CommitMetrics;
use reader::Readers;
use writer::{Answer, Write, Writer};

/// Reads of events at once.
const READERS: usize = 2;
/// Reads of the feed and of the status at once; their own, so that no page waits behind dashboards.
const FEED_READERS: usize = 1;
/// Weight that waits for the writer; a draft weighs at least 1, and 1 for each 4 KiB.
const QUEUE_CAPACITY: usize = 16 * 1024;

pub struct Sqlite {
    // Dropped in this order: the writer, which still writes what is queued, closes the file last and so tidies it up; then
    // the lock is given up.
    readers: Readers,
    feed_readers: Readers,
    writer: GroupCommit<Writer>,
    clock: Clock,
    run: Arc<str>,
    heads: watch::Sender<Heads>,
    /// Why the last commit failed. A [`Error::Fatal`] stays.
    fault: watch::Sender<Option<Error>>,
    reserve: DiskReserve,
    _lock: LockFile,
}

impl Sqlite {
    /// Opens the file, makes it where there is none, and begins a run.
    ///
    /// # Errors
    /// When another process holds the file, when it was made by a newer release or with other lanes, or when it cannot be
    /// read or written.
    pub fn open(path: &Path, clock: Clock, metrics: CommitMetrics) -> anyhow::Result<Self> {
        Self::open_with_reserve(path, clock, metrics, RESERVE_BYTES)
    }

    /// As [`open`](Self::open), with another reserve of free bytes.
    pub(crate) fn open_with_reserve(
        path: &Path,
        clock: Clock,
        metrics: CommitMetrics,
        reserve_bytes: u64,
    ) -> anyhow::Result<Self> {
        let opened = open::open(path, &clock)?;
        let heads = watch::Sender::new(Heads {
            all: opened.progress.head,
            routed: 0,
        });
        let fault = watch::Sender::new(None);
        let writer = Writer {
            connection: opened.connection,
            progress: opened.progress,
            metrics,
            heads: heads.clone(),
            fault: fault.clone(),
            wal: open::beside(path, "-wal"),
        };
        Ok(Self {
            readers: Readers::new(path.to_owned(), READERS),
            feed_readers: Readers::new(path.to_owned(), FEED_READERS),
            writer: GroupCommit::start("event-store-writer", writer, QUEUE_CAPACITY)?,
            clock,
            run: opened.run.into(),
            heads,
            fault,
            reserve: DiskReserve::new(opened.directory, reserve_bytes),
            _lock: opened.lock,
        })
    }

    async fn write(&self, write: Write) -> Result<Answer, Error> {
        let answered = if write.urgent() {
            self.writer.submit_urgent(write).await
        } else {
            self.writer.submit(write).await
        };
        let answered = answered.map_err(Error::from);
        self.stop_if_fatal(answered)
    }

    async fn read<T: Send + 'static>(
        &self,
        readers: &Readers,
        read: impl FnOnce(&Connection) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let answer = readers.read(read).await;
        self.stop_if_fatal(answer)
    }

    /// Passes the answer on, and a reason to stop to those who watch for it.
    fn stop_if_fatal<T>(&self, answer: Result<T, Error>) -> Result<T, Error> {
        if let Err(error @ Error::Fatal(_)) = &answer {
            remember(&self.fault, error);
        }
        answer
    }
}

#[async_trait]
impl Storage for Sqlite {
    async fn insert(&self, drafts: Arc<[Draft]>) -> Result<Vec<Inserted>, Error> {
        if self.reserve.reached() {
            return Err(Error::DiskReserve);
        }
        let now = self.clock.now();
        self.write(Write::Insert { drafts, now }).await?.inserted()
    }

    async fn resolve(&self, resolutions: Vec<Resolution>) -> Result<usize, Error> {
        let now = self.clock.now();
        self.write(Write::Resolve { resolutions, now })
            .await?
            .count()
    }

    async fn record_outcomes(&self, outcomes: Vec<Outcome>) -> Result<usize, Error> {
        self.write(Write::Outcomes(outcomes)).await?.count()
    }

    async fn events(&self, query: EventsQuery) -> Result<Page, Error> {
        let read = move |connection: &_| reader::events(connection, &query, reader::SCAN_TIME);
        self.read(&self.readers, read).await
    }

    async fn event(&self, event_id: EventId) -> Result<Option<History>, Error> {
        let read = move |connection: &_| reader::event(connection, &event_id);
        self.read(&self.readers, read).await
    }

    async fn feed(&self, query: FeedQuery) -> Result<FeedSlice, FeedError> {
        let run = Arc::clone(&self.run);
        let read = move |connection: &_| match reader::feed(connection, &run, &query) {
            Err(FeedError::Store(fault)) => Err(fault),
            told => Ok(told),
        };
        self.read(&self.feed_readers, read).await?
    }

    fn heads(&self) -> watch::Receiver<Heads> {
        self.heads.subscribe()
    }

    async fn forget(&self, before: Timestamp, after: u64) -> Result<Forgotten, Error> {
        self.write(Write::Forget { before, after })
            .await?
            .forgotten()
    }

    async fn status(&self) -> Result<Status, Error> {
        let bytes = self.read(&self.feed_readers, |connection| {
            reader::file_bytes(connection).map_err(classify)
        });
        Ok(Status {
            backend: "sqlite",
            durable: true,
            bytes: Some(bytes.await?),
            head: self.heads.borrow().all,
            disk_reserve_reached: self.reserve.reached(),
            fault: self.fault.borrow().clone(),
        })
    }

    async fn failed(&self) -> Error {
        let mut fault = self.fault.subscribe();
        let fatal = |fault: &Option<Error>| matches!(fault, Some(Error::Fatal(_)));
        match fault.wait_for(fatal).await {
            Ok(reason) => reason.clone(),
            Err(_) => None,
        }
        .unwrap_or_else(|| Error::Fatal("the store was closed".to_owned()))
    }
}

/// Keeps why a commit failed; what is fatal stays.
fn remember(fault: &watch::Sender<Option<Error>>, error: &Error) {
    fault.send_if_modified(|last| {
        let stays = matches!(last, Some(Error::Fatal(_)));
        if !stays {
            *last = Some(error.clone());
        }
        !stays
    });
}

/// What SQLite's error means for the caller and the process.
fn classify(fault: rusqlite::Error) -> Error {
    use rusqlite::ffi;
    match fault.sqlite_error() {
        Some(ffi::Error {
            code: ffi::ErrorCode::DiskFull,
            ..
        }) => Error::DiskFull,
        // What an fsync left behind when it failed is unknown, and asking again would not tell (R6).
        Some(ffi::Error {
            extended_code: ffi::SQLITE_IOERR_FSYNC | ffi::SQLITE_IOERR_DIR_FSYNC,
            ..
        }) => Error::Fatal(format!("an fsync failed: {fault}")),
        // Writing on would make it worse, and every answer would be a guess: a backup is needed.
        Some(ffi::Error {
            code: ffi::ErrorCode::DatabaseCorrupt | ffi::ErrorCode::NotADatabase,
            ..
        }) => Error::Fatal(format!("the file is damaged: {fault}")),
        _ => Error::Failed(fault.to_string()),
    }
}

/// SQLite's integers are signed; no position comes near the difference.
fn to_sql(number: u64) -> i64 {
    i64::try_from(number).unwrap_or(i64::MAX)
}

fn from_sql(number: i64) -> u64 {
    u64::try_from(number).unwrap_or_default()
}
