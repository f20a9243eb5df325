//! The record. A [`Recorded`] value is the proof that its entry is durable; only this room makes one, after the commit.

pub mod anchor;
mod as_recorded;
mod bare;
mod cas;
mod dropping;
mod ends;
mod every;
mod foreign;
mod ledger;
mod notary;
mod opening;
mod prove;
mod query;
mod recorded;
mod sequencer;
mod standing;
mod story;
mod tally;
mod task;
mod verify;
mod walk;
mod writers;

pub use as_recorded::{NotRecorded, as_recorded};
pub use bare::YOUNGEST_DROPPED;
pub use cas::learn_cas;
pub use dropping::{NextBodies, drop_bodies, drop_id, is_as_asked, next_bodies};
pub use ends::last_end;
pub use every::every_entry_from;
pub use ledger::{Ledger, LedgerError, Said};
pub use notary::{Grace, NotSigned, Notary, Signed};
pub use opening::{Known, OpenError, Opened, RESTORED, attest, open};
pub use prove::{ProveError, consistency, inclusion};
pub use query::{QueryError, check_cursor, entries, entries_from};
pub(crate) use recorded::sealed;
pub use recorded::{Recordable, Recorded};
pub(crate) use sequencer::note_size;
pub use sequencer::{Care, RecordError, Sequencer, Settings};
pub use standing::{Out, Standing};
pub use story::{NotAnId, Story, StoryId, entry_of, story};
pub use tally::Tally;
pub use verify::{Fault, Faulty, VerifyError, VerifyReport, verify_log};
pub use walk::Walk;

#[cfg(test)]
mod opening_tests;
#[cfg(test)]
mod shared_log_tests;
#[cfg(test)]
pub(crate) mod tests;
#[cfg(test)]
mod vouching_tests;
