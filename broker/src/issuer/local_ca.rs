//! Issues with a CA whose key a signer holds.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use ichor_wire::profile::{
    self, BuildError, CaCertificate, Expected, Mismatch, Names, Profile, SignatureAlgorithm, assemble, judge, tbs,
};
use jiff::{SignedDuration, Timestamp};

use super::{IssueError, Issued, Issuer};
use crate::audit::Recorded;
use crate::custody::{SignError, Signer};
use crate::domain::ClusterName;
use crate::entropy;
use crate::policy::Grant;

/// Builds certificates itself and has custody sign them.
pub struct LocalCa {
    cluster: ClusterName,
    signer: Arc<dyn Signer>,
    ca: CaCertificate,
    pem: Arc<str>,
    algorithm: SignatureAlgorithm,
    backdate: SignedDuration,
}

// === impl LocalCa ===

impl LocalCa {
    /// An issuer of the cluster's certificates, which begin `backdate` before they are made (at most
    /// [`MAX_BACKDATE`](ichor_wire::profile::MAX_BACKDATE), else nothing is issued).
    ///
    /// The signer's key must be the certificate's, as custody checks when it opens a CA; where it is not, every certificate
    /// fails its judgement and none is issued.
    #[must_use]
    pub fn new(cluster: ClusterName, signer: Arc<dyn Signer>, ca: CaCertificate, backdate: SignedDuration) -> Self {
        let algorithm = ca.algorithm().signature_algorithm();
        let pem = ca.pem().into();
        Self { cluster, signer, ca, pem, algorithm, backdate }
    }

    /// The CA's certificate.
    #[must_use]
    pub fn certificate(&self) -> &CaCertificate {
        &self.ca
    }
}

#[async_trait]
impl Issuer for LocalCa {
    fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    fn dedicated_ca(&self) -> Option<&CaCertificate> {
        Some(&self.ca)
    }

    async fn issue(&self, grant: Recorded<Grant>, now: Timestamp) -> Result<Issued, IssueError> {
        let granted = grant.value();
        let span = profile::span(&self.ca, now, self.backdate, granted.not_after())?;
        let tbs = tbs(&Profile {
            ca: &self.ca,
            serial: entropy::bytes().map_err(|error| IssueError::Build(error.to_string()))?,
            public_key: granted.public_key(),
            roles: granted.roles(),
            user: granted.user(),
            grant: granted.id().0.into(),
            span,
        })?;
        let signature = self.signer.sign(grant.to_be_signed(&tbs)).await?;
        let der = assemble(&tbs, self.algorithm, &signature)?;
        // Read anew with another parser and held against the grant, not against what was built.
        let expected = Expected {
            public_key: granted.public_key(),
            roles: granted.roles(),
            names: Names::Whole { user: granted.user(), grant: granted.id().0.into() },
            until: granted.not_after(),
            now,
        };
        let facts = judge(&der, &expected, &self.ca).map_err(|found| match found {
            Mismatch::Signature => SignError::Wrong.into(),
            found => IssueError::Mismatch(found.to_string()),
        })?;
        Ok(Issued::new(grant, facts, der, Arc::clone(&self.pem)))
    }
}

impl fmt::Debug for LocalCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalCa").field("subject", &self.ca.subject()).finish_non_exhaustive()
    }
}

// === impl IssueError ===

impl From<BuildError> for IssueError {
    fn from(error: BuildError) -> Self {
        match error {
            BuildError::Ca(_) | BuildError::Over(_) | BuildError::TooLong(_) => Self::Validity(error.to_string()),
            other => Self::Build(other.to_string()),
        }
    }
}

impl From<SignError> for IssueError {
    /// A signature by another key is no outage: somebody answers in the CA's place.
    fn from(error: SignError) -> Self {
        match error {
            SignError::Wrong => Self::Mismatch(error.to_string()),
            error => Self::Custody(error.to_string()),
        }
    }
}

#[cfg(test)]
pub(super) mod tests;
