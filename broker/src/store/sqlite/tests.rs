//! The conformance suite on SQLite, and what is SQLite's own.

use std::os::unix::fs::PermissionsExt;
use std::path::PathBuf;
use std::sync::Arc;

use ichor_wire::log::Kind;
use tempfile::TempDir;

use super::*;
use crate::store::conformance::{self, after, call, kept, logged_in, noon, note, one, with};
use crate::store::{Change, Condition};

pub(super) fn fresh() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ichor.db");
    (folder, path)
}

pub(super) fn open(path: &Path) -> Arc<SqliteStore> {
    Arc::new(SqliteStore::open(path, Options::default()).unwrap())
}

macro_rules! conforms {
    ($($case:ident),+) => { $(
        #[tokio::test]
        async fn $case() {
            let (_folder, path) = fresh();
            conformance::$case(open(&path)).await;
        }
    )+ };
}
mod conforms {
    use super::*;
    conformance::cases!(conforms);
}

#[tokio::test]
async fn a_commit_is_synced_and_foreign_keys_hold() {
    let (_folder, path) = fresh();
    let store = open(&path);
    let pragma = |name: &'static str| {
        store.writer.write(move |db| Ok(db.pragma_query_value(None, name, |r| r.get::<_, i64>(0))?))
    };
    assert_eq!(
        pragma("synchronous").await.unwrap(),
        2,
        "2 is FULL: an answer must mean that the entry survives a power cut"
    );
    assert_eq!(pragma("foreign_keys").await.unwrap(), 1);
    assert!(pragma("busy_timeout").await.unwrap() > 0);
    let mode = store.writer.write(|db| Ok(db.pragma_query_value(None, "journal_mode", |r| r.get::<_, String>(0))?));
    assert_eq!(mode.await.unwrap(), "wal");
}

#[tokio::test]
async fn whom_nothing_names_any_more_goes_with_their_last_call() {
    let (_folder, path) = fresh();
    let store = open(&path);
    let persons = async || {
        let sql = "SELECT count(*) FROM log_person";
        store.writer.write(move |db| Ok(db.query_row(sql, [], |row| row.get::<_, i64>(0))?)).await.unwrap()
    };
    one(&*store, kept(vec![call("cp-1", "ada", 1), call("cp-1", "bob", 2)], 9, noon())).await;
    assert_eq!(persons().await, 2);
    one(&*store, kept(Vec::new(), 1, noon())).await;
    assert_eq!(persons().await, 1);
    // who comes back is given a number again
    one(&*store, kept(vec![call("cp-1", "ada", 3)], 9, noon())).await;
    let owners = store.call_range(0, 9).await.unwrap().into_iter().map(|stored| stored.call.owner.unwrap().subject);
    assert_eq!(owners.collect::<Vec<_>>(), ["bob", "ada"]);
}

#[tokio::test]
async fn the_next_read_by_token_sees_every_write() {
    let (_folder, path) = fresh();
    let store = open(&path);
    let row = logged_in(&*store, 1).await;
    let read = async || store.session_by_token(&row.token_hash).await.unwrap();
    assert_eq!(read().await.as_ref(), Some(&row));

    store.touch_session(row.id, after(120)).await.unwrap();
    assert_eq!(read().await.unwrap().used_at, after(120));

    let (groups, groups_at) = (Vec::new(), after(180));
    let refresh = Change::SessionRefresh {
        session: row.id,
        version: row.version,
        groups,
        groups_at,
        refresh_sealed: None,
        tag: [8; 32],
        now: after(180),
    };
    one(&*store, with(refresh)).await;
    assert_eq!(read().await.unwrap().groups_at, groups_at);

    one(&*store, with(Change::SessionEnd { session: row.id, now: after(240) })).await;
    assert_eq!(read().await.unwrap().ended_at, Some(after(240)));

    store.sweep(after(90 * 24 * 3600)).await.unwrap();
    assert_eq!(read().await, None);
}

#[tokio::test]
async fn who_reads_beside_a_broker_sees_that_brokers_writes() {
    let (_folder, path) = fresh();
    let broker = open(&path);
    let row = logged_in(&*broker, 1).await;
    let beside = SqliteStore::open_to_read(&path, Options::default()).unwrap();
    assert!(beside.session_by_token(&row.token_hash).await.unwrap().unwrap().ended_at.is_none());
    one(&*broker, with(Change::SessionEnd { session: row.id, now: after(5) })).await;
    assert!(beside.session_by_token(&row.token_hash).await.unwrap().unwrap().ended_at.is_some());
}

#[tokio::test]
async fn files_are_their_owners_alone() {
    let (folder, path) = fresh();
    std::fs::write(&path, "").unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o644)).unwrap();
    let store = open(&path);
    one(&*store, note(Kind::Start, noon())).await;
    let mut names = Vec::new();
    for file in std::fs::read_dir(folder.path()).unwrap() {
        let file = file.unwrap();
        assert_eq!(file.metadata().unwrap().permissions().mode() & 0o777, 0o600, "{:?}", file.file_name());
        names.push(file.file_name().into_string().unwrap());
    }
    names.sort();
    assert_eq!(names, ["ichor.db", "ichor.db-shm", "ichor.db-wal", "ichor.db.lock"]);
}

#[tokio::test]
async fn a_second_writer_is_refused_until_the_first_is_gone() {
    let (_folder, path) = fresh();
    let first = open(&path);
    one(&*first, note(Kind::Start, noon())).await;
    let refused = SqliteStore::open(&path, Options::default()).unwrap_err();
    assert_eq!(refused, StoreError::Locked);
    assert!(refused.to_string().contains("stop the running broker"));
    drop(first);
    assert_eq!(open(&path).head().await.unwrap().size, 1);
}

#[tokio::test]
async fn what_is_no_database_is_said_to_be_damaged() {
    let (_folder, path) = fresh();
    std::fs::write(&path, "this is a text file and not a database, as anyone can see who reads it\n".repeat(20))
        .unwrap();
    assert!(matches!(SqliteStore::open(&path, Options::default()), Err(StoreError::Damaged(_))));
}

#[tokio::test]
async fn a_log_without_a_tree_gets_one_when_it_is_opened() {
    let (_folder, path) = fresh();
    let (before, tiles) = {
        let store = open(&path);
        let batch: Vec<_> = (0..1000).map(|_| note(Kind::Reload, noon())).collect();
        let committed = store.append(batch, None).await.unwrap();
        (committed.tree.edge.clone(), committed.tree.tiles.clone())
    };
    assert_eq!(tiles.len(), 3);
    // as the first schema left it, and as a step that was cut short did
    const FIRST_SCHEMA: &str = "DROP TABLE tile; DROP TABLE checkpoint; DROP TABLE call; DROP TABLE call_taken; DROP TABLE call_node; \
                                DROP TABLE call_method; DROP TABLE call_user; DROP TABLE node_seen; \
                                DROP TABLE certificate; DROP TABLE forward; DROP TABLE drop_request; \
                                DROP TABLE break_glass; DROP TABLE break_glass_approval; DROP TABLE break_glass_use; DROP TABLE lock; DROP TABLE break_glass_told; \
                                DROP INDEX session_by_subject; DROP INDEX session_by_user; \
                                ALTER TABLE session DROP COLUMN human; ALTER TABLE session DROP COLUMN page; PRAGMA user_version = 1";
    for sql in [FIRST_SCHEMA, "DELETE FROM tile WHERE idx > 0"] {
        rusqlite::Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let store = open(&path);
        for tile in &tiles {
            assert_eq!(store.tile(0, tile.index).await.unwrap().as_ref(), Some(tile), "{sql}");
        }
        assert_eq!(store.edge(1000).await.unwrap(), before, "{sql}");
    }
    let store = open(&path);
    let mut expected = before;
    let committed = store.append(vec![note(Kind::Start, noon())], None).await.unwrap();
    expected.push(match committed.parts[..] {
        [crate::store::Appended::Recorded { index: 1000, leaf_hash, .. }] => leaf_hash,
        ref other => panic!("{other:?}"),
    });
    assert_eq!(committed.tree.edge, expected, "the tree goes on where it was");
}

#[tokio::test]
async fn a_missing_tile_is_named() {
    let (_folder, path) = fresh();
    let store = open(&path);
    store.append((0..600).map(|_| note(Kind::Reload, noon())).collect(), None).await.unwrap();
    rusqlite::Connection::open(&path).unwrap().execute_batch("DELETE FROM tile WHERE idx = 0").unwrap();
    let refused = store.edge(600).await.unwrap_err().to_string();
    assert!(refused.contains("tile 0 of level 0 of the log's tree is missing"), "{refused}");
}

/// Takes rows out of an index and leaves them in their table, as somebody can who writes the database: no statement of the schema differs.
pub(crate) fn hide(path: &Path, index: &str, table: &str, which: &str) {
    let db = rusqlite::Connection::open(path).unwrap();
    db.execute_batch(&format!(
        "PRAGMA foreign_keys = off; PRAGMA writable_schema = on; BEGIN IMMEDIATE;
         CREATE TEMP TABLE kept AS SELECT * FROM {table} WHERE {which};
         CREATE TEMP TABLE its AS SELECT * FROM sqlite_schema WHERE name = '{index}';
         DELETE FROM {table} WHERE {which};
         DELETE FROM sqlite_schema WHERE name = '{index}';
         PRAGMA writable_schema = reset;
         INSERT INTO {table} SELECT * FROM kept;
         PRAGMA writable_schema = on;
         INSERT INTO sqlite_schema SELECT * FROM its;
         COMMIT;"
    ))
    .unwrap();
}

#[tokio::test]
async fn a_lock_that_was_taken_out_of_an_index_stops_what_it_stopped_and_ends_what_it_ended() {
    use crate::domain::{ClusterName, LockTarget};
    use crate::store::conformance::locks::{done, grant, lock, set};
    let (_folder, path) = fresh();
    let store = open(&path);
    let (one_of, other) = (logged_in(&*store, 1).await, logged_in(&*store, 2).await);
    assert!(done(&*store, grant(&one_of, "prod", 1, noon())).await);
    one(&*store, set(&lock(8, LockTarget::Cluster(ClusterName::new("prod").unwrap())), noon())).await;
    hide(&path, "lock_set", "lock", "ended_at IS NULL");
    assert!(!done(&*store, grant(&one_of, "prod", 2, noon())).await, "the lock is listed, and so it holds");
    assert!(done(&*store, grant(&one_of, "lab", 3, noon())).await);

    hide(&path, "session_by_subject", "session", "true");
    let user = LockTarget::User { issuer: other.person.issuer.clone(), subject: other.person.subject.clone() };
    one(&*store, set(&lock(9, user), noon())).await;
    hide(&path, "lock_set", "lock", "ended_at IS NULL");
    assert_eq!(store.session(other.id).await.unwrap().unwrap().ended_at, Some(noon()));
    let again = SessionRow { person: other.person.clone(), ..conformance::session(20) };
    assert!(store.begin_login(conformance::login(20, after(600)), 1000, noon()).await.unwrap());
    let create = conformance::create(again, 120);
    assert_eq!(one(&*store, create).await, Appended::Refused(Condition::Locked));

    let said = store.unsound().await.unwrap().unwrap();
    assert!(said.contains("index"), "{said}");
}
