//! A connection outside of the store, for who reads or writes a whole database.

use std::path::Path;
use std::time::Duration;

use rusqlite::Connection;

use super::schema::{self, Use};
use super::writer::private;
use crate::store::StoreError;

/// How long a copy waits for another process.
const PATIENCE: Duration = Duration::from_secs(10);

/// Opens a database to read it, beside a broker that may be running; it must have this build's schema.
pub(in crate::store) fn open_for_copy(path: &Path) -> Result<Connection, StoreError> {
    let db = schema::open(path, Use::Read, PATIENCE)?;
    schema::check(&db)?;
    Ok(db)
}

/// Makes a database with this build's schema, mode 0600.
pub(in crate::store) fn make_for_copy(path: &Path) -> Result<Connection, StoreError> {
    private(path).map_err(|error| StoreError::Unavailable(format!("`{}`: {error}", path.display())))?;
    let mut db = schema::open(path, Use::Write, PATIENCE)?;
    schema::migrate(&mut db)?;
    Ok(db)
}
