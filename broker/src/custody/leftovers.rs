//! Keys of CAs that lie in the vault's folder and that nothing needs.

use std::collections::BTreeSet;

use super::record::{Place, Record};
use super::vault::cluster_of;
use super::{Custody, CustodyError};
use crate::domain::ClusterName;

impl Custody {
    /// The files below the vault's `ca/` that hold a CA's key and that no record needs, by name: set aside when a CA was moved or
    /// retired, or left by something else. One of a cluster whose record is lost or cannot be read may be the CA in force, and is none.
    ///
    /// # Errors
    /// When the vault's folder cannot be read.
    pub fn leftovers(&self) -> Result<Vec<String>, CustodyError> {
        let dir = self.vault().sealer().dir();
        let (mut needed, mut told) = (BTreeSet::new(), BTreeSet::new());
        for cluster in Record::all(dir)?.iter().filter_map(|name| ClusterName::new(name).ok()) {
            let Ok(Some(record)) = Record::written(dir, &cluster) else { continue };
            told.insert(cluster);
            let next = record.rotation.map(|rotation| rotation.next);
            // what is compromised is needed by nothing
            let former = record.former.into_iter().filter(|former| !former.compromised).map(|former| former.place);
            let places = std::iter::once(record.active).chain(next).chain(former);
            needed.extend(places.filter_map(|place| if let Place::Age { file } = place { Some(file) } else { None }));
        }
        let is_told = |stem: &String| {
            let cluster = cluster_of(stem).and_then(|name| ClusterName::new(name).ok());
            cluster.is_none_or(|cluster| told.contains(&cluster))
        };
        let files = self.vault().list()?.cas.into_iter().filter(is_told).map(|stem| format!("{stem}.age"));
        let mut left: Vec<String> = files.filter(|file| !needed.contains(file)).collect();
        left.extend(self.vault().sealer().set_asides()?);
        Ok(left)
    }

    /// The clusters with a standing credential in the vault that no record needs: a CA took its place, and it still makes any role.
    ///
    /// # Errors
    /// When the vault's folder cannot be read.
    pub fn idle_credentials(&self) -> Result<Vec<ClusterName>, CustodyError> {
        let dir = self.vault().sealer().dir();
        let secrets = self.vault().list()?.secrets;
        let clusters = secrets.iter().filter_map(|name| ClusterName::new(name.strip_prefix("talos-")?).ok());
        let needs = |cluster: &ClusterName| match Record::written(dir, cluster) {
            Ok(Some(record)) => record.active == Place::TalosApi,
            _ => true,
        };
        Ok(clusters.filter(|cluster| !needs(cluster)).collect())
    }
}
