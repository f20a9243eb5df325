//! `encrypt/<name>` and `decrypt/<name>`.

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::super::answer::Answer;
use super::super::call::Call;
use super::key::Key;
use super::material::{Kind, Material};
use super::{Transit, decode};

// === impl Transit ===

impl Transit {
    /// Makes the key when there is none, as the real engine does for a token that may create.
    pub(super) fn encrypt(&mut self, call: &Call, name: &str, now: Timestamp) -> Answer {
        if !self.keys.contains_key(name) {
            match Material::generate(Kind::Aes256) {
                Ok(material) => {
                    self.keys.insert(name.to_owned(), Key::new(Kind::Aes256, material, &Value::Null, false, now))
                }
                Err(error) => return Answer::failed(&error.to_string()),
            };
        }
        let Some(key) = self.keys.get(name) else { return Answer::bad("encryption key not found") };
        if !key.kind.encrypts() {
            return Answer::bad(format!("message encryption not supported for key type {}", key.kind.name()));
        }
        let (Ok(plaintext), Ok(associated)) = (decode(call.text("plaintext")), decode(call.text("associated_data")))
        else {
            return Answer::bad("failed to base64-decode plaintext");
        };
        let sealed = key.usable(0, "encryption").map(|(number, key)| (number, key.encrypt(&plaintext, &associated)));
        match sealed {
            Ok((number, Ok(sealed))) => {
                let ciphertext = format!("vault:v{number}:{}", BASE64_STANDARD.encode(sealed));
                Answer::data(json!({ "ciphertext": ciphertext, "key_version": number }))
            }
            Ok((_, Err(error))) => Answer::failed(&error.to_string()),
            Err(reason) => Answer::failed(&reason),
        }
    }

    pub(super) fn decrypt(&self, call: &Call, name: &str) -> Answer {
        let Some(key) = self.keys.get(name) else { return Answer::bad("encryption key not found") };
        let Some(rest) = call.text("ciphertext").strip_prefix("vault:v") else {
            return Answer::bad("invalid ciphertext: no prefix");
        };
        let (number, sealed) = rest.split_once(':').unwrap_or_default();
        let Some(number) = number.parse::<u32>().ok() else {
            return Answer::bad("invalid ciphertext: version number could not be decoded");
        };
        let Some(version) = key.versions.get(&number).filter(|_| number >= key.min_decryption) else {
            return Answer::bad("ciphertext or signature version is disallowed by policy (too old)");
        };
        let (Ok(sealed), Ok(associated)) = (decode(sealed), decode(call.text("associated_data"))) else {
            return Answer::bad("invalid ciphertext: could not decode base64");
        };
        match version.material.decrypt(&sealed, &associated) {
            Ok(plaintext) => Answer::data(json!({ "plaintext": BASE64_STANDARD.encode(plaintext) })),
            Err(error) => Answer::bad(error.to_string()),
        }
    }
}
