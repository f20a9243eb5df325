//! TLS to the server, by rustls. The server is always verified, name and all: encrypting to whoever answers is no protection.

use std::io;
use std::path::PathBuf;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::ClientConfig;
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, ServerName};
use rustls_platform_verifier::BuilderVerifierExt;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::Socket;
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};

use super::AddressError;

/// What TLS to the server goes by; all PEM files.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct TlsFiles {
    /// The CA that signed the server's certificate: this one and no other. `None`: the system's roots.
    pub ca: Option<PathBuf>,
    /// The client certificate's chain and its key, for servers that ask for one.
    pub client: Option<(PathBuf, PathBuf)>,
}

/// Makes TLS connections.
#[derive(Clone)]
pub(super) struct Connector(Arc<ClientConfig>);

/// Makes one, to this name; over a Unix socket there is none, and nothing is made.
pub(super) struct Connect(Arc<ClientConfig>, Option<ServerName<'static>>);

/// A TLS connection.
pub(super) struct Stream(tokio_rustls::client::TlsStream<Socket>);

// === impl TlsFiles ===

impl TlsFiles {
    /// Reads the files.
    pub(super) fn connector(&self) -> Result<Connector, AddressError> {
        let failed = |what: &dyn std::fmt::Display| AddressError::Tls(what.to_string());
        let file = |path: &PathBuf| {
            let read: Result<Vec<_>, _> = CertificateDer::pem_file_iter(path).and_then(Iterator::collect);
            match read {
                Ok(found) if found.is_empty() => Err(failed(&format!("`{}` has no certificate", path.display()))),
                Ok(found) => Ok(found),
                Err(error) => Err(failed(&format!("`{}`: {error}", path.display()))),
            }
        };
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()))
            .with_safe_default_protocol_versions()
            .map_err(|error| failed(&error))?;
        let builder = match &self.ca {
            Some(path) => {
                let mut roots = rustls::RootCertStore::empty();
                for certificate in file(path)? {
                    roots.add(certificate).map_err(|error| failed(&format!("`{}`: {error}", path.display())))?;
                }
                builder.with_root_certificates(roots)
            }
            None => builder.with_platform_verifier().map_err(|error| failed(&error))?,
        };
        let config = match &self.client {
            Some((chain, key)) => {
                let private = PrivateKeyDer::from_pem_file(key)
                    .map_err(|error| failed(&format!("`{}`: {error}", key.display())))?;
                builder.with_client_auth_cert(file(chain)?, private).map_err(|error| failed(&error))?
            }
            None => builder.with_no_client_auth(),
        };
        Ok(Connector(Arc::new(config)))
    }
}

impl MakeTlsConnect<Socket> for Connector {
    type Stream = Stream;
    type TlsConnect = Connect;
    type Error = io::Error;

    fn make_tls_connect(&mut self, name: &str) -> io::Result<Connect> {
        Ok(Connect(Arc::clone(&self.0), ServerName::try_from(name.to_owned()).ok()))
    }
}

impl TlsConnect<Socket> for Connect {
    type Stream = Stream;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Stream>> + Send>>;

    fn connect(self, socket: Socket) -> Self::Future {
        let Self(config, name) = self;
        Box::pin(async move {
            let name = name.ok_or_else(|| io::Error::other("the host's name is none that a certificate can have"))?;
            tokio_rustls::TlsConnector::from(config).connect(name, socket).await.map(Stream)
        })
    }
}

impl TlsStream for Stream {
    /// None: the server is verified by its certificate, which is what binding to the channel stands in for.
    fn channel_binding(&self) -> ChannelBinding {
        ChannelBinding::none()
    }
}

impl AsyncRead for Stream {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl AsyncWrite for Stream {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, from: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, from)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}
