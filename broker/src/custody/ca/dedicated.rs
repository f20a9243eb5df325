//! A client CA born in custody.

use ichor_wire::profile::{BuildError, CaCertificate, CaError, CaProfile, KeyAlgorithm, Span, assemble, ca_tbs};
use jiff::{SignedDuration, Timestamp};

use super::{CaMaterial, KeyMismatch};
use crate::custody::{KeyLoadError, LocalSigner, SignError, Signer, ToBeSigned};
use crate::domain::ClusterName;
use crate::entropy::{self, EntropyError};

/// How long a dedicated CA lasts unless told otherwise, in years of 365 days.
///
/// Half of what Talos gives its own: replacing one means a patch on every node, so it should not come often; but a CA that
/// outlives everyone who remembers it is worse. `check` warns long before the end.
pub const DEFAULT_YEARS: u16 = 5;

/// The longest, in years: as Talos' own.
const MAX_YEARS: u16 = 10;

/// The subject of every dedicated CA, before its cluster's name.
pub(in crate::custody) const DEDICATED: &str = "O=ichor, CN=ichor client CA ";

/// Nodes refuse a CA whose time has not come, and their clocks may be behind.
const BACKDATE: SignedDuration = SignedDuration::from_hours(1);

/// Why no CA was made.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CreateError {
    /// More than ten years, or none.
    #[error("a CA can last 1 to 10 years, not {0}")]
    Years(u16),
    /// No random values.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
    /// No key.
    #[error(transparent)]
    Key(#[from] KeyLoadError),
    /// No signature.
    #[error(transparent)]
    Sign(#[from] SignError),
    /// The certificate could not be built.
    #[error(transparent)]
    Build(#[from] BuildError),
    /// The finished certificate is not what it should be.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// The finished certificate has another key.
    #[error(transparent)]
    Mismatch(#[from] KeyMismatch),
}

/// The certificate of a dedicated CA before its own key signed it.
pub(in crate::custody) struct Draft {
    tbs: Vec<u8>,
    algorithm: KeyAlgorithm,
    now: Timestamp,
}

/// A new CA for one cluster's client certificates, in memory: Ed25519, subject `O=ichor, CN=ichor client CA <cluster>`,
/// CA:TRUE with path length 0, key usage keyCertSign, extended key usage clientAuth, random key identifier.
///
/// So it can make neither another CA nor a certificate with which to pose as a node. It can sign any role: guard it like
/// the cluster's own.
///
/// # Errors
/// When `years` is out of bounds, or something failed; then there is no CA.
pub fn create(cluster: &ClusterName, now: Timestamp, years: u16) -> Result<CaMaterial, CreateError> {
    let signer = LocalSigner::generate()?;
    let draft = Draft::new(cluster, now, years, signer.public_key(), signer.algorithm())?;
    let signature = signer.sign_now(&draft.to_be_signed())?;
    Ok(CaMaterial::new(draft.finish(&signature)?, signer)?)
}

// === impl Draft ===

impl Draft {
    /// The profile of a dedicated CA over this public key.
    pub(in crate::custody) fn new(
        cluster: &ClusterName,
        now: Timestamp,
        years: u16,
        public_key: &[u8],
        algorithm: KeyAlgorithm,
    ) -> Result<Self, CreateError> {
        if !(1..=MAX_YEARS).contains(&years) {
            return Err(CreateError::Years(years));
        }
        let life = SignedDuration::from_hours(24 * 365 * i64::from(years));
        Self::named(&format!("ichor client CA {cluster}"), now, life, public_key, algorithm)
    }

    /// The same profile for a CA of another name and life; the name is cut to 64 characters.
    pub(in crate::custody) fn named(
        name: &str,
        now: Timestamp,
        life: SignedDuration,
        public_key: &[u8],
        algorithm: KeyAlgorithm,
    ) -> Result<Self, CreateError> {
        let late = |e: jiff::Error| CreateError::Build(BuildError::Encoding(e.to_string()));
        let not_before = now.checked_sub(BACKDATE).map_err(late)?;
        let tbs = ca_tbs(&CaProfile {
            name,
            public_key,
            key_id: entropy::bytes()?,
            serial: entropy::bytes()?,
            span: Span { not_before, not_after: now.checked_add(life).map_err(late)? },
        })?;
        Ok(Self { tbs, algorithm, now })
    }

    /// What the CA's own key is to sign.
    pub(in crate::custody) fn to_be_signed(&self) -> ToBeSigned {
        ToBeSigned::ca_self_signature(&self.tbs)
    }

    /// The certificate, if the signature is the CA's.
    pub(in crate::custody) fn finish(&self, signature: &[u8]) -> Result<CaCertificate, CreateError> {
        let der = assemble(&self.tbs, self.algorithm.signature_algorithm(), signature)?;
        let certificate = CaCertificate::from_der(&der).map_err(|error| match error {
            CaError::SelfSignature => CreateError::Sign(SignError::Wrong),
            error => CreateError::Ca(error),
        })?;
        certificate.check_time(self.now)?;
        Ok(certificate)
    }
}

#[cfg(test)]
mod tests {
    use x509_parser::prelude::{FromDer, X509Certificate};

    use super::*;

    #[test]
    fn can_only_make_client_certificates() {
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        let ca = create(&ClusterName::new("prod").unwrap(), now, DEFAULT_YEARS).unwrap();
        let (_, parsed) = X509Certificate::from_der(ca.certificate().der()).unwrap();
        let constraints = parsed.basic_constraints().unwrap().unwrap();
        assert!(constraints.critical && constraints.value.ca);
        assert_eq!(constraints.value.path_len_constraint, Some(0));
        let usage = parsed.key_usage().unwrap().unwrap();
        assert!(usage.critical);
        assert_eq!(usage.value.flags, 1 << 5, "keyCertSign and nothing else");
        let extended = parsed.extended_key_usage().unwrap().unwrap().value;
        assert!(extended.client_auth && !extended.server_auth && !extended.any && extended.other.is_empty());
        assert_eq!(parsed.subject().to_string(), "O=ichor, CN=ichor client CA prod");
        assert_eq!(ca.certificate().key_id().unwrap().len(), 20);
        assert_eq!(parsed.extensions().len(), 4);
        assert_eq!(ca.certificate().not_before(), "2026-11-22T11:00:00Z".parse().unwrap());
        assert_eq!(ca.certificate().not_after(), "2031-11-21T12:00:00Z".parse().unwrap());
    }

    #[test]
    fn no_two_are_alike() {
        let now = "2026-11-22T12:00:00Z".parse().unwrap();
        let name = ClusterName::new("prod").unwrap();
        let (one, two) = (create(&name, now, 1).unwrap(), create(&name, now, 1).unwrap());
        assert_ne!(one.certificate().key_id(), two.certificate().key_id());
        assert_ne!(one.certificate().public_key(), two.certificate().public_key());
        assert_eq!(create(&name, now, 11).unwrap_err(), CreateError::Years(11));
        // The longest name that a cluster can have.
        create(&ClusterName::new(&"a".repeat(63)).unwrap(), now, 1).unwrap();
    }
}
