//! Copies of stores that are being written.
#![expect(
    clippy::unwrap_used,
    reason = "a test that cannot be set up has failed"
)]

use std::fs;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicI64, Ordering};

use rusqlite::Connection;
use signalpost::backup::{self, Store};
use signalpost::settings::Settings;

/// Rows that are there before a copy is asked for.
const ROWS_BEFORE: i64 = 200;

fn make_store(path: &Path) -> Connection {
    let connection = Connection::open(path).unwrap();
    connection
        .pragma_update(None, "journal_mode", "WAL")
        .unwrap();
    connection.pragma_update(None, "user_version", 7).unwrap();
    connection
        .execute_batch("CREATE TABLE rows (n INTEGER PRIMARY KEY, body BLOB NOT NULL)")
        .unwrap();
    connection
}

fn write(connection: &Connection, n: i64) {
    connection
        .execute("INSERT INTO rows VALUES (?, randomblob(500))", [n])
        .unwrap();
}

fn count(path: &Path) -> i64 {
    let copy = Connection::open(path).unwrap();
    let check: String = copy
        .query_row("PRAGMA integrity_check", [], |row| row.get(0))
        .unwrap();
    assert_eq!(check, "ok");
    let version: i64 = copy
        .query_row("PRAGMA user_version", [], |row| row.get(0))
        .unwrap();
    assert_eq!(version, 7);
    let last: i64 = copy
        .query_row("SELECT max(n) FROM rows", [], |row| row.get(0))
        .unwrap();
    let count = copy
        .query_row("SELECT count(*) FROM rows", [], |row| row.get(0))
        .unwrap();
    assert_eq!(last, count, "no row is missing before the last one");
    count
}

fn stores(folder: &Path) -> [Store; 2] {
    ["delivery.db", "event-store.db"].map(|copy| Store {
        variable: "A_DATABASE_URL",
        path: folder.join(copy),
        copy,
    })
}

fn mode(path: &Path) -> u32 {
    fs::metadata(path).unwrap().permissions().mode() & 0o777
}

#[test]
fn a_copy_of_a_store_that_is_being_written_has_every_row_committed_before() {
    let folder = tempfile::tempdir().unwrap();
    let stores = stores(folder.path());
    let committed = AtomicI64::new(0);
    let enough = AtomicBool::new(false);
    let into = folder.path().join("made/for/it");

    let (before, copies) = std::thread::scope(|scope| {
        let [delivery, event_store] = stores.each_ref().map(|store| make_store(&store.path));
        let (committed, enough) = (&committed, &enough);
        let writer = scope.spawn(move || {
            let mut n = 0;
            while !enough.load(Ordering::Relaxed) {
                n += 1;
                write(&event_store, n);
                write(&delivery, n);
                committed.store(n, Ordering::Release);
            }
        });
        while committed.load(Ordering::Acquire) < ROWS_BEFORE && !writer.is_finished() {
            std::thread::yield_now();
        }
        let before = committed.load(Ordering::Acquire);
        let copies = backup::copy(&stores, &into);
        enough.store(true, Ordering::Relaxed);
        (before, copies)
    });

    let copies = copies.unwrap();
    let [delivery, event_store] = <[PathBuf; 2]>::try_from(copies).unwrap();
    assert_eq!(delivery, into.join("delivery.db"));
    let (delivery, event_store) = (count(&delivery), count(&event_store));
    assert!(delivery >= before, "{delivery} of {before}");
    assert!(
        event_store >= delivery,
        "what delivery's copy knows is in event-store's: {event_store} of {delivery}"
    );
    assert_eq!(mode(&into), 0o700);
    assert_eq!(mode(&into.join("event-store.db")), 0o600);
}

#[test]
fn what_a_killed_service_left_in_its_log_is_copied() {
    let folder = tempfile::tempdir().unwrap();
    let alive = folder.path().join("alive");
    fs::create_dir(&alive).unwrap();
    for store in stores(&alive) {
        let connection = make_store(&store.path);
        write(&connection, 1);
        // As a kill leaves it: the files of a connection that was not closed.
        for file in [store.copy.to_owned(), format!("{}-wal", store.copy)] {
            fs::copy(alive.join(&file), folder.path().join(&file)).unwrap();
        }
    }

    let copies = backup::copy(&stores(folder.path()), &folder.path().join("copies")).unwrap();

    for copy in copies {
        assert_eq!(count(&copy), 1);
    }
}

#[test]
fn a_copy_is_not_overwritten_and_a_failed_backup_leaves_nothing() {
    let folder = tempfile::tempdir().unwrap();
    let stores = stores(folder.path());
    write(&make_store(&stores[0].path), 1);
    let into = folder.path().join("copies");

    // The second store is not there.
    let fault = backup::copy(&stores, &into).unwrap_err();
    assert!(format!("{fault:#}").contains("A_DATABASE_URL"), "{fault:#}");
    assert_eq!(fs::read_dir(&into).unwrap().count(), 0);

    write(&make_store(&stores[1].path), 1);
    backup::copy(&stores, &into).unwrap();
    let bytes = fs::read(into.join("delivery.db")).unwrap();
    let fault = backup::copy(&stores, &into).unwrap_err();
    assert!(fault.to_string().contains("there already"), "{fault}");
    assert_eq!(fs::read(into.join("delivery.db")).unwrap(), bytes);
    assert_eq!(fs::read_dir(&into).unwrap().count(), 2);
}

#[test]
fn only_an_sqlite_file_can_be_copied() {
    for (url, told) in [
        ("memory:", "keeps nothing"),
        ("postgres://u:canary@h/d", "does not name an SQLite file"),
        ("sqlite:", "does not name an SQLite file"),
        ("sqlite::memory:", "does not name an SQLite file"),
    ] {
        let settings = Settings {
            event_store_database_url: url.to_owned(),
            ..Settings::default()
        };
        let fault = backup::stores(&settings).err().unwrap().to_string();
        assert!(fault.contains(told), "{url}: {fault}");
        assert!(fault.contains("EVENT_STORE_DATABASE_URL") && !fault.contains("canary"));
    }
    let [delivery, event_store] = backup::stores(&Settings::default()).unwrap();
    assert_eq!(delivery.path, Path::new("./data/delivery.db"));
    assert_eq!(event_store.path, Path::new("./data/event-store.db"));
}
