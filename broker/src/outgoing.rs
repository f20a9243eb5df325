//! HTTP clients towards others, built here alone: no redirects, no proxy from the environment, a deadline, and only those CAs
//! that are named.

use std::time::Duration;

use url::Url;

/// Whose certificates a client believes.
#[derive(Clone, Copy, Debug)]
pub(crate) enum Roots<'a> {
    /// The CAs of the system.
    System,
    /// Those of the system, and of this PEM file.
    SystemAnd(&'a [u8]),
    /// Those of this PEM file and no other.
    Only(&'a [u8]),
    /// Nobody's: for plain http, which shows none.
    Nobody,
}

/// Why there is no client.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub(crate) enum OutgoingError {
    /// Nothing in this process can do TLS.
    #[error("no TLS provider is installed in this process")]
    NoTls,
    /// The CA file is none.
    #[error("its CA file is not a list of PEM certificates")]
    NotPem,
    /// The CA file holds nothing.
    #[error("its CA file has no certificate; name one in PEM, or leave `ca_file` out")]
    NoCertificate,
}

// === impl Roots ===

impl<'a> Roots<'a> {
    /// For this URL: with `ca`, the content of a PEM file, that file's CAs and no other.
    pub(crate) fn of(url: &Url, ca: Option<&'a [u8]>) -> Self {
        match ca {
            Some(pem) => Self::Only(pem),
            None if url.scheme() == "http" => Self::Nobody,
            None => Self::System,
        }
    }
}

/// A client in the making, whose requests take no longer than `deadline`, from connecting to the last byte of the answer.
///
/// # Errors
/// When the CA file holds none, or the process has no TLS provider.
#[expect(clippy::disallowed_methods, reason = "this is the one place")]
pub(crate) fn builder(deadline: Duration, roots: Roots<'_>) -> Result<reqwest::ClientBuilder, OutgoingError> {
    // without one the client would end the process when it is built
    if rustls::crypto::CryptoProvider::get_default().is_none() {
        return Err(OutgoingError::NoTls);
    }
    let builder = reqwest::Client::builder()
        .timeout(deadline)
        .connect_timeout(deadline / 2)
        .redirect(reqwest::redirect::Policy::none())
        .no_proxy()
        .user_agent(concat!("ichor-broker/", env!("CARGO_PKG_VERSION")));
    Ok(match roots {
        Roots::System => builder,
        Roots::SystemAnd(pem) => builder.tls_certs_merge(certificates(pem)?),
        Roots::Only(pem) => builder.tls_certs_only(certificates(pem)?),
        Roots::Nobody => builder.tls_certs_only([]),
    })
}

fn certificates(pem: &[u8]) -> Result<Vec<reqwest::Certificate>, OutgoingError> {
    let certificates = reqwest::Certificate::from_pem_bundle(pem).map_err(|_| OutgoingError::NotPem)?;
    if certificates.is_empty() { Err(OutgoingError::NoCertificate) } else { Ok(certificates) }
}

/// An error of a client with its causes, without its URL, which may be a secret: its own text says only that something failed.
pub(crate) fn chain(error: &dyn std::error::Error) -> String {
    let mut parts: Vec<String> = Vec::new();
    let mut next = Some(error);
    while let Some(error) = next {
        let text = error.to_string();
        let text = text.split(" for url (").next().unwrap_or_default();
        if !parts.iter().any(|part| part.contains(text)) {
            parts.push(text.to_owned());
        }
        next = error.source();
    }
    parts.join(": ")
}

#[cfg(test)]
mod tests {
    use super::*;

    const DEADLINE: Duration = Duration::from_secs(5);

    #[test]
    fn a_ca_file_without_a_certificate_is_refused_at_once() {
        let _ = rustls::crypto::aws_lc_rs::default_provider().install_default();
        let broken = b"-----BEGIN CERTIFICATE-----\n!\n-----END CERTIFICATE-----\n";
        for (pem, why) in [
            (b"".as_slice(), OutgoingError::NoCertificate),
            (b"# a comment\n", OutgoingError::NoCertificate),
            (broken, OutgoingError::NotPem),
        ] {
            for roots in [Roots::Only(pem), Roots::SystemAnd(pem)] {
                assert_eq!(builder(DEADLINE, roots).map(drop).unwrap_err(), why, "{roots:?}");
            }
        }
        assert!(builder(DEADLINE, Roots::System).is_ok());
    }

    #[test]
    fn a_named_ca_is_the_only_one_and_plain_http_needs_none() {
        let [tls, plain] = ["https://a.example", "http://127.0.0.1:9"].map(|url| Url::parse(url).unwrap());
        assert!(matches!(Roots::of(&tls, Some(b"pem")), Roots::Only(b"pem")));
        assert!(matches!(Roots::of(&tls, None), Roots::System));
        assert!(matches!(Roots::of(&plain, None), Roots::Nobody));
    }

    /// An error as an HTTP client's, with what it was about.
    #[derive(Debug, thiserror::Error)]
    #[error("error sending request for url (https://a.example/secret)")]
    struct Outer(#[source] Inner);

    #[derive(Debug, thiserror::Error)]
    #[error("connection refused")]
    struct Inner;

    #[test]
    fn an_error_is_told_with_its_cause_and_without_its_url() {
        assert_eq!(chain(&Outer(Inner)), "error sending request: connection refused");
    }
}
