//! The public key of a log, in the text form of C2SP signed-note: `name+id+base64`.

use std::fmt;
use std::str::FromStr;

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use data_encoding::BASE64;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::note::is_name;

/// The longest name of a log, in bytes.
const MAX_NAME: usize = 255;

/// The number of Ed25519 among the signature types of signed notes.
const ED25519_TYPE: u8 = 1;

/// Verifies what a log signs. The name is the log's origin.
#[derive(Clone, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct LogKey {
    name: String,
    public: [u8; 32],
}

/// The text is not a log's key.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum LogKeyError {
    /// Not `name+id+base64`.
    #[error("a log's key reads `name+01234567+base64`, as `ichor-broker audit key` and /v1/audit/key show it")]
    Form,
    /// The name cannot be one.
    #[error("a log's name has 1 to 255 bytes, without blanks and `+`")]
    Name,
    /// The key is not Ed25519.
    #[error("the log's key is not an Ed25519 key")]
    Type,
    /// Name and key do not belong together: a typing error, most likely.
    #[error("the log's key has the id {expected:08x}, not {found:08x}; copy it anew, whole")]
    Id {
        /// The id that name and key have.
        expected: u32,
        /// The id in the text.
        found: u32,
    },
}

// === impl LogKey ===

impl LogKey {
    /// The key of the log `name`: an Ed25519 public key, 32 bytes (RFC 8032 §5.1.5).
    ///
    /// # Errors
    /// When a log cannot be called that, or the key has another length.
    pub fn ed25519(name: &str, public: &[u8]) -> Result<Self, LogKeyError> {
        if !is_name(name) || name.len() > MAX_NAME {
            return Err(LogKeyError::Name);
        }
        Ok(Self { name: name.to_owned(), public: public.try_into().map_err(|_| LogKeyError::Type)? })
    }

    /// The log's name, its origin.
    #[must_use]
    pub fn name(&self) -> &str {
        &self.name
    }

    /// The Ed25519 public key.
    #[must_use]
    pub fn public(&self) -> &[u8; 32] {
        &self.public
    }

    /// The key's id in signature lines: the first four bytes of SHA-256(name ‖ 0x0A ‖ 0x01 ‖ key).
    #[must_use]
    pub fn id(&self) -> u32 {
        let hash = Sha256::new().chain_update(&self.name).chain_update([b'\n', ED25519_TYPE]).chain_update(self.public);
        let [a, b, c, d, ..]: [u8; 32] = hash.finalize().into();
        u32::from_be_bytes([a, b, c, d])
    }

    /// Whether `signature` is this key's over `message`.
    #[must_use]
    pub fn verifies(&self, message: &[u8], signature: &[u8]) -> bool {
        UnparsedPublicKey::new(&ED25519, self.public).verify(message, signature).is_ok()
    }
}

impl fmt::Display for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let key = [&[ED25519_TYPE], &self.public[..]].concat();
        write!(f, "{}+{:08x}+{}", self.name, self.id(), BASE64.encode(&key))
    }
}

impl fmt::Debug for LogKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "LogKey({self})")
    }
}

impl FromStr for LogKey {
    type Err = LogKeyError;

    fn from_str(text: &str) -> Result<Self, LogKeyError> {
        // A `+` of base64 belongs to the last part.
        let mut parts = text.trim().splitn(3, '+');
        let mut part = || parts.next().ok_or(LogKeyError::Form);
        let (name, id, key) = (part()?, part()?, part()?);
        let lower = id.len() == 8 && id.bytes().all(|b| b.is_ascii_hexdigit() && !b.is_ascii_uppercase());
        let found = u32::from_str_radix(id, 16).ok().filter(|_| lower).ok_or(LogKeyError::Form)?;
        let key = BASE64.decode(key.as_bytes()).map_err(|_| LogKeyError::Form)?;
        let Some((&ED25519_TYPE, public)) = key.split_first() else { return Err(LogKeyError::Type) };
        let key = Self::ed25519(name, public)?;
        if key.id() != found {
            return Err(LogKeyError::Id { expected: key.id(), found });
        }
        Ok(key)
    }
}

impl TryFrom<String> for LogKey {
    type Error = LogKeyError;

    fn try_from(text: String) -> Result<Self, LogKeyError> {
        text.parse()
    }
}

impl From<LogKey> for String {
    fn from(key: LogKey) -> Self {
        key.to_string()
    }
}
