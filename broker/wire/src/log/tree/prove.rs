//! Building proofs out of tiles.

use std::collections::{BTreeMap, BTreeSet};

use super::{Hash, MAX_LEVEL, TILE_HEIGHT, TILE_WIDTH, Tile, hashes_at, node_hash};

/// Builds proofs about a tree of one size out of its tiles. Each tile is read once and its inner hashes are kept, so that many
/// proofs cost little more than one.
pub struct Prover<'a, E> {
    size: u64,
    read: Box<dyn FnMut(Tile) -> Result<Vec<Hash>, E> + 'a>,
    tiles: BTreeMap<(u8, u64), Inner>,
}

/// All hashes within a tile: `[0]` its own, `[h]` the roots of its perfect subtrees of 2^h hashes.
type Inner = Vec<Vec<Hash>>;

/// Why there is no proof.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ProofError {
    /// The tree has no such leaf.
    #[error("the tree has {size} leaves, none with the index {index}")]
    NoLeaf {
        /// The index asked for.
        index: u64,
        /// The tree's size.
        size: u64,
    },
    /// A tree does not grow out of a larger one.
    #[error("a tree of {size} leaves does not come after one of {from}")]
    Shrunk {
        /// The size asked from.
        from: u64,
        /// The tree's size.
        size: u64,
    },
    /// A tile that is needed is not there, or has too few hashes.
    #[error("the tile with the number {} of level {} is missing or too short", .0.index, .0.level)]
    Missing(
        /// The tile.
        Tile,
    ),
}

/// The tiles that [`Prover::inclusion`] reads for the leaf `index` of a tree of `size` leaves, to be fetched beforehand.
#[must_use]
pub fn tiles_for_inclusion(index: u64, size: u64) -> BTreeSet<Tile> {
    rehearsed(size, |prover| prover.inclusion(index))
}

/// The tiles that [`Prover::consistency`] reads between trees of `from` and `size` leaves, to be fetched beforehand.
#[must_use]
pub fn tiles_for_consistency(from: u64, size: u64) -> BTreeSet<Tile> {
    rehearsed(size, |prover| prover.consistency(from))
}

/// Builds the proof over a tree of zeros and notes what it reads.
fn rehearsed(
    size: u64,
    prove: impl FnOnce(&mut Prover<'_, ProofError>) -> Result<Vec<Hash>, ProofError>,
) -> BTreeSet<Tile> {
    let mut asked = BTreeSet::new();
    let mut prover = Prover::new(size, |tile| {
        asked.insert(tile);
        Ok(vec![[0; 32]; usize::from(tile.width)])
    });
    // What cannot be proven needs no tile.
    let _ = prove(&mut prover);
    drop(prover);
    asked
}

// === impl Prover ===

impl<'a, E: From<ProofError>> Prover<'a, E> {
    /// Proofs about the tree of `size` leaves. `read` answers the hashes of a tile, from its first on: at least as many as its
    /// width says; more are ignored, so that a tile that has been completed since serves as well.
    pub fn new(size: u64, read: impl FnMut(Tile) -> Result<Vec<Hash>, E> + 'a) -> Self {
        Self { size, read: Box::new(read), tiles: BTreeMap::new() }
    }

    /// The audit path of the leaf `index` (RFC 6962 §2.1.1), from the leaf upwards.
    ///
    /// # Errors
    /// When there is no such leaf or a tile cannot be read.
    pub fn inclusion(&mut self, index: u64) -> Result<Vec<Hash>, E> {
        if index >= self.size {
            return Err(ProofError::NoLeaf { index, size: self.size }.into());
        }
        let mut proof = Vec::new();
        let (mut first, mut end) = (0, self.size);
        while end - first > 1 {
            let middle = first + largest_power_below(end - first);
            if index < middle {
                proof.push(self.range(middle, end)?);
                end = middle;
            } else {
                proof.push(self.range(first, middle)?);
                first = middle;
            }
        }
        proof.reverse();
        Ok(proof)
    }

    /// The proof that the tree of the first `from` leaves is the beginning of this one (RFC 6962 §2.1.2). Between equal trees,
    /// and from the empty one, it is empty.
    ///
    /// # Errors
    /// When `from` is larger than the tree or a tile cannot be read.
    pub fn consistency(&mut self, from: u64) -> Result<Vec<Hash>, E> {
        if from > self.size {
            return Err(ProofError::Shrunk { from, size: self.size }.into());
        }
        let mut proof = Vec::new();
        if from == 0 || from == self.size {
            return Ok(proof);
        }
        let (mut first, mut end) = (0, self.size);
        // Whether the subtree at hand is the old tree as a whole: its verifier knows that root already.
        let mut whole = true;
        while from < end {
            let middle = first + largest_power_below(end - first);
            if from <= middle {
                proof.push(self.range(middle, end)?);
                end = middle;
            } else {
                proof.push(self.range(first, middle)?);
                first = middle;
                whole = false;
            }
        }
        if !whole {
            proof.push(self.range(first, end)?);
        }
        proof.reverse();
        Ok(proof)
    }

    /// The root of the leaves from `first` up to, not including, `end`, where `first` is a multiple of the smallest power of
    /// two that is not below their number.
    fn range(&mut self, mut first: u64, end: u64) -> Result<Hash, E> {
        let mut perfect = Vec::new();
        while first < end {
            let height = (end - first).ilog2();
            perfect.push(self.perfect(first, height)?);
            first += 1 << height;
        }
        let root = perfect.into_iter().rev().reduce(|right, left| node_hash(&left, &right));
        root.ok_or_else(|| ProofError::NoLeaf { index: first, size: self.size }.into())
    }

    /// The root of the 2^`height` leaves from `first` on.
    fn perfect(&mut self, first: u64, height: u32) -> Result<Hash, E> {
        // The top of a tile is the bottom of the one above, where it is one hash and not 256.
        let level = u8::try_from(height / u32::from(TILE_HEIGHT)).unwrap_or(MAX_LEVEL);
        let within = height - u32::from(level) * u32::from(TILE_HEIGHT);
        let number = hashes_at(first, level);
        let index = number / TILE_WIDTH as u64;
        let missing = ProofError::Missing(Tile { level, index, width: TILE_WIDTH as u16 });
        let tile = Tile::of(level, index, self.size).ok_or(missing)?;
        if !self.tiles.contains_key(&(level, index)) {
            let mut hashes = (self.read)(tile)?;
            hashes.truncate(usize::from(tile.width));
            if hashes.len() < usize::from(tile.width) {
                return Err(ProofError::Missing(tile).into());
            }
            self.tiles.insert((level, index), inner(hashes));
        }
        let at = usize::try_from((number % TILE_WIDTH as u64) >> within).unwrap_or(usize::MAX);
        let hashes = self.tiles.get(&(level, index)).and_then(|tile| tile.get(within as usize));
        hashes.and_then(|hashes| hashes.get(at)).copied().ok_or_else(|| ProofError::Missing(tile).into())
    }
}

/// The largest power of two below `count`, which is at least 2.
fn largest_power_below(count: u64) -> u64 {
    1 << count.saturating_sub(1).max(1).ilog2()
}

fn inner(hashes: Vec<Hash>) -> Inner {
    let mut heights = vec![hashes];
    for _ in 1..TILE_HEIGHT {
        let below = heights.last().map_or(&[][..], Vec::as_slice);
        let above = below.as_chunks::<2>().0.iter().map(|[left, right]| node_hash(left, right)).collect();
        heights.push(above);
    }
    heights
}
