//! Why a lock was not set or lifted.

use crate::audit::{LedgerError, RecordError};
use crate::domain::BadReason;
use crate::entropy::EntropyError;
use crate::policy::Refusal;
use crate::store::StoreError;

/// Why a lock was not set or lifted. Nothing has changed then.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LockError {
    /// No such lock, or none that this person may see.
    #[error("there is no such lock")]
    Unknown,
    /// What is to be locked cannot be.
    #[error("{0}")]
    Bad(String),
    /// Policy, or a rule of the house, says no; that is recorded.
    #[error("{}", .0.sentence)]
    Refused(Refusal),
    /// Nothing could be recorded, so nothing was done.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The log is not what was recorded.
    #[error(transparent)]
    Log(#[from] LedgerError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

impl From<BadReason> for LockError {
    fn from(bad: BadReason) -> Self {
        Self::Bad(bad.to_string())
    }
}
