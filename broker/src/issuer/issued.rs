//! A certificate that exists and matches its grant.

use jiff::Timestamp;

use crate::domain::{ClusterName, GrantId};

/// A finished certificate. Its bytes can be read only from a `Recorded<Issued>`.
#[derive(Debug)]
pub struct Issued {
    pub(super) grant: GrantId,
    pub(super) cluster: ClusterName,
    pub(super) serial: Vec<u8>,
    pub(super) fingerprint: [u8; 32],
    pub(super) not_before: Timestamp,
    pub(super) not_after: Timestamp,
    pub(super) der: Vec<u8>,
}
