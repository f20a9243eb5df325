//! Opening a connection, and the schema's steps.

use std::path::Path;
use std::time::Duration;

use rusqlite::{Connection, OpenFlags, OptionalExtension, TransactionBehavior};

use super::{Failure, certificates};

/// The schema's steps, in order; the position of a step plus one is the `user_version` after it. Append-only.
pub(in crate::store) const STEPS: [&str; 10] = [
    include_str!("../../../../migrations/sqlite/0001_first.sql"),
    include_str!("../../../../migrations/sqlite/0002_tree.sql"),
    include_str!("../../../../migrations/sqlite/0003_calls.sql"),
    include_str!("../../../../migrations/sqlite/0004_asking.sql"),
    include_str!("../../../../migrations/sqlite/0005_break_glass.sql"),
    include_str!("../../../../migrations/sqlite/0006_lock.sql"),
    include_str!("../../../../migrations/sqlite/0007_told.sql"),
    include_str!("../../../../migrations/sqlite/0008_page.sql"),
    include_str!("../../../../migrations/sqlite/0009_marked_places.sql"),
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
        }
        Use::Read => {
            db.pragma_update(None, "query_only", true)?;
            db.pragma_update(None, "cache_size", -2048)?;
        }
    }
    Ok(db)
}

/// Brings the schema to this build's step, each missing step in one transaction.
pub(super) fn migrate(db: &mut Connection) -> Result<(), Failure> {
    let reached = reached(db)?;
    no_triggers(db)?;
    for (step, sql) in (1u32..).zip(STEPS).skip(reached as usize) {
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        transaction.execute_batch(sql)?;
        if step == ASKING {
            certificates::fill(&transaction)?;
        }
        transaction.pragma_update(None, "user_version", step)?;
        transaction.commit()?;
    }
    Ok(())
}

/// Refuses a database with a trigger: no step makes one, so somebody else did, who has entries or rows changed behind our back.
pub(super) fn no_triggers(db: &Connection) -> Result<(), Failure> {
    let mut any = db.prepare_cached("SELECT name FROM sqlite_schema WHERE type = 'trigger' LIMIT 1")?;
    let found: Option<String> = any.query_row([], |row| row.get(0)).optional()?;
    match found {
        None => Ok(()),
        Some(name) => Err(Failure::Damaged(format!(
            "somebody made the trigger {name:?} in it, and a broker makes none; find out who writes the database, and take it out with \
             `DROP TRIGGER`"
        ))),
    }
}

/// Checks that the schema is this build's, for one who may not change it.
pub(super) fn check(db: &Connection) -> Result<(), Failure> {
    match reached(db)? as usize {
        step if step == STEPS.len() => Ok(()),
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

    #[test]
    fn a_trigger_that_no_step_made_is_refused() {
        let mut db = Connection::open_in_memory().unwrap();
        migrate(&mut db).unwrap();
        migrate(&mut db).unwrap();
        db.execute_batch("CREATE TRIGGER hide AFTER INSERT ON body BEGIN DELETE FROM body WHERE idx = new.idx; END")
            .unwrap();
        assert!(matches!(migrate(&mut db), Err(Failure::Damaged(why)) if why.contains("the trigger \"hide\"")));
    }

    #[test]
    fn a_step_that_fails_leaves_nothing() {
        let mut db = Connection::open_in_memory().unwrap();
        db.execute_batch("CREATE TABLE probe (x)").unwrap();
        assert!(migrate(&mut db).is_err());
        let left: i64 =
            db.query_row("SELECT count(*) FROM sqlite_schema WHERE name <> 'probe'", [], |r| r.get(0)).unwrap();
        assert_eq!(left, 0);
        assert_eq!(db.pragma_query_value(None, "user_version", |r| r.get::<_, u32>(0)).unwrap(), 0);
    }
}
