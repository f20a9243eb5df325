//! The cheapest HTTPS client there is: prepared bytes go out, the answer's status comes back. A load generator that shares two
//! cores with what it measures must cost next to nothing.

use std::sync::Arc;

use anyhow::{Context, bail};
use rustls::pki_types::pem::PemObject;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::{ClientConfig, RootCertStore};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio_rustls::TlsConnector;
use tokio_rustls::client::TlsStream;
use url::Url;

/// One kept connection, HTTP/1.1.
pub(crate) struct Connection {
    stream: TlsStream<TcpStream>,
    buffer: Vec<u8>,
}

/// An answer, as far as a load generator cares.
pub(crate) struct Answer {
    pub(crate) status: u16,
    pub(crate) head: String,
    pub(crate) body: Vec<u8>,
}

/// What connections to one server are made from.
#[derive(Clone)]
pub(crate) struct Target {
    address: String,
    name: ServerName<'static>,
    connector: TlsConnector,
}

// === impl Target ===

impl Target {
    pub(crate) fn new(url: &Url, ca: &str) -> anyhow::Result<Self> {
        let mut roots = RootCertStore::empty();
        roots.add(CertificateDer::from_pem_slice(ca.as_bytes())?)?;
        let config = ClientConfig::builder().with_root_certificates(roots).with_no_client_auth();
        let host = url.host_str().context("a host")?;
        Ok(Self {
            address: format!("127.0.0.1:{}", url.port().context("a port")?),
            name: ServerName::try_from(host.to_owned())?,
            connector: TlsConnector::from(Arc::new(config)),
        })
    }

    pub(crate) async fn connect(&self) -> anyhow::Result<Connection> {
        let stream = TcpStream::connect(&self.address).await?;
        stream.set_nodelay(true)?;
        Ok(Connection { stream: self.connector.connect(self.name.clone(), stream).await?, buffer: Vec::new() })
    }
}

// === impl Answer ===

impl Answer {
    /// The body, put together where it came in chunks (RFC 9112 §7.1).
    pub(crate) fn whole_body(&self) -> anyhow::Result<Vec<u8>> {
        if header(&self.head, "transfer-encoding").is_none() {
            return Ok(self.body.clone());
        }
        let (mut whole, mut rest) = (Vec::new(), self.body.as_slice());
        loop {
            let end = rest.windows(2).position(|bytes| bytes == b"\r\n").context("a chunk without its size")?;
            let (size, after) = rest.split_at(end);
            let size = usize::from_str_radix(std::str::from_utf8(size)?, 16)?;
            if size == 0 {
                return Ok(whole);
            }
            let chunk = after.get(2..2 + size).context("a short chunk")?;
            whole.extend_from_slice(chunk);
            rest = after.get(2 + size + 2..).context("a short chunk")?;
        }
    }
}

// === impl Connection ===

impl Connection {
    /// Sends a whole request and reads its whole answer.
    pub(crate) async fn send(&mut self, request: &[u8]) -> anyhow::Result<Answer> {
        self.stream.write_all(request).await?;
        self.buffer.clear();
        let head = loop {
            if let Some(end) = self.buffer.windows(4).position(|bytes| bytes == b"\r\n\r\n") {
                break end + 4;
            }
            self.more().await?;
        };
        let text = String::from_utf8(self.buffer.get(..head).unwrap_or_default().to_vec())?;
        let status = text.split(' ').nth(1).context("no status")?.parse()?;
        if header(&text, "transfer-encoding").is_some() {
            // not decoded: who measures only needs to know where it ends
            while !self.buffer.ends_with(b"0\r\n\r\n") {
                self.more().await?;
            }
            return Ok(Answer { status, head: text, body: self.buffer.get(head..).unwrap_or_default().to_vec() });
        }
        let length: usize = header(&text, "content-length").map_or(Ok(0), str::parse)?;
        while self.buffer.len() < head + length {
            self.more().await?;
        }
        let body = self.buffer.get(head..head + length).unwrap_or_default().to_vec();
        Ok(Answer { status, head: text, body })
    }

    async fn more(&mut self) -> anyhow::Result<()> {
        self.buffer.reserve(8192);
        if self.stream.read_buf(&mut self.buffer).await? == 0 {
            bail!("the server closed the connection");
        }
        Ok(())
    }
}

/// The value of a header in a head.
pub(crate) fn header<'a>(head: &'a str, name: &str) -> Option<&'a str> {
    head.lines().find_map(|line| {
        let (key, value) = line.split_once(':')?;
        key.eq_ignore_ascii_case(name).then(|| value.trim())
    })
}
