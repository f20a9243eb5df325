//! The right edge of a growing tree: what must be known of it to go on.

use super::{Hash, MAX_LEVEL, ProofError, Prover, TILE_WIDTH, Tile, empty_root, hashes_at, node_hash};

/// The unfinished tiles of a tree, one to a level: enough to append and to know the root.
///
/// An append costs one hash for the leaf's neighbour on average and moves nothing; the root costs a hash for each bit that
/// the size has. A clone is at most a few pages.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Edge {
    size: u64,
    levels: Vec<Level>,
}

/// One unfinished tile.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Level {
    /// Its hashes, at most 255.
    hashes: Vec<Hash>,
    /// The roots of its perfect subtrees from left to right: one for each bit of `hashes.len()`, the largest first.
    perfect: Vec<Hash>,
}

/// A tile that has all of its hashes: it never changes again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct FullTile {
    /// Its level; leaf hashes are at 0.
    pub level: u8,
    /// Its number within the level, from 0.
    pub index: u64,
    /// Its root: the hash with the number `index` at the level above.
    pub root: Hash,
    /// Its 256 hashes.
    pub hashes: Vec<Hash>,
}

/// The hashes given are not the right edge of a tree of this size.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("a tree of {size} leaves has {expected} unfinished hashes at level {level}, not {found}")]
pub struct EdgeError {
    /// The tree's size.
    pub size: u64,
    /// The level that does not fit.
    pub level: usize,
    /// How many hashes there must be.
    pub expected: u64,
    /// How many were given.
    pub found: usize,
}

// === impl Edge ===

impl Edge {
    /// The edge of a tree of `size` leaves from the hashes of its unfinished tiles: `levels[k]` are those of level `k` behind
    /// its last complete tile. Missing levels count as empty.
    ///
    /// # Errors
    /// When a level does not have as many hashes as that size demands. Whether they are the right ones, only the root tells.
    pub fn restore(size: u64, levels: Vec<Vec<Hash>>) -> Result<Self, EdgeError> {
        let count = levels.len().max(usize::from(MAX_LEVEL) + 1);
        for level in 0..count {
            let expected =
                u8::try_from(level).ok().filter(|level| *level <= MAX_LEVEL).map_or(0, |level| unfinished(size, level));
            let found = levels.get(level).map_or(0, Vec::len);
            if found as u64 != expected {
                return Err(EdgeError { size, level, expected, found });
            }
        }
        let mut edge = Self { size, levels: levels.into_iter().map(Level::of).collect() };
        edge.trim();
        Ok(edge)
    }

    /// Appends a leaf. Returns the tiles that it completes, from level 0 upwards: mostly none, at every 256th leaf one, at
    /// every 65,536th two. At 2^64 − 1 leaves the tree is full and stays as it is.
    pub fn push(&mut self, leaf_hash: Hash) -> Vec<FullTile> {
        let mut completed = Vec::new();
        let Some(grown) = self.size.checked_add(1) else { return completed };
        self.size = grown;
        let mut hash = leaf_hash;
        for level in 0..=MAX_LEVEL {
            if self.levels.len() <= usize::from(level) {
                self.levels.push(Level::default());
            }
            let Some(tile) = self.levels.get_mut(usize::from(level)) else { break };
            let Some((root, hashes)) = tile.push(hash) else { break };
            let index = hashes_at(grown, level) / TILE_WIDTH as u64;
            completed.push(FullTile { level, index: index.saturating_sub(1), root, hashes });
            hash = root;
        }
        completed
    }

    /// How many leaves the tree has.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.size
    }

    /// The tree's root.
    #[must_use]
    pub fn root(&self) -> Hash {
        let from_the_right = self.levels.iter().flat_map(|level| level.perfect.iter().rev());
        from_the_right.copied().reduce(|right, left| node_hash(&left, &right)).unwrap_or_else(empty_root)
    }

    /// The hashes of the unfinished tiles by level, as [`Edge::restore`] takes them.
    #[must_use]
    pub fn levels(&self) -> Vec<Vec<Hash>> {
        self.levels.iter().map(|level| level.hashes.clone()).collect()
    }

    /// The hashes of the unfinished tile of `level`; none where there is none.
    #[must_use]
    pub fn unfinished(&self, level: u8) -> &[Hash] {
        self.levels.get(usize::from(level)).map_or(&[], |level| &level.hashes)
    }

    /// What proves entries and earlier trees that lie no further back than `completed`, the tiles that the latest pushes
    /// completed: nothing else is read. Meant for a batch that has just been appended.
    pub fn prover<'a>(&'a self, completed: &'a [FullTile]) -> Prover<'a, ProofError> {
        Prover::new(self.size, move |tile| self.recent(tile, completed).ok_or(ProofError::Missing(tile)))
    }

    fn recent(&self, tile: Tile, completed: &[FullTile]) -> Option<Vec<Hash>> {
        if hashes_at(self.size, tile.level) / TILE_WIDTH as u64 == tile.index {
            return Some(self.unfinished(tile.level).to_vec());
        }
        let full = completed.iter().find(|full| (full.level, full.index) == (tile.level, tile.index));
        full.map(|full| full.hashes.clone())
    }

    /// Takes empty levels away from the top, so that equal edges are equal.
    fn trim(&mut self) {
        while self.levels.last().is_some_and(|level| level.hashes.is_empty()) {
            self.levels.pop();
        }
    }
}

/// How many hashes of `level` lie behind its last complete tile.
fn unfinished(size: u64, level: u8) -> u64 {
    hashes_at(size, level) % TILE_WIDTH as u64
}

// === impl Level ===

impl Level {
    fn of(hashes: Vec<Hash>) -> Self {
        let mut level = Self::default();
        for hash in hashes {
            level.push(hash);
        }
        level
    }

    /// Adds a hash; where that completes the tile, its root and hashes are handed out and the next tile begins.
    fn push(&mut self, hash: Hash) -> Option<(Hash, Vec<Hash>)> {
        if self.hashes.is_empty() {
            self.hashes.reserve_exact(TILE_WIDTH);
        }
        // A binary counter: each trailing one of the length is a perfect subtree that now finds its right half.
        let mut root = hash;
        for _ in 0..self.hashes.len().trailing_ones() {
            let left = self.perfect.pop()?;
            root = node_hash(&left, &root);
        }
        self.perfect.push(root);
        self.hashes.push(hash);
        if self.hashes.len() < TILE_WIDTH {
            return None;
        }
        self.perfect.clear();
        Some((root, std::mem::take(&mut self.hashes)))
    }
}
