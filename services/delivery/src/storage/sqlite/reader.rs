//! Reads beside the writer.

use std::path::Path;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags};
use tokio::sync::Semaphore;

use super::open::{BUSY, keep_plans};
use super::writer::judge;
use crate::error::Error;

/// How long a read waits for those before it.
const TURN: Duration = Duration::from_secs(5);
/// Statements that stay prepared: every one of a read.
const STATEMENTS: usize = 64;

/// A connection that reads, for one at a time.
pub(super) struct Reader {
    pub(super) connection: Arc<Mutex<Connection>>,
    pub(super) turn: Arc<Semaphore>,
}

impl Reader {
    pub(super) fn open(path: &Path) -> anyhow::Result<Self> {
        let flags = OpenFlags::SQLITE_OPEN_READ_ONLY | OpenFlags::SQLITE_OPEN_NO_MUTEX;
        let connection = Connection::open_with_flags(path, flags)?;
        connection.busy_timeout(BUSY)?;
        keep_plans(&connection)?;
        connection.set_prepared_statement_cache_capacity(STATEMENTS);
        Ok(Self {
            connection: Arc::new(Mutex::new(connection)),
            turn: Arc::new(Semaphore::new(1)),
        })
    }

    /// Runs a read on a thread where it may block; those that wait for their turn hold none.
    pub(super) async fn read<T: Send + 'static>(
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
            Ok(rows) => rows.map_err(|fault| judge(&fault)),
            Err(fault) => Err(Error::Passing(format!("a read did not end: {fault}"))),
        }
    }
}
