//! A CA in the company's PKI engine: the engine makes the certificates, from roles of its own.
//!
//! What stands in a certificate comes from the engine's role alone, so the roles are compared field by field ([`shape`]), and the
//! token may do nothing that goes around them ([`powers`]). Whatever comes back is judged by the issuer all the same.

mod plan;
mod powers;
mod role_set;
mod shape;

use std::collections::BTreeSet;
use std::sync::{Mutex, PoisonError};

use ichor_wire::profile::{CaCertificate, CaError, pem};
use ichor_wire::role::Role;

use crate::domain::ClusterName;
use crate::openbao::{BaoError, Kind, Pki, Signed};

pub use plan::{Plan, Planned, plan};
use role_set::is_person_role;
pub use role_set::{NoRoleSet, RoleSet};
pub use shape::Difference;
use shape::{differences, wanted};

/// What an engine is asked to certify. Made of a recorded grant
/// ([`Recorded::to_be_certified`](crate::audit::Recorded::to_be_certified)), nowhere else: the source test lists the callers.
/// ```
/// # use ichor_broker::custody::{PkiCustody, PkiError, ToBeCertified};
/// async fn certify(engine: &PkiCustody, what: ToBeCertified<'_>) -> Result<Vec<u8>, PkiError> {
///     engine.certify(what, 900).await
/// }
/// ```
/// ```compile_fail,E0624
/// # use ichor_broker::custody::ToBeCertified;
/// fn ask(csr: &[u8]) -> ToBeCertified<'_> {
///     ToBeCertified::granted(csr, &[], "")
/// }
/// ```
#[derive(Debug)]
pub struct ToBeCertified<'a> {
    csr: &'a [u8],
    roles: &'a [Role],
    user: &'a str,
}

/// A cluster's CA in the engine, checked. Certificates come from its roles.
#[derive(Debug)]
pub struct PkiCustody {
    pki: Pki,
    cluster: ClusterName,
    role_per_person: bool,
    /// The names of roles that were read and found right.
    known: Mutex<BTreeSet<String>>,
}

/// What is expected of an engine, as the CA's record says it.
#[derive(Clone, Copy, Debug)]
pub struct Pinned<'a> {
    /// The cluster whose CA it is.
    pub cluster: &'a ClusterName,
    /// The CA's certificate.
    pub certificate: &'a CaCertificate,
    /// The sets of roles that the engine must have a role for.
    pub role_sets: &'a [RoleSet],
    /// Whether we make a role for each person and set.
    pub role_per_person: bool,
}

/// Why a PKI engine is not used, or made no certificate.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PkiError {
    /// The server says no.
    #[error(transparent)]
    Bao(#[from] BaoError),
    /// The engine's CA cannot issue client certificates.
    #[error("the CA of the PKI engine at `{mount}` cannot be used: {why}")]
    Ca {
        /// The mount.
        mount: String,
        /// Why.
        why: CaError,
    },
    /// The engine signs with another CA than the one imported.
    #[error(
        "the PKI engine at `{mount}` answers with another CA ({found}) than the one that was imported; if that is meant, import \
         it with `ichor-broker ca import {cluster} --custody pki --replace`"
    )]
    OtherCa {
        /// The mount.
        mount: String,
        /// The subject of the one that it has.
        found: String,
        /// The cluster.
        cluster: ClusterName,
    },
    /// No role for a set of roles.
    #[error(
        "there is no PKI role `{name}` at `{mount}`; `ichor-broker custody plan {cluster} --roles {set}` says what it has to be"
    )]
    NoRole {
        /// The mount.
        mount: String,
        /// The role.
        name: String,
        /// The cluster.
        cluster: ClusterName,
        /// Its set.
        set: String,
    },
    /// A role is not what it has to be.
    #[error(
        "in the PKI role `{name}` {first}{more}; `ichor-broker custody apply {cluster} --reason …`, with an operator's `--token-file`, corrects it"
    )]
    Role {
        /// Mount and role.
        name: String,
        /// The first difference.
        first: Box<Difference>,
        /// How many others there are, in words.
        more: String,
        /// The cluster.
        cluster: ClusterName,
    },
    /// The token may go around the roles.
    #[error(
        "our token may use `{0}`, which goes around the roles; give the broker a policy like deploy/openbao/pki.hcl, \
         which allows `sign/` of its own roles and nothing else"
    )]
    TooMuch(String),
    /// The token may sign by roles that are none of the cluster's.
    #[error(
        "our token may use `{0}`, a role that nobody compared with what it has to be; give the broker a policy like \
         deploy/openbao/pki.hcl, which allows `sign/` of its own roles and nothing else"
    )]
    OthersRole(String),
    /// The token may change the roles, and nobody said that it may.
    #[error(
        "our token may write `{0}`, so the roles bound nothing; give the broker a policy like deploy/openbao/pki.hcl, or say that you \
         want it with `--role-per-person` at `ca import`"
    )]
    WritesRoles(String),
    /// The token may not do what it has to.
    #[error("our token may not use `{path}`; give its policy {what} there, as deploy/openbao has it")]
    MayNot {
        /// The path.
        path: String,
        /// What is missing.
        what: &'static str,
    },
    /// What came back is no certificate.
    #[error("what came back from the PKI engine is no certificate")]
    Garbage,
}

/// So many names of right roles are remembered; past that they are looked at again.
const REMEMBERED: usize = 10_000;

// === impl PkiCustody ===

impl PkiCustody {
    /// The CA in the engine, once all that can be checked was checked: it is the pinned one, the roles are what they have to be,
    /// and our token may do no more than it should.
    ///
    /// # Errors
    /// When it is not to be used, or cannot be reached.
    pub async fn open(pki: Pki, pinned: Pinned<'_>) -> Result<Self, PkiError> {
        let Pinned { cluster, certificate, role_sets, role_per_person } = pinned;
        let found = ca(&pki).await?;
        if found.fingerprint() != certificate.fingerprint() {
            let (mount, found) = (pki.mount().to_owned(), found.subject().to_owned());
            return Err(PkiError::OtherCa { mount, found, cluster: cluster.clone() });
        }
        let engine = Self { pki, cluster: cluster.clone(), role_per_person, known: Mutex::default() };
        let roles = if role_per_person {
            // any will do: they all begin alike, and none need be there
            RoleSet::of(&[Role::Reader]).map(|set| set.person_role_name(cluster, "")).into_iter().collect()
        } else {
            for set in role_sets {
                engine.check_role(set, None).await?;
            }
            role_sets.iter().map(|set| set.role_name(cluster)).collect::<Vec<_>>()
        };
        powers::check(&engine.pki, cluster, &roles, role_per_person).await?;
        Ok(engine)
    }

    /// Whether its certificates name the person.
    #[must_use]
    pub fn names_person(&self) -> bool {
        self.role_per_person
    }

    /// What is wrong with the engine's roles for each of these alone. Nothing where it makes one for each person, when it is needed.
    pub async fn lacking(&self, granted: &[Role]) -> Vec<PkiError> {
        let mut lacking = Vec::new();
        for set in granted.iter().filter_map(|role| RoleSet::of(&[*role])).filter(|_| !self.role_per_person) {
            if !self.known().contains(&self.name(&set, None)) {
                lacking.extend(self.check_role(&set, None).await.err());
            }
        }
        lacking
    }

    /// What the engine made of the request: DER, not believed in anything yet. It is to end `seconds` from when the engine makes it.
    ///
    /// # Errors
    /// When there is no role for it, the role is not what it has to be, or nothing was made.
    pub async fn certify(&self, what: ToBeCertified<'_>, seconds: u64) -> Result<Vec<u8>, PkiError> {
        let user = self.role_per_person.then_some(what.user);
        let set = RoleSet::of(what.roles).ok_or(PkiError::Garbage)?;
        let csr = pem::encode("CERTIFICATE REQUEST", what.csr);
        let name = self.role(&set, user).await?;
        let signed = match self.pki.sign(&name, &csr, seconds).await {
            Err(error) if is_unknown_role(&error) => {
                // it was there once; nothing was made, so it may be asked again
                self.known().remove(&name);
                self.pki.sign(&self.role(&set, user).await?, &csr, seconds).await?
            }
            signed => signed?,
        };
        der(&signed)
    }

    /// The name of the role for a set, once it was seen to be what it has to be. One of a person's own is made where it is not.
    async fn role(&self, set: &RoleSet, user: Option<&str>) -> Result<String, PkiError> {
        let name = self.name(set, user);
        if self.known().contains(&name) {
            return Ok(name);
        }
        match (self.check_role(set, user).await, user) {
            (Err(PkiError::NoRole { .. } | PkiError::Role { .. }), Some(user)) => {
                tracing::info!(cluster = %self.cluster, role = name, "a PKI role is made for a person");
                self.pki.write_role(&name, &wanted(set, Some(user))).await?;
                self.check_role(set, Some(user)).await?;
            }
            (checked, _) => checked?,
        }
        Ok(name)
    }

    /// Reads a role and compares every field.
    async fn check_role(&self, set: &RoleSet, user: Option<&str>) -> Result<(), PkiError> {
        let (name, mount) = (self.name(set, user), self.pki.mount().to_owned());
        let cluster = self.cluster.clone();
        let Some(role) = self.pki.role(&name).await? else {
            return Err(PkiError::NoRole { mount, name, cluster, set: set.to_string().replace('.', ",") });
        };
        if let Some(error) = PkiError::differing(format!("{mount}/{name}"), &cluster, differences(&role, set, user)) {
            return Err(error);
        }
        let mut known = self.known();
        if known.len() >= REMEMBERED {
            known.clear();
        }
        known.insert(name);
        Ok(())
    }

    fn name(&self, set: &RoleSet, user: Option<&str>) -> String {
        match user {
            Some(user) => set.person_role_name(&self.cluster, user),
            None => set.role_name(&self.cluster),
        }
    }

    fn known(&self) -> std::sync::MutexGuard<'_, BTreeSet<String>> {
        self.known.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

// === impl PkiError ===

impl PkiError {
    /// The error of a role with these differences; `None` where there are none.
    fn differing(name: String, cluster: &ClusterName, found: Vec<Difference>) -> Option<Self> {
        let mut found = found.into_iter();
        let first = Box::new(found.next()?);
        let others: Vec<&str> = found.map(|difference| difference.field).collect();
        let more = if others.is_empty() { String::new() } else { format!(" (and so on: {})", others.join(", ")) };
        Some(Self::Role { name, first, more, cluster: cluster.clone() })
    }
}

// === impl ToBeCertified ===

impl<'a> ToBeCertified<'a> {
    /// The key of a request, for these roles and, where the engine can name one, this user. Only the recorded grant calls this.
    pub(crate) fn granted(csr: &'a [u8], roles: &'a [Role], user: &'a str) -> Self {
        Self { csr, roles, user }
    }
}

/// The certificate of the CA that the engine signs with, if it can issue client certificates.
///
/// # Errors
/// When it cannot, or cannot be asked.
pub(super) async fn ca(pki: &Pki) -> Result<CaCertificate, PkiError> {
    let text = pki.ca().await?;
    CaCertificate::parse(&text).map_err(|why| PkiError::Ca { mount: pki.mount().to_owned(), why })
}

fn is_unknown_role(error: &BaoError) -> bool {
    matches!(error.kind(), Kind::Refused(words) if words.contains("unknown role"))
}

/// The one certificate of the answer.
fn der(signed: &Signed) -> Result<Vec<u8>, PkiError> {
    let blocks = pem::blocks(&signed.certificate).map_err(|_| PkiError::Garbage)?;
    match blocks.as_slice() {
        [block] if block.label == "CERTIFICATE" => Ok(block.der.to_vec()),
        _ => Err(PkiError::Garbage),
    }
}

#[cfg(test)]
mod tests;
