//! What proves one entry: its bytes, its path in the tree, a signed checkpoint.

use data_encoding::{BASE64, HEXLOWER};

use super::tree::{Hash, NotProven, verify_inclusion};
use super::{Checkpoint, CheckpointError, Entry, KeyChange, Kind, Leaf, LogError, LogKey, leaf_hash};
use crate::api::{EntryProof, ProofFile, Receipt};

/// The most hashes that a path has: one for each bit of a size.
const MAX_PATH: usize = 64;

/// An entry that a log's key vouches for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proven {
    /// Its leaf record.
    pub leaf: Leaf,
    /// The entry; absent where its body was dropped or is not shown.
    pub entry: Option<Entry>,
    /// The checkpoint of the tree that has it.
    pub checkpoint: Checkpoint,
}

/// Why a receipt or proof proves nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NoProof {
    /// The log could not sign yet.
    #[error("the receipt is pending: the log had not signed the entry yet")]
    Pending,
    /// A part cannot be read.
    #[error("the {0} cannot be read")]
    Unreadable(&'static str),
    /// The entry or leaf record is none.
    #[error(transparent)]
    Entry(#[from] LogError),
    /// The entry is not the one that the receipt is about.
    #[error("the entry does not have the hash that the receipt names")]
    OtherEntry,
    /// The leaf record has another index.
    #[error("the leaf record has the index {found}, not {expected}")]
    OtherIndex {
        /// The index proven.
        expected: u64,
        /// The index in the record.
        found: u64,
    },
    /// The checkpoint is not the log's.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// The path leads elsewhere.
    #[error(transparent)]
    Path(#[from] NotProven),
    /// The entries that should lead from one key to the next do not.
    #[error("the change of the log's key at entry {index} does not hold: {why}")]
    Rotation {
        /// The entry that should record it.
        index: u64,
        /// Why not.
        why: String,
    },
    /// Made by another format.
    #[error("the proof file has the format `{0}`; this build reads `{FORMAT}`")]
    Format(String),
}

/// The format of proof files that this build writes and reads.
pub const FORMAT: &str = "ichor-proof/1";

// === impl Receipt ===

impl Receipt {
    /// A receipt that proves nothing yet: where the entry is, and its leaf's hash.
    #[must_use]
    pub fn pending(index: u64, leaf_hash: &Hash) -> Self {
        Self { index, leaf_hash: HEXLOWER.encode(leaf_hash), entry: None, proof: Vec::new(), checkpoint: None }
    }

    /// The receipt with its proof: the encoded entry, the inclusion proof, the signed checkpoint.
    #[must_use]
    pub fn with_proof(self, entry: &[u8], path: &[Hash], checkpoint: String) -> Self {
        Self { entry: Some(BASE64.encode(entry)), proof: printed(path), checkpoint: Some(checkpoint), ..self }
    }

    /// Whether the log had not signed the entry yet.
    #[must_use]
    pub fn is_pending(&self) -> bool {
        self.checkpoint.is_none()
    }

    /// The entry, once it is shown that the log of `key` has it at this index. Whether it says what it should, as the
    /// fingerprint of one's certificate, is the caller's to compare.
    ///
    /// # Errors
    /// When the receipt is pending, or proves nothing under this key.
    pub fn verify(&self, key: &LogKey) -> Result<Proven, NoProof> {
        let Some(checkpoint) = &self.checkpoint else { return Err(NoProof::Pending) };
        let proof = EntryProof {
            index: self.index,
            entry: self.entry.clone(),
            leaf: None,
            proof: self.proof.clone(),
            checkpoint: checkpoint.clone(),
        };
        let (leaf, hash) = proof.leaf()?;
        if HEXLOWER.encode(&hash) != self.leaf_hash {
            return Err(NoProof::OtherEntry);
        }
        proof.under(leaf, &hash, key)
    }
}

// === impl EntryProof ===

impl EntryProof {
    /// The proof of an entry with its body.
    #[must_use]
    pub fn of_entry(index: u64, entry: &[u8], path: &[Hash], checkpoint: String) -> Self {
        Self { index, entry: Some(BASE64.encode(entry)), leaf: None, proof: printed(path), checkpoint }
    }

    /// The proof of an entry whose body was dropped, by its leaf record.
    #[must_use]
    pub fn of_dropped(index: u64, leaf: &[u8], path: &[Hash], checkpoint: String) -> Self {
        Self { index, entry: None, leaf: Some(BASE64.encode(leaf)), proof: printed(path), checkpoint }
    }

    /// The entry, once it is shown that the log of `key` has it at this index.
    ///
    /// # Errors
    /// When it is not shown.
    pub fn verify(&self, key: &LogKey) -> Result<Proven, NoProof> {
        let (leaf, hash) = self.leaf()?;
        self.under(leaf, &hash, key)
    }

    /// The leaf record that follows from what is shown, and its hash.
    fn leaf(&self) -> Result<(Leaf, Hash), NoProof> {
        let leaf = match (self.body()?, &self.leaf) {
            (Some((encoded, entry)), None) => Leaf::of(self.index, &encoded, entry.time),
            (None, Some(leaf)) => Leaf::decode(&base64(leaf, "leaf record")?)?,
            _ => return Err(NoProof::Unreadable("entry")),
        };
        if leaf.index != self.index {
            return Err(NoProof::OtherIndex { expected: self.index, found: leaf.index });
        }
        let hash = leaf_hash(&leaf.encode()?);
        Ok((leaf, hash))
    }

    fn body(&self) -> Result<Option<(Vec<u8>, Entry)>, NoProof> {
        let Some(text) = &self.entry else { return Ok(None) };
        let encoded = base64(text, "entry")?;
        let entry = Entry::decode(&encoded)?;
        Ok(Some((encoded, entry)))
    }

    fn under(&self, leaf: Leaf, hash: &Hash, key: &LogKey) -> Result<Proven, NoProof> {
        let checkpoint = Checkpoint::parse_and_verify(&self.checkpoint, key)?;
        verify_inclusion(self.index, checkpoint.size(), hash, &hashes(&self.proof)?, checkpoint.root())?;
        Ok(Proven { leaf, entry: self.body()?.map(|(_, entry)| entry), checkpoint })
    }

    /// The change of key that it is about; nothing of it is verified.
    fn unverified_change(&self) -> Option<KeyChange> {
        self.body().ok()??.1.content.log_key
    }

    /// The key that begins with this entry, once it is shown that the log of `before` names it.
    fn next_key(&self, before: &LogKey) -> Result<LogKey, NoProof> {
        let failed = |why: String| NoProof::Rotation { index: self.index, why };
        let proven = self.verify(before).map_err(|error| failed(error.to_string()))?;
        let content = proven.entry.map(|entry| entry.content).filter(|content| content.kind == Kind::AuditKey);
        let change = content.and_then(|content| content.log_key).filter(|change| follows(change, before));
        let change = change.ok_or_else(|| failed(format!("the entry names no key after `{before}`")))?;
        let key: LogKey = change.new.parse().map_err(|error: super::LogKeyError| failed(error.to_string()))?;
        Some(key).filter(|key| key.name() == before.name()).ok_or_else(|| failed("the key is another log's".into()))
    }
}

/// Whether a change leads on from the key `before`.
pub(super) fn follows(change: &KeyChange, before: &LogKey) -> bool {
    change.origin == before.name() && change.old.as_deref() == Some(&*before.to_string())
}

/// Every key that `trusted` leads to, itself first: each named by an entry of the log under a checkpoint that the key before
/// signed. Changes before `trusted` are passed over.
///
/// # Errors
/// When a change from a key that is reached does not hold.
pub fn follow(trusted: &LogKey, rotations: &[EntryProof]) -> Result<Vec<LogKey>, NoProof> {
    let mut newest = trusted.clone();
    let mut keys = vec![newest.clone()];
    for rotation in rotations {
        if rotation.unverified_change().is_some_and(|change| follows(&change, &newest)) {
            newest = rotation.next_key(&newest)?;
            keys.push(newest.clone());
        }
    }
    Ok(keys)
}

// === impl ProofFile ===

impl ProofFile {
    /// A proof file of this build's format.
    #[must_use]
    pub fn new(key: &LogKey, entry: EntryProof, rotations: Vec<EntryProof>) -> Self {
        Self { format: FORMAT.into(), key: key.to_string(), entry, rotations }
    }

    /// The entry, once it is shown that the log has it; `trusted` is the log's key, or an older one that led to it. The key
    /// in the file is believed in nothing.
    ///
    /// # Errors
    /// When it is not shown.
    pub fn verify(&self, trusted: &LogKey) -> Result<Proven, NoProof> {
        if self.format != FORMAT {
            return Err(NoProof::Format(self.format.chars().filter(|c| !c.is_control()).take(64).collect()));
        }
        let keys = follow(trusted, &self.rotations)?;
        let mut refused = NoProof::Pending;
        for key in keys.iter().rev() {
            match self.entry.verify(key) {
                Ok(proven) => return Ok(proven),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }
}

/// Hashes as answers have them: base64.
#[must_use]
pub fn printed(hashes: &[Hash]) -> Vec<String> {
    hashes.iter().map(|hash| BASE64.encode(hash)).collect()
}

/// The hashes of an answer.
///
/// # Errors
/// When one is not 32 bytes in base64, or there are more than any tree needs.
pub fn hashes(texts: &[String]) -> Result<Vec<Hash>, NoProof> {
    if texts.len() > 2 * MAX_PATH {
        return Err(NoProof::Unreadable("proof"));
    }
    let read = |text: &String| Hash::try_from(base64(text, "proof")?).map_err(|_| NoProof::Unreadable("proof"));
    texts.iter().map(read).collect()
}

fn base64(text: &str, what: &'static str) -> Result<Vec<u8>, NoProof> {
    BASE64.decode(text.as_bytes()).map_err(|_| NoProof::Unreadable(what))
}
