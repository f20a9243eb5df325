//! What the login room needs, checked.

use std::path::PathBuf;

use ichor_wire::loopback::is_loopback;
use jiff::SignedDuration;
use secrecy::SecretString;
use url::Url;

use crate::domain::{ClientVersion, ProviderAlias};
use crate::identity::Mapping;

/// The only client of our authorization server. Public: it holds no secret, its key is the DPoP key.
pub const CLIENT_ID: &str = "ichor";

/// No session lives longer. NIST SP 800-63B-4 asks for a new login within 24 hours at AAL2 and within 12 at AAL3; this is the stricter one.
pub const LONGEST_SESSION: SignedDuration = SignedDuration::from_hours(12);

/// No session lives longer whose groups are never asked again.
pub const LONGEST_UNCHECKED_SESSION: SignedDuration = SignedDuration::from_hours(1);

/// No browser's session lives longer: its cookie is bound to no key.
pub const LONGEST_PAGE_SESSION: SignedDuration = SignedDuration::from_hours(1);

/// A browser's session that is unused for so long ends.
pub const PAGE_IDLE: SignedDuration = SignedDuration::from_mins(15);

/// The authorization server towards our clients.
#[derive(Clone)]
pub struct Settings {
    /// The URL by which clients reach the broker: `https://host[:port]`, plain http on loopback only, nothing behind the host.
    pub public_url: Url,
    /// A session's life, at most [`LONGEST_SESSION`].
    pub session_life: SignedDuration,
    /// A session unused for so long ends.
    pub idle: Option<SignedDuration>,
    /// Whether a code may be shown to be pasted (`ichor login --no-browser`).
    pub paste: bool,
    /// Whether the device grant is served (`ichor login --device`).
    pub device: bool,
    /// Logins under way at once, and device logins at once.
    pub max_pending: u32,
    /// Logins of one address under way at once, and device logins at once.
    pub max_pending_of_one: u32,
    /// The oldest client that is served; metadata tells it.
    pub minimum_client: Option<ClientVersion>,
    /// The key that DPoP nonces are made with: the same at all brokers of one store that remembers used proofs, another for each
    /// process where they are remembered in memory alone.
    pub nonce_key: NonceKey,
    /// The providers.
    pub providers: Vec<ProviderSettings>,
}

/// A key for nonces; never shown.
#[derive(Clone)]
pub struct NonceKey(pub zeroize::Zeroizing<[u8; 32]>);

/// One OpenID provider.
#[derive(Clone, Debug)]
pub struct ProviderSettings {
    /// How its claims are read; has its alias.
    pub mapping: Mapping,
    /// Its issuer URL, byte for byte as its discovery document says it.
    pub issuer: String,
    /// Our client id there.
    pub client_id: String,
    /// Our secret there, if we have one.
    pub client_secret: Option<SecretString>,
    /// Scopes to ask for; `openid` is always among them.
    pub scopes: Vec<String>,
    /// How groups are asked again.
    pub recheck: Recheck,
    /// Authentication contexts to ask for.
    pub acr_values: Vec<String>,
    /// How old the authentication may be; asking makes the provider tell `auth_time`.
    pub max_age: Option<SignedDuration>,
    /// A CA for its TLS beside the system's: PEM, the content of a file.
    pub ca: Option<Vec<u8>>,
    /// Further parameters of the authorization request.
    pub authorize_params: Vec<(String, String)>,
    /// The file that the mapping's local groups are read from.
    pub groups_file: Option<PathBuf>,
}

/// How groups are asked again during a session.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Recheck {
    /// By refresh token.
    #[default]
    Refresh,
    /// By access token at the userinfo endpoint.
    Userinfo,
    /// Never; the session is short instead.
    LoginOnly,
}

/// A setting that cannot be.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SettingsError {
    /// The public URL.
    #[error(
        "the public URL `{0}` is not `https://host` (plain http is for loopback only), without path, query and user name"
    )]
    PublicUrl(String),
    /// The issuer's URL.
    #[error("the issuer `{1}` of provider `{0}` is not an https URL (plain http is for loopback only)")]
    Issuer(ProviderAlias, String),
    /// Two providers of one alias.
    #[error("two providers have the alias `{0}`; give each its own")]
    DuplicateAlias(ProviderAlias),
    /// No provider.
    #[error("there is no provider; add one to the configuration")]
    NoProvider,
    /// A session's life.
    #[error("a session lives more than zero and at most 12 hours")]
    SessionLife,
    /// A parameter that the broker sets itself.
    #[error("provider `{0}`: the broker sets the parameter `{1}` itself; take it out of `authorize_params`")]
    OwnParameter(ProviderAlias, String),
    /// Groups from userinfo need a token for it.
    #[error("provider `{0}`: groups asked again by userinfo must also come from userinfo (`groups_from`)")]
    UserinfoSource(ProviderAlias),
}

/// Parameters of the authorization request that no configuration may set.
const OWN_PARAMETERS: [&str; 12] = [
    "response_type",
    "response_mode",
    "client_id",
    "redirect_uri",
    "scope",
    "state",
    "nonce",
    "code_challenge",
    "code_challenge_method",
    "request",
    "request_uri",
    "client_secret",
];

// === impl Settings ===

impl Settings {
    /// Checks what types do not.
    ///
    /// # Errors
    /// On the first setting that cannot be.
    pub fn check(&self) -> Result<(), SettingsError> {
        let url = &self.public_url;
        let bare = url.path() == "/" && url.query().is_none() && url.fragment().is_none() && url.username().is_empty();
        if !bare || !is_secure(url) {
            return Err(SettingsError::PublicUrl(url.to_string()));
        }
        if !self.session_life.is_positive() || self.session_life > LONGEST_SESSION {
            return Err(SettingsError::SessionLife);
        }
        if self.providers.is_empty() {
            return Err(SettingsError::NoProvider);
        }
        for (index, provider) in self.providers.iter().enumerate() {
            let alias = &provider.mapping.provider;
            if self.providers.iter().skip(index + 1).any(|other| other.mapping.provider == *alias) {
                return Err(SettingsError::DuplicateAlias(alias.clone()));
            }
            provider.check()?;
        }
        Ok(())
    }

    /// The public URL without a trailing slash: our issuer (RFC 8414 §2), and the base of every `htu`.
    #[must_use]
    pub fn base_url(&self) -> &str {
        self.public_url.as_str().trim_end_matches('/')
    }

    /// Whether browsers reach us by https.
    #[must_use]
    pub fn is_https(&self) -> bool {
        self.public_url.scheme() == "https"
    }
}

// === impl ProviderSettings ===

impl ProviderSettings {
    fn check(&self) -> Result<(), SettingsError> {
        let alias = &self.mapping.provider;
        if !Url::parse(&self.issuer).is_ok_and(|url| is_secure(&url)) {
            return Err(SettingsError::Issuer(alias.clone(), self.issuer.clone()));
        }
        if let Some((name, _)) = self.authorize_params.iter().find(|(name, _)| OWN_PARAMETERS.contains(&name.as_str()))
        {
            return Err(SettingsError::OwnParameter(alias.clone(), name.clone()));
        }
        let from_userinfo = self.mapping.groups_from == crate::identity::GroupsFrom::Userinfo;
        if self.recheck == Recheck::Userinfo && !from_userinfo {
            return Err(SettingsError::UserinfoSource(alias.clone()));
        }
        Ok(())
    }

    /// The alias.
    #[must_use]
    pub fn alias(&self) -> &ProviderAlias {
        &self.mapping.provider
    }
}

impl std::fmt::Debug for NonceKey {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("NonceKey(…)")
    }
}

/// Whether the URL is https, or plain http to a host that is loopback by its form.
pub(super) fn is_secure(url: &Url) -> bool {
    match url.scheme() {
        "https" => url.host().is_some(),
        "http" => is_loopback(url),
        _ => false,
    }
}
