//! Where a CA in custody signs only the broker's own certificates, with which the cluster is asked to make the people's.

use std::sync::Arc;

use ichor_wire::profile;
use tokio::sync::watch;

use super::prober;
use crate::clock::SharedClock;
use crate::custody::StandingCredential;
use crate::domain::Cluster;
use crate::issuer::talos_api::{Credential, Minted, Mints, TalosApiError};
use crate::issuer::{Issuer, TalosApi};
use crate::mint::Press;
use crate::policy::PolicySet;

/// What it takes for that.
pub(super) struct Delegating {
    /// Records and issues the broker's own.
    pub(super) press: Arc<Press>,
    pub(super) policies: watch::Receiver<Arc<PolicySet>>,
}

// === impl Delegating ===

impl Delegating {
    /// An issuer that has this cluster's own API make the certificates, asked with certificates of os:admin that `signing`
    /// makes when they are needed, each a grant to the broker itself and recorded as any.
    pub(super) fn through(
        &self,
        cluster: &Arc<Cluster>,
        signing: Arc<dyn Issuer>,
        clock: &SharedClock,
    ) -> Result<Arc<dyn Issuer>, TalosApiError> {
        let (press, policies, of) = (Arc::clone(&self.press), self.policies.clone(), Arc::clone(cluster));
        let mints: Mints = Box::new(move || {
            let (press, signing, of) = (Arc::clone(&press), Arc::clone(&signing), Arc::clone(&of));
            let policies = Arc::clone(&policies.borrow());
            Box::pin(async move {
                let (key, csr) = prober::request().map_err(|error| error.to_string())?;
                let csr = profile::read_csr(&csr).map_err(|error| error.to_string())?;
                let issued = press.delegation(&policies, &of, csr, &*signing).await;
                let certificate = issued.map_err(|error| error.to_string())?.certificate_pem();
                StandingCredential::from_pem(&certificate, &key).map_err(|error| error.to_string())
            })
        });
        let credential = Credential::Minted(Minted::new(mints));
        Ok(Arc::new(TalosApi::new(Arc::clone(cluster), credential, Arc::clone(clock))?))
    }
}
