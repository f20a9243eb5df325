//! A backup opened again: to see that it would do, or to make a vault of it.

use std::collections::BTreeSet;
use std::fs;
use std::path::{Path, PathBuf};

use ichor_wire::profile::CaCertificate;
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::backup::{Archive, Kind, LogName, MAX_ARCHIVE, RECORD, VERSION};
use super::recipients::Recipients;
use super::sealer::{check_secret, cluster_of, is_talos_credential};
use super::{AUDIT_KEY, DATA_KEY, IdentitySource, Plugins, Sealer, VaultError, file, identity, pair, sealed, whole};
use crate::custody::own::{Home, Secret};
use crate::custody::record::{Place, Record};
use crate::custody::{AuditKey, LockedBytes, StandingCredential};
use crate::domain::ClusterName;
use crate::regular::folder_of;

/// An opened backup. Every name in it was checked; what it holds is looked at by [`Self::drill`].
#[derive(Debug)]
pub struct Archived {
    path: PathBuf,
    made: Timestamp,
    digest: String,
    recipients: Vec<String>,
    log: Option<LogName>,
    files: Vec<(Kind, String, LockedBytes)>,
}

/// A CA in a backup.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ArchivedCa {
    /// Its cluster.
    pub cluster: ClusterName,
    /// Its certificate.
    pub certificate: CaCertificate,
    /// Whether a record in the backup needs it, or none can be read that might; none does of a CA that was dropped.
    pub is_needed: bool,
}

/// What a drill says of one file of a backup.
#[derive(Debug)]
pub struct Drilled {
    /// Which, as `ca prod`.
    pub what: String,
    /// What it is, or why it is no good.
    pub found: Result<String, VaultError>,
}

// === impl Archived ===

impl Archived {
    /// Opens the backup at `path` with an identity; `dir` is the vault's folder, where `source` says that the identity lies
    /// there.
    ///
    /// # Errors
    /// When there is no such file, the identity does not open it, or it is no backup of ours.
    pub fn open(path: &Path, source: IdentitySource, dir: &Path, plugins: &Plugins) -> Result<Self, VaultError> {
        let damaged = || VaultError::Damaged(path.to_owned());
        let missing = || VaultError::File { path: path.to_owned(), reason: "there is no such file".to_owned() };
        let sealed = file::read_outside(path, MAX_ARCHIVE)?.ok_or_else(missing)?;
        let openers = identity::load(dir, source, plugins)?;
        let plaintext = sealed::open_bytes(path, &sealed, &openers)?;
        let archive: Archive<'_> = sealed::parse(path, &plaintext)?;
        if archive.version != VERSION {
            return Err(damaged());
        }
        let mut seen = BTreeSet::new();
        let mut files = Vec::new();
        for entry in archive.files {
            let name = entry.name.into_owned();
            if !entry.kind.fits(&name) || !seen.insert((entry.kind, name.clone())) {
                return Err(damaged());
            }
            files.push((entry.kind, name, sealed::decode(path, entry.content)?));
        }
        let digest = data_encoding::HEXLOWER.encode(&Sha256::digest(&sealed));
        Ok(Self {
            path: path.to_owned(),
            made: archive.made,
            digest,
            recipients: archive.recipients,
            log: archive.log,
            files,
        })
    }

    /// When it was made, by the clock of the host that made it.
    #[must_use]
    pub fn made(&self) -> Timestamp {
        self.made
    }

    /// SHA-256 of the sealed file, lower-case hex.
    #[must_use]
    pub fn digest(&self) -> &str {
        &self.digest
    }

    /// Whom a restored vault is sealed to, unless others are given then: a line each.
    #[must_use]
    pub fn recipients(&self) -> &[String] {
        &self.recipients
    }

    /// The log that belonged to the vault, where the backup says so.
    #[must_use]
    pub fn log(&self) -> Option<&LogName> {
        self.log.as_ref()
    }

    /// The public half of the key that signs the log, where that key is in the backup.
    #[must_use]
    pub fn audit_key(&self) -> Option<[u8; 32]> {
        let home = self.content(Kind::Home, AUDIT_KEY);
        let home = home.map_or(Some(Home::AGE), |text| Home::parse(&self.path, text.as_slice()).ok())?;
        let name = home.file(Secret::Audit)?;
        let seed = sealed::secret_in(&self.path, self.content(Kind::Secret, name)?, name).ok()?;
        Some(AuditKey::from_seed(seed.as_slice()).ok()?.public_key())
    }

    /// The CAs in it, sorted by cluster: those whose keys it has, and those elsewhere whose records name the certificate. What cannot
    /// be read is left out: [`Self::drill`] says so.
    #[must_use]
    pub fn cas(&self) -> Vec<ArchivedCa> {
        let mut found = Vec::new();
        for (kind, name, content) in &self.files {
            let stem = match kind {
                Kind::Ca => cluster_of(name),
                Kind::Record => Some(name.as_str()),
                _ => None,
            };
            let Some(cluster) = stem.and_then(|name| ClusterName::new(name).ok()) else { continue };
            let record = self.record(&cluster);
            let (certificate, is_needed) = if *kind == Kind::Ca {
                let path = self.path.join(kind.told(name));
                let opened = sealed::ca_in(&path, content, cluster.as_str()).and_then(pair);
                let file = format!("{name}.age");
                let needs = |record: &Record| record.needed().any(|place| place.file() == Some(&file));
                (opened.ok().map(|ca| ca.certificate().clone()), record.as_ref().is_none_or(needs))
            } else {
                let pem = record.and_then(|record| record.active.certificate().map(str::to_owned));
                (pem.and_then(|pem| CaCertificate::parse(&pem).ok()), true)
            };
            found.extend(certificate.map(|certificate| ArchivedCa { cluster, certificate, is_needed }));
        }
        found.sort_by(|one, other| one.cluster.cmp(&other.cluster));
        found
    }

    /// The clusters whose standing credential it has, with the SHA-256 of the credential's certificate, lower-case hex.
    #[must_use]
    pub fn credentials(&self) -> Vec<(ClusterName, String)> {
        let secrets = self.files.iter().filter(|(kind, name, _)| *kind == Kind::Secret && is_talos_credential(name));
        let read = |(_, name, content): &(Kind, String, LockedBytes)| {
            let cluster = ClusterName::new(name.strip_prefix("talos-")?).ok()?;
            let value = sealed::secret_in(&self.path, content, name).ok()?;
            Some((cluster, StandingCredential::from_sealed(value.as_slice()).ok()?.fingerprint()))
        };
        secrets.filter_map(read).collect()
    }

    /// What a restore makes files of, a line each.
    #[must_use]
    pub fn held(&self, recipients: &[String]) -> Vec<String> {
        let comes = |kind: Kind| kind != Kind::Identity || recipients.is_empty();
        let files = self.files.iter().filter(|(kind, _, _)| comes(*kind));
        files.map(|(kind, name, _)| kind.told(name)).collect()
    }

    /// Looks at each file as the broker would: a CA's key and certificate belong together, a secret is the one its name says, and the files
    /// are there that a record names.
    #[must_use]
    pub fn drill(&self) -> Vec<Drilled> {
        let look = |(kind, name, content): &(Kind, String, LockedBytes)| Drilled {
            what: kind.told(name),
            found: self.look(*kind, name, content),
        };
        let own = whole::named_by_none(|kind, name| self.has(kind, name), self.log.is_some());
        let own = own.filter_map(|it| Some((it.lacks(|kind, name| self.has(kind, name))?, it.by)));
        let own = own.map(|(error, what)| Drilled { what, found: Err(error) });
        self.files.iter().map(look).chain(own).collect()
    }

    /// Returns once the vault stands in `dir`, whole: it is made beside and renamed. It is sealed to `recipients`, or to those
    /// that the backup names where none are given; only then the identity that was in the folder comes with it. Records come as they are,
    /// also where a file is not there that one names: after a loss that is more than nothing, and [`Self::drill`] says it.
    ///
    /// # Errors
    /// When `dir` has files, a key or secret in the backup is no good, or the file system fails; then nothing was made.
    pub fn restore(&self, dir: &Path, recipients: &[String], plugins: &Plugins) -> Result<(), VaultError> {
        self.check_target(dir)?;
        let mut keys = self.files.iter().filter(|(kind, _, _)| !matches!(kind, Kind::Record | Kind::Home));
        keys.try_for_each(|(kind, name, content)| self.look(*kind, name, content).map(drop))?;
        let text = if recipients.is_empty() { self.recipients.join("\n") } else { recipients.join("\n") };
        let to = Recipients::parse(&text, plugins)?.ok_or_else(|| VaultError::Damaged(self.path.clone()))?;
        let failed = |error: std::io::Error| file::failure(dir, &error);
        let parent = folder_of(dir);
        let beside = tempfile::Builder::new().prefix(".ichor-restore-").tempdir_in(parent).map_err(failed)?;
        let made = beside.path().join("vault");
        let sealer = Sealer::create(&made, to)?;
        for (kind, name, content) in &self.files {
            let content = content.as_slice();
            let sealed = || sealer.recipients().seal(|writer| writer.write_all(content));
            match kind {
                Kind::Ca => file::write(&made.join("ca").join(format!("{name}.age")), &sealed()?, false)?,
                Kind::Secret => file::write(&sealer.secret_path(name)?, &sealed()?, false)?,
                Kind::Record => file::write(&made.join("ca").join(format!("{name}.{RECORD}")), content, false)?,
                Kind::Home => file::write(&made.join("secrets").join(format!("{name}.{RECORD}")), content, false)?,
                Kind::Identity if recipients.is_empty() => file::write(&made.join(name), content, false)?,
                Kind::Identity => {}
            }
        }
        // onto a folder only while that is empty: the system sees to it
        fs::rename(&made, dir).map_err(failed)?;
        file::sync_dir(parent)
    }

    /// Whether a vault could be restored there: the folder is empty or missing.
    ///
    /// # Errors
    /// When it has files.
    pub fn check_target(&self, dir: &Path) -> Result<(), VaultError> {
        if fs::read_dir(dir).is_ok_and(|mut files| files.next().is_some()) {
            return Err(VaultError::NotEmpty(dir.to_owned()));
        }
        Ok(())
    }

    fn content(&self, kind: Kind, name: &str) -> Option<&LockedBytes> {
        self.files.iter().find(|(of, it, _)| (*of, it.as_str()) == (kind, name)).map(|(_, _, content)| content)
    }

    fn record(&self, cluster: &ClusterName) -> Option<Record> {
        let content = self.content(Kind::Record, cluster.as_str())?;
        Record::parse(&self.path.join(Kind::Record.told(cluster.as_str())), cluster, content.as_slice()).ok()
    }

    fn has(&self, kind: Kind, name: &str) -> bool {
        self.content(kind, name).is_some()
    }

    fn look(&self, kind: Kind, name: &str, content: &LockedBytes) -> Result<String, VaultError> {
        let path = self.path.join(kind.told(name));
        match kind {
            Kind::Ca => {
                let cluster = cluster_of(name).unwrap_or_default();
                let facts = pair(sealed::ca_in(&path, content, cluster)?)?.facts();
                Ok(format!(
                    "key and certificate belong together: {} ({}), valid until {}, sha256 {}",
                    facts.subject, facts.algorithm, facts.not_after, facts.fingerprint
                ))
            }
            Kind::Secret => {
                let value = sealed::secret_in(&path, content, name)?;
                whole::check_value(name, value.as_slice())?;
                Ok("is the secret of that name".to_owned())
            }
            Kind::Record | Kind::Home => {
                let named = whole::named_in(&path, kind, name, content.as_slice())?;
                let lacks = named.iter().find_map(|it| it.lacks(|kind, name| self.has(kind, name)));
                let record = (kind == Kind::Record)
                    .then(|| ClusterName::new(name).ok().and_then(|it| self.record(&it)))
                    .flatten();
                let elsewhere = record.filter(|it| it.active.file().is_none() && it.active != Place::TalosApi);
                let good = match elsewhere {
                    None => "is one, and what it names is in the backup".to_owned(),
                    Some(record) => {
                        format!("is one; the CA is in no backup and was not looked at: {}", record.active.said())
                    }
                };
                lacks.map_or(Ok(good), Err)
            }
            Kind::Identity if name == identity::SEALED => {
                Ok("the broker's identity; its passphrase opens it".to_owned())
            }
            Kind::Identity => Ok("the broker's identity, in plain text".to_owned()),
        }
    }
}

// === impl Kind ===

impl Kind {
    /// Whether the name can be one of these: then its path stays in the vault's folder.
    fn fits(self, name: &str) -> bool {
        match self {
            Self::Ca => cluster_of(name).is_some(),
            Self::Record => ClusterName::new(name).is_ok(),
            Self::Secret => check_secret(name).is_ok(),
            Self::Home => [DATA_KEY, AUDIT_KEY].contains(&name),
            Self::Identity => [identity::SEALED, identity::BESIDE].contains(&name),
        }
    }
}
