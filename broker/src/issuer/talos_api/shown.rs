//! Whose certificate a node shows: seen in the handshake alone.

use std::fmt;
use std::sync::Arc;

use ichor_wire::talosconfig::host_and_port;
use tokio_rustls::TlsConnector;

use super::apid::{self, DEADLINE, EndpointError, UnusableError};
use crate::clock::SharedClock;

/// Sees whether nodes show certificates of one cluster's CA. It has no certificate of its own to show them, so nothing is
/// called and nothing need be granted.
pub struct Shown {
    tls: TlsConnector,
}

// === impl Shown ===

impl Shown {
    /// Believes certificates of `ca`, a PEM bundle.
    ///
    /// # Errors
    /// When it has none that can be used.
    pub fn new(ca: &str, clock: SharedClock) -> Result<Self, UnusableError> {
        let config = apid::believing(ca, clock)?.with_no_client_auth();
        Ok(Self { tls: TlsConnector::from(Arc::new(config)) })
    }

    /// Returns once this endpoint has shown such a certificate, within some seconds.
    ///
    /// # Errors
    /// What it did instead: [`EndpointError::AnotherCluster`] only where it showed another CA's.
    pub async fn by(&self, endpoint: &str) -> Result<(), EndpointError> {
        let (host, port) = host_and_port(endpoint);
        let connected = tokio::time::timeout(DEADLINE, apid::connect(&self.tls, &host, port)).await;
        connected.unwrap_or(Err(EndpointError::Late)).map(drop)
    }
}

impl fmt::Debug for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Shown")
    }
}
