//! A caller of nodes for tests: any certificate, any metadata, and what came back.

use std::net::SocketAddr;
use std::sync::Arc;

use anyhow::Context as _;
use bytes::Bytes;
use http::{HeaderMap, HeaderName, HeaderValue, Method, Request, header};
use http_body_util::{BodyExt as _, Full};
use hyper::body::Incoming;
use hyper::client::conn::http2::SendRequest;
use hyper_util::rt::{TokioExecutor, TokioIo};
use prost::Message as _;
use rustls::{ClientConfig, RootCertStore};
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer, PrivatePkcs8KeyDer, ServerName};
use tokio::net::TcpStream;
use tokio::task::AbortHandle;
use tokio_rustls::TlsConnector;

use super::grpc::{self, Code, Status};
use super::messages::{Answers, Data, DmesgRequest, Reboot, Version};

/// An open connection to a node.
pub struct NodeClient {
    requests: SendRequest<Full<Bytes>>,
    connection: AbortHandle,
}

/// What a call gave.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reply {
    /// How it ended.
    pub status: Status,
    /// The messages before that, encoded.
    pub messages: Vec<Bytes>,
}

/// A call that is still going on.
pub struct Open {
    body: Incoming,
    buffer: Vec<u8>,
}

// === impl NodeClient ===

impl NodeClient {
    /// Connects to a node whose certificate comes from `ca`, and shows `identity` (certificate and key, PEM; the key under any
    /// `PRIVATE KEY` label) if any.
    ///
    /// A node may refuse a certificate only at the first call: TLS 1.3 tells the client afterwards.
    ///
    /// # Errors
    /// When the node is not there, is not under `ca`, or refused at once.
    pub async fn connect(address: SocketAddr, ca: &str, identity: Option<(&str, &str)>) -> anyhow::Result<Self> {
        crate::install_tls_provider();
        let mut roots = RootCertStore::empty();
        for certificate in CertificateDer::pem_slice_iter(ca.as_bytes()) {
            roots.add(certificate?)?;
        }
        let config = ClientConfig::builder().with_root_certificates(roots);
        let mut config = match identity {
            None => config.with_no_client_auth(),
            Some((certificate, key)) => {
                let chain = CertificateDer::pem_slice_iter(certificate.as_bytes()).collect::<Result<Vec<_>, _>>()?;
                config.with_client_auth_cert(chain, private_key(key)?)?
            }
        };
        config.alpn_protocols = vec![b"h2".to_vec()];
        let stream = TcpStream::connect(address).await.with_context(|| format!("{address} is unreachable"))?;
        let name = ServerName::IpAddress(address.ip().into());
        let stream = TlsConnector::from(Arc::new(config)).connect(name, stream).await?;
        let (requests, connection) =
            hyper::client::conn::http2::handshake(TokioExecutor::new(), TokioIo::new(stream)).await?;
        let connection = tokio::spawn(async move {
            let _ = connection.await;
        });
        Ok(Self { requests, connection: connection.abort_handle() })
    }

    /// Makes a call and waits for its end.
    ///
    /// # Errors
    /// When the connection fails; a refusal by the node is a reply.
    pub async fn call(&mut self, method: &str, metadata: &[(&str, &str)], message: &[u8]) -> anyhow::Result<Reply> {
        let (headers, mut open) = self.open(method, metadata, message).await?;
        if let Some(status) = grpc::status_in(&headers) {
            return Ok(Reply { status, messages: Vec::new() });
        }
        let whole = (&mut open.body).collect().await?;
        let status = whole.trailers().and_then(grpc::status_in).context("the call ended without a status")?;
        let messages = grpc::unframed(&whole.to_bytes())?;
        Ok(Reply { status, messages })
    }

    /// `Version`: the answers of the targets, or the node's refusal.
    ///
    /// # Errors
    /// When the connection fails, or the node refuses: then a [`Status`] is in the error's chain.
    pub async fn version(&mut self, metadata: &[(&str, &str)]) -> anyhow::Result<Vec<Version>> {
        let reply = self.call("/machine.MachineService/Version", metadata, &[]).await?;
        Ok(Answers::decode(reply.ok()?.first().cloned().unwrap_or_default())?.messages)
    }

    /// `Reboot`: the answers of the targets, or the node's refusal.
    ///
    /// # Errors
    /// As [`NodeClient::version`].
    pub async fn reboot(&mut self, metadata: &[(&str, &str)]) -> anyhow::Result<Vec<Reboot>> {
        let reply = self.call("/machine.MachineService/Reboot", metadata, &[]).await?;
        Ok(Answers::decode(reply.ok()?.first().cloned().unwrap_or_default())?.messages)
    }

    /// `Dmesg` without follow: the kernel log as text, or the node's refusal.
    ///
    /// # Errors
    /// As [`NodeClient::version`].
    pub async fn dmesg(&mut self, metadata: &[(&str, &str)]) -> anyhow::Result<String> {
        let reply =
            self.call("/machine.MachineService/Dmesg", metadata, &DmesgRequest::default().encode_to_vec()).await?;
        let mut text = String::new();
        for message in reply.ok()? {
            text.push_str(&String::from_utf8_lossy(&Data::decode(message)?.bytes));
        }
        Ok(text)
    }

    /// `Dmesg` with follow: a stream that stays open.
    ///
    /// # Errors
    /// As [`NodeClient::version`].
    pub async fn follow_dmesg(&mut self, metadata: &[(&str, &str)]) -> anyhow::Result<Open> {
        let asked = DmesgRequest { follow: true, tail: false };
        let (headers, open) = self.open("/machine.MachineService/Dmesg", metadata, &asked.encode_to_vec()).await?;
        match grpc::status_in(&headers) {
            Some(status) => Err(status.into()),
            None => Ok(open),
        }
    }

    async fn open(
        &mut self,
        method: &str,
        metadata: &[(&str, &str)],
        message: &[u8],
    ) -> anyhow::Result<(HeaderMap, Open)> {
        let mut request = Request::new(Full::new(grpc::framed(message)));
        *request.method_mut() = Method::POST;
        *request.uri_mut() = format!("https://node{method}").parse()?;
        let headers = request.headers_mut();
        headers.insert(header::CONTENT_TYPE, HeaderValue::from_static("application/grpc"));
        headers.insert(header::TE, HeaderValue::from_static("trailers"));
        for (key, value) in metadata {
            headers.append(HeaderName::from_bytes(key.as_bytes())?, HeaderValue::from_str(value)?);
        }
        self.requests.ready().await?;
        let (head, body) = self.requests.send_request(request).await?.into_parts();
        Ok((head.headers, Open { body, buffer: Vec::new() }))
    }
}

impl Drop for NodeClient {
    fn drop(&mut self) {
        self.connection.abort();
    }
}

// === impl Reply ===

impl Reply {
    /// The messages of a call that went well.
    ///
    /// # Errors
    /// The status of one that did not.
    pub fn ok(self) -> Result<Vec<Bytes>, Status> {
        if self.status.code == Code::Ok { Ok(self.messages) } else { Err(self.status) }
    }
}

// === impl Open ===

impl Open {
    /// The next piece of the stream as text, or `None` at its end.
    ///
    /// # Errors
    /// When the connection fails.
    pub async fn next(&mut self) -> anyhow::Result<Option<String>> {
        loop {
            if let Some((message, rest)) = self.split() {
                self.buffer = rest;
                return Ok(Some(String::from_utf8_lossy(&Data::decode(message.as_slice())?.bytes).into_owned()));
            }
            match self.body.frame().await.transpose()? {
                None => return Ok(None),
                Some(frame) => self.buffer.extend(frame.into_data().unwrap_or_default()),
            }
        }
    }

    fn split(&self) -> Option<(Vec<u8>, Vec<u8>)> {
        let (prefix, rest) = self.buffer.split_at_checked(5)?;
        let size = prefix.iter().skip(1).fold(0, |size: usize, octet| (size << 8) | usize::from(*octet));
        let (message, rest) = rest.split_at_checked(size)?;
        Some((message.to_vec(), rest.to_vec()))
    }
}

/// A PKCS#8 key under any label that Talos or others write.
fn private_key(pem: &str) -> anyhow::Result<PrivateKeyDer<'static>> {
    let normal = pem.replace("ED25519 PRIVATE KEY", "PRIVATE KEY");
    let key = PrivatePkcs8KeyDer::from_pem_slice(normal.as_bytes()).context("the key is not PKCS#8 in PEM")?;
    Ok(PrivateKeyDer::Pkcs8(key))
}
