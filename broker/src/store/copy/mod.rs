//! Copies of a whole database, from either engine to either: for moving a log, and for backups.
//!
//! Row by row and value by value, so that leaves, bodies and everything that proofs are made of stay what they were. One read
//! transaction at the source gives one moment of it, beside a broker that runs; one transaction at the target makes it all or
//! nothing. Then the target is read back, and its digest compared.

mod postgres;
mod sqlite;
mod table;

use std::path::PathBuf;

use sha2::{Digest, Sha256};
use tokio::sync::mpsc;

use super::StoreError;
use super::postgres::Address;
#[cfg(test)]
pub(in crate::store) use table::{Kind, TABLES};
use table::{Row, Table};

/// So many rows travel at once.
const AT_ONCE: usize = 2_000;

/// A database.
#[derive(Clone, Debug)]
pub enum Place {
    /// A SQLite file.
    Sqlite(PathBuf),
    /// A Postgres database.
    Postgres(Box<Address>),
}

/// What was copied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Copied {
    /// How many entries the log has.
    pub entries: u64,
    /// How many rows there are in all.
    pub rows: u64,
    /// SHA-256 over every value, lower-case hex.
    pub digest: String,
}

/// Rows of one table on their way.
struct Chunk {
    table: &'static Table,
    rows: Vec<Row>,
}

/// What travels: chunks, table after table in the order of [`TABLES`], then that there are no more. A source that fails sends no
/// end, and then the target keeps nothing.
enum Part {
    Rows(Chunk),
    End,
}

/// Copies everything and reads it back. A SQLite target must not exist; a Postgres target must have this build's schema and no rows.
///
/// # Errors
/// When either cannot be reached or holds what it must not; then the target is as it was. When what is read back differs: then a SQLite
/// target is removed again, and a Postgres target holds what was written.
pub async fn copy(from: &Place, to: &Place) -> Result<Copied, StoreError> {
    let (out, passing) = mpsc::channel(2);
    let (onward, into) = mpsc::channel(2);
    let (_, there, _) = tokio::try_join!(read(from, out), count(passing, Some(onward)), write(to, into))?;
    let (out, again) = mpsc::channel(2);
    let back = tokio::try_join!(read(to, out), count(again, None)).map(|(_, back)| back);
    let left = match (&back, to) {
        (Ok(back), _) if *back == there => return Ok(there),
        (_, Place::Sqlite(path)) => match std::fs::remove_file(path) {
            Ok(()) => "it was removed again".to_owned(),
            Err(error) => format!("remove `{}`: {error}", path.display()),
        },
        (_, Place::Postgres(_)) => "drop that database before another copy".to_owned(),
    };
    Err(match back {
        Ok(back) => StoreError::Damaged(format!(
            "what was written is not what was read: {} rows of digest {} became {} of {}; {left}",
            there.rows, there.digest, back.rows, back.digest
        )),
        Err(error) => StoreError::Damaged(format!("what was written cannot be read back: {error}; {left}")),
    })
}

async fn read(from: &Place, out: mpsc::Sender<Part>) -> Result<(), StoreError> {
    match from {
        Place::Sqlite(path) => sqlite::read(path.clone(), out).await,
        Place::Postgres(address) => postgres::read(address, out).await,
    }
}

async fn write(to: &Place, rows: mpsc::Receiver<Part>) -> Result<(), StoreError> {
    match to {
        Place::Sqlite(path) => sqlite::write(path.clone(), rows).await,
        Place::Postgres(address) => postgres::write(address, rows).await,
    }
}

/// Counts and digests what goes by.
async fn count(mut rows: mpsc::Receiver<Part>, mut onward: Option<mpsc::Sender<Part>>) -> Result<Copied, StoreError> {
    let mut digest = Sha256::new();
    let mut copied = Copied { entries: 0, rows: 0, digest: String::new() };
    while let Some(part) = rows.recv().await {
        let is_end = matches!(part, Part::End);
        if let Part::Rows(chunk) = &part {
            let number = u64::try_from(chunk.rows.len()).unwrap_or(u64::MAX);
            copied.rows = copied.rows.saturating_add(number);
            if chunk.table.name == "leaf" {
                copied.entries = copied.entries.saturating_add(number);
            }
            for row in &chunk.rows {
                digest.update(chunk.table.name);
                for value in row {
                    value.digest_into(&mut digest);
                }
            }
        }
        if let Some(to) = &onward
            && to.send(part).await.is_err()
        {
            // the target has failed and is about to say why: the source need not complain before it
            onward = None;
        }
        if is_end {
            break;
        }
    }
    copied.digest = data_encoding::HEXLOWER.encode(&digest.finalize());
    Ok(copied)
}

fn gone() -> StoreError {
    StoreError::Unavailable("the other side of the copy ended".into())
}
