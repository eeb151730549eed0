use std::path::Path;
use std::time::Duration;

use base64::Engine as _;
use rusqlite::ffi;
use schema::delivery::Status;
use schema::webhooks::JobKind;

use super::checkpoint::Checkpoint;
use super::read::{Walk, walk_deliveries, walk_events};
use super::*;
use crate::domain::transition::{Life, SkipReason, State};
use crate::storage::conformance::{
    accept_of, at, change, ended, endpoint_of, hub, in_memory, job_of, put, report_all, run, seen,
    sqlite_in, started, stored, timers,
};
use crate::storage::{LANE, RETIRE_SLICE, Seen};

mod first_release;
mod second_release;

impl Sqlite {
    /// The names of the tables that are not empty.
    pub(crate) fn tables_with_rows(&self) -> Vec<String> {
        let list = |connection: &Connection| -> rusqlite::Result<Vec<String>> {
            let mut names = connection
                .prepare("SELECT name FROM sqlite_schema WHERE type = 'table' ORDER BY name")?;
            let names = names.query_map([], |row| row.get::<_, String>(0))?;
            let mut found = Vec::new();
            for name in names {
                let name = name?;
                let count: i64 =
                    connection.query_row(&format!("SELECT count(*) FROM {name}"), [], |row| {
                        row.get(0)
                    })?;
                found.extend((count > 0).then_some(name));
            }
            Ok(found)
        };
        match &self.mode {
            Mode::OnDisk(on_disk) => list(&on_disk.reader.connection.lock().unwrap()),
            Mode::InMemory(writer) => list(&writer.lock().unwrap().connection),
        }
        .unwrap()
    }
}

fn no_key() -> Vault {
    Vault::open(None).unwrap()
}

fn key(byte: u8) -> Vault {
    let key = base64::prelude::BASE64_STANDARD.encode([byte; 32]);
    Vault::open(Some(&key.into())).unwrap()
}

fn refused(path: &Path, vault: Vault) -> String {
    let refused = Sqlite::open(path, timers(), vault).err().unwrap();
    format!("{refused:#}")
}

#[tokio::test]
async fn a_second_process_is_refused_with_the_reason_and_a_later_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let first = sqlite_in(directory.path());
    let path = directory.path().join("made/here/d.db");

    let refused = refused(&path, no_key());
    let holder = format!("another process (delivery, pid {})", std::process::id());
    assert!(refused.contains(&holder), "{refused}");

    drop(first);
    assert!(Sqlite::open(&path, timers(), no_key()).is_ok());
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart_and_the_epoch_grows() {
    let directory = tempfile::tempdir().unwrap();
    let store = sqlite_in(directory.path());
    let hub = hub(&store).await;
    let endpoints = store.endpoints(LANE).await.unwrap();
    let position = hub.insert(&store, &["evt_1"]).await[0];
    let before = stored(&store, position).await;
    drop(store);

    let store = sqlite_in(directory.path());

    assert_eq!(store.cursor(LANE).await, Ok(Some("run:1".to_owned())));
    assert_eq!(stored(&store, position).await, before);
    assert_eq!(store.endpoints(LANE).await, Ok(endpoints));
    let epoch = store.take_lane(LANE, "b", at(1)).await;
    assert_eq!(epoch, Ok(hub.epoch + 1));
}

#[test]
fn a_store_of_other_lanes_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    drop(sqlite_in(directory.path()));
    let path = directory.path().join("made/here/d.db");
    let changed = Connection::open(&path).unwrap();
    changed
        .execute("UPDATE meta SET value = '64' WHERE name = 'lanes'", [])
        .unwrap();

    let refused = refused(&path, no_key());

    assert!(refused.contains("lanes = 64"), "{refused}");
}

#[test]
fn it_is_durable_and_its_checkpoints_are_small_and_timed() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = writer_in(directory.path());
    let setting = |name: &str| -> String {
        let value: rusqlite::types::Value = writer
            .connection
            .pragma_query_value(None, name, |row| row.get(0))
            .unwrap();
        format!("{value:?}")
    };
    assert!(setting("journal_mode").contains("wal"));
    assert!(setting("synchronous").contains('2'), "FULL");

    let mut seen = None;
    for _ in 0..60 {
        // Of at least 16 pages.
        let mut accept = accept_of("acme", seen, "t", &[]);
        accept.event.carried.payload = vec![b'x'; 64 * 1024].into();
        accept.event.carried.event_id = EventId::mint(LANE, at(1));
        commit(&mut writer, Write::Accept(Box::new(accept))).unwrap();
        seen = Some(seen_by(&writer));
    }

    assert!(writer.timers.checkpoint.get_sample_count() >= 4);
    let wal = directory.path().join("d.db-wal").metadata().unwrap().len();
    assert!(wal < 300 * 4_096, "{wal}");
}

#[test]
fn a_store_says_what_it_is() {
    let directory = tempfile::tempdir().unwrap();
    let on_disk = sqlite_in(directory.path()).condition();
    let in_memory = in_memory().condition();
    assert_eq!((on_disk.backend, on_disk.durable), ("sqlite", true));
    assert_eq!((in_memory.backend, in_memory.durable), ("memory", false));
    assert_eq!(in_memory.wal_bytes, 0);
}

fn writer_in(directory: &Path) -> Writer {
    let connection = open::file(&directory.join("d.db"), &no_key()).unwrap();
    let vault = Arc::new(no_key());
    Writer::new(connection, timers(), vault, Arc::default(), None)
}

/// The one client, with no endpoint.
fn seen_by(writer: &Writer) -> Seen {
    let position = writer
        .connection
        .query_row("SELECT position FROM clients", [], |row| row.get(0));
    Seen {
        client: position.unwrap(),
        version: 0,
    }
}

fn commit(writer: &mut Writer, write: Write) -> Result<Answer, Error> {
    writer
        .commit(&[write])
        .and_then(|mut answers| answers.remove(0))
}

#[test]
fn a_full_disk_passes_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = writer_in(directory.path());
    let mut accept = accept_of("acme", None, "t", &[]);
    accept.event.carried.payload = vec![b'x'; 64 * 1024].into();
    commit(&mut writer, Write::Accept(Box::new(accept.clone()))).unwrap();
    accept.seen = Some(seen_by(&writer));
    accept.event.carried.event_id = EventId::mint(LANE, at(1));

    let limit = |writer: &Writer, pages: u32| {
        writer
            .connection
            .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
            .unwrap();
    };
    limit(&writer, 1);
    let refused = commit(&mut writer, Write::Accept(Box::new(accept.clone())));
    let refused = refused.err().unwrap();
    assert!(matches!(refused, Error::Passing(_)), "{refused}");
    assert!(writer.fault.lock().unwrap().is_some(), "it is said");

    limit(&writer, 1_000_000);
    let answer = commit(&mut writer, Write::Accept(Box::new(accept))).unwrap();

    let accepted = answer.accepted().unwrap();
    assert!(matches!(accepted, Accepted::New { .. }), "{accepted:?}");
    assert_eq!(*writer.fault.lock().unwrap(), None);
    let count: i64 = writer
        .connection
        .query_row("SELECT count(*) FROM events", [], |row| row.get(0))
        .unwrap();
    assert_eq!(count, 2);
}

#[test]
fn after_a_failed_fsync_nothing_more_is_written() {
    let fault = |code| rusqlite::Error::SqliteFailure(ffi::Error::new(code), None);
    for (code, is_final) in [
        (ffi::SQLITE_IOERR_FSYNC, true),
        (ffi::SQLITE_IOERR_DIR_FSYNC, true),
        (ffi::SQLITE_CORRUPT, true),
        (ffi::SQLITE_NOTADB, true),
        (ffi::SQLITE_FULL, false),
        (ffi::SQLITE_IOERR_WRITE, false),
        (ffi::SQLITE_BUSY, false),
    ] {
        assert_eq!(judge(&fault(code)).is_final(), is_final, "{code}");
    }

    let directory = tempfile::tempdir().unwrap();
    let mut writer = writer_in(directory.path());
    let mut checkpoint = |code| {
        writer.note_checkpoint(Checkpoint {
            took: Duration::ZERO,
            outcome: Err(fault(code)),
        });
        let write = Write::Reported {
            lane: LANE,
            upto: 1,
        };
        commit(&mut writer, write).err()
    };
    assert_eq!(
        checkpoint(ffi::SQLITE_BUSY),
        None,
        "the next makes up for it"
    );
    let broken = checkpoint(ffi::SQLITE_IOERR_FSYNC).unwrap();
    assert!(broken.is_final(), "{broken}");
    assert!(writer.fault.lock().unwrap().is_some(), "it is said");
}

#[test]
fn queries_that_wait_hold_up_no_read_of_the_worker() {
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .worker_threads(1)
        .max_blocking_threads(2)
        .enable_time()
        .build()
        .unwrap();
    let directory = tempfile::tempdir().unwrap();
    let store = Arc::new(sqlite_in(directory.path()));
    let Mode::OnDisk(on_disk) = &store.mode else {
        panic!("it is on disk");
    };
    let slow = Arc::clone(&on_disk.queries.connection);

    let long_query = slow.lock().unwrap();
    let queries: Vec<_> = (0..8)
        .map(|_| {
            let store = Arc::clone(&store);
            runtime.spawn(async move { store.deliveries(LANE, Filter::default()).await })
        })
        .collect();
    let loaded = runtime.block_on(async {
        while on_disk.queries.turn.available_permits() > 0 {
            tokio::task::yield_now().await;
        }
        let load = store.load(LANE, vec![1]);
        tokio::time::timeout(Duration::from_secs(2), load).await
    });
    drop(long_query);

    assert_eq!(loaded, Ok(Ok(vec![])));
    for query in queries {
        let listed = runtime.block_on(query).unwrap();
        assert_eq!(listed, Ok(Page::default()));
    }
}

#[tokio::test]
async fn below_the_disk_reserve_results_go_and_events_do_not() {
    let directory = tempfile::tempdir().unwrap();
    let store = sqlite_in(directory.path());
    let hub = hub(&store).await;
    let position = hub.insert(&store, &["evt_1"]).await[0];
    drop(store);
    let path = directory.path().join("made/here/d.db");

    let full = Sqlite::open_with_reserve(&path, timers(), no_key(), u64::MAX).unwrap();

    assert!(full.condition().disk_reserve_reached);
    let page = hub.page(vec![hub.feed_event("evt_2")]);
    let refused = full.take_in(page).await;
    assert!(matches!(refused, Err(Error::Passing(_))), "{refused:?}");
    let refused = full.accept(accept_of("acme", None, "t", &[])).await;
    assert!(matches!(refused, Err(Error::Passing(_))), "{refused:?}");
    let before = stored(&full, position).await;
    change(&full, started(&before, hub.epoch)).await.unwrap();
    let before = stored(&full, position).await;
    let end = ended(&before, hub.epoch, State::Delivered, at(4));
    change(&full, end).await.unwrap();
    report_all(&full).await;
    let retired = full.retire(LANE, 0, at(50)).await.unwrap();
    assert_eq!(retired.removed, 1);
}

/// Whether a file of the store holds a text.
fn is_on_disk(directory: &Path, text: &str) -> bool {
    let files = std::fs::read_dir(directory).unwrap();
    files.into_iter().any(|file| {
        let bytes = std::fs::read(file.unwrap().path()).unwrap();
        bytes
            .windows(text.len())
            .any(|part| part == text.as_bytes())
    })
}

#[tokio::test]
async fn with_a_key_nothing_confidential_is_on_disk() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("d.db");
    let mut new = endpoint_of("acme");
    let headers = &mut new.confidential.headers;
    headers.insert("x-token".to_owned(), "a-token-of-acme".to_owned());
    let secrets = [
        new.confidential.secret.clone(),
        "a-token-of-acme".to_owned(),
    ];
    let open = |vault| Sqlite::open(&path, timers(), vault).unwrap();
    let found = || {
        secrets
            .each_ref()
            .map(|secret| is_on_disk(directory.path(), secret))
    };

    let store = open(no_key());
    let made = put(&store, new).await;
    assert_eq!(found(), [true, true], "no key, no seal");
    drop(store);

    let store = open(key(1));
    assert_eq!(found(), [false, false], "what was plain is sealed");
    assert_eq!(store.endpoints(LANE).await, Ok(vec![made.clone()]));
    let mut changed = made;
    changed.settings.timeout_ms = 100;
    let changed = put(&store, changed).await;
    assert_eq!(found(), [false, false]);
    drop(store);

    for (vault, why) in [
        (no_key(), "DELIVERY_SECRETS_KEY is not set"),
        (key(2), "sealed with another key"),
    ] {
        let refused = refused(&path, vault);
        assert!(refused.contains(why), "{refused}");
        assert!(!refused.contains(&secrets[0]), "{refused}");
    }
    assert_eq!(open(key(1)).endpoints(LANE).await, Ok(vec![changed]));
}

#[tokio::test]
async fn memory_is_bounded_and_remembers_what_left_and_what_is_open_stays() {
    let store = in_memory();
    let hub = hub(&store).await;
    let open = hub.insert(&store, &["evt_open"]).await[0];
    let many = 10_000 + 4 * RETIRE_SLICE;
    for n in (0..many).step_by(RETIRE_SLICE) {
        let events = (n..n + RETIRE_SLICE).map(|n| hub.skipped(&format!("evt_{n}")));
        store.take_in(hub.page(events.collect())).await.unwrap();
        report_all(&store).await;
    }

    let count = |table| count(&store, table);
    assert!(
        count("events") <= 10_001 + RETIRE_SLICE,
        "{}",
        count("events")
    );
    assert_eq!(count("events"), count("deliveries"));
    assert_eq!(stored(&store, open).await.position, open);
    let again = store.take_in(hub.page(vec![hub.feed_event("evt_0")])).await;
    let again = again.unwrap().unwrap();
    assert!(
        matches!(again[..], [Accepted::Duplicate { .. }]),
        "{again:?}"
    );
}

#[tokio::test]
async fn memory_keeps_the_pages_that_nobody_got() {
    let store = in_memory();
    let hub = hub(&store).await;
    let missed = (0..RETIRE_SLICE).map(|n| hub.skipped(&format!("evt_missed_{n}")));
    let missed = hub.page(missed.collect());
    store.take_in(missed).await.unwrap();
    let many = 10_000 + 4 * RETIRE_SLICE;
    for n in (0..many).step_by(RETIRE_SLICE) {
        let events = (n..n + RETIRE_SLICE).map(|n| {
            let mut event = hub.skipped(&format!("evt_{n}"));
            event.accept.deliveries[0].life = Life::skipped(SkipReason::AlreadyDelivered, at(1));
            event
        });
        store.take_in(hub.page(events.collect())).await.unwrap();
        report_all(&store).await;
    }

    assert_eq!(
        count(&store, "deliveries WHERE reason = 'too_old'"),
        RETIRE_SLICE
    );
    assert!(count(&store, "events") <= 10_000 + 2 * RETIRE_SLICE);
}

/// Puts so many attempts of a delivery on record.
fn add_attempts(store: &Sqlite, delivery: Position, count: usize) {
    let Mode::InMemory(writer) = &store.mode else {
        panic!("it is in memory");
    };
    let connection = &writer.lock().unwrap().connection;
    let sql = "WITH RECURSIVE n(number) AS (SELECT 1 UNION ALL SELECT number + 1 FROM n WHERE number < ?2)
        INSERT OR REPLACE INTO attempts (lane, delivery, number, epoch, made_by, started_at)
        SELECT 0, ?1, number, 1, 'schedule', 0 FROM n";
    let added = connection.execute(sql, rusqlite::params![delivery, count]);
    assert_eq!(added, Ok(count));
    let sql = "UPDATE deliveries SET started = ?2 WHERE position = ?1";
    let told = connection.execute(sql, rusqlite::params![delivery, count]);
    assert_eq!(told, Ok(1));
}

fn count(store: &Sqlite, table: &str) -> usize {
    let Mode::InMemory(writer) = &store.mode else {
        panic!("it is in memory");
    };
    let sql = format!("SELECT count(*) FROM {table}");
    let connection = &writer.lock().unwrap().connection;
    connection.query_row(&sql, [], |row| row.get(0)).unwrap()
}

#[tokio::test]
async fn no_slice_of_retention_or_of_a_purge_follows_the_number_of_attempts() {
    for purges in [false, true] {
        let store = in_memory();
        let hub = hub(&store).await;
        let deliveries = ["evt_1", "evt_2", "evt_3"];
        for (id, attempts) in deliveries.into_iter().zip([2_000, 10_000, 2_000]) {
            let delivery = hub.live(&store, id, State::Delivered).await;
            add_attempts(&store, delivery, attempts);
        }
        report_all(&store).await;
        let client = store.endpoints(LANE).await.unwrap().remove(0);
        if purges {
            let job = job_of(JobKind::RemoveClient, &client);
            store.remove_client(LANE, job).await.unwrap();
        }

        let (mut after, mut left, mut slices) = (0, vec![], 0);
        while count(&store, "events") > 0 {
            let before = count(&store, "attempts");
            if purges {
                store.purge(LANE, client.client).await.unwrap();
            } else {
                let retired = store.retire(LANE, after, at(50)).await.unwrap();
                after = retired.next.unwrap_or(0);
            }
            left.push(count(&store, "attempts"));
            assert!(before - left[slices] <= 4_096, "{left:?}");
            slices += 1;
            assert!(slices < 10, "it ends");
        }
        assert_eq!(left, [12_000, 7_904, 3_808, 2_000, 0]);
    }
}

#[test]
fn a_list_walks_no_more_than_it_asks_for() {
    let directory = tempfile::tempdir().unwrap();
    let connection = open::file(&directory.path().join("d.db"), &no_key()).unwrap();
    let walk = |client, endpoint, status| Walk {
        client,
        endpoint,
        status,
        before: 9,
    };
    let failed = Some(Status::Failed);
    let pending = Some(Status::Pending);
    for (walk, by) in [
        (
            walk(None, None, None),
            "PRIMARY KEY (lane=? AND position<?)",
        ),
        (
            walk(None, None, Some(Status::Delivered)),
            "PRIMARY KEY (lane=? AND position<?)",
        ),
        (
            walk(None, None, failed),
            "deliveries_by_status (lane=? AND status=? AND position<?)",
        ),
        (
            walk(None, None, pending),
            "deliveries_by_status (lane=? AND status=? AND position<?)",
        ),
        (
            walk(Some(1), None, None),
            "deliveries_by_client (lane=? AND client=? AND position<?)",
        ),
        (
            walk(Some(1), None, pending),
            "deliveries_by_client (lane=? AND client=? AND position<?)",
        ),
        (
            walk(Some(1), None, failed),
            "deliveries_by_client_status (lane=? AND client=? AND status=? AND position<?)",
        ),
        (
            walk(Some(1), Some(2), None),
            "deliveries_by_endpoint (lane=? AND endpoint=? AND position<?)",
        ),
        (
            walk(Some(1), Some(2), failed),
            "deliveries_by_endpoint_status (lane=? AND endpoint=? AND status=? AND position<?)",
        ),
    ] {
        let (sql, values) = walk_deliveries(LANE, &walk);
        is_walked(&connection, &sql, values, by);
    }
    for (walk, by) in [
        (walk(None, None, None), "(lane=? AND position<?)"),
        (
            walk(Some(1), None, failed),
            "events_by_client (lane=? AND client=? AND position<?)",
        ),
    ] {
        let (sql, values) = walk_events(LANE, &walk);
        is_walked(&connection, &sql, values, by);
    }
}

/// Its first step is this one, and no step sorts.
fn is_walked(connection: &Connection, sql: &str, values: Vec<rusqlite::types::Value>, by: &str) {
    let mut plan = connection
        .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
        .unwrap();
    let steps: Vec<String> = plan
        .query_map(rusqlite::params_from_iter(values), |row| row.get(3))
        .unwrap()
        .map(Result::unwrap)
        .collect();
    assert!(steps[0].ends_with(by), "{by}: {steps:?}");
    assert!(!steps.iter().any(|step| step.contains("TEMP")), "{steps:?}");
}

#[tokio::test]
async fn a_client_pays_for_its_own_events_only() {
    let payer = |client_id: &str| {
        let accept = accept_of(client_id, None, "t", &[]);
        Writer::payer(&Write::Accept(Box::new(accept)))
    };
    assert_eq!(payer("acme"), payer("acme"));
    assert_ne!(payer("acme"), payer("globex"));
    assert_ne!(payer("acme"), 0);
}
