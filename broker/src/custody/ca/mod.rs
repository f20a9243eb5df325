//! CA material: a CA made for Ichor alone, or one imported from a cluster; and what makes nodes trust it, or stop to.
//!
//! - [`create`] makes a *dedicated* CA: good for client certificates only, trusted through `machine.acceptedCAs`, ended by
//!   one patch.
//! - [`import`] reads a cluster's own CA from the files that people have.
//! - [`apply_patch`], [`removal_patch`] and [`created_text`] are what an operator does on the nodes.
//! - [`adopt`] takes the certificate and key out of a talosconfig, for clusters whose own API makes the certificates.
//! - [`ClusterFacts`] are the public facts of a cluster from a talosconfig or machine config.

use ichor_wire::profile::CaCertificate;
use jiff::Timestamp;

use super::{LocalSigner, Signer};

mod adopt;
mod cluster_facts;
mod dedicated;
mod documents;
mod import;
mod patch;

pub use adopt::{AdoptError, adopt};
pub use cluster_facts::{ClusterFacts, FactsError};
pub use dedicated::{CreateError, DEFAULT_YEARS, create};
pub(super) use dedicated::{DEDICATED, Draft};
pub use documents::DocumentError;
pub use import::{ImportError, Imported, import};
pub use patch::{
    PatchError, RemovalPatch, apply_patch, created_text, is_accepted, removal_patch, rotated_text, rotating_text,
};

/// A CA's certificate and its key, which belong together.
#[derive(Debug)]
pub struct CaMaterial {
    certificate: CaCertificate,
    signer: LocalSigner,
}

/// Key and certificate belong to different CAs.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the CA's key and certificate differ; give the two that belong together")]
pub struct KeyMismatch;

/// What may be told of a CA.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CaFacts {
    /// The subject, for people to read.
    pub subject: String,
    /// The key's kind, as `Ed25519`.
    pub algorithm: String,
    /// SHA-256 of the certificate's DER, lower-case hex.
    pub fingerprint: String,
    /// SHA-256 of the SubjectPublicKeyInfo, lower-case hex.
    pub key_fingerprint: String,
    /// The CA's start.
    pub not_before: Timestamp,
    /// The CA's end.
    pub not_after: Timestamp,
}

// === impl CaMaterial ===

impl CaMaterial {
    /// Puts the two together.
    ///
    /// # Errors
    /// When the key is not the certificate's.
    pub fn new(certificate: CaCertificate, signer: LocalSigner) -> Result<Self, KeyMismatch> {
        if signer.public_key() != certificate.public_key() {
            return Err(KeyMismatch);
        }
        Ok(Self { certificate, signer })
    }

    /// The certificate.
    #[must_use]
    pub fn certificate(&self) -> &CaCertificate {
        &self.certificate
    }

    /// The certificate, and what signs with its key.
    #[must_use]
    pub fn into_parts(self) -> (CaCertificate, LocalSigner) {
        (self.certificate, self.signer)
    }

    /// What may be told of it.
    #[must_use]
    pub fn facts(&self) -> CaFacts {
        CaFacts::of(&self.certificate)
    }

    pub(super) fn signer(&self) -> &LocalSigner {
        &self.signer
    }
}

// === impl CaFacts ===

impl CaFacts {
    /// What a CA's certificate tells.
    #[must_use]
    pub fn of(certificate: &CaCertificate) -> Self {
        let hex = |bytes: [u8; 32]| data_encoding::HEXLOWER.encode(&bytes);
        Self {
            subject: certificate.subject().to_owned(),
            algorithm: certificate.algorithm().to_string(),
            fingerprint: hex(certificate.fingerprint()),
            key_fingerprint: hex(certificate.key_fingerprint()),
            not_before: certificate.not_before(),
            not_after: certificate.not_after(),
        }
    }
}
