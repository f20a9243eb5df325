//! Sessions: read, touched, leased and swept here; they begin, change and end with an entry, in [`super::change`].

use deadpool_postgres::Object;
use tokio_postgres::Row;
use tokio_postgres::types::ToSql;

use crate::domain::{Person, SessionId};
use crate::store::KEPT;
use crate::store::value::{alias, groups, hash, human, id, page, time, unsigned};

use super::{Failure, SessionRow};

/// A session's use is noted once in this time, in microseconds.
const TOUCH: i64 = 60_000_000;

/// A session's columns, in the order of [`parse`].
pub(super) const COLUMNS: &str = r#"id, token_hash, jkt, provider, issuer, subject, name, "user", groups, groups_at, acr,
    auth_time, refresh_sealed, version, created_at, expires_at, used_at, ended_at, tag, human, page"#;

/// The condition of a live session: `$1` is its id, `$2` the time.
pub(super) const LIVE: &str = "id = $1 AND ended_at IS NULL AND expires_at > $2";

pub(super) async fn by_token(db: &Object, token: &[u8; 32]) -> Result<Option<SessionRow>, Failure> {
    let select = db.prepare_cached(&format!("SELECT {COLUMNS} FROM session WHERE token_hash = $1")).await?;
    db.query_opt(&select, &[&token.as_slice()]).await?.map(parse).transpose()
}

pub(super) async fn by_id(db: &Object, id: SessionId) -> Result<Option<SessionRow>, Failure> {
    let select = db.prepare_cached(&format!("SELECT {COLUMNS} FROM session WHERE id = $1")).await?;
    db.query_opt(&select, &[&id.0.as_bytes().as_slice()]).await?.map(parse).transpose()
}

pub(super) async fn lease(db: &Object, id: SessionId, now: i64, until: i64) -> Result<bool, Failure> {
    let sql =
        format!("UPDATE session SET lease_until = $3 WHERE {LIVE} AND (lease_until IS NULL OR lease_until <= $2)");
    Ok(execute(db, &sql, &[&id.0.as_bytes().as_slice(), &now, &until]).await? == 1)
}

pub(super) async fn release(db: &Object, id: SessionId, until: i64) -> Result<(), Failure> {
    let sql = "UPDATE session SET lease_until = NULL WHERE id = $1 AND lease_until = $2";
    execute(db, sql, &[&id.0.as_bytes().as_slice(), &until]).await?;
    Ok(())
}

pub(super) async fn touch(db: &Object, id: SessionId, now: i64) -> Result<(), Failure> {
    let sql = "UPDATE session SET used_at = $2 WHERE id = $1 AND used_at <= $3";
    execute(db, sql, &[&id.0.as_bytes().as_slice(), &now, &now.saturating_sub(TOUCH)]).await?;
    Ok(())
}

pub(super) async fn sweep(db: &Object, now: i64) -> Result<(), Failure> {
    let sql = "DELETE FROM session WHERE id IN
        (SELECT id FROM session WHERE expires_at < $1 OR ended_at < $1 FOR UPDATE SKIP LOCKED)";
    execute(db, sql, &[&now.saturating_sub(KEPT)]).await?;
    Ok(())
}

async fn execute(db: &Object, sql: &str, values: &[&(dyn ToSql + Sync)]) -> Result<u64, Failure> {
    let statement = db.prepare_cached(sql).await?;
    Ok(db.execute(&statement, values).await?)
}

fn parse(row: Row) -> Result<SessionRow, Failure> {
    Ok(SessionRow {
        id: SessionId(id(row.try_get(0)?)?),
        token_hash: hash(row.try_get(1)?)?,
        jkt: row.try_get(2)?,
        person: Person { provider: alias(row.try_get(3)?)?, issuer: row.try_get(4)?, subject: row.try_get(5)? },
        name: row.try_get(6)?,
        user: row.try_get(7)?,
        groups: groups(row.try_get(8)?)?,
        groups_at: time(row.try_get(9)?)?,
        acr: row.try_get(10)?,
        auth_time: row.try_get::<_, Option<i64>>(11)?.map(time).transpose()?,
        refresh_sealed: row.try_get(12)?,
        version: unsigned(row.try_get(13)?)?,
        created_at: time(row.try_get(14)?)?,
        expires_at: time(row.try_get(15)?)?,
        used_at: time(row.try_get(16)?)?,
        ended_at: row.try_get::<_, Option<i64>>(17)?.map(time).transpose()?,
        tag: hash(row.try_get(18)?)?,
        human: human(row.try_get(19)?)?,
        page: row.try_get::<_, Option<&[u8]>>(20)?.map(page).transpose()?,
    })
}
