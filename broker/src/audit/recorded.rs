//! `Recorded<T>`: evidence that an entry is durable.

use ichor_wire::api::Receipt;
use ichor_wire::log::Content;
use jiff::Timestamp;

use crate::policy::Grant;
use crate::store::Change;

/// A value whose entry is durable. Built only here, after the commit; neither `Clone` nor `Default` nor `Deserialize`.
#[derive(Debug)]
pub struct Recorded<T> {
    value: T,
    index: u64,
    leaf_hash: [u8; 32],
}

/// What may be recorded as evidence: a sealed set of types.
pub trait Recordable: sealed::Sealed {
    /// The entry's content.
    fn content(&self) -> Content;

    /// The state change that must commit with it, `now` being the entry's time.
    fn change(&self, now: Timestamp) -> Option<Change>;
}

pub(crate) mod sealed {
    /// Only this crate says what may be recorded.
    pub trait Sealed {}
}

impl<T> Recorded<T> {
    /// Only the sequencer calls this, with what the store answered.
    pub(super) fn new(value: T, index: u64, leaf_hash: [u8; 32]) -> Self {
        Self { value, index, leaf_hash }
    }

    /// What was recorded.
    #[must_use]
    pub fn value(&self) -> &T {
        &self.value
    }

    /// Where the log has it.
    #[must_use]
    pub fn receipt(&self) -> Receipt {
        Receipt { index: self.index, leaf_hash: data_encoding::HEXLOWER.encode(&self.leaf_hash) }
    }
}

impl sealed::Sealed for Grant {}

impl Recordable for Grant {
    fn content(&self) -> Content {
        // filled by the audit room
        unimplemented!()
    }

    fn change(&self, now: Timestamp) -> Option<Change> {
        Some(Change::GrantMade { session: self.session(), now, not_after: self.not_after() })
    }
}
