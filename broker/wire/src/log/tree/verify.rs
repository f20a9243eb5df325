//! Checking proofs, as RFC 9162 words it. Nothing of the tree is needed but what the checker holds already.

use super::{Hash, empty_root, node_hash};

/// The proof does not lead to the root.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the proof does not lead to the checkpoint's root")]
pub struct NotProven;

/// Checks that a leaf with this hash has the index `index` in the tree of `size` leaves with `root` (RFC 9162 §2.1.3.2).
///
/// # Errors
/// When the proof does not show that.
pub fn verify_inclusion(index: u64, size: u64, leaf_hash: &Hash, proof: &[Hash], root: &Hash) -> Result<(), NotProven> {
    if index >= size {
        return Err(NotProven);
    }
    let (mut node, mut last) = (index, size - 1);
    let mut hash = *leaf_hash;
    for sibling in proof {
        if last == 0 {
            return Err(NotProven);
        }
        if node & 1 == 1 || node == last {
            hash = node_hash(sibling, &hash);
            // A node without a right neighbour rises as it is, until it is a right child.
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            hash = node_hash(&hash, sibling);
        }
        node >>= 1;
        last >>= 1;
    }
    if last == 0 && hash == *root { Ok(()) } else { Err(NotProven) }
}

/// Checks that the tree of `from` leaves with `from_root` is the beginning of the tree of `to` leaves with `to_root` (RFC 9162
/// §2.1.4.2). The proof between equal trees, and from the empty one, is empty.
///
/// # Errors
/// When the proof does not show that.
pub fn verify_consistency(
    from: u64,
    to: u64,
    from_root: &Hash,
    to_root: &Hash,
    proof: &[Hash],
) -> Result<(), NotProven> {
    let shown = match from {
        _ if from > to => false,
        _ if from == to => proof.is_empty() && from_root == to_root,
        0 => proof.is_empty() && *from_root == empty_root(),
        _ => grows(from, to, from_root, to_root, proof).is_some_and(|grows| grows),
    };
    if shown { Ok(()) } else { Err(NotProven) }
}

fn grows(from: u64, to: u64, from_root: &Hash, to_root: &Hash, proof: &[Hash]) -> Option<bool> {
    let mut hashes = proof.iter();
    // Where the old tree is one perfect subtree its root is not sent: the checker has it.
    let seed = if from.is_power_of_two() { from_root } else { hashes.next()? };
    let (mut node, mut last) = (from - 1, to - 1);
    let odd = node.trailing_ones();
    node = node.checked_shr(odd).unwrap_or(0);
    last = last.checked_shr(odd).unwrap_or(0);
    let (mut old, mut new) = (*seed, *seed);
    for hash in hashes {
        if last == 0 {
            return Some(false);
        }
        if node & 1 == 1 || node == last {
            old = node_hash(hash, &old);
            new = node_hash(hash, &new);
            while node & 1 == 0 && node != 0 {
                node >>= 1;
                last >>= 1;
            }
        } else {
            new = node_hash(&new, hash);
        }
        node >>= 1;
        last >>= 1;
    }
    Some(last == 0 && old == *from_root && new == *to_root)
}
