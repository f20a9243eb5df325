//! The broker's own TLS certificate.

use std::path::Path;
use std::sync::Arc;

use rustls::ServerConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use zeroize::Zeroizing;

use crate::regular::{self, Links};

/// The largest file read, in bytes.
const MOST: u64 = 1 << 20;

/// A server configuration of this chain and key: TLS 1.3 only, since both ends are ours or a browser.
///
/// # Errors
/// In one sentence, when a file cannot be read or chain and key do not belong together.
pub(super) fn server_config(chain: &Path, key: &Path) -> Result<Arc<ServerConfig>, String> {
    let unreadable = |path: &Path, error: &dyn std::fmt::Display| format!("`{}`: {error}", path.display());
    let read = |path: &Path| {
        regular::read(path, MOST, Links::Followed).map(Zeroizing::new).map_err(|error| unreadable(path, &error))
    };
    let certificates: Result<Vec<_>, _> = CertificateDer::pem_slice_iter(&read(chain)?).collect();
    let certificates = certificates.map_err(|error| unreadable(chain, &error))?;
    if certificates.is_empty() {
        return Err(format!("`{}` has no certificate", chain.display()));
    }
    let private = PrivateKeyDer::from_pem_slice(&read(key)?).map_err(|error| unreadable(key, &error))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
        .with_protocol_versions(&[&rustls::version::TLS13])
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(certificates, private))
        .map_err(|error| unreadable(chain, &error))?;
    config.alpn_protocols = vec![b"h2".to_vec(), b"http/1.1".to_vec()];
    Ok(Arc::new(config))
}
