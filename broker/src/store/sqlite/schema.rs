//! Opening a connection, and the schema's steps.

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, TransactionBehavior};

use super::{Failure, certificates};

/// The schema's steps, in order; the position of a step plus one is the `user_version` after it. Append-only.
pub(in crate::store) const STEPS: [&str; 12] = [
    include_str!("../../../../migrations/sqlite/0001_first.sql"),
    include_str!("../../../../migrations/sqlite/0002_tree.sql"),
    include_str!("../../../../migrations/sqlite/0003_calls.sql"),
    include_str!("../../../../migrations/sqlite/0004_asking.sql"),
    include_str!("../../../../migrations/sqlite/0005_break_glass.sql"),
    include_str!("../../../../migrations/sqlite/0006_lock.sql"),
    include_str!("../../../../migrations/sqlite/0007_told.sql"),
    include_str!("../../../../migrations/sqlite/0008_page.sql"),
    include_str!("../../../../migrations/sqlite/0009_marked_places.sql"),
    include_str!("../../../../migrations/sqlite/0010_fair_quota.sql"),
    include_str!("../../../../migrations/sqlite/0011_whose.sql"),
    include_str!("../../../../migrations/sqlite/0012_glass.sql"),
];

/// The step whose tables are filled from what the log says already.
const ASKING: u32 = 4;

/// What a connection is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Use {
    /// The one connection that writes.
    Write,
    /// One of those that only read.
    Read,
}

/// Opens the database at `path`, which must exist, with what every connection needs set.
pub(super) fn open(path: &Path, purpose: Use, busy_timeout: Duration) -> Result<Connection, Failure> {
    // Never created here: after a failure a connection is opened anew, and an empty database in the place of one that
    // vanished would be a log without its past.
    let flags = OpenFlags::SQLITE_OPEN_READ_WRITE | OpenFlags::SQLITE_OPEN_NO_MUTEX;
    let db = Connection::open_with_flags(path, flags)?;
    db.busy_timeout(busy_timeout)?;
    db.set_prepared_statement_cache_capacity(64);
    db.pragma_update(None, "trusted_schema", false)?;
    db.pragma_update(None, "foreign_keys", true)?;
    match purpose {
        Use::Write => {
            let mode: String = db.pragma_update_and_check(None, "journal_mode", "wal", |row| row.get(0))?;
            if mode != "wal" {
                return Err(Failure::Damaged(format!(
                    "the database cannot keep a write-ahead log (journal mode `{mode}`)"
                )));
            }
            // FULL syncs the write-ahead log at every commit: an answer means that the record survives a power cut.
            db.pragma_update(None, "synchronous", "full")?;
            db.pragma_update(None, "cache_size", -8192)?;
            // 16 MiB between checkpoints: each costs two syncs, which at the default of 4 MiB shows in the append rate.
            db.pragma_update(None, "wal_autocheckpoint", 4096)?;
            db.pragma_update(None, "journal_size_limit", 64 << 20)?;
            keep_what_undoes(&db, "memory")?;
        }
        Use::Read => {
            db.pragma_update(None, "query_only", true)?;
            db.pragma_update(None, "cache_size", -2048)?;
        }
    }
    Ok(db)
}

/// Brings the schema to this build's step, all missing steps in one transaction: a start that is cut short has changed nothing.
pub(super) fn migrate(db: &mut Connection) -> Result<(), Failure> {
    let reached = reached(db)?;
    is_as_made(db, reached as usize)?;
    take(db, reached)
}

/// Takes the steps behind this one.
fn take(db: &mut Connection, reached: u32) -> Result<(), Failure> {
    if reached as usize == STEPS.len() {
        return Ok(());
    }
    // the indexes of a whole log are sorted in files
    keep_what_undoes(db, "file")?;
    let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
    for (step, sql) in (1u32..).zip(STEPS).skip(reached as usize) {
        transaction.execute_batch(sql)?;
        if step == ASKING {
            certificates::fill(&transaction)?;
        }
        transaction.pragma_update(None, "user_version", step)?;
    }
    transaction.commit()?;
    keep_what_undoes(db, "memory")
}

/// Where SQLite keeps what undoes a savepoint: the pages that a change alters, as they were. A batch of calls alters hundreds, so in a file
/// they cost as much as the batch itself.
fn keep_what_undoes(db: &Connection, place: &str) -> Result<(), Failure> {
    Ok(db.pragma_update(None, "temp_store", place)?)
}

/// Refuses a database whose schema is not what the first `steps` make, to the letter of each object's statement. Whoever writes there could
/// else have a trigger change an entry behind our back, or a constraint with `ON CONFLICT IGNORE` let none be stored. What `ANALYZE`
/// keeps is nobody's doing: every query that matters names its index.
pub(super) fn is_as_made(db: &Connection, steps: usize) -> Result<(), Failure> {
    let (made, there) = (made(steps)?, objects(db)?);
    let changed = made.iter().find(|(object, statement)| there.get(*object) != Some(*statement));
    if let Some((object @ (kind, name), _)) = changed {
        let what = if there.contains_key(object) { "is not as a broker makes it" } else { "is gone" };
        return Err(Failure::Damaged(format!("its {kind} {name:?} {what}; {RESTORE}")));
    }
    match there.keys().find(|object| !made.contains_key(*object)) {
        None => Ok(()),
        Some((kind, name)) => Err(Failure::Damaged(format!(
            "somebody made the {kind} {name:?} in it, and a broker makes none such; find out who writes the database, and take it out with \
             `DROP {}`",
            kind.to_uppercase()
        ))),
    }
}

/// What the first `steps` make. Those of all steps are made once in a process: they are held against the database at every change of its schema.
fn made(steps: usize) -> Result<Arc<Objects>, Failure> {
    static WHOLE: OnceLock<Arc<Objects>> = OnceLock::new();
    if let (true, Some(whole)) = (steps == STEPS.len(), WHOLE.get()) {
        return Ok(Arc::clone(whole));
    }
    let db = Connection::open_in_memory()?;
    STEPS.iter().take(steps).try_for_each(|sql| db.execute_batch(sql))?;
    let made = Arc::new(objects(&db)?);
    Ok(if steps == STEPS.len() { Arc::clone(WHOLE.get_or_init(|| made)) } else { made })
}

/// The first of what SQLite finds wrong with tables and indexes, each row of the one looked up in the others.
pub(super) fn unsound(db: &Connection) -> Result<Option<String>, Failure> {
    let said: String = db.query_row("PRAGMA integrity_check(1)", [], |row| row.get(0))?;
    Ok((said != "ok").then_some(said))
}

/// A number that is another after every change of the schema.
pub(super) fn version(db: &Connection) -> Result<i64, Failure> {
    Ok(db.prepare_cached("PRAGMA schema_version")?.query_row([], |row| row.get(0))?)
}

/// What to do about a schema that somebody changed.
const RESTORE: &str = "find out who writes the database, and restore the one that the broker was writing to";

/// What a database consists of: by kind and name, the table that it is of and the statement that made it.
type Objects = BTreeMap<(String, String), (String, Option<String>)>;

fn objects(db: &Connection) -> Result<Objects, Failure> {
    let mut all = db.prepare(
        "SELECT type, name, tbl_name, sql FROM sqlite_schema
         WHERE NOT (type = 'table' AND name IN ('sqlite_stat1', 'sqlite_stat4'))",
    )?;
    let rows = all.query_map([], |row| Ok(((row.get(0)?, row.get(1)?), (row.get(2)?, row.get(3)?))))?;
    Ok(rows.collect::<Result<_, _>>()?)
}

/// Checks that the schema is this build's, and nobody else's, for one who may not change it.
pub(super) fn check(db: &Connection) -> Result<(), Failure> {
    match reached(db)? as usize {
        step if step == STEPS.len() => is_as_made(db, step),
        step => Err(Failure::Damaged(format!(
            "it was written by an older build (schema {step}, this build knows {}); start the broker once",
            STEPS.len()
        ))),
    }
}

/// The step that the database has reached, refused where it is beyond what this build knows.
fn reached(db: &Connection) -> Result<u32, Failure> {
    let reached: u32 = db.pragma_query_value(None, "user_version", |row| row.get(0))?;
    let known = STEPS.len();
    if reached as usize > known {
        return Err(Failure::Damaged(format!(
            "it was written by a newer build (schema {reached}, this build knows {known}); install that build"
        )));
    }
    Ok(reached)
}

#[cfg(test)]
mod tests {
    use sha2::{Digest, Sha256};

    use super::*;

    #[test]
    fn released_steps_are_never_edited() {
        let digests: Vec<_> = STEPS.iter().map(|sql| data_encoding::HEXLOWER.encode(&Sha256::digest(sql))).collect();
        assert_eq!(
            digests,
            [
                "12e0fa4e4ac358be41403fff4ec4b24d3beae8c54d83995c42574691d7644fb2",
                "aa926fe04b9bea1b4ac207fbba681827ecdc767877000642bfc0096b994c18f7",
                "c5d6fedb4137a11442045f439ad342caeb2c92fe12fd6222d58fc914f1984c4a",
                "9ae5c9b3d7b29f09723b7cb0ce6f3a3a961c9c0cd8fada2e62a6fbf2bc9842d8",
                "b4509421295806e45dd347a4ffc52a3d2b09981535665b643488eeb78644da6c",
                "28b6cc2e25288aae23d1d557876782633400e0c6a3547443aee0c3f9e9641883",
                "1584ce57b00b4e2f06f1d68c129fbc28af56a7a6d28a0b8f1a6833adea7780b9",
                "1a6dce50227a3ef8770743b007dd0fbb930e339ae2008a84517a648a30e74c14",
                "8d2f68da379d697227a58adf95bd3c4bacb7c28447e8bd160c19012b6fd93d3a",
                "b4860c4a6f7304a0823388b976e928db6930de5fbdb5edc5bd9392026fcb888a",
                "b422d31c987781007715fade3a4de0aaf7e89b16653bcadb7a87c6084b96b4fe",
                "ae8c513294f2da435ae4291db12addfa6588fa5cc76e552d08fa0a5c5fa49f83",
            ]
        );
    }

    #[test]
    fn a_newer_database_is_refused() {
        let mut db = Connection::open_in_memory().unwrap();
        db.pragma_update(None, "user_version", STEPS.len() as u32 + 1).unwrap();
        assert!(matches!(migrate(&mut db), Err(Failure::Damaged(why)) if why.contains("newer build")));
    }

    /// A trigger, and what makes an `INSERT` store nothing and say nothing of it; an index alone, and less than there was.
    #[test]
    fn a_schema_that_the_steps_did_not_make_is_refused() {
        let ignoring = "ALTER TABLE body RENAME TO old;
            CREATE TABLE body (idx INTEGER PRIMARY KEY, body BLOB NOT NULL, UNIQUE (body) ON CONFLICT IGNORE) STRICT;
            INSERT INTO body SELECT * FROM old; DROP TABLE old";
        for (sql, said) in [
            (
                "CREATE TRIGGER hide AFTER INSERT ON body BEGIN DELETE FROM body WHERE idx = new.idx; END",
                "the trigger \"hide\"",
            ),
            (ignoring, "its table \"body\" is not as"),
            ("CREATE UNIQUE INDEX one ON body (length(body))", "the index \"one\" in it"),
            ("CREATE VIEW one AS SELECT * FROM body", "`DROP VIEW`"),
            ("ALTER TABLE probe ADD COLUMN more INTEGER CHECK (more IS NULL)", "its table \"probe\" is not as"),
            ("DROP INDEX leaf_by_kind", "its index \"leaf_by_kind\" is gone"),
        ] {
            let mut db = Connection::open_in_memory().unwrap();
            migrate(&mut db).unwrap();
            db.execute_batch("ANALYZE; VACUUM").unwrap();
            migrate(&mut db).unwrap();
            check(&db).unwrap();
            let before = version(&db).unwrap();
            db.execute_batch(sql).unwrap();
            assert_ne!(version(&db).unwrap(), before, "{sql}");
            for refused in [check(&db), migrate(&mut db)] {
                assert!(matches!(&refused, Err(Failure::Damaged(why)) if why.contains(said)), "{sql}: {refused:?}");
            }
        }
    }

    #[test]
    fn a_step_that_fails_leaves_nothing_nor_do_those_before_it() {
        let mut db = Connection::open_in_memory().unwrap();
        // what the tree's step, the second, cannot make once more
        db.execute_batch("CREATE TABLE tile (x)").unwrap();
        assert!(take(&mut db, 0).is_err());
        assert_eq!(objects(&db).unwrap().len(), 1);
        assert_eq!(reached(&db).unwrap(), 0);
    }
}
