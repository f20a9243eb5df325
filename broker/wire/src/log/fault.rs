//! What can be wrong with a log.

use super::export::ReadError;
use super::{CheckpointError, LogError, LogKey};

/// Where a log is not what it should be.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Fault {
    /// The export cannot be read.
    #[error(transparent)]
    Read(#[from] ReadError),
    /// The export does not go on where it should.
    #[error("the export goes on at entry {found}; entry {expected} is missing")]
    Gap {
        /// The entry that should come.
        expected: u64,
        /// The entry that comes.
        found: u64,
    },
    /// An entry is none.
    #[error("entry {index} does not fit: {error}")]
    Entry {
        /// Its index.
        index: u64,
        /// What is wrong with it.
        error: LogError,
    },
    /// An entry is not the one that the tree has.
    #[error("entry {index} does not fit: the log's tree has another one in its place")]
    OtherEntry {
        /// Its index.
        index: u64,
    },
    /// A leaf record stands in another's place.
    #[error("entry {index} does not fit: in its place stands the leaf record of entry {found}")]
    OtherIndex {
        /// The place.
        index: u64,
        /// What the record says.
        found: u64,
    },
    /// A body is absent for no reason that the log gives.
    #[error("entry {index} has no body, and no signed entry behind it says that it was dropped")]
    NoBody {
        /// Its index.
        index: u64,
    },
    /// The tree is another.
    #[error("the log does not fit its checkpoint of {size} entries: one from {since} to {} was changed", .size.saturating_sub(1))]
    Root {
        /// The checkpoint's size.
        size: u64,
        /// The first entry that no earlier checkpoint vouched for.
        since: u64,
    },
    /// Entries are missing at the end.
    #[error(
        "the log ends at {entries} entries, but a checkpoint says it had {size}: entry {entries} and what follows is missing"
    )]
    Cut {
        /// How many entries there are.
        entries: u64,
        /// How many there were.
        size: u64,
    },
    /// A checkpoint is none, or its signature is not valid.
    #[error("a checkpoint of the log does not hold: {0}")]
    Checkpoint(#[from] CheckpointError),
    /// A checkpoint that was kept elsewhere is of no key that is believed.
    #[error(
        "the checkpoint of {size} entries that it is held against is signed by no key that the log leads to from the one given"
    )]
    Stranger {
        /// The checkpoint's size.
        size: u64,
    },
    /// A checkpoint comes too late to be compared.
    #[error("a checkpoint of {size} entries stands behind entry {after}, too late to be compared")]
    Late {
        /// The checkpoint's size.
        size: u64,
        /// How many entries had been read.
        after: u64,
    },
    /// More checkpoints than a log has reason to have.
    #[error("the export has more than 100,000 checkpoints of entries that it does not have")]
    TooManyAhead,
    /// The log names a key that cannot be one.
    #[error("one of the first {size} entries names a key of the log that is none")]
    Key {
        /// The size of the checkpoint that covers it.
        size: u64,
    },
    /// Nothing vouches for what was read.
    #[error("no checkpoint of the log is signed by the key `{0}`")]
    Unsigned(
        /// The key that was given.
        LogKey,
    ),
}
