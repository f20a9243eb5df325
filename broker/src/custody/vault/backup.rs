//! One sealed file that holds all of a vault.

use std::borrow::Cow;
use std::path::Path;

use data_encoding::BASE64;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use zeroize::Zeroizing;

use super::sealer::cluster_of;
use super::{AUDIT_KEY, DATA_KEY, Vault, VaultError, file, identity, pair, sealed, whole};
use crate::custody::LogPin;

/// The form of the archive.
pub(super) const VERSION: u8 = 1;

/// The largest archive, in bytes: some thousand CAs.
pub(super) const MAX_ARCHIVE: u64 = 16 << 20;

/// The ending of a CA's record, which holds no secret.
pub(super) const RECORD: &str = "toml";

/// The archive, as JSON. It holds the *opened* files, so that whoever opens the archive can seal them to others.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Archive<'a> {
    pub(super) version: u8,
    pub(super) made: Timestamp,
    pub(super) recipients: Vec<String>,
    /// Whose log it was. To be told, and not restored: the log may have got another name since.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub(super) log: Option<LogName>,
    #[serde(borrow)]
    pub(super) files: Vec<Entry<'a>>,
}

/// The log that belonged to the vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogName {
    /// Its name.
    pub name: String,
    /// The key that verifies it, as signed notes name it.
    pub key: String,
}

/// One file. It has no path: where it goes is decided by what it is and by its name, which is checked.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct Entry<'a> {
    pub(super) kind: Kind,
    #[serde(borrow)]
    pub(super) name: Cow<'a, str>,
    /// Base64, which needs no escapes, so that reading it makes no copy.
    pub(super) content: &'a str,
}

/// What a file is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub(super) enum Kind {
    /// A CA with its key: what `ca/NAME.age` says.
    Ca,
    /// A secret: what `secrets/NAME.age` says.
    Secret,
    /// `ca/NAME.toml`, as it is.
    Record,
    /// `secrets/NAME.toml`, as it is: where a secret lives that is no file of the vault.
    Home,
    /// The broker's identity, as it is.
    Identity,
}

/// A sealed backup, in memory.
#[derive(Debug)]
pub struct Backup {
    sealed: Vec<u8>,
    holds: Vec<String>,
    lacks: Vec<String>,
    recipients: String,
}

// === impl Vault ===

impl Vault {
    /// All that the vault holds, opened, checked, and sealed together: to `recipients`, or to the vault's own where none are
    /// given. An identity that lies in the folder is part of it. What a record names and the vault has not is no part of it:
    /// [`Backup::lacks`].
    ///
    /// # Errors
    /// When something in the vault does not open as what it is, a recipient is none, or another command seals right now.
    pub fn backup(&self, recipients: &[String], made: Timestamp) -> Result<Backup, VaultError> {
        let dir = self.sealer.dir();
        let _lock = self.sealer.lock()?;
        let to = self.sealed_to(recipients)?;
        let mut contents = Vec::new();
        let listing = self.list()?;
        for name in listing.cas {
            let path = dir.join("ca").join(format!("{name}.age"));
            let cluster = cluster_of(&name).ok_or_else(|| VaultError::Damaged(path.clone()))?;
            let plaintext = sealed::open(&path, &self.openers)?;
            pair(sealed::ca_in(&path, &plaintext, cluster)?)?;
            contents.push((Kind::Ca, name, Zeroizing::new(BASE64.encode(plaintext.as_slice()))));
        }
        for name in listing.secrets {
            let path = self.sealer.secret_path(&name)?;
            let plaintext = sealed::open(&path, &self.openers)?;
            let value = sealed::secret_in(&path, &plaintext, &name)?;
            whole::check_value(&name, value.as_slice()).map_err(|_| VaultError::Damaged(path))?;
            contents.push((Kind::Secret, name, Zeroizing::new(BASE64.encode(plaintext.as_slice()))));
        }
        let mut named = Vec::new();
        let mut plain = |kind, name: String, path: &Path| -> Result<(), VaultError> {
            if let Some(bytes) = file::read(path)?.map(Zeroizing::new) {
                named.extend(whole::named_in(path, kind, &name, &bytes)?);
                contents.push((kind, name, Zeroizing::new(BASE64.encode(&bytes))));
            }
            Ok(())
        };
        for name in file::names(&dir.join("ca"), RECORD)? {
            let path = dir.join("ca").join(format!("{name}.{RECORD}"));
            plain(Kind::Record, name, &path)?;
        }
        for name in [DATA_KEY, AUDIT_KEY] {
            plain(Kind::Home, name.to_owned(), &dir.join("secrets").join(format!("{name}.{RECORD}")))?;
        }
        for name in [identity::SEALED, identity::BESIDE] {
            plain(Kind::Identity, name.to_owned(), &dir.join(name))?;
        }
        let files = contents.iter().map(|(kind, name, content)| Entry { kind: *kind, name: name.into(), content });
        let recipients = self.sealer.recipients().lines();
        let log = LogPin::read(dir)?.map(|pin| LogName { name: pin.origin, key: pin.key });
        let has = |kind: Kind, name: &str| contents.iter().any(|(of, it, _)| (*of, it.as_str()) == (kind, name));
        named.extend(whole::named_by_none(has, log.is_some()));
        let lacks = named.iter().filter_map(|it| it.lacks(has).map(|error| format!("{}: {error}", it.by))).collect();
        let archive = Archive { version: VERSION, made, recipients, log, files: files.collect() };
        let sealed = to.seal(|writer| serde_json::to_writer(writer, &archive).map_err(Into::into))?;
        if u64::try_from(sealed.len()).is_ok_and(|len| len > MAX_ARCHIVE) {
            return Err(VaultError::TooLarge(dir.to_owned()));
        }
        let holds = contents.iter().map(|(kind, name, _)| kind.told(name)).collect();
        Ok(Backup { sealed, holds, lacks, recipients: to.kinds() })
    }

    /// Whether nobody opens the vault, or a backup sealed to its recipients, but an identity that lies in its own folder: with
    /// the folder, both are lost.
    #[must_use]
    pub fn opens_only_by_itself(&self) -> bool {
        let lies_here = [identity::SEALED, identity::BESIDE].iter().any(|name| self.sealer.dir().join(name).exists());
        lies_here && self.sealer.recipients().lines().len() == 1
    }
}

// === impl Backup ===

impl Backup {
    /// Returns once the backup is durable at `path`, mode 0600; a file that is there stays, and is an error.
    ///
    /// # Errors
    /// When there is such a file, or the file system fails.
    pub fn write(&self, path: &Path) -> Result<(), VaultError> {
        file::write(path, &self.sealed, false)
    }

    /// SHA-256 of the sealed file, lower-case hex.
    #[must_use]
    pub fn digest(&self) -> String {
        data_encoding::HEXLOWER.encode(&Sha256::digest(&self.sealed))
    }

    /// What it holds, a line each.
    #[must_use]
    pub fn holds(&self) -> &[String] {
        &self.holds
    }

    /// What belongs to the vault and was not there, a sentence each: then it is no whole one that is restored.
    #[must_use]
    pub fn lacks(&self) -> &[String] {
        &self.lacks
    }

    /// Whom it is sealed to, by kind.
    #[must_use]
    pub fn recipients(&self) -> &str {
        &self.recipients
    }
}

// === impl Kind ===

impl Kind {
    /// Such a file, for people.
    pub(super) fn told(self, name: &str) -> String {
        match self {
            Self::Ca => format!("ca {name}"),
            Self::Secret => format!("secret {name}"),
            Self::Record => format!("record of ca {name}"),
            Self::Home => format!("record of secret {name}"),
            Self::Identity => name.to_owned(),
        }
    }
}
