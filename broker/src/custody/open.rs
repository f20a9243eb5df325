//! Opens each cluster's CA where its record says it lives.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ichor_wire::profile::{CaCertificate, KeyAlgorithm};
use ichor_wire::role::Role;

use super::ca::{CaMaterial, DEDICATED};
use super::known::{Familiar, ForeignCa, KnownCas, fingerprint};
use super::kv;
use super::open_error::CustodyError;
use super::pki::{Pinned, PkiCustody};
use super::record::{Place, Record};
use super::servers;
use super::transit::{Powers, TransitKeyError, TransitSigner};
use super::vault::{VaultError, cluster_of};
use super::vetted::Vetted;
use super::{Signer, StandingCredential, Vault};
use crate::domain::ClusterName;
use crate::openbao::{Client, Kv, Pki, TransitEngine};

/// Everything that holds CAs: the vault's folder with the records, and the servers that they name. One client, and so one
/// login, serves all clusters of a server.
#[derive(Debug)]
pub struct Custody {
    vault: Arc<Vault>,
    servers: BTreeMap<String, Client>,
    vetted: Vetted,
}

/// A cluster's CA, opened.
#[derive(Debug)]
pub struct OpenedCa {
    /// Whose CA it was opened as.
    pub cluster: ClusterName,
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

// === impl Custody ===

impl Custody {
    /// Custody over the vault and these servers, by name.
    #[must_use]
    pub fn new(vault: Vault, servers: BTreeMap<String, Client>) -> Self {
        Self { vault: Arc::new(vault), servers, vetted: Vetted::default() }
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

    /// What was seen of our tokens is not relied on any more: the next look asks anew what they may do.
    pub fn look_anew(&self) {
        self.vetted.forget();
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
        let files = self.vault.list()?.cas;
        let files = files.iter().filter_map(|stem| cluster_of(stem)).map(str::to_owned);
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
            Place::Age { file } => self.vault_ca(cluster, file).await?,
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
    pub async fn open(&self, cluster: &ClusterName, known: &KnownCas) -> Result<OpenedCa, CustodyError> {
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
        Ok(opened)
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
    ) -> Result<OpenedCa, CustodyError> {
        let mut opened = self.found(cluster, place).await?;
        opened.in_kv = place.in_kv();
        // a dedicated CA names its cluster: a record that was copied to another does not make it that one's
        match opened.certificate.subject().strip_prefix(DEDICATED) {
            Some(other) if other != cluster.as_str() => return Err(CustodyError::OthersCa(other.to_owned())),
            _ => {}
        }
        opened.is_unnamed = is_unnamed(cluster, place, &opened.certificate, known)?;
        Ok(opened)
    }

    /// The cluster's standing credential, opened beside everything else.
    ///
    /// # Errors
    /// When there is none, or it does not open as this cluster's.
    pub async fn talos_credential(&self, cluster: &ClusterName) -> Result<StandingCredential, VaultError> {
        let cluster = cluster.clone();
        self.of_vault(move |vault| vault.open_talos_credential(&cluster)).await
    }

    async fn vault_ca(&self, cluster: &ClusterName, file: &str) -> Result<CaMaterial, CustodyError> {
        let (cluster, file) = (cluster.clone(), file.to_owned());
        Ok(self.of_vault(move |vault| vault.open_ca_file(&cluster, &file)).await?)
    }

    /// What is opened of the vault beside everything else: a plugin may wait for a person to touch a key.
    async fn of_vault<T: Send + 'static>(
        &self,
        open: impl FnOnce(&Vault) -> Result<T, VaultError> + Send + 'static,
    ) -> Result<T, VaultError> {
        let vault = Arc::clone(&self.vault);
        tokio::task::spawn_blocking(move || open(&vault)).await.map_err(|_| VaultError::Unopened)?
    }

    async fn found(&self, cluster: &ClusterName, place: &Place) -> Result<OpenedCa, CustodyError> {
        let said = place.said();
        match place {
            Place::Age { file } => {
                let (certificate, signer) = self.vault_ca(cluster, file).await?.into_parts();
                Ok(OpenedCa {
                    file: Some(file.clone()),
                    ..OpenedCa::signing(cluster, certificate, Arc::new(signer), said)
                })
            }
            Place::Kv { server, mount, path } => {
                let kv = Kv::new(self.server(server)?, mount)?;
                let ca = kv::read(&kv, mount, path).await?;
                let (certificate, signer) = ca.material.into_parts();
                let said = format!("{said} version {}", ca.version);
                let mut opened = OpenedCa::signing(cluster, certificate, Arc::new(signer), said);
                // the CA is here, whatever cannot be asked
                let asked = kv::warning(&self.vetted, &kv, path).await;
                opened.warnings.extend(asked.unwrap_or_else(|error| {
                    Some(format!("what our token may do with the secret beside reading it cannot be asked: {error}"))
                }));
                Ok(opened)
            }
            Place::Transit { server, mount, key, key_version, certificate } => {
                let certificate = CaCertificate::parse(certificate)?;
                let transit = TransitEngine::new(self.server(server)?, mount)?;
                let found =
                    transit.key(key).await?.ok_or_else(|| TransitKeyError::Missing(format!("{mount}/{key}")))?;
                let powers = Powers::unless_vetted(&self.vetted, &transit, key, *key_version).await?;
                let signer = TransitSigner::new(transit, key, *key_version, &found)?;
                if signer.public_key() != certificate.public_key() {
                    return Err(TransitKeyError::Other { key: key.clone(), version: *key_version }.into());
                }
                powers.check()?;
                let mut opened = OpenedCa::signing(cluster, certificate, Arc::new(signer), said);
                opened.warnings.extend(powers.warning("transit.hcl"));
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
                Ok(OpenedCa {
                    cluster: cluster.clone(),
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

// === impl OpenedCa ===

impl OpenedCa {
    fn signing(cluster: &ClusterName, certificate: CaCertificate, signer: Arc<dyn Signer>, said: String) -> Self {
        let mark = mark_of(&certificate, &said);
        Self {
            cluster: cluster.clone(),
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

/// Whether the log has yet to name the CA; an error where it may not be used. New versions of a secret in KV are published on purpose,
/// by whoever may write there, which the folder's writers may not: such a one is used once it is named, where the log has a CA of
/// this cluster in that very secret.
fn is_unnamed(
    cluster: &ClusterName,
    place: &Place,
    certificate: &CaCertificate,
    known: &KnownCas,
) -> Result<bool, ForeignCa> {
    let others = || match known.others_with_key(cluster, certificate.public_key()).next() {
        Some(other) => {
            let (cluster, other) = (cluster.clone(), other.to_owned());
            Err(ForeignCa::OthersKey { cluster, other, found: fingerprint(certificate) })
        }
        None => Ok(true),
    };
    match (known.check(cluster, certificate), place) {
        (Ok(Familiar::Named), _) => Ok(false),
        (Ok(Familiar::First), _) => others(),
        (Err(ForeignCa::Unknown { .. }), place)
            if place.in_kv().is_some_and(|place| known.is_published_at(cluster, &place)) =>
        {
            others()
        }
        (Err(error), _) => Err(error),
    }
}

fn mark_of(certificate: &CaCertificate, said: &str) -> String {
    format!("{said}; certificate {}", fingerprint(certificate))
}

#[cfg(test)]
mod tests {
    use std::sync::mpsc;
    use std::time::Duration;

    use super::*;
    use crate::custody::{IdentitySource, Keep};

    #[tokio::test]
    async fn what_is_opened_of_the_vault_keeps_nothing_else_waiting() {
        let folder = tempfile::tempdir().unwrap();
        let dir = folder.path().join("vault");
        Vault::create(&dir, Keep::DangerBeside, &[]).unwrap();
        let custody = Custody::new(Vault::open(&dir, IdentitySource::DangerBeside).unwrap(), BTreeMap::new());
        // as a plugin that waits for a person, who is told by something else that this thread does
        let (told, person) = mpsc::channel();
        let opening =
            custody.of_vault(move |_| person.recv_timeout(Duration::from_secs(5)).map_err(|_| VaultError::Unopened));
        let (opened, ()) = tokio::join!(opening, async { told.send(()).unwrap() });
        assert!(opened.is_ok());
    }
}
