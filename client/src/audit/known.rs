//! What is believed of a broker's log.

use std::path::PathBuf;

use ichor_wire::api::AuditKeyAnswer;
use ichor_wire::log::proof::follow;
use ichor_wire::log::{Checkpoint, CheckpointError, LogKey};
use serde::{Deserialize, Serialize};

use crate::broker::Broker;
use crate::certificate::short_hash;
use crate::environment::Environment;
use crate::error::Error;
use crate::private_file;
use crate::session::no_home;

/// The log of one broker: the key that is believed, and what was seen of it last.
#[derive(Debug)]
pub struct Known {
    file: PathBuf,
    kept: Kept,
    pinned: Option<LogKey>,
}

#[derive(Debug, Serialize, Deserialize)]
struct Kept {
    broker: String,
    /// The newest key that is believed; absent before the first use.
    key: Option<LogKey>,
    /// The newest checkpoint that was verified.
    checkpoint: Option<String>,
}

/// Why a key is believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Because {
    /// The settings name it, or one that led to it.
    Pinned,
    /// It was the first that this broker showed, or one that led to it.
    FirstUse,
}

// === impl Known ===

impl Known {
    /// What is known of this broker's log.
    ///
    /// # Errors
    /// When what was kept cannot be read: then a changed key could pass for the first.
    pub fn load(environment: &Environment, broker: &Broker) -> Result<Self, Error> {
        let folder = folder(environment, broker)?;
        let file = folder.join("log.json");
        let kept = match private_file::read_secret(&file, 256 * 1024)? {
            None => Kept { broker: broker.url(), key: None, checkpoint: None },
            Some(json) => serde_json::from_str(&json).map_err(|_| {
                Error::failed(
                    format!("`{}` cannot be read, so what was known of the audit log is lost", file.display()),
                    "pin the log's key as `audit_key` in .ichor.toml, then remove the file",
                )
            })?,
        };
        Ok(Self { file, kept, pinned: broker.audit_key().cloned() })
    }

    /// The key that is believed: the pinned one, else the kept one.
    #[must_use]
    pub fn key(&self) -> Option<&LogKey> {
        self.pinned.as_ref().or(self.kept.key.as_ref())
    }

    /// Why that key is believed.
    #[must_use]
    pub fn because(&self) -> Because {
        if self.pinned.is_some() { Because::Pinned } else { Because::FirstUse }
    }

    /// Believes the first key that the broker shows, where none is known.
    ///
    /// # Errors
    /// When the key is not one.
    pub fn first_use(&mut self, told: &AuditKeyAnswer) -> Result<LogKey, Error> {
        let key: LogKey = told.key.parse().map_err(|error| {
            Error::failed(format!("the broker shows a key of its audit log that is none: {error}"), "update the broker")
        })?;
        self.kept.key = Some(key.clone());
        Ok(key)
    }

    /// Every key that is believed now, oldest first: the known one, and those that the log itself leads to from there.
    ///
    /// # Errors
    /// When the broker's log has another key that nothing leads to, or none is known at all.
    pub fn follow(&self, told: &AuditKeyAnswer) -> Result<Vec<LogKey>, Error> {
        let Some(known) = self.key() else { return Err(Error::Bug("no key of the log is known")) };
        let keys = follow(known, &told.rotations).map_err(|error| self.refused(&error.to_string()))?;
        let mut all = keys;
        // A pin may be older than what was followed before.
        all.extend(self.kept.key.clone().filter(|key| self.pinned.is_none() && !all.contains(key)));
        if all.iter().any(|key| key.to_string() == told.key) {
            return Ok(all);
        }
        Err(self.refused(&format!("it is `{}` now, and was `{known}`", told.key)))
    }

    /// The checkpoint in a signed note, under the newest of these keys that signed it.
    ///
    /// # Errors
    /// When none of them did.
    pub fn verify(keys: &[LogKey], note: &str) -> Result<Checkpoint, CheckpointError> {
        let mut refused = CheckpointError::Malformed("no key is known");
        for key in keys.iter().rev() {
            match Checkpoint::parse_and_verify(note, key) {
                Ok(checkpoint) => return Ok(checkpoint),
                Err(error) => refused = error,
            }
        }
        Err(refused)
    }

    /// The newest checkpoint of the log of the believed key that was verified.
    #[must_use]
    pub fn checkpoint(&self) -> Option<Checkpoint> {
        let checkpoint = Checkpoint::parse_unverified(self.kept.checkpoint.as_deref()?).ok()?;
        (checkpoint.origin() == self.key()?.name()).then_some(checkpoint)
    }

    /// Keeps the newest key, and a verified checkpoint where it is newer than the kept one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&mut self, newest: &LogKey, note: Option<&str>) -> Result<(), Error> {
        if self.pinned.is_none() {
            self.kept.key = Some(newest.clone());
        }
        let size = |note: &str| Checkpoint::parse_unverified(note).map(|checkpoint| checkpoint.size()).ok();
        if let Some(note) = note
            && self.checkpoint().map(|checkpoint| checkpoint.size()) <= size(note)
        {
            self.kept.checkpoint = Some(note.to_owned());
        }
        let json = serde_json::to_vec(&self.kept).map_err(|_| Error::Bug("a checkpoint is not JSON"))?;
        private_file::write(&self.file, &json)
    }

    fn refused(&self, why: &str) -> Error {
        let next = match self.because() {
            Because::Pinned => "ask who runs the broker; if the change is theirs, set `audit_key` to the new key".into(),
            Because::FirstUse => format!(
                "ask who runs the broker; if the change is theirs, pin the new key as `audit_key` in .ichor.toml, or remove `{}`",
                self.file.display()
            ),
        };
        Error::failed(format!("the key of the broker's audit log has changed, and the log does not say so: {why}"), next)
    }
}

/// Where what is known of a broker's log is kept.
pub(super) fn folder(environment: &Environment, broker: &Broker) -> Result<PathBuf, Error> {
    Ok(environment.state_dir().ok_or_else(no_home)?.join("audit").join(short_hash(&broker.url())))
}
