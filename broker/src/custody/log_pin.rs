//! What is known of the audit log outside its database: `secrets/audit-log.toml`, which holds no secret.
//!
//! Whoever writes the database cannot write it, so a log that was signed once is not taken for a new one.

use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use super::vault::{VaultError, file};
use super::{Custody, CustodyError};

/// The log that belongs to this vault.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct LogPin {
    /// The log's name, with its number where it was opened again.
    pub origin: String,
    /// The key that verifies its checkpoints, as signed notes name it.
    pub key: String,
    /// The anchors that hold one.
    #[serde(default)]
    pub anchored: Vec<String>,
    /// The key that it is about to be changed to: noted before the change is recorded, so that one that was cut short is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Keys that it was about to be changed to and was not: entries may name them.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub given_up: Vec<String>,
    /// The changes of the key, oldest first.
    #[serde(default)]
    pub rotations: Vec<KeyRotation>,
}

/// A change of the log's key, and what the key before signed of it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct KeyRotation {
    /// The index of the entry that records it.
    pub index: u64,
    /// A signed checkpoint of the key before, of a tree that has the entry.
    pub checkpoint: String,
}

const HEAD: &str =
    "# The audit log of this broker: its name, the key that verifies it, its anchors. Written by the broker.\n";

// === impl LogPin ===

impl LogPin {
    /// The one of the vault in `dir`; `None` before its log was first opened.
    ///
    /// # Errors
    /// When it cannot be read.
    pub fn read(dir: &Path) -> Result<Option<Self>, VaultError> {
        let path = path(dir);
        let Some(bytes) = file::read(&path)? else { return Ok(None) };
        let pin = std::str::from_utf8(&bytes).ok().and_then(|text| toml::from_str(text).ok());
        pin.map(Some).ok_or(VaultError::Record(path))
    }
}

// === impl Custody ===

impl Custody {
    /// What is known of the log; `None` before it was first opened.
    ///
    /// # Errors
    /// When that cannot be read.
    pub fn log_pin(&self) -> Result<Option<LogPin>, CustodyError> {
        Ok(LogPin::read(self.vault().sealer().dir())?)
    }

    /// Returns once this is what is known of the log.
    ///
    /// # Errors
    /// When it cannot be written.
    pub fn pin_log(&self, pin: &LogPin) -> Result<(), CustodyError> {
        let dir = self.vault().sealer().dir();
        let text = toml::to_string(pin).map_err(|_| VaultError::Record(path(dir)))?;
        Ok(file::write(&path(dir), format!("{HEAD}{text}").as_bytes(), true)?)
    }
}

fn path(dir: &Path) -> PathBuf {
    dir.join("secrets").join("audit-log.toml")
}
