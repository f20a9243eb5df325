//! `Recorded<T>`: evidence that an entry is durable.

use ichor_wire::api::Receipt;
use ichor_wire::log::{self, Content, Kind};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

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
        let person = self.person();
        Content {
            person: Some(log::Person {
                provider: person.provider.as_str().into(),
                issuer: person.issuer.clone(),
                subject: person.subject.clone(),
                name: self.name().into(),
                user: self.user().into(),
            }),
            cluster: Some(self.cluster().as_str().into()),
            grant: Some(self.id().0.into_bytes().to_vec()),
            session: Some(self.session().0.into_bytes().to_vec()),
            address: Some(self.address().to_string()),
            roles: Some(self.roles().iter().map(|role| role.as_str().into()).collect()),
            not_after: Some(self.not_after().as_second()),
            reason: self.reason().map(Into::into),
            policies: Some(self.policies().to_vec()),
            public_key: Some(Sha256::digest(self.public_key()).to_vec()),
            mode: Some(self.mode().as_str().into()),
            policy_digest: Some(self.policy_digest().to_vec()),
            ..Content::of(Kind::Grant)
        }
    }

    fn change(&self, now: Timestamp) -> Option<Change> {
        Some(Change::GrantMade { session: self.session(), now, not_after: self.not_after() })
    }
}
