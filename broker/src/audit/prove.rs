//! Proofs out of stored tiles: of one entry, and that one tree continues another.

use std::collections::{BTreeMap, BTreeSet};

use ichor_wire::log::tree::{Hash, ProofError, Prover, Tile, hashes_at, tiles_for_consistency, tiles_for_inclusion};

use crate::store::{Grown, Store, StoreError};

/// Why there is no proof.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProveError {
    /// The store cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// The tree cannot prove it.
    #[error(transparent)]
    Proof(#[from] ProofError),
}

/// The audit path of the entry `index` in this tree.
///
/// # Errors
/// When the tree has no such entry, or a tile cannot be read.
pub async fn inclusion(store: &dyn Store, tree: &Grown, index: u64) -> Result<Vec<Hash>, ProveError> {
    let tiles = fetch(store, tree, tiles_for_inclusion(index, tree.edge.size())).await?;
    Ok(prover(&tiles, tree).inclusion(index)?)
}

/// The proof that this tree continues the one of `from` entries.
///
/// # Errors
/// When it has not that many, or a tile cannot be read.
pub async fn consistency(store: &dyn Store, tree: &Grown, from: u64) -> Result<Vec<Hash>, ProveError> {
    let tiles = fetch(store, tree, tiles_for_consistency(from, tree.edge.size())).await?;
    Ok(prover(&tiles, tree).consistency(from)?)
}

type Tiles = BTreeMap<(u8, u64), Vec<Hash>>;

/// The complete tiles among these, from the store; the unfinished ones the tree has itself.
async fn fetch(store: &dyn Store, tree: &Grown, wanted: BTreeSet<Tile>) -> Result<Tiles, ProveError> {
    let mut tiles = Tiles::new();
    for tile in wanted {
        let hashes = match unfinished(tree, tile) {
            Some(hashes) => hashes.to_vec(),
            None => {
                let found = store.tile(tile.level, tile.index).await?;
                found.ok_or(ProveError::Proof(ProofError::Missing(tile)))?.hashes
            }
        };
        tiles.insert((tile.level, tile.index), hashes);
    }
    Ok(tiles)
}

/// The hashes of a tile that is not complete in this tree.
fn unfinished(tree: &Grown, tile: Tile) -> Option<&[Hash]> {
    let last = hashes_at(tree.edge.size(), tile.level) / 256;
    (tile.index == last).then(|| tree.edge.unfinished(tile.level))
}

fn prover<'a>(tiles: &'a Tiles, tree: &Grown) -> Prover<'a, ProofError> {
    Prover::new(tree.edge.size(), |tile| tiles.get(&(tile.level, tile.index)).cloned().ok_or(ProofError::Missing(tile)))
}
