//! Against the definitions of RFC 6962, written down as they stand there, and its published roots.

use std::collections::HashMap;

use data_encoding::HEXLOWER;
use proptest::prelude::*;

use super::*;
use crate::log::leaf_hash;

/// The trees that every size is tried up to: two tiles and the beginning of a third.
const SIZES: u64 = 600;

fn leaf(index: u64) -> Hash {
    leaf_hash(&index.to_be_bytes())
}

/// MTH, PATH and PROOF of RFC 6962 §2.1, word for word and slow.
#[derive(Default)]
struct Rfc(HashMap<(u64, u64), Hash>);

impl Rfc {
    fn root(&mut self, first: u64, end: u64) -> Hash {
        if first == end {
            return empty_root();
        }
        if end - first == 1 {
            return leaf(first);
        }
        if let Some(root) = self.0.get(&(first, end)) {
            return *root;
        }
        let k = split(end - first);
        let root = node_hash(&self.root(first, first + k), &self.root(first + k, end));
        self.0.insert((first, end), root);
        root
    }

    fn path(&mut self, m: u64, first: u64, end: u64) -> Vec<Hash> {
        if end - first == 1 {
            return Vec::new();
        }
        let k = split(end - first);
        let (mut path, sibling) = if m < k {
            (self.path(m, first, first + k), self.root(first + k, end))
        } else {
            (self.path(m - k, first + k, end), self.root(first, first + k))
        };
        path.push(sibling);
        path
    }

    fn proof(&mut self, m: u64, first: u64, end: u64, whole: bool) -> Vec<Hash> {
        if m == end - first {
            return if whole { Vec::new() } else { vec![self.root(first, end)] };
        }
        let k = split(end - first);
        let (mut proof, sibling) = if m <= k {
            (self.proof(m, first, first + k, whole), self.root(first + k, end))
        } else {
            (self.proof(m - k, first + k, end, false), self.root(first, first + k))
        };
        proof.push(sibling);
        proof
    }
}

fn split(count: u64) -> u64 {
    let mut k = 1;
    while k * 2 < count {
        k *= 2;
    }
    k
}

/// Every number below a small size, and others for each larger one: in time every one comes up with sizes around it.
fn some_below(size: u64) -> impl Iterator<Item = u64> {
    let step = if size <= 64 { 1 } else { 11 };
    (size % step..size).step_by(step as usize).chain([0, size - 1])
}

/// A tree with the complete tiles that a store would hold.
#[derive(Clone, Default)]
struct Grown {
    edge: Edge,
    tiles: Vec<FullTile>,
}

impl Grown {
    fn of(size: u64) -> Self {
        let mut grown = Self::default();
        for index in 0..size {
            grown.tiles.extend(grown.edge.push(leaf(index)));
        }
        grown
    }

    /// A prover for any size up to the tree's, which reads complete tiles wherever there is one.
    fn prover(&self, size: u64) -> Prover<'_, ProofError> {
        Prover::new(size, |tile| {
            let full = self.tiles.iter().find(|full| (full.level, full.index) == (tile.level, tile.index));
            Ok(full.map_or_else(|| self.edge.unfinished(tile.level).to_vec(), |full| full.hashes.clone()))
        })
    }
}

#[test]
fn the_roots_are_those_published_for_rfc_6962() {
    let leaves = ["", "00", "10", "2021", "3031", "40414243", "5051525354555657", "606162636465666768696a6b6c6d6e6f"];
    let roots = [
        "6e340b9cffb37a989ca544e6bb780a2c78901d3fb33738768511a30617afa01d",
        "fac54203e7cc696cf0dfcb42c92a1d9dbaf70ad9e621f4bd8d98662f00e3c125",
        "aeb6bcfe274b70a14fb067a5e5578264db0fa9b51af5e0ba159158f329e06e77",
        "d37ee418976dd95753c1c73862b9398fa2a2cf9b4ff0fdfe8b30cd95209614b7",
        "4e3bbb1f7b478dcfe71fb631631519a3bca12c9aefca1612bfce4c13a86264d4",
        "76e67dadbcdf1e10e1b74ddc608abd2f98dfb16fbce75277b5232a127f2087ef",
        "ddb89be403809e325750d3d263cd78929c2942b7942a34b77e122c9594a74c8c",
        "5dc9da79a70659a9ad559cb701ded9a2ab9d823aad2f4960cfe370eff4604328",
    ];
    let mut edge = Edge::default();
    assert_eq!(HEXLOWER.encode(&edge.root()), "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855");
    for (leaf, root) in leaves.iter().zip(roots) {
        assert_eq!(edge.push(leaf_hash(&HEXLOWER.decode(leaf.as_bytes()).unwrap())), []);
        assert_eq!(HEXLOWER.encode(&edge.root()), root);
    }
}

#[test]
fn the_proofs_of_every_size_are_those_of_the_rfc_and_verify() {
    let mut rfc = Rfc::default();
    let all = Grown::of(SIZES);
    let mut edge = Edge::default();
    for size in 1..=SIZES {
        edge.push(leaf(size - 1));
        let root = edge.root();
        assert_eq!(root, rfc.root(0, size), "the root of {size}");
        let mut prover = all.prover(size);
        for index in some_below(size) {
            let proof = prover.inclusion(index).unwrap();
            assert_eq!(proof, rfc.path(index, 0, size), "{index} of {size}");
            assert_eq!(verify_inclusion(index, size, &leaf(index), &proof, &root), Ok(()), "{index} of {size}");
        }
        for from in some_below(size).chain([size]) {
            let proof = prover.consistency(from).unwrap();
            if from > 0 {
                assert_eq!(proof, rfc.proof(from, 0, size, true), "{from} to {size}");
            }
            let before = rfc.root(0, from);
            assert_eq!(verify_consistency(from, size, &before, &root, &proof), Ok(()), "{from} to {size}");
        }
    }
}

#[test]
fn tiles_are_complete_when_their_last_hash_comes_and_lead_one_level_up() {
    let mut rfc = Rfc::default();
    let grown = Grown::of(65_536 + 300);
    let level = |level| grown.tiles.iter().filter(move |tile| tile.level == level);
    assert_eq!((level(0).count(), level(1).count(), level(2).count()), (257, 1, 0));
    for tile in level(0) {
        assert_eq!(tile.hashes, (tile.index * 256..(tile.index + 1) * 256).map(leaf).collect::<Vec<_>>());
        assert_eq!(tile.root, rfc.root(tile.index * 256, (tile.index + 1) * 256));
    }
    let above = level(1).next().unwrap();
    assert_eq!(above.hashes, level(0).take(256).map(|tile| tile.root).collect::<Vec<_>>());
    assert_eq!(above.root, rfc.root(0, 65_536));
    let lengths: Vec<usize> = grown.edge.levels().iter().map(Vec::len).collect();
    assert_eq!(lengths, [44, 1, 1]);
}

#[test]
fn an_edge_comes_back_from_its_levels_and_from_no_others() {
    for size in [0, 1, 255, 256, 257, 600, 65_535, 65_536, 65_537] {
        let edge = Grown::of(size).edge;
        let mut again = Edge::restore(size, edge.levels()).unwrap();
        assert_eq!(again, edge, "{size}");
        assert_eq!(again.root(), edge.root(), "{size}");
        let mut on = edge.clone();
        assert_eq!((again.push(leaf(size)), again.root()), (on.push(leaf(size)), on.root()), "{size}");
        for level in 0..4 {
            let mut levels = edge.levels();
            levels.resize(levels.len().max(level + 1), Vec::new());
            levels[level].push([0; 32]);
            let refused = Edge::restore(size, levels).unwrap_err();
            assert_eq!((refused.size, refused.level), (size, level), "one hash too many");
        }
        assert!(Edge::restore(size + 1, edge.levels()).is_err(), "{size}");
    }
    assert_eq!(
        Edge::restore(3, Vec::new()).unwrap_err().to_string(),
        "a tree of 3 leaves has 3 unfinished hashes at level 0, not 0"
    );
    let far = vec![Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new(), Vec::new()];
    assert!(Edge::restore(0, far.clone()).is_ok());
    assert!(Edge::restore(0, [far, vec![vec![[0; 32]]]].concat()).is_err(), "there is no level 8");
}

#[test]
fn a_batch_proves_itself_out_of_the_edge_and_what_it_completed() {
    for (before, after) in [(0, 1), (0, 700), (250, 260), (255, 256), (300, 301), (511, 1030), (65_530, 65_800)] {
        let mut edge = Grown::of(before).edge;
        let old = edge.root();
        let completed: Vec<FullTile> = (before..after).flat_map(|index| edge.push(leaf(index))).collect();
        let mut prover = edge.prover(&completed);
        for index in before..after {
            let proof = prover.inclusion(index).unwrap();
            assert_eq!(verify_inclusion(index, after, &leaf(index), &proof, &edge.root()), Ok(()));
        }
        let proof = prover.consistency(before).unwrap();
        assert_eq!(verify_consistency(before, after, &old, &edge.root(), &proof), Ok(()), "{before} to {after}");
    }
    let late = Grown::of(700).edge;
    assert_eq!(late.prover(&[]).inclusion(3), Err(ProofError::Missing(Tile { level: 0, index: 0, width: 256 })));
}

#[test]
fn the_tiles_that_a_proof_reads_are_known_beforehand() {
    let tile = |level, index, width| Tile { level, index, width };
    assert_eq!(tiles_for_inclusion(3, 5).into_iter().collect::<Vec<_>>(), [tile(0, 0, 5)]);
    let far = tiles_for_inclusion(3, 65_800);
    let expected = [tile(0, 0, 256), tile(0, 257, 8), tile(1, 0, 256), tile(1, 1, 1)];
    assert_eq!(far.into_iter().collect::<Vec<_>>(), expected);
    assert!(tiles_for_inclusion(5, 5).is_empty(), "there is no such leaf");
    let grown = Grown::of(1000);
    for from in 0..1000 {
        let known = tiles_for_consistency(from, 1000);
        let mut read = std::collections::BTreeSet::new();
        let mut prover = Prover::new(1000, |tile| {
            read.insert(tile);
            let full = grown.tiles.iter().find(|full| (full.level, full.index) == (tile.level, tile.index));
            Ok::<_, ProofError>(full.map_or_else(|| grown.edge.unfinished(tile.level).to_vec(), |f| f.hashes.clone()))
        });
        prover.consistency(from).unwrap();
        drop(prover);
        assert_eq!(known, read, "{from}");
    }
}

#[test]
fn what_cannot_be_proven_is_an_error() {
    let grown = Grown::of(5);
    assert_eq!(grown.prover(5).inclusion(5), Err(ProofError::NoLeaf { index: 5, size: 5 }));
    assert_eq!(grown.prover(5).consistency(6), Err(ProofError::Shrunk { from: 6, size: 5 }));
    let mut short = Prover::new(5, |_| Ok::<_, ProofError>(vec![[0; 32]; 4]));
    assert_eq!(short.inclusion(0), Err(ProofError::Missing(Tile { level: 0, index: 0, width: 5 })));
    let mut huge = Prover::new(u64::MAX, |tile| Ok::<_, ProofError>(vec![[0; 32]; usize::from(tile.width)]));
    assert_eq!(huge.inclusion(u64::MAX - 1).unwrap().len(), 63);
    assert!(huge.consistency(u64::MAX - 1).is_ok());
}

#[test]
fn a_tile_is_as_wide_as_its_tree() {
    assert_eq!(Tile::of(0, 0, 0), None);
    assert_eq!(Tile::of(0, 0, 70_000), Some(Tile { level: 0, index: 0, width: 256 }));
    assert_eq!(Tile::of(0, 273, 70_000), Some(Tile { level: 0, index: 273, width: 112 }));
    assert_eq!(Tile::of(1, 1, 70_000), Some(Tile { level: 1, index: 1, width: 17 }));
    assert_eq!(Tile::of(2, 0, 70_000), Some(Tile { level: 2, index: 0, width: 1 }));
    assert_eq!(Tile::of(3, 0, 70_000), None);
    assert_eq!(Tile::of(0, u64::MAX, u64::MAX), None);
    assert_eq!(Tile::of(8, 0, u64::MAX), None);
}

/// A hash with one bit flipped.
fn flipped(hash: Hash, bit: usize) -> Hash {
    let mut hash = hash;
    hash[bit / 8] ^= 1 << (bit % 8);
    hash
}

proptest! {
    #[test]
    fn one_flipped_bit_fails_an_inclusion(size in 1u64..SIZES, at in any::<u64>(), bit in 0usize..256, which in 0usize..32) {
        let grown = Grown::of(size);
        let (index, root) = (at % size, grown.edge.root());
        let proof = grown.prover(size).inclusion(index).unwrap();
        prop_assert!(verify_inclusion(index, size, &leaf(index), &proof, &root).is_ok());
        prop_assert!(verify_inclusion(index, size, &flipped(leaf(index), bit), &proof, &root).is_err());
        prop_assert!(verify_inclusion(index, size, &leaf(index), &proof, &flipped(root, bit)).is_err());
        for other in (0..64).map(|bit| index ^ (1 << bit)) {
            prop_assert!(verify_inclusion(other, size, &leaf(index), &proof, &root).is_err(), "as {other}");
        }
        if !proof.is_empty() {
            let mut changed = proof.clone();
            let which = which % proof.len();
            changed[which] = flipped(changed[which], bit);
            prop_assert!(verify_inclusion(index, size, &leaf(index), &changed, &root).is_err());
            prop_assert!(verify_inclusion(index, size, &leaf(index), &proof[1..], &root).is_err());
        }
        let longer = [proof, vec![leaf(0)]].concat();
        prop_assert!(verify_inclusion(index, size, &leaf(index), &longer, &root).is_err());
    }

    #[test]
    fn one_flipped_bit_fails_a_consistency(size in 2u64..SIZES, at in any::<u64>(), bit in 0usize..256, which in 0usize..32) {
        let from = 1 + at % (size - 1);
        let (old, new) = (Grown::of(from).edge.root(), Grown::of(size));
        let root = new.edge.root();
        let proof = new.prover(size).consistency(from).unwrap();
        prop_assert!(verify_consistency(from, size, &old, &root, &proof).is_ok());
        prop_assert!(verify_consistency(from, size, &flipped(old, bit), &root, &proof).is_err());
        prop_assert!(verify_consistency(from, size, &old, &flipped(root, bit), &proof).is_err());
        prop_assert!(verify_consistency(size, from, &root, &old, &proof).is_err(), "backwards");
        let mut changed = proof.clone();
        let which = which % proof.len();
        changed[which] = flipped(changed[which], bit);
        prop_assert!(verify_consistency(from, size, &old, &root, &changed).is_err());
        prop_assert!(verify_consistency(from, size, &old, &root, &proof[1..]).is_err());
        let longer = [proof, vec![leaf(0)]].concat();
        prop_assert!(verify_consistency(from, size, &old, &root, &longer).is_err());
    }

    #[test]
    fn any_proof_is_judged_without_harm(
        index in any::<u64>(), size in any::<u64>(), proof in proptest::collection::vec(any::<[u8; 32]>(), 0..70),
    ) {
        prop_assert!(verify_inclusion(index, size, &[7; 32], &proof, &[8; 32]).is_err());
        prop_assert!(verify_consistency(index, size, &[7; 32], &[8; 32], &proof).is_err());
    }
}
