//! Opening a store: its lock, its settings, its schema.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::Context as _;
use runtime::lock_file::LockFile;
use rusqlite::Connection;
use rusqlite::config::DbConfig;
use rusqlite_migration::{M, Migrations};

use super::checkpoint;
use super::endpoints::reseal;
use super::memory::Bound;
use crate::storage::Vault;

pub(super) const BUSY: Duration = Duration::from_secs(5);

const MIGRATIONS: &[M<'static>] = &[
    M::up(include_str!("../../../migrations/sqlite/0001_first.sql")),
    M::up(include_str!("../../../migrations/sqlite/0002_clients.sql")),
    M::up(include_str!("../../../migrations/sqlite/0003_pages.sql")),
    M::up(include_str!("../../../migrations/sqlite/0004_reasons.sql")),
];

/// What a store was made with; another value means that its rows lie in other lanes.
const MADE_WITH: [(&str, &str); 2] = [("lanes", "1"), ("lane_hash", "none")];

/// The file's lock is the lease of its lane (R5).
pub(super) fn lock(path: &Path) -> anyhow::Result<LockFile> {
    LockFile::take(&beside(path, ".lock"), "delivery").context(
        "one delivery process owns an SQLite store, a second one would send everything twice",
    )
}

/// The file's path with something appended, as SQLite names what belongs to it.
pub(super) fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Opens the file as the writer does, at the newest schema.
pub(super) fn file(path: &Path, vault: &Vault) -> anyhow::Result<Connection> {
    let mut connection =
        Connection::open(path).with_context(|| format!("opening {}", path.display()))?;
    connection.busy_timeout(BUSY)?;
    keep_plans(&connection)?;
    connection.pragma_update(None, "journal_mode", "WAL")?;
    connection.pragma_update(None, "synchronous", "FULL")?;
    checkpoint::after_commits_of(&connection);
    prepare(&mut connection).with_context(|| format!("migrating {}", path.display()))?;
    // What was plain is overwritten, not only freed.
    connection.pragma_update(None, "secure_delete", true)?;
    reseal(&connection, vault)?;
    connection.pragma_update(None, "secure_delete", false)?;
    connection.query_row("PRAGMA wal_checkpoint(TRUNCATE)", [], |_| Ok(()))?;
    Ok(connection)
}

/// A store that is gone with its connection.
pub(super) fn memory() -> anyhow::Result<Connection> {
    let mut connection = Connection::open_in_memory()?;
    keep_plans(&connection)?;
    connection.pragma_update(None, "journal_mode", "MEMORY")?;
    connection.pragma_update(None, "synchronous", "OFF")?;
    prepare(&mut connection)?;
    Bound::prepare(&connection)?;
    Ok(connection)
}

/// A prepared statement is planned once. Otherwise SQLite plans it again for each value of a LIMIT, which takes longer
/// than the statement.
pub(super) fn keep_plans(connection: &Connection) -> rusqlite::Result<()> {
    connection.set_db_config(DbConfig::SQLITE_DBCONFIG_ENABLE_QPSG, true)?;
    Ok(())
}

fn prepare(connection: &mut Connection) -> anyhow::Result<()> {
    Migrations::from_slice(MIGRATIONS).to_latest(connection)?;
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
