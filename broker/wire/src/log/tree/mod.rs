//! The Merkle tree of RFC 6962 over leaf hashes, cut into tiles as C2SP tlog-tiles has it.
//!
//! A tile is 256 consecutive hashes of one level. Level 0 holds leaf hashes; each hash of level *k*+1 is the root of one
//! complete tile of level *k*. A complete tile never changes, so a store keeps complete tiles only, and [`Edge`] keeps the
//! unfinished ones, one to a level.

mod edge;
mod prove;
#[cfg(test)]
mod tests;
mod verify;

use sha2::{Digest, Sha256};

pub use edge::{Edge, EdgeError, FullTile};
pub use prove::{ProofError, Prover, tiles_for_consistency, tiles_for_inclusion};
pub use verify::{NotProven, verify_consistency, verify_inclusion};

/// A SHA-256 hash of the tree: of a leaf, or of the two hashes below it.
pub type Hash = [u8; 32];

/// How many levels of the tree one tile spans.
pub const TILE_HEIGHT: u8 = 8;

/// How many hashes a complete tile has.
pub const TILE_WIDTH: usize = 256;

/// The highest level that a tile can have: with 64-bit sizes, none above holds a hash.
pub const MAX_LEVEL: u8 = 7;

/// Which tile: its level, its number within the level, and how many of its hashes are meant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Tile {
    /// The level, 0 to [`MAX_LEVEL`]; leaf hashes are at 0.
    pub level: u8,
    /// The number within the level, from 0.
    pub index: u64,
    /// How many hashes, from its first on: 1 to 256. A complete tile has 256.
    pub width: u16,
}

/// The hash of two neighbouring hashes: SHA-256(0x01 ‖ left ‖ right) (RFC 6962 §2.1).
#[must_use]
pub fn node_hash(left: &Hash, right: &Hash) -> Hash {
    let mut both = [1; 1 + 2 * size_of::<Hash>()];
    let [_, halves @ ..] = &mut both;
    for (half, hash) in halves.as_chunks_mut().0.iter_mut().zip([left, right]) {
        *half = *hash;
    }
    Sha256::digest(both).into()
}

/// The root of the tree that has no leaf: SHA-256 of nothing.
#[must_use]
pub fn empty_root() -> Hash {
    Sha256::digest([]).into()
}

/// How many hashes a tree of `size` leaves has at `level`.
#[must_use]
pub fn hashes_at(size: u64, level: u8) -> u64 {
    size.checked_shr(u32::from(level) * u32::from(TILE_HEIGHT)).unwrap_or(0)
}

// === impl Tile ===

impl Tile {
    /// The tile of `level` with this number, as wide as a tree of `size` leaves has it; `None` where that tree has no hash
    /// there.
    #[must_use]
    pub fn of(level: u8, index: u64, size: u64) -> Option<Self> {
        let first = index.checked_mul(TILE_WIDTH as u64)?;
        let width = hashes_at(size, level).checked_sub(first)?.min(TILE_WIDTH as u64);
        let width = u16::try_from(width).ok().filter(|width| *width > 0)?;
        (level <= MAX_LEVEL).then_some(Self { level, index, width })
    }

    /// Whether all of its hashes are meant.
    #[must_use]
    pub const fn is_complete(self) -> bool {
        self.width as usize == TILE_WIDTH
    }
}
