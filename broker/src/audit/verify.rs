//! Verifying the whole log as it lies in the store.
//!
//! Finds damage, gaps, and entries whose parts disagree: edited, swapped, moved or taken out by someone who did not make the
//! rest fit; and tiles that are not what the leaves make. Whoever writes the database can make it fit, for all that is compared
//! here lies there: the answer has the tree's root, to be held against what was signed and anchored.

use std::collections::BTreeMap;
use std::fmt;
use std::ops::Range;

use ichor_wire::log::tree::{Edge, Hash};
use ichor_wire::log::{Entry, KeyChange, Kind, Leaf, LogError, Places, leaf_hash};
use jiff::Timestamp;

use super::bare::{dropped_by, is_old_enough};
use super::opening::is_restore;
use crate::store::rows::{Columns, Indexed};
use crate::store::{Store, StoreError};

/// So many entries are read at a time.
const PAGE: u64 = 1000;

/// A log whole in itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifyReport {
    /// How many entries there are.
    pub entries: u64,
    /// The newest entry's time.
    pub newest: Option<Timestamp>,
    /// The tree over them.
    pub tree: Edge,
    /// The entries that begin a key of the log, and what they say. Whether the log's keys were changed so is not known from the log.
    pub changes: Vec<(u64, KeyChange)>,
    /// The last entry that tells of a restore.
    pub restored: Option<u64>,
}

/// A tile that is not what the leaves make.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Faulty {
    /// Its level.
    pub level: u8,
    /// Its number within the level.
    pub index: u64,
}

/// Why the log cannot be what was recorded.
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
    /// A tile of the tree is missing, or not what the leaves make.
    #[error(
        "the log's tree: {0} is missing or was changed; restore the database from a backup and keep this one as evidence"
    )]
    Tile(Faulty),
    /// There is a body or a tile where no entry is, or the name of a certificate that leads to an entry which has no such name.
    #[error(
        "there is a row that nobody recorded and no entry accounts for, {0}; find out who writes the database, and keep a copy of this one \
         as evidence"
    )]
    Stray(String),
    /// Queries do not see what the tables hold.
    #[error(
        "entries fit together, but queries do not see all that the tables hold ({0}): find out who writes the database, restore it from a \
         backup, and keep this one as evidence"
    )]
    Unsound(String),
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
    /// The body is gone, and no later entry says that it was dropped.
    #[error("its body is missing, and no entry says that it was dropped")]
    NoBody,
    /// The entry says that a body was dropped which is there, or was of a kind that stays, or comes later.
    #[error("it says that the body of entry {0} was dropped, which is there or could not be")]
    NotDropped(u64),
    /// The entry says that a body was dropped which was younger than any that may go.
    #[error("it says that the body of entry {0} was dropped, which was not a day old")]
    DroppedYoung(u64),
    /// The body is not the one that the leaf stands for.
    #[error("its body is not the one that was recorded")]
    Body,
    /// The body is the recorded one, and cannot be read.
    #[error("its body: {0}")]
    Unreadable(LogError),
    /// A column that queries go by says something else than the body.
    #[error("the columns and names that queries go by do not say what its body says")]
    Columns,
}

/// Reads the whole log up to its present end, and returns when every entry is what was recorded: places without a gap,
/// each body the one its leaf stands for, each column what its body says, times in order; every tile what the leaves make; no body or
/// tile where no entry is; and no name of a certificate that leads where it should not. Bodies may be dropped meanwhile.
///
/// # Errors
/// With the first entry or tile that is not, or when the store cannot be read.
pub async fn verify_log(store: &dyn Store) -> Result<VerifyReport, VerifyError> {
    let mut size = store.head().await?.size;
    let (mut tree, mut changes, mut restored) = (Edge::default(), Vec::new(), None);
    let (mut next, mut newest, mut missing) = (0, None, Missing::from(0));
    loop {
        while next < size {
            let end = next.saturating_add(PAGE).min(size);
            let (mut tiles, after) = (Vec::new(), newest.unwrap_or(i64::MIN));
            let each = |leaf: Hash, body: Option<&Entry>| {
                restored = body.filter(|entry| is_restore(entry)).map(|_| tree.size()).or(restored);
                let begins = body.filter(|entry| entry.content.kind == Kind::AuditKey);
                changes.extend(begins.and_then(|entry| Some((tree.size(), entry.content.log_key.clone()?))));
                tiles.extend(tree.push(leaf));
            };
            newest = Some(verify_after(store, next..end, after, &mut missing, each).await?);
            for tile in tiles {
                let (level, index) = (tile.level, tile.index);
                if store.tile(level, index).await? != Some(tile) {
                    return Err(VerifyError::Tile(Faulty { level, index }));
                }
            }
            next = end;
        }
        match missing.end(store, size).await? {
            Some(end) => size = end,
            None => break,
        }
    }
    if let Some(stray) = store.stray().await? {
        return Err(VerifyError::Stray(stray));
    }
    if let Some(unsound) = store.unsound().await? {
        return Err(VerifyError::Unsound(unsound));
    }
    let newest = newest.and_then(|time| Timestamp::from_microsecond(time).ok());
    Ok(VerifyReport { entries: size, newest, tree, changes, restored })
}

/// The same for the entries from `first` on alone, without the tiles: what a start has time for. Each leaf's hash is handed
/// over in turn, with what its body says. Answers up to which size it read: beyond the one that is given where a body was dropped
/// meanwhile.
///
/// # Errors
/// As [`verify_log`].
pub(super) async fn verify_from(
    store: &dyn Store,
    first: u64,
    mut size: u64,
    mut leaf: impl FnMut(Hash, Option<&Entry>),
) -> Result<u64, VerifyError> {
    let (mut next, mut time, mut missing) = (first, i64::MIN, Missing::from(first));
    loop {
        time = verify_after(store, next..size, time, &mut missing, &mut leaf).await?;
        match missing.end(store, size).await? {
            Some(end) => (next, size) = (size, end),
            None => return Ok(size),
        }
    }
}

/// The bodies that were missing so far. Each must be named by a later entry that says it was dropped.
struct Missing {
    /// Where looking began: what lies before is not known.
    from: u64,
    /// The end that looking came to first, once it goes on beyond it: a body before it that was there may have gone since.
    first_end: Option<u64>,
    places: Places,
    /// The times of the places, by the first of each run of one time.
    times: BTreeMap<u64, i64>,
}

/// Checks the entries of a range, the first of which comes after one of time `time`, and answers the last one's time.
async fn verify_after(
    store: &dyn Store,
    Range { start: first, end: size }: Range<u64>,
    mut time: i64,
    missing: &mut Missing,
    mut leaf: impl FnMut(Hash, Option<&Entry>),
) -> Result<i64, VerifyError> {
    let mut next = first;
    while next < size {
        let page = store.indexed_range(next..next.saturating_add(PAGE).min(size)).await?;
        if page.is_empty() {
            return Err(VerifyError::Entry { index: next, fault: Fault::Missing });
        }
        for row in &page {
            let fault = |fault| VerifyError::Entry { index: next, fault };
            let (at, body) = check(row, next, time).map_err(fault)?;
            time = at;
            missing.look(next, time, body.as_ref()).map_err(fault)?;
            leaf(leaf_hash(&row.entry.leaf), body.as_ref());
            next += 1;
        }
    }
    Ok(time)
}

// === impl Missing ===

impl Missing {
    fn from(from: u64) -> Self {
        Self { from, first_end: None, places: Places::default(), times: BTreeMap::new() }
    }

    /// Takes the body of the entry `index` of this time into account.
    fn look(&mut self, index: u64, time: i64, body: Option<&Entry>) -> Result<(), Fault> {
        let Some(entry) = body else {
            self.places.push(index);
            if self.times.last_key_value().is_none_or(|(_, last)| *last != time) {
                self.times.insert(index, time);
            }
            return Ok(());
        };
        let Some(dropped) = dropped_by(entry).map(|dropped| dropped.starting_at(self.from)) else { return Ok(()) };
        let first_end = self.first_end.unwrap_or(0);
        self.places.take(&dropped.ending_before(first_end));
        // by runs, however long: whoever writes the database may have written this
        if let Some(there) = self.places.take(&dropped.starting_at(first_end)) {
            return Err(Fault::NotDropped(there));
        }
        // times never decrease, so the last place is the youngest
        let is_done = self.places.first().is_none();
        let last = dropped.runs().last().and_then(|run| run.end.checked_sub(1));
        let youngest = last.and_then(|last| self.times.range(..=last).next_back());
        if let (Some(last), Some((_, at))) = (last, youngest)
            && !is_old_enough(*at, time)
        {
            return Err(Fault::DroppedYoung(last));
        }
        if is_done {
            self.times.clear();
        }
        Ok(())
    }

    /// At the end of what was read, `size`: nothing where each is accounted for, else the log's newest end, to read on to. A broker
    /// may have dropped a body after `size` was read, and says so behind it, in what was committed together.
    ///
    /// # Errors
    /// When one is not accounted for there either.
    async fn end(&mut self, store: &dyn Store, size: u64) -> Result<Option<u64>, VerifyError> {
        let Some(index) = self.places.first() else { return Ok(None) };
        if self.first_end.is_some() {
            return Err(VerifyError::Entry { index, fault: Fault::NoBody });
        }
        self.first_end = Some(size);
        Ok(Some(store.head().await?.size))
    }
}

/// Checks the row that should be entry `index`, after one of time `newest`, and answers its time and what its body says; the
/// latter is `None` where the body is gone, and of a kind that may be.
fn check(row: &Indexed, index: u64, newest: i64) -> Result<(i64, Option<Entry>), Fault> {
    if row.entry.index != index {
        return Err(Fault::Missing);
    }
    let leaf = Leaf::decode(&row.entry.leaf).map_err(Fault::Leaf)?;
    if leaf.index != index {
        return Err(Fault::Place(leaf.index));
    }
    let Some(body) = &row.entry.body else {
        if row.time != leaf.time || leaf.time < newest {
            return Err(Fault::Time);
        }
        let kind = row.columns.kind;
        if !Kind::ALL.iter().any(|known| known.number() == kind && known.may_be_dropped()) {
            return Err(Fault::NoBody);
        }
        if row.columns != Columns::of_dropped(kind) {
            return Err(Fault::Columns);
        }
        return Ok((leaf.time, None));
    };
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
    Ok((leaf.time, Some(entry)))
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

impl fmt::Display for Faulty {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // a tile of level 0 spans 256 entries, one above 256 of those
        let span = 256u64.saturating_pow(u32::from(self.level).saturating_add(1));
        let first = self.index.saturating_mul(span);
        let last = first.saturating_add(span).saturating_sub(1);
        write!(f, "tile {} of level {}, over the entries {first} to {last},", self.index, self.level)
    }
}

#[cfg(test)]
mod tests;
