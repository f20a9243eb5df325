//! A CA key held by this process.

use std::fmt;

use async_trait::async_trait;
use aws_lc_rs::encoding::{AsDer, Pkcs8V1Der};
use aws_lc_rs::rand::SystemRandom;
use aws_lc_rs::signature::{
    ECDSA_P256_SHA256_ASN1_SIGNING, ECDSA_P384_SHA384_ASN1_SIGNING, EcdsaKeyPair, Ed25519KeyPair, KeyPair,
    RSA_PKCS1_SHA256, RsaKeyPair,
};
use ichor_wire::profile::{KeyAlgorithm, KeyError};

use super::{LockedBytes, SignError, Signer, ToBeSigned};

/// Signs with a key in this process's memory. The crypto library wipes it when it is dropped.
pub struct LocalSigner {
    key: Key,
    public_key: Vec<u8>,
    algorithm: KeyAlgorithm,
}

/// Why a private key cannot be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum KeyLoadError {
    /// Not a private key of a kind that we sign with.
    #[error("the private key is not a readable Ed25519, P-256, P-384 or RSA key")]
    Unreadable,
    /// A key that should not sign.
    #[error(transparent)]
    Weak(#[from] KeyError),
    /// The crypto library could not make one.
    #[error("no key could be generated")]
    Generate,
}

enum Key {
    Ed25519(Ed25519KeyPair),
    Ecdsa(EcdsaKeyPair),
    Rsa(Box<RsaKeyPair>),
}

// === impl LocalSigner ===

impl LocalSigner {
    /// The signer of an unencrypted private key: PKCS#8 (RFC 5958), or the older forms of RSA (PKCS#1) and EC (RFC 5915).
    ///
    /// # Errors
    /// When it is no private key, or one that should not sign.
    pub fn from_der(der: &[u8]) -> Result<Self, KeyLoadError> {
        let key = Key::from_der(der)?;
        let public_key = key.public_key().ok_or(KeyLoadError::Unreadable)?;
        let algorithm = KeyAlgorithm::of_ca(&public_key)?;
        Ok(Self { key, public_key, algorithm })
    }

    /// A new Ed25519 key.
    ///
    /// # Errors
    /// When the system's generator fails.
    pub(super) fn generate() -> Result<Self, KeyLoadError> {
        let key = Key::Ed25519(Ed25519KeyPair::generate().map_err(|_| KeyLoadError::Generate)?);
        let public_key = key.public_key().ok_or(KeyLoadError::Generate)?;
        Ok(Self { key, public_key, algorithm: KeyAlgorithm::Ed25519 })
    }

    /// The Ed25519 key of these 32 secret bytes (RFC 8032 §5.1.5).
    ///
    /// # Errors
    /// When there are not 32.
    pub(super) fn from_seed(seed: &[u8]) -> Result<Self, KeyLoadError> {
        let key = Ed25519KeyPair::from_seed_unchecked(seed).map_err(|_| KeyLoadError::Unreadable)?;
        let key = Key::Ed25519(key);
        let public_key = key.public_key().ok_or(KeyLoadError::Unreadable)?;
        Ok(Self { key, public_key, algorithm: KeyAlgorithm::Ed25519 })
    }

    /// The key as PKCS#8 version 1, the form that everything reads: what is sealed into the vault.
    pub(super) fn to_pkcs8(&self) -> Result<LockedBytes, KeyLoadError> {
        let der = match &self.key {
            Key::Ed25519(key) => key.to_pkcs8v1().map(|d| LockedBytes::copy_of(d.as_ref())),
            Key::Ecdsa(key) => key.to_pkcs8v1().map(|d| LockedBytes::copy_of(d.as_ref())),
            Key::Rsa(key) => AsDer::<Pkcs8V1Der<'_>>::as_der(&**key).map(|d| LockedBytes::copy_of(d.as_ref())),
        };
        der.map_err(|_| KeyLoadError::Unreadable)
    }

    /// The key's kind.
    #[must_use]
    pub fn algorithm(&self) -> KeyAlgorithm {
        self.algorithm
    }

    pub(super) fn sign_now(&self, bytes: &ToBeSigned) -> Result<Vec<u8>, SignError> {
        let refused = |_| SignError::Unavailable("the crypto library refused".to_owned());
        let bytes = bytes.as_bytes();
        match &self.key {
            Key::Ed25519(key) => key.try_sign(bytes).map(|s| s.as_ref().to_vec()).map_err(refused),
            Key::Ecdsa(key) => key.sign(&SystemRandom::new(), bytes).map(|s| s.as_ref().to_vec()).map_err(refused),
            Key::Rsa(key) => {
                let mut signature = vec![0; key.public_modulus_len()];
                key.sign(&RSA_PKCS1_SHA256, &SystemRandom::new(), bytes, &mut signature).map_err(refused)?;
                Ok(signature)
            }
        }
    }
}

#[async_trait]
impl Signer for LocalSigner {
    fn public_key(&self) -> &[u8] {
        &self.public_key
    }

    async fn sign(&self, bytes: ToBeSigned) -> Result<Vec<u8>, SignError> {
        self.sign_now(&bytes)
    }
}

impl fmt::Debug for LocalSigner {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LocalSigner").field("algorithm", &self.algorithm).finish_non_exhaustive()
    }
}

// === impl Key ===

impl Key {
    fn from_der(der: &[u8]) -> Result<Self, KeyLoadError> {
        if let Ok(key) = Ed25519KeyPair::from_pkcs8(der) {
            return Ok(Self::Ed25519(key));
        }
        for algorithm in [&ECDSA_P256_SHA256_ASN1_SIGNING, &ECDSA_P384_SHA384_ASN1_SIGNING] {
            if let Ok(key) = EcdsaKeyPair::from_private_key_der(algorithm, der) {
                return Ok(Self::Ecdsa(key));
            }
        }
        // The library takes RSA from 2048 bits on; a shorter one is told from the certificate that belongs to it.
        let rsa = RsaKeyPair::from_pkcs8(der).or_else(|_| RsaKeyPair::from_der(der));
        rsa.map(|key| Self::Rsa(Box::new(key))).map_err(|_| KeyLoadError::Unreadable)
    }

    fn public_key(&self) -> Option<Vec<u8>> {
        match self {
            Self::Ed25519(key) => key.public_key().as_der(),
            Self::Ecdsa(key) => key.public_key().as_der(),
            Self::Rsa(key) => key.public_key().as_der(),
        }
        .ok()
        .map(|der| der.as_ref().to_vec())
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::UnparsedPublicKey;

    use super::*;

    fn made(algorithm: &'static rcgen::SignatureAlgorithm) -> LocalSigner {
        let key = rcgen::KeyPair::generate_for(algorithm).unwrap();
        let signer = LocalSigner::from_der(key.serialized_der()).unwrap();
        assert_eq!(signer.public_key(), rcgen::PublicKeyData::subject_public_key_info(&key));
        // What the vault keeps is the same key.
        let again = LocalSigner::from_der(signer.to_pkcs8().unwrap().as_slice()).unwrap();
        assert_eq!(again.public_key(), signer.public_key());
        signer
    }

    #[tokio::test]
    async fn signs_with_every_kind() {
        assert_eq!(made(&rcgen::PKCS_ECDSA_P256_SHA256).algorithm(), KeyAlgorithm::P256);
        assert_eq!(made(&rcgen::PKCS_ECDSA_P384_SHA384).algorithm(), KeyAlgorithm::P384);
        assert_eq!(made(&rcgen::PKCS_RSA_SHA256).algorithm(), KeyAlgorithm::Rsa { bits: 2048 });
        let signer = made(&rcgen::PKCS_ED25519);
        let signature = signer.sign(ToBeSigned::certificate(b"bytes")).await.unwrap();
        let raw = &signer.public_key()[12..];
        UnparsedPublicKey::new(&aws_lc_rs::signature::ED25519, raw).verify(b"bytes", &signature).unwrap();
    }

    #[test]
    fn shows_nothing_and_takes_no_garbage() {
        let signer = LocalSigner::generate().unwrap();
        assert_eq!(format!("{signer:?}"), "LocalSigner { algorithm: Ed25519, .. }");
        assert_eq!(LocalSigner::from_der(b"garbage").unwrap_err(), KeyLoadError::Unreadable);
    }
}
