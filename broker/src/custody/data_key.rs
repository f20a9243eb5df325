//! Seals small secrets for the database, refresh tokens mostly, and tags the rows that decide who someone is.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use aws_lc_rs::hmac;
use subtle::ConstantTimeEq;
use zeroize::Zeroizing;

/// The first byte of a sealed value, so that another scheme can follow.
const VERSION: u8 = 1;

/// Bytes of the nonce (NIST SP 800-38D §5.2.1.1: 96 bits).
const NONCE: usize = 12;

/// Bytes of a tag (HMAC-SHA-256, not shortened).
pub const TAG: usize = 32;

/// What the tagging key is derived with, so that it is another one than the key that seals (HKDF-Expand with one block,
/// RFC 5869 §2.3: the data key is uniformly random already).
const TAG_KEY: &[u8] = b"ichor data key: tags of rows\x01";

/// A key that seals and tags rows. Sealing is AES-256-GCM with random nonces: good for 2³² values (SP 800-38D §8.3), far
/// more than sessions ever refresh. What strangers can cause any number of times is tagged instead (HMAC-SHA-256), which
/// has no such bound.
pub struct DataKey {
    seals: RandomizedNonceKey,
    tags: hmac::Key,
}

/// Sealing or opening failed. It does not say why: whoever opens may be an attacker's instrument.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SealError {
    /// The key has not 32 bytes.
    #[error("the data key must have 32 bytes")]
    Key,
    /// The random generator or the cipher failed.
    #[error("the value could not be sealed")]
    Seal,
    /// Not sealed by this key for this context, or damaged.
    #[error("the sealed value is damaged, or belongs to another key or place")]
    Open,
}

// === impl DataKey ===

impl DataKey {
    /// A key from its 32 bytes.
    ///
    /// # Errors
    /// When there are not 32.
    pub fn new(key: &[u8]) -> Result<Self, SealError> {
        let seals = RandomizedNonceKey::new(&AES_256_GCM, key).map_err(|_| SealError::Key)?;
        let derived = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, key), TAG_KEY);
        Ok(Self { seals, tags: hmac::Key::new(hmac::HMAC_SHA256, derived.as_ref()) })
    }

    /// The tag of `bytes` for this `context`: only whoever has the key can make it. One context must be no beginning of
    /// another; `bytes` must tell their own lengths.
    #[must_use]
    pub fn tag(&self, context: &[u8], bytes: &[u8]) -> [u8; TAG] {
        let mut under_way = hmac::Context::with_key(&self.tags);
        under_way.update(context);
        under_way.update(bytes);
        let mut out = [0; TAG];
        out.iter_mut().zip(under_way.sign().as_ref()).for_each(|(to, from)| *to = *from);
        out
    }

    /// Whether [`Self::tag`] made `tag` for this `context` and these `bytes`; takes the same time whatever differs.
    #[must_use]
    pub fn has_tagged(&self, context: &[u8], bytes: &[u8], tag: &[u8]) -> bool {
        self.tag(context, bytes).ct_eq(tag).into()
    }

    /// Seals `plaintext` so that it opens only for the same `context`, which is bound, not hidden: the table, the row's id,
    /// the column. Two sealings of one text differ.
    ///
    /// # Errors
    /// When the random generator fails.
    pub fn seal(&self, context: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut body = plaintext.to_vec();
        let nonce = self.seals.seal_in_place_append_tag(Aad::from(context), &mut body).map_err(|_| SealError::Seal)?;
        let mut sealed = Vec::with_capacity(1 + NONCE + body.len());
        sealed.push(VERSION);
        sealed.extend_from_slice(nonce.as_ref());
        sealed.extend_from_slice(&body);
        Ok(sealed)
    }

    /// The plaintext of what [`Self::seal`] made for this `context`.
    ///
    /// # Errors
    /// When it was made by another key, for another context, or was changed.
    pub fn open(&self, context: &[u8], sealed: &[u8]) -> Result<Zeroizing<Vec<u8>>, SealError> {
        let (&VERSION, rest) = sealed.split_first().ok_or(SealError::Open)? else { return Err(SealError::Open) };
        let (nonce, body) = rest.split_at_checked(NONCE).ok_or(SealError::Open)?;
        let nonce = Nonce::try_assume_unique_for_key(nonce).map_err(|_| SealError::Open)?;
        let mut text = Zeroizing::new(body.to_vec());
        let len = self.seals.open_in_place(nonce, Aad::from(context), &mut text).map_err(|_| SealError::Open)?.len();
        text.truncate(len);
        Ok(text)
    }
}

impl fmt::Debug for DataKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("DataKey(..)")
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    #[test]
    fn opens_only_with_key_and_context() {
        let (key, other) = (DataKey::new(&[1; 32]).unwrap(), DataKey::new(&[2; 32]).unwrap());
        let sealed = key.seal(b"session/1", b"token").unwrap();
        assert_eq!(key.open(b"session/1", &sealed).unwrap().as_slice(), b"token");
        assert_eq!(key.open(b"session/2", &sealed), Err(SealError::Open));
        assert_eq!(other.open(b"session/1", &sealed), Err(SealError::Open));
        assert_ne!(key.seal(b"session/1", b"token").unwrap(), sealed, "nonces must differ");
        assert!(!sealed.windows(5).any(|w| w == b"token"));
        assert_eq!(DataKey::new(&[1; 31]).unwrap_err(), SealError::Key);
        assert_eq!(format!("{key:?}"), "DataKey(..)");
    }

    #[test]
    fn a_tag_fits_its_key_context_and_bytes_alone() {
        let (key, other) = (DataKey::new(&[1; 32]).unwrap(), DataKey::new(&[2; 32]).unwrap());
        let tag = key.tag(b"session", b"row");
        assert!(key.has_tagged(b"session", b"row", &tag));
        assert!(!other.has_tagged(b"session", b"row", &tag));
        assert!(!key.has_tagged(b"login", b"row", &tag));
        assert!(!key.has_tagged(b"session", b"now", &tag));
        assert!(!key.has_tagged(b"session", b"row", &tag[..31]));
        assert!(!key.has_tagged(b"session", b"row", &[]));
        assert!(!key.has_tagged(b"session", b"row", &[0; TAG]));
        let plain = hmac::sign(&hmac::Key::new(hmac::HMAC_SHA256, &[1; 32]), b"sessionrow");
        assert!(!key.has_tagged(b"session", b"row", plain.as_ref()), "the key that tags is not the one that seals");
    }

    proptest! {
        #[test]
        fn any_change_is_found(text in proptest::collection::vec(any::<u8>(), 0..60), at in any::<usize>(), bit in 0..8_u8) {
            let key = DataKey::new(&[1; 32]).unwrap();
            let mut sealed = key.seal(b"c", &text).unwrap();
            prop_assert_eq!(&*key.open(b"c", &sealed).unwrap(), &text);
            let at = at % sealed.len();
            sealed[at] ^= 1 << bit;
            prop_assert_eq!(key.open(b"c", &sealed), Err(SealError::Open));
            sealed.truncate(at);
            prop_assert_eq!(key.open(b"c", &sealed), Err(SealError::Open));
        }
    }
}
