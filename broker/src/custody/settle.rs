//! Brings a CA to the place where it is to live. What issues does not change by this: that is the record's part, and the
//! caller writes it last. So whatever ends a command in between leaves the old CA in force, and the same command goes on
//! where it ended.

use std::collections::BTreeMap;

use ichor_wire::profile::CaCertificate;
use jiff::Timestamp;

use super::ca::{CaMaterial, CreateError, Draft};
use super::kv::{self, KvError};
use super::pki::{self, Pinned, PkiCustody, PkiError, RoleSet};
use super::record::{Place, Record};
use super::transit::{self, TransitKeyError, TransitSigner};
use super::wrap::{WrapError, wrap};
use super::{Sealer, Signer, VaultError, ca};
use crate::domain::ClusterName;
use crate::openbao::{BaoError, Client, KeyKind, Kv, NameError, Pki, Transit};

/// Where a CA can be brought: the vault, and the servers by name.
#[derive(Debug)]
pub struct Places<'a> {
    /// Seals into the vault.
    pub sealer: &'a Sealer,
    /// The servers.
    pub servers: &'a BTreeMap<String, Client>,
}

/// Where a CA is to live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// In the vault.
    Age,
    /// As a secret of KV version 2.
    Kv {
        /// The server.
        server: String,
        /// The mount.
        mount: String,
        /// The secret's path; `None` for `ichor/<cluster>`.
        path: Option<String>,
    },
    /// As a key of Transit.
    Transit {
        /// The server.
        server: String,
        /// The mount.
        mount: String,
        /// The key's name; `None` for `ichor-<cluster>`.
        key: Option<String>,
    },
    /// In a PKI engine, which has a CA of its own and makes the certificates.
    Pki {
        /// The server.
        server: String,
        /// The mount.
        mount: String,
        /// Whether the broker makes a role for each person and set of roles.
        role_per_person: bool,
        /// The sets of roles that the engine must have a role for.
        roles: Vec<RoleSet>,
    },
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

/// What is being settled: for whom, and how names are made.
#[derive(Clone, Copy, Debug)]
pub struct For<'a> {
    /// The cluster.
    pub cluster: &'a ClusterName,
    /// How many CAs the cluster will have had with this one.
    pub generation: u32,
    /// Whether what is at the place may be written over, as far as the place allows it at all.
    pub replace: bool,
}

/// Why a CA was not brought there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettleError {
    /// The vault says no.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// There is no such server.
    #[error("there is no [[openbao]] named `{0}` in config.toml; add it, or name another with `--server`")]
    UnknownServer(String),
    /// A name cannot stand in a path.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The server says no.
    #[error(transparent)]
    Bao(#[from] BaoError),
    /// The Transit key is not to be used.
    #[error(transparent)]
    Transit(#[from] TransitKeyError),
    /// The KV secret is no CA, or the server says no.
    #[error(transparent)]
    Kv(#[from] KvError),
    /// No certificate could be made.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The PKI engine is not to be used.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// A PKI engine has its own CA and takes none.
    #[error(
        "a PKI engine makes its CA itself (`bao write pki/root/generate/internal …`); then take it up with `ichor-broker ca import \
         {0} --custody pki`"
    )]
    OwnCa(ClusterName),
    /// The key could not be wrapped.
    #[error(transparent)]
    Wrap(#[from] WrapError),
    /// Transit has no keys of this kind.
    #[error("Transit holds no {0} keys; use another custody for this CA")]
    Kind(String),
    /// Another cluster's CA lives there.
    #[error("{place} is the CA of cluster `{cluster}`; give this cluster one of its own")]
    Taken {
        /// The place.
        place: String,
        /// Whose it is.
        cluster: String,
    },
    /// Something else is there.
    #[error("{0} is there already and holds something else; name another, or write over it with `--replace`")]
    Other(String),
    /// What was imported came back as another key.
    #[error(
        "Transit answers with another public key for `{0}` than was imported; nothing uses it: look at who writes there"
    )]
    Swapped(String),
}

// === impl Places ===

impl Places<'_> {
    /// A new dedicated CA, its key born at the place. In Transit nobody ever holds it.
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
                return Ok(settled);
            }
            return self.bring(of, target, &ca::create(of.cluster, now, years)?).await;
        };
        let transit = Transit::new(self.server(server)?, mount)?;
        let name = key.clone().unwrap_or_else(|| of.named("-"));
        let mut remarks = Vec::new();
        let found = match transit.key(&name).await? {
            Some(found) => {
                remarks.push(format!("the Transit key `{mount}/{name}` was there already and is used"));
                found
            }
            None => {
                transit.create(&name, KeyKind::Ed25519).await?;
                transit.key(&name).await?.ok_or_else(|| TransitKeyError::Missing(name.clone()))?
            }
        };
        let key_version = found.latest;
        self.check_free(of, target, &name)?;
        let signer = TransitSigner::new(transit, &name, key_version, &found)?;
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
        let mut remarks = Vec::new();
        let place = match target {
            Target::Age => {
                let file = of.file();
                self.sealer.seal_ca_file(of.cluster, &file, material, of.replace || of.generation > 1)?;
                Place::Age { file }
            }
            Target::Kv { server, mount, path } => {
                let path = path.clone().unwrap_or_else(|| of.named("/"));
                self.check_free(of, target, &path)?;
                let kv = Kv::new(self.server(server)?, mount)?;
                let over = kv.newest(&path).await?;
                let is_there = over > 0
                    && kv::read(&kv, mount, &path)
                        .await
                        .is_ok_and(|found| found.material.certificate().fingerprint() == certificate.fingerprint());
                if is_there {
                    remarks.push(format!("the secret `{mount}/{path}` held this CA already and is used"));
                } else if over > 0 && !of.replace {
                    return Err(SettleError::Other(format!("the secret `{mount}/{path}`")));
                } else {
                    kv::write(&kv, &path, material, over).await?;
                    let back = kv::read(&kv, mount, &path).await?;
                    if back.material.certificate().fingerprint() != certificate.fingerprint() {
                        return Err(SettleError::Other(format!("the secret `{mount}/{path}`")));
                    }
                }
                Place::Kv { server: server.clone(), mount: mount.clone(), path }
            }
            Target::Transit { server, mount, key } => {
                let name = key.clone().unwrap_or_else(|| of.named("-"));
                self.check_free(of, target, &name)?;
                let transit = Transit::new(self.server(server)?, mount)?;
                let key_version = import(&transit, mount, &name, material, &mut remarks).await?;
                let certificate = certificate.pem();
                Place::Transit { server: server.clone(), mount: mount.clone(), key: name, key_version, certificate }
            }
            Target::Pki { .. } => return Err(SettleError::OwnCa(of.cluster.clone())),
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
    /// the record.
    async fn unfinished(&self, of: For<'_>, target: &Target) -> Result<Option<Settled>, SettleError> {
        let Target::Kv { server, mount, path } = target else { return Ok(None) };
        let path = path.clone().unwrap_or_else(|| of.named("/"));
        self.check_free(of, target, &path)?;
        let kv = Kv::new(self.server(server)?, mount)?;
        if of.replace || kv.newest(&path).await? == 0 {
            return Ok(None);
        }
        let found = kv::read(&kv, mount, &path).await?.material;
        if found.certificate().subject() != format!("O=ichor, CN=ichor client CA {}", of.cluster) {
            return Err(SettleError::Other(format!("the secret `{mount}/{path}`")));
        }
        let remark = format!("the secret `{mount}/{path}` held a CA of this cluster that nothing used; it is used now");
        let place = Place::Kv { server: server.clone(), mount: mount.clone(), path };
        Ok(Some(Settled { place, certificate: found.certificate().clone(), remarks: vec![remark] }))
    }

    fn server(&self, name: &str) -> Result<Client, SettleError> {
        self.servers.get(name).cloned().ok_or_else(|| SettleError::UnknownServer(name.to_owned()))
    }

    /// Whether no other cluster's record names this key or secret.
    fn check_free(&self, of: For<'_>, target: &Target, name: &str) -> Result<(), SettleError> {
        let dir = self.sealer.dir();
        for other in Record::all(dir)?.into_iter().filter(|other| other != of.cluster.as_str()) {
            let Ok(cluster) = ClusterName::new(&other) else { continue };
            let Some(record) = Record::read(dir, &cluster)? else { continue };
            let next = record.rotation.as_ref().map(|rotation| &rotation.next);
            let former = record.former.iter().map(|former| &former.place);
            if let Some(place) =
                std::iter::once(&record.active).chain(next).chain(former).find(|p| target.is_at(p, name))
            {
                return Err(SettleError::Taken { place: place.said(), cluster: other });
            }
        }
        Ok(())
    }
}

// === impl For ===

impl For<'_> {
    /// The name of a key or secret that was not named: `ichor-prod`, and `ichor-prod.2` for the second, which no other cluster can be called.
    fn named(&self, separator: &str) -> String {
        let Self { cluster, generation, .. } = self;
        match generation {
            0 | 1 => format!("ichor{separator}{cluster}"),
            more => format!("ichor{separator}{cluster}.{more}"),
        }
    }

    /// The name of the vault's file: `prod.age`, and `prod.2.age` for the second.
    fn file(&self) -> String {
        let Self { cluster, generation, .. } = self;
        match generation {
            0 | 1 => format!("{cluster}.age"),
            more => format!("{cluster}.{more}.age"),
        }
    }
}

// === impl Target ===

impl Target {
    /// The server, by name, where it is at one.
    #[must_use]
    pub fn server(&self) -> Option<&str> {
        match self {
            Self::Age => None,
            Self::Kv { server, .. } | Self::Transit { server, .. } | Self::Pki { server, .. } => Some(server),
        }
    }

    fn is_at(&self, place: &Place, name: &str) -> bool {
        match (self, place) {
            (Self::Kv { server, mount, .. }, Place::Kv { server: s, mount: m, path }) => {
                (server, mount, name) == (s, m, path.as_str())
            }
            (Self::Transit { server, mount, .. }, Place::Transit { server: s, mount: m, key, .. }) => {
                (server, mount, name) == (s, m, key.as_str())
            }
            (Self::Pki { server, mount, .. }, Place::Pki { server: s, mount: m, .. }) => (server, mount) == (s, m),
            _ => false,
        }
    }
}

/// The version of the Transit key that now is this CA's.
async fn import(
    transit: &Transit,
    mount: &str,
    name: &str,
    material: &CaMaterial,
    remarks: &mut Vec<String>,
) -> Result<u32, SettleError> {
    let algorithm = material.certificate().algorithm();
    let kind = KeyKind::of(algorithm).ok_or_else(|| SettleError::Kind(algorithm.to_string()))?;
    let version_of = |versions: &BTreeMap<u32, Vec<u8>>| {
        versions.iter().find(|(_, key)| *key == material.certificate().public_key()).map(|(version, _)| *version)
    };
    if let Some(found) = transit.key(name).await? {
        transit::check(name, &found)?;
        let version = version_of(&found.versions);
        let version = version.ok_or_else(|| SettleError::Other(format!("the Transit key `{mount}/{name}`")))?;
        remarks.push(format!("the Transit key `{mount}/{name}` held this CA's key already and is used"));
        return Ok(version);
    }
    let pkcs8 = material.signer().to_pkcs8().map_err(CreateError::from)?;
    let wrapped = wrap(&transit.wrapping_key().await?, pkcs8.as_slice())?;
    transit.import(name, kind, &wrapped).await?;
    let found = transit.key(name).await?.ok_or_else(|| TransitKeyError::Missing(format!("{mount}/{name}")))?;
    transit::check(name, &found)?;
    version_of(&found.versions).ok_or_else(|| SettleError::Swapped(format!("{mount}/{name}")))
}
