//! `sqlite:PATH`: the embedded default. One writer with group commit, readers beside it, one process a file.

use std::fs::{File, TryLockError};
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use anyhow::Context as _;
use async_trait::async_trait;
use jiff::Timestamp;
use prometheus::Histogram;
use runtime::disk::{DiskReserve, RESERVE_BYTES};
use runtime::group_commit::{GroupCommit, Refusal};
use rusqlite::{Connection, OpenFlags};
use rusqlite_migration::{M, Migrations};
use schema::delivery::Outcome;
use tokio::sync::Semaphore;

use super::{
    Attempt, Condition, Epoch, Filter, Finish, Intake, Page, Retired, Start, Storage, Stored,
    Summary, Waiting,
};
use crate::domain::delivery::{DeliveryId, Lane, Position};
use crate::error::Error;
use writer::{Answer, Write, Writer};

mod attempts;
mod intake;
mod outcomes;
mod read;
mod retention;
mod rows;
#[cfg(test)]
mod tests;
mod writer;

/// Rows that may wait for the writer, beside counts and outcomes, which are never refused.
const QUEUE_MAX: usize = 65_536;
/// Small, so that a checkpoint on the writer never takes long.
const AUTOCHECKPOINT_PAGES: u32 = 200;
const BUSY: Duration = Duration::from_secs(5);
/// How long a read waits for those before it.
const TURN: Duration = Duration::from_secs(5);

const MIGRATIONS: &[M<'static>] = &[M::up(include_str!("schema.sql"))];

/// What a store was made with; another value means that its rows lie in other lanes.
const MADE_WITH: [(&str, &str); 2] = [("lanes", "1"), ("lane_hash", "none")];

pub struct Sqlite {
    // Fields drop in this order: the writer ends before the lock is given up.
    writer: GroupCommit<Writer>,
    /// The worker's reads.
    reader: Reader,
    /// Callers' queries, so that a long one holds up no delivery.
    queries: Reader,
    fault: Arc<Mutex<Option<String>>>,
    reserve: DiskReserve,
    _lock: File,
}

impl Sqlite {
    /// Opens or makes the store, and its directory. Refuses while another process has it open.
    pub fn open(path: &Path, commit_seconds: Histogram) -> anyhow::Result<Self> {
        Self::open_with_reserve(path, commit_seconds, RESERVE_BYTES)
    }

    /// As [`open`](Self::open), with another reserve of free bytes.
    pub(crate) fn open_with_reserve(
        path: &Path,
        commit_seconds: Histogram,
        reserve_bytes: u64,
    ) -> anyhow::Result<Self> {
        let directory = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        std::fs::create_dir_all(directory)
            .with_context(|| format!("making the directory {}", directory.display()))?;
        let lock = lock(path)?;
        let connection = prepare(path)?;
        let fault = Arc::new(Mutex::new(None));
        let backend = Writer::new(connection, commit_seconds, Arc::clone(&fault));
        Ok(Self {
            writer: GroupCommit::start("delivery-writer", backend, QUEUE_MAX)?,
            reader: Reader::open(path)?,
            queries: Reader::open(path)?,
            fault,
            reserve: DiskReserve::new(directory.to_owned(), reserve_bytes),
            _lock: lock,
        })
    }

    async fn submit(&self, write: Write) -> Result<Answer, Error> {
        flatten(self.writer.submit(write).await)
    }

    async fn submit_urgent(&self, write: Write) -> Result<Answer, Error> {
        flatten(self.writer.submit_urgent(write).await)
    }
}

fn flatten(answer: Result<Result<Answer, Error>, Refusal<Error>>) -> Result<Answer, Error> {
    match answer {
        Ok(answer) => answer,
        Err(Refusal::Failed(fault)) => Err(fault),
        Err(Refusal::Overloaded | Refusal::OverShare) => {
            Err(Error::Passing("too many writes are waiting".to_owned()))
        }
        Err(Refusal::Stopped) => Err(Error::Broken("the writer has stopped".to_owned())),
    }
}

/// The file's lock is the lease of its lane (R5).
fn lock(path: &Path) -> anyhow::Result<File> {
    let mut name = path.as_os_str().to_owned();
    name.push(".lock");
    let name = PathBuf::from(name);
    let file = File::options()
        .create(true)
        .append(true)
        .open(&name)
        .with_context(|| format!("opening {}", name.display()))?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => anyhow::bail!(
            "{} is in use by another process: one delivery process owns an SQLite store, a second one \
             would send everything twice",
            path.display()
        ),
        Err(TryLockError::Error(fault)) => {
            Err(fault).with_context(|| format!("locking {}", name.display()))
        }
    }
}

/// Opens the file as the writer does, at the newest schema.
fn prepare(path: &Path) -> anyhow::Result<Connection> {
    let mut connection =
        Connection::open(path).with_context(|| format!("opening {}", path.display()))?;
    connection.busy_timeout(BUSY)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    connection.pragma_update(None, "wal_autocheckpoint", AUTOCHECKPOINT_PAGES)?;
    Migrations::from_slice(MIGRATIONS)
        .to_latest(&mut connection)
        .with_context(|| format!("migrating {}", path.display()))?;
    check_made_with(&connection)?;
    Ok(connection)
}

fn check_made_with(connection: &Connection) -> anyhow::Result<()> {
    for (name, value) in MADE_WITH {
        connection.execute(
            "INSERT INTO meta (name, value) VALUES (?, ?) ON CONFLICT DO NOTHING",
            (name, value),
        )?;
        let found: String =
            connection.query_row("SELECT value FROM meta WHERE name = ?", [name], |row| {
                row.get(0)
            })?;
        anyhow::ensure!(
            found == value,
            "the store was made with {name} = {found}, and this program has {value}"
        );
    }
    Ok(())
}

/// A connection that reads, for one at a time.
struct Reader {
    connection: Arc<Mutex<Connection>>,
    turn: Arc<Semaphore>,
}

impl Reader {
    fn open(path: &Path) -> anyhow::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
            turn: Arc::new(Semaphore::new(1)),
        })
    }

    /// Runs a read on a thread where it may block; those that wait for their turn hold none.
    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        let turn = tokio::time::timeout(TURN, Arc::clone(&self.turn).acquire_owned()).await;
        let turn = turn.map_err(|_| Error::Passing("too many reads are waiting".to_owned()))?;
        let connection = Arc::clone(&self.connection);
        let answer = tokio::task::spawn_blocking(move || {
            // A caller that gives up does not end the read: the turn is over when it is.
            let _turn = turn;
            query(&connection.lock().unwrap_or_else(PoisonError::into_inner))
        });
        match answer.await {
            Ok(rows) => rows.map_err(|fault| writer::judge(&fault)),
            Err(fault) => Err(Error::Passing(format!("a read did not end: {fault}"))),
        }
    }
}

#[async_trait]
impl Storage for Sqlite {
    async fn take_lane(&self, lane: Lane, owner: &str, now: Timestamp) -> Result<Epoch, Error> {
        let owner = owner.to_owned();
        let answer = self
            .submit_urgent(Write::TakeLane { lane, owner, now })
            .await?;
        answer.epoch()
    }

    async fn cursor(&self, lane: Lane) -> Result<Option<String>, Error> {
        let read = move |connection: &_| read::cursor(connection, lane);
        self.reader.read(read).await
    }

    async fn intake(&self, intake: Intake) -> Result<Vec<Option<Position>>, Error> {
        if self.reserve.reached() {
            return Err(Error::Passing("the disk is nearly full".to_owned()));
        }
        self.submit(Write::Intake(intake)).await?.inserted()
    }

    async fn start(&self, start: Start) -> Result<(), Error> {
        self.submit_urgent(Write::Start(start)).await.map(drop)
    }

    async fn finish(&self, finish: Finish) -> Result<(), Error> {
        self.submit_urgent(Write::Finish(Box::new(finish)))
            .await
            .map(drop)
    }

    async fn waiting(
        &self,
        lane: Lane,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Waiting>, Error> {
        let read = move |connection: &_| read::waiting(connection, lane, after, limit);
        self.reader.read(read).await
    }

    async fn load(&self, lane: Lane, positions: Vec<Position>) -> Result<Vec<Stored>, Error> {
        let read = move |connection: &_| read::load(connection, lane, &positions);
        self.reader.read(read).await
    }

    async fn unreported(&self, lane: Lane) -> Result<Vec<Outcome>, Error> {
        let read = move |connection: &_| read::unreported(connection, lane);
        self.reader.read(read).await
    }

    async fn reported(&self, lane: Lane, upto: Position) -> Result<(), Error> {
        self.submit(Write::Reported { lane, upto }).await.map(drop)
    }

    async fn retire(
        &self,
        lane: Lane,
        after: Position,
        before: Timestamp,
    ) -> Result<Retired, Error> {
        let write = Write::Retire {
            lane,
            after,
            before,
        };
        self.submit(write).await?.retired()
    }

    async fn deliveries(&self, lane: Lane, filter: Filter) -> Result<Page, Error> {
        let read = move |connection: &_| read::deliveries(connection, lane, &filter);
        self.queries.read(read).await
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<(Summary, Vec<Attempt>)>, Error> {
        let read = move |connection: &_| read::delivery(connection, id);
        self.queries.read(read).await
    }

    fn condition(&self) -> Condition {
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        Condition {
            backend: "sqlite",
            durable: true,
            fault: fault.clone(),
            disk_reserve_reached: self.reserve.reached(),
        }
    }
}
