//! One task owns appends: it takes what has gathered, commits it as one transaction, and answers each writer.

use std::sync::Arc;

use ichor_wire::api::Receipt;
use ichor_wire::log::Content;

use crate::clock::SharedClock;
use crate::store::{Change, Condition, Store, StoreError};

use super::recorded::{Recordable, Recorded};

/// How the sequencer works.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The broker's name in entries.
    pub broker: String,
    /// At most so many entries a commit.
    pub max_batch: usize,
    /// At most so many writers may wait; more are refused at once.
    pub max_waiting: usize,
}

/// Why something was not recorded. Nothing that needed the record may go on.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// A condition failed in the record's own transaction.
    #[error(transparent)]
    Refused(#[from] Condition),
    /// The store could not commit.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// Too many writers wait, or the sequencer has stopped.
    #[error("the record is overloaded or stopping")]
    Overloaded,
    /// The entry cannot be encoded.
    #[error("the entry cannot be encoded: {0}")]
    Entry(String),
}

/// A handle to the sequencer; cheap to clone.
#[derive(Clone, Debug)]
pub struct Sequencer {
    _todo: (),
}

impl Sequencer {
    /// Starts the task. It ends, with everything accepted committed, when the last handle is dropped; the returned handle
    /// can be awaited for that.
    #[must_use]
    pub fn start(store: Arc<dyn Store>, clock: SharedClock, settings: Settings) -> (Self, tokio::task::JoinHandle<()>) {
        let _ = (store, clock, settings);
        unimplemented!()
    }

    /// Returns once the value's entry is durable and its change made.
    ///
    /// # Errors
    /// When it is not: the value is gone and must not take effect.
    pub async fn record<T: Recordable>(&self, value: T) -> Result<Recorded<T>, RecordError> {
        let _ = &value;
        unimplemented!()
    }

    /// Returns once the entry is durable and the change made: for entries that are no evidence for anything to follow.
    ///
    /// # Errors
    /// When it is not.
    pub async fn note(&self, content: Content, change: Option<Change>) -> Result<Receipt, RecordError> {
        let _ = (content, change);
        unimplemented!()
    }
}
