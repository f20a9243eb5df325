//! Brings a CA to the place where it is to live. What issues does not change by this: that is the record's part, and the
//! caller writes it last. So whatever ends a command in between leaves the old CA in force, and the same command goes on
//! where it ended.

use std::collections::BTreeMap;

use ichor_wire::profile::CaCertificate;
use jiff::Timestamp;

use super::bring::import;
use super::ca::{CaMaterial, CreateError, Draft};
use super::known::{KnownCas, kv_place};
use super::kv::{self, KvError};
use super::pki::{self, Pinned, PkiCustody};
use super::record::{Place, Record};
use super::settle_error::SettleError;
use super::target::{For, Target};
use super::transit::{TransitKeyError, TransitSigner};
use super::{Sealer, Signer, ca, servers};
use crate::domain::ClusterName;
use crate::openbao::{Client, KeyKind, Kv, Pki, TransitEngine};

/// Where a CA can be brought: the vault, and the servers by name.
#[derive(Debug)]
pub struct Places<'a> {
    /// Seals into the vault.
    pub sealer: &'a Sealer,
    /// The servers.
    pub servers: &'a BTreeMap<String, Client>,
    /// The CAs that the log knows.
    pub known: &'a KnownCas,
}

/// A CA that is where it is to live.
#[derive(Debug)]
pub struct Settled {
    /// The place.
    pub place: Place,
    /// The CA's certificate.
    pub certificate: CaCertificate,
    /// What the operator should know, a sentence each.
    pub remarks: Vec<String>,
}

// === impl Places ===

impl Places<'_> {
    /// A new dedicated CA, its key born at the place. In Transit nobody ever holds it. A key that another CA of this cluster has or
    /// had, as the record or the log tells, is none.
    ///
    /// # Errors
    /// When it did not come about. What is at the place then is taken up by the next try.
    pub async fn create(
        &self,
        of: For<'_>,
        target: &Target,
        now: Timestamp,
        years: u16,
    ) -> Result<Settled, SettleError> {
        if let Target::Pki { .. } = target {
            return Err(SettleError::OwnCa(of.cluster.clone()));
        }
        let Target::Transit { server, mount, key } = target else {
            if let Some(settled) = self.unfinished(of, target).await? {
                self.check_key(of.cluster, settled.certificate.public_key(), &settled.place.said())?;
                return Ok(settled);
            }
            return self.bring(of, target, &ca::create(of.cluster, now, years)?).await;
        };
        let transit = TransitEngine::new(self.server(server)?, mount)?;
        let name = key.clone().unwrap_or_else(|| of.named("-"));
        self.check_free(of, target, &name)?;
        self.check_new(of, target, &name)?;
        let mut remarks = Vec::new();
        let found = match transit.key(&name).await? {
            Some(found) => {
                // whoever imported it may hold it still: such a CA is not dedicated
                if found.is_imported {
                    return Err(TransitKeyError::Imported(format!("{mount}/{name}")).into());
                }
                remarks.push(format!("the Transit key `{mount}/{name}` was there already and is used"));
                found
            }
            None => {
                transit.create(&name, KeyKind::Ed25519).await?;
                transit.key(&name).await?.ok_or_else(|| TransitKeyError::Missing(name.clone()))?
            }
        };
        let key_version = found.latest;
        let signer = TransitSigner::new(transit, &name, key_version, &found)?;
        let said = format!("the Transit key `{mount}/{name}`");
        self.check_key(of.cluster, signer.public_key(), &said)?;
        self.check_own(of.cluster, signer.public_key())?;
        let draft = Draft::new(of.cluster, now, years, signer.public_key(), signer.algorithm())?;
        let signature = signer.sign(draft.to_be_signed()).await.map_err(CreateError::from)?;
        let certificate = draft.finish(&signature)?;
        let place = Place::Transit {
            server: server.clone(),
            mount: mount.clone(),
            key: name,
            key_version,
            certificate: certificate.pem(),
        };
        Ok(Settled { place, certificate, remarks })
    }

    /// Brings a CA that is in memory to the place. What is there already and is this CA is as good.
    ///
    /// # Errors
    /// When it did not get there. What is at the place then is taken up by the next try.
    pub async fn bring(&self, of: For<'_>, target: &Target, material: &CaMaterial) -> Result<Settled, SettleError> {
        let certificate = material.certificate().clone();
        self.check_own(of.cluster, certificate.public_key())?;
        let mut remarks = Vec::new();
        let place = match (target, of.awaited) {
            (Target::Age, Some(file)) => {
                self.sealer.seal_ca_file(of.cluster, file, material, false)?;
                Place::Age { file: file.to_owned() }
            }
            (Target::Age, None) => Place::Age { file: self.sealer.seal_next_ca(of.cluster, material, of.generation)? },
            (Target::Kv { server, mount, path }, _) => {
                let is_named = path.is_some();
                let path = path.clone().unwrap_or_else(|| of.named("/"));
                self.check_free(of, target, &path)?;
                let kv = Kv::new(self.server(server)?, mount)?;
                let over = kv.newest(&path).await?;
                let (found, is_there) = match over {
                    0 => (None, false),
                    _ => match kv::read(&kv, mount, &path).await {
                        Ok(found) => (Some(found.material.certificate().fingerprint()), true),
                        Err(KvError::Content { .. }) => (None, true),
                        // its newest version was deleted
                        Err(KvError::Missing(_)) => (None, false),
                        Err(error) => return Err(error.into()),
                    },
                };
                let is_known = self.known.is_published_at(of.cluster, &kv_place(server, mount, &path));
                if found == Some(certificate.fingerprint()) {
                    remarks.push(format!("the secret `{mount}/{path}` held this CA already and is used"));
                } else if (found.is_some() && is_known) || self.own(of, target, &path)?.is_some() {
                    return Err(SettleError::Kept(format!("the secret `{mount}/{path}`")));
                } else if found.is_some() && of.replace && !is_named {
                    // a command at the same moment may have it and not its record yet
                    return Err(SettleError::Unnamed(format!("the secret `{mount}/{path}`")));
                } else if is_there && !of.replace {
                    return Err(SettleError::Other(format!("the secret `{mount}/{path}`")));
                } else {
                    kv::write(&kv, mount, &path, material, over).await?;
                    let back = kv::read(&kv, mount, &path).await?;
                    if back.material.certificate().fingerprint() != certificate.fingerprint() {
                        return Err(SettleError::Other(format!("the secret `{mount}/{path}`")));
                    }
                }
                Place::Kv { server: server.clone(), mount: mount.clone(), path }
            }
            (Target::Transit { server, mount, key }, _) => {
                let name = key.clone().unwrap_or_else(|| of.named("-"));
                self.check_free(of, target, &name)?;
                let transit = TransitEngine::new(self.server(server)?, mount)?;
                let key_version = import(&transit, mount, &name, material, &mut remarks).await?;
                let certificate = certificate.pem();
                Place::Transit { server: server.clone(), mount: mount.clone(), key: name, key_version, certificate }
            }
            (Target::Pki { .. }, _) => return Err(SettleError::OwnCa(of.cluster.clone())),
        };
        Ok(Settled { place, certificate, remarks })
    }

    /// Takes up the CA that a PKI engine has, once its roles and what our token may do there are as they have to be.
    ///
    /// # Errors
    /// When it cannot issue client certificates, or the engine is not to be used as it is.
    pub async fn take_up(&self, of: For<'_>, target: &Target) -> Result<Settled, SettleError> {
        let Target::Pki { server, mount, role_per_person, roles } = target else {
            return Err(SettleError::OwnCa(of.cluster.clone()));
        };
        // roles bind a certificate to no cluster, its CA does: so a mount is one cluster's
        self.check_free(of, target, mount)?;
        let pki = Pki::new(self.server(server)?, mount)?;
        let certificate = pki::ca(&pki).await?;
        self.check_own(of.cluster, certificate.public_key())?;
        let (cluster, role_per_person) = (of.cluster, *role_per_person);
        PkiCustody::open(pki, Pinned { cluster, certificate: &certificate, role_sets: roles, role_per_person }).await?;
        let place = Place::Pki {
            server: server.clone(),
            mount: mount.clone(),
            certificate: certificate.pem(),
            role_per_person,
            roles: roles.clone(),
        };
        Ok(Settled { place, certificate, remarks: Vec::new() })
    }

    /// A dedicated CA of this cluster that lies at the place and that no record names: a command was ended before it wrote
    /// the record, or is about to. It is written over only at a path that was named.
    async fn unfinished(&self, of: For<'_>, target: &Target) -> Result<Option<Settled>, SettleError> {
        let Target::Kv { server, mount, path } = target else { return Ok(None) };
        let is_written_over = of.replace && path.is_some();
        let path = path.clone().unwrap_or_else(|| of.named("/"));
        self.check_free(of, target, &path)?;
        self.check_new(of, target, &path)?;
        let kv = Kv::new(self.server(server)?, mount)?;
        if is_written_over || kv.newest(&path).await? == 0 {
            return Ok(None);
        }
        let found = match kv::read(&kv, mount, &path).await {
            // its newest version was deleted: nothing is there
            Err(KvError::Missing(_)) => return Ok(None),
            // no CA: nobody's certificates end with it
            Err(KvError::Content { .. }) if of.replace => return Ok(None),
            found => found?.material,
        };
        if found.certificate().subject() != format!("{}{}", ca::DEDICATED, of.cluster) {
            let place = format!("the secret `{mount}/{path}`");
            return Err(if of.replace { SettleError::Unnamed(place) } else { SettleError::Other(place) });
        }
        self.check_own(of.cluster, found.certificate().public_key())?;
        let remark = format!(
            "the secret `{mount}/{path}` held a CA for a cluster of this name that this broker did not use; it does now, and so may whoever put it there"
        );
        let place = Place::Kv { server: server.clone(), mount: mount.clone(), path };
        Ok(Some(Settled { place, certificate: found.certificate().clone(), remarks: vec![remark] }))
    }

    fn server(&self, name: &str) -> Result<Client, SettleError> {
        Ok(servers::client(self.servers, name)?)
    }

    /// Whether both names are one server's: two sections may lead to one, and its mounts are the same by either.
    fn is_one(&self, one: &str, other: &str) -> bool {
        let both = self.servers.get(one).zip(self.servers.get(other));
        one == other || both.is_some_and(|(one, other)| one.is_of_the_same(other))
    }

    /// Whether no other cluster's record names this key or secret, and it is not the secret of a CA of this cluster that is in
    /// force: what is written there would issue at once.
    fn check_free(&self, of: For<'_>, target: &Target, name: &str) -> Result<(), SettleError> {
        let dir = self.sealer.dir();
        if let (Target::Kv { .. }, Some(own)) = (target, Record::written(dir, of.cluster)?)
            && target.is_at(&own.active, name, |one, other| self.is_one(one, other))
        {
            return Err(SettleError::InForce(own.active.said()));
        }
        for other in Record::all(dir)?.into_iter().filter(|other| other != of.cluster.as_str()) {
            let Ok(cluster) = ClusterName::new(&other) else { continue };
            let Some(record) = Record::written(dir, &cluster)? else { continue };
            if let Some(place) = self.place_in(&record, target, name) {
                return Err(SettleError::Taken { place: place.said(), cluster: other });
            }
        }
        Ok(())
    }

    /// Whether this cluster's own record does not name this key or secret: a new CA needs a new key.
    fn check_new(&self, of: For<'_>, target: &Target, name: &str) -> Result<(), SettleError> {
        match self.own(of, target, name)? {
            Some(place) => Err(SettleError::OldKey(place.said())),
            None => Ok(()),
        }
    }

    /// The place in this cluster's own record that is this key or secret.
    fn own(&self, of: For<'_>, target: &Target, name: &str) -> Result<Option<Place>, SettleError> {
        let own = Record::written(self.sealer.dir(), of.cluster)?;
        Ok(own.as_ref().and_then(|own| self.place_in(own, target, name)).cloned())
    }

    /// Whether no CA of another cluster that has a record here has this key: a certificate is bound to its cluster by the CA alone.
    ///
    /// # Errors
    /// When one has it, with its name, or its record cannot be read.
    pub fn check_own(&self, cluster: &ClusterName, public_key: &[u8]) -> Result<(), SettleError> {
        for other in self.known.others_with_key(cluster, public_key).filter_map(|other| ClusterName::new(other).ok()) {
            if Record::written(self.sealer.dir(), &other)?.is_some() {
                return Err(SettleError::OthersKey { cluster: cluster.clone(), other });
            }
        }
        Ok(())
    }

    /// Whether no CA that the log says was retired has this key.
    fn check_key(&self, cluster: &ClusterName, public_key: &[u8], place: &str) -> Result<(), SettleError> {
        match self.known.has_retired(cluster, public_key) {
            true => Err(SettleError::OldKey(place.to_owned())),
            false => Ok(()),
        }
    }

    /// The place in the record, of the CA in force, to come, or former, that is this key or secret.
    fn place_in<'a>(&self, record: &'a Record, target: &Target, name: &str) -> Option<&'a Place> {
        record.places().find(|place| target.is_at(place, name, |one, other| self.is_one(one, other)))
    }
}
