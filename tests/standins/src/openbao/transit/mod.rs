//! The engine Transit: keys that sign and seal, and never come out.

mod key;
mod material;
mod seal;
mod sign;
mod wrapping;

use std::collections::BTreeMap;
use std::sync::Arc;

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::answer::Answer;
use super::call::{Call, Verb, no_path};
use key::Key;
use material::{Kind, Material};
use wrapping::WrappingKey;

/// The keys of one mount.
pub(super) struct Transit {
    keys: BTreeMap<String, Key>,
    wrapping_key_bits: usize,
    wrapping_key: Option<Arc<WrappingKey>>,
    /// The next one is not the process's first.
    is_another_wrapping_key: bool,
    /// Keys that sign in place of the named ones.
    wrong: BTreeMap<String, Material>,
    batches: Vec<usize>,
    signatures: usize,
}

// === impl Transit ===

impl Transit {
    pub(super) fn new(wrapping_key_bits: usize) -> Self {
        Self {
            keys: BTreeMap::new(),
            wrapping_key_bits,
            wrapping_key: None,
            is_another_wrapping_key: false,
            wrong: BTreeMap::new(),
            batches: Vec::new(),
            signatures: 0,
        }
    }

    pub(super) fn answer(&mut self, call: &Call, rest: &str, now: Timestamp) -> Answer {
        let mut parts = rest.split('/');
        let (kind, name, act) = (parts.next().unwrap_or_default(), parts.next(), parts.next());
        match (kind, name, act, call.verb) {
            ("wrapping_key", None, None, Verb::Read) => self.wrapping_key(),
            ("keys", None, None, Verb::List) => self.list(),
            ("keys", Some(name), None, Verb::Read) => self.read(name),
            ("keys", Some(name), None, Verb::Write) => self.create(call, name, now),
            ("keys", Some(name), None, Verb::Delete) => self.delete(name),
            ("keys", Some(name), Some("import"), Verb::Write) => self.import(call, name, now),
            ("keys", Some(name), Some("rotate"), Verb::Write) => self.rotate(name, now),
            ("keys", Some(name), Some("config"), Verb::Write) => self.configure(call, name),
            ("keys", Some(name), Some("trim"), Verb::Write) => self.trim(call, name),
            ("sign", Some(name), hash, Verb::Write) => self.sign(call, name, hash),
            ("encrypt", Some(name), None, Verb::Write) => self.encrypt(call, name, now),
            ("decrypt", Some(name), None, Verb::Write) => self.decrypt(call, name),
            ("export", Some(_), Some(name), Verb::Read) => self.export(name),
            _ => no_path(),
        }
    }

    /// Whether the key is there: sealing for one that is not would make it, and needs another capability.
    pub(super) fn has(&self, name: &str) -> bool {
        self.keys.contains_key(name)
    }

    pub(super) fn batches(&self) -> &[usize] {
        &self.batches
    }

    pub(super) fn signatures(&self) -> usize {
        self.signatures
    }

    pub(super) fn change_wrapping_key(&mut self) {
        (self.wrapping_key, self.is_another_wrapping_key) = (None, true);
    }

    pub(super) fn set_wrong_key(&mut self, name: &str, wrong: bool) {
        self.wrong.remove(name);
        let other = self.keys.get(name).filter(|_| wrong).and_then(|key| Material::generate(key.kind).ok());
        if let Some(other) = other {
            self.wrong.insert(name.to_owned(), other);
        }
    }

    pub(super) fn destroy_version(&mut self, name: &str, version: u32, now: Timestamp) -> anyhow::Result<()> {
        let key = self.keys.get_mut(name).context("no such key")?;
        while key.latest() <= version {
            let material = Material::generate(key.kind)?;
            key.add(material, now);
        }
        key.trim(version + 1);
        Ok(())
    }

    fn wrapping_key(&mut self) -> Answer {
        match self.wrapping() {
            Ok(key) => Answer::data(json!({ "public_key": key.public() })),
            Err(error) => Answer::failed(&error.to_string()),
        }
    }

    fn wrapping(&mut self) -> anyhow::Result<&WrappingKey> {
        let key = match self.wrapping_key.take() {
            Some(key) => key,
            None if self.is_another_wrapping_key => Arc::new(WrappingKey::generate(self.wrapping_key_bits)?),
            None => WrappingKey::first(self.wrapping_key_bits)?,
        };
        Ok(&**self.wrapping_key.insert(key))
    }

    /// Where a wrapping key was made, there is a folder beside the keys.
    fn list(&self) -> Answer {
        let mut names: Vec<&str> = self.keys.keys().map(String::as_str).collect();
        names.extend(self.wrapping_key.as_ref().map(|_| "import/"));
        names.sort_unstable();
        if names.is_empty() { Answer::missing() } else { Answer::data(json!({ "keys": names })) }
    }

    fn read(&self, name: &str) -> Answer {
        self.keys.get(name).map_or_else(Answer::missing, |key| key.answer(name))
    }

    /// A key that is there already is told as it is, whatever was asked for.
    fn create(&mut self, call: &Call, name: &str, now: Timestamp) -> Answer {
        let wanted = call.body.get("type").and_then(Value::as_str).unwrap_or("aes256-gcm96");
        let Some(kind) = Kind::named(wanted) else { return Answer::bad(format!("unknown key type {wanted}")) };
        if !self.keys.contains_key(name) {
            match Material::generate(kind) {
                Ok(material) => self.keys.insert(name.to_owned(), Key::new(kind, material, &call.body, false, now)),
                Err(error) => return Answer::failed(&error.to_string()),
            };
        }
        self.read(name)
    }

    fn delete(&mut self, name: &str) -> Answer {
        let refused = |why: &str| Answer::bad(format!("error deleting policy {name}: {why}"));
        match self.keys.get(name) {
            None => refused("could not delete key; not found"),
            Some(key) if !key.deletion_allowed => refused("deletion is not allowed for this key"),
            Some(_) => {
                self.keys.remove(name);
                Answer::empty()
            }
        }
    }

    fn import(&mut self, call: &Call, name: &str, now: Timestamp) -> Answer {
        if self.keys.contains_key(name) {
            let reason = "the import path cannot be used with an existing key; use import-version to rotate an existing imported key";
            return Answer::failed(reason);
        }
        let wanted = call.body.get("type").and_then(Value::as_str).unwrap_or("aes256-gcm96");
        let Some(kind) = Kind::named(wanted) else { return Answer::bad(format!("unknown key type: {wanted}")) };
        match self.unwrapped(call, kind) {
            Ok(material) => {
                self.keys.insert(name.to_owned(), Key::new(kind, material, &call.body, true, now));
                Answer::empty()
            }
            Err(error) => Answer::failed(&error.to_string()),
        }
    }

    fn unwrapped(&mut self, call: &Call, kind: Kind) -> anyhow::Result<Material> {
        let ciphertext = decode(call.text("ciphertext")).ok().context("illegal base64 data at input byte 0")?;
        Material::import(kind, &self.wrapping()?.unwrap(&ciphertext, call.text("hash_function"))?)
    }

    fn rotate(&mut self, name: &str, now: Timestamp) -> Answer {
        let Some(key) = self.keys.get_mut(name) else { return Answer::bad("key not found") };
        if !key.may_rotate {
            return Answer::failed(&format!("imported key {name} does not allow rotation within Vault"));
        }
        match Material::generate(key.kind) {
            Ok(material) => key.add(material, now),
            Err(error) => return Answer::failed(&error.to_string()),
        }
        self.read(name)
    }

    fn configure(&mut self, call: &Call, name: &str) -> Answer {
        let Some(key) = self.keys.get_mut(name) else {
            return Answer::bad("no existing key named ".to_owned() + name + " could be found");
        };
        key.configure(&call.body).map_or_else(Answer::bad, |()| key.answer(name))
    }

    fn trim(&mut self, call: &Call, name: &str) -> Answer {
        let Some(key) = self.keys.get_mut(name) else { return Answer::bad("invalid key name") };
        let version =
            call.body.get("min_available_version").and_then(Value::as_u64).and_then(|v| u32::try_from(v).ok());
        match version {
            Some(version) if version <= key.min_encryption.min(key.min_decryption) => {
                key.trim(version);
                key.answer(name)
            }
            _ if key.min_encryption == 0 => {
                Answer::bad("minimum available version cannot be set when minimum encryption version is not set")
            }
            _ => Answer::bad("minimum available version cannot be higher than minimum encryption version"),
        }
    }

    /// Never gives a key out, also where the real one would: a test has no use for it.
    fn export(&self, name: &str) -> Answer {
        match self.keys.get(name) {
            None => Answer::missing(),
            Some(_) => Answer::bad("private key material is not exportable"),
        }
    }
}

fn decode(text: &str) -> Result<Vec<u8>, String> {
    BASE64_STANDARD.decode(text).map_err(|_| "illegal base64 data at input byte 0".to_owned())
}
