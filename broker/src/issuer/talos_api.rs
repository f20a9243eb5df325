//! Has the cluster itself make the certificate: `MachineService/GenerateClientConfiguration`, with a credential of `os:admin`: one
//! that was adopted, or one that another custody mints when it is needed.
//!
//! The node makes key and certificate, knows neither person nor grant, and would make any role for any time. So what comes
//! back is believed in nothing: it is judged against the grant as every other certificate is, must be of the CA that the
//! cluster's file names, and its key must be its own. What was made and is not as granted is thrown away.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use ichor_wire::profile::{CLOCK_SLACK, CaCertificate, Expected, Facts, Mismatch, Names, judge, pem};
use jiff::{SignedDuration, Timestamp};

use super::{IssueError, Issued, Issuer};
use crate::audit::Recorded;
use crate::clock::SharedClock;
use crate::custody::{ForeignKey, LockedBytes, StandingCredential, StandingError};
use crate::domain::{Cluster, ClusterName};
use crate::policy::Grant;

mod apid;
mod messages;
mod minted;
mod shown;

use apid::{Apid, DEADLINE};
pub use apid::{EndpointError, UnusableError};
pub use messages::Version;
pub use minted::{Minted, Minting, Mints};
pub use shown::Shown;

/// The method that makes certificates.
const GENERATE: &str = "GenerateClientConfiguration";

/// gRPC's INVALID_ARGUMENT.
const INVALID_ARGUMENT: u32 = 3;

/// How long all endpoints together may take.
const PATIENCE: Duration = Duration::from_secs(12);

/// The one label of a key that a node makes; its body is PKCS#8.
const KEY_LABEL: &str = "ED25519 PRIVATE KEY";

/// What the certificates are asked for with.
#[derive(Debug)]
#[non_exhaustive]
pub enum Credential {
    /// One that was adopted and lies in the vault, or was just made for one errand.
    Standing(StandingCredential),
    /// One that another custody mints when it is needed.
    Minted(Minted),
}

/// A credential with which nodes can be called.
struct Ready {
    credential: StandingCredential,
    apid: Apid,
}

/// Where the credential comes from.
enum Means {
    Standing(Arc<Ready>),
    Minted(Minted),
}

/// Asks the cluster's own API for certificates.
pub struct TalosApi {
    cluster: Arc<Cluster>,
    means: Means,
    authorities: Vec<CaCertificate>,
    clock: SharedClock,
    /// How long one endpoint may take.
    deadline: Duration,
}

/// Why a cluster's own API cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum TalosApiError {
    /// TLS does not take the credential.
    #[error(transparent)]
    Unusable(#[from] UnusableError),
    /// The cluster's `ca` has no CA that could have made a client certificate.
    #[error("the cluster's `ca` has no certificate that can issue client certificates")]
    NoAuthority,
    /// The credential is not valid now.
    #[error(transparent)]
    Credential(#[from] StandingError),
    /// Another custody minted none.
    #[error("no certificate came about to ask the cluster with: {0}")]
    Minting(String),
    /// Every endpoint failed, each for a reason of its own.
    #[error("no endpoint of the cluster answers: {}", .0.join("; "))]
    Endpoints(Vec<String>),
}

/// A certificate that was judged, with its key.
struct Certified {
    facts: Facts,
    der: Vec<u8>,
    ca: String,
    key: ForeignKey,
}

// === impl TalosApi ===

impl TalosApi {
    /// An issuer that calls the cluster's endpoints, believes nodes under the cluster's `ca`, and takes certificates of those
    /// CAs only.
    ///
    /// # Errors
    /// When the credential or the cluster's `ca` cannot be used. Nothing is called.
    pub fn new(cluster: Arc<Cluster>, credential: Credential, clock: SharedClock) -> Result<Self, TalosApiError> {
        let blocks = pem::blocks(&cluster.ca).map_err(|_| TalosApiError::NoAuthority)?;
        let authorities: Vec<_> = blocks.iter().filter_map(|block| CaCertificate::from_der(&block.der).ok()).collect();
        if authorities.is_empty() {
            return Err(TalosApiError::NoAuthority);
        }
        let means = match credential {
            Credential::Standing(credential) => {
                let apid = Apid::new(&credential, &cluster.ca, Arc::clone(&clock))?;
                Means::Standing(Arc::new(Ready { credential, apid }))
            }
            Credential::Minted(minted) => Means::Minted(minted),
        };
        Ok(Self { cluster, means, authorities, clock, deadline: DEADLINE })
    }

    /// Asks every endpoint for its version, and whether it would make certificates with this credential; answers what they say
    /// in the cluster's order. No certificate is made: it is asked for one without a lifetime, which a node refuses only after
    /// it has looked at the roles and whether it is a control plane node.
    pub async fn probe(&self) -> Vec<(String, Result<Version, EndpointError>)> {
        let asked = self.cluster.endpoints.iter().map(async |endpoint| {
            let answer = self.probe_one(endpoint).await;
            (endpoint.clone(), answer)
        });
        futures_util::future::join_all(asked).await
    }

    /// The version of the node at this address: whether it takes the credential at all.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn version(&self, node: &str) -> Result<Version, EndpointError> {
        self.version_marked(node, None).await
    }

    /// The same, with a metadata key and value that the node's log repeats.
    ///
    /// # Errors
    /// Why it does not.
    pub async fn version_marked(&self, node: &str, mark: Option<(&str, &str)>) -> Result<Version, EndpointError> {
        let answer = self.call(node, "Version", Vec::new(), mark).await?;
        match Version::read(answer.as_slice()) {
            Ok(Ok(version)) => Ok(Version { tag: apid::said(&version.tag), ..version }),
            Ok(Err(error)) => Err(EndpointError::Unreachable(apid::said(&error))),
            Err(_) => Err(EndpointError::Garbage("not a version")),
        }
    }

    async fn probe_one(&self, endpoint: &str) -> Result<Version, EndpointError> {
        let version = self.version(endpoint).await?;
        match self.call(endpoint, GENERATE, Vec::new(), None).await {
            Err(EndpointError::Status(INVALID_ARGUMENT, _)) => Ok(version),
            Err(error) => Err(error),
            Ok(_) => Err(EndpointError::Garbage("a certificate without a lifetime")),
        }
    }

    /// The credential, ready.
    async fn ready(&self) -> Result<Arc<Ready>, TalosApiError> {
        match &self.means {
            Means::Standing(ready) => Ok(Arc::clone(ready)),
            Means::Minted(minted) => minted.ready(&self.cluster.ca, &self.clock).await,
        }
    }

    async fn call(
        &self,
        node: &str,
        method: &str,
        message: Vec<u8>,
        mark: Option<(&str, &str)>,
    ) -> Result<LockedBytes, EndpointError> {
        let ready = self.ready().await.map_err(|error| EndpointError::Unreachable(error.to_string()))?;
        ready.apid.call(node, method, message, mark, self.deadline).await
    }

    /// The answer of the first endpoint that makes a certificate. One that hangs may have made one whose answer nobody reads:
    /// its key is lost with it.
    async fn ask(&self, message: &[u8]) -> Result<LockedBytes, TalosApiError> {
        let ready = self.ready().await?;
        ready.credential.check_time(self.clock.now())?;
        let mut failures = Vec::new();
        let all = async {
            for endpoint in &self.cluster.endpoints {
                match ready.apid.call(endpoint, GENERATE, message.to_vec(), None, self.deadline).await {
                    Ok(answer) => return Some(answer),
                    Err(error) => {
                        tracing::warn!(cluster = %self.cluster.name, endpoint, %error, "an endpoint made no certificate");
                        failures.push(format!("`{endpoint}`: {error}"));
                    }
                }
            }
            None
        };
        let answer = tokio::time::timeout(PATIENCE, all).await.unwrap_or_default();
        answer.ok_or_else(|| {
            let asked = failures.len();
            let rest = self.cluster.endpoints.get(asked..).unwrap_or_default().iter();
            failures.extend(rest.map(|endpoint| format!("`{endpoint}`: there was no time left for it")));
            TalosApiError::Endpoints(failures)
        })
    }

    /// What the node made, held against the grant.
    fn judge(&self, answer: &LockedBytes, granted: &Grant) -> Result<Certified, IssueError> {
        let garbage = |what: &str| IssueError::Mismatch(format!("the node's answer {what}"));
        let made = messages::Made::read(answer.as_slice()).map_err(|_| garbage("cannot be read"))?;
        let made = made.map_err(|error| IssueError::Custody(format!("the node says: {}", apid::said(&error))))?;
        let certificates = pem::blocks(made.certificate).map_err(|_| garbage("has no certificate"))?;
        let keys = pem::blocks(made.key).map_err(|_| garbage("has no key"))?;
        let ([certificate], [key]) = (certificates.as_slice(), keys.as_slice()) else {
            return Err(garbage("does not have one certificate and one key"));
        };
        if certificate.label != "CERTIFICATE" || key.label != KEY_LABEL {
            return Err(garbage("does not have one certificate and one key"));
        }
        let key = ForeignKey::read(&key.der).map_err(|_| garbage("has a key that cannot be read"))?;
        // The certificate must be for the key that came with it: that is what its holder will prove to nodes.
        let expected = Expected {
            public_key: &key.public_key,
            roles: granted.roles(),
            names: Names::Talos,
            until: granted.not_after(),
            now: self.clock.now(),
        };
        let mut found = Mismatch::Issuer;
        for ca in &self.authorities {
            match judge(&certificate.der, &expected, ca) {
                Ok(facts) => return Ok(Certified { facts, der: certificate.der.to_vec(), ca: ca.pem(), key }),
                // While a CA is rotated there are two of one name: what the right one finds is what there is to say.
                Err(Mismatch::Issuer | Mismatch::Signature | Mismatch::Algorithm) if found != Mismatch::Issuer => {}
                Err(mismatch) => found = mismatch,
            }
        }
        Err(IssueError::Mismatch(found.to_string()))
    }
}

#[async_trait]
impl Issuer for TalosApi {
    fn cluster(&self) -> &ClusterName {
        &self.cluster.name
    }

    fn names_grants(&self) -> bool {
        false
    }

    async fn issue(&self, grant: Recorded<Grant>, now: Timestamp) -> Result<Issued, IssueError> {
        let granted = grant.value();
        let end = self.authorities.iter().map(CaCertificate::not_after).max().unwrap_or(now).min(granted.not_after());
        let ttl = SignedDuration::from_secs(end.duration_since(now).as_secs()) - CLOCK_SLACK;
        if ttl <= SignedDuration::ZERO {
            return Err(IssueError::Validity(format!("what was granted, or the cluster's CA, ends at {end}")));
        }
        let message = messages::request(granted.roles().iter().map(|role| role.as_str()), ttl);
        let answer = self.ask(&message).await.map_err(|error| IssueError::Custody(error.to_string()))?;
        let Certified { facts, der, ca, key } = self.judge(&answer, granted)?;
        let pem = pem::encode(KEY_LABEL, key.pkcs8.as_slice());
        let key_pem = LockedBytes::copy_of(pem.as_bytes());
        Ok(Issued::with_key(grant, facts, der, ca.into(), &key.public_key, key_pem))
    }

    fn serves(&self, cluster: &Cluster) -> bool {
        *self.cluster == *cluster
    }
}

impl fmt::Debug for TalosApi {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("TalosApi").field("cluster", &self.cluster.name).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
