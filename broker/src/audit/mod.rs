//! The record. A [`Recorded`] value is the proof that its entry is durable; only this room makes one, after the commit.

mod query;
mod recorded;
mod sequencer;
mod tally;
mod verify;

pub use query::{QueryError, check_cursor, entries};
pub(crate) use recorded::sealed;
pub use recorded::{Recordable, Recorded};
pub(crate) use sequencer::note_size;
pub use sequencer::{RecordError, Sequencer, Settings};
pub use tally::Tally;
pub use verify::{Fault, VerifyError, VerifyReport, verify_log, verify_tail};

#[cfg(test)]
pub(crate) mod tests;
