//! What someone asks for.

use std::fmt;
use std::net::IpAddr;

use jiff::SignedDuration;
use uuid::Uuid;

use super::{ClusterName, Role};

/// A grant's id (UUIDv7): in the certificate as `grant:<id>`, in the audit, in the node's log.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct GrantId(pub Uuid);

/// A session's id (UUIDv7). It names a session and opens nothing; the token does that.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct SessionId(pub Uuid);

/// A request for a certificate, after its form was checked and before anyone decided.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Request {
    /// For which cluster.
    pub cluster: ClusterName,
    /// Which roles; empty asks for `os:reader`.
    pub roles: Vec<Role>,
    /// For how long; absent asks for the broker's default.
    pub ttl: Option<SignedDuration>,
    /// Why.
    pub reason: Option<String>,
    /// The key to certify: SubjectPublicKeyInfo, DER, its proof of possession checked.
    pub public_key: Vec<u8>,
    /// The request that proved it (PKCS#10, DER), for custody that certifies by itself and wants the proof too. Nothing in it but the
    /// key is to be used.
    pub csr: Vec<u8>,
    /// Where the request came from, after trusted proxies.
    pub address: IpAddr,
}

impl fmt::Display for GrantId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

impl fmt::Display for SessionId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}
