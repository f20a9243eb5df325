//! Opens each cluster's CA where its record says it lives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ichor_wire::profile::{CaCertificate, CaError, KeyAlgorithm};
use ichor_wire::role::Role;

use super::ca::{CaMaterial, DEDICATED, KeyMismatch};
use super::known::{Familiar, ForeignCa, KnownCas, fingerprint};
use super::kv::{self, KvError};
use super::pki::{Pinned, PkiCustody, PkiError};
use super::record::{Place, Record};
use super::servers::{self, UnknownServer};
use super::transit::{TransitKeyError, TransitSigner};
use super::{Signer, Vault, VaultError};
use crate::domain::ClusterName;
use crate::openbao::{BaoError, Client, Kv, NameError, Pki, TransitEngine};

/// Everything that holds CAs: the vault's folder with the records, and the servers that they name. One client, and so one
/// login, serves all clusters of a server.
#[derive(Debug)]
pub struct Custody {
    vault: Vault,
    servers: BTreeMap<String, Client>,
}

/// A cluster's CA, opened.
#[derive(Debug)]
pub struct Opened {
    /// Its certificate.
    pub certificate: CaCertificate,
    /// What makes certificates of it.
    pub means: Means,
    /// Differs from another opening's if and only if certificates are made in another way.
    pub mark: String,
    /// What an operator should know, a sentence each.
    pub warnings: Vec<String>,
    /// The vault's file that holds the key, where one does.
    pub file: Option<String>,
    /// Whether the cluster's own API makes the people's certificates, asked with certificates of this CA.
    pub is_delegated: bool,
    /// Whether no entry of the log names this CA yet: one has to, before it is used.
    pub is_unnamed: bool,
    /// What that entry says of the secret of KV that it lies in, if it is in one.
    pub in_kv: Option<String>,
    /// Whether a rotation is under way, so that the log names the CA that is to come as well.
    pub is_rotating: bool,
}

/// What makes certificates.
#[derive(Debug)]
#[non_exhaustive]
pub enum Means {
    /// We do, and this signs them.
    Signer(Arc<dyn Signer>),
    /// A PKI engine does.
    Pki(PkiCustody),
}

/// Why a cluster's CA is not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CustodyError {
    /// The cluster has none.
    #[error("cluster `{0}` has no CA in custody; `ichor-broker ca create` or `ca import` brings one")]
    None(ClusterName),
    /// The cluster makes its certificates itself, with the adopted credential.
    #[error("cluster `{0}` makes its certificates itself, with an adopted talosconfig: there is no CA in custody")]
    TalosApi(ClusterName),
    /// The cluster's CA was retired.
    #[error(
        "the CA of cluster `{0}` was retired and none took its place; `ichor-broker ca create {0} --replace --reason …` makes one, and \
         `ichor-broker ca removal-patch {0} --former` ends the old one at nodes"
    )]
    Retired(ClusterName),
    /// The key is where it cannot be taken from.
    #[error(
        "the key cannot be taken from {0}; make a new CA elsewhere with `ichor-broker ca rotate CLUSTER --custody KIND --reason …`"
    )]
    Stays(String),
    /// A secret of the broker's own is not where it should be.
    #[error("the broker's {secret} is not there: {place}; restore it there, or the vault from a backup")]
    NoSecret {
        /// Which.
        secret: &'static str,
        /// Where it should be.
        place: String,
    },
    /// Another secret is where one is to live.
    #[error(
        "{place} holds another {secret}, as of another broker, which would not start as it was without it; name another place with \
         `--key`, or, where it is nobody's, write over it with `--replace`"
    )]
    OtherSecret {
        /// Where.
        place: String,
        /// Which.
        secret: &'static str,
    },
    /// The folder was made before logs were signed.
    #[error(
        "the vault has no key that signs the audit log; if it had one, bring it back with `ichor-broker custody restore`; if it never had, \
         `ichor-broker audit rotate-key --reason …` makes it, once"
    )]
    NoAuditKey,
    /// A key that was to be made is there already.
    #[error("there is a Transit key `{0}` already; name another with `--key`")]
    KeyExists(String),
    /// The record leads to a CA that was made for another cluster.
    #[error(
        "the record leads to the CA that was made for cluster `{0}`; restore the record, or make a CA with `ichor-broker ca create`"
    )]
    OthersCa(String),
    /// The record has the cluster make the certificates, and the log knows nothing of it.
    #[error(
        "the record says that cluster `{0}` makes its certificates itself, asked with certificates of os:admin, and no entry of the log \
         says so: someone else may have written it. Where it is meant, say so with `ichor-broker ca delegate {0} --reason …`, else end it \
         with `--end`"
    )]
    NotDelegated(ClusterName),
    /// It is none that the audit log knows as this cluster's.
    #[error(transparent)]
    Foreign(#[from] ForeignCa),
    /// The vault says no.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The record names a server that the configuration does not have.
    #[error(transparent)]
    UnknownServer(#[from] UnknownServer),
    /// The record names what cannot stand in a path.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The server says no.
    #[error(transparent)]
    Bao(#[from] BaoError),
    /// The Transit key is not to be used.
    #[error(transparent)]
    Transit(#[from] TransitKeyError),
    /// The PKI engine is not to be used.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The KV secret is no CA.
    #[error(transparent)]
    Kv(#[from] KvError),
    /// The certificate in the record, or at the server, cannot be used.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// Key and certificate belong to different CAs.
    #[error(transparent)]
    Mismatch(#[from] KeyMismatch),
}

// === impl Custody ===

impl Custody {
    /// Custody over the vault and these servers, by name.
    #[must_use]
    pub fn new(vault: Vault, servers: BTreeMap<String, Client>) -> Self {
        Self { vault, servers }
    }

    /// The vault.
    #[must_use]
    pub fn vault(&self) -> &Vault {
        &self.vault
    }

    /// The servers, by name.
    #[must_use]
    pub fn servers(&self) -> &BTreeMap<String, Client> {
        &self.servers
    }

    /// The client of a server.
    ///
    /// # Errors
    /// When the configuration has none of that name.
    pub fn server(&self, name: &str) -> Result<Client, CustodyError> {
        Ok(servers::client(&self.servers, name)?)
    }

    /// A cluster's record.
    ///
    /// # Errors
    /// When there is none, or it cannot be read.
    pub fn record(&self, cluster: &ClusterName) -> Result<Record, CustodyError> {
        let record = Record::read(self.vault.sealer().dir(), cluster)?;
        record.ok_or_else(|| CustodyError::None(cluster.clone()))
    }

    /// The clusters that have a CA in custody, sorted.
    ///
    /// # Errors
    /// When the vault's folder cannot be read.
    pub fn clusters(&self) -> Result<Vec<ClusterName>, CustodyError> {
        let dir = self.vault.sealer().dir();
        let files = self.vault.list()?.cas.into_iter().filter(|name| !name.contains('.'));
        let names: BTreeSet<String> = Record::all(dir)?.into_iter().chain(files).collect();
        Ok(names.iter().filter_map(|name| ClusterName::new(name).ok()).collect())
    }

    /// The certificate of a cluster's CA. Where the record has it, nothing is opened.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn certificate(&self, cluster: &ClusterName, known: &KnownCas) -> Result<CaCertificate, CustodyError> {
        self.certificate_at(cluster, &self.record(cluster)?.active, known).await
    }

    /// The same of a CA at another place.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn certificate_at(
        &self,
        cluster: &ClusterName,
        place: &Place,
        known: &KnownCas,
    ) -> Result<CaCertificate, CustodyError> {
        match place {
            Place::Transit { certificate, .. } | Place::Pki { certificate, .. } => {
                let certificate = CaCertificate::parse(certificate)?;
                is_unnamed(cluster, place, &certificate, known)?;
                Ok(certificate)
            }
            place => Ok(self.open_place(cluster, place, known).await?.certificate),
        }
    }

    /// Certificate and key of a cluster's CA, where the key can be had at all.
    ///
    /// # Errors
    /// When it cannot: a key that was born in Transit stays there; or when it is none that the log knows.
    pub async fn material(&self, cluster: &ClusterName, known: &KnownCas) -> Result<CaMaterial, CustodyError> {
        let place = self.record(cluster)?.active;
        let material = match &place {
            Place::Age { file } => self.vault.open_ca_file(cluster, file)?,
            Place::Kv { server, mount, path } => {
                let kv = Kv::new(self.server(server)?, mount)?;
                kv::read(&kv, mount, path).await?.material
            }
            place => return Err(CustodyError::Stays(place.said())),
        };
        is_unnamed(cluster, &place, material.certificate(), known)?;
        Ok(material)
    }

    /// A cluster's CA, once all that can be checked was checked: the key is the certificate's and cannot leave where it must
    /// not, and the CA is one that the log knows as this cluster's, if it knows any. Whether the CA is valid now is for the issuer
    /// to check, each time.
    ///
    /// # Errors
    /// When there is none, or it is not to be used, or cannot be reached.
    pub async fn open(&self, cluster: &ClusterName, known: &KnownCas) -> Result<Opened, CustodyError> {
        let record = self.record(cluster)?;
        let mut opened = self.open_place(cluster, &record.active, known).await?;
        opened.is_rotating = record.rotation.is_some();
        if record.delegated && !known.is_delegated(cluster) {
            return Err(CustodyError::NotDelegated(cluster.clone()));
        }
        if record.delegated {
            opened.mark.push_str("; through the cluster");
            opened.is_delegated = true;
        }
        // a dedicated CA names its cluster: a record that was copied to another does not make it that one's
        match opened.certificate.subject().strip_prefix(DEDICATED) {
            Some(other) if other != cluster.as_str() => Err(CustodyError::OthersCa(other.to_owned())),
            _ => Ok(opened),
        }
    }

    /// The CA at a place, for this cluster.
    ///
    /// # Errors
    /// As [`Self::open`].
    pub async fn open_place(
        &self,
        cluster: &ClusterName,
        place: &Place,
        known: &KnownCas,
    ) -> Result<Opened, CustodyError> {
        let mut opened = self.found(cluster, place).await?;
        opened.in_kv = place.in_kv();
        opened.is_unnamed = is_unnamed(cluster, place, &opened.certificate, known)?;
        Ok(opened)
    }

    async fn found(&self, cluster: &ClusterName, place: &Place) -> Result<Opened, CustodyError> {
        let said = place.said();
        match place {
            Place::Age { file } => {
                let (certificate, signer) = self.vault.open_ca_file(cluster, file)?.into_parts();
                Ok(Opened { file: Some(file.clone()), ..Opened::signing(certificate, Arc::new(signer), said) })
            }
            Place::Kv { server, mount, path } => {
                let kv = Kv::new(self.server(server)?, mount)?;
                let ca = kv::read(&kv, mount, path).await?;
                let (certificate, signer) = ca.material.into_parts();
                Ok(Opened::signing(certificate, Arc::new(signer), format!("{said} version {}", ca.version)))
            }
            Place::Transit { server, mount, key, key_version, certificate } => {
                let certificate = CaCertificate::parse(certificate)?;
                let transit = TransitEngine::new(self.server(server)?, mount)?;
                let found =
                    transit.key(key).await?.ok_or_else(|| TransitKeyError::Missing(format!("{mount}/{key}")))?;
                let path = transit.sign_path(key)?;
                let may = transit.client().capabilities(&[&path]).await?;
                let signer = TransitSigner::new(transit, key, *key_version, &found)?;
                if signer.public_key() != certificate.public_key() {
                    return Err(TransitKeyError::Other { key: key.clone(), version: *key_version }.into());
                }
                if !may.may(&path, "update") {
                    return Err(TransitKeyError::MayNotSign(path).into());
                }
                let mut opened = Opened::signing(certificate, Arc::new(signer), said);
                if found.can_be_deleted {
                    opened.warnings.push(format!(
                        "the Transit key `{key}` has `deletion_allowed`: one call ends the CA; set it to false"
                    ));
                }
                Ok(opened)
            }
            Place::Pki { server, mount, certificate, role_per_person, roles } => {
                let certificate = CaCertificate::parse(certificate)?;
                let pinned =
                    Pinned { cluster, certificate: &certificate, role_sets: roles, role_per_person: *role_per_person };
                let engine = PkiCustody::open(Pki::new(self.server(server)?, mount)?, pinned).await?;
                let sets: Vec<String> = roles.iter().map(ToString::to_string).collect();
                let mark = format!("{said}, role per person {role_per_person}, {}", sets.join(" "));
                let mark = mark_of(&certificate, &mark);
                Ok(Opened {
                    certificate,
                    means: Means::Pki(engine),
                    mark,
                    warnings: Vec::new(),
                    file: None,
                    is_delegated: false,
                    is_unnamed: false,
                    in_kv: None,
                    is_rotating: false,
                })
            }
            Place::Retired => Err(CustodyError::Retired(cluster.clone())),
            Place::TalosApi => Err(CustodyError::TalosApi(cluster.clone())),
        }
    }
}

// === impl Opened ===

impl Opened {
    fn signing(certificate: CaCertificate, signer: Arc<dyn Signer>, said: String) -> Self {
        let mark = mark_of(&certificate, &said);
        Self {
            certificate,
            means: Means::Signer(signer),
            mark,
            warnings: Vec::new(),
            file: None,
            is_delegated: false,
            is_unnamed: false,
            in_kv: None,
            is_rotating: false,
        }
    }

    /// Adds a warning for each role that policies grant and that the engine has no right role for, where it makes the certificates by
    /// roles of its own: a person who asks for it would be the first to hear.
    pub async fn warn_of_roles(&mut self, granted: &[Role]) {
        let Means::Pki(engine) = &self.means else { return };
        let found = engine.lacking(granted).await;
        self.warnings.extend(found.into_iter().map(|error| format!("policies grant a role, and {error}")));
    }

    /// The kind of the CA's key.
    #[must_use]
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.certificate.algorithm()
    }
}

// === impl CustodyError ===

impl CustodyError {
    /// Whether the same may succeed later without anyone changing a setting: a server is out.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Bao(error) | Self::Kv(KvError::Bao(error)) | Self::Pki(PkiError::Bao(error)) => error.is_passing(),
            _ => false,
        }
    }

    /// Whether the cluster's own API may make the certificates: its record says so, or it has none. A CA that was retired, or
    /// whose file is gone, is not followed by a credential that was adopted once.
    #[must_use]
    pub fn may_be_adopted(&self) -> bool {
        matches!(self, Self::None(_) | Self::TalosApi(_))
    }

    /// Whether what was opened before is not to be used any longer either: its key may have left, what bounds it bounds nothing
    /// now, or the log says that it was retired, here or at another broker. Any other error says nothing of that.
    #[must_use]
    pub fn ends_use(&self) -> bool {
        matches!(
            self,
            Self::Transit(TransitKeyError::Leaks { .. })
                | Self::Pki(PkiError::TooMuch(_) | PkiError::OthersRole(_) | PkiError::WritesRoles(_))
                | Self::Foreign(ForeignCa::Retired { .. })
        )
    }

    /// Whether there is no CA, rather than one that cannot be opened: also where a server that answers has no such secret, or none
    /// of its versions but deleted ones.
    #[must_use]
    pub fn is_none(&self) -> bool {
        matches!(
            self,
            Self::None(_)
                | Self::Retired(_)
                | Self::TalosApi(_)
                | Self::Vault(VaultError::Missing(_))
                | Self::Kv(KvError::Missing(_))
        )
    }
}

/// Whether the log has yet to name the CA; an error where it may not be used. New versions of a secret in KV are published on purpose,
/// by whoever may write there, which the folder's writers may not: such a one is used once it is named, where the log has a CA of
/// this cluster in that very secret.
fn is_unnamed(
    cluster: &ClusterName,
    place: &Place,
    certificate: &CaCertificate,
    known: &KnownCas,
) -> Result<bool, ForeignCa> {
    match (known.check(cluster, certificate), place) {
        (Ok(Familiar::Named), _) => Ok(false),
        (Ok(Familiar::First), _) => Ok(true),
        (Err(ForeignCa::Unknown { .. }), place)
            if place.in_kv().is_some_and(|place| known.is_published_at(cluster, &place)) =>
        {
            Ok(true)
        }
        (Err(error), _) => Err(error),
    }
}

fn mark_of(certificate: &CaCertificate, said: &str) -> String {
    format!("{said}; certificate {}", fingerprint(certificate))
}
