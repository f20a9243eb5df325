//! Looks into custody: a few at a time at each server, and none any more at one that is out.

use std::collections::BTreeMap;
use std::sync::OnceLock;

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, future, stream};
use ichor_wire::role::Role;

use crate::custody::{Custody, CustodyError, KnownCas, Opened as Ca};
use crate::domain::ClusterName;

/// So many clusters of one server are looked at at once. A look is a few calls, which a server that is short of everything is to
/// have capacity for beside what people wait for.
const AT_ONCE: usize = 4;

/// What is looked for, and where.
pub(super) struct Looks<'a> {
    pub(super) custody: &'a Custody,
    pub(super) known: &'a KnownCas,
    /// The roles that policies grant.
    pub(super) granted: &'a [Role],
}

/// What came of the look at a cluster's CA.
type Found = (ClusterName, Result<Ca, CustodyError>);

// === impl Looks ===

impl Looks<'_> {
    /// The CA of each of these clusters, opened. Once one look finds its server out, the server's others are not asked for: they
    /// have the same error, and a server that comes back has no crowd of ours before it.
    pub(super) async fn all(&self, clusters: impl Iterator<Item = ClusterName>) -> Vec<Found> {
        let mut by_server: BTreeMap<Option<String>, Vec<ClusterName>> = BTreeMap::new();
        for cluster in clusters {
            // a record that cannot be read is said by the look itself
            let record = self.custody.record(&cluster).ok();
            let server = record.and_then(|record| record.active.server().map(str::to_owned));
            by_server.entry(server).or_default().push(cluster);
        }
        let each = by_server.into_iter().map(|(server, clusters)| match server {
            Some(_) => self.at_one_server(clusters).boxed(),
            None => future::join_all(clusters.into_iter().map(|cluster| self.one(cluster))).boxed(),
        });
        // boxed and gathered: the compiler does not see that futures over what is borrowed may change threads otherwise
        let each: Vec<BoxFuture<'_, Vec<Found>>> = each.collect();
        future::join_all(each).await.into_iter().flatten().collect()
    }

    async fn at_one_server(&self, clusters: Vec<ClusterName>) -> Vec<Found> {
        let out = OnceLock::new();
        let looks = clusters.into_iter().map(|cluster| self.unless_out(cluster, &out).boxed());
        let looks: Vec<BoxFuture<'_, Found>> = looks.collect();
        stream::iter(looks).buffer_unordered(AT_ONCE).collect().await
    }

    async fn unless_out(&self, cluster: ClusterName, out: &OnceLock<CustodyError>) -> Found {
        if let Some(error) = out.get() {
            return (cluster, Err(error.clone()));
        }
        let (cluster, found) = self.one(cluster).await;
        if let Err(error) = &found
            && error.is_outage()
        {
            let _ = out.set(error.clone());
        }
        (cluster, found)
    }

    /// With what is to be said of roles that policies grant.
    async fn one(&self, cluster: ClusterName) -> Found {
        let found = match self.custody.open(&cluster, self.known).await {
            Ok(mut ca) => {
                ca.warn_of_roles(self.granted).await;
                Ok(ca)
            }
            Err(error) => Err(error),
        };
        (cluster, found)
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;
    use std::time::Duration;

    use ichor_standins::openbao::{Fault, OpenBao, OpenBaoOptions};

    use super::*;
    use crate::custody::{IdentitySource, Keep, Place, Record, Vault};
    use crate::openbao::{Auth, Client, Settings};

    /// More than are looked at at once.
    const CLUSTERS: usize = 12;

    #[tokio::test]
    async fn a_server_that_is_out_is_not_asked_for_each_cluster() {
        let folder = tempfile::tempdir().unwrap();
        let bao = OpenBao::start(OpenBaoOptions { tls: false, ..OpenBaoOptions::default() }).await.unwrap();
        let token = folder.path().join("token");
        std::fs::write(&token, OpenBao::ROOT_TOKEN).unwrap();
        let (deadline, address) = (Duration::from_millis(200), bao.url().parse().unwrap());
        let (auth, name) = (Auth::Token { file: token }, "main".to_owned());
        let settings = Settings { name, address, ca: None, namespace: None, deadline, pace: deadline, auth };
        let dir = folder.path().join("vault");
        Vault::create(&dir, Keep::DangerBeside, &[]).unwrap();
        let vault = Vault::open(&dir, IdentitySource::DangerBeside).unwrap();
        let clusters: Vec<_> = (0..CLUSTERS).map(|number| ClusterName::new(&format!("c{number}")).unwrap()).collect();
        for cluster in &clusters {
            let (server, mount) = ("main".to_owned(), "secret".to_owned());
            Record::first(Place::Kv { server, mount, path: cluster.to_string() }).write(&dir, cluster, false).unwrap();
        }
        let servers = BTreeMap::from([("main".to_owned(), Client::new(settings).unwrap())]);
        let custody = Custody::new(vault, servers);
        let (known, granted) = (KnownCas::default(), Vec::new());
        let looks = Looks { custody: &custody, known: &known, granted: &granted };
        let asked = || {
            let paths = bao.requests().into_iter().map(|request| request.path);
            paths.filter(|path| path.contains("secret/data/")).collect::<BTreeSet<_>>().len()
        };

        bao.set_fault("secret/data/*", Some(Fault::Quota));
        let found = looks.all(clusters.iter().cloned()).await;
        let errors: Vec<_> = found.iter().filter_map(|(_, found)| found.as_ref().err()).collect();
        assert!(errors.len() == CLUSTERS && errors.iter().all(|error| error.is_outage()), "{errors:?}");
        assert_eq!(asked(), AT_ONCE);
        // what one of them lacks is no reason not to ask for the others
        bao.set_fault("secret/data/*", None);
        let found = looks.all(clusters.iter().cloned()).await;
        let names: BTreeSet<_> = found.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(names, clusters.iter().cloned().collect());
        assert!(found.iter().all(|(_, found)| found.as_ref().is_err_and(|error| !error.is_outage())));
        assert_eq!(asked(), CLUSTERS);
    }
}
