//! The key that signs the audit log's checkpoints: Ed25519, and used for nothing else.

use std::fmt;
use std::sync::Arc;

use ichor_wire::profile::ed25519_key;

use super::{KeyLoadError, LocalSigner, SignError, Signer, ToBeSigned};

/// Signs checkpoints of the log, wherever the key lives. It signs nothing else, and no other key signs checkpoints.
#[derive(Clone)]
pub struct AuditKey {
    signer: Arc<dyn Signer>,
    public_key: [u8; 32],
    warning: Option<String>,
}

// === impl AuditKey ===

impl AuditKey {
    /// The audit key behind a signer.
    ///
    /// # Errors
    /// When it is no Ed25519 key: a signed note knows no other.
    pub(super) fn of(signer: Arc<dyn Signer>) -> Result<Self, KeyLoadError> {
        let public_key = ed25519_key(signer.public_key()).ok_or(KeyLoadError::Unreadable)?;
        Ok(Self { signer, public_key, warning: None })
    }

    /// The key of these 32 secret bytes (RFC 8032 §5.1.5), held by this process.
    ///
    /// # Errors
    /// When there are not 32.
    pub fn from_seed(seed: &[u8]) -> Result<Self, KeyLoadError> {
        Self::of(Arc::new(LocalSigner::from_seed(seed)?))
    }

    /// The same key, with what an operator should know of the place where it lives.
    pub(super) fn with_warning(self, warning: Option<String>) -> Self {
        Self { warning, ..self }
    }

    /// What an operator should know of the place where it lives, one sentence.
    #[must_use]
    pub fn warning(&self) -> Option<&str> {
        self.warning.as_deref()
    }

    /// The public key, as a signed note names it.
    #[must_use]
    pub fn public_key(&self) -> [u8; 32] {
        self.public_key
    }

    /// The signature over a checkpoint's text; not verified yet, which [`Checkpoint::signed`](ichor_wire::log::Checkpoint::signed) does.
    ///
    /// # Errors
    /// When the key cannot be reached or does not sign.
    pub async fn sign_checkpoint(&self, text: &[u8]) -> Result<[u8; 64], SignError> {
        let signature = self.signer.sign(ToBeSigned::log_checkpoint(text)).await?;
        signature.as_slice().try_into().map_err(|_| SignError::Wrong)
    }
}

impl fmt::Debug for AuditKey {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("AuditKey").field("public_key", &data_encoding::HEXLOWER.encode(&self.public_key)).finish()
    }
}

/// Audit keys that a test takes away and gives back, and that lie.
#[cfg(test)]
pub(crate) mod fixture {
    use std::sync::atomic::{AtomicBool, Ordering};

    use super::*;

    #[derive(Debug)]
    struct Flaky(LocalSigner, Arc<AtomicBool>);

    #[async_trait::async_trait]
    impl Signer for Flaky {
        fn public_key(&self) -> &[u8] {
            self.0.public_key()
        }

        async fn sign(&self, bytes: ToBeSigned) -> Result<Vec<u8>, SignError> {
            match self.1.load(Ordering::SeqCst) {
                true => Err(SignError::Unavailable("a test's fault".into())),
                false => self.0.sign(bytes).await,
            }
        }
    }

    /// Signs as another than it says that it is.
    #[derive(Debug)]
    struct Lying(LocalSigner, LocalSigner);

    #[async_trait::async_trait]
    impl Signer for Lying {
        fn public_key(&self) -> &[u8] {
            self.0.public_key()
        }

        async fn sign(&self, bytes: ToBeSigned) -> Result<Vec<u8>, SignError> {
            self.1.sign(bytes).await
        }
    }

    pub(crate) fn lying(said: u8, is: u8) -> AuditKey {
        let [said, is] = [said, is].map(|seed| LocalSigner::from_seed(&[seed; 32]).unwrap());
        AuditKey::of(Arc::new(Lying(said, is))).unwrap()
    }

    pub(crate) fn flaky(seed: u8, is_out: &Arc<AtomicBool>) -> AuditKey {
        let signer = LocalSigner::from_seed(&[seed; 32]).unwrap();
        AuditKey::of(Arc::new(Flaky(signer, Arc::clone(is_out)))).unwrap()
    }
}

#[cfg(test)]
mod tests {
    use aws_lc_rs::signature::{ED25519, UnparsedPublicKey};

    use super::*;

    #[tokio::test]
    async fn signs_as_rfc_8032_has_it_and_shows_no_secret() {
        // RFC 8032 §7.1, test 1: the empty message
        let hex = |text: &str| data_encoding::HEXLOWER.decode(text.as_bytes()).unwrap();
        let seed = hex("9d61b19deffd5a60ba844af492ec2cc44449c5697b326919703bac031cae7f60");
        let key = AuditKey::from_seed(&seed).unwrap();
        assert_eq!(key.public_key().to_vec(), hex("d75a980182b10ab7d54bfed3c964073a0ee172f3daa62325af021a68f707511a"));
        let signature = key.sign_checkpoint(b"").await.unwrap();
        assert_eq!(data_encoding::HEXLOWER.encode(&signature[..8]), "e5564300c360ac72");
        UnparsedPublicKey::new(&ED25519, key.public_key()).verify(b"", &signature).unwrap();
        assert!(!format!("{key:?}").contains("9d61"), "{key:?}");
    }

    #[test]
    fn another_kind_of_key_is_refused() {
        assert!(AuditKey::from_seed(&[1; 31]).is_err());
        let p256 = rcgen::KeyPair::generate_for(&rcgen::PKCS_ECDSA_P256_SHA256).unwrap();
        let signer = LocalSigner::from_der(p256.serialized_der()).unwrap();
        assert!(AuditKey::of(Arc::new(signer)).is_err());
    }
}
