//! A sink of one's own, outside the broker: what it is sent, and what it answers.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex};

use ichor_standins::authority::{Authority, Leaf};
use serde_json::Value;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpListener;

/// A sink with TLS of its own CA: what it answers at first, and all that came.
#[derive(Default)]
pub(crate) struct Sink {
    answers: Mutex<VecDeque<u16>>,
    pub(super) came: Mutex<Vec<(String, String)>>,
}

impl Sink {
    pub(super) async fn new(ca: &Authority, answers: &[u16]) -> anyhow::Result<(Arc<Self>, u16)> {
        use rustls::pki_types::pem::PemObject;
        use rustls::pki_types::{CertificateDer, PrivateKeyDer};
        let made = ca.issue(&Leaf::server(vec!["127.0.0.1".parse()?], Vec::new()))?;
        let chain = vec![CertificateDer::from_pem_slice(made.certificate.as_bytes())?];
        let key = PrivateKeyDer::from_pem_slice(made.key.as_bytes())?;
        let tls = rustls::ServerConfig::builder().with_no_client_auth().with_single_cert(chain, key)?;
        let acceptor = tokio_rustls::TlsAcceptor::from(Arc::new(tls));
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let sink = Arc::new(Self { answers: Mutex::new(answers.iter().copied().collect()), ..Self::default() });
        let serving = Arc::clone(&sink);
        tokio::spawn(async move {
            while let Ok((stream, _)) = listener.accept().await {
                let Ok(mut stream) = acceptor.accept(stream).await else { continue };
                let _ = serving.one(&mut stream).await;
            }
        });
        Ok((sink, port))
    }

    async fn one(&self, stream: &mut tokio_rustls::server::TlsStream<tokio::net::TcpStream>) -> anyhow::Result<()> {
        let (mut came, mut chunk) = (Vec::new(), [0; 16384]);
        let (head, body) = loop {
            let count = stream.read(&mut chunk).await?;
            anyhow::ensure!(count > 0, "it hung up");
            came.extend_from_slice(&chunk[..count]);
            let text = String::from_utf8_lossy(&came).into_owned();
            let Some((head, body)) = text.split_once("\r\n\r\n") else { continue };
            let length = header(head, "content-length").parse::<usize>()?;
            if body.len() >= length {
                break (head.to_owned(), body.to_owned());
            }
        };
        self.came.lock().unwrap().push((head, body));
        let status = self.answers.lock().unwrap().pop_front().unwrap_or(204);
        let answer = format!("HTTP/1.1 {status} x\r\ncontent-length: 0\r\nconnection: close\r\n\r\n");
        stream.write_all(answer.as_bytes()).await?;
        stream.shutdown().await?;
        Ok(())
    }

    /// What came, once there is as much.
    pub(crate) async fn came(&self, count: usize) -> Vec<(String, Value)> {
        while self.came.lock().unwrap().len() < count {
            tokio::task::yield_now().await;
        }
        let came = self.came.lock().unwrap();
        came.iter().map(|(head, body)| (head.clone(), serde_json::from_str(body).unwrap())).collect()
    }
}

/// The value of a header.
pub(super) fn header<'a>(head: &'a str, name: &str) -> &'a str {
    let found =
        head.lines().filter_map(|line| line.split_once(": ")).find(|(known, _)| known.eq_ignore_ascii_case(name));
    found.map_or("", |(_, value)| value)
}
