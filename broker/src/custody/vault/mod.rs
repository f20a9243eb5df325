//! The default custody: a folder whose files are sealed to age recipients.
//!
//! ```text
//! recipients.txt      who can open it: X25519, SSH or plugin recipients, one a line
//! recipients.new      who is to open it, while `reseal` is under way or was cut short
//! identity.age        the broker's identity, sealed with a passphrase (or handed over as a systemd credential, and not here)
//! identity.txt        the same in plain text: for demonstrations only
//! ca/<cluster>.age    a CA certificate and its key
//! secrets/<name>.age  a key of the broker's own, or as `talos-<cluster>` a cluster's standing credential
//! ```
//!
//! Sealing needs only the recipients, opening needs the identity. Each sealed file names what it is for, so that a file
//! moved to another name does not open as that.

use std::fmt;
use std::path::{Path, PathBuf};

use age::x25519;
use ichor_wire::profile::CaCertificate;
use secrecy::SecretString;

use super::ca::CaMaterial;
use super::{DataKey, LocalSigner, LockedBytes, StandingCredential};
use crate::domain::ClusterName;

mod archived;
mod backup;
mod error;
pub(super) mod file;
mod holder;
mod identity;
mod plugin;
mod recipients;
mod reseal;
mod sealed;
mod sealer;
mod stream;
mod whole;

pub use archived::{Archived, ArchivedCa, Drilled};
pub use backup::{Backup, LogName};
pub use error::VaultError;
pub(super) use holder::seal_to;
pub use plugin::{PluginError, Plugins};
pub use reseal::Reseal;
pub(super) use sealer::cluster_of;
pub use sealer::{Aside, Sealer};
pub use stream::open_sealed;

use identity::Openers;
use recipients::Recipients;

/// The secret that seals rows of the database.
pub const DATA_KEY: &str = "data-key";

/// The secret that signs the audit log's checkpoints.
pub const AUDIT_KEY: &str = "audit-key";

/// An opened vault. Holds the identity; nothing else is kept decrypted.
pub struct Vault {
    sealer: Sealer,
    openers: Openers,
    plugins: Plugins,
    beside: bool,
}

/// Where the identity comes from.
#[derive(Clone, Debug)]
pub enum IdentitySource {
    /// `identity.age`, opened with this passphrase.
    Passphrase(SecretString),
    /// The text of an identity file, or an OpenSSH private key without passphrase, as a systemd credential hands it over.
    Text(SecretString),
    /// A file as `identity.age` that lies elsewhere, opened with this passphrase.
    File(PathBuf, SecretString),
    /// `identity.txt` in the vault's own folder. Whoever reads the folder can open it: `check` warns.
    DangerBeside,
}

/// Where a new vault's identity is kept.
#[derive(Debug)]
pub enum Keep {
    /// As `identity.age`, sealed with this passphrase of at least twelve characters.
    Passphrase(SecretString),
    /// Handed back in [`Created::identity`], to be made a systemd credential; not in the folder.
    Elsewhere,
    /// As `identity.txt` in the folder. For demonstrations only.
    DangerBeside,
}

/// A new vault.
#[derive(Debug)]
pub struct Created {
    /// The recipient of the new identity.
    pub recipient: String,
    /// The text of the identity file, for [`Keep::Elsewhere`].
    pub identity: Option<SecretString>,
}

/// What a vault's folder holds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Listing {
    /// Clusters with CA material, sorted.
    pub cas: Vec<String>,
    /// The broker's own secrets, sorted.
    pub secrets: Vec<String>,
}

// === impl Vault ===

impl Vault {
    /// Returns once a new vault is durable in `dir`: folders only the owner may read, recipients, identity, and the broker's
    /// own secrets ([`DATA_KEY`], [`AUDIT_KEY`]). `others` are further recipients, for a backup of the identity.
    ///
    /// # Errors
    /// When there is one already, a recipient or the passphrase does not do, or the file system fails.
    pub fn create(dir: &Path, keep: Keep, others: &[String]) -> Result<Created, VaultError> {
        let identity = x25519::Identity::generate();
        let recipient = identity.to_public().to_string();
        let text = identity::text(&identity);
        let sealed = match &keep {
            Keep::Passphrase(passphrase) => Some(identity::seal(&text, passphrase, identity::WORK)?),
            Keep::Elsewhere | Keep::DangerBeside => None,
        };
        let plugins = Plugins::default();
        let mut recipients = Recipients::parse(&recipient, &plugins)?.ok_or(VaultError::Identity)?;
        others.iter().try_for_each(|other| recipients.add(other, &plugins))?;
        let sealer = Sealer::create(dir, recipients)?;
        match (&keep, sealed) {
            (Keep::DangerBeside, _) => identity::write_beside(dir, &text)?,
            (_, Some(sealed)) => file::write(&dir.join(identity::SEALED), &sealed, false)?,
            (_, None) => {}
        }
        sealer.create_secret(DATA_KEY)?;
        sealer.create_secret(AUDIT_KEY)?;
        let identity = matches!(keep, Keep::Elsewhere).then_some(text);
        Ok(Created { recipient, identity })
    }

    /// Opens the vault in `dir`, running no plugin.
    ///
    /// # Errors
    /// As [`Self::open_allowing`].
    pub fn open(dir: &Path, source: IdentitySource) -> Result<Self, VaultError> {
        Self::open_allowing(dir, source, &Plugins::default())
    }

    /// Opens the vault in `dir`. With a passphrase it takes about a second, by design. Where the identity is a plugin's, each
    /// file that is opened later is a talk with the plugin, which may last half a minute.
    ///
    /// # Errors
    /// When the identity is missing, damaged or does not open, is not among the recipients, or needs a plugin that is not
    /// allowed.
    pub fn open_allowing(dir: &Path, source: IdentitySource, plugins: &Plugins) -> Result<Self, VaultError> {
        let sealer = Sealer::allowing(dir, plugins)?;
        let beside = matches!(source, IdentitySource::DangerBeside);
        let openers = identity::load(dir, source, plugins)?;
        openers.check(sealer.recipients())?;
        Ok(Self { sealer, openers, plugins: plugins.clone(), beside })
    }

    /// Seals to this vault's recipients.
    #[must_use]
    pub fn sealer(&self) -> &Sealer {
        &self.sealer
    }

    /// For tests: the cluster's first CA.
    #[cfg(test)]
    pub(crate) fn open_ca(&self, cluster: &ClusterName) -> Result<CaMaterial, VaultError> {
        self.open_ca_file(cluster, &format!("{cluster}.age"))
    }

    /// Opens a cluster's CA from this file below `ca/`, as a record names it, and checks that key and certificate belong together. Whether
    /// the CA is valid now is for the issuer to check, each time.
    ///
    /// # Errors
    /// When there is none, or it does not open as this cluster's CA.
    pub fn open_ca_file(&self, cluster: &ClusterName, file: &str) -> Result<CaMaterial, VaultError> {
        let path = self.sealer.ca_file(file)?;
        pair(sealed::open_ca(&path, &self.openers, cluster.as_str())?)
    }

    /// Opens a secret.
    ///
    /// # Errors
    /// When there is none, or it does not open as this secret.
    pub fn open_secret(&self, name: &str) -> Result<LockedBytes, VaultError> {
        let path = self.sealer.secret_path(name)?;
        sealed::open_secret(&path, &self.openers, name)
    }

    /// Opens a cluster's standing credential and checks that key and certificate belong together. Whether it is valid now is
    /// for whoever uses it to check, each time.
    ///
    /// # Errors
    /// When there is none, or it does not open as this cluster's.
    pub fn open_talos_credential(&self, cluster: &ClusterName) -> Result<StandingCredential, VaultError> {
        let json = self.open_secret(&sealer::talos_credential(cluster))?;
        Ok(StandingCredential::from_sealed(json.as_slice())?)
    }

    /// The key that seals rows of the database.
    ///
    /// # Errors
    /// As [`Self::open_secret`].
    pub fn data_key(&self) -> Result<DataKey, VaultError> {
        Ok(DataKey::new(self.open_secret(DATA_KEY)?.as_slice())?)
    }

    /// What the folder holds.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn list(&self) -> Result<Listing, VaultError> {
        self.sealer.list()
    }

    /// Whom it opens for, by kind, and which plugins may run: for `check`.
    #[must_use]
    pub fn told(&self) -> String {
        let allowed: Vec<_> = self.plugins.names().collect();
        let plugins =
            if allowed.is_empty() { "no plugins".to_owned() } else { format!("plugins {}", allowed.join(", ")) };
        format!("sealed to {}; {plugins} allowed", self.sealer.recipients().kinds())
    }

    /// What an operator should know, a sentence each: for `check`.
    #[must_use]
    pub fn warnings(&self) -> Vec<String> {
        let mut warnings = Vec::new();
        if self.beside {
            warnings.push(format!(
                "the vault's identity lies beside it in plain text (`{}`): whoever reads the folder has the CA keys; \
                 use a passphrase or a systemd credential",
                self.sealer.dir().join(identity::BESIDE).display()
            ));
        }
        warnings.extend(file::open_to_others(self.sealer.dir()));
        warnings.extend(file::files_open_to_others(self.sealer.dir()));
        warnings.extend(file::files_changed_by_others(self.sealer.dir()));
        if self.sealer.dir().join(reseal::INTENT).exists() {
            warnings.push("a reseal was cut short; `ichor-broker custody reseal` finishes it".to_owned());
        }
        let missing = self.sealer.recipients().plugins().filter_map(|name| self.plugins.program(name).err());
        warnings.extend(missing.map(|error| format!("nothing can be sealed: {error}")));
        warnings
    }
}

/// Certificate and key as a CA, if they belong together.
fn pair((certificate, key): (String, LockedBytes)) -> Result<CaMaterial, VaultError> {
    Ok(CaMaterial::new(CaCertificate::parse(&certificate)?, LocalSigner::from_der(key.as_slice())?)?)
}

impl fmt::Debug for Vault {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Vault").field("dir", &self.sealer.dir()).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
