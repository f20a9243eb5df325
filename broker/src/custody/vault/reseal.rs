//! Sealing all that is in the vault again, to the recipients as they now are.

use std::fs::{self, File};
use std::path::{Path, PathBuf};

use nix::fcntl::Flock;
use serde::Deserialize;
use sha2::{Digest, Sha256};

use super::recipients::Recipients;
use super::sealer::{RECIPIENTS, cluster_of, text_of};
use super::{Sealer, Vault, VaultError, file, sealed};
use crate::custody::LockedBytes;

/// Who is to open the vault. It is there from before the first change until after the last one, so that a reseal that was cut
/// short is seen, and finished by the next.
pub(super) const INTENT: &str = "recipients.new";

/// A reseal that was looked at and not begun. Nobody else seals into the vault while it lives.
#[derive(Debug)]
pub struct Reseal<'a> {
    vault: &'a Vault,
    recipients: Recipients,
    before: Vec<String>,
    /// Each file, and what it says.
    files: Vec<(PathBuf, LockedBytes)>,
    _lock: Flock<File>,
}

/// What each sealed file says it is for; whatever else it says is sealed again as it is.
#[derive(Deserialize)]
struct Label<'a> {
    #[serde(borrow, default)]
    ca: Option<&'a str>,
    #[serde(borrow, default)]
    secret: Option<&'a str>,
}

// === impl Vault ===

impl Vault {
    /// Looks at what a reseal would do, after `add` and `remove` edited the recipients: every file opens, says that it is
    /// what its name says, and the broker's identity would still open what is sealed then. Goes on with a reseal that was cut
    /// short. Nothing is changed, but that what ended writes left beside their files goes.
    ///
    /// # Errors
    /// When one of these does not hold, or another command seals right now.
    pub fn plan_reseal(&self, add: &[String], remove: &[String]) -> Result<Reseal<'_>, VaultError> {
        let dir = self.sealer.dir();
        let lock = file::lock(dir)?;
        // a copy that a command left when it was ended would stay sealed to who is removed now
        file::sweep(dir)?;
        let now = Sealer::allowing(dir, &self.plugins)?;
        let mut recipients = match file::read(&dir.join(INTENT))? {
            Some(text) => Recipients::parse(&String::from_utf8_lossy(&text), &self.plugins)?,
            None => None,
        }
        .unwrap_or_else(|| now.recipients().clone());
        for line in remove {
            if !recipients.remove(line, &self.plugins)? {
                return Err(VaultError::NotListed(line.clone()));
            }
        }
        add.iter().try_for_each(|line| recipients.add(line, &self.plugins))?;
        let before = now.recipients().lines();
        let mut plan = Reseal { vault: self, recipients, before, files: Vec::new(), _lock: lock };
        plan.try_out()?;
        let listing = self.list()?;
        for (folder, names) in [("ca", listing.cas), ("secrets", listing.secrets)] {
            for name in names {
                let path = dir.join(folder).join(format!("{name}.age"));
                let plaintext = plan.open(&path)?;
                plan.files.push((path, plaintext));
            }
        }
        // what was set aside holds a key as well: whoever is removed is not to open it
        for name in self.sealer.set_asides()? {
            let path = dir.join("ca").join(name);
            let plaintext = plan.open(&path)?;
            plan.files.push((path, plaintext));
        }
        Ok(plan)
    }
}

// === impl Reseal ===

impl Reseal<'_> {
    /// Whom the vault will be sealed to, a line each.
    #[must_use]
    pub fn recipients(&self) -> Vec<String> {
        self.recipients.lines()
    }

    /// Who could open the vault until now, and will not.
    #[must_use]
    pub fn removed(&self) -> Vec<String> {
        self.before.iter().filter(|line| !self.recipients.has(line)).cloned().collect()
    }

    /// How many files will be sealed again.
    #[must_use]
    pub fn files(&self) -> usize {
        self.files.len()
    }

    /// SHA-256 of the new `recipients.txt`, lower-case hex.
    #[must_use]
    pub fn digest(&self) -> String {
        data_encoding::HEXLOWER.encode(&Sha256::digest(text_of(&self.recipients).as_bytes()))
    }

    /// Returns once every file is durably sealed to the new recipients and `recipients.txt` names them. Cut short anywhere,
    /// each file is whole and sealed either to the old or to the new recipients, the broker's identity opens all of them, and
    /// another reseal finishes.
    ///
    /// # Errors
    /// When the file system or a plugin fails; what was done until then stays.
    pub fn apply(self) -> Result<(), VaultError> {
        self.apply_with(&mut |_| Ok(()))
    }

    /// As [`Self::apply`], asking before each step; the steps are numbered from 0.
    pub(super) fn apply_with(self, go_on: &mut dyn FnMut(usize) -> Result<(), VaultError>) -> Result<(), VaultError> {
        let dir = self.vault.sealer.dir();
        let text = text_of(&self.recipients);
        go_on(0)?;
        file::write(&dir.join(INTENT), text.as_bytes(), true)?;
        go_on(1)?;
        // before the files, so that what another command seals later is sealed to the new ones
        file::write(&dir.join(RECIPIENTS), text.as_bytes(), true)?;
        for (at, (path, plaintext)) in self.files.iter().enumerate() {
            go_on(at + 2)?;
            let sealed = self.recipients.seal(|writer| writer.write_all(plaintext.as_slice()))?;
            file::write(path, &sealed, true)?;
        }
        go_on(self.files.len() + 2)?;
        fs::remove_file(dir.join(INTENT)).map_err(|error| file::failure(&dir.join(INTENT), &error))?;
        file::sync_dir(dir)
    }

    /// Seals a word to the new recipients and opens it with the broker's identity.
    fn try_out(&self) -> Result<(), VaultError> {
        let sealed = self.recipients.seal(|writer| writer.write_all(b"ichor"))?;
        match sealed::open_bytes(INTENT.as_ref(), &sealed, &self.vault.openers) {
            Err(VaultError::NoMatch(_)) => Err(VaultError::LocksOut),
            other => other.map(drop),
        }
    }

    /// What a file says, if it says that it is what its path says: a file that was moved is not made good by a reseal.
    fn open(&self, path: &Path) -> Result<LockedBytes, VaultError> {
        let plaintext = sealed::open(path, &self.vault.openers)?;
        let label: Label<'_> = sealed::parse(path, &plaintext)?;
        let name = path.file_name().and_then(|name| name.to_str()).unwrap_or_default();
        let stem = name.split_once(".age").map_or(name, |(stem, _)| stem);
        let is_ca = path.parent().is_some_and(|folder| folder.ends_with("ca"));
        let (said, meant) = if is_ca { (label.ca, cluster_of(stem)) } else { (label.secret, Some(stem)) };
        match said {
            Some(name) if meant == Some(name) => Ok(plaintext),
            _ => {
                let found = said.or(label.ca).or(label.secret).unwrap_or("(nothing)").to_owned();
                Err(VaultError::Mislabelled { path: path.to_owned(), found })
            }
        }
    }
}
