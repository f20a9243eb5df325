//! From a recorded grant to a certificate.

use async_trait::async_trait;
use ichor_wire::problem::Code;
use ichor_wire::profile::CaCertificate;
use jiff::Timestamp;

use crate::audit::Recorded;
use crate::domain::{Cluster, ClusterName};
use crate::policy::Grant;

mod issued;
mod local_ca;
mod pki;
pub mod talos_api;

pub use issued::Issued;
pub use local_ca::LocalCa;
pub use pki::PkiCa;
pub use talos_api::TalosApi;

/// Turns a recorded grant into a certificate that was checked against it. Takes nothing else than a recorded grant:
/// ```
/// # use ichor_broker::{audit::Recorded, issuer::{IssueError, Issued, Issuer}, policy::Grant};
/// async fn issue(ca: &dyn Issuer, grant: Recorded<Grant>, now: jiff::Timestamp) -> Result<Issued, IssueError> {
///     ca.issue(grant, now).await
/// }
/// ```
/// so nothing can be signed before its grant is recorded.
/// ```compile_fail,E0308
/// # use ichor_broker::{audit::Recorded, issuer::{IssueError, Issued, Issuer}, policy::Grant};
/// async fn issue(ca: &dyn Issuer, grant: Grant, now: jiff::Timestamp) -> Result<Issued, IssueError> {
///     ca.issue(grant, now).await
/// }
/// ```
///
/// and nothing can be signed twice for one.
/// ```compile_fail,E0382
/// # use ichor_broker::{audit::Recorded, issuer::{IssueError, Issued, Issuer}, policy::Grant};
/// async fn issue(ca: &dyn Issuer, grant: Recorded<Grant>, now: jiff::Timestamp) -> Result<Issued, IssueError> {
///     ca.issue(grant, now).await?;
///     ca.issue(grant, now).await
/// }
/// ```
///
/// What comes back is not yet recorded as issued and must not leave the broker; every error is final for this grant.
#[async_trait]
pub trait Issuer: std::fmt::Debug + Send + Sync + 'static {
    /// The cluster whose CA this is. A certificate names none, so the grants of no other may come here.
    fn cluster(&self) -> &ClusterName;

    /// A certificate for the grant, made at `now`. The grant is used up: what comes back carries it on.
    async fn issue(&self, grant: Recorded<Grant>, now: Timestamp) -> Result<Issued, IssueError>;

    /// Whether its certificates name their grants, so that a node's log does too.
    fn names_grants(&self) -> bool {
        true
    }

    /// The CA of its own that nodes list beside the cluster's, where it has one.
    fn dedicated_ca(&self) -> Option<&CaCertificate> {
        None
    }

    /// Whether it is still the right one for the cluster as it is declared now. One that knows nothing of a cluster's
    /// endpoints always is.
    fn serves(&self, _cluster: &Cluster) -> bool {
        true
    }
}

/// Why no certificate came about.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum IssueError {
    /// Custody cannot sign now.
    #[error("{0}")]
    Custody(String),
    /// The finished certificate is not what was granted.
    #[error("the finished certificate differs from the grant: {0}")]
    Mismatch(String),
    /// The CA's or the grant's validity leaves no time.
    #[error("the certificate would have no validity: {0}")]
    Validity(String),
    /// The certificate could not be built.
    #[error("the certificate cannot be built: {0}")]
    Build(String),
}

// === impl IssueError ===

impl IssueError {
    /// The problem that it is, in the log and for whoever asked. A certificate that is not what was granted is no outage.
    #[must_use]
    pub const fn code(&self) -> Code {
        match self {
            Self::Mismatch(_) => Code::CertificateMismatch,
            Self::Custody(_) | Self::Validity(_) | Self::Build(_) => Code::CustodyUnavailable,
        }
    }
}
