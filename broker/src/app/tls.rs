//! The broker's own TLS certificate, and whose certificates it asks for.

use std::path::Path;
use std::sync::Arc;

use rustls::crypto::{CryptoProvider, aws_lc_rs};
use rustls::server::danger::ClientCertVerifier;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use rustls::{RootCertStore, ServerConfig};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};

/// A server configuration of this chain and key: TLS 1.3 only, since both ends are ours or a browser. With `clients`, certificates
/// of the CAs in that file are asked for, and nobody must show one.
///
/// # Errors
/// In one sentence, when a file cannot be read or chain and key do not belong together.
pub(super) fn server_config(chain: &Path, key: &Path, clients: Option<&Path>) -> Result<Arc<ServerConfig>, String> {
    let certificates = certificates(chain)?;
    let private = PrivateKeyDer::from_pem_file(key).map_err(|error| unreadable(key, &error))?;
    let provider = Arc::new(aws_lc_rs::default_provider());
    let builder = ServerConfig::builder_with_provider(Arc::clone(&provider))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .map_err(|error| unreadable(chain, &error))?;
    let builder = match clients {
        None => builder.with_no_client_auth(),
        Some(path) => builder.with_client_cert_verifier(asking_for(path, provider)?),
    };
    let mut config = builder.with_single_cert(certificates, private).map_err(|error| unreadable(chain, &error))?;
    if clients.is_some() {
        // a connection that is taken up again would bring its certificate along unverified, also after it expired
        config.session_storage = Arc::new(NoServerSessionStorage {});
        config.send_tls13_tickets = 0;
    }
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}

fn asking_for(path: &Path, provider: Arc<CryptoProvider>) -> Result<Arc<dyn ClientCertVerifier>, String> {
    let mut roots = RootCertStore::empty();
    for certificate in certificates(path)? {
        roots.add(certificate).map_err(|error| unreadable(path, &error))?;
    }
    WebPkiClientVerifier::builder_with_provider(Arc::new(roots), provider)
        .allow_unauthenticated()
        .build()
        .map_err(|error| unreadable(path, &error))
}

/// The certificates in a file, at least one.
fn certificates(path: &Path) -> Result<Vec<CertificateDer<'static>>, String> {
    let certificates: Vec<_> =
        CertificateDer::pem_file_iter(path).and_then(Iterator::collect).map_err(|error| unreadable(path, &error))?;
    match certificates.is_empty() {
        true => Err(format!("`{}` has no certificate", path.display())),
        false => Ok(certificates),
    }
}

fn unreadable(path: &Path, error: &dyn std::fmt::Display) -> String {
    format!("`{}`: {error}", path.display())
}
