//! Keys of CAs that lie in the vault's folder, or in a secret of KV, and that nothing needs.

use std::collections::BTreeSet;

use super::ca::DEDICATED;
use super::known::{Familiar, ForeignCa, KnownCas};
use super::kv::{self, KvError};
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
    /// Whether it was seen to be there; else our token may not look.
    pub is_seen: bool,
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

    /// The secrets at servers that a CA's key was left in and that no cluster here needs, of one cluster, or of all: those that hold a CA
    /// which the log names as that cluster's, and those that our token may not read. None where a record cannot be read, which may need
    /// any, nor of a server that is out, which has a line of its own.
    ///
    /// # Errors
    /// When the vault's folder cannot be read.
    pub async fn left_at_servers(
        &self,
        only: Option<&ClusterName>,
        known: &KnownCas,
    ) -> Result<Vec<Left>, CustodyError> {
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
        let (mut found, mut out) = (Vec::new(), BTreeSet::new());
        for (cluster, record) in records.iter().filter(|(cluster, _)| only.is_none_or(|only| only == cluster)) {
            for place in record.left().filter(|left| !is_needed(left)) {
                let Place::Kv { server, mount, path } = place else { continue };
                // it is not asked again, so that nobody waits for each
                if out.contains(server) {
                    continue;
                }
                let is_seen = match self.is_cas_secret(cluster, server, mount, path, known).await {
                    Ok(false) => continue,
                    Ok(true) => true,
                    Err(error) if error.is_passing() => {
                        out.insert(server.clone());
                        continue;
                    }
                    Err(_) => false,
                };
                found.push(Left { cluster: cluster.clone(), place: place.clone(), is_seen });
            }
        }
        Ok(found)
    }

    /// Whether a CA lies there that the log names as this cluster's. None does where it was deleted, nor where the mount is gone; what
    /// else somebody wrote there is not ours to have removed.
    async fn is_cas_secret(
        &self,
        cluster: &ClusterName,
        server: &str,
        mount: &str,
        path: &str,
        known: &KnownCas,
    ) -> Result<bool, CustodyError> {
        let kv = Kv::new(self.server(server)?, mount)?;
        match kv::read(&kv, mount, path).await {
            Ok(found) => {
                let certificate = found.material.certificate();
                let said = known.check(cluster, certificate);
                let is_named = matches!(said, Ok(Familiar::Named) | Err(ForeignCa::Retired { .. }));
                // one that was made for it, and named by no entry
                Ok(is_named || certificate.subject().strip_prefix(DEDICATED) == Some(cluster.as_str()))
            }
            Err(KvError::Missing(_) | KvError::Content { .. }) => Ok(false),
            Err(KvError::Bao(error)) if matches!(error.kind(), Kind::NoRoute(_)) => Ok(false),
            Err(error) => Err(error.into()),
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
