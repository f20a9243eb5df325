//! The record. A [`Recorded`] value is the proof that its entry is durable; only this room makes one, after the commit.

mod query;
mod recorded;
mod sequencer;

pub use query::verify_log;
pub(crate) use recorded::sealed;
pub use recorded::{Recordable, Recorded};
pub use sequencer::{RecordError, Sequencer, Settings};
