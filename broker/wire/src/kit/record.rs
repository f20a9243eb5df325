//! What an opener records before a certificate is handed out: one line of JSON and the signature of the kit's key over it: its CA's,
//! in a static kit that of its certificate.
//!
//! Whoever changes the record later has no such key any more. That its opener can withhold it no signature prevents: the nodes'
//! own logs name the grant.

use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};
use data_encoding::BASE64;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use uuid::Uuid;

use crate::profile::GrantName;
use crate::role::Role;

/// The longest record, in bytes.
const MAX: usize = 64 * 1024;

/// What begins the line with the signature.
const SIGNATURE: &str = "signature: ";

/// What is signed before the record's bytes: no certificate begins so.
const PURPOSE: &[u8] = b"ichor kit record 1\0";

/// One opening.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Record {
    /// The format's version, 1.
    pub version: u8,
    /// The kit's number.
    pub number: u16,
    /// The kit's id.
    pub kit: Uuid,
    /// The cluster's name.
    pub cluster: String,
    /// The grant's id.
    pub grant: Uuid,
    /// The name that the opener gave. Nobody checked it.
    pub name: String,
    /// Why.
    pub reason: String,
    /// The roles.
    pub roles: Vec<Role>,
    /// When it was opened.
    pub opened: Timestamp,
    /// When what was granted ends.
    pub not_after: Timestamp,
    /// The certificate's serial number, lower-case hex.
    pub serial: String,
    /// SHA-256 of the public key to be certified, lower-case hex.
    pub public_key: String,
    /// Which shares opened it.
    pub shares: Vec<u8>,
    /// The operating-system user.
    pub os_user: String,
    /// The machine.
    pub host: String,
}

/// A record with the signature over its exact bytes.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SignedRecord {
    text: String,
    record: Record,
}

/// Why a text is no record of this kit.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum RecordError {
    /// Not a record.
    #[error("this is not the record of an opened kit; `ichor kit report` finds those of this machine")]
    NotARecord,
    /// Made by a newer program.
    #[error("the record has version {0}; this program reads up to 1: use a newer one")]
    Version(u8),
    /// Changed after it was signed, or of another kit.
    #[error("the record was changed after it was made, or is another kit's: its signature is not by this kit's key")]
    Signature,
    /// It could not be made.
    #[error("the record cannot be written down")]
    NotWritten,
}

// === impl Record ===

impl Record {
    /// The grant as its certificate names it.
    #[must_use]
    pub fn grant_name(&self) -> GrantName {
        GrantName::Kit { number: self.number, id: self.grant }
    }

    /// The value behind `user:` in the certificate that was made for it; that of a static kit names the kit alone.
    #[must_use]
    pub fn user(&self) -> String {
        format!("claimed:{}", self.name)
    }

    /// The record with the signature that `sign` makes with the kit's key.
    ///
    /// # Errors
    /// When it is too long, or cannot be signed.
    pub fn signed(self, sign: impl FnOnce(&[u8]) -> Option<Vec<u8>>) -> Result<SignedRecord, RecordError> {
        let line = serde_json::to_string(&self).map_err(|_| RecordError::NotWritten)?;
        let signature = sign(&message(&line)).ok_or(RecordError::NotWritten)?;
        let text = format!("{line}\n{SIGNATURE}{}\n", BASE64.encode(&signature));
        if text.len() > MAX {
            return Err(RecordError::NotWritten);
        }
        Ok(SignedRecord { text, record: self })
    }
}

// === impl SignedRecord ===

impl SignedRecord {
    /// Reads a record, and checks that the kit's key signed it, of which this is the public half (32 bytes, Ed25519).
    ///
    /// # Errors
    /// When it is none, or was changed.
    pub fn parse(text: &str, key: &[u8]) -> Result<Self, RecordError> {
        let (line, signature) = lines(text)?;
        let signature = BASE64.decode(signature.as_bytes()).map_err(|_| RecordError::NotARecord)?;
        let verified = UnparsedPublicKey::new(&ED25519, key).verify(&message(line), &signature);
        verified.map_err(|_| RecordError::Signature)?;
        Ok(Self { text: text.to_owned(), record: read(line)? })
    }

    /// What a text says, whoever wrote it.
    ///
    /// # Errors
    /// When it is no record.
    pub fn unverified_record(text: &str) -> Result<Record, RecordError> {
        read(lines(text)?.0)
    }

    /// The text of the file.
    #[must_use]
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What it says.
    #[must_use]
    pub fn record(&self) -> &Record {
        &self.record
    }

    /// SHA-256 of the text.
    #[must_use]
    pub fn digest(&self) -> [u8; 32] {
        Sha256::digest(self.text.as_bytes()).into()
    }
}

fn lines(text: &str) -> Result<(&str, &str), RecordError> {
    if text.len() > MAX {
        return Err(RecordError::NotARecord);
    }
    let (line, rest) = text.split_once('\n').ok_or(RecordError::NotARecord)?;
    let signature = rest.strip_prefix(SIGNATURE).and_then(|rest| rest.strip_suffix('\n'));
    signature
        .filter(|signature| !signature.contains('\n'))
        .map(|signature| (line, signature))
        .ok_or(RecordError::NotARecord)
}

fn read(line: &str) -> Result<Record, RecordError> {
    /// The version alone, so that a newer record is told from a damaged one.
    #[derive(Deserialize)]
    struct Versioned {
        version: u8,
    }
    match serde_json::from_str::<Versioned>(line) {
        Ok(Versioned { version: 1 }) => serde_json::from_str(line).map_err(|_| RecordError::NotARecord),
        Ok(Versioned { version }) if version > 1 => Err(RecordError::Version(version)),
        _ => Err(RecordError::NotARecord),
    }
}

fn message(line: &str) -> Vec<u8> {
    [PURPOSE, line.as_bytes()].concat()
}
