//! The same statements, run in two ways.
//!
//! `sqlite:PATH` is the embedded default: one writer with group commit, readers beside it, one process a file. `memory:` is
//! one connection whose rows are gone with the process; it is called inline, so that nothing waits and time may be virtual.

use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use async_trait::async_trait;
use jiff::Timestamp;
use runtime::disk::{DiskReserve, RESERVE_BYTES};
use runtime::group_commit::{Commit as _, GroupCommit, Refusal};
use runtime::lock_file::LockFile;
use rusqlite::Connection;
use schema::delivery::Outcome;

use super::{
    Accept, Accepted, Candidate, Change, Changed, Client, Condition, Ended, Epoch, EventSummary,
    Filter, Intake, Job, JobSlice, Page, Put, PutEndpoint, Retired, Sliced, Storage, Stored,
    Summary, TakenIn, Timers, Vault, Waiting, WholeEvent,
};
use crate::domain::endpoint::Endpoint;
use crate::domain::ids::{DeliveryId, EventId, JobId, Lane, Position};
use crate::domain::pages::Group;
use crate::error::Error;
use memory::Bound;
use reader::Reader;
use writer::{Answer, Write, Writer, judge};

mod accept;
mod changes;
mod checkpoint;
mod clients;
mod deliveries;
mod endpoints;
mod feed;
mod jobs;
mod lanes;
mod memory;
mod open;
mod outcomes;
mod read;
mod reader;
mod retention;
mod rows;
#[cfg(test)]
mod tests;
mod writer;

/// Rows that may wait for the writer, beside counts and outcomes, which are never refused.
const QUEUE_MAX: usize = 65_536;

pub struct Sqlite {
    mode: Mode,
    vault: Arc<Vault>,
    fault: Arc<Mutex<Option<String>>>,
}

enum Mode {
    OnDisk(Box<OnDisk>),
    InMemory(Box<Mutex<Writer>>),
}

struct OnDisk {
    // Fields drop in this order: the writer ends before the lock is given up.
    writer: GroupCommit<Writer>,
    /// The worker's reads.
    reader: Reader,
    /// Callers' queries, so that a long one holds up no delivery.
    queries: Reader,
    reserve: DiskReserve,
    wal: PathBuf,
    _lock: LockFile,
}

impl Sqlite {
    /// Opens or makes the store, and its directory. Refuses while another process has it open, and with another key than
    /// the one with which it was sealed.
    pub fn open(path: &Path, timers: Timers, vault: Vault) -> anyhow::Result<Self> {
        Self::open_with_reserve(path, timers, vault, RESERVE_BYTES)
    }

    /// As [`open`](Self::open), with another reserve of free bytes.
    pub(crate) fn open_with_reserve(
        path: &Path,
        timers: Timers,
        vault: Vault,
        reserve_bytes: u64,
    ) -> anyhow::Result<Self> {
        let directory = path
            .parent()
            .filter(|parent| !parent.as_os_str().is_empty())
            .unwrap_or(Path::new("."));
        std::fs::create_dir_all(directory)
            .with_context(|| format!("making the directory {}", directory.display()))?;
        let lock = open::lock(path)?;
        let connection = open::file(path, &vault)?;
        let (vault, fault) = (Arc::new(vault), Arc::default());
        let backend = Writer::new(
            connection,
            timers,
            Arc::clone(&vault),
            Arc::clone(&fault),
            None,
        );
        let on_disk = OnDisk {
            writer: GroupCommit::start("delivery-writer", backend, QUEUE_MAX)?,
            reader: Reader::open(path)?,
            queries: Reader::open(path)?,
            reserve: DiskReserve::new(directory.to_owned(), reserve_bytes),
            wal: open::beside(path, "-wal"),
            _lock: lock,
        };
        Ok(Self {
            mode: Mode::OnDisk(Box::new(on_disk)),
            vault,
            fault,
        })
    }

    /// A store that is gone with the process. Bounded: the oldest ended events leave first.
    pub fn in_memory(timers: Timers, vault: Vault) -> anyhow::Result<Self> {
        let (vault, fault) = (Arc::new(vault), Arc::default());
        let writer = Writer::new(
            open::memory()?,
            timers,
            Arc::clone(&vault),
            Arc::clone(&fault),
            Some(Bound::default()),
        );
        Ok(Self {
            mode: Mode::InMemory(Box::new(Mutex::new(writer))),
            vault,
            fault,
        })
    }

    async fn submit(&self, write: Write) -> Result<Answer, Error> {
        match &self.mode {
            Mode::OnDisk(on_disk) => flatten(on_disk.writer.submit(write).await),
            Mode::InMemory(writer) => commit(writer, write),
        }
    }

    async fn submit_urgent(&self, write: Write) -> Result<Answer, Error> {
        match &self.mode {
            Mode::OnDisk(on_disk) => flatten(on_disk.writer.submit_urgent(write).await),
            Mode::InMemory(writer) => commit(writer, write),
        }
    }

    /// A read of the worker.
    async fn read<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        match &self.mode {
            Mode::OnDisk(on_disk) => on_disk.reader.read(query).await,
            Mode::InMemory(writer) => read_inline(writer, query),
        }
    }

    /// A read of a caller.
    async fn query<T: Send + 'static>(
        &self,
        query: impl FnOnce(&Connection) -> rusqlite::Result<T> + Send + 'static,
    ) -> Result<T, Error> {
        match &self.mode {
            Mode::OnDisk(on_disk) => on_disk.queries.read(query).await,
            Mode::InMemory(writer) => read_inline(writer, query),
        }
    }

    fn disk_reserve_reached(&self) -> bool {
        match &self.mode {
            Mode::OnDisk(on_disk) => on_disk.reserve.reached(),
            Mode::InMemory(_) => false,
        }
    }

    /// Nothing new is taken once the reserve is reached (R6).
    fn room(&self) -> Result<(), Error> {
        if self.disk_reserve_reached() {
            return Err(Error::Passing("the disk is nearly full".to_owned()));
        }
        Ok(())
    }
}

fn flatten(answer: Result<Result<Answer, Error>, Refusal<Error>>) -> Result<Answer, Error> {
    match answer {
        Ok(answer) => answer,
        Err(Refusal::Failed(fault)) => Err(fault),
        Err(Refusal::Overloaded) => Err(Error::Passing("too many writes are waiting".to_owned())),
        Err(Refusal::OverShare) => Err(Error::OverShare),
        Err(Refusal::Stopped) => Err(Error::Broken("the writer has stopped".to_owned())),
    }
}

fn commit(writer: &Mutex<Writer>, write: Write) -> Result<Answer, Error> {
    let mut writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
    let answer = writer.commit(&[write])?.pop();
    answer.unwrap_or_else(|| Err(Error::Broken("a write was not answered".to_owned())))
}

fn read_inline<T>(
    writer: &Mutex<Writer>,
    query: impl FnOnce(&Connection) -> rusqlite::Result<T>,
) -> Result<T, Error> {
    let writer = writer.lock().unwrap_or_else(PoisonError::into_inner);
    query(&writer.connection).map_err(|fault| judge(&fault))
}

#[async_trait]
impl Storage for Sqlite {
    async fn take_lane(&self, lane: Lane, owner: &str, now: Timestamp) -> Result<Epoch, Error> {
        let owner = owner.to_owned();
        let write = Write::TakeLane { lane, owner, now };
        self.submit_urgent(write).await?.epoch()
    }

    async fn clients(&self, lane: Lane) -> Result<Vec<Client>, Error> {
        self.read(move |connection| clients::all(connection, lane))
            .await
    }

    async fn endpoints(&self, lane: Lane) -> Result<Vec<Endpoint>, Error> {
        let vault = Arc::clone(&self.vault);
        self.read(move |connection| endpoints::all(connection, lane, &vault))
            .await
    }

    async fn put_endpoint(&self, put: PutEndpoint) -> Result<Put, Error> {
        self.submit(Write::PutEndpoint(Box::new(put))).await?.put()
    }

    async fn remove_endpoint(&self, lane: Lane, job: Job) -> Result<Option<Position>, Error> {
        let job = Box::new(job);
        self.submit(Write::RemoveEndpoint { lane, job })
            .await?
            .version()
    }

    async fn remove_client(&self, lane: Lane, job: Job) -> Result<bool, Error> {
        let job = Box::new(job);
        self.submit(Write::RemoveClient { lane, job })
            .await?
            .known()
    }

    async fn accept(&self, accept: Accept) -> Result<Accepted, Error> {
        self.room()?;
        self.submit(Write::Accept(Box::new(accept)))
            .await?
            .accepted()
    }

    async fn cursor(&self, lane: Lane) -> Result<Option<String>, Error> {
        self.read(move |connection| lanes::cursor(connection, lane, lanes::FEED))
            .await
    }

    async fn take_in(&self, intake: Intake) -> Result<TakenIn, Error> {
        self.room()?;
        self.submit(Write::TakeIn(intake)).await?.taken_in()
    }

    async fn change(&self, changes: Vec<Change>) -> Result<Vec<Result<Changed, Error>>, Error> {
        self.submit_urgent(Write::Change(changes)).await?.changed()
    }

    async fn waiting(
        &self,
        lane: Lane,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Waiting>, Error> {
        self.read(move |connection| read::waiting(connection, lane, after, limit))
            .await
    }

    async fn undelivered(
        &self,
        lane: Lane,
        endpoint: Position,
        late_before: Timestamp,
    ) -> Result<Vec<Group>, Error> {
        self.read(move |connection| read::undelivered(connection, lane, endpoint, late_before))
            .await
    }

    async fn blocking(&self, lane: Lane) -> Result<Vec<Waiting>, Error> {
        self.read(move |connection| read::blocking(connection, lane))
            .await
    }

    async fn load(&self, lane: Lane, positions: Vec<Position>) -> Result<Vec<Stored>, Error> {
        self.read(move |connection| read::load(connection, lane, &positions))
            .await
    }

    async fn unreported(&self, lane: Lane) -> Result<Vec<Outcome>, Error> {
        self.read(move |connection| outcomes::unreported(connection, lane))
            .await
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

    async fn deliveries(&self, lane: Lane, filter: Filter) -> Result<Page<Summary>, Error> {
        self.query(move |connection| read::deliveries(connection, lane, &filter))
            .await
    }

    async fn events(&self, lane: Lane, filter: Filter) -> Result<Page<EventSummary>, Error> {
        self.query(move |connection| read::events(connection, lane, &filter))
            .await
    }

    async fn summary(&self, id: DeliveryId) -> Result<Option<Summary>, Error> {
        self.query(move |connection| read::summary(connection, id))
            .await
    }

    async fn delivery(&self, id: DeliveryId) -> Result<Option<(Summary, Vec<Ended>)>, Error> {
        self.query(move |connection| read::delivery(connection, id))
            .await
    }

    async fn event(&self, id: EventId) -> Result<Option<WholeEvent>, Error> {
        self.query(move |connection| read::event(connection, id))
            .await
    }

    async fn event_at(&self, lane: Lane, position: Position) -> Result<Option<WholeEvent>, Error> {
        self.query(move |connection| read::event_at(connection, lane, position))
            .await
    }

    async fn add_job(&self, lane: Lane, job: Job) -> Result<(), Error> {
        let job = Box::new(job);
        self.submit(Write::AddJob { lane, job }).await.map(drop)
    }

    async fn job(&self, id: JobId) -> Result<Option<Job>, Error> {
        self.query(move |connection| jobs::one(connection, id))
            .await
    }

    async fn running_jobs(&self, lane: Lane) -> Result<Vec<Job>, Error> {
        self.read(move |connection| jobs::running(connection, lane))
            .await
    }

    async fn cancel_job(&self, id: JobId, now: Timestamp) -> Result<Option<Job>, Error> {
        let job = self.submit(Write::CancelJob { id, now }).await?.job()?;
        Ok(job.map(|job| *job))
    }

    async fn candidates(
        &self,
        lane: Lane,
        job: Job,
        limit: usize,
    ) -> Result<Vec<Candidate>, Error> {
        self.read(move |connection| read::candidates(connection, lane, &job, limit))
            .await
    }

    async fn open_of(
        &self,
        lane: Lane,
        endpoint: Position,
        after: Position,
        limit: usize,
    ) -> Result<Vec<Stored>, Error> {
        self.read(move |connection| read::open_of(connection, lane, endpoint, after, limit))
            .await
    }

    async fn slice(&self, slice: JobSlice) -> Result<Sliced, Error> {
        self.submit(Write::Slice(Box::new(slice))).await?.sliced()
    }

    async fn purge(&self, lane: Lane, client: Position) -> Result<usize, Error> {
        self.submit(Write::Purge { lane, client }).await?.purged()
    }

    fn condition(&self) -> Condition {
        let fault = self.fault.lock().unwrap_or_else(PoisonError::into_inner);
        let (backend, durable, wal_bytes) = match &self.mode {
            Mode::OnDisk(on_disk) => {
                let wal = std::fs::metadata(&on_disk.wal);
                ("sqlite", true, wal.map_or(0, |wal| wal.len()))
            }
            Mode::InMemory(_) => ("memory", false, 0),
        };
        Condition {
            backend,
            durable,
            fault: fault.clone(),
            disk_reserve_reached: self.disk_reserve_reached(),
            wal_bytes,
        }
    }
}
