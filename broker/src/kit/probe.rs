//! Asks a node whether it still accepts a kit's CA, with no certificate of the kit's.
//!
//! A server that wants a client's certificate names in the handshake the CAs whose certificates it takes (RFC 8446 §4.2.4). So
//! nobody has to open a kit, or keep a certificate of it at hand, to see whether it would serve. The subject of a kit's CA has its
//! number and random digits of its id: no other CA's name is taken for it. What a node says is believed only once the node
//! itself is known: its own certificate comes from the cluster's CA.

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use ichor_wire::profile::CaCertificate;
use ichor_wire::talosconfig::host_and_port;
use rustls::client::ResolvesClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::sign::CertifiedKey;
use rustls::{ClientConfig, RootCertStore, SignatureScheme};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;

/// How long one node may take.
const DEADLINE: Duration = Duration::from_secs(5);

/// Why a node did not say.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProbeError {
    /// The cluster's CA cannot be used.
    #[error("the cluster's `ca` is no CA certificate; correct its declaration")]
    ClusterCa,
    /// No connection, or no node of this cluster.
    #[error("it cannot be asked: {0}")]
    Node(String),
    /// No answer in time.
    #[error("it did not answer within 5 s")]
    Late,
    /// It asks for no certificate, or does not say whose it takes.
    #[error("it does not say which CAs it accepts")]
    Silent,
}

/// Hears which CAs a server names, and has no certificate to show.
#[derive(Debug, Default)]
struct Listening(Mutex<Option<Vec<Vec<u8>>>>);

impl ResolvesClientCert for Listening {
    fn resolve(&self, named: &[&[u8]], _: &[SignatureScheme]) -> Option<Arc<CertifiedKey>> {
        let named = named.iter().map(|name| name.to_vec()).collect();
        *self.0.lock().unwrap_or_else(PoisonError::into_inner) = Some(named);
        None
    }

    fn has_certs(&self) -> bool {
        true
    }
}

/// Whether the node at this endpoint accepts certificates of the CA.
///
/// # Errors
/// When it does not say.
pub async fn accepts(endpoint: &str, cluster_ca: &str, ca: &CaCertificate) -> Result<bool, ProbeError> {
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(cluster_ca.as_bytes()) {
        let certificate = certificate.map_err(|_| ProbeError::ClusterCa)?;
        roots.add(certificate).map_err(|_| ProbeError::ClusterCa)?;
    }
    let heard = Arc::new(Listening::default());
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_provider(provider).with_safe_default_protocol_versions();
    let builder = builder.map_err(|error| ProbeError::Node(error.to_string()))?;
    let mut config = builder.with_root_certificates(roots).with_client_cert_resolver(Arc::clone(&heard) as _);
    config.alpn_protocols = vec![b"h2".to_vec()];
    let connecting = async {
        let failed = |error: std::io::Error| ProbeError::Node(error.to_string());
        let (host, port) = host_and_port(endpoint);
        let name = ServerName::try_from(host.clone());
        let name = name.map_err(|_| ProbeError::Node("it is neither a host's name nor an address".into()))?;
        let stream = TcpStream::connect((host.as_str(), port)).await.map_err(failed)?;
        // done once the node's certificate is verified; that it wants one of ours comes after
        TlsConnector::from(Arc::new(config)).connect(name, stream).await.map_err(failed)
    };
    tokio::time::timeout(DEADLINE, connecting).await.unwrap_or(Err(ProbeError::Late))?;
    let named = heard.0.lock().unwrap_or_else(PoisonError::into_inner).take().unwrap_or_default();
    if named.is_empty() {
        return Err(ProbeError::Silent);
    }
    Ok(named.iter().any(|name| name == ca.subject_der()))
}
