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
use ichor_wire::profile::{CaCertificate, CaError};
use secrecy::SecretString;

use super::ca::{CaMaterial, KeyMismatch};
use super::{DataKey, KeyLoadError, LocalSigner, LockedBytes, SealError, StandingCredential, StandingError};
use crate::domain::ClusterName;
use crate::entropy::EntropyError;
use crate::regular::ReadError;

mod archived;
mod backup;
pub(super) mod file;
mod holder;
mod identity;
mod plugin;
mod recipients;
mod reseal;
mod sealed;
mod sealer;
mod stream;

pub use archived::{Archived, ArchivedCa, Drilled};
pub use backup::{Backup, LogName};
pub(super) use holder::seal_to;
pub use plugin::{PluginError, Plugins};
pub use reseal::Reseal;
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

/// Why the vault could not do it.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum VaultError {
    /// The file system said no.
    #[error("`{path}`: {reason}")]
    File {
        /// Which file or folder.
        path: PathBuf,
        /// What it said.
        reason: String,
    },
    /// A vault, or a file in it, is there already.
    #[error("`{0}` exists already and is not overwritten; ask to replace it if that is meant")]
    Exists(PathBuf),
    /// No such file in the vault.
    #[error("`{0}` does not exist; if it did, bring it back with `ichor-broker custody restore`")]
    Missing(PathBuf),
    /// The folder has no recipients.
    #[error(
        "`{0}` is not a vault (no recipients.txt); if it was, bring it back with `ichor-broker custody restore`, and `ichor-broker init` makes a new one"
    )]
    NotAVault(PathBuf),
    /// A line of `recipients.txt`, or a recipient given, is not one.
    #[error("`{0}` is not a recipient; write `age1…`, `ssh-ed25519 …`, `ssh-rsa …`, or a plugin's `age1NAME1…`")]
    Recipient(String),
    /// The identity's file is not there.
    #[error("no identity at `{0}`; give the passphrase's file, or the identity as a systemd credential")]
    NoIdentity(PathBuf),
    /// The identity's text is not one.
    #[error(
        "the identity is none that opens a vault: give `AGE-SECRET-KEY-1…`, an OpenSSH private key, or an allowed plugin's \
         `AGE-PLUGIN-…`"
    )]
    Identity,
    /// An OpenSSH key that is sealed with a passphrase.
    #[error(
        "the OpenSSH key is sealed with a passphrase, and nobody is there to type it; take the passphrase off a copy \
         (`ssh-keygen -p -N '' -f COPY`) and hand that over as an encrypted systemd credential"
    )]
    SshPassphrase,
    /// An OpenSSH key that age cannot open files with.
    #[error("this kind of SSH key cannot open a vault; use an `ssh-ed25519` or `ssh-rsa` key in OpenSSH's format")]
    SshKind,
    /// `identity.age` is not sealed with a passphrase.
    #[error("`{0}` is not sealed with a passphrase")]
    NotPassphrase(PathBuf),
    /// The passphrase does not open the identity.
    #[error("the passphrase is wrong")]
    WrongPassphrase,
    /// The passphrase is too short to protect the vault.
    #[error("the passphrase is too short; use at least twelve characters")]
    ShortPassphrase,
    /// Opening the identity would take too much work: nothing of ours asks for so much.
    #[error("`{0}` asks for too much work; it was not made by this program")]
    Work(PathBuf),
    /// The identity is none of the recipients, so what is sealed from now on could not be opened.
    #[error("the identity's recipient `{0}` is not in recipients.txt; add it, or give the right identity")]
    NotARecipient(String),
    /// The file is sealed, but not to this identity.
    #[error("`{0}` is not sealed to this identity; open it with another, or seal it again")]
    NoMatch(PathBuf),
    /// The file was changed or cut, or is no age file.
    #[error("`{0}` is damaged; restore it from a backup")]
    Damaged(PathBuf),
    /// The file was sealed for something else.
    #[error("`{path}` was sealed as `{found}`; it was moved or renamed")]
    Mislabelled {
        /// Which file.
        path: PathBuf,
        /// What it says of itself.
        found: String,
    },
    /// A CA's record is none.
    #[error("`{0}` is no record of a CA; restore it from a backup")]
    Record(PathBuf),
    /// A CA's key without the record that says that it is in force.
    #[error(
        "`{path}` holds a CA's key, but no record says that it is in force: it may be one that was moved or retired. Restore \
         `ca/{cluster}.toml` from a backup, or, where an earlier version made this CA, run `ichor-broker ca record {cluster} --reason …`"
    )]
    NoRecord {
        /// The key's file.
        path: PathBuf,
        /// The cluster that it is named after.
        cluster: String,
    },
    /// A CA's record is another cluster's.
    #[error(
        "`{path}` is the record of cluster `{owner}`'s CA, copied; restore this cluster's own from a backup, or remove the file and \
         make a CA with `ichor-broker ca create`"
    )]
    OthersRecord {
        /// The file.
        path: PathBuf,
        /// Whose record it is.
        owner: String,
    },
    /// A CA's record is another than the one that a command began with.
    #[error(
        "`{0}` was changed by another command meanwhile, and stays as that left it; look at `ichor-broker ca show`, then try again"
    )]
    RecordChanged(PathBuf),
    /// A secret's name does not fit.
    #[error("`{0}` is not a secret's name: use lower-case letters, digits and inner hyphens")]
    Name(String),
    /// With such recipients the broker could open nothing any more.
    #[error(
        "with these recipients the broker's own identity would open nothing any more; keep its recipient in the list"
    )]
    LocksOut,
    /// A recipient that is to be taken out is not there.
    #[error("`{0}` is not in recipients.txt; nothing was changed")]
    NotListed(String),
    /// A folder to restore into has files.
    #[error("`{0}` is not empty, and a restore overwrites nothing; move it away, or name another folder with `--to`")]
    NotEmpty(PathBuf),
    /// A file is none that can be one of ours; it was not read.
    #[error("`{path}`: {why}")]
    Unread {
        /// Which file or folder.
        path: PathBuf,
        /// Why.
        why: ReadError,
    },
    /// More than a backup holds.
    #[error("the vault holds more than the 16 MiB that go into a backup; move what is not the vault's out of `{0}`")]
    TooLarge(PathBuf),
    /// Another command writes there.
    #[error("another command seals into `{0}` right now; try again when it is done")]
    Busy(PathBuf),
    /// A plugin did not do its part.
    #[error(transparent)]
    Plugin(#[from] PluginError),
    /// A private key cannot be used.
    #[error(transparent)]
    Key(#[from] KeyLoadError),
    /// A CA certificate cannot be used.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// A standing credential cannot be used.
    #[error(transparent)]
    Standing(#[from] StandingError),
    /// Key and certificate belong to different CAs.
    #[error(transparent)]
    Mismatch(#[from] KeyMismatch),
    /// A data key cannot be used.
    #[error(transparent)]
    Data(#[from] SealError),
    /// No random values.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
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

    /// Opens a cluster's CA and checks that key and certificate belong together. Whether the CA is valid now is for the
    /// issuer to check, each time.
    ///
    /// # Errors
    /// When there is none, or it does not open as this cluster's CA.
    pub fn open_ca(&self, cluster: &ClusterName) -> Result<CaMaterial, VaultError> {
        self.open_ca_file(cluster, &format!("{cluster}.age"))
    }

    /// The same from another file below `ca/`, as a record names it.
    ///
    /// # Errors
    /// As [`Self::open_ca`].
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
