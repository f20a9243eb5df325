//! The Merkle tree over the log: complete tiles in a table, the unfinished ones read back from leaves and roots.

use deadpool_postgres::{Object, Transaction};
use ichor_wire::log::leaf_hash;
use ichor_wire::log::tree::{Edge, FullTile, Hash, MAX_LEVEL, TILE_WIDTH, hashes_at};
use tokio_postgres::{GenericClient, Row};

use super::{Failure, StoredCheckpoint};
use crate::store::value::{hash, signed, unsigned};

const WIDTH: u64 = TILE_WIDTH as u64;

// === writing ===

/// Keeps the tiles that an append completed.
pub(super) async fn insert(db: &Transaction<'_>, tiles: &[FullTile]) -> Result<(), Failure> {
    if tiles.is_empty() {
        return Ok(());
    }
    let levels: Vec<_> = tiles.iter().map(|tile| i16::from(tile.level)).collect();
    let places: Vec<_> = tiles.iter().map(|tile| signed(tile.index)).collect();
    let roots: Vec<_> = tiles.iter().map(|tile| tile.root.as_slice()).collect();
    let hashes: Vec<_> = tiles.iter().map(|tile| tile.hashes.as_flattened()).collect();
    let insert = db
        .prepare_cached(
            "INSERT INTO tile (level, idx, root, hashes)
             SELECT * FROM unnest($1::smallint[], $2::bigint[], $3::bytea[], $4::bytea[])",
        )
        .await?;
    db.execute(&insert, &[&levels, &places, &roots, &hashes]).await?;
    Ok(())
}

/// Keeps a checkpoint, unless a larger one is kept.
pub(super) async fn keep(db: &Transaction<'_>, checkpoint: &StoredCheckpoint) -> Result<(), Failure> {
    let upsert = db
        .prepare_cached(
            "INSERT INTO checkpoint AS kept (id, size, note) VALUES (1, $1, $2)
             ON CONFLICT (id) DO UPDATE SET size = excluded.size, note = excluded.note WHERE excluded.size >= kept.size",
        )
        .await?;
    db.execute(&upsert, &[&signed(checkpoint.size), &checkpoint.note]).await?;
    Ok(())
}

// === reading ===

/// A complete tile.
pub(super) async fn tile(db: &Object, level: u8, index: u64) -> Result<Option<FullTile>, Failure> {
    let select = db.prepare_cached("SELECT root, hashes FROM tile WHERE level = $1 AND idx = $2").await?;
    let found = db.query_opt(&select, &[&i16::from(level), &signed(index)]).await?;
    found.map(|row| full(level, index, row.try_get(0)?, row.try_get(1)?)).transpose()
}

/// The tiles that were completed while the log grew from one size to another: by other brokers.
pub(super) async fn between(db: &Transaction<'_>, from: u64, to: u64) -> Result<Vec<FullTile>, Failure> {
    let select = db
        .prepare_cached("SELECT idx, root, hashes FROM tile WHERE level = $1 AND idx >= $2 AND idx < $3 ORDER BY idx")
        .await?;
    let mut tiles = Vec::new();
    for level in 0..=MAX_LEVEL {
        let (from, to) = (hashes_at(from, level) / WIDTH, hashes_at(to, level) / WIDTH);
        if from == to {
            break;
        }
        for row in db.query(&select, &[&i16::from(level), &signed(from), &signed(to)]).await? {
            tiles.push(full(level, unsigned(row.try_get(0)?)?, row.try_get(1)?, row.try_get(2)?)?);
        }
    }
    Ok(tiles)
}

fn full(level: u8, index: u64, root: &[u8], flat: &[u8]) -> Result<FullTile, Failure> {
    let (hashes, rest) = flat.as_chunks::<32>();
    if hashes.len() != TILE_WIDTH || !rest.is_empty() {
        return Err(Failure::Damaged(format!("tile {index} of level {level} has not 256 hashes")));
    }
    Ok(FullTile { level, index, root: hash(root)?, hashes: hashes.to_vec() })
}

/// The tree's right edge when the log had `size` entries: at most 255 leaves are read, and as many roots of each level.
pub(super) async fn edge(db: &impl GenericClient, size: u64) -> Result<Edge, Failure> {
    let mut levels = Vec::new();
    for level in 0..=MAX_LEVEL {
        let count = hashes_at(size, level);
        let unfinished = count % WIDTH;
        let first = count - unfinished;
        levels.push(match level.checked_sub(1) {
            _ if unfinished == 0 => Vec::new(),
            None => leaf_hashes(db, first, unfinished).await?,
            Some(below) => roots(db, below, first, unfinished).await?,
        });
    }
    Edge::restore(size, levels).map_err(|error| Failure::Damaged(error.to_string()))
}

pub(super) async fn checkpoint(db: &Object) -> Result<Option<StoredCheckpoint>, Failure> {
    let select = db.prepare_cached("SELECT size, note FROM checkpoint").await?;
    let found = db.query_opt(&select, &[]).await?;
    found.map(|row| Ok(StoredCheckpoint { size: unsigned(row.try_get(0)?)?, note: row.try_get(1)? })).transpose()
}

/// The hashes of `count` leaves from `first` on.
async fn leaf_hashes(db: &impl GenericClient, first: u64, count: u64) -> Result<Vec<Hash>, Failure> {
    let select = "SELECT idx, leaf FROM leaf WHERE idx >= $1 AND idx < $2 ORDER BY idx";
    let rows = db.query(select, &[&signed(first), &signed(first.saturating_add(count))]).await?;
    let missing = |index| Failure::Damaged(format!("audit entry {index} is missing"));
    in_order(&rows, first, count, missing, |row| Ok(leaf_hash(row.try_get(1)?)))
}

/// The roots of `count` tiles of `level` from `first` on.
async fn roots(db: &impl GenericClient, level: u8, first: u64, count: u64) -> Result<Vec<Hash>, Failure> {
    let select = "SELECT idx, root FROM tile WHERE level = $1 AND idx >= $2 AND idx < $3 ORDER BY idx";
    let to = signed(first.saturating_add(count));
    let rows = db.query(select, &[&i16::from(level), &signed(first), &to]).await?;
    let missing = |index| Failure::Damaged(format!("tile {index} of level {level} of the log's tree is missing"));
    in_order(&rows, first, count, missing, |row| Ok(hash(row.try_get(1)?)?))
}

fn in_order(
    rows: &[Row],
    first: u64,
    count: u64,
    missing: impl Fn(u64) -> Failure,
    value: impl Fn(&Row) -> Result<Hash, Failure>,
) -> Result<Vec<Hash>, Failure> {
    let mut rows = rows.iter();
    (first..first.saturating_add(count))
        .map(|expected| match rows.next() {
            Some(row) if unsigned(row.try_get(0)?)? == expected => value(row),
            _ => Err(missing(expected)),
        })
        .collect()
}

/// One statement, so that all of it is of one moment; each part of it a range of a primary key, but for the tiles, which are few.
pub(super) async fn stray(db: &Object) -> Result<Option<String>, Failure> {
    let select = db
        .prepare_cached(
            "SELECT said FROM (
                 SELECT 'leaf ' || idx AS said FROM leaf WHERE idx < 0
                 UNION ALL
                 SELECT 'leaf ' || idx FROM leaf WHERE idx >= (SELECT size FROM log_head WHERE id = 1)
                 UNION ALL
                 SELECT 'body ' || idx FROM body WHERE idx < 0
                 UNION ALL
                 SELECT 'body ' || idx FROM body WHERE idx >= (SELECT size FROM log_head WHERE id = 1)
                 UNION ALL
                 SELECT 'tile ' || idx || ' of level ' || level FROM tile, log_head
                 WHERE id = 1 AND (level < 0 OR level > 6 OR idx < 0 OR idx >= size >> (8 * (level + 1)))
             ) AS stray LIMIT 1",
        )
        .await?;
    Ok(db.query_opt(&select, &[]).await?.map(|row| row.try_get(0)).transpose()?)
}
