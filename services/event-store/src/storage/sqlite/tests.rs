//! What only a file can get wrong.

use std::fs;
use std::path::PathBuf;
use std::sync::{Mutex, mpsc};
use std::time::Duration;

use rusqlite::Connection;
use schema::{Kind, Severity, Source, delivery};

use super::super::conformance::{after, ids, metrics, newest, noticed, outcome, paging, payment};
use super::*;
use crate::domain::query::{Filter, Needle};

struct Place {
    directory: tempfile::TempDir,
}

impl Place {
    fn new() -> Self {
        Self {
            directory: tempfile::tempdir().unwrap(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.directory.path().join(name)
    }

    fn open(&self, name: &str) -> Sqlite {
        Sqlite::open(&self.path(name), Clock::system(), metrics()).unwrap()
    }
}

#[tokio::test]
async fn a_store_opened_again_has_everything_and_knows_its_readers() {
    let place = Place::new();
    let store = place.open("a.db");
    let drafts = vec![payment("evt_1"), paging("evt_2")];
    store.insert(drafts.into()).await.unwrap();
    let report = outcome("evt_2", 1, 1, delivery::Status::Delivered);
    store.record_outcomes(vec![report]).await.unwrap();
    let token = store.feed(after(None)).await.unwrap().next;
    let before = store.events(newest(50)).await.unwrap().records;
    drop(store);

    let store = place.open("a.db");

    assert_eq!(store.events(newest(50)).await.unwrap().records, before);
    let drafts = vec![paging("evt_2"), payment("evt_3")];
    let inserted = store.insert(drafts.into()).await.unwrap();
    assert_eq!(inserted[0], Inserted::Known { routed: true });
    let slice = store.feed(after(Some(token))).await.unwrap();
    assert_eq!(noticed(&slice), ["store evt_3"]);
    assert_eq!(slice.head, 3);
}

#[tokio::test]
async fn after_a_clock_that_was_far_ahead_times_stand_still_and_it_is_counted() {
    let place = Place::new();
    let open = |at: &str| {
        let (clock, metrics) = (Clock::starting_at(at.parse().unwrap()), metrics());
        let store = Sqlite::open(&place.path("a.db"), clock, metrics.clone()).unwrap();
        (store, metrics)
    };
    let (ahead, _) = open("2034-01-15T10:00:00Z");
    ahead.insert(vec![payment("evt_1")].into()).await.unwrap();
    drop(ahead);

    let (store, metrics) = open("2024-01-15T10:00:00Z");
    store.insert(vec![payment("evt_2")].into()).await.unwrap();
    store.insert(vec![payment("evt_3")].into()).await.unwrap();

    let records = store.events(newest(50)).await.unwrap().records;
    assert_eq!(records[0].stored_at, records[2].stored_at);
    assert_eq!(metrics.clock_clamped.get(), 2);
}

#[tokio::test]
async fn a_second_process_is_refused_with_the_reason() {
    let place = Place::new();
    let first = place.open("a.db");

    let refused = Sqlite::open(&place.path("a.db"), Clock::system(), metrics());

    let reason = format!("{:#}", refused.err().unwrap());
    let holder = format!("another process (event-store, pid {})", std::process::id());
    assert!(reason.contains(&holder), "{reason}");
    drop(first);
    place.open("a.db");
}

#[tokio::test]
async fn a_reader_of_what_a_restored_copy_has_not_lived_diverges() {
    let place = Place::new();
    let store = place.open("a.db");
    store.insert(vec![payment("evt_1")].into()).await.unwrap();
    let kept = store.feed(after(None)).await.unwrap().next;
    drop(store);
    fs::copy(place.path("a.db"), place.path("backup.db")).unwrap();
    let store = place.open("a.db");
    store.insert(vec![payment("evt_2")].into()).await.unwrap();
    let of_the_same_run_later = {
        drop(store);
        let store = place.open("a.db");
        store.insert(vec![payment("evt_3")].into()).await.unwrap();
        store.feed(after(None)).await.unwrap().next
    };

    let restored = place.open("backup.db");
    let drafts = (0..9).map(|n| payment(&format!("other_{n}")));
    restored.insert(drafts.collect()).await.unwrap();

    let refused = restored.feed(after(Some(of_the_same_run_later))).await;
    assert_eq!(refused.unwrap_err(), FeedError::Diverged);
    let past_the_copy = crate::domain::token::Token {
        position: kept.position + 1,
        ..kept.clone()
    };
    let refused = restored.feed(after(Some(past_the_copy))).await;
    assert_eq!(refused.unwrap_err(), FeedError::Diverged);
    let resumed = restored.feed(after(Some(kept))).await.unwrap();
    assert_eq!(resumed.notices.len(), 9);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_feed_and_the_status_do_not_wait_behind_queries() {
    let place = Place::new();
    let store = place.open("a.db");
    store.insert(vec![paging("evt_1")].into()).await.unwrap();
    let (let_go, held) = mpsc::channel::<()>();
    let held = Arc::new(Mutex::new(held));
    let slow_query = || {
        let held = Arc::clone(&held);
        store.readers.read(move |_| {
            held.lock().unwrap().recv().unwrap();
            Ok(())
        })
    };

    // One more than there are readers for queries.
    let told = async {
        let slice = store.feed(after(None)).await.unwrap();
        let status = store.status().await.unwrap();
        for _ in 0..3 {
            let_go.send(()).unwrap();
        }
        (slice.notices.len(), status.head)
    };
    let (.., told) = tokio::join!(slow_query(), slow_query(), slow_query(), told);

    assert_eq!(told, (1, 1));
}

#[tokio::test]
async fn a_scan_that_takes_too_long_ends_early_and_goes_on_where_it_was() {
    let place = Place::new();
    let store = place.open("a.db");
    let drafts = (0..600).map(|n| payment(&format!("evt_{n}")));
    store.insert(drafts.collect()).await.unwrap();
    let connection = Connection::open(place.path("a.db")).unwrap();
    let mut query = newest(50);
    query.filter.text = Some(Needle::new("evt_7"));

    let (mut found, mut pages) = (Vec::new(), 0);
    loop {
        let page = reader::events(&connection, &query, Duration::ZERO).unwrap();
        found.extend(ids(&page.records));
        pages += 1;
        query.before = page.next;
        if page.next.is_none() {
            break;
        }
    }

    assert_eq!(pages, 3);
    assert_eq!(found.len(), 11);
    let all_at_once = reader::events(&connection, &query, Duration::from_secs(60)).unwrap();
    assert_eq!(ids(&all_at_once.records), found);
}

#[tokio::test]
async fn a_store_with_other_lanes_is_refused() {
    let place = Place::new();
    drop(place.open("a.db"));
    let connection = Connection::open(place.path("a.db")).unwrap();
    let change = "UPDATE meta SET value = '64' WHERE name = 'lanes'";
    connection.execute(change, []).unwrap();

    let refused = Sqlite::open(&place.path("a.db"), Clock::system(), metrics());

    let reason = format!("{:#}", refused.err().unwrap());
    assert!(reason.contains("lanes = 64"), "{reason}");
}

#[tokio::test]
async fn below_the_disk_reserve_outcomes_go_and_events_do_not() {
    let place = Place::new();
    let store = place.open("a.db");
    store.insert(vec![paging("evt_1")].into()).await.unwrap();
    drop(store);
    let path = place.path("a.db");

    let full = Sqlite::open_with_reserve(&path, Clock::system(), metrics(), u64::MAX).unwrap();

    let refused = full.insert(vec![payment("evt_2")].into()).await;
    assert_eq!(refused, Err(Error::DiskReserve));
    let report = outcome("evt_1", 1, 1, delivery::Status::Delivered);
    assert_eq!(full.record_outcomes(vec![report]).await, Ok(0));
    assert!(full.status().await.unwrap().disk_reserve_reached);
    assert_eq!(full.events(newest(50)).await.unwrap().records.len(), 1);
}

#[tokio::test]
async fn a_full_disk_refuses_the_write_and_recovers_by_itself() {
    use runtime::group_commit::Commit as _;
    let place = Place::new();
    let path = place.path("a.db");
    let opened = open::open(&path, &Clock::system()).unwrap();
    let mut writer = Writer {
        connection: opened.connection,
        progress: opened.progress,
        metrics: metrics(),
        heads: watch::Sender::default(),
        fault: watch::Sender::default(),
        wal: open::beside(&path, "-wal"),
    };
    let insert = |id: String| Write::Insert {
        drafts: vec![payment(&id)].into(),
        now: Timestamp::UNIX_EPOCH,
    };
    let limit = |writer: &Writer, pages: u32| {
        let pragma = format!("PRAGMA max_page_count = {pages}");
        writer.connection.execute_batch(&pragma).unwrap();
    };

    limit(&writer, 1);
    let mut stored = 0;
    let refused = loop {
        match writer.commit(&[insert(format!("evt_{stored}"))]) {
            Ok(_) => stored += 1,
            Err(fault) => break fault,
        }
    };
    let head = writer.progress.head;
    limit(&writer, 1_000_000);
    let retried = writer.commit(&[insert(format!("evt_{stored}"))]);

    assert_eq!(refused, Error::DiskFull);
    assert_eq!(head, stored);
    assert!(retried.is_ok());
    assert_eq!(reader::head(&writer.connection).unwrap(), stored + 1);
}

#[tokio::test]
async fn after_a_failed_fsync_nothing_is_written_and_the_reason_is_told() {
    let place = Place::new();
    let store = place.open("a.db");
    store.insert(vec![payment("evt_1")].into()).await.unwrap();
    let fault = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_IOERR_FSYNC);
    let failure = classify(rusqlite::Error::SqliteFailure(fault, None));

    store.fault.send_replace(Some(failure.clone()));

    assert!(matches!(failure, Error::Fatal(_)), "{failure}");
    assert_eq!(store.failed().await, failure);
    let refused = store.insert(vec![payment("evt_2")].into()).await;
    assert_eq!(refused, Err(failure));
    let records = store.events(newest(50)).await.unwrap().records;
    assert_eq!(ids(&records), ["evt_1"]);
}

#[tokio::test]
async fn a_read_that_finds_the_file_damaged_is_a_reason_to_stop() {
    let place = Place::new();
    let store = place.open("a.db");
    let damaged = || {
        let fault = rusqlite::ffi::Error::new(rusqlite::ffi::SQLITE_CORRUPT);
        classify(rusqlite::Error::SqliteFailure(fault, None))
    };

    let read = store.read(&store.readers, move |_| Err::<(), _>(damaged()));

    assert_eq!(read.await, Err(damaged()));
    assert_eq!(store.failed().await, damaged());
}

#[test]
fn outcomes_go_before_intake_and_deletes_do_not() {
    let before = Timestamp::UNIX_EPOCH;

    assert!(Write::Outcomes(Vec::new()).urgent());
    assert!(!Write::Forget { before, after: 0 }.urgent());
}

#[test]
fn what_an_error_means_by_table() {
    use rusqlite::ffi;
    for (code, fatal, full) in [
        (ffi::SQLITE_FULL, false, true),
        (ffi::SQLITE_IOERR_FSYNC, true, false),
        (ffi::SQLITE_IOERR_DIR_FSYNC, true, false),
        (ffi::SQLITE_CORRUPT, true, false),
        (ffi::SQLITE_CORRUPT_INDEX, true, false),
        (ffi::SQLITE_NOTADB, true, false),
        (ffi::SQLITE_IOERR_WRITE, false, false),
        (ffi::SQLITE_READONLY, false, false),
        (ffi::SQLITE_BUSY, false, false),
    ] {
        let fault = rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
        let error = classify(fault);
        assert_eq!(matches!(error, Error::Fatal(_)), fatal, "{code}: {error}");
        assert_eq!(error == Error::DiskFull, full, "{code}: {error}");
    }
}

fn migrated() -> Connection {
    let mut connection = Connection::open_in_memory().unwrap();
    open::migrations().to_latest(&mut connection).unwrap();
    connection
}

#[test]
fn every_statement_prepares() {
    let connection = migrated();
    for (name, statement) in sql::ALL {
        if let Err(fault) = connection.prepare(statement) {
            panic!("{name}: {fault}");
        }
    }
    assert!(sql::ALL.len() <= reader::sql_cache());
}

/// A million rows must cost what a thousand cost: no scan of a table, no sort.
#[test]
fn every_read_goes_by_an_index_and_sorts_nothing() {
    let connection = migrated();
    // What runs once at a start, or without a table, aside.
    let plain = [
        "BEGIN_RUN",
        "META",
        "PUT_META",
        "FILE_BYTES",
        "CLAIM_KEY",
        "INSERT_EVENT",
        "INSERT_NOTICE",
        "PUT_OUTCOME",
    ];
    for (name, statement) in sql::ALL.iter().filter(|(name, _)| !plain.contains(name)) {
        let mut plan = connection
            .prepare(&format!("EXPLAIN QUERY PLAN {statement}"))
            .unwrap();
        let parameters = vec![rusqlite::types::Null; plan.parameter_count()];
        let steps: Vec<String> = plan
            .query_map(rusqlite::params_from_iter(parameters), |row| row.get(3))
            .unwrap()
            .collect::<Result<_, _>>()
            .unwrap();
        if statement.contains("ORDER BY e.position DESC") || name.starts_with("FEED") {
            // By its bound, not from the beginning of the lane.
            let ranges = steps[0].contains("position<?") || steps[0].contains("position>?");
            assert!(ranges, "{name}: {steps:?}");
        }
        for step in steps {
            let wasteful = step.starts_with("SCAN") || step.contains("TEMP B-TREE");
            assert!(!wasteful, "{name}: {step}");
        }
    }
}

#[test]
fn a_filter_goes_by_the_narrowest_index() {
    let source = |name: &str| Source::parse(name);
    for (filter, statement) in [
        (Filter::default(), sql::NEWEST),
        (
            Filter {
                source: source("stripe"),
                ..Filter::default()
            },
            sql::NEWEST,
        ),
        (
            Filter {
                kind: Some(Kind::Payment),
                ..Filter::default()
            },
            sql::NEWEST,
        ),
        (
            Filter {
                severity: Some(Severity::Info),
                ..Filter::default()
            },
            sql::NEWEST,
        ),
        (
            Filter {
                open: Some(false),
                ..Filter::default()
            },
            sql::NEWEST,
        ),
        (
            Filter {
                open: Some(true),
                ..Filter::default()
            },
            sql::OPEN,
        ),
        (
            Filter {
                source: source("a_status"),
                ..Filter::default()
            },
            sql::OF_SOURCE,
        ),
        (
            Filter {
                source: source("a_status"),
                open: Some(true),
                ..Filter::default()
            },
            sql::OPEN_OF_SOURCE,
        ),
        (
            Filter {
                kind: Some(Kind::Status),
                ..Filter::default()
            },
            sql::OF_KIND,
        ),
        (
            Filter {
                severity: Some(Severity::Critical),
                ..Filter::default()
            },
            sql::OF_SEVERITY,
        ),
    ] {
        let (chosen, value) = reader::narrowest(&filter);
        assert_eq!(chosen, statement, "{filter:?}");
        assert_eq!(value.is_some(), statement.contains("?4"), "{filter:?}");
    }
}

#[test]
fn the_migrations_are_well_formed() {
    open::migrations().validate().unwrap();
}
