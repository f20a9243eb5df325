//! The few fields that are read of Talos' files: `secrets.yaml`, machine configs of one or several documents, talosconfigs.

use std::collections::BTreeMap;
use std::fmt;

use data_encoding::BASE64;
use serde::Deserialize;
use zeroize::Zeroizing;

/// Why a file cannot be read as YAML. Nothing of its content is quoted: it may hold keys.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum DocumentError {
    /// The YAML is malformed.
    #[error("the file is not the YAML that was expected, at line {line}, column {column}")]
    Yaml {
        /// From 1; 0 where unknown.
        line: u64,
        /// From 1; 0 where unknown.
        column: u64,
    },
    /// A field is not base64 of PEM text.
    #[error("`{0}` is not base64 of PEM")]
    Base64(&'static str),
    /// Too large to be one of these files.
    #[error("the file has {0} bytes; at most 8 MiB are read")]
    TooLarge(usize),
}

/// One document; what other fields it has is ignored.
#[derive(Debug, Default, Deserialize)]
pub(super) struct Document {
    /// `secrets.yaml`.
    pub(super) certs: Option<Certs>,
    /// Machine config.
    pub(super) machine: Option<Machine>,
    /// Machine config. In `secrets.yaml` too, with other fields.
    pub(super) cluster: Option<Cluster>,
    /// talosconfig: the current context.
    pub(super) context: Option<String>,
    /// talosconfig.
    pub(super) contexts: Option<BTreeMap<String, Context>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Certs {
    pub(super) os: Option<Pair>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Machine {
    #[serde(rename = "type")]
    pub(super) kind: Option<String>,
    pub(super) ca: Option<Pair>,
    #[serde(rename = "acceptedCAs", default)]
    pub(super) accepted: Option<Vec<Pair>>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Cluster {
    #[serde(rename = "controlPlane")]
    pub(super) control_plane: Option<ControlPlane>,
}

#[derive(Debug, Deserialize)]
pub(super) struct ControlPlane {
    pub(super) endpoint: Option<String>,
}

#[derive(Debug, Deserialize)]
pub(super) struct Context {
    #[serde(default)]
    pub(super) endpoints: Option<Vec<String>>,
    #[serde(default)]
    pub(super) nodes: Option<Vec<String>>,
    pub(super) ca: Option<String>,
    pub(super) crt: Option<String>,
    pub(super) key: Option<SecretText>,
}

/// Certificate and key, each base64 of PEM.
#[derive(Debug, Deserialize)]
pub(super) struct Pair {
    pub(super) crt: Option<String>,
    pub(super) key: Option<SecretText>,
}

/// Text that is not shown, and wiped when dropped.
pub(super) struct SecretText(Zeroizing<String>);

/// Every document of the file.
pub(super) fn read(text: &str) -> Result<Vec<Document>, DocumentError> {
    if text.len() > 8 << 20 {
        return Err(DocumentError::TooLarge(text.len()));
    }
    let documents = serde_saphyr::from_multiple::<Option<Document>>(text).map_err(|error| {
        let at = error.location();
        DocumentError::Yaml { line: at.map_or(0, |l| l.line()), column: at.map_or(0, |l| l.column()) }
    })?;
    Ok(documents.into_iter().flatten().collect())
}

/// The PEM text of a field.
pub(super) fn pem_text(field: &'static str, base64: &str) -> Result<Zeroizing<String>, DocumentError> {
    let mut compact = Zeroizing::new(Vec::with_capacity(base64.len()));
    compact.extend(base64.bytes().filter(|b| !b.is_ascii_whitespace()));
    let bytes = BASE64.decode(&compact).map_err(|_| DocumentError::Base64(field))?;
    match String::from_utf8(bytes) {
        Ok(text) => Ok(Zeroizing::new(text)),
        Err(error) => {
            drop(Zeroizing::new(error.into_bytes()));
            Err(DocumentError::Base64(field))
        }
    }
}

// === impl SecretText ===

impl SecretText {
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }
}

impl<'de> Deserialize<'de> for SecretText {
    fn deserialize<D: serde::Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        String::deserialize(deserializer).map(|text| Self(Zeroizing::new(text)))
    }
}

impl fmt::Debug for SecretText {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretText(..)")
    }
}
