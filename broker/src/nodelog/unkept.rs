//! Why a batch was not kept: whether another try may help.

use crate::audit::RecordError;
use crate::store::{Condition, StoreError};

/// Why a batch was not kept.
pub(super) enum Unkept {
    /// The store may take it at another time.
    Now(String),
    /// No store takes it at any time.
    Ever(String),
}

// === impl Unkept ===

impl From<StoreError> for Unkept {
    fn from(error: StoreError) -> Self {
        Self::Now(error.to_string())
    }
}

impl From<RecordError> for Unkept {
    fn from(error: RecordError) -> Self {
        match error {
            // what a database has no room for; anything else passes, as a clock that went back does
            RecordError::Refused(Condition::Stale) => Self::Ever(error.to_string()),
            _ => Self::Now(error.to_string()),
        }
    }
}

impl std::fmt::Display for Unkept {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (Self::Now(why) | Self::Ever(why)) = self;
        f.write_str(why)
    }
}
