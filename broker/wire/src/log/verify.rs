//! Checking a whole log without the broker: every entry against its leaf, all leaves against the signed checkpoints.

use std::collections::BTreeMap;
use std::io::Read;

use minicbor::Decoder;

use super::codec::leaf_hash_of;
use super::export::{Item, Reader};
use super::fault::Fault;
use super::proof::follows;
use super::tree::{Edge, Hash};
use super::{Checkpoint, CheckpointError, Entry, KeyChange, Kind, Leaf, LogError, LogKey, Places, note::NoteError};

/// How many changes of key may wait for a checkpoint that covers them.
const MAX_CHANGES: usize = 1000;

/// How many checkpoints may wait for their size to be reached.
const MAX_AHEAD: usize = 100_000;

/// Takes a log entry by entry, from the first on, and compares it with the checkpoints that a key vouches for. What it needs
/// does not grow with the log.
pub struct Verifier {
    edge: Edge,
    key: LogKey,
    /// The keys that the log leads to from there, the newest last.
    later: Vec<LogKey>,
    /// Changes of key that no checkpoint has covered yet.
    changes: Vec<KeyChange>,
    /// Notes by the size that they are of, verified when that is reached: the key may be one that the log names by then.
    ahead: BTreeMap<u64, Vec<String>>,
    /// Checkpoints that were kept elsewhere, which the log must agree with.
    kept: Vec<Kept>,
    /// How many notes are ahead.
    waiting: usize,
    verified: Option<Checkpoint>,
    /// Up to which size some checkpoint agreed.
    agreed: u64,
    dropped: u64,
    /// The places whose body is absent, and that no signed entry says was dropped.
    absent: Places,
    /// What entries that no checkpoint has covered yet say was dropped before them.
    claimed: Vec<Places>,
    others: u64,
}

/// A checkpoint that was kept elsewhere. Who signed it is known at the end: the key may be one that the log leads to later.
struct Kept {
    note: String,
    unverified: Checkpoint,
    /// The tree's root at its size, and up to where some checkpoint agreed before that.
    met: Option<(Hash, u64)>,
}

/// What is read of an entry without decoding it whole.
struct Head {
    time: i64,
    kind: u8,
}

/// A log that is as its checkpoints say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Verdict {
    /// How many entries were read.
    pub entries: u64,
    /// Of how many of them the body was dropped; their leaf records are in the tree all the same.
    pub dropped: u64,
    /// The newest checkpoint that agrees.
    pub checkpoint: Checkpoint,
    /// How many entries come behind it, which no signature covers yet.
    pub uncovered: u64,
    /// How many checkpoints were passed over because no key that is believed signed them.
    pub others: u64,
    /// The key of the log at the end: the one given, or a later one that the log itself leads to.
    pub key: LogKey,
}

/// Checks an export against the log's key, in one pass and in bounded memory; `kept` are signed checkpoints that were kept
/// elsewhere, which show what an export alone cannot: that the log was not cut or written anew. Each must be signed by a key that is
/// believed at the end.
///
/// # Errors
/// The first place that does not fit.
pub fn verify(export: impl Read, key: &LogKey, kept: &[String]) -> Result<Verdict, Fault> {
    let mut verifier = Verifier::new(key.clone());
    kept.iter().try_for_each(|note| verifier.expect(note))?;
    let mut reader = Reader::new(export);
    while let Some(item) = reader.item()? {
        verifier.item(item)?;
    }
    verifier.finish()
}

// === impl Verifier ===

impl Verifier {
    /// Before the first entry of the log; `key` is believed, and the keys that the log leads to from there.
    #[must_use]
    pub fn new(key: LogKey) -> Self {
        Self {
            edge: Edge::default(),
            key,
            later: Vec::new(),
            changes: Vec::new(),
            ahead: BTreeMap::new(),
            kept: Vec::new(),
            waiting: 0,
            verified: None,
            agreed: 0,
            dropped: 0,
            absent: Places::default(),
            claimed: Vec::new(),
            others: 0,
        }
    }

    /// How many entries were taken.
    #[must_use]
    pub fn size(&self) -> u64 {
        self.edge.size()
    }

    /// Whether a checkpoint speaks of entries that were not read yet.
    #[must_use]
    pub fn awaits_more(&self) -> bool {
        self.waiting > 0 || self.kept.iter().any(|kept| kept.met.is_none())
    }

    /// The first entry whose body is absent, and that no signed entry behind it says was dropped.
    #[must_use]
    pub fn unexplained(&self) -> Option<u64> {
        self.absent.first()
    }

    /// Takes an item of an export.
    ///
    /// # Errors
    /// The place that does not fit.
    pub fn item(&mut self, item: Item<'_>) -> Result<(), Fault> {
        match item {
            Item::Begin { first } => self.goes_on(first),
            Item::Entry { leaf_hash, entry } => self.entry(leaf_hash, entry),
            Item::Dropped { leaf_hash, leaf } => self.dropped(leaf_hash, leaf),
            Item::Checkpoint(note) => self.checkpoint(note),
        }
    }

    /// Demands that the log agrees with a signed checkpoint, whose key is believed by the end.
    ///
    /// # Errors
    /// When it is none, or its size has been passed.
    pub fn expect(&mut self, note: &str) -> Result<(), Fault> {
        let unverified = Checkpoint::parse_unverified(note)?;
        self.not_late(unverified.size())?;
        self.kept.push(Kept { note: note.to_owned(), unverified, met: None });
        self.reached()
    }

    /// Entries follow from this index on.
    ///
    /// # Errors
    /// When it is not the next.
    pub fn goes_on(&self, first: u64) -> Result<(), Fault> {
        let expected = self.edge.size();
        if first == expected { Ok(()) } else { Err(Fault::Gap { expected, found: first }) }
    }

    /// The next entry; `leaf_hash` is what the log's tree has in its place.
    ///
    /// # Errors
    /// When the two do not belong together, or a checkpoint of the log up to here does not agree.
    pub fn entry(&mut self, leaf_hash: &Hash, encoded: &[u8]) -> Result<(), Fault> {
        let index = self.edge.size();
        let fault = |error| Fault::Entry { index, error };
        let head = Head::of(encoded).map_err(|error| fault(LogError::Malformed(error.to_string())))?;
        if leaf_hash_of(index, encoded, head.time).map_err(fault)? != *leaf_hash {
            return Err(Fault::OtherEntry { index });
        }
        if head.kind == Kind::AuditKey.number() {
            let entry = Entry::decode(encoded).map_err(fault)?;
            let change = entry.content.log_key.filter(|change| self.keys().any(|key| follows(change, key)));
            self.changes.extend(change.filter(|_| self.changes.len() < MAX_CHANGES));
        }
        if head.kind == Kind::BodyDropped.number() && self.absent.first().is_some() {
            let entry = Entry::decode(encoded).map_err(fault)?;
            // What it names and is there was read before it was dropped; what comes behind it, it cannot know.
            let named = entry.content.dropped.as_deref().and_then(Places::read);
            self.claimed.extend(named.map(|named| named.ending_before(index)));
        }
        self.push(leaf_hash)
    }

    /// The next entry, whose body is absent; `leaf_hash` is what the log's tree has in its place. A later entry must say that
    /// it was dropped, under a checkpoint, or [`Verifier::finish`] names it.
    ///
    /// # Errors
    /// As [`Verifier::entry`].
    pub fn dropped(&mut self, leaf_hash: &Hash, encoded: &[u8]) -> Result<(), Fault> {
        let index = self.edge.size();
        self.absent.push(index);
        self.dropped += 1;
        self.leaf(leaf_hash, encoded)
    }

    /// The next leaf record, without regard to its body; `leaf_hash` is what the log's tree has in its place.
    ///
    /// # Errors
    /// As [`Verifier::entry`].
    pub fn leaf(&mut self, leaf_hash: &Hash, encoded: &[u8]) -> Result<(), Fault> {
        let index = self.edge.size();
        let leaf = Leaf::decode(encoded).map_err(|error| Fault::Entry { index, error })?;
        if leaf.index != index {
            return Err(Fault::OtherIndex { index, found: leaf.index });
        }
        if super::leaf_hash(encoded) != *leaf_hash {
            return Err(Fault::OtherEntry { index });
        }
        self.push(leaf_hash)
    }

    /// The hash that the tree has in the next entry's place, where nothing else is known of it.
    ///
    /// # Errors
    /// When a checkpoint of the log up to here does not agree.
    pub fn hash(&mut self, leaf_hash: &Hash) -> Result<(), Fault> {
        self.push(leaf_hash)
    }

    /// A signed checkpoint of as many entries as were read, or of more.
    ///
    /// # Errors
    /// When it is none, comes too late, or does not agree.
    pub fn checkpoint(&mut self, note: &str) -> Result<(), Fault> {
        let size = Checkpoint::parse_unverified(note)?.size();
        self.not_late(size)?;
        if self.waiting >= MAX_AHEAD {
            return Err(Fault::TooManyAhead);
        }
        let notes = self.ahead.entry(size).or_default();
        if !notes.iter().any(|known| known == note) {
            notes.push(note.to_owned());
            self.waiting += 1;
        }
        self.reached()
    }

    /// The verdict, when no more comes.
    ///
    /// # Errors
    /// When entries are missing, or nothing vouches for those that are there.
    pub fn finish(mut self) -> Result<Verdict, Fault> {
        let entries = self.edge.size();
        for kept in &self.kept {
            let size = kept.unverified.size();
            // where the log ends before it, so may what leads to its key
            let (root, since) = kept.met.ok_or(Fault::Cut { entries, size })?;
            if self.signed(&kept.note)?.is_none() {
                return Err(Fault::Stranger { size });
            }
            if root != *kept.unverified.root() {
                return Err(Fault::Root { size, since });
            }
        }
        for (size, notes) in std::mem::take(&mut self.ahead) {
            for note in notes {
                if self.signed(&note)?.is_some() {
                    return Err(Fault::Cut { entries, size });
                }
                self.others += 1;
            }
        }
        let Some(checkpoint) = self.verified else { return Err(Fault::Unsigned(self.key)) };
        if let Some(index) = self.absent.first() {
            return Err(Fault::NoBody { index });
        }
        let uncovered = entries.saturating_sub(checkpoint.size());
        let key = self.later.pop().unwrap_or(self.key);
        Ok(Verdict { entries, dropped: self.dropped, checkpoint, uncovered, others: self.others, key })
    }

    fn push(&mut self, leaf_hash: &Hash) -> Result<(), Fault> {
        self.edge.push(*leaf_hash);
        self.reached()
    }

    /// Compares the log up to here with what is known of this size.
    fn reached(&mut self) -> Result<(), Fault> {
        let size = self.edge.size();
        for kept in self.kept.iter_mut().filter(|kept| kept.met.is_none() && kept.unverified.size() == size) {
            kept.met = Some((self.edge.root(), self.agreed));
        }
        let mut notes = self.ahead.remove(&size).unwrap_or_default();
        self.waiting -= notes.len();
        // One checkpoint may cover the change to the key that signed another of the same size.
        loop {
            let before = notes.len();
            let mut unsigned = Vec::new();
            for note in notes {
                match self.signed(&note)? {
                    Some((checkpoint, key)) => {
                        self.agrees(&checkpoint)?;
                        self.verified = Some(checkpoint);
                        for dropped in std::mem::take(&mut self.claimed) {
                            self.absent.take(&dropped);
                        }
                        self.covered(&key)?;
                    }
                    None => unsigned.push(note),
                }
            }
            notes = unsigned;
            if notes.len() == before {
                self.others += before as u64;
                return Ok(());
            }
        }
    }

    fn agrees(&mut self, checkpoint: &Checkpoint) -> Result<(), Fault> {
        if *checkpoint.root() != self.edge.root() {
            return Err(Fault::Root { size: checkpoint.size(), since: self.agreed });
        }
        self.agreed = checkpoint.size();
        Ok(())
    }

    /// Believes the keys that `key` handed over to: a checkpoint of its own covers the change.
    fn covered(&mut self, key: &LogKey) -> Result<(), Fault> {
        let (ours, others): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.changes).into_iter().partition(|change| follows(change, key));
        self.changes = others;
        for change in ours {
            let named: Option<LogKey> = change.new.parse().ok();
            let next = named.filter(|next| next.name() == key.name()).ok_or(Fault::Key { size: self.edge.size() })?;
            if !self.keys().any(|known| *known == next) {
                self.later.push(next);
            }
        }
        Ok(())
    }

    /// What a note says and which believed key signed it; `None` where none did.
    fn signed(&self, note: &str) -> Result<Option<(Checkpoint, LogKey)>, Fault> {
        for key in self.keys() {
            match Checkpoint::parse_and_verify(note, key) {
                Ok(checkpoint) => return Ok(Some((checkpoint, key.clone()))),
                Err(CheckpointError::Note(NoteError::Unsigned(_)) | CheckpointError::OtherLog { .. }) => {}
                Err(error) => return Err(error.into()),
            }
        }
        Ok(None)
    }

    /// The keys that are believed, the newest first.
    fn keys(&self) -> impl Iterator<Item = &LogKey> {
        self.later.iter().rev().chain([&self.key])
    }

    fn not_late(&self, size: u64) -> Result<(), Fault> {
        let after = self.edge.size();
        if size >= after { Ok(()) } else { Err(Fault::Late { size, after }) }
    }
}

// === impl Head ===

impl Head {
    fn of(encoded: &[u8]) -> Result<Self, minicbor::decode::Error> {
        let mut decoder = Decoder::new(encoded);
        decoder.map()?;
        field(&mut decoder, 0)?;
        decoder.u8()?;
        field(&mut decoder, 1)?;
        decoder.bytes()?;
        field(&mut decoder, 2)?;
        let time = decoder.i64()?;
        field(&mut decoder, 3)?;
        decoder.bytes()?;
        field(&mut decoder, 4)?;
        decoder.str()?;
        field(&mut decoder, 5)?;
        decoder.map()?;
        field(&mut decoder, 0)?;
        Ok(Self { time, kind: decoder.u8()? })
    }
}

fn field(decoder: &mut Decoder<'_>, number: u8) -> Result<(), minicbor::decode::Error> {
    match decoder.u8()? == number {
        true => Ok(()),
        false => Err(minicbor::decode::Error::message("its fields are not those of an entry")),
    }
}
