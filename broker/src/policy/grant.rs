//! The grant: permission as a value.

use std::net::{IpAddr, Ipv4Addr};

use ichor_wire::profile::CsrKey;
use jiff::Timestamp;

use crate::domain::{Cluster, ClusterName, GrantId, Person, Request, Role, SessionId};
use crate::identity::Identity;
use crate::store::LockKeys;

use super::answer::Permission;
use super::evaluate::given;
use super::quorum::Quorum;

/// Policy's yes. Only [`super::decide`] makes one, and for the broker itself [`super::probe`] and
/// [`super::delegation`]; it is neither `Clone` nor `Deserialize`, and has no test constructor.
///
/// Who holds a grant may read it:
/// ```
/// fn read(grant: &ichor_broker::policy::Grant) -> ichor_broker::domain::GrantId {
///     grant.id()
/// }
/// ```
/// but nobody else makes one, from nothing or from another,
/// ```compile_fail,E0451
/// fn build(grant: ichor_broker::policy::Grant) -> ichor_broker::policy::Grant {
///     ichor_broker::policy::Grant { roles: Vec::new(), ..grant }
/// }
/// ```
/// changes one,
/// ```compile_fail,E0616
/// fn change(grant: &mut ichor_broker::policy::Grant) {
///     grant.roles = Vec::new();
/// }
/// ```
/// or makes two of one. What passes for its mode
/// ```
/// fn twice<T: Clone>(value: &T) -> (T, T) {
///     (value.clone(), value.clone())
/// }
/// let _ = twice::<ichor_broker::policy::Mode>;
/// ```
/// does not for the grant,
/// ```compile_fail,E0277
/// fn twice<T: Clone>(value: &T) -> (T, T) {
///     (value.clone(), value.clone())
/// }
/// let _ = twice::<ichor_broker::policy::Grant>;
/// ```
/// and what passes for a problem document
/// ```
/// fn read<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
///     serde_json::from_str(text).ok()
/// }
/// let _ = read::<ichor_wire::problem::Problem>;
/// ```
/// does not for a grant.
/// ```compile_fail,E0277
/// fn read<T: serde::de::DeserializeOwned>(text: &str) -> Option<T> {
///     serde_json::from_str(text).ok()
/// }
/// let _ = read::<ichor_broker::policy::Grant>;
/// ```
/// ```
/// fn some<T: Default>() -> T {
///     T::default()
/// }
/// let _ = some::<ichor_broker::policy::Limits>;
/// ```
/// ```compile_fail,E0277
/// fn some<T: Default>() -> T {
///     T::default()
/// }
/// let _ = some::<ichor_broker::policy::Grant>;
/// ```
#[derive(Debug)]
pub struct Grant {
    id: GrantId,
    person: Person,
    name: String,
    user: String,
    session: Option<SessionId>,
    cluster: ClusterName,
    roles: Vec<Role>,
    not_after: Timestamp,
    mode: Mode,
    policies: Vec<String>,
    policy_digest: [u8; 32],
    reason: Option<String>,
    public_key: Vec<u8>,
    csr: Vec<u8>,
    address: IpAddr,
    os_user: Option<String>,
    quorum: Option<Quorum>,
}

/// What the broker gives itself. Only the functions beside [`super::probe`] make one, so that there are few such grants and
/// each is one of them.
pub(super) struct Errand<'a> {
    pub(super) role: Role,
    pub(super) not_after: Timestamp,
    pub(super) reason: &'static str,
    /// The operating-system user whose command it is for, where it is for one.
    pub(super) os_user: Option<&'a str>,
}

/// Where a certificate of the grant is good.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mode {
    /// At the nodes themselves.
    Direct,
}

impl Grant {
    /// The grant that policy's yes makes: for this identity in this session, as the request has it.
    pub(super) fn new(
        approved: Permission<'_>,
        identity: &Identity,
        session: SessionId,
        request: &Request,
        quorum: Option<&Quorum>,
        id: GrantId,
        policy_digest: [u8; 32],
    ) -> Self {
        let mut policies: Vec<_> = approved.deciding().iter().map(|(_, rule)| rule.id.clone()).collect();
        policies.sort();
        policies.dedup();
        Self {
            id,
            person: identity.person().clone(),
            name: identity.name().into(),
            user: identity.user().into(),
            session: Some(session),
            cluster: request.cluster.clone(),
            roles: approved.roles(),
            not_after: quorum.map_or(approved.not_after(), |quorum| approved.not_after().min(quorum.good_until)),
            mode: Mode::Direct,
            policies,
            policy_digest,
            reason: given(request.reason.as_deref()).map(Into::into),
            public_key: request.public_key.clone(),
            csr: request.csr.clone(),
            address: request.address,
            os_user: None,
            quorum: quorum.cloned(),
        }
    }

    /// What the broker gives itself for one of its errands.
    pub(super) fn of_system(
        system: &Identity,
        cluster: &Cluster,
        key: CsrKey,
        id: GrantId,
        errand: &Errand<'_>,
        policy_digest: [u8; 32],
    ) -> Self {
        Self {
            id,
            person: system.person().clone(),
            name: system.name().into(),
            user: system.user().into(),
            session: None,
            cluster: cluster.name.clone(),
            roles: vec![errand.role],
            not_after: errand.not_after,
            mode: Mode::Direct,
            policies: Vec::new(),
            policy_digest,
            reason: Some(errand.reason.into()),
            public_key: key.spki,
            csr: key.der,
            address: IpAddr::V4(Ipv4Addr::LOCALHOST),
            os_user: errand.os_user.map(Into::into),
            quorum: None,
        }
    }

    /// The grant's id.
    #[must_use]
    pub fn id(&self) -> GrantId {
        self.id
    }

    /// Whom it was given to.
    #[must_use]
    pub fn person(&self) -> &Person {
        &self.person
    }

    /// The person's name as the provider tells it; the certificate's CN is [`Self::user`], not this.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The value behind `user:` in the certificate: printable ASCII without blanks and `,;=()`, at most 59 bytes.
    #[must_use]
    pub fn user(&self) -> &str {
        &self.user
    }

    /// The session it was given in; only what the broker gives itself has none.
    #[must_use]
    pub fn session(&self) -> Option<SessionId> {
        self.session
    }

    /// The cluster it is for.
    #[must_use]
    pub fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    /// The roles, sorted, never empty.
    #[must_use]
    pub fn roles(&self) -> &[Role] {
        &self.roles
    }

    /// Nothing made of the grant outlives this.
    #[must_use]
    pub fn not_after(&self) -> Timestamp {
        self.not_after
    }

    /// Where its certificate is good.
    #[must_use]
    pub fn mode(&self) -> Mode {
        self.mode
    }

    /// The deciding policies, by `@id`.
    #[must_use]
    pub fn policies(&self) -> &[String] {
        &self.policies
    }

    /// SHA-256 of the policy set that decided.
    #[must_use]
    pub fn policy_digest(&self) -> &[u8; 32] {
        &self.policy_digest
    }

    /// The reason the person gave.
    #[must_use]
    pub fn reason(&self) -> Option<&str> {
        self.reason.as_deref()
    }

    /// The key to certify: SubjectPublicKeyInfo, DER.
    #[must_use]
    pub fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    /// The request that proved possession of the key (PKCS#10, DER). Names in it are the client's own words.
    #[must_use]
    pub fn csr(&self) -> &[u8] {
        &self.csr
    }

    /// The operating-system user on the broker's host whose command it is for; none where a person asked.
    #[must_use]
    pub fn os_user(&self) -> Option<&str> {
        self.os_user.as_deref()
    }

    /// What others approved, where the grant is made of that.
    #[must_use]
    pub fn quorum(&self) -> Option<&Quorum> {
        self.quorum.as_ref()
    }

    /// What a lock on it would be on.
    #[must_use]
    pub fn lock_keys(&self) -> LockKeys {
        let keys = LockKeys::of(&self.person, self.session, Some(self.cluster.as_str().into()));
        LockKeys { grant: Some(self.id), ..keys }
    }

    /// Where the request came from.
    #[must_use]
    pub fn address(&self) -> IpAddr {
        self.address
    }
}

impl Mode {
    /// The mode in words, as entries have it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Direct => "direct",
        }
    }
}
