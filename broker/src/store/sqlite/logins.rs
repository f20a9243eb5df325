//! Logins on their way. Made by strangers: expired ones go when new ones come, so the table never outgrows its bound.

use rusqlite::{Connection, OptionalExtension, Row};
use uuid::Uuid;

use super::{Failure, PendingLogin};
use crate::store::value::{hash, id, micros, signed, time, unsigned};

const COLUMNS: &str = "SELECT id, version, cookie_hash, code_hash, state, expires_at FROM login";

pub(super) fn begin(db: &Connection, login: &PendingLogin, max_pending: u32, now: i64) -> Result<bool, Failure> {
    sweep(db, now)?;
    let pending: u32 = db.prepare_cached("SELECT count(*) FROM login")?.query_row([], |row| row.get(0))?;
    if pending >= max_pending {
        return Ok(false);
    }
    db.prepare_cached(
        "INSERT INTO login (id, version, cookie_hash, code_hash, state, expires_at) VALUES (?1, ?2, ?3, ?4, ?5, ?6)",
    )?
    .execute((
        login.id.as_bytes(),
        signed(login.version),
        login.cookie_hash,
        login.code_hash,
        &login.state,
        micros(login.expires_at),
    ))?;
    Ok(true)
}

pub(super) fn by_cookie(db: &Connection, cookie: &[u8; 32], now: i64) -> Result<Option<PendingLogin>, Failure> {
    // A browser's newest login, should it ever send one cookie for two.
    let sql = format!("{COLUMNS} WHERE cookie_hash = ?1 AND expires_at > ?2 ORDER BY expires_at DESC LIMIT 1");
    db.prepare_cached(&sql)?.query_row((cookie, now), |row| Ok(parse(row))).optional()?.transpose()
}

pub(super) fn by_code(db: &Connection, code: &[u8; 32], now: i64) -> Result<Option<PendingLogin>, Failure> {
    let sql = format!("{COLUMNS} WHERE code_hash = ?1 AND expires_at > ?2");
    db.prepare_cached(&sql)?.query_row((code, now), |row| Ok(parse(row))).optional()?.transpose()
}

pub(super) fn advance(db: &Connection, login: &PendingLogin) -> Result<bool, Failure> {
    let changed = db
        .prepare_cached(
            "UPDATE login SET version = version + 1, cookie_hash = ?3, code_hash = ?4, state = ?5, expires_at = ?6
             WHERE id = ?1 AND version = ?2",
        )?
        .execute((
            login.id.as_bytes(),
            signed(login.version),
            login.cookie_hash,
            login.code_hash,
            &login.state,
            micros(login.expires_at),
        ))?;
    Ok(changed == 1)
}

/// Removes the unexpired login with this code; whether there was one.
pub(super) fn consume(db: &Connection, code: &[u8; 32], now: i64) -> Result<bool, Failure> {
    let gone = db.prepare_cached("DELETE FROM login WHERE code_hash = ?1 AND expires_at > ?2")?.execute((code, now))?;
    Ok(gone == 1)
}

pub(super) fn forget(db: &Connection, id: Uuid) -> Result<(), Failure> {
    db.prepare_cached("DELETE FROM login WHERE id = ?1")?.execute([id.as_bytes()])?;
    Ok(())
}

pub(super) fn sweep(db: &Connection, now: i64) -> Result<(), Failure> {
    db.prepare_cached("DELETE FROM login WHERE expires_at <= ?1")?.execute([now])?;
    Ok(())
}

fn parse(row: &Row<'_>) -> Result<PendingLogin, Failure> {
    Ok(PendingLogin {
        id: id(&row.get::<_, Vec<u8>>(0)?)?,
        version: unsigned(row.get(1)?)?,
        cookie_hash: hash(&row.get::<_, Vec<u8>>(2)?)?,
        code_hash: row.get::<_, Option<Vec<u8>>>(3)?.as_deref().map(hash).transpose()?,
        state: row.get(4)?,
        expires_at: time(row.get(5)?)?,
    })
}
