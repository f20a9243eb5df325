//! A connection to a mail server, which can make the broker read so much and no more.

use std::io;
use std::net::SocketAddr;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::Duration;

use lettre::transport::smtp::Error;
use lettre::transport::smtp::authentication::{Credentials, DEFAULT_MECHANISMS};
use lettre::transport::smtp::client::{
    AsyncSmtpConnection, AsyncTokioStream, Certificate, CertificateStore, TlsParameters,
};
use lettre::transport::smtp::extension::ClientId;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject;
use rustls_pki_types::{CertificateDer, ServerName};
use rustls_platform_verifier::BuilderVerifierExt;
use secrecy::ExposeSecret;
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use super::sink::Failure;
use super::{MailSecurity, MailSink};
use crate::forward::http::innermost;

/// The most that a server may say in one connection, in bytes, its certificates included: lettre reads a line to its end
/// before it looks how long that is.
const LARGEST: u64 = 128 * 1024;

/// So long each of the server's addresses has to answer: one that nobody answers at must leave time for the next.
const CONNECTING: Duration = Duration::from_secs(4);

/// How the connection is secured, ready.
pub(super) enum Secured {
    Tls(TlsConnector, ServerName<'static>),
    StartTls(TlsParameters),
    No,
}

/// A connection of which no more than [`LARGEST`] bytes are read.
#[derive(Debug)]
struct Bounded {
    stream: TcpStream,
    left: u64,
}

/// TLS over that.
#[derive(Debug)]
struct Wrapped(TlsStream<Bounded>);

// === impl Secured ===

impl Secured {
    pub(super) fn new(to: &MailSink) -> Result<Self, String> {
        if to.security != MailSecurity::None && rustls::crypto::CryptoProvider::get_default().is_none() {
            return Err("no TLS provider is installed in this process".into());
        }
        match to.security {
            MailSecurity::Tls => {
                let name = ServerName::try_from(to.host.clone()).map_err(|error| error.to_string())?;
                Ok(Self::Tls(TlsConnector::from(Arc::new(config(to)?)), name))
            }
            MailSecurity::StartTls => Ok(Self::StartTls(parameters(to)?)),
            MailSecurity::None => Ok(Self::No),
        }
    }

    /// Returns once the server has greeted, the connection is secured as configured, and the server has let us in. What it says for
    /// good before that is [`Failure::Shut`]: it was not asked about a message yet.
    pub(super) async fn open(&self, to: &MailSink) -> Result<AsyncSmtpConnection, Failure> {
        let unreachable = |error: io::Error| Failure::out(format!("the mail server cannot be reached: {error}"));
        let addresses = tokio::net::lookup_host((to.host.as_str(), to.port)).await.map_err(unreachable)?;
        let stream = first_of(addresses, TcpStream::connect).await.map_err(unreachable)?;
        let stream = Bounded { stream, left: LARGEST };
        let stream: Box<dyn AsyncTokioStream> = match self {
            Self::Tls(connector, name) => {
                Box::new(Wrapped(connector.connect(name.clone(), stream).await.map_err(unreachable)?))
            }
            Self::StartTls(_) | Self::No => Box::new(stream),
        };
        let hello = ClientId::Domain(to.hello.clone());
        let mut open = AsyncSmtpConnection::connect_with_transport(stream, &hello).await.map_err(|e| shut(&e))?;
        if let Self::StartTls(parameters) = self {
            open.starttls(parameters.clone(), &hello).await.map_err(|error| shut(&error))?;
        }
        if let Some((user, password)) = &to.login {
            let login = Credentials::new(user.clone(), password.expose_secret().to_owned());
            open.auth(DEFAULT_MECHANISMS, &login).await.map_err(|error| shut(&error))?;
        }
        Ok(open)
    }
}

/// The first connection that comes about, of one address after another.
async fn first_of<T, F: Future<Output = io::Result<T>>>(
    addresses: impl IntoIterator<Item = SocketAddr>,
    connect: impl Fn(SocketAddr) -> F,
) -> io::Result<T> {
    let mut failed = io::Error::other("its name has no address");
    for address in addresses {
        match tokio::time::timeout(CONNECTING, connect(address)).await {
            Ok(Ok(connected)) => return Ok(connected),
            Ok(Err(error)) => failed = error,
            Err(_) => failed = io::Error::other("it did not answer in time"),
        }
    }
    Err(failed)
}

/// As [`failure`], of a server that was not asked about a message yet.
fn shut(error: &Error) -> Failure {
    match failure(error) {
        Failure::Refused(why) => Failure::Shut(why),
        other => other,
    }
}

/// A 5xx is for good; everything else may pass.
pub(super) fn failure(error: &Error) -> Failure {
    let said = match error.status() {
        Some(code) => format!("the mail server answers {code}"),
        None => format!("the mail server cannot be used: {}", innermost(error)),
    };
    if error.is_permanent() { Failure::Refused(said) } else { Failure::out(said) }
}

fn config(to: &MailSink) -> Result<ClientConfig, String> {
    let builder = ClientConfig::builder();
    let builder = match &to.ca {
        Some(pem) => {
            let mut roots = RootCertStore::empty();
            for certificate in CertificateDer::pem_slice_iter(pem) {
                let added = certificate.map_err(|_| NOT_PEM.to_owned()).map(|certificate| roots.add(certificate))?;
                added.map_err(|error| error.to_string())?;
            }
            if roots.is_empty() {
                return Err(NOT_PEM.into());
            }
            builder.with_root_certificates(roots)
        }
        None => builder.with_platform_verifier().map_err(|error| error.to_string())?,
    };
    Ok(builder.with_no_client_auth())
}

const NOT_PEM: &str = "its CA file is not a list of PEM certificates";

fn parameters(to: &MailSink) -> Result<TlsParameters, String> {
    let mut builder = TlsParameters::builder(to.host.clone());
    if let Some(pem) = &to.ca {
        let ca = Certificate::from_pem(pem).map_err(|_| NOT_PEM.to_owned())?;
        builder = builder.certificate_store(CertificateStore::None).add_root_certificate(ca);
    }
    builder.build_rustls().map_err(|error| innermost(&error))
}

// === impl Bounded ===

impl AsyncRead for Bounded {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        if self.left == 0 {
            return Poll::Ready(Err(io::Error::other("it says more than 128 KiB")));
        }
        let before = into.filled().len();
        let read = Pin::new(&mut self.stream).poll_read(cx, into);
        let came = u64::try_from(into.filled().len() - before).unwrap_or(u64::MAX);
        self.left = self.left.saturating_sub(came);
        read
    }
}

impl AsyncWrite for Bounded {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.stream).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.stream).poll_shutdown(cx)
    }
}

impl AsyncTokioStream for Bounded {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.stream.peer_addr()
    }
}

// === impl Wrapped ===

impl AsyncRead for Wrapped {
    fn poll_read(mut self: Pin<&mut Self>, cx: &mut Context<'_>, into: &mut ReadBuf<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_read(cx, into)
    }
}

impl AsyncWrite for Wrapped {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, bytes: &[u8]) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.0).poll_write(cx, bytes)
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_flush(cx)
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.0).poll_shutdown(cx)
    }
}

impl AsyncTokioStream for Wrapped {
    fn peer_addr(&self) -> io::Result<SocketAddr> {
        self.0.get_ref().0.peer_addr()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn an_address_that_nobody_answers_at_leaves_time_for_the_next() {
        let addresses = ["192.0.2.1:25", "192.0.2.2:25", "192.0.2.3:25"].map(|address| address.parse().unwrap());
        let connect = |address: SocketAddr| async move {
            match address {
                one if one == addresses[0] => std::future::pending().await,
                one if one == addresses[1] => Err(io::ErrorKind::ConnectionRefused.into()),
                one => Ok(one),
            }
        };
        let reached = tokio::time::timeout(super::super::mail::DEADLINE, first_of(addresses, connect)).await;
        assert_eq!(reached.expect("within a mail's deadline").unwrap(), addresses[2]);
        let refused = first_of([], connect).await.unwrap_err();
        assert!(refused.to_string().contains("no address"), "{refused}");
    }
}
