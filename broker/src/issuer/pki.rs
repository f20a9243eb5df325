//! Has a PKI engine make the certificate, from the engine's own role for the roles granted.
//!
//! The engine cannot name the grant, and names the person only where there is a role of the person's own. What comes back is
//! believed in nothing: it is judged against the grant and the pinned CA as every other certificate is.

use std::fmt;
use std::sync::Arc;

use async_trait::async_trait;
use ichor_wire::profile::{self, CLOCK_SLACK, CaCertificate, Expected, Names, judge};
use jiff::{SignedDuration, Timestamp};

use super::{IssueError, Issued, Issuer};
use crate::audit::Recorded;
use crate::custody::{PkiCustody, PkiError};
use crate::domain::ClusterName;
use crate::policy::Grant;

/// Has certificates made by a PKI engine.
pub struct PkiCa {
    cluster: ClusterName,
    engine: PkiCustody,
    ca: CaCertificate,
    pem: Arc<str>,
}

// === impl PkiCa ===

impl PkiCa {
    /// An issuer for the cluster that takes certificates of this CA only.
    #[must_use]
    pub fn new(cluster: ClusterName, engine: PkiCustody, ca: CaCertificate) -> Self {
        let pem = ca.pem().into();
        Self { cluster, engine, ca, pem }
    }
}

#[async_trait]
impl Issuer for PkiCa {
    fn cluster(&self) -> &ClusterName {
        &self.cluster
    }

    fn names_grants(&self) -> bool {
        false
    }

    fn dedicated_ca(&self) -> Option<&CaCertificate> {
        Some(&self.ca)
    }

    async fn issue(&self, grant: Recorded<Grant>, now: Timestamp) -> Result<Issued, IssueError> {
        let granted = grant.value();
        if granted.csr().is_empty() {
            return Err(IssueError::Build("a PKI engine takes a certificate request, and there is only a key".into()));
        }
        let span = profile::span(&self.ca, now, SignedDuration::ZERO, granted.not_after())?;
        // The engine counts from its own clock, and from when the request reaches it; the end is never later than granted.
        let ttl = span.not_after.duration_since(now) - CLOCK_SLACK;
        let seconds = u64::try_from(ttl.as_secs()).ok().filter(|seconds| *seconds > 0);
        let seconds = seconds.ok_or_else(|| IssueError::Validity(format!("it would end at {}", span.not_after)))?;
        let der = self.engine.certify(grant.to_be_certified(), seconds).await?;
        let user = self.engine.names_person().then_some(granted.user());
        let expected = Expected {
            public_key: granted.public_key(),
            roles: granted.roles(),
            names: Names::Engine { user, common_name: None },
            until: granted.not_after(),
            now,
        };
        let facts = judge(&der, &expected, &self.ca).map_err(|found| IssueError::Mismatch(found.to_string()))?;
        Ok(Issued::unnamed(grant, facts, der, Arc::clone(&self.pem)))
    }
}

impl fmt::Debug for PkiCa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("PkiCa").field("subject", &self.ca.subject()).finish_non_exhaustive()
    }
}

// === impl IssueError ===

impl From<PkiError> for IssueError {
    fn from(error: PkiError) -> Self {
        match error {
            PkiError::Garbage => Self::Mismatch(error.to_string()),
            other => Self::Custody(other.to_string()),
        }
    }
}

#[cfg(test)]
mod tests;
