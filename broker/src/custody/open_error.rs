//! Why a cluster's CA, or a secret of the broker's own, is not opened.

use ichor_wire::profile::CaError;

use super::VaultError;
use super::ca::KeyMismatch;
use super::known::ForeignCa;
use super::kv::KvError;
use super::pki::PkiError;
use super::servers::UnknownServer;
use super::transit::TransitKeyError;
use crate::domain::ClusterName;
use crate::openbao::{BaoError, NameError};

/// Why a cluster's CA is not opened.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum CustodyError {
    /// Its server was not asked: it was found out when it was asked for other clusters' CAs.
    #[error("not asked for: other clusters' CAs there could not be had, the last since {0}")]
    Unasked(Box<CustodyError>),
    /// The cluster has none.
    #[error("cluster `{0}` has no CA in custody; `ichor-broker ca create` or `ca import` brings one")]
    None(ClusterName),
    /// The cluster makes its certificates itself, with the adopted credential.
    #[error("cluster `{0}` makes its certificates itself, with an adopted talosconfig: there is no CA in custody")]
    TalosApi(ClusterName),
    /// The cluster's CA was retired.
    #[error(
        "the CA of cluster `{0}` was retired and none took its place; `ichor-broker ca create {0} --replace --reason …` makes one, and \
         `ichor-broker ca removal-patch {0} --former` ends the old one at nodes"
    )]
    Retired(ClusterName),
    /// The key is where it cannot be taken from.
    #[error(
        "the key cannot be taken from {0}; make a new CA elsewhere with `ichor-broker ca rotate CLUSTER --custody KIND --reason …`"
    )]
    Stays(String),
    /// A secret of the broker's own is not where it should be.
    #[error("the broker's {secret} is not there: {place}; restore it there, or the vault from a backup")]
    NoSecret {
        /// Which.
        secret: &'static str,
        /// Where it should be.
        place: String,
    },
    /// The key that signs the audit log, a version of a Transit key, cannot be used. No other goes on with that log, so what helps a CA does
    /// not help here.
    #[error(
        "the key that signs the audit log, version {version} of the Transit key `{key}`, cannot be used: {}; bring it back at the server, \
         and give our token what deploy/openbao/audit.hcl has: no other key goes on with this log",
        .why.is_so()
    )]
    AuditKey {
        /// The key, with its mount.
        key: String,
        /// The version.
        version: u32,
        /// Why not.
        why: TransitKeyError,
    },
    /// Another secret is where one is to live.
    #[error(
        "{place} holds another {secret}, as of another broker, which would not start as it was without it; name another place with \
         `--key`, or, where it is nobody's, write over it with `--replace`"
    )]
    OtherSecret {
        /// Where.
        place: String,
        /// Which.
        secret: &'static str,
    },
    /// The folder was made before logs were signed.
    #[error(
        "the vault has no key that signs the audit log; if it had one, bring it back with `ichor-broker custody restore`; if it never had, \
         `ichor-broker audit rotate-key --reason …` makes it, once"
    )]
    NoAuditKey,
    /// A key that was to be made is there already.
    #[error("there is a Transit key `{0}` already; name another with `--key`")]
    KeyExists(String),
    /// The record leads to a CA that was made for another cluster.
    #[error(
        "the record leads to the CA that was made for cluster `{0}`; restore the record, or make a CA with `ichor-broker ca create`"
    )]
    OthersCa(String),
    /// The record has the cluster make the certificates, and the log knows nothing of it.
    #[error(
        "the record says that cluster `{0}` makes its certificates itself, asked with certificates of os:admin, and no entry of the log \
         says so: someone else may have written it. Where it is meant, say so with `ichor-broker ca delegate {0} --reason …`, else end it \
         with `--end`"
    )]
    NotDelegated(ClusterName),
    /// It is none that the audit log knows as this cluster's.
    #[error(transparent)]
    Foreign(#[from] ForeignCa),
    /// The vault says no.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// The record names a server that the configuration does not have.
    #[error(transparent)]
    UnknownServer(#[from] UnknownServer),
    /// The record names what cannot stand in a path.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The server says no.
    #[error(transparent)]
    Bao(#[from] BaoError),
    /// The Transit key is not to be used.
    #[error(transparent)]
    Transit(#[from] TransitKeyError),
    /// The PKI engine is not to be used.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// The KV secret is no CA.
    #[error(transparent)]
    Kv(#[from] KvError),
    /// The certificate in the record, or at the server, cannot be used.
    #[error(transparent)]
    Ca(#[from] CaError),
    /// Key and certificate belong to different CAs.
    #[error(transparent)]
    Mismatch(#[from] KeyMismatch),
}

// === impl CustodyError ===

impl CustodyError {
    /// Whether the same may succeed later without anyone changing a setting: a server is out.
    #[must_use]
    pub fn is_passing(&self) -> bool {
        match self {
            Self::Unasked(_) => true,
            Self::Bao(error) | Self::Kv(KvError::Bao(error)) | Self::Pki(PkiError::Bao(error)) => error.is_passing(),
            _ => false,
        }
    }

    /// Whether the server is out, as far as this call can tell: asking it for another cluster's CA may end likewise.
    #[must_use]
    pub fn is_outage(&self) -> bool {
        match self {
            Self::Bao(error) | Self::Kv(KvError::Bao(error)) | Self::Pki(PkiError::Bao(error)) => error.is_outage(),
            _ => false,
        }
    }

    /// Whether the cluster's own API may make the certificates: its record says so, or it has none. A CA that was retired, or
    /// whose file is gone, is not followed by a credential that was adopted once.
    #[must_use]
    pub fn may_be_adopted(&self) -> bool {
        matches!(self, Self::None(_) | Self::TalosApi(_))
    }

    /// Whether what was opened before is not to be used any longer either: its key may have left, what bounds it bounds nothing
    /// now, or the log says that it was retired, here or at another broker. Any other error says nothing of that.
    #[must_use]
    pub fn ends_use(&self) -> bool {
        matches!(
            self,
            Self::Transit(TransitKeyError::Leaks { .. })
                | Self::Pki(PkiError::TooMuch(_) | PkiError::OthersRole(_) | PkiError::WritesRoles(_))
                | Self::Foreign(ForeignCa::Retired { .. })
        )
    }

    /// Whether there is no CA, rather than one that cannot be opened: also where a server that answers has no such secret, or none
    /// of its versions but deleted ones.
    #[must_use]
    pub fn is_none(&self) -> bool {
        matches!(
            self,
            Self::None(_)
                | Self::Retired(_)
                | Self::TalosApi(_)
                | Self::Vault(VaultError::Missing(_))
                | Self::Kv(KvError::Missing(_))
        )
    }
}
