//! How far each forwarding of the log has come.

use rusqlite::{Connection, OptionalExtension};

use super::Failure;
use super::value::{signed, unsigned};

pub(super) fn cursor(db: &Connection, name: &str) -> Result<Option<u64>, Failure> {
    let next: Option<i64> = db
        .prepare_cached("SELECT next FROM forward WHERE name = ?1")?
        .query_row([name], |row| row.get(0))
        .optional()?;
    next.map(unsigned).transpose()
}

pub(super) fn advance(db: &Connection, name: &str, next: u64) -> Result<bool, Failure> {
    let moved = db
        .prepare_cached(
            "INSERT INTO forward (name, next) VALUES (?1, ?2)
             ON CONFLICT (name) DO UPDATE SET next = excluded.next WHERE next < excluded.next",
        )?
        .execute((name, signed(next)))?;
    Ok(moved == 1)
}

pub(super) fn begin(db: &Connection, name: &str, next: u64) -> Result<(), Failure> {
    db.prepare_cached("INSERT INTO forward (name, next) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
        .execute((name, signed(next)))?;
    Ok(())
}
