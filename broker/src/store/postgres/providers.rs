//! Providers' aliases.

use deadpool_postgres::Object;

use super::Failure;

pub(super) async fn pin(db: &Object, alias: &str, issuer: &str) -> Result<String, Failure> {
    let insert =
        db.prepare_cached("INSERT INTO provider (alias, issuer) VALUES ($1, $2) ON CONFLICT DO NOTHING").await?;
    db.execute(&insert, &[&alias, &issuer]).await?;
    let select = db.prepare_cached("SELECT issuer FROM provider WHERE alias = $1").await?;
    Ok(db.query_one(&select, &[&alias]).await?.try_get(0)?)
}

/// The issuer that the alias is pinned to.
pub(super) async fn pinned(db: &Object, alias: &str) -> Result<Option<String>, Failure> {
    let select = db.prepare_cached("SELECT issuer FROM provider WHERE alias = $1").await?;
    Ok(db.query_opt(&select, &[&alias]).await?.map(|row| row.try_get(0)).transpose()?)
}
