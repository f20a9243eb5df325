//! Logins on their way. Made by strangers: expired ones go when new ones come, so the table does not outgrow its bound.

use deadpool_postgres::Object;
use tokio_postgres::Row;
use uuid::Uuid;

use super::{Failure, PendingLogin};
use crate::store::value::{hash, id, micros, signed, time, unsigned};

const COLUMNS: &str = "SELECT id, version, cookie_hash, code_hash, state, expires_at FROM login";

/// Brokers that begin logins at the same moment may go past the bound by one for each of their connections.
pub(super) async fn begin(db: &Object, login: &PendingLogin, max_pending: u32, now: i64) -> Result<bool, Failure> {
    sweep(db, now).await?;
    let insert = db
        .prepare_cached(
            "INSERT INTO login (id, version, cookie_hash, code_hash, state, expires_at)
             SELECT $1, $2, $3, $4, $5, $6 WHERE (SELECT count(*) FROM login) < $7",
        )
        .await?;
    let made = db
        .execute(
            &insert,
            &[
                &login.id.as_bytes().as_slice(),
                &signed(login.version),
                &login.cookie_hash.as_slice(),
                &login.code_hash.as_ref().map(<[u8; 32]>::as_slice),
                &login.state,
                &micros(login.expires_at),
                &i64::from(max_pending),
            ],
        )
        .await?;
    Ok(made == 1)
}

pub(super) async fn by_cookie(db: &Object, cookie: &[u8; 32], now: i64) -> Result<Option<PendingLogin>, Failure> {
    // A browser's newest login, should it ever send one cookie for two.
    let sql = format!("{COLUMNS} WHERE cookie_hash = $1 AND expires_at > $2 ORDER BY expires_at DESC LIMIT 1");
    let select = db.prepare_cached(&sql).await?;
    db.query_opt(&select, &[&cookie.as_slice(), &now]).await?.map(parse).transpose()
}

pub(super) async fn by_code(db: &Object, code: &[u8; 32], now: i64) -> Result<Option<PendingLogin>, Failure> {
    let sql = format!("{COLUMNS} WHERE code_hash = $1 AND expires_at > $2");
    let select = db.prepare_cached(&sql).await?;
    db.query_opt(&select, &[&code.as_slice(), &now]).await?.map(parse).transpose()
}

pub(super) async fn advance(db: &Object, login: &PendingLogin) -> Result<bool, Failure> {
    let update = db
        .prepare_cached(
            "UPDATE login SET version = version + 1, cookie_hash = $3, code_hash = $4, state = $5, expires_at = $6
             WHERE id = $1 AND version = $2",
        )
        .await?;
    let changed = db
        .execute(
            &update,
            &[
                &login.id.as_bytes().as_slice(),
                &signed(login.version),
                &login.cookie_hash.as_slice(),
                &login.code_hash.as_ref().map(<[u8; 32]>::as_slice),
                &login.state,
                &micros(login.expires_at),
            ],
        )
        .await?;
    Ok(changed == 1)
}

pub(super) async fn forget(db: &Object, id: Uuid) -> Result<(), Failure> {
    let delete = db.prepare_cached("DELETE FROM login WHERE id = $1").await?;
    db.execute(&delete, &[&id.as_bytes().as_slice()]).await?;
    Ok(())
}

/// A row that another broker holds is left to the next time, so that two that sweep never wait for each other.
pub(super) async fn sweep(db: &Object, now: i64) -> Result<(), Failure> {
    let delete = db
        .prepare_cached(
            "DELETE FROM login WHERE id IN (SELECT id FROM login WHERE expires_at <= $1 FOR UPDATE SKIP LOCKED)",
        )
        .await?;
    db.execute(&delete, &[&now]).await?;
    Ok(())
}

fn parse(row: Row) -> Result<PendingLogin, Failure> {
    Ok(PendingLogin {
        id: id(row.try_get(0)?)?,
        version: unsigned(row.try_get(1)?)?,
        cookie_hash: hash(row.try_get(2)?)?,
        code_hash: row.try_get::<_, Option<&[u8]>>(3)?.map(hash).transpose()?,
        state: row.try_get(4)?,
        expires_at: time(row.try_get(5)?)?,
    })
}
