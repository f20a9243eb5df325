//! Seals small secrets for the database: refresh tokens, mostly.

use std::fmt;

use aws_lc_rs::aead::{AES_256_GCM, Aad, Nonce, RandomizedNonceKey};
use zeroize::Zeroizing;

/// The first byte of a sealed value, so that another scheme can follow.
const VERSION: u8 = 1;

/// Bytes of the nonce (NIST SP 800-38D §5.2.1.1: 96 bits).
const NONCE: usize = 12;

/// A key that seals rows. AES-256-GCM with random nonces: good for 2³² values (SP 800-38D §8.3), far more than sessions
/// ever refresh.
pub struct DataKey(RandomizedNonceKey);

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
        RandomizedNonceKey::new(&AES_256_GCM, key).map(Self).map_err(|_| SealError::Key)
    }

    /// Seals `plaintext` so that it opens only for the same `context`, which is bound, not hidden: the table, the row's id,
    /// the column. Two sealings of one text differ.
    ///
    /// # Errors
    /// When the random generator fails.
    pub fn seal(&self, context: &[u8], plaintext: &[u8]) -> Result<Vec<u8>, SealError> {
        let mut body = plaintext.to_vec();
        let nonce = self.0.seal_in_place_append_tag(Aad::from(context), &mut body).map_err(|_| SealError::Seal)?;
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
        let len = self.0.open_in_place(nonce, Aad::from(context), &mut text).map_err(|_| SealError::Open)?.len();
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
