//! A named key with its versions.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::super::answer::Answer;
use super::material::{Kind, Material};

pub(super) struct Key {
    pub(super) kind: Kind,
    pub(super) versions: BTreeMap<u32, Version>,
    pub(super) min_available: u32,
    pub(super) min_decryption: u32,
    pub(super) min_encryption: u32,
    pub(super) exportable: bool,
    pub(super) plaintext_backup: bool,
    pub(super) deletion_allowed: bool,
    pub(super) imported: bool,
    pub(super) may_rotate: bool,
}

pub(super) struct Version {
    pub(super) material: Material,
    created: Timestamp,
}

// === impl Key ===

impl Key {
    /// A key with one version.
    pub(super) fn new(kind: Kind, material: Material, body: &Value, imported: bool, now: Timestamp) -> Self {
        let flag = |name: &str| body.get(name).and_then(Value::as_bool).unwrap_or_default();
        Self {
            kind,
            versions: BTreeMap::from([(1, Version { material, created: now })]),
            min_available: 0,
            min_decryption: 1,
            min_encryption: 0,
            exportable: flag("exportable"),
            plaintext_backup: flag("allow_plaintext_backup"),
            deletion_allowed: false,
            imported,
            may_rotate: !imported || flag("allow_rotation"),
        }
    }

    pub(super) fn latest(&self) -> u32 {
        self.versions.keys().next_back().copied().unwrap_or_default()
    }

    pub(super) fn add(&mut self, material: Material, now: Timestamp) {
        self.versions.insert(self.latest() + 1, Version { material, created: now });
    }

    /// The version to sign or seal with: 0 is the newest.
    pub(super) fn usable(&self, version: u32, act: &str) -> Result<(u32, &Material), String> {
        let number = if version == 0 { self.latest() } else { version };
        if number > self.latest() {
            return Err(format!("requested version for {act} is higher than the latest key version"));
        }
        let found = self.versions.get(&number).filter(|_| number >= self.min_encryption);
        let found =
            found.ok_or_else(|| format!("requested version for {act} is less than the minimum encryption key version"));
        Ok((number, &found?.material))
    }

    /// Destroys every version below `version`.
    pub(super) fn trim(&mut self, version: u32) {
        self.versions.retain(|number, _| *number >= version);
        self.min_available = version;
        self.min_decryption = self.min_decryption.max(version);
        self.min_encryption = self.min_encryption.max(version);
    }

    /// `keys/<name>/config`. Neither of the two flags that let a key out can be taken back.
    pub(super) fn configure(&mut self, body: &Value) -> Result<(), String> {
        let number = |name: &str| body.get(name).and_then(Value::as_u64).and_then(|number| u32::try_from(number).ok());
        let flag = |name: &str| body.get(name).and_then(Value::as_bool);
        if let Some(version) = number("min_decryption_version") {
            if version > self.latest() {
                return Err(format!(
                    "cannot set min decryption version of {version}, latest key version is {}",
                    self.latest()
                ));
            }
            if version < self.min_available {
                return Err("min decryption version should not be less then min available version".into());
            }
            self.min_decryption = version.max(1);
        }
        if let Some(version) = number("min_encryption_version") {
            if version > self.latest() {
                return Err(format!(
                    "cannot set min encryption version of {version}, latest key version is {}",
                    self.latest()
                ));
            }
            self.min_encryption = version;
        }
        self.deletion_allowed = flag("deletion_allowed").unwrap_or(self.deletion_allowed);
        self.exportable |= flag("exportable").unwrap_or_default();
        self.plaintext_backup |= flag("allow_plaintext_backup").unwrap_or_default();
        Ok(())
    }

    /// The key as it is read.
    pub(super) fn answer(&self, name: &str) -> Answer {
        let versions: Map<String, Value> = self
            .versions
            .iter()
            .filter(|(number, _)| **number >= self.min_decryption)
            .map(|(number, version)| (number.to_string(), self.version(version)))
            .collect();
        let mut told = json!({
            "allow_plaintext_backup": self.plaintext_backup,
            "auto_rotate_period": 0,
            "deletion_allowed": self.deletion_allowed,
            "derived": false,
            "exportable": self.exportable,
            "imported_key": self.imported,
            "keys": versions,
            "latest_version": self.latest(),
            "min_available_version": self.min_available,
            "min_decryption_version": self.min_decryption,
            "min_encryption_version": self.min_encryption,
            "name": name,
            "soft_deleted": false,
            "supports_decryption": self.kind.encrypts(),
            "supports_derivation": matches!(self.kind, Kind::Ed25519 | Kind::Aes256),
            "supports_encryption": self.kind.encrypts(),
            "supports_signing": self.kind.signs(),
            "type": self.kind.name(),
        });
        if let (true, Some(fields)) = (self.imported, told.as_object_mut()) {
            fields.insert("imported_key_allow_rotation".into(), self.may_rotate.into());
        }
        Answer::data(told)
    }

    fn version(&self, version: &Version) -> Value {
        match version.material.public().unwrap_or_default() {
            None => json!(version.created.as_second()),
            Some(public) => json!({
                "certificate_chain": "",
                "creation_time": version.created.to_string(),
                "name": self.kind.version_name(),
                "public_key": public,
            }),
        }
    }
}
