//! A kit that was opened.

use std::path::Path;

use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use ichor_wire::kit::{Facts, Gathered, KitFile, MAX_FILE};
use ichor_wire::profile::CaCertificate;
use jiff::Timestamp;

use crate::error::Error;
use crate::private_file;

/// A kit that enough shares opened. Holds the key of its CA, which the crypto library wipes when this is dropped.
#[derive(Debug)]
pub struct Opened {
    facts: Facts,
    ca: CaCertificate,
    key: Ed25519KeyPair,
    shares: Vec<u8>,
}

/// Reads a kit's file.
///
/// # Errors
/// When there is none, or it is no kit.
pub fn read(path: &Path) -> Result<KitFile, Error> {
    let missing = || Error::failed(format!("there is no kit at `{}`", path.display()), "check the path");
    let text = private_file::read(path, MAX_FILE)?.ok_or_else(missing)?;
    let bad = |error| Error::failed(format!("`{}`: {error}", path.display()), "take another copy of the kit's file");
    KitFile::parse(&text).map_err(bad)
}

// === impl Opened ===

impl Opened {
    /// Opens the kit with the shares that were gathered.
    ///
    /// # Errors
    /// When they are not enough, the file was changed, its key is not its CA's, or the kit is not good at `now`.
    pub fn open(file: &KitFile, gathered: &Gathered, now: Timestamp) -> Result<Self, Error> {
        let refused =
            |error: &dyn std::fmt::Display, next: &str| Error::failed(format!("the kit stays shut: {error}"), next);
        let copy = "take another copy of the kit's file, from another place";
        let (facts, secret) = file.open(gathered).map_err(|error| refused(&error, copy))?;
        let ca = facts.kit_certificate().map_err(|error| refused(&error, copy))?;
        let key = Ed25519KeyPair::from_pkcs8(secret.key()).map_err(|_| refused(&"its key cannot be read", copy))?;
        // RFC 8410: twelve bytes of algorithm, then the key
        if ca.public_key().get(12..) != Some(key.public_key().as_ref()) {
            return Err(refused(&"its key is not its CA's", copy));
        }
        ca.check_time(now).map_err(|error| refused(&error, "check this machine's clock; else use a newer kit"))?;
        Ok(Self { facts, ca, key, shares: gathered.indexes() })
    }

    /// What it says, sealed and plain alike.
    #[must_use]
    pub fn facts(&self) -> &Facts {
        &self.facts
    }

    /// Which shares opened it.
    #[must_use]
    pub fn shares(&self) -> &[u8] {
        &self.shares
    }

    pub(super) fn ca(&self) -> &CaCertificate {
        &self.ca
    }

    pub(super) fn sign(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.key.try_sign(bytes).ok().map(|signature| signature.as_ref().to_vec())
    }
}
