//! A log that was touched, and what is said of it.

use std::path::PathBuf;

use ichor_wire::log::{Content, Kind};
use jiff::SignedDuration;
use rusqlite::Connection;
use tempfile::TempDir;

use super::*;
use crate::store::conformance::{entry, log_person, noon};
use crate::store::sqlite::{Options, SqliteStore};
use crate::store::{Append, Change};

/// In seconds: no body goes earlier.
const DAY: i64 = 24 * 3600;

/// A log of four entries, closed.
async fn four() -> (TempDir, PathBuf) {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("ichor.db");
    let store = SqliteStore::open(&path, Options::default()).unwrap();
    let content = |who: &str| Content {
        person: Some(log_person(who, who)),
        cluster: Some(format!("cluster-{who}")),
        grant: Some(vec![1; 16]),
        ..Content::of(Kind::Grant)
    };
    let batch = ["ada", "bob", "cyd", "dan"].into_iter().zip(0..).map(|(who, second)| Append {
        entry: entry(content(who), noon() + SignedDuration::from_secs(second)),
        change: None::<Change>,
    });
    store.append(batch.collect(), None).await.unwrap();
    (folder, path)
}

async fn verify(path: &PathBuf) -> Result<VerifyReport, VerifyError> {
    verify_log(&SqliteStore::open(path, Options::default()).unwrap()).await
}

#[tokio::test]
async fn an_untouched_log_is_vouched_for() {
    let (_folder, path) = four().await;
    assert_eq!(verify(&path).await.unwrap().to_string(), "4 entries, the newest of 2026-11-22T12:00:03Z");
}

#[tokio::test]
async fn whatever_is_touched_is_found_and_named() {
    // Each is done to a fresh log; the entry that is named, and why.
    let cases: &[(&str, u64, &str)] = &[
        (
            "UPDATE body SET body = CAST(substr(body, 1, length(body) - 1) || x'00' AS BLOB) WHERE idx = 2",
            2,
            "its body is not",
        ),
        ("UPDATE body SET body = (SELECT body FROM body WHERE idx = 0) WHERE idx = 1", 1, "its body is not"),
        ("DELETE FROM body WHERE idx = 1", 1, "the columns"),
        (
            "DELETE FROM body WHERE idx = 1; UPDATE leaf SET person = NULL, cluster = NULL, grant_id = NULL WHERE idx = 1",
            1,
            "its body is missing, and no entry says",
        ),
        ("DELETE FROM body WHERE idx = 1; UPDATE leaf SET kind = 9 WHERE idx = 1", 1, "its body is missing"),
        ("DELETE FROM leaf WHERE idx = 1", 1, "it is missing"),
        ("DELETE FROM leaf WHERE idx < 3", 0, "it is missing"),
        (
            "UPDATE leaf SET leaf = (SELECT leaf FROM leaf WHERE idx = 3) WHERE idx = 1",
            1,
            "its leaf is that of entry 3",
        ),
        ("UPDATE leaf SET leaf = x'00' WHERE idx = 0", 0, "its leaf: "),
        ("UPDATE leaf SET time = time + 1 WHERE idx = 2", 2, "its time does not fit"),
        ("UPDATE leaf SET kind = 1 WHERE idx = 2", 2, "the columns"),
        ("UPDATE leaf SET person = NULL WHERE idx = 2", 2, "the columns"),
        ("UPDATE leaf SET person = (SELECT person FROM leaf WHERE idx = 0) WHERE idx = 3", 3, "the columns"),
        ("UPDATE leaf SET cluster = NULL WHERE idx = 1", 1, "the columns"),
        ("UPDATE leaf SET grant_id = NULL WHERE idx = 0", 0, "the columns"),
        ("UPDATE log_person SET user = 'eve' WHERE user = 'cyd'", 2, "the columns"),
        ("UPDATE log_person SET issuer = 'https://else.example.com' WHERE user = 'bob'", 1, "the columns"),
        ("UPDATE log_cluster SET name = 'x' WHERE name = 'cluster-dan'", 3, "the columns"),
    ];
    for (sql, index, why) in cases {
        let (_folder, path) = four().await;
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let found = verify(&path).await.unwrap_err().to_string();
        assert!(found.starts_with(&format!("audit entry {index}: {why}")), "{sql}: {found}");
    }
}

#[tokio::test]
async fn a_certificate_that_is_found_by_its_names_no_more_is_found_and_named() {
    let issued =
        || Content { serial: Some(vec![1, 2, 3, 4, 5]), fingerprint: Some(vec![8; 32]), ..Content::of(Kind::Issued) };
    for sql in [
        "DELETE FROM certificate",
        "DELETE FROM certificate WHERE prefix = 0x01020304",
        "UPDATE certificate SET prefix = 7 WHERE prefix = 0x08080808",
        "UPDATE certificate SET idx = 0 WHERE prefix = 0x08080808",
    ] {
        let (_folder, path) = four().await;
        let store = SqliteStore::open(&path, Options::default()).unwrap();
        let part = Append { entry: entry(issued(), noon() + SignedDuration::from_secs(9)), change: None };
        store.append(vec![part], None).await.unwrap();
        assert_eq!(verify_log(&store).await.unwrap().entries, 5);
        assert_eq!(Connection::open(&path).unwrap().execute(sql, []).unwrap().min(1), 1, "{sql}");
        let found = verify_log(&store).await.unwrap_err().to_string();
        assert!(found.starts_with("audit entry 4: the columns"), "{sql}: {found}");
    }
}

#[tokio::test]
async fn a_name_of_a_certificate_that_no_entry_has_is_found_and_named() {
    let issued =
        Content { serial: Some(vec![1, 2, 3, 4, 5]), fingerprint: Some(vec![8; 32]), ..Content::of(Kind::Issued) };
    for (row, said) in [
        // of the certificate's own entry, of one that is no certificate's, of one whose body was dropped, and before all
        ("7, 4", "begins with 00000007 and leads to entry 4"),
        ("0x01020304, 2", "begins with 01020304 and leads to entry 2"),
        ("0x01020304, 1", "begins with 01020304 and leads to entry 1"),
        ("0x108080808, 4", "begins with 108080808 and leads to entry 4"),
        ("-1, -1", "leads to entry -1"),
    ] {
        let (_folder, path) = four().await;
        take_away(&path, 1);
        let store = SqliteStore::open(&path, Options::default()).unwrap();
        let gone = Content { dropped: Some(vec![1, 1]), ..Content::of(Kind::BodyDropped) };
        let batch = [(issued.clone(), 9), (gone, DAY + 9)].map(|(content, second)| Append {
            entry: entry(content, noon() + SignedDuration::from_secs(second)),
            change: None,
        });
        store.append(batch.into(), None).await.unwrap();
        assert_eq!(verify_log(&store).await.unwrap().entries, 6);
        let sql = format!("INSERT INTO certificate (prefix, idx) VALUES ({row})");
        Connection::open(&path).unwrap().execute_batch(&sql).unwrap();
        let found = verify_log(&store).await.unwrap_err();
        assert!(matches!(&found, VerifyError::Stray(row) if row.contains(&format!("{said}: "))), "{row}: {found}");
    }
}

#[tokio::test]
async fn promise_6_every_flipped_bit_of_a_body_or_leaf_is_found() {
    let (_folder, path) = four().await;
    let store = SqliteStore::open(&path, Options::default()).unwrap();
    let row = store.indexed_range(1..2).await.unwrap().remove(0);
    assert!(check(&row, 1, 0).is_ok());
    for bit in 0..row.entry.leaf.len() * 8 {
        let mut forged = row.clone();
        forged.entry.leaf[bit / 8] ^= 1 << (bit % 8);
        assert!(check(&forged, 1, 0).is_err(), "bit {bit} of the leaf");
    }
    for bit in 0..row.entry.body.as_ref().unwrap().len() * 8 {
        let mut forged = row.clone();
        forged.entry.body.as_mut().unwrap()[bit / 8] ^= 1 << (bit % 8);
        assert_eq!(check(&forged, 1, 0), Err(Fault::Body), "bit {bit} of the body");
    }
}

/// What takes a body away as an operation of ours does, but for the entry that says so.
fn take_away(path: &PathBuf, index: u64) {
    let sql = format!(
        "DELETE FROM body WHERE idx = {index};
         UPDATE leaf SET person = NULL, cluster = NULL, grant_id = NULL WHERE idx = {index}"
    );
    Connection::open(path).unwrap().execute_batch(&sql).unwrap();
}

#[tokio::test]
async fn a_body_may_be_gone_only_where_a_later_entry_says_so() {
    let says = |dropped: &[u64], second| {
        let places: Places = dropped.iter().copied().collect();
        let content = Content { dropped: Some(places.numbers()), ..Content::of(Kind::BodyDropped) };
        Append { entry: entry(content, noon() + SignedDuration::from_secs(second)), change: None }
    };
    let (_folder, path) = four().await;
    take_away(&path, 1);
    take_away(&path, 2);
    let append = async |part| {
        SqliteStore::open(&path, Options::default()).unwrap().append(vec![part], None).await.unwrap();
    };
    append(says(&[1], DAY + 5)).await;
    let found = verify(&path).await.unwrap_err().to_string();
    assert!(found.starts_with("audit entry 2: its body is missing, and no entry says"), "{found}");
    append(says(&[2], DAY + 6)).await;
    assert_eq!(verify(&path).await.unwrap().entries, 6);
    let tail = verify_from(&SqliteStore::open(&path, Options::default()).unwrap(), 2, 6, |_, _| ()).await;
    assert_eq!(tail, Ok(6), "what the tail does not hold, it does not miss");
    append(says(&[2], DAY + 7)).await;
    let found = verify(&path).await.unwrap_err().to_string();
    assert!(found.starts_with("audit entry 6: it says that the body of entry 2 was dropped"), "{found}");
}

#[tokio::test]
async fn a_body_that_went_before_it_was_a_day_old_is_found() {
    for (second, is_lawful) in [(DAY, false), (DAY + 1, true)] {
        let (_folder, path) = four().await;
        take_away(&path, 1);
        let content = Content { dropped: Some(vec![1, 1]), ..Content::of(Kind::BodyDropped) };
        let part = Append { entry: entry(content, noon() + SignedDuration::from_secs(second)), change: None };
        SqliteStore::open(&path, Options::default()).unwrap().append(vec![part], None).await.unwrap();
        let found = verify(&path).await.map_err(|found| found.to_string());
        match is_lawful {
            true => assert_eq!(found.unwrap().entries, 5),
            false => assert!(
                found.as_ref().is_err_and(
                    |found| found.contains("entry 4: it says that the body of entry 1 was dropped, which was")
                ),
                "{found:?}"
            ),
        }
    }
}

#[tokio::test]
async fn an_entry_that_says_too_much_is_found() {
    let (_folder, path) = four().await;
    let content = Content { dropped: Some(vec![3, 1]), ..Content::of(Kind::BodyDropped) };
    let store = SqliteStore::open(&path, Options::default()).unwrap();
    let part = Append { entry: entry(content, noon() + SignedDuration::from_secs(9)), change: None };
    store.append(vec![part], None).await.unwrap();
    let found = verify_log(&store).await.unwrap_err().to_string();
    assert!(found.starts_with("audit entry 4: it says that the body of entry 3 was dropped"), "{found}");
}

#[tokio::test]
async fn the_tail_can_be_looked_at_alone() {
    let (_folder, path) = four().await;
    Connection::open(&path).unwrap().execute_batch("UPDATE leaf SET kind = 1 WHERE idx = 1").unwrap();
    let tail =
        async |first| verify_from(&SqliteStore::open(&path, Options::default()).unwrap(), first, 4, |_, _| ()).await;
    assert_eq!(tail(2).await, Ok(4));
    assert!(tail(1).await.unwrap_err().to_string().starts_with("audit entry 1: the columns"));
}

#[tokio::test]
async fn promise_6_a_tile_that_the_leaves_do_not_make_is_found_and_named() {
    let cases = [
        ("DELETE FROM tile WHERE idx = 1", "tile 1 of level 0, over the entries 256 to 511, is missing"),
        ("UPDATE tile SET root = zeroblob(32) WHERE idx = 0", "tile 0 of level 0, over the entries 0 to 255, is"),
        ("UPDATE tile SET hashes = (SELECT hashes FROM tile WHERE idx = 0)", "tile 1 of level 0, over"),
        ("DELETE FROM tile", "tile 0 of level 0, over"),
    ];
    for (sql, named) in cases {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ichor.db");
        let store = SqliteStore::open(&path, Options::default()).unwrap();
        let batch = (0..600).map(|_| Append { entry: entry(Content::of(Kind::Start), noon()), change: None });
        store.append(batch.collect(), None).await.unwrap();
        assert_eq!(verify_log(&store).await.unwrap().tree, store.edge(600).await.unwrap());
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let found = verify_log(&store).await.unwrap_err().to_string();
        assert!(found.contains(named), "{sql}: {found}");
    }
}

#[tokio::test]
async fn a_row_where_no_entry_is_is_found_and_named() {
    for (sql, named) in [
        ("INSERT INTO body (idx, body) VALUES (4, x'00')", "body 4"),
        ("INSERT INTO body (idx, body) VALUES (-1, x'00')", "body -1"),
        (
            "INSERT INTO tile (level, idx, root, hashes) VALUES (0, 0, zeroblob(32), zeroblob(8192))",
            "tile 0 of level 0",
        ),
        (
            "INSERT INTO tile (level, idx, root, hashes) VALUES (7, 0, zeroblob(32), zeroblob(8192))",
            "tile 0 of level 7",
        ),
    ] {
        let (_folder, path) = four().await;
        Connection::open(&path).unwrap().execute_batch(sql).unwrap();
        let found = verify(&path).await.unwrap_err();
        assert_eq!(found, VerifyError::Stray(format!("{named}: restore the database from a backup")), "{sql}");
    }
}

#[tokio::test]
async fn an_entry_that_was_taken_out_of_an_index_alone_is_found() {
    for index in ["leaf_by_kind", "leaf_by_cluster"] {
        let (_folder, path) = four().await;
        crate::store::sqlite::tests::hide(&path, index, "leaf", "idx = 2");
        let found = verify(&path).await.unwrap_err();
        assert!(matches!(&found, VerifyError::Unsound(why) if why.contains(index)), "{index}: {found}");
    }
}

#[test]
fn a_time_before_the_entry_before_is_found() {
    let new = entry(Content::of(Kind::Start), noon());
    let leaf = Leaf::of(0, &new.encoded, new.entry.time).encode().unwrap();
    let row = Indexed {
        entry: crate::store::StoredEntry { index: 0, leaf, body: Some(new.encoded) },
        time: new.entry.time,
        columns: Columns::of(&new.entry),
    };
    assert_eq!(check(&row, 0, new.entry.time).map(|(time, _)| time), Ok(new.entry.time));
    assert_eq!(check(&row, 0, new.entry.time + 1), Err(Fault::Time));
}
