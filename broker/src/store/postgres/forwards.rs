//! How far each forwarding of the log has come.

use deadpool_postgres::Object;

use super::Failure;
use super::value::{signed, unsigned};

pub(super) async fn cursor(db: &Object, name: &str) -> Result<Option<u64>, Failure> {
    let select = db.prepare_cached("SELECT next FROM forward WHERE name = $1").await?;
    db.query_opt(&select, &[&name]).await?.map(|row| unsigned(row.try_get(0)?)).transpose()
}

pub(super) async fn advance(db: &Object, name: &str, next: u64) -> Result<bool, Failure> {
    let upsert = db
        .prepare_cached(
            "INSERT INTO forward AS kept (name, next) VALUES ($1, $2)
             ON CONFLICT (name) DO UPDATE SET next = excluded.next WHERE kept.next < excluded.next",
        )
        .await?;
    Ok(db.execute(&upsert, &[&name, &signed(next)]).await? == 1)
}

/// Whether `holder` holds it now, until `until`.
pub(super) async fn hold(
    db: &Object,
    (name, begin): (&str, u64),
    holder: &[u8; 16],
    now: i64,
    until: i64,
) -> Result<bool, Failure> {
    let held = db
        .prepare_cached(
            "WITH begun AS (INSERT INTO forward (name, next) VALUES ($1, $2) ON CONFLICT DO NOTHING)
             INSERT INTO forward_holder AS kept (name, holder, until) VALUES ($1, $3, $5)
             ON CONFLICT (name) DO UPDATE SET holder = excluded.holder, until = excluded.until
                WHERE kept.holder = excluded.holder OR kept.until <= $4",
        )
        .await?;
    Ok(db.execute(&held, &[&name, &signed(begin), &holder.as_slice(), &now, &until]).await? == 1)
}
