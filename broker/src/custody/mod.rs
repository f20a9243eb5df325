//! Where CA keys live. Key material never leaves this room: not by an API, a log, or `Debug`.

mod data_key;

use async_trait::async_trait;

pub use data_key::{DataKey, SealError};

/// Bytes that a CA key may sign. Made from a recorded grant, for a CA's self-signature, or for a checkpoint, nowhere else:
/// the source test lists the callers.
#[derive(Debug)]
pub struct ToBeSigned(Vec<u8>);

/// Signing failed. Nothing was signed, or the signature was thrown away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The key refused or is not there.
    #[error("the CA key cannot sign: {0}")]
    Unavailable(String),
}

/// Signs with one CA key that stays where it is.
///
/// A call may run twice without harm (a signature has no effect of its own). Every error is final for this call.
#[async_trait]
pub trait Signer: Send + Sync + 'static {
    /// The key's SubjectPublicKeyInfo, DER.
    fn public_key(&self) -> &[u8];

    /// The signature over the bytes, as it stands in a certificate's `signatureValue`.
    async fn sign(&self, bytes: ToBeSigned) -> Result<Vec<u8>, SignError>;
}
