//! The server's TLS: a certificate of its own, and client certificates where they are asked for.

use std::net::IpAddr;
use std::sync::Arc;

use rustls::server::WebPkiClientVerifier;
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

use crate::authority::{Authority, Leaf};

pub(super) struct Tls {
    authority: Authority,
    pub(super) config: Arc<ServerConfig>,
}

// === impl Tls ===

impl Tls {
    /// Client certificates from `client_ca` are verified, none is required.
    pub(super) fn new(address: IpAddr, client_ca: Option<&str>) -> anyhow::Result<Self> {
        let authority = Authority::new("stand-in")?;
        let server = authority.issue(&Leaf::server(vec![address], vec!["localhost".into()]))?;
        let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
        let builder =
            ServerConfig::builder_with_provider(Arc::clone(&provider)).with_protocol_versions(rustls::ALL_VERSIONS)?;
        let builder = match client_ca {
            None => builder.with_no_client_auth(),
            Some(pem) => {
                let mut roots = RootCertStore::empty();
                for certificate in CertificateDer::pem_slice_iter(pem.as_bytes()) {
                    roots.add(certificate?)?;
                }
                let verifier = WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider);
                builder.with_client_cert_verifier(verifier.allow_unauthenticated().build()?)
            }
        };
        let certificate = CertificateDer::from_pem_slice(server.certificate.as_bytes())?;
        let key = PrivateKeyDer::from_pem_slice(server.key.as_bytes())?;
        let mut config = builder.with_single_cert(vec![certificate], key)?;
        config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
        Ok(Self { authority, config: Arc::new(config) })
    }

    pub(super) fn ca(&self) -> String {
        self.authority.certificate()
    }
}
