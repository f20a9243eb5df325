//! A SQLite file as source and target.

use std::path::PathBuf;

use rusqlite::types::{ToSql, ToSqlOutput, ValueRef};
use rusqlite::{Connection, params_from_iter};
use tokio::sync::mpsc;

use super::table::{Kind, TABLES, Table, Value};
use super::{AT_ONCE, Chunk, Part, gone};
use crate::store::StoreError;
use crate::store::sqlite::{make_for_copy, open_for_copy};

/// Sends everything, as of one moment.
pub(super) async fn read(path: PathBuf, out: mpsc::Sender<Part>) -> Result<(), StoreError> {
    run(move || {
        let mut db = open_for_copy(&path)?;
        let moment = db.transaction().map_err(failed)?;
        for table in TABLES {
            read_table(&moment, table, &out)?;
        }
        out.blocking_send(Part::End).map_err(|_| gone())
    })
    .await
}

fn read_table(db: &Connection, table: &'static Table, out: &mpsc::Sender<Part>) -> Result<(), StoreError> {
    let mut select = db.prepare(&table.select("BINARY")).map_err(failed)?;
    let mut found = select.query([]).map_err(failed)?;
    let mut rows = Vec::new();
    while let Some(row) = found.next().map_err(failed)? {
        let values = table.columns.iter().enumerate().map(|(place, (name, kind))| {
            value(row.get_ref(place).map_err(failed)?, *kind)
                .ok_or_else(|| StoreError::Damaged(format!("`{name}` of {} has another type", table.name)))
        });
        rows.push(values.collect::<Result<Vec<_>, _>>()?);
        if rows.len() == AT_ONCE {
            let rows = std::mem::take(&mut rows);
            out.blocking_send(Part::Rows(Chunk { table, rows })).map_err(|_| gone())?;
        }
    }
    if rows.is_empty() { Ok(()) } else { out.blocking_send(Part::Rows(Chunk { table, rows })).map_err(|_| gone()) }
}

fn value(found: ValueRef<'_>, kind: Kind) -> Option<Value> {
    Some(match (found, kind) {
        (ValueRef::Null, _) => Value::Null,
        (ValueRef::Integer(number), Kind::Int | Kind::Small | Kind::Integer) => Value::Int(number),
        (ValueRef::Blob(bytes), Kind::Bytes) => Value::Bytes(bytes.to_vec()),
        (ValueRef::Text(text), Kind::Text) => Value::Text(std::str::from_utf8(text).ok()?.to_owned()),
        _ => return None,
    })
}

/// Writes what comes into a new file; without the end of it the file is removed again.
pub(super) async fn write(path: PathBuf, rows: mpsc::Receiver<Part>) -> Result<(), StoreError> {
    run(move || {
        if path.symlink_metadata().is_ok() {
            return Err(StoreError::Unavailable(format!(
                "`{}` exists, and a copy overwrites nothing; name another file",
                path.display()
            )));
        }
        let written = fill(&path, rows);
        if written.is_err() {
            // as it was before: not there
            let _ = std::fs::remove_file(&path);
        }
        written
    })
    .await
}

fn fill(path: &std::path::Path, mut rows: mpsc::Receiver<Part>) -> Result<(), StoreError> {
    let mut db = make_for_copy(path)?;
    let transaction = db.transaction().map_err(failed)?;
    loop {
        match rows.blocking_recv() {
            Some(Part::Rows(Chunk { table, rows })) => {
                let marks = vec!["?"; table.columns.len()].join(", ");
                let sql = format!("INSERT INTO {} ({}) VALUES ({marks})", table.name, table.names());
                let mut insert = transaction.prepare_cached(&sql).map_err(failed)?;
                for row in &rows {
                    insert.execute(params_from_iter(row)).map_err(failed)?;
                }
            }
            Some(Part::End) => break,
            None => return Err(gone()),
        }
    }
    transaction.commit().map_err(failed)?;
    // one file, without a journal beside it
    db.pragma_update(None, "journal_mode", "delete").map_err(failed)
}

impl ToSql for Value {
    fn to_sql(&self) -> rusqlite::Result<ToSqlOutput<'_>> {
        Ok(ToSqlOutput::Borrowed(match self {
            Self::Null => ValueRef::Null,
            Self::Int(number) => ValueRef::Integer(*number),
            Self::Bytes(bytes) => ValueRef::Blob(bytes),
            Self::Text(text) => ValueRef::Text(text.as_bytes()),
        }))
    }
}

async fn run(work: impl FnOnce() -> Result<(), StoreError> + Send + 'static) -> Result<(), StoreError> {
    tokio::task::spawn_blocking(work).await.map_err(|_| StoreError::Unavailable("the runtime is stopping".into()))?
}

fn failed(error: rusqlite::Error) -> StoreError {
    StoreError::Unavailable(format!("SQLite: {error}"))
}
