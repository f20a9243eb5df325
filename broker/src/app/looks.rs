//! Looks into custody: a few at a time at each server, and none any more at one that is out.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

use futures_util::future::BoxFuture;
use futures_util::{FutureExt, StreamExt, future, stream};
use ichor_wire::role::Role;

use crate::custody::{Custody, CustodyError, KnownCas, OpenedCa};
use crate::domain::ClusterName;
use crate::entropy;

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
type Found = (ClusterName, Result<OpenedCa, CustodyError>);

/// How one server's looks ended, the newest last.
#[derive(Default)]
struct Outages {
    in_a_row: usize,
    newest: Option<CustodyError>,
}

// === impl Outages ===

impl Outages {
    /// One more look: it found the server out, or had an answer.
    fn take(&mut self, outage: Option<&CustodyError>) {
        self.in_a_row = outage.map_or(0, |_| self.in_a_row + 1);
        self.newest = outage.cloned();
    }

    /// What the server is out by, where it is.
    fn out(&self) -> Option<CustodyError> {
        self.newest.clone().filter(|_| self.in_a_row >= AT_ONCE)
    }
}

// === impl Looks ===

impl Looks<'_> {
    /// The CA of each of these clusters, opened. Where as many looks in a row as are made at once find a server out, its other
    /// clusters are not asked for and say so, and a server that comes back has no crowd of ours before it. One
    /// or a few that are out, as by a quota of their own, leave the others theirs; and each look begins at any cluster, by chance, so that
    /// none is always the one that is not asked for.
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

    async fn at_one_server(&self, mut clusters: Vec<ClusterName>) -> Vec<Found> {
        let first = entropy::bytes().map_or(0, usize::from_le_bytes);
        let first = first.checked_rem(clusters.len()).unwrap_or_default();
        clusters.rotate_left(first);
        let outages = Mutex::new(Outages::default());
        let looks = clusters.into_iter().map(|cluster| self.unless_out(cluster, &outages).boxed());
        let looks: Vec<BoxFuture<'_, Found>> = looks.collect();
        stream::iter(looks).buffer_unordered(AT_ONCE).collect().await
    }

    async fn unless_out(&self, cluster: ClusterName, outages: &Mutex<Outages>) -> Found {
        let seen = || outages.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(error) = seen().out() {
            return (cluster, Err(CustodyError::Unasked(Box::new(error))));
        }
        let (cluster, found) = self.one(cluster).await;
        seen().take(found.as_ref().err().filter(|error| error.is_outage()));
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

    #[test]
    fn an_answer_ends_a_row_of_outages() {
        let (mut outages, out) = (Outages::default(), CustodyError::Retired(ClusterName::new("c").unwrap()));
        let take = |outages: &mut Outages, count: usize| (0..count).for_each(|_| outages.take(Some(&out)));
        take(&mut outages, AT_ONCE - 1);
        outages.take(None);
        take(&mut outages, AT_ONCE - 1);
        assert_eq!(outages.out(), None);
        take(&mut outages, 1);
        assert_eq!(outages.out(), Some(out.clone()));
    }

    #[tokio::test]
    async fn a_server_that_is_out_is_not_asked_for_each_cluster() {
        let folder = tempfile::tempdir().unwrap();
        let bao = OpenBao::start(OpenBaoOptions { tls: false, ..OpenBaoOptions::default() }).await.unwrap();
        let token = folder.path().join("token");
        std::fs::write(&token, OpenBao::ROOT_TOKEN).unwrap();
        let (deadline, address) = (Duration::from_secs(30), bao.url().parse().unwrap());
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

        // an outage that no call is tried again for
        let out = || Some(Fault::Status(501, "it was not initialized".into()));
        bao.set_fault("secret/data/*", out());
        let found = looks.all(clusters.iter().cloned()).await;
        let errors: Vec<_> = found.iter().filter_map(|(_, found)| found.as_ref().err()).collect();
        assert!(errors.len() == CLUSTERS && errors.iter().all(|error| error.is_passing()), "{errors:?}");
        let unasked = errors.iter().filter(|error| matches!(error, CustodyError::Unasked(_))).count();
        assert_eq!(asked(), CLUSTERS - unasked);
        // as many as were under way when the last of those in a row ended
        assert!((AT_ONCE..2 * AT_ONCE).contains(&asked()), "{}", asked());

        // a few that are out leave the others theirs, and so does what any of them lacks
        bao.set_fault("secret/data/*", None);
        for cluster in clusters.iter().take(AT_ONCE - 1) {
            bao.set_fault(&format!("secret/data/{cluster}"), out());
        }
        let found = looks.all(clusters.iter().cloned()).await;
        let names: BTreeSet<_> = found.iter().map(|(name, _)| name.clone()).collect();
        assert_eq!(names, clusters.iter().cloned().collect());
        let answered = found.iter().filter(|(_, found)| found.as_ref().is_err_and(|error| !error.is_passing()));
        assert_eq!(answered.count(), CLUSTERS - (AT_ONCE - 1));
        assert_eq!(asked(), CLUSTERS);
    }
}
