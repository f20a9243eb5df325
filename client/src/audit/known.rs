//! What is believed of a broker's log.

use std::path::PathBuf;

use ichor_wire::api::AuditKeyAnswer;
use ichor_wire::log::proof::follow;
use ichor_wire::log::{Checkpoint, CheckpointError, LogKey, LogKeyError, is_opened_again};
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
    /// The keys that are believed, oldest first: each led to the next. None before the first use.
    keys: Vec<LogKey>,
    /// The newest checkpoint that was verified, and shown to continue the one before.
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
        let file = folder(environment, broker)?.join("log.json");
        let kept = match private_file::read_secret(&file, 256 * 1024)? {
            None => Kept { broker: broker.url(), keys: Vec::new(), checkpoint: None },
            Some(json) => serde_json::from_str(&json).map_err(|_| {
                Error::failed(
                    format!("`{}` cannot be read, so what was known of the audit log is lost", file.display()),
                    "pin the log's key as `audit_key` in .ichor.toml, then remove the file",
                )
            })?,
        };
        Ok(Self { file, kept, pinned: broker.audit_key().cloned() })
    }

    /// The keys that are believed without asking, oldest first: the pinned one, else the kept ones, and what they led to.
    #[must_use]
    pub fn keys(&self) -> Vec<LogKey> {
        let Some(pinned) = &self.pinned else { return self.kept.keys.clone() };
        let from = self.kept.keys.iter().position(|key| key == pinned);
        let followed = from.and_then(|from| self.kept.keys.get(from..));
        followed.map_or_else(|| vec![pinned.clone()], <[LogKey]>::to_vec)
    }

    /// The newest key that is believed.
    #[must_use]
    pub fn key(&self) -> Option<LogKey> {
        self.keys().pop()
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
        let key: LogKey = told.key.parse().map_err(|error: LogKeyError| {
            Error::failed(format!("the broker shows a key of its audit log that is none: {error}"), "update the broker")
        })?;
        self.kept.keys = vec![key.clone()];
        Ok(key)
    }

    /// Every key that is believed now, oldest first: the oldest known one, and those that the log itself leads to from there.
    ///
    /// # Errors
    /// When the broker's log has another key that nothing leads to, or none is known at all.
    pub fn follow(&self, told: &AuditKeyAnswer) -> Result<Vec<LogKey>, Error> {
        let known = self.keys();
        let Some(oldest) = known.first() else { return Err(Error::Bug("no key of the log is known")) };
        let keys = follow(oldest, &told.rotations).map_err(|error| self.refused(&error.to_string()))?;
        if self.is_opened_again(told) {
            return Err(self.opened_again(told));
        }
        let is_there = |key: &LogKey| keys.contains(key);
        if known.iter().all(is_there) && keys.iter().any(|key| key.to_string() == told.key) {
            return Ok(keys);
        }
        let newest = known.last().unwrap_or(oldest);
        Err(self.refused(&format!("it is `{}` now, and was `{newest}`", told.key)))
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

    /// The newest checkpoint of the log of the believed key that was verified, as it was signed.
    #[must_use]
    pub fn checkpoint(&self) -> Option<(Checkpoint, &str)> {
        let note = self.kept.checkpoint.as_deref()?;
        let checkpoint = Checkpoint::parse_unverified(note).ok()?;
        (checkpoint.origin() == self.key()?.name()).then_some((checkpoint, note))
    }

    /// Keeps the keys that are believed, and a checkpoint that was verified and continues the kept one.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn save(&mut self, keys: &[LogKey], note: Option<&str>) -> Result<(), Error> {
        self.kept.keys = keys.to_vec();
        if let Some(note) = note {
            self.kept.checkpoint = Some(note.to_owned());
        }
        let json = serde_json::to_vec(&self.kept).map_err(|_| Error::Bug("a checkpoint is not JSON"))?;
        private_file::write(&self.file, &json)
    }

    /// Whether the broker says that the log which is believed was opened again under its next name, as after a restore. Nobody but
    /// who runs the broker can tell whether that is so.
    #[must_use]
    pub fn is_opened_again(&self, told: &AuditKeyAnswer) -> bool {
        let told = told.key.parse::<LogKey>();
        self.key().zip(told.ok()).is_some_and(|(known, told)| is_opened_again(known.name(), told.name()))
    }

    fn opened_again(&self, told: &AuditKeyAnswer) -> Error {
        let (known, log) = (self.key(), told.key.split('+').next().unwrap_or_default());
        let known = known.as_ref().map_or_else(String::new, |key| key.name().to_owned());
        Error::failed(
            format!(
                "the broker says that its audit log `{known}` was opened again as `{log}`, as after a restore; that is not believed before \
                 you say so"
            ),
            format!(
                "ask who runs the broker whether they did that and what the log's key is; if it is this one, pin it in .ichor.toml: \
                 audit_key = \"{}\"",
                told.key
            ),
        )
    }

    fn refused(&self, why: &str) -> Error {
        let next = match self.because() {
            Because::Pinned => {
                "ask who runs the broker; if the change is theirs, set `audit_key` to the new key".into()
            }
            Because::FirstUse => format!(
                "ask who runs the broker; if the change is theirs, pin the new key as `audit_key` in .ichor.toml, or remove `{}`",
                self.file.display()
            ),
        };
        Error::failed(
            format!("the key of the broker's audit log has changed, and the log does not say so: {why}"),
            next,
        )
    }
}

/// Where what is known of a broker's log is kept.
pub(super) fn folder(environment: &Environment, broker: &Broker) -> Result<PathBuf, Error> {
    Ok(environment.state_dir().ok_or_else(no_home)?.join("audit").join(short_hash(&broker.url())))
}
