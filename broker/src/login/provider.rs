//! The relying party towards one OpenID provider.

use std::sync::Arc;

use data_encoding::BASE64;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use secrecy::ExposeSecret;
use serde::Deserialize;
use serde_json::{Map, Value};
use tokio::sync::OnceCell;
use url::{Url, form_urlencoded};
use zeroize::Zeroizing;

use super::discovery::{Discovery, Known};
use super::http_client::{CallError, send};
use super::settings::ProviderSettings;
use crate::clock::SharedClock;
use crate::identity::{Claims, ClaimsError, Expected, IdTokenError, KeySet, Verified, verify};
use crate::store::{Store, StoreError};

/// One provider: its settings, and what is known of it.
pub(super) struct Provider {
    pub(super) settings: ProviderSettings,
    discovery: Discovery,
    http: reqwest::Client,
    clock: SharedClock,
    store: Arc<dyn Store>,
    pinned: OnceCell<()>,
}

/// What a provider did not give.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum ProviderError {
    /// It cannot be reached, or answers nothing useful. Trying again may help.
    #[error("the provider is out of reach: {0}")]
    Unavailable(String),
    /// It said no to this person or this login.
    #[error("the provider refused: {0}")]
    Refused(String),
    /// Configuration of broker and provider do not fit together.
    #[error("the provider does not fit the configuration: {0}")]
    Misconfigured(String),
    /// Its ID token does not hold.
    #[error(transparent)]
    IdToken(#[from] IdTokenError),
    /// Its claims are of no use.
    #[error(transparent)]
    Claims(#[from] ClaimsError),
    /// Our own store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

/// What our authorization request carries besides what is configured.
pub(super) struct Authorization<'a> {
    pub(super) redirect_uri: &'a str,
    pub(super) state: &'a str,
    pub(super) nonce: &'a str,
    pub(super) code_challenge: &'a str,
    pub(super) acr_values: Option<&'a str>,
    pub(super) max_age: Option<SignedDuration>,
}

/// What the token endpoint gave.
pub(super) struct Tokens {
    pub(super) access_token: Zeroizing<String>,
    pub(super) refresh_token: Option<Zeroizing<String>>,
    id_token: Option<String>,
}

#[derive(Deserialize)]
struct TokenAnswer {
    access_token: String,
    #[serde(default)]
    refresh_token: Option<String>,
    #[serde(default)]
    id_token: Option<String>,
}

#[derive(Deserialize)]
struct ErrorAnswer {
    error: String,
    #[serde(default)]
    error_description: Option<String>,
}

// === impl Provider ===

impl Provider {
    pub(super) fn new(
        settings: ProviderSettings,
        http: reqwest::Client,
        clock: SharedClock,
        store: Arc<dyn Store>,
    ) -> Self {
        let discovery = Discovery::new(settings.issuer.clone(), http.clone(), clock.clone());
        Self { settings, discovery, http, clock, store, pinned: OnceCell::new() }
    }

    /// What is known of the provider, after its alias was pinned to its issuer.
    pub(super) async fn known(&self) -> Result<Arc<Known>, ProviderError> {
        let known = self.discovery.known().await?;
        self.pinned.get_or_try_init(|| self.pin()).await?;
        Ok(known)
    }

    /// A person is keyed by alias, issuer and subject: an alias that changes its issuer would let new people pass for old
    /// groups, so it is refused.
    async fn pin(&self) -> Result<(), ProviderError> {
        let (alias, issuer) = (self.settings.alias(), &self.settings.issuer);
        let pinned = self.store.pin_provider(alias, issuer).await?;
        if pinned == *issuer {
            return Ok(());
        }
        Err(ProviderError::Misconfigured(format!(
            "the alias `{alias}` belongs to the issuer `{pinned}`; give `{issuer}` an alias of its own"
        )))
    }

    /// Where to send the browser.
    pub(super) async fn authorization_url(&self, ask: &Authorization<'_>) -> Result<Url, ProviderError> {
        let known = self.known().await?;
        let mut url = known.document.authorization_endpoint.clone();
        let mut scopes: Vec<&str> = self.settings.scopes.iter().map(String::as_str).collect();
        if !scopes.contains(&"openid") {
            scopes.insert(0, "openid");
        }
        {
            let mut query = url.query_pairs_mut();
            query
                .append_pair("response_type", "code")
                .append_pair("client_id", &self.settings.client_id)
                .append_pair("redirect_uri", ask.redirect_uri)
                .append_pair("scope", &scopes.join(" "))
                .append_pair("state", ask.state)
                .append_pair("nonce", ask.nonce)
                .append_pair("code_challenge", ask.code_challenge)
                .append_pair("code_challenge_method", "S256");
            if let Some(acr_values) = ask.acr_values {
                query.append_pair("acr_values", acr_values);
            }
            if let Some(max_age) = ask.max_age {
                query.append_pair("max_age", &max_age.as_secs().to_string());
            }
            for (name, value) in &self.settings.authorize_params {
                query.append_pair(name, value);
            }
        }
        Ok(url)
    }

    /// Exchanges a code for tokens. Once: a code that is used twice ends the grant at many providers.
    pub(super) async fn exchange(
        &self,
        code: &str,
        verifier: &str,
        redirect_uri: &str,
    ) -> Result<Tokens, ProviderError> {
        let form = [
            ("grant_type", "authorization_code"),
            ("code", code),
            ("code_verifier", verifier),
            ("redirect_uri", redirect_uri),
        ];
        self.token(&form).await
    }

    /// Exchanges a refresh token. Once: a rotated token that is used twice ends the grant at many providers.
    pub(super) async fn refresh(&self, refresh_token: &str) -> Result<Tokens, ProviderError> {
        self.token(&[("grant_type", "refresh_token"), ("refresh_token", refresh_token)]).await
    }

    /// Verifies the ID token among `tokens`; an unknown key makes the key set be fetched again, within limits. `nonce` is
    /// that of the login, `None` after a refresh.
    pub(super) async fn verified(
        &self,
        tokens: &Tokens,
        nonce: Option<&str>,
        auth_since: Option<Timestamp>,
    ) -> Result<Option<Verified>, ProviderError> {
        let Some(token) = &tokens.id_token else { return Ok(None) };
        let known = self.known().await?;
        match self.verify(token, &known.keys, nonce, auth_since, self.clock.now()) {
            Err(IdTokenError::UnknownKey) => match self.discovery.newer_keys(&known).await? {
                Some(newer) => Ok(Some(self.verify(token, &newer.keys, nonce, auth_since, self.clock.now())?)),
                None => Err(IdTokenError::UnknownKey.into()),
            },
            result => Ok(Some(result?)),
        }
    }

    fn verify(
        &self,
        token: &str,
        keys: &KeySet,
        nonce: Option<&str>,
        auth_since: Option<Timestamp>,
        now: Timestamp,
    ) -> Result<Verified, IdTokenError> {
        let expected =
            Expected { issuer: &self.settings.issuer, client_id: &self.settings.client_id, nonce, auth_since, now };
        verify(token, keys, &expected)
    }

    /// What userinfo says about `subject`. A token that it does not take is a refusal.
    pub(super) async fn userinfo(&self, access_token: &str, subject: &str) -> Result<Claims, ProviderError> {
        let known = self.known().await?;
        let Some(url) = known.document.userinfo_endpoint.clone() else {
            return Err(ProviderError::Misconfigured("it has no userinfo endpoint, but groups come from there".into()));
        };
        let request = self.http.get(url).bearer_auth(access_token).header(http::header::ACCEPT, "application/json");
        let (status, body) = send(request).await.map_err(|CallError(text)| ProviderError::Unavailable(text))?;
        match status {
            StatusCode::OK => {}
            StatusCode::UNAUTHORIZED | StatusCode::FORBIDDEN => {
                return Err(ProviderError::Refused("userinfo does not take the access token".into()));
            }
            status => return Err(ProviderError::Unavailable(format!("userinfo answered {status}"))),
        }
        let claims: Map<String, Value> = serde_json::from_slice(&body)
            .map_err(|_| ProviderError::Unavailable("userinfo did not answer with a JSON object".into()))?;
        Ok(Claims::of_userinfo(claims, subject)?)
    }

    async fn token(&self, form: &[(&str, &str)]) -> Result<Tokens, ProviderError> {
        let known = self.known().await?;
        let request = self.token_request(&known, form);
        let (status, body) = send(request).await.map_err(|CallError(text)| ProviderError::Unavailable(text))?;
        if status == StatusCode::OK {
            let answer: TokenAnswer = serde_json::from_slice(&body)
                .map_err(|_| ProviderError::Unavailable("the token endpoint's answer cannot be read".into()))?;
            return Ok(Tokens {
                access_token: Zeroizing::new(answer.access_token),
                refresh_token: answer.refresh_token.map(Zeroizing::new),
                id_token: answer.id_token,
            });
        }
        Err(refusal(status, &body))
    }

    /// The form, with our client id and secret where the provider wants them.
    fn token_request(&self, known: &Known, form: &[(&str, &str)]) -> reqwest::RequestBuilder {
        let settings = &self.settings;
        let mut request = self.http.post(known.document.token_endpoint.clone());
        let mut encoder = form_urlencoded::Serializer::new(String::new());
        encoder.extend_pairs(form);
        match &settings.client_secret {
            Some(secret) if !known.document.wants_secret_in_form() => {
                // RFC 6749 §2.3.1: both are form-encoded before they become Basic credentials
                let encode = |text: &str| form_urlencoded::byte_serialize(text.as_bytes()).collect::<String>();
                let secret = Zeroizing::new(encode(secret.expose_secret()));
                let pair = Zeroizing::new(format!("{}:{}", encode(&settings.client_id), *secret));
                let value = Zeroizing::new(format!("Basic {}", BASE64.encode(pair.as_bytes())));
                request = request.header(http::header::AUTHORIZATION, value.as_str());
            }
            Some(secret) => {
                encoder.append_pair("client_id", &settings.client_id);
                encoder.append_pair("client_secret", secret.expose_secret());
            }
            None => {
                encoder.append_pair("client_id", &settings.client_id);
            }
        }
        request
            .header(http::header::CONTENT_TYPE, "application/x-www-form-urlencoded")
            .header(http::header::ACCEPT, "application/json")
            .body(encoder.finish())
    }
}

/// What an error of the token endpoint means. Only an answer about the person's grant is a refusal: a wrong client secret or
/// a server in trouble ends nobody's session.
fn refusal(status: StatusCode, body: &[u8]) -> ProviderError {
    const REFUSALS: [&str; 6] = [
        "invalid_grant",
        "access_denied",
        "interaction_required",
        "login_required",
        "consent_required",
        "account_selection_required",
    ];
    let Ok(answer) = serde_json::from_slice::<ErrorAnswer>(body) else {
        return ProviderError::Unavailable(format!("the token endpoint answered {status}"));
    };
    let description = answer.error_description.map(|text| format!(": {}", printable(&text))).unwrap_or_default();
    let text = format!("{}{description}", printable(&answer.error));
    if status.is_client_error() && REFUSALS.contains(&answer.error.as_str()) {
        return ProviderError::Refused(text);
    }
    match status.is_client_error() && status != StatusCode::TOO_MANY_REQUESTS {
        true => ProviderError::Misconfigured(format!("the token endpoint says `{text}`")),
        false => ProviderError::Unavailable(format!("the token endpoint answered {status}, {text}")),
    }
}

/// Text of a provider, fit for a log or page: no control characters, not too long.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
