//! Sealing: it needs the recipients and no secret.

use std::fs::File;
use std::path::{Path, PathBuf};

use nix::fcntl::Flock;

use super::recipients::Recipients;
use super::{Listing, Plugins, VaultError, file, sealed};
use crate::custody::ca::CaMaterial;
use crate::custody::record::Place;
#[cfg(test)]
use crate::custody::record::Record;
use crate::custody::{LocalSigner, StandingCredential};
use crate::domain::ClusterName;
use crate::entropy;

/// Who can open the vault.
pub(super) const RECIPIENTS: &str = "recipients.txt";

/// Why a CA's file was set aside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Aside {
    /// The CA lives elsewhere now.
    Moved,
    /// It issues no more.
    Retired,
}

/// Seals into a vault's folder.
#[derive(Clone, Debug)]
pub struct Sealer {
    dir: PathBuf,
    recipients: Recipients,
    /// What the recipients were read from.
    text: Vec<u8>,
}

// === impl Aside ===

impl Aside {
    const ALL: [Self; 2] = [Self::Moved, Self::Retired];

    fn ending(self) -> &'static str {
        match self {
            Self::Moved => "moved",
            Self::Retired => "retired",
        }
    }

    /// `ca/prod.age` is `ca/prod.age.moved` then.
    fn path(self, file: &Path) -> PathBuf {
        file.with_extension(format!("age.{}", self.ending()))
    }
}

// === impl Sealer ===

impl Sealer {
    /// The sealer of the vault in `dir`, which runs no plugin.
    ///
    /// # Errors
    /// As [`Self::allowing`].
    pub fn at(dir: &Path) -> Result<Self, VaultError> {
        Self::allowing(dir, &Plugins::default())
    }

    /// The sealer of the vault in `dir`; to seal to a plugin's recipient runs the plugin, if it is among these.
    ///
    /// # Errors
    /// When there is no vault, or one of its recipients is none or needs a plugin that is not allowed.
    pub fn allowing(dir: &Path, plugins: &Plugins) -> Result<Self, VaultError> {
        let bytes = file::read(&dir.join(RECIPIENTS))?.ok_or_else(|| VaultError::NotAVault(dir.to_owned()))?;
        let text = std::str::from_utf8(&bytes).map_err(|_| VaultError::Recipient("(not text)".to_owned()))?;
        let recipients = Recipients::parse(text, plugins)?.ok_or_else(|| VaultError::NotAVault(dir.to_owned()))?;
        Ok(Self { dir: dir.to_owned(), recipients, text: bytes })
    }

    /// Whether a vault lies in `dir`.
    #[must_use]
    pub fn is_at(dir: &Path) -> bool {
        dir.join(RECIPIENTS).exists()
    }

    /// Makes the folders and `recipients.txt`.
    pub(super) fn create(dir: &Path, recipients: Recipients) -> Result<Self, VaultError> {
        file::make_dir(dir)?;
        file::make_dir(&dir.join("ca"))?;
        file::make_dir(&dir.join("secrets"))?;
        let text = text_of(&recipients).into_bytes();
        file::write(&dir.join(RECIPIENTS), &text, false)?;
        Ok(Self { dir: dir.to_owned(), recipients, text })
    }

    /// The lock under which the vault is sealed into, where its recipients are those that were read: who was removed meanwhile opens nothing
    /// that is sealed after that.
    ///
    /// # Errors
    /// When they are others, or another command seals right now.
    pub(super) fn lock(&self) -> Result<Flock<File>, VaultError> {
        let lock = file::lock(&self.dir)?;
        let path = self.dir.join(RECIPIENTS);
        match file::read(&path)? {
            Some(now) if now == self.text => Ok(lock),
            _ => Err(VaultError::RecipientsChanged(path)),
        }
    }

    /// For tests: the cluster's first CA, with the record that says so unless there is one.
    #[cfg(test)]
    pub(crate) fn seal_ca(&self, cluster: &ClusterName, ca: &CaMaterial, replace: bool) -> Result<(), VaultError> {
        let file = format!("{cluster}.age");
        self.seal_ca_file(cluster, &file, ca, replace)?;
        match Record::written(&self.dir, cluster)? {
            Some(_) => Ok(()),
            None => Record::first(Place::Age { file }).write(&self.dir, cluster, false),
        }
    }

    /// Returns once the cluster's CA is durable in this file below `ca/`, as a record names it. Key and certificate are checked once more
    /// before that.
    ///
    /// # Errors
    /// When there is one already and `replace` does not say otherwise, the recipients are others than when they were read, or the file
    /// system fails.
    pub fn seal_ca_file(
        &self,
        cluster: &ClusterName,
        file: &str,
        ca: &CaMaterial,
        replace: bool,
    ) -> Result<(), VaultError> {
        let path = self.ca_file(file)?;
        let sealed = self.sealed(cluster, ca)?;
        let _lock = self.lock()?;
        file::write(&path, &sealed, replace)
    }

    /// Returns the name of the file below `ca/` in which the cluster's CA is durable: the first by a number of at least `from` that
    /// no other has or had. Nothing is written over.
    ///
    /// # Errors
    /// When another command writes in the vault, the recipients are others than when they were read, or the file system fails.
    pub fn seal_next_ca(&self, cluster: &ClusterName, ca: &CaMaterial, from: u32) -> Result<String, VaultError> {
        let sealed = self.sealed(cluster, ca)?;
        let _lock = self.lock()?;
        let name = self.free_ca_file(cluster, from)?;
        file::write(&self.ca_file(&name)?, &sealed, false)?;
        Ok(name)
    }

    /// The name of the first file by a number of at least `from` that is not there, nor set aside.
    ///
    /// # Errors
    /// When the cluster's name cannot stand in a file's.
    pub fn free_ca_file(&self, cluster: &ClusterName, from: u32) -> Result<String, VaultError> {
        let mut number = from;
        loop {
            let name = ca_file_name(cluster, number);
            let path = self.ca_file(&name)?;
            let is_there = |path: &Path| path.symlink_metadata().is_ok();
            if !is_there(&path) && !Aside::ALL.iter().any(|why| is_there(&why.path(&path))) {
                return Ok(name);
            }
            number += 1;
        }
    }

    /// The names of the cluster's files below `ca/`, sorted; not those that were set aside.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn ca_files(&self, cluster: &ClusterName) -> Result<Vec<String>, VaultError> {
        let stems = file::names(&self.dir.join("ca"), "age")?;
        let own = stems.into_iter().filter(|stem| cluster_of(stem) == Some(cluster.as_str()));
        Ok(own.map(|stem| format!("{stem}.age")).collect())
    }

    /// Certificate and key for the recipients, once they were checked again.
    fn sealed(&self, cluster: &ClusterName, ca: &CaMaterial) -> Result<Vec<u8>, VaultError> {
        let key = ca.signer().to_pkcs8()?;
        let again = LocalSigner::from_der(key.as_slice())?;
        let ca = CaMaterial::new(ca.certificate().clone(), again)?;
        sealed::seal_ca(&self.recipients, cluster.as_str(), ca.certificate().pem(), &key)
    }

    /// Returns once the secret is durable in the vault.
    ///
    /// # Errors
    /// When there is one already and `replace` does not say otherwise, the recipients are others than when they were read, or the file system
    /// fails.
    pub fn seal_secret(&self, name: &str, value: &[u8], replace: bool) -> Result<(), VaultError> {
        let path = self.secret_path(name)?;
        let sealed = sealed::seal_secret(&self.recipients, name, value)?;
        let _lock = self.lock()?;
        file::write(&path, &sealed, replace)
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

    /// Returns once the file below `ca/` is gone, and any copy of it that was set aside; one that is not there is as good.
    ///
    /// # Errors
    /// When the file system fails.
    pub fn remove_ca_file(&self, name: &str) -> Result<(), VaultError> {
        let path = self.ca_file(name)?;
        // a reseal under way would write it again
        let _lock = file::lock(&self.dir)?;
        for why in Aside::ALL {
            file::remove(&why.path(&path))?;
        }
        file::remove(&path)
    }

    /// Returns once a file below `ca/` that this process wrote, and that came to be named by no record, is gone.
    ///
    /// # Errors
    /// When another command writes in the vault, or the file system fails.
    pub fn discard_ca_file(&self, name: &str) -> Result<(), VaultError> {
        let path = self.ca_file(name)?;
        let _lock = file::lock(&self.dir)?;
        file::remove(&path)
    }

    /// Returns once the cluster's standing credential is gone; one that is not there is as good.
    ///
    /// # Errors
    /// When the file system fails.
    pub fn remove_talos_credential(&self, cluster: &ClusterName) -> Result<(), VaultError> {
        let _lock = file::lock(&self.dir)?;
        file::remove(&self.dir.join("secrets").join(format!("{}.age", talos_credential(cluster))))
    }

    /// Whether the place is a file of the vault that is not there.
    #[must_use]
    pub fn lacks_key_of(&self, place: &Place) -> bool {
        matches!(place, Place::Age { file } if self.ca_file(file).is_ok_and(|path| path.symlink_metadata().is_err()))
    }

    /// Returns the file's new path once it lies under a name that is opened as no CA; `None` where there is no such file.
    ///
    /// # Errors
    /// When the file system fails.
    pub fn set_aside(&self, name: &str, why: Aside) -> Result<Option<PathBuf>, VaultError> {
        let path = self.ca_file(name)?;
        let _lock = file::lock(&self.dir)?;
        let aside = why.path(&path);
        Ok(file::rename(&path, &aside)?.then_some(aside))
    }

    /// The files below `ca/` that were set aside, sorted: each holds a key.
    ///
    /// # Errors
    /// When the folder cannot be read.
    pub fn set_asides(&self) -> Result<Vec<String>, VaultError> {
        let mut found = Vec::new();
        for why in Aside::ALL {
            let ending = why.ending();
            let names = file::names(&self.dir.join("ca"), ending)?;
            found.extend(names.iter().filter(|name| name.ends_with(".age")).map(|name| format!("{name}.{ending}")));
        }
        found.sort();
        Ok(found)
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

    /// Who can open the vault, a line each.
    #[must_use]
    pub fn opened_by(&self) -> Vec<String> {
        self.recipients.lines()
    }

    pub(super) fn recipients(&self) -> &Recipients {
        &self.recipients
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
        check_secret(name)?;
        Ok(self.dir.join("secrets").join(format!("{name}.age")))
    }
}

/// The name of a file below `ca/`: `prod.age`, and `prod.2.age` for the second CA that the cluster has.
fn ca_file_name(cluster: &ClusterName, number: u32) -> String {
    match number {
        0 | 1 => format!("{cluster}.age"),
        more => format!("{cluster}.{more}.age"),
    }
}

/// Whose CA a file below `ca/` is, by its name without the ending: `prod`, or `prod.2` for the second that the cluster has.
pub(in crate::custody) fn cluster_of(stem: &str) -> Option<&str> {
    let (cluster, number) = stem.split_once('.').unwrap_or((stem, "0"));
    let is_number = !number.is_empty() && number.bytes().all(|byte| byte.is_ascii_digit());
    (is_number && ClusterName::new(cluster).is_ok()).then_some(cluster)
}

/// The secret under which a cluster's standing credential is sealed. Its name is checked when it is opened, so that one moved
/// to another cluster's name does not open as that one's.
pub(super) fn talos_credential(cluster: &ClusterName) -> String {
    format!("talos-{cluster}")
}

/// Whether a secret of this name is a cluster's standing credential.
pub(super) fn is_talos_credential(name: &str) -> bool {
    name.strip_prefix("talos-").is_some_and(|cluster| ClusterName::new(cluster).is_ok())
}

/// A secret's name holds no separator and no dot, so that its path stays in the folder.
pub(super) fn check_secret(name: &str) -> Result<(), VaultError> {
    let fits = (1..=80).contains(&name.len())
        && name.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !name.starts_with('-')
        && !name.ends_with('-');
    if fits { Ok(()) } else { Err(VaultError::Name(name.chars().filter(|c| !c.is_control()).take(80).collect())) }
}

/// `recipients.txt` with these.
pub(super) fn text_of(recipients: &Recipients) -> String {
    let head = "# who can open this vault: age, SSH and plugin recipients, one a line; `ichor-broker custody reseal` edits it\n";
    recipients.lines().iter().fold(head.to_owned(), |text, line| text + line + "\n")
}
