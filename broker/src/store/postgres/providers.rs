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
