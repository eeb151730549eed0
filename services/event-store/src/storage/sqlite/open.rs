//! Opening the file: the lock, the settings, the schema, the run.

use std::ffi::OsString;
use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context as _, ensure};
use jiff::Timestamp;
use runtime::clock::Clock;
use runtime::ids;
use runtime::lock_file::LockFile;
use rusqlite::{Connection, OptionalExtension as _};
use rusqlite_migration::{M, Migrations};

use super::super::LANE;
use super::writer::Progress;
use super::{reader, sql, to_sql};

/// How the store is laid out; a file that says otherwise is not opened. One lane needs no hash.
const LAYOUT: &[(&str, &str)] = &[("lanes", "1"), ("lane_hash", "none")];

/// Small checkpoints on the writer's thread keep p99 low; a WAL that a long read made large is cut afterwards.
const SETTINGS: &str = "
    PRAGMA journal_mode = WAL;
    PRAGMA synchronous = FULL;
    PRAGMA wal_autocheckpoint = 200;
    PRAGMA journal_size_limit = 16777216;
    PRAGMA cache_size = -4096;
    PRAGMA temp_store = MEMORY;
";

pub(super) struct Opened {
    pub(super) connection: Connection,
    pub(super) lock: LockFile,
    pub(super) directory: PathBuf,
    pub(super) run: String,
    pub(super) progress: Progress,
}

pub(super) fn open(path: &Path, clock: &Clock) -> anyhow::Result<Opened> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent.to_owned(),
        _ => PathBuf::from("."),
    };
    fs::create_dir_all(&directory)
        .with_context(|| format!("making the directory {}", directory.display()))?;
    let lock = lock(path)?;
    let mut connection =
        Connection::open(path).with_context(|| format!("opening {}", path.display()))?;
    prepare(&mut connection).with_context(|| format!("preparing {}", path.display()))?;
    let progress = progress(&connection)?;
    let run = ids::time_ordered(clock.now()).simple().to_string();
    connection.execute(sql::BEGIN_RUN, (LANE, &run, to_sql(progress.head)))?;
    tracing::info!(path = %path.display(), head = progress.head, run, "store opened");
    Ok(Opened {
        connection,
        lock,
        directory,
        run,
        progress,
    })
}

/// One process at a time: the feed's order and the head live in its memory.
fn lock(path: &Path) -> anyhow::Result<LockFile> {
    LockFile::take(&beside(path, ".lock"), "event-store")
        .context("an SQLite store takes one event-store at a time")
}

/// The file's path with something appended, as SQLite names what belongs to it.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = OsString::from(path);
    name.push(suffix);
    name.into()
}

fn prepare(connection: &mut Connection) -> anyhow::Result<()> {
    connection.execute_batch(SETTINGS)?;
    let mode: String = connection.query_row("PRAGMA journal_mode", [], |row| row.get(0))?;
    ensure!(mode == "wal", "the file system takes no write-ahead log");
    connection.set_prepared_statement_cache_capacity(reader::sql_cache());
    migrations()
        .to_latest(connection)
        .context("bringing the schema up to date")?;
    check_layout(connection)
}

pub(super) fn migrations() -> Migrations<'static> {
    Migrations::new(vec![M::up(include_str!(
        "../../../migrations/sqlite/0001_events.sql"
    ))])
}

fn check_layout(connection: &Connection) -> anyhow::Result<()> {
    for (name, expected) in LAYOUT {
        let found: Option<String> = connection
            .query_row(sql::META, [name], |row| row.get(0))
            .optional()?;
        match found {
            None => {
                connection.execute(sql::PUT_META, (name, expected))?;
            }
            Some(found) => ensure!(
                found == *expected,
                "the store was made with {name} = {found}, this program needs {expected}"
            ),
        }
    }
    Ok(())
}

fn progress(connection: &Connection) -> anyhow::Result<Progress> {
    let stored_at = connection
        .query_row(sql::LAST_STORED_AT, [LANE], |row| reader::moment_at(row, 0))
        .optional()?;
    Ok(Progress {
        head: reader::head(connection)?,
        stored_at: stored_at.unwrap_or(Timestamp::UNIX_EPOCH),
        ..Progress::default()
    })
}
