//! What a provider says about itself, and its keys: fetched when needed, kept, fetched again within limits.

use std::sync::Arc;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use tokio::sync::Mutex;
use url::Url;

use super::http_client::send;
use super::provider::ProviderError;
use super::settings::is_secure;
use crate::clock::SharedClock;
use crate::identity::KeySet;

/// How long a discovery document is believed before it is fetched again. A failing fetch keeps the old one.
const FRESH: SignedDuration = SignedDuration::from_hours(1);

/// After a failed fetch nothing is tried for so long, so that a provider in trouble is not asked by every login.
const PAUSE: SignedDuration = SignedDuration::from_secs(2);

/// The same while an older document can be used meanwhile.
const PAUSE_WITH_OLD: SignedDuration = SignedDuration::from_mins(1);

/// The key set is fetched again for an unknown key at most this often: strangers can make up key ids.
const KEYS_PAUSE: SignedDuration = SignedDuration::from_secs(10);

/// The part of a discovery document (OpenID Connect Discovery §3, RFC 8414 §2) that we use.
#[derive(Clone, Debug, PartialEq, Eq, Deserialize)]
pub(super) struct Document {
    issuer: String,
    pub(super) authorization_endpoint: Url,
    pub(super) token_endpoint: Url,
    #[serde(default)]
    pub(super) userinfo_endpoint: Option<Url>,
    /// RFC 7009 §2, by RFC 8414 §2. Not checked here: calls go through the client that refuses what is not secure, and a
    /// provider is of use without it.
    #[serde(default)]
    pub(super) revocation_endpoint: Option<Url>,
    jwks_uri: Url,
    #[serde(default)]
    token_endpoint_auth_methods_supported: Option<Vec<String>>,
    /// RFC 9207 §3: then the redirect back must carry `iss`.
    #[serde(default)]
    pub(super) authorization_response_iss_parameter_supported: bool,
}

/// A provider's document and keys, as one value.
#[derive(Debug)]
pub(super) struct Known {
    pub(super) document: Document,
    pub(super) keys: KeySet,
    fetched: Timestamp,
    keys_fetched: Timestamp,
}

/// The cache of one provider.
#[derive(Debug, Default)]
struct Cache {
    known: Option<Arc<Known>>,
    failed: Option<(Timestamp, ProviderError)>,
}

/// Fetches and keeps. One fetch at a time: the others wait for its result.
pub(super) struct Discovery {
    issuer: String,
    http: reqwest::Client,
    clock: SharedClock,
    cache: Mutex<Cache>,
}

// === impl Discovery ===

impl Discovery {
    pub(super) fn new(issuer: String, http: reqwest::Client, clock: SharedClock) -> Self {
        Self { issuer, http, clock, cache: Mutex::default() }
    }

    /// What is known, fetched first when there is nothing or it is old.
    pub(super) async fn known(&self) -> Result<Arc<Known>, ProviderError> {
        let mut cache = self.cache.lock().await;
        let now = self.clock.now();
        if let Some(known) = &cache.known
            && within(known.fetched, now, FRESH)
        {
            return Ok(known.clone());
        }
        if let Some((at, error)) = &cache.failed
            && within(*at, now, if cache.known.is_some() { PAUSE_WITH_OLD } else { PAUSE })
        {
            return cache.known.clone().ok_or_else(|| error.clone());
        }
        match self.fetch(now).await {
            Ok(known) => {
                let known = Arc::new(known);
                *cache = Cache { known: Some(known.clone()), failed: None };
                Ok(known)
            }
            Err(error) => {
                tracing::warn!(issuer = self.issuer, %error, "discovery failed");
                cache.failed = Some((now, error.clone()));
                // an unreachable provider keeps what it said; one that says something wrong does not
                match (&error, &cache.known) {
                    (ProviderError::Unavailable(_), Some(known)) => Ok(known.clone()),
                    _ => Err(error),
                }
            }
        }
    }

    /// What is known, with keys newer than those of `old`: for a token whose key is not among them. `None` when they were
    /// fetched only just.
    pub(super) async fn newer_keys(&self, old: &Known) -> Result<Option<Arc<Known>>, ProviderError> {
        let mut cache = self.cache.lock().await;
        let Some(known) = cache.known.clone() else { return Ok(None) };
        if known.keys_fetched > old.keys_fetched {
            return Ok(Some(known));
        }
        let now = self.clock.now();
        if within(known.keys_fetched, now, KEYS_PAUSE) {
            return Ok(None);
        }
        let keys = self.fetch_keys(&known.document.jwks_uri).await?;
        let newer = Known { document: known.document.clone(), keys, fetched: known.fetched, keys_fetched: now };
        let newer = Arc::new(newer);
        cache.known = Some(newer.clone());
        Ok(Some(newer))
    }

    async fn fetch(&self, now: Timestamp) -> Result<Known, ProviderError> {
        let url = format!("{}/.well-known/openid-configuration", self.issuer.trim_end_matches('/'));
        let body = self.fetch_json(&url).await?;
        let document: Document = serde_json::from_slice(&body)
            .map_err(|error| ProviderError::Unavailable(format!("the discovery document is unusable: {error}")))?;
        if document.issuer != self.issuer {
            return Err(ProviderError::Misconfigured(format!(
                "the discovery document names the issuer `{}`, the configuration `{}`; they must be equal to the letter",
                document.issuer, self.issuer
            )));
        }
        let endpoints = [&document.authorization_endpoint, &document.token_endpoint, &document.jwks_uri];
        if let Some(bad) = endpoints.into_iter().chain(&document.userinfo_endpoint).find(|url| !is_secure(url)) {
            return Err(ProviderError::Misconfigured(format!("the endpoint `{bad}` is neither https nor on loopback")));
        }
        let keys = self.fetch_keys(&document.jwks_uri).await?;
        Ok(Known { document, keys, fetched: now, keys_fetched: now })
    }

    async fn fetch_keys(&self, url: &Url) -> Result<KeySet, ProviderError> {
        let body = self.fetch_json(url.as_str()).await?;
        serde_json::from_slice(&body)
            .map_err(|error| ProviderError::Unavailable(format!("the key set is unusable: {error}")))
    }

    /// Fetches, once more after a failure of transport that came in time: reading is safe to repeat.
    async fn fetch_json(&self, url: &str) -> Result<bytes::Bytes, ProviderError> {
        let get = || send(self.http.get(url).header(http::header::ACCEPT, "application/json"));
        let answer = match get().await {
            Ok((status, _)) if status.is_server_error() => get().await,
            Err(error) if !error.is_late => get().await,
            other => other,
        };
        let (status, body) = answer?;
        if status != http::StatusCode::OK {
            return Err(ProviderError::Unavailable(format!("`{url}` answered {status}")));
        }
        Ok(body)
    }
}

// === impl Document ===

impl Document {
    /// Whether the client secret goes into the form rather than the header. The header is the default (Discovery §3).
    pub(super) fn wants_secret_in_form(&self) -> bool {
        self.token_endpoint_auth_methods_supported.as_ref().is_some_and(|methods| {
            let has = |name| methods.iter().any(|method| method == name);
            has("client_secret_post") && !has("client_secret_basic")
        })
    }
}

/// Whether less than `span` went by since `then`; a clock that went back does not make things fresh for ever.
fn within(then: Timestamp, now: Timestamp, span: SignedDuration) -> bool {
    now.duration_since(then).abs() < span
}
