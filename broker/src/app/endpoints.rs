//! Sees, at the start and whenever clusters are loaded anew, whether each cluster's endpoints show certificates of the CA that
//! its file names. One that shows another cluster's is a slip in the file, or the CA was replaced: it is said at once, and not
//! when the nodes are next asked with a certificate. One that cannot be reached says nothing.

use std::collections::BTreeSet;
use std::sync::Arc;
use std::time::Duration;

use futures_util::StreamExt;
use tokio::sync::watch;

use super::serve::told;
use crate::clock::SharedClock;
use crate::domain::{Cluster, ClusterName, Clusters};
use crate::issuer::talos_api::{EndpointError, Shown};
use crate::readiness::{Check, Readiness};

/// So many endpoints are looked at at once.
const AT_ONCE: usize = 32;

/// How soon those are looked at again that show another cluster's CA.
const AGAIN: Duration = Duration::from_secs(300);

/// Looks at the endpoints of all clusters.
pub(super) struct Endpoints {
    pub(super) clusters: watch::Receiver<Clusters>,
    pub(super) clock: SharedClock,
    pub(super) readiness: Arc<Readiness>,
}

// === impl Endpoints ===

impl Endpoints {
    /// Looks until it is told to stop.
    pub(super) async fn run(mut self, stopped: watch::Receiver<bool>) {
        let mut stop = std::pin::pin!(told(stopped));
        let mut wrong = BTreeSet::new();
        loop {
            let clusters = self.clusters.borrow_and_update().clone();
            let clusters: Vec<Arc<Cluster>> = clusters.values().cloned().collect();
            let looks = clusters.into_iter().map(|cluster| {
                let clock = Arc::clone(&self.clock);
                async move { (cluster.name.clone(), foreign_endpoints(&cluster, &clock).await) }
            });
            let found = tokio::select! {
                () = &mut stop => return,
                found = futures_util::future::join_all(looks) => found,
            };
            self.say(&mut wrong, &found);
            let again = async {
                match wrong.is_empty() {
                    true => std::future::pending().await,
                    false => tokio::time::sleep(AGAIN).await,
                }
            };
            tokio::select! {
                () = &mut stop => return,
                changed = self.clusters.changed() => if changed.is_err() { return },
                () = again => {}
            }
        }
    }

    /// To readiness each time, to the log when it changes.
    fn say(&self, wrong: &mut BTreeSet<ClusterName>, found: &[(ClusterName, Option<String>)]) {
        for (name, said) in found {
            let Some(detail) = said else { continue };
            if wrong.insert(name.clone()) {
                tracing::warn!(cluster = %name, detail, "an endpoint shows another cluster's CA");
            }
            let (name, detail) = (check_name(name), Some(detail.clone()));
            self.readiness.report(Check { name, ok: false, required: false, detail });
        }
        let is_wrong = |name: &ClusterName| found.iter().any(|(other, said)| other == name && said.is_some());
        wrong.retain(|name| {
            if !is_wrong(name) {
                self.readiness.forget(&check_name(name));
            }
            is_wrong(name)
        });
    }
}

/// What is to be said of endpoints that show another cluster's CA; `None` where none does, or none can be reached.
pub async fn foreign_endpoints(cluster: &Cluster, clock: &SharedClock) -> Option<String> {
    // clusters are loaded only with a `ca` that can be read
    let shown = &Shown::new(&cluster.ca, Arc::clone(clock)).ok()?;
    let looks = futures_util::stream::iter(cluster.endpoints.clone()).map(|endpoint| async move {
        let is_foreign = shown.by(&endpoint).await == Err(EndpointError::AnotherCluster);
        is_foreign.then(|| format!("`{endpoint}`"))
    });
    let said: Vec<String> = looks.buffered(AT_ONCE).filter_map(std::future::ready).collect().await;
    (!said.is_empty()).then(|| format!("{}: {}", said.join(", "), EndpointError::AnotherCluster))
}

fn check_name(cluster: &ClusterName) -> String {
    format!("endpoints {cluster}")
}
