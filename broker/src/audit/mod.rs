//! The record. A [`Recorded`] value is the proof that its entry is durable; only this room makes one, after the commit.

mod dropping;
mod query;
mod recorded;
mod sequencer;
mod story;
mod tally;
mod verify;

pub use dropping::{NextBodies, drop_bodies, next_bodies};
pub use query::{QueryError, check_cursor, entries, entries_from};
pub(crate) use recorded::sealed;
pub use recorded::{Recordable, Recorded};
pub(crate) use sequencer::note_size;
pub use sequencer::{RecordError, Sequencer, Settings};
pub use story::{NotAnId, Story, StoryId, story};
pub use tally::Tally;
pub use verify::{Fault, VerifyError, VerifyReport, verify_log, verify_tail};

#[cfg(test)]
mod tests;
