//! A small log for the tests and the published vectors: two keys, one dropped body, everything derived from numbers.

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};

use super::tree::{Edge, FullTile, Hash, ProofError, Prover, Tile};
use super::*;
use crate::api::EntryProof;

pub(super) const ORIGIN: &str = "ichor.example.com/audit";

/// The first entry's time, 2026-11-22T12:00:00Z in microseconds; a second lies between two.
const START: i64 = 1_795_348_800_000_000;

/// A log that holds everything, and both of its keys.
pub(super) struct Log {
    pairs: [Ed25519KeyPair; 2],
    pub(super) keys: [LogKey; 2],
    /// At which index the second key begins; from the size behind it on, it signs.
    pub(super) rotation: u64,
    /// The index of the entry whose body was dropped.
    pub(super) dropped: u64,
    pub(super) entries: Vec<Vec<u8>>,
    pub(super) leaves: Vec<Vec<u8>>,
    pub(super) edge: Edge,
    tiles: Vec<FullTile>,
    edges: Vec<Edge>,
}

impl Log {
    pub(super) fn of(size: u64, rotation: u64, dropped: u64) -> Self {
        let pairs = [1, 2].map(|seed| Ed25519KeyPair::from_seed_unchecked(&[seed; 32]).unwrap());
        let keys = [0, 1].map(|at: usize| LogKey::ed25519(ORIGIN, pairs[at].public_key().as_ref()).unwrap());
        let edges = vec![Edge::default()];
        let (entries, leaves, tiles) = (Vec::new(), Vec::new(), Vec::new());
        let mut log = Self { pairs, keys, rotation, dropped, entries, leaves, edge: Edge::default(), tiles, edges };
        for index in 0..size {
            let content = log.content(index);
            log.append(content);
        }
        log
    }

    fn content(&self, index: u64) -> Content {
        let [first, second] = self.keys.clone().map(|key| key.to_string());
        let change = |new, old| KeyChange { origin: ORIGIN.into(), new, old };
        let ada = Person {
            provider: "corp".into(),
            issuer: "https://id.example.com".into(),
            subject: "8d3c1f0a".into(),
            name: "Ada Lovelace".into(),
            user: "ada".into(),
        };
        let about = |kind| Content {
            person: Some(ada),
            cluster: Some("prod".into()),
            grant: Some([&[0x70; 8][..], &(index / 2).to_be_bytes()].concat()),
            roles: Some(vec!["os:reader".into()]),
            ..Content::of(kind)
        };
        match index {
            0 => Content { log_key: Some(change(first, None)), ..Content::of(Kind::AuditKey) },
            _ if index == self.rotation => {
                Content { log_key: Some(change(second, Some(first))), ..Content::of(Kind::AuditKey) }
            }
            _ if index == self.dropped + 5 => {
                Content { dropped: Some(vec![self.dropped, 1]), ..Content::of(Kind::BodyDropped) }
            }
            _ if index.is_multiple_of(2) => about(Kind::Grant),
            _ => Content { fingerprint: Some(vec![index.to_le_bytes()[0]; 32]), ..about(Kind::Issued) },
        }
    }

    pub(super) fn append(&mut self, content: Content) {
        let index = self.edge.size();
        let bytes = |seed: u8| [&[seed; 8][..], &index.to_be_bytes()].concat();
        let time = START + i64::try_from(index).unwrap() * 1_000_000;
        let entry = Entry { version: 1, id: bytes(1), time, salt: bytes(2), broker: "broker-1".into(), content };
        let encoded = entry.encode().unwrap();
        let leaf = Leaf::of(index, &encoded, time).encode().unwrap();
        self.tiles.extend(self.edge.push(leaf_hash(&leaf)));
        self.edges.push(self.edge.clone());
        self.entries.push(encoded);
        self.leaves.push(leaf);
    }

    pub(super) fn size(&self) -> u64 {
        self.edge.size()
    }

    pub(super) fn leaf_hash(&self, index: u64) -> Hash {
        leaf_hash(&self.leaves[at(index)])
    }

    pub(super) fn root(&self, size: u64) -> Hash {
        self.edges[at(size)].root()
    }

    /// The checkpoint of this size, signed with the first key or the second.
    pub(super) fn signed(&self, size: u64, key: usize) -> String {
        let checkpoint = Checkpoint::new(&self.keys[key], size, self.root(size));
        let signature = self.pairs[key].sign(checkpoint.unsigned_text().as_bytes());
        checkpoint.signed(&self.keys[key], signature.as_ref()).unwrap()
    }

    /// As the broker signs: up to the change with the first key, behind it with the second.
    pub(super) fn checkpoint(&self, size: u64) -> String {
        self.signed(size, usize::from(size > self.rotation + 1))
    }

    /// The hashes of a tile, or of the complete one that it has become.
    pub(super) fn tile(&self, tile: Tile) -> Vec<Hash> {
        let full = self.tiles.iter().find(|full| (full.level, full.index) == (tile.level, tile.index));
        full.map_or_else(|| self.edge.unfinished(tile.level).to_vec(), |full| full.hashes.clone())
    }

    pub(super) fn prover(&self, size: u64) -> Prover<'_, ProofError> {
        Prover::new(size, |tile| Ok(self.tile(tile)))
    }

    pub(super) fn proof(&self, index: u64, size: u64) -> EntryProof {
        let path = self.prover(size).inclusion(index).unwrap();
        if index == self.dropped {
            return EntryProof::of_dropped(index, &self.leaves[at(index)], &path, self.checkpoint(size));
        }
        EntryProof::of_entry(index, &self.entries[at(index)], &path, self.checkpoint(size))
    }

    /// The entries of one page of an export.
    pub(super) fn export(&self, entries: std::ops::Range<u64>) -> Vec<u8> {
        let mut out = Vec::new();
        export::write_begin(&mut out, entries.start);
        for index in entries {
            match index == self.dropped {
                false => export::write_entry(&mut out, &self.leaf_hash(index), &self.entries[at(index)]),
                true => export::write_dropped(&mut out, &self.leaf_hash(index), &self.leaves[at(index)]),
            }
        }
        out
    }

    /// A checkpoint as an item of an export.
    pub(super) fn exported(note: &str) -> Vec<u8> {
        let mut out = Vec::new();
        export::write_checkpoint(&mut out, note);
        out
    }
}

pub(super) fn at(index: u64) -> usize {
    usize::try_from(index).unwrap()
}
