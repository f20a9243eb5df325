//! Keys of CAs that lie in the vault's folder, or in a secret of KV, and that nothing needs.

use std::collections::BTreeSet;

use super::kv::KvError;
use super::record::{Place, Record};
use super::vault::cluster_of;
use super::{Custody, CustodyError};
use crate::domain::ClusterName;
use crate::openbao::{Kind, Kv};

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
            needed.extend(record.needed().filter_map(Place::file).map(str::to_owned));
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

    /// The secrets at servers that a CA's key was left in and that nothing needs, with what keeps us from seeing whether it is still there,
    /// where something does.
    ///
    /// # Errors
    /// When the vault's folder cannot be read.
    pub async fn left_at_servers(&self) -> Result<Vec<(Place, Option<CustodyError>)>, CustodyError> {
        let dir = self.vault().sealer().dir();
        let mut found = Vec::new();
        for cluster in Record::all(dir)?.iter().filter_map(|name| ClusterName::new(name).ok()) {
            // one that cannot be read has a line of its own
            let Ok(Some(record)) = Record::written(dir, &cluster) else { continue };
            for place in record.left() {
                match self.lies_at(place).await {
                    Ok(false) => {}
                    Ok(true) => found.push((place.clone(), None)),
                    Err(error) => found.push((place.clone(), Some(error))),
                }
            }
        }
        Ok(found)
    }

    /// Whether something lies in the secret. What was deleted does not, nor where its mount is gone.
    async fn lies_at(&self, place: &Place) -> Result<bool, CustodyError> {
        let Place::Kv { server, mount, path } = place else { return Ok(false) };
        match Kv::new(self.server(server)?, mount)?.read(path).await {
            Ok(found) => Ok(found.is_some()),
            Err(error) if matches!(error.kind(), Kind::NoRoute(_)) => Ok(false),
            Err(error) => Err(KvError::from(error).into()),
        }
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
