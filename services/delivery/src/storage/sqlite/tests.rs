use std::path::Path;

use rusqlite::ffi;
use schema::delivery::Status;

use super::*;
use crate::domain::transition::State;
use crate::storage::conformance::{ended, histogram, page, pending, report_all, sqlite_in, start};
use crate::storage::{LANE, NewDelivery};

fn at(second: i64) -> Timestamp {
    Timestamp::from_second(second).unwrap()
}

#[tokio::test]
async fn a_second_process_is_refused_with_the_reason_and_a_later_one_is_not() {
    let directory = tempfile::tempdir().unwrap();
    let first = sqlite_in(directory.path());
    let path = directory.path().join("made/here/d.db");

    let refused = Sqlite::open(&path, histogram()).err().unwrap().to_string();
    assert!(refused.contains("in use by another process"), "{refused}");

    drop(first);
    assert!(Sqlite::open(&path, histogram()).is_ok());
}

#[tokio::test]
async fn what_was_answered_is_there_after_a_restart_and_the_epoch_grows() {
    let directory = tempfile::tempdir().unwrap();
    let store = sqlite_in(directory.path());
    let epoch = store.take_lane(LANE, "a", at(1)).await.unwrap();
    let new = pending("evt_1");
    store.intake(page(epoch, vec![new.clone()])).await.unwrap();
    drop(store);

    let store = sqlite_in(directory.path());

    assert_eq!(store.cursor(LANE).await, Ok(Some("run:1".to_owned())));
    let (found, _) = store.delivery(new.delivery_id).await.unwrap().unwrap();
    assert_eq!(found.life, new.life);
    assert_eq!(store.take_lane(LANE, "b", at(1)).await, Ok(epoch + 1));
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

    let refused = Sqlite::open(&path, histogram()).err().unwrap().to_string();

    assert!(refused.contains("lanes = 64"), "{refused}");
}

#[test]
fn it_is_durable_and_its_checkpoints_are_small() {
    let directory = tempfile::tempdir().unwrap();
    let writer = writer_in(directory.path());
    let setting = |name: &str| -> String {
        let value: rusqlite::types::Value = writer
            .connection
            .pragma_query_value(None, name, |row| row.get(0))
            .unwrap();
        format!("{value:?}")
    };
    assert!(setting("journal_mode").contains("wal"));
    assert!(setting("synchronous").contains('2'), "FULL");
    assert!(setting("wal_autocheckpoint").contains("200"));
}

fn writer_in(directory: &Path) -> Writer {
    let connection = prepare(&directory.join("d.db")).unwrap();
    Writer::new(connection, histogram(), Arc::default())
}

fn owned_by(writer: &mut Writer) -> Epoch {
    let owner = "test".to_owned();
    let write = Write::TakeLane {
        lane: LANE,
        owner,
        now: at(1),
    };
    let answer = commit(writer, write).unwrap();
    answer.epoch().unwrap()
}

fn commit(writer: &mut Writer, write: Write) -> Result<Answer, Error> {
    use runtime::group_commit::Commit as _;
    writer
        .commit(&[write])
        .and_then(|mut answers| answers.remove(0))
}

#[test]
fn a_full_disk_passes_and_loses_nothing() {
    let directory = tempfile::tempdir().unwrap();
    let mut writer = writer_in(directory.path());
    let epoch = owned_by(&mut writer);
    let take_in = |writer: &mut Writer, event_id: &str| {
        let mut new: NewDelivery = pending(event_id);
        new.event.payload = vec![b'x'; 64 * 1024].into();
        commit(writer, Write::Intake(page(epoch, vec![new])))
    };
    take_in(&mut writer, "evt_1").unwrap();

    let limit = |writer: &Writer, pages: u32| {
        writer
            .connection
            .pragma_update_and_check(None, "max_page_count", pages, |_| Ok(()))
            .unwrap();
    };
    limit(&writer, 1);
    let refused = take_in(&mut writer, "evt_2").err().unwrap();
    assert!(matches!(refused, Error::Passing(_)), "{refused}");
    assert!(writer.fault.lock().unwrap().is_some(), "it is said");

    limit(&writer, 1_000_000);
    let answer = take_in(&mut writer, "evt_2").unwrap();

    assert!(answer.inserted().unwrap()[0].is_some());
    assert_eq!(*writer.fault.lock().unwrap(), None);
    let count: i64 = writer
        .connection
        .query_row("SELECT count(*) FROM deliveries", [], |row| row.get(0))
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
        assert_eq!(writer::judge(&fault(code)).is_final(), is_final, "{code}");
    }

    let directory = tempfile::tempdir().unwrap();
    let mut writer = writer_in(directory.path());
    let broken = Error::Broken("fsync".to_owned());
    writer.broken = Some(broken.clone());
    let owner = "test".to_owned();
    let write = Write::TakeLane {
        lane: LANE,
        owner,
        now: at(1),
    };
    assert_eq!(commit(&mut writer, write).err(), Some(broken));
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
    let slow = Arc::clone(&store.queries.connection);

    let long_query = slow.lock().unwrap();
    let queries: Vec<_> = (0..8)
        .map(|_| {
            let store = Arc::clone(&store);
            runtime.spawn(async move { store.deliveries(LANE, Filter::default()).await })
        })
        .collect();
    let loaded = runtime.block_on(async {
        while store.queries.turn.available_permits() > 0 {
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
async fn below_the_disk_reserve_results_go_and_pages_do_not() {
    let directory = tempfile::tempdir().unwrap();
    let store = sqlite_in(directory.path());
    let epoch = store.take_lane(LANE, "a", at(1)).await.unwrap();
    let new = vec![pending("evt_1")];
    let position = store.intake(page(epoch, new)).await.unwrap()[0].unwrap();
    drop(store);
    let path = directory.path().join("made/here/d.db");

    let full = Sqlite::open_with_reserve(&path, histogram(), u64::MAX).unwrap();

    assert!(full.condition().disk_reserve_reached);
    let refused = full.intake(page(epoch, vec![pending("evt_2")])).await;
    assert!(matches!(refused, Err(Error::Passing(_))), "{refused:?}");
    assert_eq!(start(&full, epoch, position).await, Ok(()));
    let finish = ended(State::Delivered, epoch, position, at(4));
    assert_eq!(full.finish(finish).await, Ok(()));
    report_all(&full).await;
    let retired = full.retire(LANE, 0, at(50)).await.unwrap();
    assert_eq!(retired.removed, 1);
}

#[test]
fn a_list_walks_no_more_than_it_asks_for() {
    let directory = tempfile::tempdir().unwrap();
    let connection = prepare(&directory.path().join("d.db")).unwrap();
    let of_event = Some("evt_1".to_owned());
    for (event_id, status, walk) in [
        (None, None, "PRIMARY KEY (lane=? AND position<?)"),
        (of_event, None, "PRIMARY KEY (lane=? AND position=?)"),
        (
            None,
            Some(Status::Failed),
            "deliveries_by_status (lane=? AND status=? AND position<?)",
        ),
    ] {
        let filter = Filter {
            event_id,
            status,
            ..Filter::default()
        };
        let (sql, values) = read::list(LANE, &filter);
        let mut plan = connection
            .prepare(&format!("EXPLAIN QUERY PLAN {sql}"))
            .unwrap();
        let steps: Vec<String> = plan
            .query_map(rusqlite::params_from_iter(values), |row| row.get(3))
            .unwrap()
            .map(Result::unwrap)
            .collect();
        assert!(steps[0].ends_with(walk), "{filter:?}: {steps:?}");
        assert!(!steps.iter().any(|step| step.contains("TEMP")), "{steps:?}");
    }
}
