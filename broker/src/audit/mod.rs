//! The record. A [`Recorded`] value is the proof that its entry is durable; only this room makes one, after the commit.

mod query;
mod recorded;
mod sequencer;

pub(crate) use recorded::sealed;
pub use recorded::{Recordable, Recorded};
pub use sequencer::{RecordError, Sequencer, Settings};

#[cfg(test)]
mod tests;
