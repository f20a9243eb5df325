//! Keys of CAs that lie in the vault's folder, or in a secret of KV, and that nothing needs.

use std::collections::{BTreeMap, BTreeSet};

use super::kv::KvError;
use super::record::{Place, Record};
use super::vault::cluster_of;
use super::{Custody, CustodyError};
use crate::domain::ClusterName;
use crate::openbao::{Kind, Kv};

/// A secret at a server that a CA's key was left in.
#[derive(Debug)]
pub struct Left {
    /// Whose CA it was.
    pub cluster: ClusterName,
    /// Where it lies.
    pub place: Place,
    /// Why it cannot be seen whether it is there still.
    pub unseen: Option<String>,
}

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

    /// The secrets at servers that a CA's key was left in and that no cluster here needs, by cluster, with what keeps us from seeing
    /// whether it is still there, where something does. Of one cluster, or of all. None where a record cannot be read, which may need any.
    ///
    /// # Errors
    /// When the vault's folder cannot be read.
    pub async fn left_at_servers(&self, only: Option<&ClusterName>) -> Result<Vec<Left>, CustodyError> {
        let dir = self.vault().sealer().dir();
        let mut records = Vec::new();
        for cluster in Record::all(dir)?.iter().filter_map(|name| ClusterName::new(name).ok()) {
            match Record::written(dir, &cluster) {
                Ok(record) => records.extend(record.map(|record| (cluster, record))),
                // it has a line of its own
                Err(_) => return Ok(Vec::new()),
            }
        }
        let is_needed = |left: &Place| {
            let mut needed = records.iter().flat_map(|(_, record)| record.needed());
            needed.any(|place| self.is_one(place, left))
        };
        let (mut found, mut out) = (Vec::new(), BTreeMap::<String, String>::new());
        for (cluster, record) in records.iter().filter(|(cluster, _)| only.is_none_or(|only| only == cluster)) {
            for place in record.left().filter(|left| !is_needed(left)) {
                let Place::Kv { server, mount, path } = place else { continue };
                let unseen = match out.get(server) {
                    Some(why) => Some(why.clone()),
                    None => match self.lies_at(server, mount, path).await {
                        Ok(false) => continue,
                        Ok(true) => None,
                        Err(error) => {
                            // it is not asked again, so that nobody waits for each
                            if error.is_passing() {
                                out.insert(server.clone(), error.to_string());
                            }
                            Some(error.to_string())
                        }
                    },
                };
                found.push(Left { cluster: cluster.clone(), place: place.clone(), unseen });
            }
        }
        Ok(found)
    }

    /// Whether something lies in the secret. What was deleted does not, nor where its mount is gone.
    async fn lies_at(&self, server: &str, mount: &str, path: &str) -> Result<bool, CustodyError> {
        match Kv::new(self.server(server)?, mount)?.read(path).await {
            Ok(found) => Ok(found.is_some()),
            Err(error) if matches!(error.kind(), Kind::NoRoute(_)) => Ok(false),
            Err(error) => Err(KvError::from(error).into()),
        }
    }

    /// Whether both are one secret: two sections of the configuration may lead to one server.
    fn is_one(&self, one: &Place, other: &Place) -> bool {
        let (Place::Kv { server, mount, path }, Place::Kv { server: at, mount: on, path: of }) = (one, other) else {
            return false;
        };
        let is_one_server = server == at
            || self.server(server).is_ok_and(|one| self.server(at).is_ok_and(|at| one.is_of_the_same(&at)));
        is_one_server && mount == on && path == of
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
