//! Checkpoints: SQLite's own way, after a commit and by the one who committed; here they are timed, and one that fails is
//! seen.

use std::cell::Cell;
use std::ffi::c_int;
use std::time::{Duration, Instant};

use rusqlite::hooks::Wal;
use rusqlite::{Connection, Result};

/// Small, so that a checkpoint on the writer never takes long.
const PAGES: c_int = 200;

pub(super) struct Checkpoint {
    pub(super) took: Duration,
    pub(super) outcome: Result<()>,
}

thread_local! {
    /// A hook has no state of its own, and runs on the thread that commits.
    static LAST: Cell<Option<Checkpoint>> = const { Cell::new(None) };
}

/// Instead of what `wal_autocheckpoint` does.
pub(super) fn after_commits_of(connection: &Connection) {
    connection.wal_hook(Some(after_commit));
}

/// That of the last commit of this thread, if it made one. Answered once.
pub(super) fn take_last() -> Option<Checkpoint> {
    LAST.take()
}

fn after_commit(wal: &Wal, pages: c_int) -> Result<()> {
    if pages >= PAGES {
        let started = Instant::now();
        let outcome = wal.checkpoint();
        let took = started.elapsed();
        LAST.set(Some(Checkpoint { took, outcome }));
    }
    // An error here would say that the commit failed, which it did not.
    Ok(())
}
