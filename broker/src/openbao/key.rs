//! The keys of Transit: their kinds, and what is told of them.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use ichor_wire::profile::{ED25519_HEAD, KeyAlgorithm, pem};
use serde::{Deserialize, Serialize};

use super::{Answer, BaoError};

/// The kinds of keys that sign for a CA.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum KeyKind {
    /// Ed25519.
    Ed25519,
    /// ECDSA over P-256.
    P256,
    /// ECDSA over P-384.
    P384,
    /// RSA of so many bits.
    Rsa(u32),
}

/// What Transit tells of a key.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TransitKey {
    /// Its kind, in Transit's words.
    pub kind: String,
    /// The newest version.
    pub latest: u32,
    /// The SubjectPublicKeyInfo of each version that is there, DER.
    pub versions: BTreeMap<u32, Vec<u8>>,
    /// Whether its private part can be read out. Cannot be unset.
    pub is_exportable: bool,
    /// Whether a backup of it in plain text can be made. Cannot be unset.
    pub allows_plaintext_backup: bool,
    /// Whether it can be deleted.
    pub can_be_deleted: bool,
    /// Whether it was imported.
    pub is_imported: bool,
    /// The oldest version that still signs; 0 where any does.
    pub oldest_signing: u32,
    /// Whether somebody put it out of use.
    pub is_soft_deleted: bool,
}

#[derive(Deserialize)]
struct ReadKey {
    #[serde(rename = "type")]
    kind: String,
    latest_version: u32,
    keys: BTreeMap<u32, serde_json::Value>,
    exportable: bool,
    allow_plaintext_backup: bool,
    #[serde(default)]
    deletion_allowed: bool,
    #[serde(default)]
    imported_key: bool,
    #[serde(default)]
    min_encryption_version: u32,
    #[serde(default)]
    soft_deleted: bool,
}

/// How signatures of a kind are asked for.
#[derive(Serialize)]
pub(super) struct How<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    hash_algorithm: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature_algorithm: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    marshaling_algorithm: Option<&'a str>,
}

// === impl TransitKey ===

impl TransitKey {
    pub(super) fn read(answer: &Answer) -> Result<Self, BaoError> {
        let read: ReadKey = answer.data()?;
        let mut versions = BTreeMap::new();
        for (number, version) in &read.keys {
            // symmetric keys have a time here instead
            let Some(public) = version.get("public_key").and_then(serde_json::Value::as_str) else { continue };
            let spki = public_key(public).ok_or_else(|| answer.garbled("a public key cannot be read"))?;
            versions.insert(*number, spki);
        }
        Ok(Self {
            kind: read.kind,
            latest: read.latest_version,
            versions,
            is_exportable: read.exportable,
            allows_plaintext_backup: read.allow_plaintext_backup,
            can_be_deleted: read.deletion_allowed,
            is_imported: read.imported_key,
            oldest_signing: read.min_encryption_version,
            is_soft_deleted: read.soft_deleted,
        })
    }
}

// === impl KeyKind ===

impl KeyKind {
    /// The kind of a CA's key; `None` for one that Transit does not have.
    #[must_use]
    pub fn of(algorithm: KeyAlgorithm) -> Option<Self> {
        match algorithm {
            KeyAlgorithm::Ed25519 => Some(Self::Ed25519),
            KeyAlgorithm::P256 => Some(Self::P256),
            KeyAlgorithm::P384 => Some(Self::P384),
            KeyAlgorithm::Rsa { bits: bits @ (2048 | 3072 | 4096) } => Some(Self::Rsa(bits)),
            _ => None,
        }
    }

    /// As Transit calls it.
    #[must_use]
    pub fn transit(self) -> String {
        match self {
            Self::Ed25519 => "ed25519".into(),
            Self::P256 => "ecdsa-p256".into(),
            Self::P384 => "ecdsa-p384".into(),
            Self::Rsa(bits) => format!("rsa-{bits}"),
        }
    }

    pub(super) fn how(self) -> How<'static> {
        let none = How { hash_algorithm: None, signature_algorithm: None, marshaling_algorithm: None };
        match self {
            Self::Ed25519 => none,
            Self::P256 => How { hash_algorithm: Some("sha2-256"), marshaling_algorithm: Some("asn1"), ..none },
            Self::P384 => How { hash_algorithm: Some("sha2-384"), marshaling_algorithm: Some("asn1"), ..none },
            Self::Rsa(_) => How { hash_algorithm: Some("sha2-256"), signature_algorithm: Some("pkcs1v15"), ..none },
        }
    }
}

/// The SubjectPublicKeyInfo of a public key as Transit writes it: PEM, or the raw 32 bytes of Ed25519 as base64 (RFC 8410
/// §4: a fixed head before them).
pub(super) fn public_key(text: &str) -> Option<Vec<u8>> {
    if text.trim_start().starts_with("-----BEGIN") {
        let blocks = pem::blocks(text).ok()?;
        let [block] = blocks.as_slice() else { return None };
        return (block.label == "PUBLIC KEY").then(|| block.der.to_vec());
    }
    let raw = BASE64.decode(text.trim().as_bytes()).ok().filter(|raw| raw.len() == 32)?;
    Some([ED25519_HEAD.as_slice(), raw.as_slice()].concat())
}
