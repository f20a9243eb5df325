//! The beginning of a login: what a client asks for is checked, kept, and the browser sent to the provider.

use std::net::IpAddr;

use data_encoding::BASE64URL_NOPAD;
use jiff::{SignedDuration, Timestamp};
use sha2::{Digest, Sha256};
use url::{Host, Url};
use zeroize::Zeroizing;

use super::pending::{Client, Pending, Stage, Target};
use super::provider::{Authorization, Provider};
use super::settings::CLIENT_ID;
use super::{Login, LoginError, hash};
use crate::entropy;
use crate::store::PendingLogin;

/// How long a login may take from its first request to the confirmation.
pub(super) const LOGIN_LIFE: SignedDuration = SignedDuration::from_mins(10);

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

/// What to answer.
#[derive(Debug)]
pub enum Start {
    /// Send the browser to the provider.
    Go(Begun),
    /// Let the person choose among these aliases.
    Choose(Vec<String>),
}

/// A login that began.
#[derive(Debug)]
pub struct Begun {
    /// Where to send the browser.
    pub url: Url,
    /// The value of the cookie that binds the login to this browser.
    pub cookie: Zeroizing<String>,
}

/// What may be asked of the provider beyond its settings.
#[derive(Debug, Default)]
pub(super) struct Stronger {
    acr_values: Option<String>,
    max_age: Option<SignedDuration>,
}

// === impl Login ===

impl Login {
    /// Begins a login in a browser.
    ///
    /// # Errors
    /// [`LoginError::Back`] once the redirect URI is known to be a loopback one; before that an error for a page.
    pub async fn authorize(&self, ask: &Ask, address: IpAddr) -> Result<Start, LoginError> {
        let result = self.try_authorize(ask, address).await;
        result.inspect_err(|error| self.refused(address, error.problem()))
    }

    async fn try_authorize(&self, ask: &Ask, address: IpAddr) -> Result<Start, LoginError> {
        check_client_id(ask.client_id.as_deref())?;
        let redirect_uri = ask.redirect_uri.as_deref().ok_or_else(|| request("it has no `redirect_uri`"))?;
        let is_paste = redirect_uri == self.paste_uri();
        if is_paste && !self.settings.paste {
            return Err(LoginError::SwitchedOff);
        }
        if !is_paste && !is_loopback_redirect(redirect_uri) {
            return Err(request("its `redirect_uri` is not `http://127.0.0.1:PORT/callback`"));
        }
        let checked = check(ask).and_then(|(client, challenge, stronger)| {
            let state = ask.state.as_deref().unwrap_or_default();
            if state.len() > 512 || !state.bytes().all(|b| b.is_ascii_graphic()) || (state.is_empty() && !is_paste) {
                return Err(request("its `state` is missing or not printable ASCII of at most 512 characters"));
            }
            let target = match is_paste {
                true => Target::Paste { redirect_uri: redirect_uri.into(), challenge },
                false => Target::Loopback { redirect_uri: redirect_uri.into(), state: state.into(), challenge },
            };
            Ok((target, client(address), stronger))
        });
        let (target, client, stronger) = match checked {
            Ok(parts) => parts,
            Err(error) if is_paste => return Err(error),
            Err(error) => return Err(self.back(redirect_uri, ask.state.as_deref(), error)),
        };
        let begun = self.choose_and_begin(target.clone(), client, ask.provider.as_deref(), stronger).await;
        begun.map_err(|error| self.back_to(&target, error))
    }

    /// Begins a login at the provider that was named, or at the only one.
    pub(super) async fn choose_and_begin(
        &self,
        target: Target,
        client: Client,
        alias: Option<&str>,
        stronger: Stronger,
    ) -> Result<Start, LoginError> {
        let provider = match (alias, self.providers.as_slice()) {
            (Some(alias), _) => self.provider(alias).ok_or_else(|| {
                let known: Vec<&str> = self.providers.iter().map(|one| one.settings.alias().as_str()).collect();
                request(&format!("there is no such provider; there are {}", known.join(", ")))
            })?,
            (None, [only]) => only,
            (None, several) => {
                return Ok(Start::Choose(several.iter().map(|one| one.settings.alias().to_string()).collect()));
            }
        };
        self.begin(target, client, provider, stronger).await.map(Start::Go)
    }

    async fn begin(
        &self,
        target: Target,
        client: Client,
        provider: &Provider,
        stronger: Stronger,
    ) -> Result<Begun, LoginError> {
        let now = self.clock.now();
        let alias = provider.settings.alias().to_string();
        let configured = provider.settings.acr_values.join(" ");
        let acr_values = stronger.acr_values.or_else(|| (!configured.is_empty()).then_some(configured));
        let max_age = match (stronger.max_age, provider.settings.max_age) {
            (Some(asked), Some(set)) => Some(asked.min(set)),
            (asked, set) => asked.or(set),
        };
        let auth_since = max_age.map(|age| now.saturating_sub(age).unwrap_or(Timestamp::MIN));
        let (state, nonce, verifier) = (entropy::secret()?, entropy::secret()?, entropy::secret()?);
        let authorization = Authorization {
            redirect_uri: &self.callback_uri(&alias),
            state: &state,
            nonce: &nonce,
            code_challenge: &s256(&verifier),
            acr_values: acr_values.as_deref(),
            max_age,
        };
        let url = provider.authorization_url(&authorization).await?;
        let stage = Stage::AtProvider {
            state: state.to_string(),
            nonce: nonce.to_string(),
            verifier: verifier.to_string(),
            auth_since,
        };
        let cookie = entropy::secret()?;
        let row = PendingLogin {
            id: entropy::uuid_v7(now)?,
            version: 0,
            cookie_hash: hash(&cookie),
            code_hash: None,
            state: Pending { target, client, provider: alias, stage }.encode()?,
            expires_at: now.saturating_add(LOGIN_LIFE).unwrap_or(Timestamp::MAX),
        };
        if !self.store.begin_login(row, self.settings.max_pending, now).await? {
            return Err(LoginError::TooMany);
        }
        Ok(Begun { url, cookie })
    }

    /// Where a provider sends the browser back: a path of its own for each, so that no answer passes for another's.
    pub(super) fn callback_uri(&self, alias: &str) -> String {
        self.at(&format!("/oauth/callback/{alias}"))
    }

    /// The error, to be told to the client where it listens on loopback.
    pub(super) fn back_to(&self, target: &Target, error: LoginError) -> LoginError {
        match target {
            Target::Loopback { redirect_uri, state, .. } => self.back(redirect_uri, Some(state), error),
            Target::Paste { .. } | Target::Device { .. } => error,
        }
    }

    fn back(&self, redirect_uri: &str, state: Option<&str>, error: LoginError) -> LoginError {
        let Ok(mut to) = Url::parse(redirect_uri) else { return error };
        // RFC 6749 §4.1.2.1 allows printable ASCII without `"` and `\`
        let allowed = |c: char| c == ' ' || (c.is_ascii_graphic() && c != '"' && c != '\\');
        let text: String = error.to_string().chars().map(|c| if allowed(c) { c } else { '?' }).collect();
        to.query_pairs_mut().append_pair("error", error.code()).append_pair("error_description", &text);
        self.finish(&mut to, state);
        LoginError::Back { error: Box::new(error), to }
    }

    /// Adds what every redirect back carries: the client's state, and our issuer (RFC 9207).
    pub(super) fn finish(&self, to: &mut Url, state: Option<&str>) {
        let mut query = to.query_pairs_mut();
        if let Some(state) = state.filter(|state| state.len() <= 512) {
            query.append_pair("state", state);
        }
        query.append_pair("iss", self.settings.base_url());
    }
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

type Checked<F> = (F, String, Stronger);

/// Checks what does not concern the redirect: a maker of the client, the PKCE challenge, what is asked of the provider.
fn check(ask: &Ask) -> Result<Checked<impl FnOnce(IpAddr) -> Client + use<>>, LoginError> {
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
    Ok((move |address| Client { jkt, host, address }, challenge, Stronger { acr_values, max_age }))
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
fn is_loopback_redirect(text: &str) -> bool {
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
