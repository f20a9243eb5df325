//! The database full, read-only, held, moved away, put back: a typed error, nothing half-written, recovery by itself.

use std::sync::Arc;
use std::time::Duration;

use ichor_wire::log::{Content, Kind};
use jiff::SignedDuration;
use rusqlite::Connection;

use super::tests::{fresh, open};
use super::*;
use crate::store::conformance::{entry, log_person, logged_in, login, node_seen, noon, note, one, session};
use crate::store::rows::Columns;
use crate::store::{Change, Condition};

/// A store that waits for nobody, with something that happens to each of its writing connections.
fn sabotaged(path: &Path) -> (Arc<SqliteStore>, impl Fn(&str)) {
    let options = Options { busy_timeout: Duration::from_millis(1), ..Options::default() };
    let sabotage = Arc::clone(&options.sabotage);
    let store = Arc::new(SqliteStore::open(path, options).unwrap());
    (store, move |sql: &str| *sabotage.lock().unwrap() = sql.into())
}

fn large(count: usize) -> Vec<Append> {
    let content = |number| Content {
        person: Some(log_person(&format!("s{number}"), "ada")),
        message: Some("x".repeat(20_000)),
        ..Content::of(Kind::Admin)
    };
    (0..count).map(|number| Append { entry: entry(content(number), noon()), change: None }).collect()
}

fn is_unavailable<T>(result: Result<T, StoreError>) -> bool {
    matches!(result, Err(StoreError::Unavailable(_)))
}

/// Every write of the trait, each on its own; what must have been made before is.
async fn every_write(store: &SqliteStore) -> Vec<(&'static str, Result<(), StoreError>)> {
    let (id, later) = (session(1).id, noon() + SignedDuration::from_hours(1));
    let device = DeviceLogin {
        id: Uuid::from_u128(9),
        version: 0,
        device_hash: [9; 32],
        user_code: "CODE".into(),
        state: Vec::new(),
        expires_at: later,
    };
    vec![
        ("append", store.append(vec![note(Kind::Start, noon())], None).await.map(drop)),
        ("lease_refresh", store.lease_refresh(id, noon(), later).await.map(drop)),
        ("release_refresh", store.release_refresh(id, later).await),
        ("touch_session", store.touch_session(id, noon() + SignedDuration::from_mins(9)).await),
        ("begin_login", store.begin_login(login(8, later), 99, noon()).await.map(drop)),
        ("advance_login", store.advance_login(login(7, later)).await.map(drop)),
        ("drop_login", store.drop_login(login(7, later).id).await),
        ("begin_device", store.begin_device(device.clone(), 99, noon()).await.map(drop)),
        ("advance_device", store.advance_device(device).await.map(drop)),
        ("pin_provider", store.pin_provider(&ProviderAlias::new("new").unwrap(), "https://a").await.map(drop)),
        ("see_nodes", store.see_nodes(&[node_seen()]).await),
        ("sweep", store.sweep(noon()).await),
        ("probe", store.probe().await),
    ]
}

#[tokio::test]
async fn a_full_database_takes_nothing_and_recovers_when_there_is_room() {
    let (_folder, path) = fresh();
    let (store, sabotage) = sabotaged(&path);
    store.append(large(3), None).await.unwrap();
    let pages = store.writer.write(|db| Ok(db.pragma_query_value(None, "page_count", |row| row.get::<_, i64>(0))?));
    sabotage(&format!("PRAGMA max_page_count = {}", pages.await.unwrap() + 8));
    store.writer.hang_up().await;

    for _ in 0..2 {
        let refused = store.append(large(20).into_iter().rev().collect(), None).await.unwrap_err();
        assert!(refused.to_string().contains("full"), "{refused}");
        assert_eq!(store.head().await.unwrap().size, 3, "no part of the batch");
        assert_eq!(store.entry_range(0..99).await.unwrap().len(), 3);
    }
    sabotage("");
    // The other way round, so that persons get other numbers than in the undone batches, which must be forgotten.
    assert_eq!(store.append(large(20), None).await.unwrap().parts.len(), 20);
    assert_eq!(store.head().await.unwrap().size, 23);
    for row in store.indexed_range(0..99).await.unwrap() {
        let body = ichor_wire::log::Entry::decode(row.entry.body.as_ref().unwrap()).unwrap();
        assert_eq!(row.columns, Columns::of(&body));
    }
}

#[tokio::test]
async fn a_full_database_makes_no_session_without_its_entry() {
    let (_folder, path) = fresh();
    let (store, sabotage) = sabotaged(&path);
    assert!(store.begin_login(login(1, noon() + SignedDuration::from_mins(1)), 9, noon()).await.unwrap());
    let pages = store.writer.write(|db| Ok(db.pragma_query_value(None, "page_count", |row| row.get::<_, i64>(0))?));
    sabotage(&format!("PRAGMA max_page_count = {}", pages.await.unwrap()));
    store.writer.hang_up().await;

    let create = |mut part: Append| {
        let session = Box::new(session(1));
        part.change = Some(Change::SessionCreate { session, code_hash: [101; 32], now: noon() });
        part
    };
    assert!(is_unavailable(store.append(large(1).into_iter().map(create).collect(), None).await));
    assert!(store.session(session(1).id).await.unwrap().is_none());
    assert!(store.login_by_code(&[101; 32], noon()).await.unwrap().is_some(), "the code can still be used");
    sabotage("");
    assert!(matches!(one(&*store, create(note(Kind::Login, noon()))).await, Appended::Recorded { index: 0, .. }));
}

#[tokio::test]
async fn a_read_only_database_refuses_every_write_and_still_reads() {
    let (_folder, path) = fresh();
    let (store, sabotage) = sabotaged(&path);
    logged_in(&*store, 1).await;
    assert!(store.begin_login(login(7, noon() + SignedDuration::from_hours(1)), 99, noon()).await.unwrap());
    sabotage("PRAGMA query_only = ON");
    store.writer.hang_up().await;
    for (write, result) in every_write(&store).await {
        assert!(is_unavailable(result), "{write}");
    }
    assert!(store.session(session(1).id).await.unwrap().is_some());
    assert_eq!(store.head().await.unwrap().size, 1);
    sabotage("");
    for (write, result) in every_write(&store).await {
        result.unwrap_or_else(|error| panic!("{write} afterwards: {error}"));
    }
}

#[tokio::test]
async fn a_database_held_by_another_process_is_waited_for_and_then_refused() {
    let (_folder, path) = fresh();
    let (store, _) = sabotaged(&path);
    let other = Connection::open(&path).unwrap();
    other.execute_batch("BEGIN IMMEDIATE").unwrap();
    assert!(is_unavailable(store.append(vec![note(Kind::Start, noon())], None).await));
    assert!(is_unavailable(store.probe().await));
    assert_eq!(store.head().await.unwrap().size, 0, "reads never wait for writes");
    other.execute_batch("ROLLBACK").unwrap();
    assert!(matches!(one(&*store, note(Kind::Start, noon())).await, Appended::Recorded { index: 0, .. }));
}

#[tokio::test]
async fn a_database_that_was_moved_away_takes_no_entry() {
    let (folder, path) = fresh();
    let store = open(&path);
    one(&*store, note(Kind::Start, noon())).await;
    let aside = folder.path().join("aside.db");
    std::fs::rename(&path, &aside).unwrap();
    // The connection still has the file open: written there, the entry would be in no database that anyone opens again.
    assert!(is_unavailable(store.append(vec![note(Kind::Start, noon())], None).await));
    std::fs::copy(&aside, &path).unwrap();
    let refused = store.append(vec![note(Kind::Start, noon())], None).await.unwrap_err();
    assert!(refused.to_string().contains("was replaced"), "{refused}");
    std::fs::rename(&aside, &path).unwrap();
    assert!(matches!(one(&*store, note(Kind::Start, noon())).await, Appended::Recorded { index: 1, .. }));
}

#[tokio::test]
async fn case_21_a_log_that_got_shorter_is_not_continued() {
    let (_folder, path) = fresh();
    let store = open(&path);
    store.append(vec![note(Kind::Start, noon()), note(Kind::Reload, noon())], None).await.unwrap();
    Connection::open(&path)
        .unwrap()
        .execute_batch("DELETE FROM leaf WHERE idx = 1; DELETE FROM body WHERE idx = 1")
        .unwrap();
    let refused = store.append(vec![note(Kind::Start, noon())], None).await.unwrap_err();
    assert!(
        matches!(&refused, StoreError::Damaged(why) if why.contains("1 entries where this broker knows 2: it has lost entries")),
        "{refused}"
    );
}

/// A copy of the newest entry behind it, as whoever writes the database adds one.
const ADD: &str =
    "INSERT INTO leaf (idx, time, kind, leaf) SELECT idx + 1, time, kind, leaf FROM leaf ORDER BY idx DESC LIMIT 1";

fn is_of_somebody_else<T: std::fmt::Debug>(result: Result<T, StoreError>) {
    let said = format!("{result:?}");
    assert!(
        matches!(&result, Err(StoreError::Damaged(why)) if why.contains("it has entries of somebody else")),
        "{said}"
    );
}

#[tokio::test]
async fn a_log_that_somebody_else_added_to_takes_nothing_more_and_readiness_tells() {
    let (_folder, path) = fresh();
    one(&*open(&path), note(Kind::Start, noon())).await;
    for appends_first in [false, true] {
        let (store, _) = sabotaged(&path);
        let other = Connection::open(&path).unwrap();
        if appends_first {
            one(&*store, note(Kind::Start, noon())).await;
        }
        let size = store.head().await.unwrap().size;
        other.execute(ADD, []).unwrap();
        for _ in 0..2 {
            is_of_somebody_else(store.append(vec![note(Kind::Start, noon())], None).await);
            is_of_somebody_else(store.append(Vec::new(), None).await);
            is_of_somebody_else(store.probe().await);
        }
        assert_eq!(store.head().await.unwrap().size, size + 1, "nothing was appended to it");
        other.execute("DELETE FROM leaf WHERE idx = ?1", [i64::try_from(size).unwrap()]).unwrap();
        store.probe().await.unwrap();
        one(&*store, note(Kind::Start, noon())).await;
        // while a batch of ours fails, too
        other.execute_batch(&format!("BEGIN IMMEDIATE; {ADD}")).unwrap();
        assert!(is_unavailable(store.append(vec![note(Kind::Start, noon())], None).await));
        other.execute_batch("COMMIT").unwrap();
        is_of_somebody_else(store.append(vec![note(Kind::Start, noon())], None).await);
        other.execute("DELETE FROM leaf WHERE idx = ?1", [i64::try_from(size + 1).unwrap()]).unwrap();
    }
}

#[tokio::test]
async fn a_batch_of_which_it_is_not_known_whether_it_stands_is_gone_on_from_and_no_other() {
    let (_folder, path) = fresh();
    let store = open(&path);
    one(&*store, note(Kind::Start, noon())).await;
    let before = store.edge(1).await.unwrap();
    one(&*store, note(Kind::Start, noon())).await;
    let stands = store.edge(2).await.unwrap();
    let db = Connection::open(&path).unwrap();
    let known =
        |doubtful: Option<&Edge>| append::Known { seen: 1, edge: Some(before.clone()), doubtful: doubtful.cloned() };
    assert_eq!(known(Some(&stands)).edge(&db).unwrap(), stands);
    let mut other = before.clone();
    other.push([7; 32]);
    for doubtful in [None, Some(&other), Some(&before)] {
        assert!(matches!(known(doubtful).edge(&db), Err(Failure::Damaged(_))), "{doubtful:?}");
    }
}

#[tokio::test]
async fn a_database_whose_schema_somebody_changed_takes_nothing_and_is_not_opened() {
    let hides = "CREATE TRIGGER hides AFTER INSERT ON body BEGIN DELETE FROM body WHERE idx = new.idx; END";
    let ignores = "ALTER TABLE body RENAME TO old;
        CREATE TABLE body (idx INTEGER PRIMARY KEY, body BLOB NOT NULL, one AS (1) UNIQUE ON CONFLICT IGNORE);
        INSERT INTO body (idx, body) SELECT * FROM old; DROP TABLE old";
    for (sql, said) in [(hides, "the trigger \"hides\""), (ignores, "its table \"body\" is not as a broker makes it")] {
        let (_folder, path) = fresh();
        let store = open(&path);
        one(&*store, note(Kind::Start, noon())).await;
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        // what was compared once is compared again, by the same connection and by the next one
        for _ in 0..2 {
            let refused = store.append(vec![note(Kind::Start, noon())], None).await;
            assert!(matches!(&refused, Err(StoreError::Damaged(why)) if why.contains(said)), "{refused:?}");
        }
        assert!(matches!(store.probe().await, Err(StoreError::Damaged(_))));
        assert_eq!(store.head().await.unwrap().size, 1);
        drop(store);
        assert!(matches!(SqliteStore::open(&path, Options::default()), Err(StoreError::Damaged(_))));
        assert!(matches!(SqliteStore::open_to_read(&path, Options::default()), Err(StoreError::Damaged(_))));
    }
}

/// Whatever makes the database ignore a row: what was not stored was not recorded.
#[tokio::test]
async fn a_row_that_is_not_stored_undoes_the_batch() {
    let issued = || {
        let content = Content { serial: Some(vec![1; 8]), fingerprint: Some(vec![2; 32]), ..Content::of(Kind::Issued) };
        Append { entry: entry(content, noon()), change: None }
    };
    for table in ["leaf", "body", "certificate", "tile", "log_person"] {
        let (_folder, path) = fresh();
        let (store, sabotage) = sabotaged(&path);
        store.append((0..255).map(|_| note(Kind::Start, noon())).collect(), None).await.unwrap();
        sabotage(&format!("CREATE TEMP TRIGGER skips BEFORE INSERT ON main.{table} BEGIN SELECT RAISE(IGNORE); END"));
        store.writer.hang_up().await;
        let mut part = issued();
        if table == "log_person" {
            let content = Content { person: Some(log_person("ada", "ada")), ..Content::of(Kind::Login) };
            part = Append { entry: entry(content, noon()), change: None };
        }
        let refused = store.append(vec![part], None).await;
        assert!(refused.is_err(), "{table}: {refused:?}");
        assert_eq!(store.head().await.unwrap().size, 255, "{table}");
        sabotage("");
        assert!(matches!(one(&*store, issued()).await, Appended::Recorded { index: 255, .. }), "{table}");
    }
}

#[tokio::test]
async fn an_entry_that_cannot_stand_where_it_should_undoes_the_whole_batch() {
    let (_folder, path) = fresh();
    let store = open(&path);
    // A body without a leaf, where the second entry of the batch will go.
    Connection::open(&path).unwrap().execute("INSERT INTO body (idx, body) VALUES (1, x'00')", []).unwrap();
    assert!(store.append(vec![note(Kind::Start, noon()), note(Kind::Start, noon())], None).await.is_err());
    assert_eq!(store.head().await.unwrap().size, 0);
    assert!(matches!(one(&*store, note(Kind::Start, noon())).await, Appended::Recorded { index: 0, .. }));
}

#[tokio::test]
async fn a_write_whose_writer_went_away_is_done() {
    let (_folder, path) = fresh();
    let store = open(&path);
    let mut write = Box::pin(store.append(vec![note(Kind::Start, noon())], None));
    assert!(futures_util::poll!(&mut write).is_pending());
    drop(write);
    store.probe().await.unwrap();
    assert_eq!(store.head().await.unwrap().size, 1);
}

#[tokio::test]
async fn a_store_opened_to_read_reads_beside_the_broker_and_writes_nothing() {
    let (folder, path) = fresh();
    let missing = SqliteStore::open_to_read(folder.path().join("none.db"), Options::default());
    assert!(matches!(missing, Err(StoreError::Unavailable(_))), "and none was made: {missing:?}");
    let broker = open(&path);
    one(&*broker, note(Kind::Start, noon())).await;
    let reading = SqliteStore::open_to_read(&path, Options::default()).unwrap();
    assert_eq!(reading.head().await.unwrap().size, 1);
    one(&*broker, note(Kind::Start, noon())).await;
    assert_eq!(reading.head().await.unwrap().size, 2);
    for (write, result) in every_write(&reading).await {
        assert!(write == "touch_session" || is_unavailable(result), "{write}");
    }
    assert_eq!(
        one(&*broker, note(Kind::Start, noon() - SignedDuration::from_secs(1))).await,
        Appended::Refused(Condition::ClockWentBack)
    );
    std::fs::write(folder.path().join("old.db"), "").unwrap();
    let old = SqliteStore::open_to_read(folder.path().join("old.db"), Options::default());
    assert!(matches!(old, Err(StoreError::Damaged(why)) if why.contains("start the broker once")));
}
