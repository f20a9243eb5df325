//! One HTTP exchange with a server, bounded in time and size.

use std::time::Duration;

use bytes::Bytes;
use http::{Method, StatusCode};
use secrecy::{ExposeSecret, SecretString};
use zeroize::Zeroizing;

use super::Kind;
use super::settings::{Auth, Settings, SettingsError};
use crate::outgoing::{self, OutgoingError, Roots};
use crate::regular::{self, Links};

/// The largest answer, in bytes. Keys with many versions are the largest that we ask for.
const LARGEST: usize = 1 << 20;

/// The largest file with a client certificate and its chain, or its key, in bytes.
const LARGEST_PEM: u64 = 256 << 10;

/// The room made for an answer that does not tell its length, in bytes: one that carries a key grows into no second buffer.
const ROOM: usize = 16 << 10;

/// So many calls are under way at once, each on a connection of its own that is kept for the next; the others wait within
/// their deadlines. HTTP/1.1 and not 2: the server's Go code and ours both spend about a quarter more on a call over HTTP/2.
pub(super) const AT_ONCE: usize = 64;

/// What is asked.
pub(super) struct Request<'a> {
    pub(super) method: Method,
    /// Below `/v1/`.
    pub(super) path: &'a str,
    /// Wiped with its last clone.
    pub(super) body: Option<Bytes>,
    pub(super) token: Option<&'a SecretString>,
}

/// Whether a client shows the certificate that it logs in with.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Shows {
    /// No: before the first login. What a file lacks then is that login's error, and costs no other server's clusters anything.
    Nothing,
    /// The one in the files, which are read now, where it logs in so.
    ItsCertificate,
}

/// A client for this server.
pub(super) fn build(settings: &Settings, shows: Shows) -> Result<reqwest::Client, SettingsError> {
    Settings::check_address(&settings.address)?;
    // a server inside the company has no certificate of a public CA: with one named it is that and no other
    let roots = Roots::of(&settings.address, settings.ca.as_deref());
    let builder = outgoing::builder(settings.deadline, roots).map_err(|error| match error {
        OutgoingError::NoTls => SettingsError::Client(error.to_string()),
        OutgoingError::NotPem | OutgoingError::NoCertificate => SettingsError::Ca,
    })?;
    let mut builder = builder.tcp_nodelay(true).http1_only().pool_max_idle_per_host(AT_ONCE);
    // a kept connection to a machine that is gone ends early enough for another try, of a call that may be made again
    #[cfg(target_os = "linux")]
    {
        builder = builder.tcp_user_timeout(settings.deadline / 2);
    }
    if let (Auth::Certificate { certificate, key, .. }, Shows::ItsCertificate) = (&settings.auth, shows) {
        let failed = |why: String| SettingsError::Certificate(why);
        let mut pem = Zeroizing::new(Vec::new());
        for path in [certificate, key] {
            let part = regular::read(path, LARGEST_PEM, Links::Followed);
            let part = Zeroizing::new(part.map_err(|error| failed(format!("`{}`: {error}", path.display())))?);
            pem.extend_from_slice(&part);
            pem.push(b'\n');
        }
        let identity = reqwest::Identity::from_pem(&pem).map_err(|_| failed("they are not PEM, or differ".into()))?;
        builder = builder.identity(identity);
    }
    builder.build().map_err(|error| SettingsError::Client(told(&error)))
}

/// How the words begin by which Go's server turns away at its port for TLS who speaks without (net/http, `conn.serve`). The end of the
/// connection often cuts them off.
const FOR_TLS: &[u8] = b"Client sent an HTTP request to an HTTPS";

/// Sends the request and reads the whole answer.
pub(super) async fn exchange(
    http: &reqwest::Client,
    settings: &Settings,
    request: Request<'_>,
    within: Duration,
) -> Result<(StatusCode, Zeroizing<Vec<u8>>), Kind> {
    let mut url = settings.address.clone();
    url.set_path(&format!("{}/v1/{}", settings.address.path().trim_end_matches('/'), request.path));
    let mut out = http.request(request.method, url).header("x-vault-request", "true");
    if let Some(namespace) = &settings.namespace {
        out = out.header("x-vault-namespace", namespace);
    }
    if let Some(token) = request.token {
        let mut value = http::HeaderValue::from_str(token.expose_secret())
            .map_err(|_| Kind::Login("the token holds characters that no token has".into()))?;
        value.set_sensitive(true);
        out = out.header("x-vault-token", value);
    }
    if let Some(body) = request.body {
        out = out.header(http::header::CONTENT_TYPE, "application/json").body(body);
    }
    let exchange = async {
        let mut answer = out.send().await.map_err(|error| Kind::from(&error))?;
        let status = answer.status();
        let length = answer.content_length().and_then(|length| usize::try_from(length).ok());
        if length.is_some_and(|length| length > LARGEST) {
            return Err(Kind::Garbled("it is larger than 1 MiB"));
        }
        let mut body = Zeroizing::new(Vec::with_capacity(length.unwrap_or(ROOM)));
        let may_want_tls = status == StatusCode::BAD_REQUEST && settings.address.scheme() == "http";
        let for_tls = Kind::Garbled("it speaks TLS there: write `https://` in `address` under its [[openbao]]");
        loop {
            match answer.chunk().await {
                Ok(Some(chunk)) if body.len() + chunk.len() > LARGEST => {
                    return Err(Kind::Garbled("it is larger than 1 MiB"));
                }
                Ok(Some(chunk)) => body.extend_from_slice(&chunk),
                Ok(None) if may_want_tls && body.starts_with(FOR_TLS) => return Err(for_tls),
                Ok(None) => return Ok((status, body)),
                Err(error) if may_want_tls && !error.is_timeout() && FOR_TLS.starts_with(&body) => return Err(for_tls),
                Err(error) => return Err(Kind::from(&error)),
            }
        }
    };
    tokio::time::timeout(within, exchange).await.unwrap_or(Err(Kind::Late))
}

// === impl Kind ===

impl From<&reqwest::Error> for Kind {
    fn from(error: &reqwest::Error) -> Self {
        match (error.is_timeout(), error.is_connect()) {
            // also while it was connected to: a machine that stands still
            (true, _) => Self::Late,
            (false, true) => Self::NotConnected(told(error)),
            (false, false) => Self::Unreachable(told(error)),
        }
    }
}

/// What went wrong, and what to do about a CA that nobody named.
fn told(error: &dyn std::error::Error) -> String {
    let text = outgoing::chain(error);
    if text.contains("UnknownIssuer") {
        return format!("{text}; name the CA that signed its certificate as `ca_file` under its [[openbao]]");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn what_was_never_sent_is_told_from_a_connection_that_broke() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let url = format!("http://{}", listener.local_addr().unwrap());
        let http = outgoing::builder(Duration::from_secs(5), Roots::Nobody).unwrap().build().unwrap();
        let (broken, ()) = tokio::join!(http.get(&url).send(), async { drop(listener.accept().await) });
        let broken = Kind::from(&broken.unwrap_err());
        assert!(matches!(broken, Kind::Unreachable(_)) && !broken.did_nothing(), "{broken:?}");
        drop(listener);
        let refused = Kind::from(&http.get(&url).send().await.unwrap_err());
        assert!(matches!(refused, Kind::NotConnected(_)) && refused.did_nothing(), "{refused:?}");
    }
}
