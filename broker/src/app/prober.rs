//! Makes the broker's own certificates, and asks nodes with them.

use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use ichor_wire::profile::{self, CsrError};
use jiff::SignedDuration;
use rcgen::{CertificateParams, KeyPair, PKCS_ED25519};
use zeroize::Zeroizing;

use super::{issuers, naming};
use crate::audit::{self, RecordError, Sequencer};
use crate::clock::SharedClock;
use crate::custody::{Custody, CustodyError, KnownCas, StandingCredential, StandingError};
use crate::domain::{Cluster, ClusterName, Clusters, GrantId};
use crate::http::admin::Probe;
use crate::issuer::talos_api::{Credential, EndpointError, TalosApiError, Version};
use crate::issuer::{Issuer, TalosApi};
use crate::mint::{MintError, Press};
use crate::policy::PolicySet;
use crate::store::{Store, StoreError};

/// So many nodes are asked at once.
const AT_ONCE: usize = 32;

/// How long all nodes of a cluster together may take: less than a probe's certificate lasts.
const PATIENCE: Duration = Duration::from_secs(60);

/// What it takes for a probe.
pub struct Prober {
    /// Records and issues.
    pub press: Press,
    /// Where CAs live.
    pub custody: Arc<Custody>,
    /// Where the log is that names them.
    pub store: Arc<dyn Store>,
    /// Tells the time.
    pub clock: SharedClock,
    /// How far a certificate's start lies in the past.
    pub backdate: SignedDuration,
    /// Records a CA that no entry names yet, before it signs.
    pub sequencer: Sequencer,
}

/// A certificate of the broker's own with its key, recorded.
#[derive(Debug)]
pub struct Own {
    /// Its grant.
    pub grant: GrantId,
    /// Certificate and key.
    pub credential: StandingCredential,
    /// The certificate of the CA that signed it, PEM.
    pub ca_pem: String,
}

/// What a node made of a certificate of the broker's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Answer {
    /// The node, as it was named.
    pub node: String,
    /// Its version, or why it did not tell.
    pub outcome: Result<Version, EndpointError>,
}

/// Why there is no probe.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// No such cluster.
    #[error("there is no cluster `{0}`")]
    UnknownCluster(ClusterName),
    /// No rotation is under way.
    #[error("cluster `{0}` has no new CA; `ichor-broker ca rotate` begins with one")]
    NoRotation(ClusterName),
    /// The CA cannot be opened.
    #[error(transparent)]
    Custody(#[from] CustodyError),
    /// The log that names CAs cannot be read.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// A CA that no entry names could not be recorded.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The request for it is none.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// No certificate was made.
    #[error(transparent)]
    Mint(#[from] MintError),
    /// No key could be made for it.
    #[error("no key could be made for the probe: {0}")]
    Key(String),
    /// What was made cannot be used.
    #[error(transparent)]
    Credential(#[from] StandingError),
    /// The cluster's nodes cannot be asked at all.
    #[error(transparent)]
    Nodes(#[from] TalosApiError),
}

// === impl Prober ===

impl Prober {
    /// The certificate, PEM, of a probe by the cluster's CA, or by the one that is to take its place.
    ///
    /// # Errors
    /// When there is none.
    pub async fn probe(&self, policies: &PolicySet, clusters: &Clusters, probe: &Probe) -> Result<String, ProbeError> {
        let unknown = || ProbeError::UnknownCluster(probe.cluster.clone());
        let cluster = clusters.get(&probe.cluster).ok_or_else(unknown)?;
        let record = self.custody.record(&cluster.name)?;
        let place = match (record.next(), probe.is_next) {
            (Some(next), true) => next,
            (None, true) => return Err(ProbeError::NoRotation(cluster.name.clone())),
            (_, false) => &record.active,
        };
        let mut known = KnownCas::default();
        audit::learn_cas(&*self.store, &mut known).await?;
        let ca = self.custody.open_place(&cluster.name, place, &known).await?;
        naming::name(&self.sequencer, ca.unnamed().as_slice()).await?;
        let issuer = issuers::issuer(self.backdate, ca);
        let key = profile::read_csr(&probe.csr)?;
        let issued = self.press.probe(policies, cluster, key, &*issuer, Some(&probe.os_user)).await?;
        Ok(issued.certificate_pem())
    }

    /// A certificate of os:reader for minutes, with its key, to ask this cluster's nodes with; made by `issuer`, recorded as
    /// any. Let it run to its end: what was recorded as granted must get its outcome.
    ///
    /// # Errors
    /// When there is none; that is recorded too, where a grant was.
    pub async fn own(&self, policies: &PolicySet, cluster: &Cluster, issuer: &dyn Issuer) -> Result<Own, ProbeError> {
        let (key, csr) = request()?;
        let issued = self.press.probe(policies, cluster, profile::read_csr(&csr)?, issuer, None).await?;
        // where the cluster makes certificates itself, it makes the key too
        let made = issued.private_key_pem();
        let key = made.as_ref().map_or(key.as_str(), |made| made.as_str());
        let credential = StandingCredential::of_any_role(&issued.certificate_pem(), key)?;
        Ok(Own { grant: issued.value().grant().id(), credential, ca_pem: issued.value().ca_pem().to_owned() })
    }
}

impl std::fmt::Debug for Prober {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Prober").field("custody", &self.custody).finish_non_exhaustive()
    }
}

/// What each of these nodes makes of the credential, in their order: one call of `Version` each, [`AT_ONCE`] at once, all
/// within [`PATIENCE`].
///
/// # Errors
/// When the cluster's `ca` or the credential cannot be used at all.
pub async fn ask(
    cluster: &Arc<Cluster>,
    nodes: &[String],
    credential: StandingCredential,
    clock: &SharedClock,
) -> Result<Vec<Answer>, TalosApiError> {
    let api = TalosApi::new(Arc::clone(cluster), Credential::Standing(credential), Arc::clone(clock))?;
    let (api, end) = (&api, tokio::time::Instant::now() + PATIENCE);
    let asked = futures_util::stream::iter(nodes.to_vec()).map(|node| async move {
        let outcome = tokio::time::timeout_at(end, api.version(&node)).await;
        Answer { outcome: outcome.unwrap_or(Err(EndpointError::Late)), node }
    });
    Ok(asked.buffered(AT_ONCE).collect().await)
}

/// Where the cluster's nodes are reached that its file names: endpoints and nodes, sorted.
#[must_use]
pub fn addresses(cluster: &Cluster) -> Vec<String> {
    let mut nodes: Vec<String> = cluster.endpoints.iter().chain(&cluster.nodes).cloned().collect();
    nodes.sort();
    nodes.dedup();
    nodes
}

/// A fresh key, PEM, and a request for a certificate of it, PEM.
///
/// # Errors
/// When there is no randomness.
pub fn request() -> Result<(Zeroizing<String>, String), ProbeError> {
    let failed = |error: rcgen::Error| ProbeError::Key(error.to_string());
    let key = KeyPair::generate_for(&PKCS_ED25519).map_err(failed)?;
    let csr = CertificateParams::default().serialize_request(&key).and_then(|csr| csr.pem()).map_err(failed)?;
    Ok((Zeroizing::new(key.serialize_pem()), csr))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_node_is_asked_once() {
        let (endpoints, nodes) = (vec!["b".to_owned(), "a".into()], vec!["c".to_owned(), "b".into()]);
        let name = ClusterName::new("prod").unwrap();
        let cluster = Cluster { name, labels: [].into(), endpoints, nodes, ca: String::new() };
        assert_eq!(addresses(&cluster), ["a", "b", "c"]);
    }
}
