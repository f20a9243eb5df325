//! The relying party towards one OpenID provider.

use std::sync::Arc;

use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde_json::{Map, Value};
use tokio::sync::OnceCell;
use url::Url;

use super::discovery::{Discovery, Known};
use super::http_client::{CallError, send};
use super::settings::ProviderSettings;
use super::token_endpoint::Tokens;
use crate::clock::SharedClock;
use crate::domain::ProviderAlias;
use crate::identity::{Claims, ClaimsError, Expected, IdTokenError, KeySet, Verified, verify};
use crate::store::{Store, StoreError};

/// One provider: its settings, and what is known of it.
pub(super) struct Provider {
    pub(super) settings: ProviderSettings,
    discovery: Discovery,
    pub(super) http: reqwest::Client,
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
    /// Whether the person must be asked anew (`prompt=login`), whatever else is configured to be prompted.
    pub(super) prompt: bool,
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
        Err(ProviderError::Misconfigured(another_issuer(alias, issuer, &pinned)))
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
            let configured = &self.settings.authorize_params;
            for (name, value) in configured.iter().filter(|(name, _)| !(ask.prompt && name == "prompt")) {
                query.append_pair(name, value);
            }
            if ask.prompt {
                // what is prompted otherwise stays: consent may be what gives a refresh token
                let prompts =
                    configured.iter().filter(|(name, _)| name == "prompt").flat_map(|(_, value)| value.split(' '));
                let others = prompts.filter(|prompt| !["none", "login", ""].contains(prompt));
                query.append_pair("prompt", &std::iter::once("login").chain(others).collect::<Vec<_>>().join(" "));
            }
        }
        Ok(url)
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
        let (status, body) = send(request).await?;
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
}

// === impl ProviderError ===

impl From<CallError> for ProviderError {
    fn from(error: CallError) -> Self {
        Self::Unavailable(error.to_string())
    }
}

/// What is said of a provider whose alias is pinned to another issuer.
#[must_use]
pub fn another_issuer(alias: &ProviderAlias, issuer: &str, pinned: &str) -> String {
    format!(
        "the alias `{alias}` belongs to the issuer `{pinned}`; give `{issuer}` an alias of its own, and name its groups by that in the \
         policies, or put the old issuer back"
    )
}

/// Text of a provider, fit for a log or page: no control characters, not too long.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(200).collect()
}
