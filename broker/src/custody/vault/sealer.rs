//! Sealing: it needs the recipients and no secret.

use std::path::{Path, PathBuf};

use age::x25519;

use super::{Listing, VaultError, file, sealed};
use crate::custody::ca::CaMaterial;
use crate::custody::{LocalSigner, StandingCredential};
use crate::domain::ClusterName;
use crate::entropy;

/// Who can open the vault.
const RECIPIENTS: &str = "recipients.txt";

/// Seals into a vault's folder.
#[derive(Clone, Debug)]
pub struct Sealer {
    dir: PathBuf,
    recipients: Vec<x25519::Recipient>,
}

// === impl Sealer ===

impl Sealer {
    /// The sealer of the vault in `dir`.
    ///
    /// # Errors
    /// When there is no vault, or its recipients are not X25519 ones.
    pub fn at(dir: &Path) -> Result<Self, VaultError> {
        let bytes = file::read(&dir.join(RECIPIENTS))?.ok_or_else(|| VaultError::NotAVault(dir.to_owned()))?;
        let text = String::from_utf8(bytes).map_err(|_| VaultError::Recipient("(not text)".to_owned()))?;
        let lines = text.lines().map(str::trim).filter(|line| !line.is_empty() && !line.starts_with('#'));
        let recipients: Vec<_> = lines.map(recipient).collect::<Result<_, _>>()?;
        if recipients.is_empty() {
            return Err(VaultError::NotAVault(dir.to_owned()));
        }
        Ok(Self { dir: dir.to_owned(), recipients })
    }

    /// Makes the folders and `recipients.txt`.
    pub(super) fn create(dir: &Path, own: &str, others: &[String]) -> Result<Self, VaultError> {
        let mut text = String::from("# who can open this vault: age X25519 recipients, one a line\n");
        for line in std::iter::once(own).chain(others.iter().map(String::as_str)) {
            recipient(line.trim())?;
            text.push_str(line.trim());
            text.push('\n');
        }
        file::make_dir(dir)?;
        file::make_dir(&dir.join("ca"))?;
        file::make_dir(&dir.join("secrets"))?;
        file::write(&dir.join(RECIPIENTS), text.as_bytes(), false)?;
        Self::at(dir)
    }

    /// Returns once the cluster's CA is durable in the vault. Key and certificate are checked once more before that.
    ///
    /// # Errors
    /// When there is one already and `replace` does not say otherwise, or the file system fails.
    pub fn seal_ca(&self, cluster: &ClusterName, ca: &CaMaterial, replace: bool) -> Result<(), VaultError> {
        self.seal_ca_file(cluster, &format!("{cluster}.age"), ca, replace)
    }

    /// The same into another file below `ca/`, as a record names it.
    ///
    /// # Errors
    /// As [`Self::seal_ca`].
    pub fn seal_ca_file(
        &self,
        cluster: &ClusterName,
        file: &str,
        ca: &CaMaterial,
        replace: bool,
    ) -> Result<(), VaultError> {
        let path = self.ca_file(file)?;
        let key = ca.signer().to_pkcs8()?;
        let again = LocalSigner::from_der(key.as_slice())?;
        let ca = CaMaterial::new(ca.certificate().clone(), again)?;
        let sealed = sealed::seal_ca(&self.recipients, cluster.as_str(), ca.certificate().pem(), &key)?;
        file::write(&path, &sealed, replace)
    }

    /// Returns once the secret is durable in the vault.
    ///
    /// # Errors
    /// When there is one already and `replace` does not say otherwise, or the file system fails.
    pub fn seal_secret(&self, name: &str, value: &[u8], replace: bool) -> Result<(), VaultError> {
        let path = self.secret_path(name)?;
        file::write(&path, &sealed::seal_secret(&self.recipients, name, value)?, replace)
    }

    /// Returns once the cluster's standing credential is durable in the vault.
    ///
    /// # Errors
    /// When there is one already and `replace` does not say otherwise, or the file system fails.
    pub fn seal_talos_credential(
        &self,
        cluster: &ClusterName,
        credential: &StandingCredential,
        replace: bool,
    ) -> Result<(), VaultError> {
        self.seal_secret(&talos_credential(cluster), &credential.to_sealed(), replace)
    }

    /// As [`Self::seal_secret`] with 32 new random bytes; one that exists stays and is an error.
    ///
    /// # Errors
    /// As [`Self::seal_secret`], and when the system's generator fails.
    pub fn create_secret(&self, name: &str) -> Result<(), VaultError> {
        let value = zeroize::Zeroizing::new(entropy::bytes::<32>()?);
        self.seal_secret(name, &*value, false)
    }

    /// What the folder holds.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn list(&self) -> Result<Listing, VaultError> {
        Ok(Listing {
            cas: file::names(&self.dir.join("ca"), "age")?,
            secrets: file::names(&self.dir.join("secrets"), "age")?,
        })
    }

    /// The vault's folder.
    #[must_use]
    pub fn dir(&self) -> &Path {
        &self.dir
    }

    /// Whether what is sealed opens for this recipient.
    pub(super) fn has(&self, recipient: &str) -> bool {
        self.recipients.iter().any(|r| r.to_string() == recipient)
    }

    /// A file below `ca/` by its name, which leads nowhere else.
    pub(super) fn ca_file(&self, name: &str) -> Result<PathBuf, VaultError> {
        let stem = name.strip_suffix(".age").unwrap_or_default();
        let fits = !stem.is_empty()
            && !stem.starts_with('.')
            && stem.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || matches!(b, b'-' | b'.'));
        let shown = || VaultError::Name(name.chars().filter(|c| !c.is_control()).take(80).collect());
        fits.then(|| self.dir.join("ca").join(name)).ok_or_else(shown)
    }

    pub(super) fn secret_path(&self, name: &str) -> Result<PathBuf, VaultError> {
        let fits = (1..=80).contains(&name.len())
            && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
            && !name.starts_with('-')
            && !name.ends_with('-');
        if !fits {
            return Err(VaultError::Name(name.chars().filter(|c| !c.is_control()).take(80).collect()));
        }
        Ok(self.dir.join("secrets").join(format!("{name}.age")))
    }
}

/// The secret under which a cluster's standing credential is sealed. Its name is checked when it is opened, so that one moved
/// to another cluster's name does not open as that one's.
pub(super) fn talos_credential(cluster: &ClusterName) -> String {
    format!("talos-{cluster}")
}

/// A recipient from its line. What is no recipient is shown only if it cannot be an identity pasted by mistake.
fn recipient(line: &str) -> Result<x25519::Recipient, VaultError> {
    line.parse().map_err(|_| {
        let secret = line.to_ascii_uppercase().contains("SECRET");
        let shown = if secret {
            "(an identity)".to_owned()
        } else {
            line.chars().filter(|c| !c.is_control()).take(80).collect()
        };
        VaultError::Recipient(shown)
    })
}
