//! Verifying the whole log as it lies in the store.
//!
//! Finds what was edited, swapped, moved or taken out between the first entry and the newest. What it cannot know is
//! whether newer entries were cut off the end: that needs something outside the database to compare with.

use std::fmt;

use ichor_wire::log::{Entry, Leaf, LogError};
use jiff::Timestamp;

use crate::store::rows::{Columns, Indexed};
use crate::store::{Store, StoreError};

/// So many entries are read at a time.
const PAGE: u64 = 1000;

/// A log that is what was recorded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyReport {
    /// How many entries there are.
    pub entries: u64,
    /// The newest entry's time.
    pub newest: Option<Timestamp>,
}

/// Why the log cannot be vouched for.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VerifyError {
    /// It could not be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// It was read, and is not what was recorded.
    #[error("audit entry {index}: {fault}; restore the database from a backup and keep this one as evidence")]
    Entry {
        /// The first entry that does not fit.
        index: u64,
        /// What does not.
        fault: Fault,
    },
}

/// What does not fit in an entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// There is no entry at this place, though there are later ones.
    #[error("it is missing")]
    Missing,
    /// The leaf cannot be read.
    #[error("its leaf: {0}")]
    Leaf(LogError),
    /// The leaf was made for another place.
    #[error("its leaf is that of entry {0}")]
    Place(u64),
    /// The leaf or the column has another time than the body, or one before the entry before.
    #[error("its time does not fit")]
    Time,
    /// The body is gone.
    #[error("its body is missing")]
    NoBody,
    /// The body is not the one that the leaf stands for.
    #[error("its body is not the one that was recorded")]
    Body,
    /// The body is the recorded one, and cannot be read.
    #[error("its body: {0}")]
    Unreadable(LogError),
    /// A column that queries go by says something else than the body.
    #[error("the columns that queries go by do not say what its body says")]
    Columns,
}

/// Reads the whole log up to its present end, and returns when every entry is what was recorded: places without a gap,
/// each body the one its leaf stands for, each column what its body says, times in order.
///
/// # Errors
/// With the first entry that is not, or when the store cannot be read.
pub async fn verify_log(store: &dyn Store) -> Result<VerifyReport, VerifyError> {
    let size = store.head().await?.size;
    let (mut next, mut time) = (0, i64::MIN);
    while next < size {
        let page = store.indexed_range(next..next.saturating_add(PAGE).min(size)).await?;
        if page.is_empty() {
            return Err(VerifyError::Entry { index: next, fault: Fault::Missing });
        }
        for row in &page {
            time = check(row, next, time).map_err(|fault| VerifyError::Entry { index: next, fault })?;
            next += 1;
        }
    }
    let newest = if size == 0 { None } else { Timestamp::from_microsecond(time).ok() };
    Ok(VerifyReport { entries: size, newest })
}

/// Checks the row that should be entry `index`, after one of time `newest`, and answers its time.
fn check(row: &Indexed, index: u64, newest: i64) -> Result<i64, Fault> {
    if row.entry.index != index {
        return Err(Fault::Missing);
    }
    let leaf = Leaf::decode(&row.entry.leaf).map_err(Fault::Leaf)?;
    if leaf.index != index {
        return Err(Fault::Place(leaf.index));
    }
    // No operation of this build drops a body, so one that is gone was taken.
    let body = row.entry.body.as_ref().ok_or(Fault::NoBody)?;
    if !leaf.stands_for(body) {
        return Err(Fault::Body);
    }
    let entry = Entry::decode(body).map_err(Fault::Unreadable)?;
    if entry.time != leaf.time || row.time != leaf.time || leaf.time < newest {
        return Err(Fault::Time);
    }
    if row.columns != Columns::of(&entry) {
        return Err(Fault::Columns);
    }
    Ok(leaf.time)
}

// === impl VerifyReport ===

impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.newest {
            Some(newest) => write!(f, "{} entries, the newest of {newest}", self.entries),
            None => f.write_str("no entries yet"),
        }
    }
}
