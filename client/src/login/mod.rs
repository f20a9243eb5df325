//! `ichor login`: authorization code with PKCE and a DPoP key, by loopback, pasted code, or device grant.
//!
//! The broker shows a confirmation page in every flow, with the number that [`Event::Number`] carries: the person
//! compares it with their terminal, so that a login that someone else started is noticed.

mod device;
mod loopback;

use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::time::Duration;

use http::Method;
use ichor_wire::dpop::sha256_base64url;
use jiff::SignedDuration;
use serde::Deserialize;
use url::Url;
use uuid::Uuid;
use zeroize::Zeroizing;

use crate::broker::{Broker, CLIENT_ID, Metadata};
use crate::dpop::DpopKey;
use crate::entropy;
use crate::error::Error;
use crate::forms;
use crate::session::Session;

/// How long a login may take (the broker keeps a pending login as long).
const PATIENCE: Duration = Duration::from_secs(600);

/// How the browser and this machine come together.
#[derive(Clone)]
pub enum Way {
    /// A browser on this machine; it comes back to a port on the loopback interface (RFC 8252 §7.3).
    Browser,
    /// A browser anywhere; the broker's page shows a code, which `read` asks the person for.
    Paste(Arc<dyn Fn() -> PastedCode + Send + Sync>),
    /// A browser anywhere; the person types a short code into the broker's page (RFC 8628).
    Device,
}

/// A code that a person pastes.
pub type PastedCode = Pin<Box<dyn Future<Output = std::io::Result<String>> + Send>>;

/// What a login needs to know.
#[derive(Clone)]
pub struct LoginOptions {
    /// Which flow.
    pub way: Way,
    /// The provider's alias, where the broker has several.
    pub provider: Option<String>,
    /// Ask the provider to authenticate the person anew (`max_age=0`).
    pub fresh: bool,
    /// Authentication contexts to ask the provider for (`acr_values`).
    pub acr: Option<String>,
    /// The host's name, shown on the confirmation page.
    pub host: String,
    /// Opens a browser at the URL; must return at once. Not called on [`Way::Device`].
    pub open: Arc<dyn Fn(&Url) + Send + Sync>,
    /// Hears what happens.
    pub on: Arc<dyn Fn(Event) + Send + Sync>,
}

/// What happens during a login.
#[derive(Clone, Debug, PartialEq, Eq)]
#[non_exhaustive]
pub enum Event {
    /// The number that the confirmation page must show too.
    Number(String),
    /// The browser is sent here.
    Opening(Url),
    /// The person is to type this code at this address.
    Code {
        /// Where.
        at: Url,
        /// What.
        code: String,
    },
}

#[derive(Deserialize)]
struct TokenAnswer {
    #[serde(deserialize_with = "forms::wiped::deserialize")]
    access_token: Zeroizing<String>,
    token_type: String,
    expires_in: u64,
    #[serde(default)]
    session_id: Option<Uuid>,
}

/// Logs in. Returns once the broker has recorded the session and given its token.
///
/// # Errors
/// When the broker cannot be reached or does not offer this way, the person or the provider refuses, or ten minutes pass.
pub async fn login(broker: &Broker, options: &LoginOptions) -> Result<Session, Error> {
    let metadata = broker.metadata().await?;
    check_provider(&metadata, options)?;
    let key = DpopKey::generate()?;
    (options.on)(Event::Number(key.login_number()));
    let flow = async {
        match &options.way {
            Way::Browser => loopback::login(broker, &metadata, &key, options).await,
            Way::Paste(read) => paste(broker, &metadata, &key, options, read.as_ref()).await,
            Way::Device => device::login(broker, &metadata, &key, options).await,
        }
    };
    let answer = tokio::time::timeout(PATIENCE, flow).await;
    let answer = answer.map_err(|_| Error::Login("nobody confirmed it within 10 minutes".into()))??;
    if !answer.token_type.eq_ignore_ascii_case("dpop") {
        return Err(broker.not_a_broker("its token is not bound to our key"));
    }
    let life = SignedDuration::from_secs(i64::try_from(answer.expires_in).unwrap_or(0));
    let expires_at =
        broker.clock().now().checked_add(life).map_err(|_| broker.not_a_broker("its session never ends"))?;
    Ok(Session::new(broker.clone(), answer.access_token, key, expires_at, answer.session_id))
}

async fn paste(
    broker: &Broker,
    metadata: &Metadata,
    key: &DpopKey,
    options: &LoginOptions,
    read: &(dyn Fn() -> PastedCode + Send + Sync),
) -> Result<TokenAnswer, Error> {
    let Some(redirect_uri) = &metadata.ichor_paste_redirect_uri else {
        return Err(Error::failed(
            "this broker does not allow `--no-browser`",
            "run `ichor login` where a browser is, or ask the broker's operator for `paste = true` under [session] in its \
             config.toml",
        ));
    };
    let pkce = Pkce::new()?;
    let url = pkce.authorization_url(metadata, redirect_uri.as_str(), key, options);
    (options.on)(Event::Opening(url));
    let code = read().await.map_err(|error| Error::Login(format!("no code could be read: {error}")))?;
    exchange(broker, metadata, key, &pkce, code.trim(), redirect_uri.as_str()).await
}

/// The secrets of one login.
struct Pkce {
    verifier: Zeroizing<String>,
    state: Zeroizing<String>,
}

// === impl Pkce ===

impl Pkce {
    fn new() -> Result<Self, Error> {
        Ok(Self { verifier: entropy::secret()?, state: entropy::secret()? })
    }

    fn authorization_url(&self, metadata: &Metadata, redirect_uri: &str, key: &DpopKey, options: &LoginOptions) -> Url {
        let mut url = metadata.authorization_endpoint.clone();
        url.query_pairs_mut()
            .append_pair("response_type", "code")
            .append_pair("client_id", CLIENT_ID)
            .append_pair("redirect_uri", redirect_uri)
            .append_pair("code_challenge", &sha256_base64url(self.verifier.as_bytes()))
            .append_pair("code_challenge_method", "S256")
            .append_pair("state", &self.state)
            .append_pair("dpop_jkt", &key.thumbprint())
            .extend_pairs(extras(options));
        url
    }
}

// === impl LoginOptions ===

impl fmt::Debug for LoginOptions {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("LoginOptions")
            .field("provider", &self.provider)
            .field("host", &self.host)
            .finish_non_exhaustive()
    }
}

/// The parameters that every way of logging in has.
fn extras(options: &LoginOptions) -> Vec<(&'static str, String)> {
    let mut extras = vec![("client_host", options.host.clone())];
    extras.extend(options.provider.clone().map(|alias| ("provider", alias)));
    extras.extend(options.acr.clone().map(|acr| ("acr_values", acr)));
    extras.extend(options.fresh.then(|| ("max_age", "0".to_owned())));
    extras
}

fn check_provider(metadata: &Metadata, options: &LoginOptions) -> Result<(), Error> {
    let providers = &metadata.ichor_providers;
    let listed = providers.join(", ");
    match &options.provider {
        Some(alias) if !providers.is_empty() && !providers.contains(alias) => {
            Err(Error::usage(format!("the broker has no provider `{alias}`"), format!("name one of: {listed}")))
        }
        None if providers.len() > 1 => {
            Err(Error::usage("the broker has several providers", format!("name one with `--provider`: {listed}")))
        }
        _ => Ok(()),
    }
}

async fn exchange(
    broker: &Broker,
    metadata: &Metadata,
    key: &DpopKey,
    pkce: &Pkce,
    code: &str,
    redirect_uri: &str,
) -> Result<TokenAnswer, Error> {
    let form = [
        ("grant_type", "authorization_code"),
        ("code", code),
        ("code_verifier", &pkce.verifier),
        ("redirect_uri", redirect_uri),
        ("client_id", CLIENT_ID),
    ];
    match token(broker, metadata, key, &form).await? {
        Ok(answer) => Ok(answer),
        Err((_, description)) => Err(Error::Login(description)),
    }
}

/// Asks the token endpoint; an OAuth error is its code and its description.
async fn token(
    broker: &Broker,
    metadata: &Metadata,
    key: &DpopKey,
    form: &[(&str, &str)],
) -> Result<Result<TokenAnswer, (String, String)>, Error> {
    let body = Zeroizing::new(url::form_urlencoded::Serializer::new(String::new()).extend_pairs(form).finish());
    let body = ("application/x-www-form-urlencoded", body.as_bytes().to_vec());
    let answer = broker.proved(Method::POST, &metadata.token_endpoint, key, None, Some(body)).await?;
    if answer.status.is_success() {
        let answer =
            serde_json::from_slice(&answer.body).map_err(|_| broker.not_a_broker("its token cannot be read"))?;
        return Ok(Ok(answer));
    }
    match answer.oauth_error() {
        Some(error) => Ok(Err((error.error.clone(), error.error_description.unwrap_or(error.error)))),
        None => Err(broker.problem(&answer)),
    }
}
