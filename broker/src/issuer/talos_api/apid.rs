//! One call to a node: mutual TLS, one unary gRPC call over HTTP/2, bounded in time and size.

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use http::{HeaderMap, Method, Request, StatusCode};
use http_body_util::{BodyExt, Full};
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo};
use ichor_wire::talosconfig::host_and_port;
use rustls::client::WantsClientCert;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName, UnixTime};
use rustls::sign::{CertifiedKey, SingleCertAndKey};
use rustls::time_provider::TimeProvider;
use rustls::{AlertDescription, CertificateError, ClientConfig, ConfigBuilder, RootCertStore};
use tokio::io::AsyncBufReadExt;
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::clock::SharedClock;
use crate::custody::{LockedBytes, StandingCredential};

/// How long one endpoint may take, from connecting to the last byte.
pub(super) const DEADLINE: Duration = Duration::from_secs(5);

/// How long a node's first word after the handshake is waited for.
const FIRST_WORD: Duration = Duration::from_secs(1);

/// The largest answer, in bytes. A real one has some four thousand.
const LARGEST_ANSWER: usize = 32 * 1024;

/// The longest text of a node's that is passed on, in characters.
const LONGEST_TEXT: usize = 200;

/// A credential and the trust in one cluster, ready to call its nodes.
pub(super) struct Apid {
    tls: TlsConnector,
}

/// Why an endpoint gave nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum EndpointError {
    /// No connection.
    #[error("it cannot be reached: {0}")]
    Unreachable(String),
    /// No answer in time.
    #[error("it did not answer within 5 s")]
    Late,
    /// It shows a certificate of another CA.
    #[error(
        "it shows a certificate of another cluster's CA; correct the cluster's endpoints, or its `ca` after `talosctl rotate-ca`"
    )]
    AnotherCluster,
    /// Its certificate is for another address.
    #[error("its certificate is for another address; name the endpoint as `talosctl` does")]
    AnotherAddress,
    /// Its certificate, by our clock, is not valid now.
    #[error("its certificate is expired or not yet valid by this host's clock")]
    Clock,
    /// It does not know the credential's CA.
    #[error(
        "it does not trust the credential's CA: after `talosctl rotate-ca` adopt a new credential; a CA in custody must be in \
         `machine.acceptedCAs`, see `ichor-broker ca patch`"
    )]
    Untrusted,
    /// It holds the credential for expired or not yet valid.
    #[error("it says that the credential is expired or not yet valid; adopt a new one, or correct the node's clock")]
    Expired,
    /// The credential is not os:admin there.
    #[error("it refuses the credential ({0}); only `os:admin` may make certificates")]
    Denied(String),
    /// A worker, or a Talos that has no such method.
    #[error("it makes no certificates ({0}); name control plane nodes only")]
    NotControlPlane(String),
    /// Any other gRPC status.
    #[error("it answers with gRPC code {0}: {1}")]
    Status(u32, String),
    /// The answer is larger than any real one.
    #[error("it answers with more than 32 KiB")]
    TooLarge,
    /// The answer is none.
    #[error("it answers something that is not the Talos API ({0})")]
    Garbage(&'static str),
}

/// The credential, or the trusted CA, cannot be used for TLS at all.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("the credential cannot be used for TLS: {0}")]
pub struct UnusableError(String);

/// The broker's clock, as TLS asks for it.
struct Time(SharedClock);

// === impl Apid ===

impl Apid {
    /// Calls with this credential, and believes nodes that show a certificate of `ca`, a PEM bundle. The key is taken into the
    /// crypto library and nowhere else.
    ///
    /// # Errors
    /// When the bundle has no certificate, or the credential does not serve.
    pub(super) fn new(credential: &StandingCredential, ca: &str, clock: SharedClock) -> Result<Self, UnusableError> {
        let unusable = |error: &dyn fmt::Display| UnusableError(error.to_string());
        let believing = believing(ca, clock)?;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(credential.key().as_slice()));
        let key = rustls::crypto::aws_lc_rs::sign::any_supported_type(&key).map_err(|error| unusable(&error))?;
        let chain = vec![CertificateDer::from(credential.certificate().to_vec())];
        let shown = Arc::new(SingleCertAndKey::from(CertifiedKey::new(chain, key)));
        let mut config = believing.with_client_cert_resolver(shown);
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { tls: TlsConnector::from(Arc::new(config)) })
    }

    /// The message that the endpoint answers to this call of `machine.MachineService`, within `deadline`; `mark` is one more metadata
    /// key and its value. It may hold a
    /// private key, so it is read into memory that is wiped; what the libraries below buffer is theirs.
    ///
    /// # Errors
    /// Each reason by its name.
    pub(super) async fn call(
        &self,
        endpoint: &str,
        method: &str,
        message: Vec<u8>,
        mark: Option<(&str, &str)>,
        deadline: Duration,
    ) -> Result<LockedBytes, EndpointError> {
        let called = tokio::time::timeout(deadline, self.exchange(endpoint, method, message, mark)).await;
        called.unwrap_or(Err(EndpointError::Late))
    }

    async fn exchange(
        &self,
        endpoint: &str,
        method: &str,
        message: Vec<u8>,
        mark: Option<(&str, &str)>,
    ) -> Result<LockedBytes, EndpointError> {
        let (host, port) = host_and_port(endpoint);
        let mut stream = connect(&self.tls, &host, port).await?;
        // In TLS 1.3 the client is done before the node has judged its certificate. Who speaks first may find the connection
        // closed and never read the alert that says why, so the node's first word is waited for; it stays in the buffer.
        if let Ok(word) = tokio::time::timeout(FIRST_WORD, stream.fill_buf()).await {
            let word = word.map_err(|error| of_tls(&error))?;
            if word.is_empty() {
                return Err(EndpointError::Unreachable("it closed the connection".into()));
            }
        }
        let handshake = hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await;
        let (mut sender, connection) = handshake.map_err(|error| of_tls(&error))?;
        // it ends with this call, also where nobody waits for it any more
        let mut driver = tokio::task::JoinSet::new();
        driver.spawn(connection);
        let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("https://{authority}/machine.MachineService/{method}"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some((key, value)) = mark {
            request = request.header(key, value);
        }
        let request = request
            .body(Full::new(framed(&message)))
            .map_err(|_| EndpointError::Unreachable("its name does not fit into a request".into()))?;
        let answer = async {
            let response = sender.send_request(request).await.map_err(|error| of_tls(&error))?;
            let (head, body) = response.into_parts();
            if head.status != StatusCode::OK {
                return Err(EndpointError::Garbage("another HTTP status than 200"));
            }
            status(&head.headers).unwrap_or(Ok(()))?;
            read(body).await
        };
        answer.await
    }
}

impl fmt::Debug for Apid {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Apid")
    }
}

// === impl Time ===

impl TimeProvider for Time {
    fn current_time(&self) -> Option<UnixTime> {
        let seconds = u64::try_from(self.0.now().as_second()).ok()?;
        Some(UnixTime::since_unix_epoch(Duration::from_secs(seconds)))
    }
}

impl fmt::Debug for Time {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Time")
    }
}

/// Believes nodes that show a certificate of `ca`, a PEM bundle, valid by this clock.
///
/// # Errors
/// When the bundle has no certificate, or one that cannot be used.
pub(super) fn believing(
    ca: &str,
    clock: SharedClock,
) -> Result<ConfigBuilder<ClientConfig, WantsClientCert>, UnusableError> {
    let unusable = |error: &dyn fmt::Display| UnusableError(error.to_string());
    let mut roots = RootCertStore::empty();
    for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
        let certificate = certificate.map_err(|error| unusable(&error))?;
        roots.add(certificate).map_err(|error| unusable(&error))?;
    }
    if roots.is_empty() {
        return Err(unusable(&"the cluster's `ca` has no certificate"));
    }
    let provider = Arc::new(rustls::crypto::aws_lc_rs::default_provider());
    let builder = ClientConfig::builder_with_details(provider, Arc::new(Time(clock)));
    let builder = builder.with_safe_default_protocol_versions().map_err(|error| unusable(&error))?;
    Ok(builder.with_root_certificates(roots))
}

/// A connection to a node that showed what this believes.
///
/// # Errors
/// When it did not, or cannot be reached.
pub(super) async fn connect(tls: &TlsConnector, host: &str, port: u16) -> Result<TlsStream<TcpStream>, EndpointError> {
    let unreachable = |error: std::io::Error| EndpointError::Unreachable(said(&error.to_string()));
    let name = ServerName::try_from(host.to_owned());
    let name = name.map_err(|_| EndpointError::Unreachable("it is neither a host's name nor an address".into()))?;
    let stream = TcpStream::connect((host, port)).await.map_err(unreachable)?;
    tls.connect(name, stream).await.map_err(|error| of_tls(&error))
}

/// One uncompressed gRPC message.
fn framed(message: &[u8]) -> Bytes {
    let len = u32::try_from(message.len()).unwrap_or(u32::MAX).to_be_bytes();
    [&[0], len.as_slice(), message].concat().into()
}

/// The one message of an answer, and the status behind it.
async fn read(mut body: Incoming) -> Result<LockedBytes, EndpointError> {
    let mut whole = LockedBytes::zeroed(LARGEST_ANSWER);
    let mut filled = 0;
    let mut ended = None;
    while let Some(frame) = body.frame().await {
        let frame = frame.map_err(|error| of_tls(&error))?;
        match frame.into_data() {
            Ok(data) => {
                let free = whole.as_mut_slice().get_mut(filled..filled + data.len());
                free.ok_or(EndpointError::TooLarge)?.copy_from_slice(&data);
                filled += data.len();
            }
            Err(frame) => ended = frame.into_trailers().ok().as_ref().and_then(status),
        }
    }
    ended.ok_or(EndpointError::Garbage("an answer without an end"))??;
    let prefix = whole.as_slice().get(..5).filter(|_| filled >= 5).ok_or(EndpointError::Garbage("an empty answer"))?;
    let len = prefix.iter().skip(1).fold(0, |len: usize, byte| len << 8 | usize::from(*byte));
    if prefix.first() != Some(&0) || len != filled - 5 {
        return Err(EndpointError::Garbage("an answer that is not one message"));
    }
    let bytes = whole.as_slice().get(5..filled).unwrap_or_default();
    Ok(LockedBytes::copy_of(bytes))
}

/// What the headers or trailers say of the call's end; `None` where they say nothing of it.
fn status(headers: &HeaderMap) -> Option<Result<(), EndpointError>> {
    let code = headers.get("grpc-status")?.to_str().ok().and_then(|code| code.parse().ok());
    let message = headers.get("grpc-message").and_then(|value| value.to_str().ok()).unwrap_or_default();
    let message = said(&unescaped(message));
    Some(match code {
        Some(0) => Ok(()),
        Some(7) => Err(EndpointError::Denied(message)),
        Some(12) => Err(EndpointError::NotControlPlane(message)),
        Some(code) => Err(EndpointError::Status(code, message)),
        None => Err(EndpointError::Garbage("a status that is no number")),
    })
}

/// A node's text as it may stand in a log: short, and without control characters.
pub(super) fn said(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(LONGEST_TEXT).collect()
}

/// gRPC escapes messages as `%XX`.
fn unescaped(text: &str) -> String {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let Some((first, after)) = rest.split_first() {
        let code = after.get(..2).and_then(|hex| std::str::from_utf8(hex).ok());
        match code.and_then(|hex| u8::from_str_radix(hex, 16).ok()).filter(|_| *first == b'%') {
            Some(byte) => {
                bytes.push(byte);
                rest = after.get(2..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = after;
            }
        }
    }
    String::from_utf8_lossy(&bytes).into_owned()
}

/// Finds what TLS said in the chain of causes.
fn of_tls(failure: &(dyn std::error::Error + 'static)) -> EndpointError {
    let mut cause = Some(failure);
    let mut last = failure.to_string();
    while let Some(error) = cause {
        last = error.to_string();
        let inner = error.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        let inner = inner.and_then(|inner| inner.downcast_ref::<rustls::Error>());
        match error.downcast_ref::<rustls::Error>().or(inner) {
            Some(rustls::Error::AlertReceived(alert)) => return of_alert(*alert),
            Some(rustls::Error::InvalidCertificate(reason)) => return of_server(reason),
            _ => cause = error.source(),
        }
    }
    EndpointError::Unreachable(said(&last))
}

/// What Go's TLS server means by its alerts: `unknown_ca` for an untrusted CA, `certificate_expired` for a certificate that
/// is expired *or* not yet valid.
fn of_alert(alert: AlertDescription) -> EndpointError {
    match alert {
        AlertDescription::UnknownCA
        | AlertDescription::CertificateRequired
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown => EndpointError::Untrusted,
        AlertDescription::CertificateExpired => EndpointError::Expired,
        other => EndpointError::Unreachable(format!("TLS alert {other:?}")),
    }
}

fn of_server(reason: &CertificateError) -> EndpointError {
    match reason {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => EndpointError::Clock,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            EndpointError::AnotherAddress
        }
        _ => EndpointError::AnotherCluster,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts_of_nodes_are_short_and_plain() {
        assert_eq!(said(&unescaped("100%25 of%0Aeverything")), "100% ofeverything");
        assert_eq!(unescaped("%"), "%");
        assert_eq!(said(&"x".repeat(1000)).len(), LONGEST_TEXT);
    }
}
