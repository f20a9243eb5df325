//! A kit that was opened.

use std::path::Path;

use aws_lc_rs::encoding::AsDer;
use aws_lc_rs::signature::{Ed25519KeyPair, KeyPair as _};
use ichor_wire::kit::{Facts, Gathered, KitFile, MAX_FILE};
use ichor_wire::profile::CaCertificate;
use jiff::Timestamp;
use zeroize::Zeroizing;

use crate::error::Error;
use crate::private_file;

/// A kit that enough shares opened. Holds the key of its CA, in a static kit that of its certificate, which are wiped when this is
/// dropped.
#[derive(Debug)]
pub struct Opened {
    facts: Facts,
    ca: CaCertificate,
    key: Ed25519KeyPair,
    fixed: Option<Fixed>,
    shares: Vec<u8>,
}

/// What a static kit gives.
pub(super) struct Fixed {
    /// Its certificate, DER.
    pub(super) certificate: Vec<u8>,
    /// The certificate's serial number.
    pub(super) serial: [u8; 16],
    /// The private key, PKCS#8.
    pub(super) key: Zeroizing<Vec<u8>>,
    /// The public one, SubjectPublicKeyInfo.
    pub(super) spki: Vec<u8>,
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

/// Returns if the kit is good at `now`, by what it says of itself: known before anyone brings a share.
///
/// # Errors
/// When it is not, or not by this machine's clock.
pub fn check_time(facts: &Facts, now: Timestamp) -> Result<(), Error> {
    let refused =
        |error: &dyn std::fmt::Display, next: &str| Error::failed(format!("the kit stays shut: {error}"), next);
    let ca = facts.kit_certificate().map_err(|error| refused(&error, "take another copy of the kit's file"))?;
    ca.check_time(now).map_err(|error| refused(&error, "check this machine's clock; else use a newer kit"))
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
        check_time(&facts, now)?;
        let spki = key.public_key().as_der().map_err(|_| refused(&"its key cannot be read", copy))?.as_ref().to_vec();
        let fixed = facts.fixed_certificate(&spki, now).map_err(|error| refused(&error, copy))?;
        if fixed.is_none() && ca.public_key() != spki {
            return Err(refused(&"its key is not its CA's", copy));
        }
        let fixed = fixed.map(|(certificate, said)| -> Result<Fixed, Error> {
            let serial =
                whole_serial(&said.serial).ok_or_else(|| refused(&"its certificate's number is too long", copy))?;
            Ok(Fixed { certificate, serial, key: Zeroizing::new(secret.key().to_vec()), spki })
        });
        Ok(Self { facts, ca, key, fixed: fixed.transpose()?, shares: gathered.indexes() })
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

    pub(super) fn fixed(&self) -> Option<&Fixed> {
        self.fixed.as_ref()
    }

    pub(super) fn sign(&self, bytes: &[u8]) -> Option<Vec<u8>> {
        self.key.try_sign(bytes).ok().map(|signature| signature.as_ref().to_vec())
    }
}

impl std::fmt::Debug for Fixed {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Fixed").field("serial", &self.serial).finish_non_exhaustive()
    }
}

/// The number in sixteen bytes, with the zeros in front that its encoding leaves out.
fn whole_serial(serial: &[u8]) -> Option<[u8; 16]> {
    let mut whole = [0; 16];
    let from = whole.len().checked_sub(serial.len())?;
    whole.get_mut(from..)?.copy_from_slice(serial);
    Some(whole)
}
