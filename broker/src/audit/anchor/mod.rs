//! Places outside the database where the log's newest checkpoint lies, so that an older database is found out.

mod cosignature;
mod file;
mod kv;
mod witness;

use crate::store::Store;

use super::notary::Signed;

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

    /// Returns once the checkpoint lies there durably, with the lines that a witness signed.
    ///
    /// # Errors
    /// When it does not.
    pub(super) async fn hold(&self, store: &dyn Store, signed: &Signed) -> Result<String, AnchorError> {
        match self {
            Self::File(file) => file.hold(&signed.note).await.map(|()| String::new()),
            Self::Kv(kv) => kv.hold(&signed.note).await.map(|()| String::new()),
            Self::Witness(witness) => witness.cosign(store, signed).await,
        }
    }
}

// === impl AnchorError ===

impl AnchorError {
    fn failing(anchor: &str, why: impl std::fmt::Display) -> Self {
        Self::Failing { anchor: anchor.to_owned(), why: why.to_string() }
    }
}
