//! The wrapping key, and what crosses wrapped: RSA-OAEP over an AES key, followed by AES-KWP (RFC 5649) over the key itself.

use std::collections::BTreeMap;
use std::sync::{Arc, Mutex, PoisonError};

use anyhow::Context as _;
use aws_lc_rs::encoding::{AsDer as _, PublicKeyX509Der};
use aws_lc_rs::key_wrap::{AES_256, AesKek, KeyWrapPadded as _};
use aws_lc_rs::rsa::{
    KeySize, OAEP_SHA1_MGF1SHA1, OAEP_SHA256_MGF1SHA256, OAEP_SHA384_MGF1SHA384, OAEP_SHA512_MGF1SHA512,
    OaepPrivateDecryptingKey, PrivateDecryptingKey,
};

use crate::authority;

pub(super) struct WrappingKey {
    public: String,
    key: OaepPrivateDecryptingKey,
}

// === impl WrappingKey ===

impl WrappingKey {
    /// The one that the process's mounts have until it is changed: to make one takes longer than most tests.
    pub(super) fn first(bits: usize) -> anyhow::Result<Arc<Self>> {
        static FIRST: Mutex<BTreeMap<usize, Arc<WrappingKey>>> = Mutex::new(BTreeMap::new());
        let mut made = FIRST.lock().unwrap_or_else(PoisonError::into_inner);
        Ok(match made.get(&bits) {
            Some(key) => Arc::clone(key),
            None => Arc::clone(made.entry(bits).or_insert(Arc::new(Self::generate(bits)?))),
        })
    }

    pub(super) fn generate(bits: usize) -> anyhow::Result<Self> {
        let size = if bits == 4096 { KeySize::Rsa4096 } else { KeySize::Rsa2048 };
        let key = PrivateDecryptingKey::generate(size).ok().context("the system gave no key")?;
        let der: PublicKeyX509Der<'_> = key.public_key().as_der()?;
        let public = authority::pem("PUBLIC KEY", der.as_ref());
        Ok(Self { public, key: OaepPrivateDecryptingKey::new(key)? })
    }

    /// SubjectPublicKeyInfo, PEM.
    pub(super) fn public(&self) -> &str {
        &self.public
    }

    /// The wrapped key.
    pub(super) fn unwrap(&self, ciphertext: &[u8], hash: &str) -> anyhow::Result<Vec<u8>> {
        let wrapped = ciphertext.split_at_checked(self.key.key_size_bytes());
        let (kek, wrapped) =
            wrapped.filter(|(_, rest)| !rest.is_empty()).context("provided ciphertext is too short")?;
        let algorithm = match hash {
            "" | "SHA256" => &OAEP_SHA256_MGF1SHA256,
            "SHA1" => &OAEP_SHA1_MGF1SHA1,
            "SHA384" => &OAEP_SHA384_MGF1SHA384,
            "SHA512" => &OAEP_SHA512_MGF1SHA512,
            other => anyhow::bail!("unsupported hash function: {other}"),
        };
        let mut room = vec![0; self.key.min_output_size()];
        let kek = self.key.decrypt(algorithm, kek, &mut room, None).ok().context("crypto/rsa: decryption error")?;
        let kek = AesKek::new(&AES_256, kek).ok().context("the wrapping AES key is not of 256 bits")?;
        let mut room = vec![0; wrapped.len()];
        let opened =
            kek.unwrap_with_padding(wrapped, &mut room).ok().context("kwp: unwrapped plaintext has wrong format")?;
        Ok(opened.to_vec())
    }
}
