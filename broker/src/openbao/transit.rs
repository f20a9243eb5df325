//! The Transit engine: it signs and wraps with keys that stay there.

use std::collections::BTreeMap;

use data_encoding::BASE64;
use http::Method;
use ichor_wire::profile::{KeyAlgorithm, pem};
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::login::json;
use super::{BaoError, Client, Kind, NameError, Retry, check_mount, check_name};

/// The most signatures asked for in one call.
pub const LARGEST_BATCH: usize = 128;

/// Transit at one mount.
#[derive(Clone, Debug)]
pub struct Transit {
    client: Client,
    mount: String,
}

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
}

#[derive(Serialize)]
struct Sign<'a> {
    key_version: u32,
    batch_input: Vec<Input>,
    #[serde(flatten)]
    how: How<'a>,
}

#[derive(Serialize)]
struct Input {
    input: String,
}

#[derive(Serialize)]
struct How<'a> {
    #[serde(skip_serializing_if = "Option::is_none")]
    hash_algorithm: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    signature_algorithm: Option<&'a str>,
    #[serde(skip_serializing_if = "Option::is_none")]
    marshaling_algorithm: Option<&'a str>,
}

#[derive(Deserialize)]
struct Signed<'a> {
    #[serde(borrow)]
    batch_results: Vec<One<'a>>,
}

#[derive(Deserialize)]
struct One<'a> {
    #[serde(default)]
    signature: Option<&'a str>,
    #[serde(default)]
    error: Option<String>,
}

#[derive(Serialize)]
struct Create<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    exportable: bool,
    allow_plaintext_backup: bool,
}

#[derive(Serialize)]
struct Import<'a> {
    #[serde(rename = "type")]
    kind: &'a str,
    ciphertext: &'a str,
    hash_function: &'a str,
    allow_rotation: bool,
    exportable: bool,
    allow_plaintext_backup: bool,
}

#[derive(Deserialize)]
struct WrappingKey {
    public_key: String,
}

#[derive(Serialize)]
struct Encrypt<'a> {
    plaintext: &'a str,
    associated_data: &'a str,
}

#[derive(Serialize)]
struct Decrypt<'a> {
    ciphertext: &'a str,
    associated_data: &'a str,
}

#[derive(Deserialize)]
struct Ciphertext {
    ciphertext: String,
}

#[derive(Deserialize)]
struct Plaintext<'a> {
    plaintext: &'a str,
}

// === impl Transit ===

impl Transit {
    /// Transit at this mount.
    ///
    /// # Errors
    /// When the mount cannot stand in a path.
    pub fn new(client: Client, mount: &str) -> Result<Self, NameError> {
        check_mount(mount)?;
        Ok(Self { client, mount: mount.to_owned() })
    }

    /// The client behind it.
    #[must_use]
    pub fn client(&self) -> &Client {
        &self.client
    }

    /// What Transit tells of a key; `None` when there is none of that name.
    ///
    /// # Errors
    /// When it cannot be asked, or a public key cannot be read.
    pub async fn key(&self, name: &str) -> Result<Option<TransitKey>, BaoError> {
        let answer = match self.call(Method::GET, &self.path("keys", name)?, None, Retry::Safe).await {
            Ok(answer) => answer,
            Err(error) if matches!(error.kind(), Kind::Missing(_)) => return self.missing(error).await,
            Err(error) => return Err(error),
        };
        let read: ReadKey = answer.data()?;
        let mut versions = BTreeMap::new();
        for (number, version) in &read.keys {
            // symmetric keys have a time here instead
            let Some(public) = version.get("public_key").and_then(serde_json::Value::as_str) else { continue };
            let spki = public_key(public).ok_or_else(|| answer.garbled("a public key cannot be read"))?;
            versions.insert(*number, spki);
        }
        Ok(Some(TransitKey {
            kind: read.kind,
            latest: read.latest_version,
            versions,
            is_exportable: read.exportable,
            allows_plaintext_backup: read.allow_plaintext_backup,
            can_be_deleted: read.deletion_allowed,
            is_imported: read.imported_key,
        }))
    }

    /// A 404 of a mount that does not exist is none of a key that does not exist.
    async fn missing(&self, error: BaoError) -> Result<Option<TransitKey>, BaoError> {
        match self.call(Method::GET, &format!("{}/wrapping_key", self.mount), None, Retry::Safe).await {
            Err(other) if matches!(other.kind(), Kind::Missing(_)) => Err(self.client.error(
                Kind::Missing(format!("{}/ (a Transit mount)", self.mount)),
                error.request().map(str::to_owned),
            )),
            _ => Ok(None),
        }
    }

    /// Returns once there is a key of this name and kind, whose private part can neither be exported nor backed up in plain
    /// text. One that is there already stays as it is.
    ///
    /// # Errors
    /// When it was not made.
    pub async fn create(&self, name: &str, kind: KeyKind) -> Result<(), BaoError> {
        let body = Create { kind: &kind.transit(), exportable: false, allow_plaintext_backup: false };
        self.call(Method::POST, &self.path("keys", name)?, Some(json(&body)), Retry::Safe).await.map(drop)
    }

    /// The public key that imported keys are wrapped with, SubjectPublicKeyInfo DER.
    ///
    /// # Errors
    /// When it cannot be asked or read.
    pub async fn wrapping_key(&self) -> Result<Vec<u8>, BaoError> {
        let answer = self.call(Method::GET, &format!("{}/wrapping_key", self.mount), None, Retry::Safe).await?;
        let read: WrappingKey = answer.data()?;
        public_key(&read.public_key).ok_or_else(|| answer.garbled("the wrapping key cannot be read"))
    }

    /// Returns once the wrapped key is there under this name: neither exportable nor to be rotated. `wrapped` is RSA-OAEP
    /// with SHA-256 of an AES-256 key, followed by AES key wrap with padding (RFC 5649) of the PKCS#8.
    ///
    /// # Errors
    /// When it was not imported, also because there is a key of this name.
    pub async fn import(&self, name: &str, kind: KeyKind, wrapped: &[u8]) -> Result<(), BaoError> {
        let ciphertext = BASE64.encode(wrapped);
        let body = Import {
            kind: &kind.transit(),
            ciphertext: &ciphertext,
            hash_function: "SHA256",
            allow_rotation: false,
            exportable: false,
            allow_plaintext_backup: false,
        };
        let path = format!("{}/import", self.path("keys", name)?);
        self.call(Method::POST, &path, Some(json(&body)), Retry::Never).await.map(drop)
    }

    /// The signatures over these inputs by this version of the key, in their order: raw for Ed25519, DER for ECDSA (SHA-256,
    /// for P-384 SHA-384), PKCS#1 v1.5 with SHA-256 for RSA. One call, at most [`LARGEST_BATCH`] inputs.
    ///
    /// # Errors
    /// When the call failed; per input, when that one was not signed.
    pub async fn sign(
        &self,
        name: &str,
        version: u32,
        kind: KeyKind,
        inputs: &[&[u8]],
    ) -> Result<Vec<Result<Vec<u8>, BaoError>>, BaoError> {
        let batch_input = inputs.iter().map(|input| Input { input: BASE64.encode(input) }).collect();
        let body = json(&Sign { key_version: version, batch_input, how: kind.how() });
        let answer = self.call(Method::POST, &self.path("sign", name)?, Some(body), Retry::Safe).await?;
        let signed: Signed<'_> = answer.data()?;
        if signed.batch_results.len() != inputs.len() {
            return Err(answer.garbled("it has another number of signatures"));
        }
        let prefix = format!("vault:v{version}:");
        let one = |one: &One<'_>| {
            if let Some(words) = &one.error {
                let words = words.chars().filter(|c| c.is_ascii() && !c.is_control()).take(200).collect();
                return Err(self.client.error(Kind::Refused(words), answer.request().map(str::to_owned)));
            }
            let text = one.signature.and_then(|text| text.strip_prefix(&prefix));
            let bytes = text.and_then(|text| BASE64.decode(text.as_bytes()).ok());
            bytes.ok_or_else(|| answer.garbled("a signature is none of the version that was asked for"))
        };
        Ok(signed.batch_results.iter().map(one).collect())
    }

    /// The plaintext encrypted by the key, bound to `context`, as Transit writes it.
    ///
    /// # Errors
    /// When it was not encrypted.
    pub async fn encrypt(&self, name: &str, plaintext: &[u8], context: &str) -> Result<String, BaoError> {
        let plaintext = Zeroizing::new(BASE64.encode(plaintext));
        let body = json(&Encrypt { plaintext: &plaintext, associated_data: &BASE64.encode(context.as_bytes()) });
        let answer = self.call(Method::POST, &self.path("encrypt", name)?, Some(body), Retry::Safe).await?;
        Ok(answer.data::<Ciphertext>()?.ciphertext)
    }

    /// The plaintext of what [`Self::encrypt`] made for this `context`.
    ///
    /// # Errors
    /// When it was not decrypted.
    pub async fn decrypt(&self, name: &str, ciphertext: &str, context: &str) -> Result<Zeroizing<Vec<u8>>, BaoError> {
        let body = json(&Decrypt { ciphertext, associated_data: &BASE64.encode(context.as_bytes()) });
        let answer = self.call(Method::POST, &self.path("decrypt", name)?, Some(body), Retry::Safe).await?;
        let decrypted: Plaintext<'_> = answer.data()?;
        let bytes = BASE64.decode(decrypted.plaintext.as_bytes());
        bytes.map(Zeroizing::new).map_err(|_| answer.garbled("the plaintext is no base64"))
    }

    /// The path at which this key signs: for asking what our token may do.
    ///
    /// # Errors
    /// When the name cannot stand in a path.
    pub fn sign_path(&self, name: &str) -> Result<String, BaoError> {
        self.path("sign", name)
    }

    fn path(&self, what: &str, name: &str) -> Result<String, BaoError> {
        check_name(name).map_err(|error| self.client.error(Kind::Refused(error.to_string()), None))?;
        Ok(format!("{}/{what}/{name}", self.mount))
    }

    async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Zeroizing<Vec<u8>>>,
        retry: Retry,
    ) -> Result<super::Answer, BaoError> {
        self.client.call(method, path, body, retry).await
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

    fn how(self) -> How<'static> {
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
fn public_key(text: &str) -> Option<Vec<u8>> {
    const ED25519: [u8; 12] = [0x30, 0x2a, 0x30, 0x05, 0x06, 0x03, 0x2b, 0x65, 0x70, 0x03, 0x21, 0x00];
    if text.trim_start().starts_with("-----BEGIN") {
        let blocks = pem::blocks(text).ok()?;
        let [block] = blocks.as_slice() else { return None };
        return (block.label == "PUBLIC KEY").then(|| block.der.to_vec());
    }
    let raw = BASE64.decode(text.trim().as_bytes()).ok().filter(|raw| raw.len() == 32)?;
    Some([ED25519.as_slice(), raw.as_slice()].concat())
}
