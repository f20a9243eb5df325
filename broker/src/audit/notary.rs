//! The notary signs the log's tree and lays the checkpoint where the database's writer cannot reach it.

use std::sync::Arc;

use ichor_wire::log::{Checkpoint, CheckpointError, LogKey, LogKeyError};
use jiff::SignedDuration;

use crate::custody::{AuditKey, SignError};
use crate::store::{Grown, Store, StoreError, StoredCheckpoint};

use super::anchor::{Anchor, AnchorError};

/// A checkpoint that is signed, and the tree that it speaks of.
#[derive(Clone, Debug)]
pub struct Signed {
    /// The tree.
    pub tree: Arc<Grown>,
    /// What was signed.
    pub checkpoint: Checkpoint,
    /// The signed note, with the lines of witnesses.
    pub note: Arc<str>,
}

/// For how long certificates are issued without what should vouch for their record.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Grace {
    /// While the audit key is out.
    pub key: SignedDuration,
    /// While an anchor fails.
    pub anchor: SignedDuration,
}

/// Signs checkpoints of one log and anchors them.
#[derive(Debug)]
pub struct Notary {
    key: AuditKey,
    log: LogKey,
    anchors: Vec<Anchor>,
    pub(super) grace: Grace,
}

/// Why a tree is not signed.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum NotSigned {
    /// The key did not sign.
    #[error(transparent)]
    Key(#[from] SignError),
    /// What it signed is no checkpoint of this log.
    #[error(transparent)]
    Checkpoint(#[from] CheckpointError),
    /// It has entries of somebody else that are not to be signed.
    #[error("{0}; find out who writes the database")]
    Foreign(String),
    /// Entries of somebody else could not be looked at.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What came of vouching for a tree.
#[derive(Debug)]
pub(super) struct Vouched {
    /// The signed checkpoint, as it lies at the anchors.
    pub(super) signed: Result<Signed, NotSigned>,
    /// Whether it lies at all of them; `None` where they were not asked.
    pub(super) anchored: Option<Result<(), AnchorError>>,
}

// === impl Notary ===

impl Notary {
    /// The notary of the log of this name.
    ///
    /// # Errors
    /// When a log cannot be called that.
    pub fn new(key: AuditKey, name: &str, anchors: Vec<Anchor>, grace: Grace) -> Result<Self, LogKeyError> {
        let log = LogKey::ed25519(name, &key.public_key())?;
        Ok(Self { key, log, anchors, grace })
    }

    /// The key that verifies what it signs; its name is the log's.
    #[must_use]
    pub fn log(&self) -> &LogKey {
        &self.log
    }

    /// Where the newest checkpoint lies outside the database.
    #[must_use]
    pub fn anchors(&self) -> &[Anchor] {
        &self.anchors
    }

    /// The tree's checkpoint, signed.
    ///
    /// # Errors
    /// When the key does not sign.
    pub async fn sign(&self, tree: Arc<Grown>) -> Result<Signed, NotSigned> {
        let checkpoint = Checkpoint::new(&self.log, tree.edge.size(), tree.edge.root());
        let signature = self.key.sign_checkpoint(checkpoint.unsigned_text().as_bytes()).await?;
        let note = checkpoint.signed(&self.log, &signature).map_err(|error| match error {
            // one that its custody changed, where a note of the database would be a forged one
            CheckpointError::Note(_) => NotSigned::Key(SignError::Wrong),
            error => NotSigned::Checkpoint(error),
        })?;
        let note = note.into();
        Ok(Signed { tree, checkpoint, note })
    }

    /// Returns once the checkpoint lies at every anchor, with what witnesses signed. Witnesses come first, so that the others
    /// hold their signatures too; each anchor is tried whatever became of the one before.
    ///
    /// # Errors
    /// When one has it not; the note still has what was signed.
    pub async fn anchor(&self, store: &dyn Store, mut signed: Signed) -> (Signed, Result<(), AnchorError>) {
        let mut all = Ok(());
        let (readable, witnesses): (Vec<_>, Vec<_>) = self.anchors.iter().partition(|anchor| anchor.can_be_read());
        for anchor in witnesses.into_iter().chain(readable) {
            match anchor.hold(store, &self.log, &signed).await {
                Ok(lines) if lines.is_empty() => {}
                Ok(lines) => signed.note = format!("{}{lines}", signed.note).into(),
                // what cannot come right is told rather than what may
                Err(error) if all.is_ok() || matches!(error, AnchorError::Forked { .. }) => all = Err(error),
                Err(_) => {}
            }
        }
        (signed, all)
    }

    /// Signs the tree and, where asked, anchors it.
    pub(super) async fn vouch(&self, store: &dyn Store, tree: Arc<Grown>, with_anchors: bool) -> Vouched {
        match self.sign(tree).await {
            Err(error) => Vouched { signed: Err(error), anchored: None },
            Ok(signed) if !with_anchors => Vouched { signed: Ok(signed), anchored: None },
            Ok(signed) => {
                let (signed, anchored) = self.anchor(store, signed).await;
                Vouched { signed: Ok(signed), anchored: Some(anchored) }
            }
        }
    }
}

// === impl Signed ===

impl Signed {
    /// As it is kept beside the log.
    #[must_use]
    pub fn stored(&self) -> StoredCheckpoint {
        StoredCheckpoint { size: self.checkpoint.size(), note: self.note.to_string() }
    }
}
