//! The HTTP client towards providers: one place for their deadline, roots and sizes.

use std::time::Duration;

use bytes::{Bytes, BytesMut};
use http::StatusCode;
use url::Url;

use super::settings::is_secure;
use crate::outgoing::{self, Roots, chain};

/// The longest that one call to a provider may take, from connecting to the last byte.
pub(super) const DEADLINE: Duration = Duration::from_secs(10);

/// The largest answer of a provider, in bytes. Key sets and tokens are far smaller.
const LARGEST_ANSWER: usize = 1 << 20;

/// The client cannot be built.
#[derive(Debug, thiserror::Error)]
#[error("the HTTP client for provider `{provider}` cannot be built: {why}")]
pub struct ClientError {
    provider: String,
    why: String,
}

/// A call that came to nothing.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{why}")]
pub(super) struct CallError {
    /// For the log.
    why: String,
    /// Whether it took too long: then another try would take as long once more.
    pub(super) is_late: bool,
}

/// A client with a deadline, no redirects, no proxy from the environment, and the system's roots beside `ca`, a PEM file's
/// content with one or more certificates.
///
/// # Errors
/// When `ca` is not PEM, or the TLS provider is not installed.
pub(super) fn build(provider: &str, ca: Option<&[u8]>) -> Result<reqwest::Client, ClientError> {
    let failed = |why: String| ClientError { provider: provider.into(), why };
    let roots = ca.map_or(Roots::System, Roots::SystemAnd);
    let builder = outgoing::builder(DEADLINE, roots).map_err(|error| failed(error.to_string()))?;
    builder.build().map_err(|error| failed(chain(&error)))
}

/// Sends the request and reads the whole answer, within [`DEADLINE`] and [`LARGEST_ANSWER`]. Only to https, or plain http on
/// loopback: a discovery document cannot lead elsewhere.
pub(super) async fn send(request: reqwest::RequestBuilder) -> Result<(StatusCode, Bytes), CallError> {
    let (client, request) = request.build_split();
    let request = request?;
    let url: Url = request.url().clone();
    if !is_secure(&url) {
        return Err(CallError::of(format!("`{}` is neither https nor on loopback", shown(&url))));
    }
    let exchange = async {
        let mut answer = client.execute(request).await?;
        let status = answer.status();
        let mut body = BytesMut::new();
        while let Some(chunk) = answer.chunk().await? {
            if body.len() + chunk.len() > LARGEST_ANSWER {
                return Err(CallError::of(format!("`{}` answered with more than 1 MiB", shown(&url))));
            }
            body.extend_from_slice(&chunk);
        }
        Ok((status, body.freeze()))
    };
    match tokio::time::timeout(DEADLINE, exchange).await {
        Ok(result) => result,
        Err(_) => Err(CallError { why: format!("`{}` did not answer in time", shown(&url)), is_late: true }),
    }
}

// === impl CallError ===

impl CallError {
    fn of(why: String) -> Self {
        Self { why, is_late: false }
    }
}

impl From<reqwest::Error> for CallError {
    fn from(error: reqwest::Error) -> Self {
        Self { why: with_next_step(chain(&error)), is_late: error.is_timeout() }
    }
}

/// What rustls says of a certificate that no CA we trust has signed; by its text, because reqwest and hyper hide its type.
fn with_next_step(why: String) -> String {
    if why.contains("UnknownIssuer") {
        return format!("{why}; name the CA that signed its certificate as `ca_file` under its [[provider]]");
    }
    why
}

/// The URL without its query, which may hold secrets.
fn shown(url: &Url) -> String {
    format!("{}{}", url.origin().ascii_serialization(), url.path())
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;
    use std::sync::Arc;

    use super::*;

    #[tokio::test(flavor = "multi_thread")]
    async fn an_unknown_ca_is_told_with_the_key_that_names_it() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let key = rcgen::KeyPair::generate().unwrap();
        let certificate = rcgen::CertificateParams::new(vec!["localhost".into()]).unwrap().self_signed(&key).unwrap();
        let key = rustls::pki_types::PrivateKeyDer::try_from(key.serialize_der()).unwrap();
        let config = rustls::ServerConfig::builder().with_no_client_auth();
        let config = Arc::new(config.with_single_cert(vec![certificate.der().clone()], key).unwrap());
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let port = listener.local_addr().unwrap().port();
        let server = std::thread::spawn(move || {
            let (mut stream, _) = listener.accept().unwrap();
            let mut connection = rustls::ServerConnection::new(config).unwrap();
            while connection.is_handshaking() && connection.complete_io(&mut stream).is_ok() {}
        });
        let request = build("corp", None).unwrap().get(format!("https://localhost:{port}/"));
        let error = send(request).await.unwrap_err().to_string();
        assert!(error.contains("`ca_file` under its [[provider]]"), "{error}");
        server.join().unwrap();
    }
}
