//! Places outside the database where the log's newest checkpoint lies, so that an older database is found out.

mod cosignature;
mod file;
mod kv;
mod witness;

use ichor_wire::log::{Checkpoint, LogKey};

use crate::store::Store;

use super::notary::Signed;

#[cfg(test)]
pub(in crate::audit) use cosignature::tests::cosigned;
pub use cosignature::{WitnessKey, WitnessKeyError};
pub use file::FileAnchor;
pub use kv::KvAnchor;
pub use witness::Witness;

/// A place outside the database.
#[derive(Debug)]
#[non_exhaustive]
pub enum Anchor {
    /// A file on another disk.
    File(FileAnchor),
    /// A secret of KV version 2.
    Kv(KvAnchor),
    /// A witness that cosigns.
    Witness(Witness),
}

/// The newest checkpoint is not at an anchor.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum AnchorError {
    /// It cannot be reached, or refuses. Another try may help.
    #[error("{anchor}: {why}")]
    Failing {
        /// Which.
        anchor: String,
        /// Why.
        why: String,
    },
    /// It has seen more of the log than we have: another broker signed meanwhile. Another try with the newest tree helps.
    #[error("{anchor} has seen {seen} entries, and ours are {ours} so far")]
    Ahead {
        /// Which.
        anchor: String,
        /// How many it has seen.
        seen: u64,
        /// How many there are in the tree that it was shown.
        ours: u64,
    },
    /// It holds a log that ours is not the continuation of. No further try helps.
    #[error("{anchor} knows another log than ours: {why}")]
    Forked {
        /// Which.
        anchor: String,
        /// How they differ.
        why: String,
    },
}

// === impl Anchor ===

impl Anchor {
    /// What it is, for people. It identifies the anchor among those of a log.
    #[must_use]
    pub fn said(&self) -> String {
        match self {
            Self::File(file) => file.said(),
            Self::Kv(kv) => kv.said(),
            Self::Witness(witness) => witness.said(),
        }
    }

    /// Whether what it holds can be read back before it is written to.
    #[must_use]
    pub fn can_be_read(&self) -> bool {
        !matches!(self, Self::Witness(_))
    }

    /// The note that it holds; `None` where it holds none, or cannot be read.
    ///
    /// # Errors
    /// When it cannot be reached.
    pub async fn held(&self) -> Result<Option<String>, AnchorError> {
        match self {
            Self::File(file) => file.held().await,
            Self::Kv(kv) => kv.held().await,
            Self::Witness(_) => Ok(None),
        }
    }

    /// Returns once this checkpoint, or a later one of the same log that another broker signed, lies there durably, with the lines that a
    /// witness signed.
    ///
    /// # Errors
    /// When it does not.
    pub(super) async fn hold(&self, store: &dyn Store, log: &LogKey, signed: &Signed) -> Result<String, AnchorError> {
        let later = match self {
            Self::File(file) => file.hold(signed).await?,
            Self::Kv(kv) => kv.hold(signed).await?,
            Self::Witness(witness) => return witness.cosign(store, log, signed).await,
        };
        if let Some(later) = later {
            Later { store, log, anchor: &self.said() }.is_ours(signed, &later).await?;
        }
        Ok(String::new())
    }
}

/// What a note of more entries than ours is held against.
struct Later<'a> {
    store: &'a dyn Store,
    log: &'a LogKey,
    /// Where it was found.
    anchor: &'a str,
}

impl Later<'_> {
    /// Returns if the note is one that our key signed of a log that begins with ours: of the one in the database, which another broker
    /// has appended to.
    async fn is_ours(&self, signed: &Signed, later: &str) -> Result<(), AnchorError> {
        let Self { store, log, anchor } = *self;
        let forked = |why: String| AnchorError::Forked { anchor: anchor.to_owned(), why };
        let failing = |error: crate::store::StoreError| AnchorError::failing(anchor, error);
        let ours = signed.checkpoint.size();
        let later = Checkpoint::parse_and_verify(later, log).map_err(|error| {
            forked(format!("it was written with {} entries, ours has {ours}, and not by our key: {error}", size(later)))
        })?;
        let there = store.head().await.map_err(failing)?.size;
        if later.size() > there {
            return Err(forked(format!("it was written with {} entries, ours has {there}", later.size())));
        }
        for checkpoint in [&signed.checkpoint, &later] {
            if store.edge(checkpoint.size()).await.map_err(failing)?.root() != *checkpoint.root() {
                return Err(forked(format!("its {} entries are not those of the database", later.size())));
            }
        }
        Ok(())
    }
}

/// How many entries the note says there are; 0 where it is no checkpoint.
fn size(note: &str) -> u64 {
    Checkpoint::parse_unverified(note).map_or(0, |checkpoint| checkpoint.size())
}

// === impl AnchorError ===

impl AnchorError {
    fn failing(anchor: &str, why: impl std::fmt::Display) -> Self {
        Self::Failing { anchor: anchor.to_owned(), why: why.to_string() }
    }
}
