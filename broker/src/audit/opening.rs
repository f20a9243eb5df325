//! Opening a log: nothing is added to one that is not the continuation of what was signed and anchored.

use std::sync::Arc;

use ichor_wire::log::tree::{Edge, Hash, TILE_WIDTH};
use ichor_wire::log::{Checkpoint, CheckpointError, Entry, Kind, LogKey};
use jiff::Timestamp;

use crate::store::{EntryFilter, Grown, Store, StoreError, StoredCheckpoint};

use super::anchor::AnchorError;
use super::as_recorded;
use super::notary::{NotSigned, Notary, Signed};
use super::standing::Standing;
use super::verify::{Faulty, VerifyError, verify_from};

/// So many of the newest entries are checked at the least; `ichor-broker audit verify` checks them all.
const TAIL: u64 = 1_000;

/// So many changes of the key are looked at to say which of them is not known here.
const CHANGES: u32 = 1_000;

/// What is known of a log from outside its database.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Known {
    /// Whether this log has been signed before: then it has a checkpoint.
    pub is_signed: bool,
    /// The anchors that it has been written to, as [`super::anchor::Anchor::said`] names them.
    pub anchored: Vec<String>,
    /// The key that signed it last.
    pub key: Option<String>,
    /// The key that it is about to be changed to.
    pub next: Option<String>,
    /// The changes of its key: the place of each one's entry, and what the key before signed of it.
    pub rotations: Vec<(u64, String)>,
}

/// A log that is what was signed and anchored, with its newest tree vouched for.
#[derive(Debug)]
pub struct Opened {
    /// How many entries there are.
    pub entries: u64,
    /// What vouches for it: an anchor that only a witness is may be out already.
    pub standing: Standing,
}

/// Why a log is not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum OpenError {
    /// The store cannot be read or written.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// An entry is not what was recorded.
    #[error(transparent)]
    Log(#[from] VerifyError),
    /// There was a checkpoint once.
    #[error(
        "its checkpoint is missing, though it has been signed before: the database is not the one that was; {RESTORE}"
    )]
    NoCheckpoint,
    /// The checkpoint is not ours.
    #[error("its checkpoint is not one that our key signed: {0}; {RESTORE}")]
    Checkpoint(#[from] CheckpointError),
    /// Another key signed the checkpoint, and the log says that it was changed from ours to that.
    #[error(
        "entry {0} of it changes the log's key to another than the one here, which signed its checkpoint: where `audit rotate-key` was run at \
         another broker of this database, copy `secrets/audit-key*` and `secrets/audit-log.toml` from its vault; where nobody did that, keep \
         this database as evidence and put the right one back"
    )]
    Rotated(u64),
    /// The checkpoint's row was edited: with a larger number in it, later checkpoints would not be kept.
    #[error("its checkpoint's row says {said} entries, and what was signed there says {signed}; {RESTORE}")]
    Row {
        /// What the row says.
        said: u64,
        /// What the note says.
        signed: u64,
    },
    /// Fewer entries than were signed or anchored.
    #[error("it has {found} entries where {who} says {said}: it was cut or rolled back; {RESTORE}")]
    Shorter {
        /// Who says more.
        who: String,
        /// How many it says.
        said: u64,
        /// How many there are.
        found: u64,
    },
    /// The same number of entries, but others.
    #[error("its first {size} entries are not those that {who} names, one of them was changed; {RESTORE}")]
    Other {
        /// Who names others.
        who: String,
        /// How many it speaks of.
        size: u64,
    },
    /// An entry that was not signed yet hands the log over to a key that is not its next one.
    #[error("its entry {0} names another key of the log, and nobody here has changed to that; {RESTORE}")]
    Key(u64),
    /// An entry that was not signed yet has lost its body: what would be signed is not known.
    #[error("its entry {0} was not signed yet, and has no body; {RESTORE}")]
    Hollow(u64),
    /// A restore made this database, and nobody has said yet that the log goes on from there: it may have gone on under its name.
    #[error(
        "its entry {0} tells of a restore, and what came after the backup may have been signed under the same name; run \
         `ichor-broker audit reopen --reason …`, which goes on under the next one"
    )]
    Restored(u64),
    /// An anchor that was written to holds nothing any more.
    #[error("{0} was written to before and holds nothing now; put it back, or {REOPEN}")]
    AnchorGone(String),
    /// An anchor cannot be asked, or knows another log.
    #[error("{0}")]
    Anchor(#[from] AnchorError),
    /// The key does not sign.
    #[error(transparent)]
    Sign(#[from] NotSigned),
}

/// What to do about a log that is not what it was.
const RESTORE: &str = "keep this database as evidence and put the right one back, or, where an older one was restored on \
                       purpose, run `ichor-broker audit reopen --reason …`";

/// What the act of a restore names its backup by, among its digests. From that entry on nothing is signed until the log was opened
/// again: whoever restored it knows that there was more, and no anchor need know.
pub const RESTORED: &str = "restored";

/// Whether the entry tells that a restore made this database.
pub(super) fn is_restore(entry: &Entry) -> bool {
    entry.content.digests.as_ref().is_some_and(|digests| digests.contains_key(RESTORED))
}

const REOPEN: &str = "run `ichor-broker audit reopen --reason …`";

/// Returns once the log is known to continue what was signed and anchored, and its newest tree is signed, anchored and kept.
///
/// From the last checkpoint on everything is read: entries, columns, leaves, the tiles that they completed; of what lies before
/// the tree's edge, so that the cost does not grow with the log.
///
/// # Errors
/// When it does not, naming what differs; then nothing was written.
pub async fn open(store: &dyn Store, notary: &Notary, known: &Known, now: Timestamp) -> Result<Opened, OpenError> {
    // what vouches is taken before the log's end: other brokers append meanwhile, and what they have signed is then part of it
    let kept = store.checkpoint().await?;
    let mut held = Vec::new();
    for anchor in notary.anchors() {
        held.push((anchor.said(), anchor.held().await));
    }
    let size = store.head().await?.size;
    let signed = signed_before(store, notary, known, kept, size).await?;
    let tree = tail(store, notary.log(), known, signed, size).await?;
    for (who, note) in held {
        match note? {
            Some(note) => {
                let checkpoint = ours(store, notary.log(), known, &note, signed).await?;
                agrees(store, &who, &checkpoint, size).await?;
            }
            None if known.anchored.contains(&who) => return Err(OpenError::AnchorGone(who)),
            None => {}
        }
    }
    attest(store, notary, Arc::new(Grown { edge: tree, tiles: Vec::new() }), now).await
}

/// Signs and anchors the tree, whatever was signed before, and keeps the checkpoint.
///
/// # Errors
/// When it is not signed, or an anchor that can be read does not take it.
pub async fn attest(store: &dyn Store, notary: &Notary, tree: Arc<Grown>, now: Timestamp) -> Result<Opened, OpenError> {
    let entries = tree.edge.size();
    let vouched = notary.vouch(store, tree, true).await;
    let mut standing = Standing::default();
    standing.take(&vouched, notary.grace, now);
    if let Some(Err(error @ AnchorError::Forked { .. })) = &vouched.anchored {
        return Err(error.clone().into());
    }
    let signed: Signed = vouched.signed?;
    let there = store.append(Vec::new(), Some(signed.stored())).await?.tree;
    // of a longer one the sequencer looks at what came in between
    if there.edge.size() == entries && there.edge.root() != *signed.checkpoint.root() {
        return Err(OpenError::Other { who: "its own tree".into(), size: entries });
    }
    Ok(Opened { entries, standing })
}

impl Known {
    /// Whether this was the log's key, as far as is known outside the database.
    fn was_key(&self, old: &LogKey) -> bool {
        let has_signed = |(_, note): &(u64, String)| Checkpoint::parse_and_verify(note, old).is_ok();
        self.key.as_ref().is_none_or(|key| *key == old.to_string()) || self.rotations.iter().any(has_signed)
    }

    /// Whether the entry at this place leaves the log with a key that it was changed to here.
    fn leads_on(&self, place: u64, entry: &Entry, log: &LogKey) -> bool {
        let Some(change) = Some(&entry.content).filter(|content| content.kind == Kind::AuditKey) else { return true };
        let new = change.log_key.as_ref().map(|change| change.new.as_str());
        self.rotations.iter().any(|(at, _)| *at == place)
            || new.is_some_and(|new| new == log.to_string() || Some(new) == self.next.as_deref())
    }
}

/// How many entries the kept checkpoint speaks of, once it is known to be ours and to fit; 0 for a log that was never signed.
async fn signed_before(
    store: &dyn Store,
    notary: &Notary,
    known: &Known,
    kept: Option<StoredCheckpoint>,
    size: u64,
) -> Result<u64, OpenError> {
    let Some(kept) = kept else {
        return if known.is_signed { Err(OpenError::NoCheckpoint) } else { Ok(0) };
    };
    let checkpoint = match ours(store, notary.log(), known, &kept.note, kept.size).await {
        Err(OpenError::Checkpoint(refused)) => {
            return Err(changed_to(store, notary.log(), &kept.note).await?.map_or(refused.into(), OpenError::Rotated));
        }
        checked => checked?,
    };
    if checkpoint.size() != kept.size {
        return Err(OpenError::Row { said: kept.size, signed: checkpoint.size() });
    }
    agrees(store, "its checkpoint", &checkpoint, size).await?;
    Ok(checkpoint.size())
}

/// The place of an entry that says that our key was followed by the one that signed this note. Whether that is lawful only the vault knows
/// where it was done.
async fn changed_to(store: &dyn Store, log: &LogKey, note: &str) -> Result<Option<u64>, OpenError> {
    let filter = EntryFilter { kind: Some(Kind::AuditKey), ..EntryFilter::default() };
    let mut key = log.clone();
    let mut first = None;
    for stored in store.entries_from(&filter, 0, CHANGES).await? {
        let content = as_recorded(&stored, None).ok().flatten().map(|entry| entry.content);
        let Some(change) = content.and_then(|content| content.log_key) else { continue };
        let (Some(old), Ok(new)) = (change.old, change.new.parse::<LogKey>()) else { continue };
        if old == key.to_string() {
            first = first.or(Some(stored.index));
            key = new;
        }
    }
    Ok(first.filter(|_| Checkpoint::parse_and_verify(note, &key).is_ok()))
}

/// The checkpoint in a note that our key signed, or the key before, if an entry from `from` on says that ours follows it, and that
/// was the log's as far as is known outside the database.
async fn ours(store: &dyn Store, log: &LogKey, known: &Known, note: &str, from: u64) -> Result<Checkpoint, OpenError> {
    let refused = match Checkpoint::parse_and_verify(note, log) {
        Ok(checkpoint) => return Ok(checkpoint),
        Err(refused) => refused,
    };
    let since = Checkpoint::parse_unverified(note).map_or(from, |checkpoint| checkpoint.size().min(from));
    // a key is changed while no broker runs: the entry that says so is among the last
    for stored in store.entry_range(since.saturating_sub(1)..since.saturating_add(TAIL)).await? {
        let content = as_recorded(&stored, None).ok().flatten().map(|entry| entry.content);
        let Some(change) = content.filter(|content| content.kind == Kind::AuditKey).and_then(|it| it.log_key) else {
            continue;
        };
        let old = change.old.and_then(|old| old.parse::<LogKey>().ok()).filter(|old| known.was_key(old));
        if let Some(old) = old.filter(|_| change.new == log.to_string()) {
            return Ok(Checkpoint::parse_and_verify(note, &old)?);
        }
    }
    Err(refused.into())
}

/// Whether the log begins with the tree that the checkpoint speaks of.
async fn agrees(store: &dyn Store, who: &str, checkpoint: &Checkpoint, size: u64) -> Result<(), OpenError> {
    let (who, said) = (who.to_owned(), checkpoint.size());
    if said > size {
        return Err(OpenError::Shorter { who, said, found: size });
    }
    if store.edge(said).await?.root() != *checkpoint.root() {
        return Err(OpenError::Other { who, size: said });
    }
    Ok(())
}

/// Reads everything from the last checkpoint on, and answers the tree of the whole log. What was not signed yet is there whole, and
/// names no key but the log's. It may have grown meanwhile.
async fn tail(store: &dyn Store, log: &LogKey, known: &Known, signed: u64, size: u64) -> Result<Edge, OpenError> {
    let from = signed.min(size.saturating_sub(TAIL));
    let from = from - from % TILE_WIDTH as u64;
    let (mut edge, mut tiles) = (store.edge(from).await?, Vec::new());
    let mut foreign = None;
    let each = |leaf: Hash, body: Option<&Entry>| {
        let place = edge.size();
        if place >= signed && body.is_some_and(is_restore) && foreign.is_none() {
            foreign = Some(OpenError::Restored(place));
        }
        if place >= signed && known.is_signed && foreign.is_none() {
            foreign = match body {
                None => Some(OpenError::Hollow(place)),
                Some(entry) if !known.leads_on(place, entry, log) => Some(OpenError::Key(place)),
                Some(_) => None,
            };
        }
        tiles.extend(edge.push(leaf));
    };
    let size = verify_from(store, from, size, each).await?;
    if let Some(foreign) = foreign {
        return Err(foreign);
    }
    for tile in tiles {
        let (level, index) = (tile.level, tile.index);
        if store.tile(level, index).await? != Some(tile) {
            return Err(VerifyError::Tile(Faulty { level, index }).into());
        }
    }
    // what an append goes on from is what was just read
    if store.edge(size).await? != edge {
        return Err(OpenError::Other { who: "its own tree".into(), size });
    }
    Ok(edge)
}
