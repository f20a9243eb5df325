//! The Transit engine: it signs and wraps with keys that stay there.

use data_encoding::BASE64;
use http::Method;
use serde::{Deserialize, Serialize};
use zeroize::Zeroizing;

use super::key::{How, public_key};
use super::login::json;
use super::{BaoError, Client, KeyKind, Kind, NameError, Retry, TransitKey, check_mount, check_name};

/// The most signatures asked for in one call.
pub const LARGEST_BATCH: usize = 128;

/// Transit at one mount.
#[derive(Clone, Debug)]
pub struct TransitEngine {
    client: Client,
    mount: String,
}

#[derive(Serialize)]
struct Sign<'a> {
    key_version: u32,
    #[serde(flatten)]
    what: Inputs,
    #[serde(flatten)]
    how: How<'a>,
}

/// One input goes without a list: the server reads that with less work.
#[derive(Serialize)]
#[serde(untagged)]
enum Inputs {
    One(Input),
    Many { batch_input: Vec<Input> },
}

#[derive(Serialize)]
struct Input {
    input: String,
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

// === impl Transit ===

impl TransitEngine {
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

    /// The mount.
    #[must_use]
    pub fn mount(&self) -> &str {
        &self.mount
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
        TransitKey::read(&answer).map(Some)
    }

    /// A 404 of a mount that does not exist is none of a key that does not exist.
    async fn missing(&self, error: BaoError) -> Result<Option<TransitKey>, BaoError> {
        match self.call(Method::GET, &format!("{}/wrapping_key", self.mount), None, Retry::Safe).await {
            Err(other) if matches!(other.kind(), Kind::Missing(_) | Kind::NoRoute(_)) => Err(self.client.error(
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
        let encoded = |input: &&[u8]| Input { input: BASE64.encode(input) };
        let what = match inputs {
            [input] => Inputs::One(encoded(input)),
            inputs => Inputs::Many { batch_input: inputs.iter().map(encoded).collect() },
        };
        let body = json(&Sign { key_version: version, what, how: kind.how() });
        let answer = self.call(Method::POST, &self.path("sign", name)?, Some(body), Retry::Safe).await?;
        let signed = match inputs {
            [_] => vec![answer.data::<One<'_>>()?],
            _ => answer.data::<Signed<'_>>()?.batch_results,
        };
        if signed.len() != inputs.len() {
            return Err(answer.garbled("it has another number of signatures"));
        }
        let prefix = format!("vault:v{version}:");
        let one = |one: &One<'_>| {
            if let Some(words) = &one.error {
                return Err(self
                    .client
                    .error(Kind::Refused(self.client.words(words)), answer.request().map(str::to_owned)));
            }
            let text = one.signature.and_then(|text| text.strip_prefix(&prefix));
            let bytes = text.and_then(|text| BASE64.decode(text.as_bytes()).ok());
            bytes.ok_or_else(|| answer.garbled("a signature is none of the version that was asked for"))
        };
        Ok(signed.iter().map(one).collect())
    }

    /// The path at which this key signs: for asking what our token may do.
    ///
    /// # Errors
    /// When the name cannot stand in a path.
    pub fn sign_path(&self, name: &str) -> Result<String, BaoError> {
        self.path("sign", name)
    }

    pub(super) fn path(&self, what: &str, name: &str) -> Result<String, BaoError> {
        check_name(name).map_err(|error| self.client.error(Kind::Refused(error.to_string()), None))?;
        Ok(format!("{}/{what}/{name}", self.mount))
    }

    pub(super) async fn call(
        &self,
        method: Method,
        path: &str,
        body: Option<Zeroizing<Vec<u8>>>,
        retry: Retry,
    ) -> Result<super::Answer, BaoError> {
        self.client.call(method, path, body, retry).await
    }
}
