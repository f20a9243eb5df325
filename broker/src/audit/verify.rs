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
    /// There is a row where no entry is.
    #[error(
        "behind the log's end, or before its beginning, there is a row that nobody recorded, {0}: find out who writes the database, restore \
         it from a backup, and keep this one as evidence"
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
/// each body the one its leaf stands for, each column what its body says, times in order; every tile what the leaves make; and no
/// body or tile where no entry is. Bodies may be dropped meanwhile.
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
mod tests {
    use std::path::PathBuf;

    use ichor_wire::log::{Content, Kind};
    use jiff::SignedDuration;
    use rusqlite::Connection;
    use tempfile::TempDir;

    use super::*;
    use crate::store::conformance::{entry, log_person, noon};
    use crate::store::sqlite::{Options, SqliteStore};
    use crate::store::{Append, Change};

    /// In seconds: no body goes earlier.
    const DAY: i64 = 24 * 3600;

    /// A log of four entries, closed.
    async fn four() -> (TempDir, PathBuf) {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("ichor.db");
        let store = SqliteStore::open(&path, Options::default()).unwrap();
        let content = |who: &str| Content {
            person: Some(log_person(who, who)),
            cluster: Some(format!("cluster-{who}")),
            grant: Some(vec![1; 16]),
            ..Content::of(Kind::Grant)
        };
        let batch = ["ada", "bob", "cyd", "dan"].into_iter().zip(0..).map(|(who, second)| Append {
            entry: entry(content(who), noon() + SignedDuration::from_secs(second)),
            change: None::<Change>,
        });
        store.append(batch.collect(), None).await.unwrap();
        (folder, path)
    }

    async fn verify(path: &PathBuf) -> Result<VerifyReport, VerifyError> {
        verify_log(&SqliteStore::open(path, Options::default()).unwrap()).await
    }

    #[tokio::test]
    async fn an_untouched_log_is_vouched_for() {
        let (_folder, path) = four().await;
        assert_eq!(verify(&path).await.unwrap().to_string(), "4 entries, the newest of 2026-11-22T12:00:03Z");
    }

    #[tokio::test]
    async fn whatever_is_touched_is_found_and_named() {
        // Each is done to a fresh log; the entry that is named, and why.
        let cases: &[(&str, u64, &str)] = &[
            (
                "UPDATE body SET body = CAST(substr(body, 1, length(body) - 1) || x'00' AS BLOB) WHERE idx = 2",
                2,
                "its body is not",
            ),
            ("UPDATE body SET body = (SELECT body FROM body WHERE idx = 0) WHERE idx = 1", 1, "its body is not"),
            ("DELETE FROM body WHERE idx = 1", 1, "the columns"),
            (
                "DELETE FROM body WHERE idx = 1; UPDATE leaf SET person = NULL, cluster = NULL, grant_id = NULL WHERE idx = 1",
                1,
                "its body is missing, and no entry says",
            ),
            ("DELETE FROM body WHERE idx = 1; UPDATE leaf SET kind = 9 WHERE idx = 1", 1, "its body is missing"),
            ("DELETE FROM leaf WHERE idx = 1", 1, "it is missing"),
            ("DELETE FROM leaf WHERE idx < 3", 0, "it is missing"),
            (
                "UPDATE leaf SET leaf = (SELECT leaf FROM leaf WHERE idx = 3) WHERE idx = 1",
                1,
                "its leaf is that of entry 3",
            ),
            ("UPDATE leaf SET leaf = x'00' WHERE idx = 0", 0, "its leaf: "),
            ("UPDATE leaf SET time = time + 1 WHERE idx = 2", 2, "its time does not fit"),
            ("UPDATE leaf SET kind = 1 WHERE idx = 2", 2, "the columns"),
            ("UPDATE leaf SET person = NULL WHERE idx = 2", 2, "the columns"),
            ("UPDATE leaf SET person = (SELECT person FROM leaf WHERE idx = 0) WHERE idx = 3", 3, "the columns"),
            ("UPDATE leaf SET cluster = NULL WHERE idx = 1", 1, "the columns"),
            ("UPDATE leaf SET grant_id = NULL WHERE idx = 0", 0, "the columns"),
            ("UPDATE log_person SET user = 'eve' WHERE user = 'cyd'", 2, "the columns"),
            ("UPDATE log_person SET issuer = 'https://else.example.com' WHERE user = 'bob'", 1, "the columns"),
            ("UPDATE log_cluster SET name = 'x' WHERE name = 'cluster-dan'", 3, "the columns"),
        ];
        for (sql, index, why) in cases {
            let (_folder, path) = four().await;
            Connection::open(&path).unwrap().execute_batch(sql).unwrap();
            let found = verify(&path).await.unwrap_err().to_string();
            assert!(found.starts_with(&format!("audit entry {index}: {why}")), "{sql}: {found}");
        }
    }

    #[tokio::test]
    async fn a_certificate_that_is_found_by_its_names_no_more_is_found_and_named() {
        let issued = || Content {
            serial: Some(vec![1, 2, 3, 4, 5]),
            fingerprint: Some(vec![8; 32]),
            ..Content::of(Kind::Issued)
        };
        for sql in [
            "DELETE FROM certificate",
            "DELETE FROM certificate WHERE prefix = 0x01020304",
            "UPDATE certificate SET prefix = 7 WHERE prefix = 0x08080808",
            "UPDATE certificate SET idx = 0 WHERE prefix = 0x08080808",
        ] {
            let (_folder, path) = four().await;
            let store = SqliteStore::open(&path, Options::default()).unwrap();
            let part = Append { entry: entry(issued(), noon() + SignedDuration::from_secs(9)), change: None };
            store.append(vec![part], None).await.unwrap();
            assert_eq!(verify_log(&store).await.unwrap().entries, 5);
            assert_eq!(Connection::open(&path).unwrap().execute(sql, []).unwrap().min(1), 1, "{sql}");
            let found = verify_log(&store).await.unwrap_err().to_string();
            assert!(found.starts_with("audit entry 4: the columns"), "{sql}: {found}");
        }
    }

    #[tokio::test]
    async fn promise_6_every_flipped_bit_of_a_body_or_leaf_is_found() {
        let (_folder, path) = four().await;
        let store = SqliteStore::open(&path, Options::default()).unwrap();
        let row = store.indexed_range(1..2).await.unwrap().remove(0);
        assert!(check(&row, 1, 0).is_ok());
        for bit in 0..row.entry.leaf.len() * 8 {
            let mut forged = row.clone();
            forged.entry.leaf[bit / 8] ^= 1 << (bit % 8);
            assert!(check(&forged, 1, 0).is_err(), "bit {bit} of the leaf");
        }
        for bit in 0..row.entry.body.as_ref().unwrap().len() * 8 {
            let mut forged = row.clone();
            forged.entry.body.as_mut().unwrap()[bit / 8] ^= 1 << (bit % 8);
            assert_eq!(check(&forged, 1, 0), Err(Fault::Body), "bit {bit} of the body");
        }
    }

    /// What takes a body away as an operation of ours does, but for the entry that says so.
    fn take_away(path: &PathBuf, index: u64) {
        let sql = format!(
            "DELETE FROM body WHERE idx = {index};
             UPDATE leaf SET person = NULL, cluster = NULL, grant_id = NULL WHERE idx = {index}"
        );
        Connection::open(path).unwrap().execute_batch(&sql).unwrap();
    }

    #[tokio::test]
    async fn a_body_may_be_gone_only_where_a_later_entry_says_so() {
        let says = |dropped: &[u64], second| {
            let places: Places = dropped.iter().copied().collect();
            let content = Content { dropped: Some(places.numbers()), ..Content::of(Kind::BodyDropped) };
            Append { entry: entry(content, noon() + SignedDuration::from_secs(second)), change: None }
        };
        let (_folder, path) = four().await;
        take_away(&path, 1);
        take_away(&path, 2);
        let append = async |part| {
            SqliteStore::open(&path, Options::default()).unwrap().append(vec![part], None).await.unwrap();
        };
        append(says(&[1], DAY + 5)).await;
        let found = verify(&path).await.unwrap_err().to_string();
        assert!(found.starts_with("audit entry 2: its body is missing, and no entry says"), "{found}");
        append(says(&[2], DAY + 6)).await;
        assert_eq!(verify(&path).await.unwrap().entries, 6);
        let tail = verify_from(&SqliteStore::open(&path, Options::default()).unwrap(), 2, 6, |_, _| ()).await;
        assert_eq!(tail, Ok(6), "what the tail does not hold, it does not miss");
        append(says(&[2], DAY + 7)).await;
        let found = verify(&path).await.unwrap_err().to_string();
        assert!(found.starts_with("audit entry 6: it says that the body of entry 2 was dropped"), "{found}");
    }

    #[tokio::test]
    async fn a_body_that_went_before_it_was_a_day_old_is_found() {
        for (second, is_lawful) in [(DAY, false), (DAY + 1, true)] {
            let (_folder, path) = four().await;
            take_away(&path, 1);
            let content = Content { dropped: Some(vec![1, 1]), ..Content::of(Kind::BodyDropped) };
            let part = Append { entry: entry(content, noon() + SignedDuration::from_secs(second)), change: None };
            SqliteStore::open(&path, Options::default()).unwrap().append(vec![part], None).await.unwrap();
            let found = verify(&path).await.map_err(|found| found.to_string());
            match is_lawful {
                true => assert_eq!(found.unwrap().entries, 5),
                false => assert!(
                    found.as_ref().is_err_and(
                        |found| found.contains("entry 4: it says that the body of entry 1 was dropped, which was")
                    ),
                    "{found:?}"
                ),
            }
        }
    }

    #[tokio::test]
    async fn an_entry_that_says_too_much_is_found() {
        let (_folder, path) = four().await;
        let content = Content { dropped: Some(vec![3, 1]), ..Content::of(Kind::BodyDropped) };
        let store = SqliteStore::open(&path, Options::default()).unwrap();
        let part = Append { entry: entry(content, noon() + SignedDuration::from_secs(9)), change: None };
        store.append(vec![part], None).await.unwrap();
        let found = verify_log(&store).await.unwrap_err().to_string();
        assert!(found.starts_with("audit entry 4: it says that the body of entry 3 was dropped"), "{found}");
    }

    #[tokio::test]
    async fn the_tail_can_be_looked_at_alone() {
        let (_folder, path) = four().await;
        Connection::open(&path).unwrap().execute_batch("UPDATE leaf SET kind = 1 WHERE idx = 1").unwrap();
        let tail = async |first| {
            verify_from(&SqliteStore::open(&path, Options::default()).unwrap(), first, 4, |_, _| ()).await
        };
        assert_eq!(tail(2).await, Ok(4));
        assert!(tail(1).await.unwrap_err().to_string().starts_with("audit entry 1: the columns"));
    }

    #[tokio::test]
    async fn promise_6_a_tile_that_the_leaves_do_not_make_is_found_and_named() {
        let cases = [
            ("DELETE FROM tile WHERE idx = 1", "tile 1 of level 0, over the entries 256 to 511, is missing"),
            ("UPDATE tile SET root = zeroblob(32) WHERE idx = 0", "tile 0 of level 0, over the entries 0 to 255, is"),
            ("UPDATE tile SET hashes = (SELECT hashes FROM tile WHERE idx = 0)", "tile 1 of level 0, over"),
            ("DELETE FROM tile", "tile 0 of level 0, over"),
        ];
        for (sql, named) in cases {
            let folder = tempfile::tempdir().unwrap();
            let path = folder.path().join("ichor.db");
            let store = SqliteStore::open(&path, Options::default()).unwrap();
            let batch = (0..600).map(|_| Append { entry: entry(Content::of(Kind::Start), noon()), change: None });
            store.append(batch.collect(), None).await.unwrap();
            assert_eq!(verify_log(&store).await.unwrap().tree, store.edge(600).await.unwrap());
            Connection::open(&path).unwrap().execute_batch(sql).unwrap();
            let found = verify_log(&store).await.unwrap_err().to_string();
            assert!(found.contains(named), "{sql}: {found}");
        }
    }

    #[tokio::test]
    async fn a_row_where_no_entry_is_is_found_and_named() {
        for (sql, named) in [
            ("INSERT INTO body (idx, body) VALUES (4, x'00')", "body 4"),
            ("INSERT INTO body (idx, body) VALUES (-1, x'00')", "body -1"),
            (
                "INSERT INTO tile (level, idx, root, hashes) VALUES (0, 0, zeroblob(32), zeroblob(8192))",
                "tile 0 of level 0",
            ),
            (
                "INSERT INTO tile (level, idx, root, hashes) VALUES (7, 0, zeroblob(32), zeroblob(8192))",
                "tile 0 of level 7",
            ),
        ] {
            let (_folder, path) = four().await;
            Connection::open(&path).unwrap().execute_batch(sql).unwrap();
            let found = verify(&path).await.unwrap_err();
            assert_eq!(found, VerifyError::Stray(named.into()), "{sql}");
        }
    }

    #[tokio::test]
    async fn an_entry_that_was_taken_out_of_an_index_alone_is_found() {
        for index in ["leaf_by_kind", "leaf_by_cluster"] {
            let (_folder, path) = four().await;
            crate::store::sqlite::tests::hide(&path, index, "leaf", "idx = 2");
            let found = verify(&path).await.unwrap_err();
            assert!(matches!(&found, VerifyError::Unsound(why) if why.contains(index)), "{index}: {found}");
        }
    }

    #[test]
    fn a_time_before_the_entry_before_is_found() {
        let new = entry(Content::of(Kind::Start), noon());
        let leaf = Leaf::of(0, &new.encoded, new.entry.time).encode().unwrap();
        let row = Indexed {
            entry: crate::store::StoredEntry { index: 0, leaf, body: Some(new.encoded) },
            time: new.entry.time,
            columns: Columns::of(&new.entry),
        };
        assert_eq!(check(&row, 0, new.entry.time).map(|(time, _)| time), Ok(new.entry.time));
        assert_eq!(check(&row, 0, new.entry.time + 1), Err(Fault::Time));
    }
}
