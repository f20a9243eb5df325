//! Providers' aliases.

use rusqlite::{Connection, OptionalExtension};

use crate::domain::ProviderAlias;

use super::Failure;

pub(super) fn pin(db: &Connection, alias: &ProviderAlias, issuer: &str) -> Result<String, Failure> {
    db.prepare_cached("INSERT INTO provider (alias, issuer) VALUES (?1, ?2) ON CONFLICT DO NOTHING")?
        .execute((alias.as_str(), issuer))?;
    Ok(db
        .prepare_cached("SELECT issuer FROM provider WHERE alias = ?1")?
        .query_row([alias.as_str()], |row| row.get(0))?)
}

/// The issuer that the alias is pinned to.
pub(super) fn pinned(db: &Connection, alias: &ProviderAlias) -> Result<Option<String>, Failure> {
    let mut select = db.prepare_cached("SELECT issuer FROM provider WHERE alias = ?1")?;
    Ok(select.query_row([alias.as_str()], |row| row.get(0)).optional()?)
}
