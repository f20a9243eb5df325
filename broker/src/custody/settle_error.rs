//! Why a CA was not brought to its place.

use super::VaultError;
use super::ca::CreateError;
use super::kv::KvError;
use super::pki::PkiError;
use super::servers::UnknownServer;
use super::transit::TransitKeyError;
use super::wrap::WrapError;
use crate::domain::ClusterName;
use crate::openbao::{BaoError, NameError};

/// Why a CA was not brought there.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum SettleError {
    /// The vault says no.
    #[error(transparent)]
    Vault(#[from] VaultError),
    /// There is no such server.
    #[error(transparent)]
    UnknownServer(#[from] UnknownServer),
    /// A name cannot stand in a path.
    #[error(transparent)]
    Name(#[from] NameError),
    /// The server says no.
    #[error(transparent)]
    Bao(#[from] BaoError),
    /// The Transit key is not to be used.
    #[error(transparent)]
    Transit(#[from] TransitKeyError),
    /// The KV secret is no CA, or the server says no.
    #[error(transparent)]
    Kv(#[from] KvError),
    /// No certificate could be made.
    #[error(transparent)]
    Create(#[from] CreateError),
    /// The PKI engine is not to be used.
    #[error(transparent)]
    Pki(#[from] PkiError),
    /// A PKI engine has its own CA and takes none.
    #[error(
        "a PKI engine makes its CA itself (`bao write pki/root/generate/internal …`); then take it up with `ichor-broker ca import \
         {0} --custody pki`"
    )]
    OwnCa(ClusterName),
    /// The key could not be wrapped.
    #[error(transparent)]
    Wrap(#[from] WrapError),
    /// Transit has no keys of this kind.
    #[error("Transit holds no {0} keys; use another custody for this CA")]
    Kind(String),
    /// Another cluster's CA lives there.
    #[error("{place} is the CA of cluster `{cluster}`; give this cluster one of its own")]
    Taken {
        /// The place.
        place: String,
        /// Whose it is.
        cluster: String,
    },
    /// This cluster's CA that issues lives there.
    #[error(
        "{0} is this cluster's CA in force, and what is written there issues at once; name another path with `--key`"
    )]
    InForce(String),
    /// Another CA of this cluster lies there.
    #[error(
        "{0} holds another CA that this cluster has or had, as its record or the log tells, and is not written over; name another path \
         with `--key`"
    )]
    Kept(String),
    /// A CA lies there that no record names and the operator did not name either.
    #[error(
        "{0} holds a CA already, which another command may be about to put in force; name another path with `--key`, or, where that CA \
         is nobody's, this one with `--key` and `--replace`"
    )]
    Unnamed(String),
    /// It is the key of another cluster's CA.
    #[error(
        "this CA has the key of the CA of cluster `{other}`, so a certificate for one would be good at the other; give `{cluster}` a CA of \
         its own, or, where `{other}` has another by now, retire that one with `ichor-broker ca retire {other}`, or, where `{other}` is \
         gone, take `vault/ca/{other}.toml` away"
    )]
    OthersKey {
        /// Whom it was meant for.
        cluster: ClusterName,
        /// Whose it is.
        other: ClusterName,
    },
    /// It is the key of another CA of this cluster.
    #[error(
        "{0} has the key of a CA that this cluster has or had, and a new CA needs a new key: leave `--key` out, or name one that is \
         not there yet"
    )]
    OldKey(String),
    /// The wrapping key is another one than a moment ago.
    #[error(
        "the wrapping key of `{0}` was changed while the CA's key crossed, so nothing was imported; run this again, and look \
         at who changes that mount"
    )]
    WrappingKey(String),
    /// Something else is there.
    #[error(
        "{0} is there already and holds something else; name another with `--key`, or, where it is a secret and you create or import, write over it with \
         `--replace`"
    )]
    Other(String),
    /// What was imported came back as another key.
    #[error(
        "Transit answers with another public key for `{0}` than was imported; nothing uses it: look at who writes there"
    )]
    Swapped(String),
}
