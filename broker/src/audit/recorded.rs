//! `Recorded<T>`: evidence that an entry is durable.

use std::sync::Arc;

use ichor_wire::api::Receipt;
use ichor_wire::log::tree::Hash;
use ichor_wire::log::{Content, Kind};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use crate::custody::{ToBeCertified, ToBeSigned};
use crate::policy::Grant;
use crate::store::{BreakGlassUse, Change};

use super::sequencer::Care;

/// A value whose entry is durable. Built only here, after the commit; neither `Clone` nor `Default` nor `Deserialize`.
///
/// One that exists can be asked where the log has it:
/// ```
/// use ichor_broker::audit::Recorded;
/// use ichor_wire::api::Receipt;
///
/// fn receipt<T>(recorded: &Recorded<T>) -> Receipt {
///     recorded.receipt()
/// }
/// ```
/// None can be made of a value and a place,
/// ```compile_fail,E0624
/// use ichor_broker::audit::Recorded;
///
/// fn recorded<T>(value: T) -> Recorded<T> {
///     Recorded::new(value, todo!())
/// }
/// ```
/// nor written out,
/// ```compile_fail,E0451
/// use ichor_broker::audit::Recorded;
///
/// fn recorded<T>(value: T) -> Recorded<T> {
///     Recorded { value, place: todo!() }
/// }
/// ```
/// nor taken out of a recorded one to be put elsewhere. A receipt, which proves nothing to the broker, can be copied:
/// ```
/// fn twice<T: Clone>(value: &T) -> (T, T) {
///     (value.clone(), value.clone())
/// }
/// fn receipts(receipt: &ichor_wire::api::Receipt) -> impl Sized {
///     twice(receipt)
/// }
/// ```
/// A recorded value cannot, not even where the value itself can:
/// ```compile_fail,E0277
/// fn twice<T: Clone>(value: &T) -> (T, T) {
///     (value.clone(), value.clone())
/// }
/// fn evidence(recorded: &ichor_broker::audit::Recorded<String>) -> impl Sized {
///     twice(recorded)
/// }
/// ```
#[derive(Debug)]
pub struct Recorded<T> {
    value: T,
    place: Place,
}

/// Where the log has an entry, and what proves it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Place {
    pub(super) index: u64,
    pub(super) leaf_hash: Hash,
    /// Absent where nobody asked for it, or the checkpoint is still to come.
    pub(super) proof: Option<Proof>,
}

/// What proves that a log has an entry.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Proof {
    /// The audit path.
    pub(super) path: Vec<Hash>,
    /// The signed checkpoint that it leads to.
    pub(super) checkpoint: Arc<str>,
    /// The encoded entry.
    pub(super) entry: Vec<u8>,
}

/// What may be recorded as evidence: a sealed set of types. A [`Grant`] is one,
/// ```
/// use ichor_broker::audit::{RecordError, Recorded, Sequencer};
/// use ichor_broker::policy::Grant;
///
/// async fn record(sequencer: &Sequencer, grant: Grant) -> Result<Recorded<Grant>, RecordError> {
///     sequencer.record(grant).await
/// }
/// ```
/// a value of another type is not, so what is to be signed cannot be dressed up as recorded:
/// ```compile_fail,E0277
/// use ichor_broker::audit::{RecordError, Recorded, Sequencer};
///
/// async fn record(sequencer: &Sequencer, grant: String) -> Result<Recorded<String>, RecordError> {
///     sequencer.record(grant).await
/// }
/// ```
pub trait Recordable: sealed::Sealed {
    /// When whoever records it is answered.
    const CARE: Care;

    /// The entry's content.
    fn content(&self) -> Content;

    /// The state change that must commit with it, `now` being the entry's time.
    fn change(&self, now: Timestamp) -> Option<Change>;
}

pub(crate) mod sealed {
    /// Only this crate says what may be recorded; the source test lists where.
    pub trait Sealed {}
}

impl<T> Recorded<T> {
    /// Only the sequencer calls this, with what the store answered.
    pub(super) fn new(value: T, place: Place) -> Self {
        Self { value, place }
    }

    /// What was recorded.
    #[must_use]
    pub fn value(&self) -> &T {
        &self.value
    }

    #[cfg(test)]
    pub(super) fn place(&self) -> &Place {
        &self.place
    }

    /// Where the log has it, with the proof where there is one.
    #[must_use]
    pub fn receipt(&self) -> Receipt {
        self.place.receipt()
    }
}

impl Place {
    /// As clients are told.
    pub(super) fn receipt(&self) -> Receipt {
        let receipt = Receipt::pending(self.index, &self.leaf_hash);
        match &self.proof {
            Some(Proof { path, checkpoint, entry }) => receipt.with_proof(entry, path, checkpoint.to_string()),
            None => receipt,
        }
    }
}

impl Recorded<Grant> {
    /// The to-be-signed part of a certificate for this grant: the one way to bytes that a CA key signs for a client. That
    /// they say what was granted is judged of the finished certificate.
    ///
    /// ```
    /// # use ichor_broker::{audit::Recorded, custody::ToBeSigned, policy::Grant};
    /// fn sign(grant: &Recorded<Grant>, tbs: &[u8]) -> ToBeSigned {
    ///     grant.to_be_signed(tbs)
    /// }
    /// ```
    /// A grant that is not recorded has no such way.
    /// ```compile_fail,E0599
    /// # use ichor_broker::{audit::Recorded, custody::ToBeSigned, policy::Grant};
    /// fn sign(grant: &Grant, tbs: &[u8]) -> ToBeSigned {
    ///     grant.to_be_signed(tbs)
    /// }
    /// ```
    #[must_use]
    pub fn to_be_signed(&self, tbs: &[u8]) -> ToBeSigned {
        ToBeSigned::certificate(tbs)
    }
}

impl Recorded<Grant> {
    /// What an engine that certifies by itself is asked for this grant: the one way to a certificate of its for a client.
    ///
    /// ```
    /// # use ichor_broker::{audit::Recorded, custody::ToBeCertified, policy::Grant};
    /// fn ask(grant: &Recorded<Grant>) -> ToBeCertified<'_> {
    ///     grant.to_be_certified()
    /// }
    /// ```
    /// A grant that is not recorded has no such way.
    /// ```compile_fail,E0599
    /// # use ichor_broker::{audit::Recorded, custody::ToBeCertified, policy::Grant};
    /// fn ask(grant: &Grant) -> ToBeCertified<'_> {
    ///     grant.to_be_certified()
    /// }
    /// ```
    #[must_use]
    pub fn to_be_certified(&self) -> ToBeCertified<'_> {
        ToBeCertified::granted(self.value.csr(), self.value.roles(), self.value.user())
    }
}

impl sealed::Sealed for Grant {}

impl Recordable for Grant {
    // its outcome is recorded before anything leaves
    const CARE: Care = Care::Step;

    fn content(&self) -> Content {
        Content {
            person: Some(self.person().logged(self.name(), self.user())),
            cluster: Some(self.cluster().as_str().into()),
            grant: Some(self.id().0.into_bytes().to_vec()),
            session: self.session().map(|session| session.0.into_bytes().to_vec()),
            address: Some(self.address().to_string()),
            roles: Some(self.roles().iter().map(|role| role.as_str().into()).collect()),
            not_after: Some(self.not_after().as_second()),
            reason: self.reason().map(Into::into),
            policies: Some(self.policies().to_vec()),
            public_key: Some(Sha256::digest(self.public_key()).to_vec()),
            mode: Some(self.mode().as_str().into()),
            policy_digest: Some(self.policy_digest().to_vec()),
            os_user: self.os_user().map(Into::into),
            break_glass: self.quorum().map(|quorum| quorum.request.0.into_bytes().to_vec()),
            contents: self.quorum().map(|quorum| quorum.hash.to_vec()),
            quorum: self.quorum().map(|quorum| quorum.needed),
            approvers: self.quorum().map(|quorum| quorum.approvers.clone()),
            self_service: self.quorum().filter(|quorum| quorum.told.is_some()).map(|_| true),
            told: self.quorum().and_then(|quorum| quorum.told.clone()),
            ..Content::of(Kind::Grant)
        }
    }

    fn change(&self, now: Timestamp) -> Option<Change> {
        // only what the broker gives itself has no session: policy's decision asks for one
        let using = self.quorum().map(|quorum| {
            Box::new(BreakGlassUse {
                request: quorum.request,
                hash: quorum.hash,
                grant: self.id(),
                person: quorum.person.clone(),
                jkt: quorum.jkt.clone(),
                quorum: quorum.needed,
                self_service: quorum.told.is_some(),
                uses: quorum.uses,
            })
        });
        let keys = Box::new(self.lock_keys());
        self.session().map(|session| Change::GrantMade { session, now, not_after: self.not_after(), using, keys })
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ichor_wire::log::{self, Entry};
    use jiff::SignedDuration;

    use crate::audit::RecordError;
    use crate::audit::tests::Room;
    use crate::domain::{Cluster, ClusterName, GrantId, Request, Role};
    use crate::identity::fixture::who;
    use crate::policy::{Grant, Limits, PolicySet, Source, decide};
    use crate::store::conformance::{logged_in, noon};
    use crate::store::{Change, Condition, SessionRow, Store};

    use super::*;

    /// A grant for the session's person, as policy makes it.
    fn grant(row: &SessionRow) -> Grant {
        let name = ClusterName::new("prod").unwrap();
        let text =
            r#"@id("everyone") @max_ttl("8h") permit (principal, action == Action::"hold:os:reader", resource);"#;
        let source = Source { name: "test.cedar".into(), text: text.into() };
        let policies = PolicySet::load(&[source], Limits::default()).unwrap();
        let cluster = Cluster {
            name: name.clone(),
            labels: BTreeMap::new(),
            endpoints: Vec::new(),
            nodes: Vec::new(),
            ca: String::new(),
        };
        let request = Request {
            cluster: name,
            roles: vec![Role::Reader],
            ttl: Some(SignedDuration::from_mins(10)),
            reason: Some("INC-4711".into()),
            public_key: b"a public key".to_vec(),
            csr: Vec::new(),
            address: "192.0.2.7".parse().unwrap(),
        };
        let id = GrantId(uuid::Uuid::from_bytes([6; 16]));
        decide(&policies, &who(row), &cluster, &request, None, id, noon()).unwrap()
    }

    #[tokio::test]
    async fn a_grants_entry_says_all_of_it() {
        let room = Room::new([]);
        let row = logged_in(&*room.store, 1).await;
        let recorded = room.sequencer.record(grant(&row)).await.unwrap();
        let stored = room.store.entry_range(1..2).await.unwrap().remove(0);
        let content = Entry::decode(&stored.body.unwrap()).unwrap().content;
        let expected = Content {
            person: Some(log::Person {
                provider: "corp".into(),
                issuer: "https://id.example.com".into(),
                subject: "subject".into(),
                name: "Ada".into(),
                user: "ada".into(),
            }),
            cluster: Some("prod".into()),
            grant: Some(vec![6; 16]),
            session: Some(vec![1; 16]),
            address: Some("192.0.2.7".into()),
            roles: Some(vec!["os:reader".into()]),
            not_after: Some((noon() + SignedDuration::from_mins(10)).as_second()),
            reason: Some("INC-4711".into()),
            policies: Some(vec!["everyone".into()]),
            public_key: Some(Sha256::digest("a public key").to_vec()),
            mode: Some("direct".into()),
            policy_digest: Some(recorded.value().policy_digest().to_vec()),
            ..Content::of(Kind::Grant)
        };
        assert_eq!(content, expected);
    }

    #[tokio::test]
    async fn case_28_a_session_that_ended_after_the_decision_gets_no_recorded_grant() {
        let room = Room::new([]);
        let row = logged_in(&*room.store, 1).await;
        let decided = grant(&row);
        let end = Change::SessionEnd { session: row.id, now: noon() };
        room.sequencer.note(Content::of(Kind::SessionEnd), Some(end)).await.unwrap();
        let refused = room.sequencer.record(decided).await.unwrap_err();
        assert_eq!(refused, RecordError::Refused(Condition::SessionEnded));
        assert_eq!(room.store.head().await.unwrap().size, 2, "login and end, no grant");
    }

    #[tokio::test]
    async fn a_session_that_expired_after_the_decision_gets_no_recorded_grant() {
        let room = Room::new([]);
        let row = logged_in(&*room.store, 1).await;
        let decided = grant(&row);
        room.clock.advance(SignedDuration::from_hours(1));
        let refused = room.sequencer.record(decided).await.unwrap_err();
        assert_eq!(refused, RecordError::Refused(Condition::SessionEnded));
    }

    #[tokio::test]
    async fn a_grant_that_is_over_before_it_is_recorded_is_none() {
        let room = Room::new([]);
        let row = logged_in(&*room.store, 1).await;
        let decided = grant(&row);
        room.clock.advance(SignedDuration::from_mins(10));
        assert_eq!(room.sequencer.record(decided).await.unwrap_err(), RecordError::Refused(Condition::GrantOver));
        assert_eq!(room.store.head().await.unwrap().size, 1, "the login, no grant");
    }
}
