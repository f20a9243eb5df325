//! A key wrapped for Transit, so that it crosses once and in no readable form.

use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded};
use aws_lc_rs::rsa::{OAEP_SHA256_MGF1SHA256, OaepPublicEncryptingKey, PublicEncryptingKey};
use zeroize::Zeroizing;

use crate::entropy;

/// A key could not be wrapped.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the key could not be wrapped for Transit")]
pub struct WrapError;

/// The PKCS#8 for Transit's import: RSA-OAEP with SHA-256 (RFC 8017 §7.1) of a new AES-256 key, then the PKCS#8 under it by
/// AES key wrap with padding (RFC 5649). `wrapping_key` is Transit's, SubjectPublicKeyInfo DER.
pub(super) fn wrap(wrapping_key: &[u8], pkcs8: &[u8]) -> Result<Vec<u8>, WrapError> {
    let aes = Zeroizing::new(entropy::bytes::<32>().map_err(|_| WrapError)?);
    let rsa = PublicEncryptingKey::from_der(wrapping_key).map_err(|_| WrapError)?;
    let rsa = OaepPublicEncryptingKey::new(rsa).map_err(|_| WrapError)?;
    let mut sealed = vec![0; rsa.ciphertext_size()];
    let sealed = rsa.encrypt(&OAEP_SHA256_MGF1SHA256, &*aes, &mut sealed, None).map_err(|_| WrapError)?;
    // RFC 5649 §4.1: padded to eight bytes, and eight more
    let mut wrapped = vec![0; pkcs8.len().next_multiple_of(8) + 8];
    let kek = AesKek::new(&AES_256, &*aes).map_err(|_| WrapError)?;
    let wrapped = kek.wrap_with_padding(pkcs8, &mut wrapped).map_err(|_| WrapError)?;
    Ok([&*sealed, &*wrapped].concat())
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::rsa::{KeySize, OaepPrivateDecryptingKey, PrivateDecryptingKey};

    use super::*;

    #[test]
    fn what_was_wrapped_comes_out_with_the_private_key_alone() {
        use aws_lc_rs::encoding::{AsDer, PublicKeyX509Der};

        let private = PrivateDecryptingKey::generate(KeySize::Rsa2048).unwrap();
        let public: PublicKeyX509Der<'_> = private.public_key().as_der().unwrap();
        let wrapped = wrap(public.as_ref(), b"a private key of some length").unwrap();
        let private = OaepPrivateDecryptingKey::new(private).unwrap();
        let (sealed, rest) = wrapped.split_at(256);
        let mut aes = vec![0; private.min_output_size()];
        let aes = private.decrypt(&OAEP_SHA256_MGF1SHA256, sealed, &mut aes, None).unwrap();
        let mut out = vec![0; rest.len()];
        let out = AesKek::new(&AES_256, aes).unwrap().unwrap_with_padding(rest, &mut out).unwrap();
        assert_eq!(out, b"a private key of some length");
        assert_eq!(wrap(b"no key", b"x"), Err(WrapError));
    }
}
