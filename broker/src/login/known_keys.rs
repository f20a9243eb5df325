//! The keys that sessions prove themselves with, remembered ready to verify: a point is decoded, held against the curve and
//! named by its thumbprint once, and not for every request.

use std::collections::HashMap;
use std::fmt;
use std::sync::{Arc, PoisonError, RwLock};

use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED, ParsedPublicKey};
use data_encoding::BASE64URL_NOPAD;
use ichor_wire::dpop::PublicJwk;

/// So many keys are remembered; beyond them memory is emptied and fills again.
const REMEMBERED: usize = 10_000;

/// A point as SEC 1 §2.3.3 writes it uncompressed. Base64url without padding has one text for 32 bytes, so a point stands for
/// exactly one key and thumbprint.
type Point = [u8; 65];

/// A P-256 key, ready to verify.
pub(super) struct Key {
    point: Point,
    jkt: String,
    verifies: ParsedPublicKey,
}

/// Why there is no key.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum NoKey {
    /// Not the form of a P-256 key.
    Form,
    /// A point that does not lie on the curve: nothing verifies with it.
    Point,
}

/// The keys of sessions that were lately shown.
#[derive(Debug, Default)]
pub(super) struct KnownKeys(RwLock<HashMap<Point, Arc<Key>>>);

// === impl Key ===

impl Key {
    /// Its thumbprint.
    pub(super) fn jkt(&self) -> &str {
        &self.jkt
    }

    /// Whether the signature, r and s in 32 bytes each, is this key's over `signed`.
    pub(super) fn verifies(&self, signed: &[u8], signature: &[u8]) -> bool {
        self.verifies.verify_sig(signed, signature).is_ok()
    }
}

impl fmt::Debug for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Key").field("jkt", &self.jkt).finish_non_exhaustive()
    }
}

// === impl KnownKeys ===

impl KnownKeys {
    /// The key, remembered or read. What is read is not remembered yet: anyone may show a key.
    ///
    /// # Errors
    /// When it is none.
    pub(super) fn read(&self, jwk: &PublicJwk) -> Result<Arc<Key>, NoKey> {
        let point = point(jwk).ok_or(NoKey::Form)?;
        if let Some(key) = self.0.read().unwrap_or_else(PoisonError::into_inner).get(&point) {
            return Ok(Arc::clone(key));
        }
        let verifies = ParsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, point).map_err(|_| NoKey::Point)?;
        Ok(Arc::new(Key { point, jkt: jwk.thumbprint(), verifies }))
    }

    /// Remembers a key that was found to be a session's.
    pub(super) fn remember(&self, key: &Arc<Key>) {
        if self.0.read().unwrap_or_else(PoisonError::into_inner).contains_key(&key.point) {
            return;
        }
        let mut keys = self.0.write().unwrap_or_else(PoisonError::into_inner);
        if keys.len() >= REMEMBERED {
            keys.clear();
        }
        keys.insert(key.point, Arc::clone(key));
    }
}

fn point(jwk: &PublicJwk) -> Option<Point> {
    if jwk.kty != "EC" || jwk.crv != "P-256" {
        return None;
    }
    let mut point = [4; 65];
    for (place, coordinate) in [(1..33, &jwk.x), (33..65, &jwk.y)] {
        let bytes: [u8; 32] = BASE64URL_NOPAD.decode(coordinate.as_bytes()).ok()?.try_into().ok()?;
        point.get_mut(place)?.copy_from_slice(&bytes);
    }
    Some(point)
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair};

    use super::*;

    fn jwk() -> PublicJwk {
        let key = EcdsaKeyPair::generate(&ECDSA_P256_SHA256_FIXED_SIGNING).unwrap();
        let point = key.public_key().as_ref();
        PublicJwk::p256(point[1..33].try_into().unwrap(), point[33..].try_into().unwrap())
    }

    #[test]
    fn a_key_is_remembered_once_it_is_a_sessions() {
        let (known, one) = (KnownKeys::default(), jwk());
        let first = known.read(&one).unwrap();
        assert_eq!(first.jkt(), one.thumbprint());
        assert!(!Arc::ptr_eq(&first, &known.read(&one).unwrap()), "strangers fill nothing");
        known.remember(&first);
        assert!(Arc::ptr_eq(&first, &known.read(&one).unwrap()));
        let other = jwk();
        assert_eq!(known.read(&other).unwrap().jkt(), other.thumbprint());
        let swapped = PublicJwk { x: one.y.clone(), y: one.x.clone(), ..one };
        assert_eq!(known.read(&swapped).unwrap_err(), NoKey::Point, "a point off the curve");
    }

    #[test]
    fn memory_is_bounded() {
        let known = KnownKeys::default();
        let key = known.read(&jwk()).unwrap();
        {
            let mut keys = known.0.write().unwrap();
            for number in 0..REMEMBERED {
                let mut point = [0; 65];
                point[..8].copy_from_slice(&number.to_be_bytes());
                keys.insert(point, Arc::clone(&key));
            }
        }
        known.remember(&key);
        assert_eq!(known.0.read().unwrap().len(), 1);
    }
}
