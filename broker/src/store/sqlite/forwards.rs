//! How far each forwarding of the log has come.

use rusqlite::{Connection, OptionalExtension};

use super::Failure;
use crate::store::ForwardRow;
use crate::store::value::{signed, unsigned};

pub(super) fn cursor(db: &Connection, name: &str) -> Result<Option<ForwardRow>, Failure> {
    let row: Option<(i64, Option<Vec<u8>>)> = db
        .prepare_cached("SELECT next, tag FROM forward WHERE name = ?1")?
        .query_row([name], |row| Ok((row.get(0)?, row.get(1)?)))
        .optional()?;
    row.map(|(next, tag)| Ok(ForwardRow { next: unsigned(next)?, tag })).transpose()
}

/// Whether `to` is kept now, which it is only where `was` was.
pub(super) fn replace(db: &Connection, name: &str, was: Option<&ForwardRow>, to: &ForwardRow) -> Result<bool, Failure> {
    let changed = match was {
        None => db
            .prepare_cached("INSERT INTO forward (name, next, tag) VALUES (?1, ?2, ?3) ON CONFLICT DO NOTHING")?
            .execute((name, signed(to.next), &to.tag))?,
        Some(was) => db
            .prepare_cached("UPDATE forward SET next = ?2, tag = ?3 WHERE name = ?1 AND next = ?4 AND tag IS ?5")?
            .execute((name, signed(to.next), &to.tag, signed(was.next), &was.tag))?,
    };
    Ok(changed == 1)
}
