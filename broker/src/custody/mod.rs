//! Where CA keys live. Key material never leaves this room: not by an API, a log, or `Debug`.
//!
//! - [`Signer`] signs what may be signed: [`ToBeSigned`] has one constructor per purpose, and no other.
//! - [`Vault`] is the default custody: a folder of files sealed to age recipients. It opens CAs as [`ca::CaMaterial`], whose
//!   [`LocalSigner`] holds the key in this process, and secrets such as the [`DataKey`].
//! - [`ca`] creates and imports CA material, and writes the patches that make nodes trust it or stop to.
//! - [`make_kit`] makes a break-glass kit, whose key is sealed there and kept nowhere.
//! - [`harden_process`] keeps keys out of core dumps and, where allowed, out of swap.

use async_trait::async_trait;

mod audit_key;
mod bring;
pub mod ca;
mod data_key;
mod harden;
mod kit;
mod known;
mod kv;
mod leftovers;
mod local;
mod locked;
mod log_pin;
mod open;
mod open_error;
mod own;
mod pki;
mod record;
mod servers;
mod settle;
mod settle_error;
mod standing;
mod target;
mod transit;
mod vault;
mod vetted;
mod wrap;

pub use audit_key::AuditKey;
#[cfg(test)]
pub(crate) use audit_key::fixture as audit_key_fixture;
pub use data_key::{DataKey, SealError, TAG};
pub use harden::{Hardening, Memory, harden_process};
pub use kit::{Holder, KitEntry, KitPlan, MadeKit, MadeShare, MakeKitError, RecordedKit, make_kit};
pub use known::{
    ABOUT, ACT, CERTIFICATE, DELEGATED, Familiar, ForeignCa, KV_PLACE, KnownCas, PUBLIC_KEY, RETIRED, WITHDRAWN,
    kv_place,
};
pub use kv::{KvCa, KvError, read as read_kv, write as write_kv};
pub use leftovers::Left;
pub use local::{KeyLoadError, LocalSigner};
pub use locked::LockedBytes;
pub use log_pin::{KeyRotation, LogPin};
pub use open::{Custody, Means, OpenedCa};
pub use open_error::CustodyError;
pub use own::{Home, Over, Secret};
pub use pki::{
    Difference, NoRoleSet, Pinned as PinnedPki, PkiCustody, PkiError, Plan as PkiPlan, Planned as PlannedRole, RoleSet,
    ToBeCertified, plan as plan_pki,
};
pub use record::{Former, Place, Record, Rotation};
pub use servers::UnknownServer;
pub use settle::{Places, Settled};
pub use settle_error::SettleError;
pub use standing::{ForeignKey, StandingCredential, StandingError};
pub use target::{For, Target};
pub use transit::{TransitKeyError, TransitSigner};
pub use vault::{
    AUDIT_KEY, Archived, ArchivedCa, Aside, Backup, Created, DATA_KEY, Drilled, IdentitySource, Keep, Listing, LogName,
    PluginError, Plugins, Reseal, Sealer, Vault, VaultError, open_sealed,
};
pub use wrap::WrapError;

/// Bytes that a key in custody may sign. Made of a recorded grant
/// ([`Recorded::to_be_signed`](crate::audit::Recorded::to_be_signed)), for a CA's self-signature, by the [`AuditKey`] of a
/// checkpoint, or for the one certificate of a static kit, whose key leaves this room once both are recorded ([`MadeKit::recorded`]);
/// nowhere else: the source test lists the callers.
///
/// Whoever has them may have them signed,
/// ```
/// # use ichor_broker::custody::{SignError, Signer, ToBeSigned};
/// async fn sign(signer: &dyn Signer, bytes: ToBeSigned) -> Result<Vec<u8>, SignError> {
///     signer.sign(bytes).await
/// }
/// ```
/// but nobody makes them of bytes of their own,
/// ```compile_fail,E0624
/// # use ichor_broker::custody::ToBeSigned;
/// fn bytes(tbs: &[u8]) -> ToBeSigned {
///     ToBeSigned::certificate(tbs)
/// }
/// ```
/// ```compile_fail,E0423
/// # use ichor_broker::custody::ToBeSigned;
/// fn bytes(tbs: &[u8]) -> ToBeSigned {
///     ToBeSigned(tbs.to_vec())
/// }
/// ```
/// nor has other bytes signed, nor the same ones twice.
/// ```compile_fail,E0308
/// # use ichor_broker::custody::{SignError, Signer, ToBeSigned};
/// async fn sign(signer: &dyn Signer, bytes: Vec<u8>) -> Result<Vec<u8>, SignError> {
///     signer.sign(bytes).await
/// }
/// ```
/// ```compile_fail,E0382
/// # use ichor_broker::custody::{SignError, Signer, ToBeSigned};
/// async fn sign(signer: &dyn Signer, bytes: ToBeSigned) -> Result<Vec<u8>, SignError> {
///     signer.sign(bytes).await?;
///     signer.sign(bytes).await
/// }
/// ```
#[derive(Debug)]
pub struct ToBeSigned(Vec<u8>);

/// Signing failed. Nothing was signed, or the signature was thrown away.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SignError {
    /// The key refused or is not there.
    #[error("the CA key cannot sign: {0}")]
    Unavailable(String),
    /// What came back is no signature by the key. It was thrown away. Whoever verified it says so.
    #[error("what came back from custody is no signature by the key; look at who changed the key there")]
    Wrong,
}

/// Signs with one CA key that stays where it is.
///
/// A call may run twice without harm (a signature has no effect of its own). Every error is final for this call.
///
/// What it gives is trusted by nobody: whoever knows what the bytes are reads the whole and verifies it with the public key, once,
/// before it is used. A client certificate is judged ([`judge`](ichor_wire::profile::judge)), a CA's is read as one that signed
/// itself, a kit's own is judged as it is written, and a checkpoint becomes no note otherwise.
#[async_trait]
pub trait Signer: std::fmt::Debug + Send + Sync + 'static {
    /// The key's SubjectPublicKeyInfo, DER.
    fn public_key(&self) -> &[u8];

    /// The signature over the bytes, as it stands in a certificate's `signatureValue`. It is not verified yet.
    async fn sign(&self, bytes: ToBeSigned) -> Result<Vec<u8>, SignError>;
}

// === impl ToBeSigned ===

impl ToBeSigned {
    /// The to-be-signed part of a client certificate. Only the recorded grant calls this.
    pub(crate) fn certificate(tbs: &[u8]) -> Self {
        Self(tbs.to_vec())
    }

    /// The to-be-signed part of a CA's own certificate. Only the making of a dedicated CA calls this.
    fn ca_self_signature(tbs: &[u8]) -> Self {
        Self(tbs.to_vec())
    }

    /// The to-be-signed part of a static kit's certificate. Only the making of a kit calls this. The kit's log entry has the certificate,
    /// so it is signed before; nobody gets its key before there is evidence of the entry.
    fn kit_certificate(tbs: &[u8]) -> Self {
        Self(tbs.to_vec())
    }

    /// The text of a checkpoint of the log. Only the audit key calls this.
    fn log_checkpoint(text: &[u8]) -> Self {
        Self(text.to_vec())
    }

    fn as_bytes(&self) -> &[u8] {
        &self.0
    }
}
