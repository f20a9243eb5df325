//! Makes the broker's own certificates, by which a command sees whether nodes accept a CA.

use std::sync::Arc;

use ichor_wire::profile::{self, CsrError};
use jiff::SignedDuration;

use super::issuers;
use crate::custody::{Custody, CustodyError};
use crate::domain::{ClusterName, Clusters};
use crate::http::admin::Probe;
use crate::mint::{MintError, Press};
use crate::policy::PolicySet;

/// What it takes for a probe.
#[derive(Debug)]
pub struct Prober {
    /// Records and issues.
    pub press: Press,
    /// Where CAs live.
    pub custody: Arc<Custody>,
    /// How far a certificate's start lies in the past.
    pub backdate: SignedDuration,
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
    /// The request for it is none.
    #[error(transparent)]
    Csr(#[from] CsrError),
    /// No certificate was made.
    #[error(transparent)]
    Mint(#[from] MintError),
}

impl Prober {
    /// The certificate, PEM, of a probe by the cluster's CA, or by the one that is to take its place.
    ///
    /// # Errors
    /// When there is none.
    pub async fn probe(&self, policies: &PolicySet, clusters: &Clusters, probe: &Probe) -> Result<String, ProbeError> {
        let unknown = || ProbeError::UnknownCluster(probe.cluster.clone());
        let cluster = clusters.get(&probe.cluster).ok_or_else(unknown)?;
        let record = self.custody.record(&cluster.name)?;
        let place = match (&record.rotation, probe.is_next) {
            (Some(rotation), true) => &rotation.next,
            (None, true) => return Err(ProbeError::NoRotation(cluster.name.clone())),
            (_, false) => &record.active,
        };
        let ca = self.custody.open_place(&cluster.name, place).await?;
        let issuer = issuers::issuer(self.backdate, ca);
        let key = profile::read_csr(&probe.csr)?;
        let issued = self.press.probe(policies, cluster, key, &*issuer).await?;
        Ok(issued.certificate_pem())
    }
}
