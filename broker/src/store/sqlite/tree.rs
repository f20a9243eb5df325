//! The Merkle tree over the log: complete tiles in a table, the unfinished ones read back from leaves and roots.

use ichor_wire::log::leaf_hash;
use ichor_wire::log::tree::{Edge, FullTile, Hash, MAX_LEVEL, TILE_WIDTH, hashes_at};
use rusqlite::{Connection, OptionalExtension, TransactionBehavior};

use super::{Failure, StoredCheckpoint, log};
use crate::store::value::{hash, signed, unsigned};

/// So many tiles a transaction where a log without tiles gets them: 16,384 leaves, a few hundredths of a second.
const STEP: u64 = 64;

const WIDTH: u64 = TILE_WIDTH as u64;

// === writing ===

/// Keeps a tile that an append completed.
pub(super) fn insert(db: &Connection, tile: &FullTile) -> Result<(), Failure> {
    db.prepare_cached("INSERT INTO tile (level, idx, root, hashes) VALUES (?1, ?2, ?3, ?4)")?
        .execute((tile.level, signed(tile.index), tile.root, tile.hashes.as_flattened()))
        .map(log::is_stored)?
}

/// Keeps a checkpoint, unless a larger one is kept.
pub(super) fn keep(db: &Connection, checkpoint: &StoredCheckpoint) -> Result<(), Failure> {
    db.prepare_cached(
        "INSERT INTO checkpoint (id, size, note) VALUES (1, ?1, ?2)
         ON CONFLICT (id) DO UPDATE SET size = excluded.size, note = excluded.note WHERE excluded.size >= size",
    )?
    .execute((signed(checkpoint.size), &checkpoint.note))?;
    Ok(())
}

/// Gives a log the tiles that it lacks, in bounded steps, as one has that was written before there were tiles. What was cut
/// short goes on here at the next opening.
pub(super) fn fill(db: &mut Connection) -> Result<(), Failure> {
    let complete = log::head(db)?.size / WIDTH;
    loop {
        let transaction = db.transaction_with_behavior(TransactionBehavior::Immediate)?;
        let there: Option<i64> =
            transaction.query_row("SELECT max(idx) FROM tile WHERE level = 0", [], |row| row.get(0))?;
        let there = there.map(unsigned).transpose()?.map_or(0, |newest| newest.saturating_add(1));
        if there >= complete {
            return Ok(());
        }
        let mut edge = edge(&transaction, there.saturating_mul(WIDTH))?;
        for index in there..complete.min(there.saturating_add(STEP)) {
            for leaf in leaf_hashes(&transaction, index.saturating_mul(WIDTH), WIDTH)? {
                for tile in edge.push(leaf) {
                    insert(&transaction, &tile)?;
                }
            }
        }
        transaction.commit()?;
        tracing::info!(entries = edge.size(), "the log gets its tree");
    }
}

// === reading ===

/// A complete tile.
pub(super) fn tile(db: &Connection, level: u8, index: u64) -> Result<Option<FullTile>, Failure> {
    let mut one = db.prepare_cached("SELECT root, hashes FROM tile WHERE level = ?1 AND idx = ?2")?;
    let found = one.query_row((level, signed(index)), |row| Ok((row.get::<_, Vec<u8>>(0)?, row.get::<_, Vec<u8>>(1)?)));
    let Some((root, flat)) = found.optional()? else { return Ok(None) };
    let (hashes, rest) = flat.as_chunks::<32>();
    if hashes.len() != TILE_WIDTH || !rest.is_empty() {
        return Err(Failure::Damaged(format!("tile {index} of level {level} has not 256 hashes")));
    }
    Ok(Some(FullTile { level, index, root: hash(&root)?, hashes: hashes.to_vec() }))
}

/// The tree's right edge when the log had `size` entries: at most 255 leaves are read, and as many roots of each level.
pub(super) fn edge(db: &Connection, size: u64) -> Result<Edge, Failure> {
    let mut levels = Vec::new();
    for level in 0..=MAX_LEVEL {
        let count = hashes_at(size, level);
        let unfinished = count % WIDTH;
        let first = count - unfinished;
        levels.push(match level.checked_sub(1) {
            None => leaf_hashes(db, first, unfinished)?,
            Some(below) => roots(db, below, first, unfinished)?,
        });
    }
    Edge::restore(size, levels).map_err(|error| Failure::Damaged(error.to_string()))
}

pub(super) fn checkpoint(db: &Connection) -> Result<Option<StoredCheckpoint>, Failure> {
    let mut one = db.prepare_cached("SELECT size, note FROM checkpoint")?;
    let found: Option<(i64, String)> = one.query_row([], |row| Ok((row.get(0)?, row.get(1)?))).optional()?;
    found.map(|(size, note)| Ok(StoredCheckpoint { size: unsigned(size)?, note })).transpose()
}

/// The hashes of `count` leaves from `first` on.
fn leaf_hashes(db: &Connection, first: u64, count: u64) -> Result<Vec<Hash>, Failure> {
    let mut rows = db.prepare_cached("SELECT idx, leaf FROM leaf WHERE idx >= ?1 AND idx < ?2 ORDER BY idx")?;
    let mut rows = rows.query((signed(first), signed(first.saturating_add(count))))?;
    let mut hashes = Vec::new();
    for expected in first..first.saturating_add(count) {
        let found = rows.next()?.map(|row| Ok::<_, Failure>((unsigned(row.get(0)?)?, row.get_ref(1)?)));
        match found.transpose()? {
            Some((index, leaf)) if index == expected => {
                hashes.push(leaf_hash(leaf.as_blob().map_err(|_| no_leaf(index))?));
            }
            _ => return Err(no_leaf(expected)),
        }
    }
    Ok(hashes)
}

/// The roots of `count` tiles of `level` from `first` on.
fn roots(db: &Connection, level: u8, first: u64, count: u64) -> Result<Vec<Hash>, Failure> {
    let mut rows =
        db.prepare_cached("SELECT idx, root FROM tile WHERE level = ?1 AND idx >= ?2 AND idx < ?3 ORDER BY idx")?;
    let mut rows = rows.query((level, signed(first), signed(first.saturating_add(count))))?;
    let mut hashes = Vec::new();
    for expected in first..first.saturating_add(count) {
        let found = rows.next()?.map(|row| Ok::<_, Failure>((unsigned(row.get(0)?)?, row.get::<_, Vec<u8>>(1)?)));
        match found.transpose()? {
            Some((index, root)) if index == expected => hashes.push(hash(&root)?),
            _ => {
                return Err(Failure::Damaged(format!("tile {expected} of level {level} of the log's tree is missing")));
            }
        }
    }
    Ok(hashes)
}

fn no_leaf(index: u64) -> Failure {
    Failure::Damaged(format!("audit entry {index}: it is missing"))
}

/// One statement, so that all of it is of one moment.
pub(super) fn stray(db: &Connection) -> Result<Option<String>, Failure> {
    db.prepare_cached(
        "WITH log(size) AS (SELECT coalesce(max(idx) + 1, 0) FROM leaf)
         SELECT said FROM (
             SELECT 'body ' || idx AS said FROM body, log WHERE idx < 0 OR idx >= size
             UNION ALL
             SELECT 'tile ' || idx || ' of level ' || level FROM tile, log
             WHERE level < 0 OR level > 6 OR idx < 0 OR idx >= size >> (8 * (level + 1))
         ) LIMIT 1",
    )?
    .query_row([], |row| row.get(0))
    .optional()
    .map_err(Into::into)
}
