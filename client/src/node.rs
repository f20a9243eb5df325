//! One call to a Talos node, to see whether it takes our certificate.
//!
//! The message definitions are our own, with the field numbers of the public Talos API (machine.proto, common.proto).

use std::fmt;
use std::io::{ErrorKind, Read};
use std::sync::Arc;
use std::time::Duration;

use http::{Method, Request, StatusCode};
use http_body_util::{BodyExt, Full, Limited};
use hyper_util::rt::{TokioExecutor, TokioIo};
use ichor_wire::talosconfig::host_and_port;
use prost::Message;
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use rustls::{AlertDescription, CertificateError, ClientConfig, RootCertStore};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;

use crate::certificate::Held;
use crate::error::Error;

/// How long a node may take to answer.
const PATIENCE: Duration = Duration::from_secs(5);

/// What a node said.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It took the certificate.
    Accepted {
        /// Its Talos version, as `v1.13.9`.
        version: String,
        /// Whether it checks roles at all.
        rbac: bool,
    },
    /// It does not trust the certificate's CA.
    UntrustedCa,
    /// It holds the certificate for expired or not yet valid, which it is not by our clock.
    ClockOff,
    /// It took the certificate and refused the call.
    Refused(String),
    /// What answers does not show a certificate of the cluster's CA.
    NotTheCluster(String),
    /// No connection, or no answer.
    Unreachable(String),
}

/// A certificate and the trust in one cluster, ready to call its nodes.
pub struct NodeClient {
    tls: TlsConnector,
}

// === impl NodeClient ===

impl NodeClient {
    /// Calls with this certificate, and believes nodes that show one of the cluster's CA.
    ///
    /// # Errors
    /// When the certificate or its key cannot be used.
    pub fn new(held: &Held) -> Result<Self, Error> {
        let unusable = |what: &str| {
            Error::failed(
                format!("the certificate for {} cannot be used: {what}", held.answer.cluster),
                "run `ichor talosconfig` for it again",
            )
        };
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(held.answer.ca.as_bytes()).filter_map(Result::ok) {
            let _ = roots.add(certificate);
        }
        let chain: Vec<_> =
            CertificateDer::pem_slice_iter(held.answer.certificate.as_bytes()).filter_map(Result::ok).collect();
        let pem = x509_parser::pem::Pem::iter_from_buffer(held.key.as_bytes()).find_map(Result::ok);
        let pkcs8 = pem.ok_or_else(|| unusable("its key is not PEM"))?.contents;
        let key = PrivateKeyDer::Pkcs8(PrivatePkcs8KeyDer::from(pkcs8));
        let builder = ClientConfig::builder_with_provider(Arc::new(rustls::crypto::aws_lc_rs::default_provider()));
        let builder = builder.with_safe_default_protocol_versions().map_err(|error| unusable(&error.to_string()))?;
        let config = builder.with_root_certificates(roots).with_client_auth_cert(chain, key);
        let mut config = config.map_err(|error| unusable(&error.to_string()))?;
        config.alpn_protocols = vec![b"h2".to_vec()];
        Ok(Self { tls: TlsConnector::from(Arc::new(config)) })
    }

    /// Asks for `Version` at an endpoint; with `node`, of that node through the endpoint.
    pub async fn version(&self, endpoint: &str, node: Option<&str>) -> Verdict {
        let (host, port) = host_and_port(endpoint);
        match tokio::time::timeout(PATIENCE, self.call(&host, port, node)).await {
            Ok(Ok(verdict)) => verdict,
            Ok(Err(failure)) => judge(&*failure),
            Err(_) => Verdict::Unreachable("no answer in 5 s".into()),
        }
    }

    async fn call(
        &self,
        host: &str,
        port: u16,
        node: Option<&str>,
    ) -> Result<Verdict, Box<dyn std::error::Error + Send + Sync>> {
        let stream = TcpStream::connect((host, port)).await?;
        let name = ServerName::try_from(host.to_owned())?;
        let mut stream = self.tls.connect(name, stream).await?;
        hear(&mut stream).await?;
        let (mut sender, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        let driver = tokio::spawn(connection);
        let authority = if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") };
        let mut request = Request::builder()
            .method(Method::POST)
            .uri(format!("https://{authority}/machine.MachineService/Version"))
            .header("content-type", "application/grpc")
            .header("te", "trailers");
        if let Some(node) = node {
            request = request.header("node", node);
        }
        // One uncompressed message of no bytes.
        let sent = sender.send_request(request.body(Full::new(bytes_of(&[0; 5])))?).await;
        let response = match sent {
            Ok(response) => response,
            // What ended the connection says more than that it ended.
            Err(error) => return Err(driver.await.ok().and_then(Result::err).unwrap_or(error).into()),
        };
        if response.status() != StatusCode::OK {
            return Ok(Verdict::Refused(format!("it answers {}", response.status())));
        }
        let (head, body) = response.into_parts();
        let body = Limited::new(body, 1 << 20).collect().await?;
        let trailers = body.trailers().cloned().unwrap_or_default();
        let field =
            |name: &str| head.headers.get(name).or_else(|| trailers.get(name)).and_then(|value| value.to_str().ok());
        if let Some(code) = field("grpc-status").filter(|code| *code != "0") {
            let message = field("grpc-message").unwrap_or_default();
            return Ok(if code == "14" {
                Verdict::Unreachable(message.into())
            } else {
                Verdict::Refused(format!("gRPC code {code}: {message}"))
            });
        }
        let body = body.to_bytes();
        let answer = VersionResponse::decode(body.get(5..).unwrap_or_default())?;
        let Some(message) = answer.messages.into_iter().next() else {
            return Ok(Verdict::Refused("it answers nothing".into()));
        };
        let error = message.metadata.map(|metadata| metadata.error).unwrap_or_default();
        if !error.is_empty() {
            return Ok(Verdict::Unreachable(error));
        }
        let version = message.version.map(|version| version.tag).unwrap_or_default();
        Ok(Verdict::Accepted { version, rbac: message.features.is_some_and(|features| features.rbac) })
    }
}

impl fmt::Debug for NodeClient {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("NodeClient")
    }
}

#[derive(Clone, PartialEq, Message)]
struct VersionResponse {
    #[prost(message, repeated, tag = "1")]
    messages: Vec<VersionMessage>,
}

#[derive(Clone, PartialEq, Message)]
struct VersionMessage {
    #[prost(message, optional, tag = "1")]
    metadata: Option<MetadataMessage>,
    #[prost(message, optional, tag = "2")]
    version: Option<VersionInfo>,
    #[prost(message, optional, tag = "4")]
    features: Option<FeaturesInfo>,
}

#[derive(Clone, PartialEq, Message)]
struct MetadataMessage {
    #[prost(string, tag = "1")]
    hostname: String,
    #[prost(string, tag = "2")]
    error: String,
}

#[derive(Clone, PartialEq, Message)]
struct VersionInfo {
    #[prost(string, tag = "1")]
    tag: String,
}

#[derive(Clone, PartialEq, Message)]
struct FeaturesInfo {
    #[prost(bool, tag = "1")]
    rbac: bool,
}

/// Waits for the node's first word after the handshake, a second at most. In TLS 1.3 the client is done before the node
/// has judged its certificate; a client that speaks first may find the connection closed and never read the alert that
/// says why. What is read stays in the connection for whoever reads next.
async fn hear(stream: &mut TlsStream<TcpStream>) -> Result<(), Box<dyn std::error::Error + Send + Sync>> {
    struct Ready<'a>(&'a TcpStream);

    impl Read for Ready<'_> {
        fn read(&mut self, buffer: &mut [u8]) -> std::io::Result<usize> {
            self.0.try_read(buffer)
        }
    }

    let (socket, tls) = stream.get_mut();
    let first_word = async {
        loop {
            socket.readable().await?;
            match tls.read_tls(&mut Ready(socket)) {
                Ok(0) => return Err(std::io::Error::from(ErrorKind::UnexpectedEof).into()),
                Ok(_) if tls.process_new_packets()?.plaintext_bytes_to_read() > 0 => return Ok(()),
                Ok(_) => {}
                Err(error) if error.kind() == ErrorKind::WouldBlock => {}
                Err(error) => return Err(error.into()),
            }
        }
    };
    tokio::time::timeout(Duration::from_secs(1), first_word).await.unwrap_or(Ok(()))
}

fn bytes_of(bytes: &'static [u8]) -> hyper::body::Bytes {
    hyper::body::Bytes::from_static(bytes)
}

/// Finds what TLS said in the chain of causes.
fn judge(failure: &(dyn std::error::Error + Send + Sync + 'static)) -> Verdict {
    let mut cause: Option<&(dyn std::error::Error + 'static)> = Some(failure);
    let mut last = failure.to_string();
    while let Some(error) = cause {
        last = error.to_string();
        let io = error.downcast_ref::<std::io::Error>();
        let inner = io.and_then(|io| io.get_ref()).map(|inner| inner as &(dyn std::error::Error + 'static));
        let tls = error.downcast_ref::<rustls::Error>().or_else(|| inner?.downcast_ref());
        match tls {
            Some(rustls::Error::AlertReceived(alert)) => return of_alert(*alert),
            Some(rustls::Error::InvalidCertificate(reason)) => return of_server(reason),
            _ => {}
        }
        if io.is_some_and(|io| {
            matches!(io.kind(), ErrorKind::BrokenPipe | ErrorKind::ConnectionReset | ErrorKind::UnexpectedEof)
        }) {
            return Verdict::Unreachable(
                "it closed the connection; perhaps it does not trust the certificate's CA, or its clock is off".into(),
            );
        }
        cause = error.source();
    }
    Verdict::Unreachable(last)
}

/// What Go's TLS server means by its alerts: `unknown_ca` for an untrusted CA, `certificate_expired` for a certificate that
/// is expired *or* not yet valid.
fn of_alert(alert: AlertDescription) -> Verdict {
    match alert {
        AlertDescription::UnknownCA
        | AlertDescription::CertificateRequired
        | AlertDescription::BadCertificate
        | AlertDescription::CertificateUnknown => Verdict::UntrustedCa,
        AlertDescription::CertificateExpired => Verdict::ClockOff,
        other => Verdict::Refused(format!("TLS alert {other:?}")),
    }
}

fn of_server(reason: &CertificateError) -> Verdict {
    match reason {
        CertificateError::Expired
        | CertificateError::ExpiredContext { .. }
        | CertificateError::NotValidYet
        | CertificateError::NotValidYetContext { .. } => Verdict::ClockOff,
        CertificateError::NotValidForName | CertificateError::NotValidForNameContext { .. } => {
            Verdict::NotTheCluster("its certificate is for another address".into())
        }
        _ => Verdict::NotTheCluster("its certificate is not of the cluster's CA".into()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn alerts_read_as_go_means_them() {
        let judged = |error: rustls::Error| judge(&std::io::Error::new(ErrorKind::InvalidData, error));
        assert_eq!(judged(rustls::Error::AlertReceived(AlertDescription::UnknownCA)), Verdict::UntrustedCa);
        assert_eq!(judged(rustls::Error::AlertReceived(AlertDescription::CertificateExpired)), Verdict::ClockOff);
        assert!(matches!(
            judged(rustls::Error::InvalidCertificate(CertificateError::UnknownIssuer)),
            Verdict::NotTheCluster(_)
        ));
        assert!(matches!(judge(&std::io::Error::from(ErrorKind::ConnectionRefused)), Verdict::Unreachable(_)));
    }
}
