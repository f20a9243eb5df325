//! What a client asks for, and the checks on its form.

use std::net::IpAddr;

use data_encoding::BASE64URL_NOPAD;
use jiff::SignedDuration;
use sha2::{Digest, Sha256};
use url::{Host, Url};

use super::LoginError;
use super::pending::Client;
use super::settings::CLIENT_ID;

/// An authorization request as it came, nothing of it checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ask {
    /// `client_id`.
    pub client_id: Option<String>,
    /// `response_type`.
    pub response_type: Option<String>,
    /// `redirect_uri`.
    pub redirect_uri: Option<String>,
    /// `state`.
    pub state: Option<String>,
    /// `code_challenge`.
    pub code_challenge: Option<String>,
    /// `code_challenge_method`.
    pub code_challenge_method: Option<String>,
    /// `dpop_jkt` (RFC 9449 §10).
    pub dpop_jkt: Option<String>,
    /// The name of the client's host.
    pub client_host: Option<String>,
    /// The provider's alias; not needed where there is only one.
    pub provider: Option<String>,
    /// `acr_values`, instead of the configured ones.
    pub acr_values: Option<String>,
    /// `max_age` in seconds; the configured one if that is shorter.
    pub max_age: Option<String>,
}

/// What may be asked of the provider beyond its settings.
#[derive(Debug, Default)]
pub(super) struct Stronger {
    pub(super) acr_values: Option<String>,
    pub(super) max_age: Option<SignedDuration>,
    /// Whether the provider must ask the person, even if it knows them (`prompt=login`).
    pub(super) prompt: bool,
}

pub(super) fn request(text: &str) -> LoginError {
    LoginError::Request(text.into())
}

pub(super) fn check_client_id(client_id: Option<&str>) -> Result<(), LoginError> {
    match client_id {
        Some(CLIENT_ID) => Ok(()),
        _ => Err(request("its `client_id` is not `ichor`")),
    }
}

pub(super) type Checked<F> = (F, String, Stronger);

/// Checks what does not concern the redirect: a maker of the client, the PKCE challenge, what is asked of the provider.
pub(super) fn check(ask: &Ask) -> Result<Checked<impl FnOnce(IpAddr) -> Client + use<>>, LoginError> {
    if ask.response_type.as_deref() != Some("code") {
        return Err(request("its `response_type` is not `code`"));
    }
    if ask.code_challenge_method.as_deref() != Some("S256") {
        return Err(request("its `code_challenge_method` is not `S256`"));
    }
    let challenge = ask.code_challenge.clone().filter(|text| is_digest(text));
    let challenge = challenge.ok_or_else(|| request("its `code_challenge` is not a SHA-256 in base64url"))?;
    let (jkt, host) = check_client(ask.dpop_jkt.as_deref(), ask.client_host.as_deref()).map_err(request)?;
    let acr_values = ask.acr_values.clone().filter(|text| !text.is_empty());
    if acr_values.as_ref().is_some_and(|text| text.len() > 256 || !text.bytes().all(|b| (b' '..=b'~').contains(&b))) {
        return Err(request("its `acr_values` are not printable ASCII of at most 256 characters"));
    }
    let max_age = match ask.max_age.as_deref() {
        None => None,
        Some(text) => match text.parse::<u32>() {
            Ok(seconds) => Some(SignedDuration::from_secs(seconds.into())),
            Err(_) => return Err(request("its `max_age` is not a number of seconds")),
        },
    };
    Ok((move |address| Client { jkt, host, address }, challenge, Stronger { acr_values, max_age, prompt: false }))
}

/// The thumbprint and host name, if they have the form of such. The host name is a stranger's text that will stand on a
/// page: nothing but letters, digits, dots, hyphens and underscores.
pub(super) fn check_client(jkt: Option<&str>, host: Option<&str>) -> Result<(String, String), &'static str> {
    let jkt = jkt.filter(|text| is_digest(text)).ok_or("its `dpop_jkt` is not a key's thumbprint")?;
    let fits = |text: &&str| {
        (1..=64).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_alphanumeric() || b".-_".contains(&b))
    };
    let host = host.filter(fits).ok_or("its `client_host` is not a host name of at most 64 characters")?;
    Ok((jkt.into(), host.into()))
}

/// Whether the text is a SHA-256 in base64url without padding.
fn is_digest(text: &str) -> bool {
    text.len() == 43 && BASE64URL_NOPAD.decode(text.as_bytes()).is_ok_and(|bytes| bytes.len() == 32)
}

/// PKCE's S256 (RFC 7636 §4.2).
pub(super) fn s256(verifier: &str) -> String {
    BASE64URL_NOPAD.encode(&Sha256::digest(verifier.as_bytes()))
}

/// Exactly `http://127.0.0.1:PORT/callback` or `http://[::1]:PORT/callback` in normal form (RFC 8252 §7.3); names such as
/// `localhost` may resolve elsewhere (§8.3).
pub(super) fn is_loopback_redirect(text: &str) -> bool {
    let Ok(url) = Url::parse(text) else { return false };
    let loopback = match url.host() {
        Some(Host::Ipv4(address)) => address == std::net::Ipv4Addr::LOCALHOST,
        Some(Host::Ipv6(address)) => address == std::net::Ipv6Addr::LOCALHOST,
        _ => false,
    };
    let bare =
        url.query().is_none() && url.fragment().is_none() && url.username().is_empty() && url.password().is_none();
    url.as_str() == text
        && url.scheme() == "http"
        && loopback
        && bare
        && url.port().is_some_and(|port| port != 0)
        && url.path() == "/callback"
}
