//! The beginning of a login: what a client asks for is checked, kept, and the browser sent to the provider.

use std::net::IpAddr;

use jiff::{SignedDuration, Timestamp};
use url::Url;
use zeroize::Zeroizing;

use super::ask::{Ask, Stronger, check, check_client_id, is_loopback_redirect, request, s256};
use super::pending::{Client, Pending, Stage, Target};
use super::provider::{Authorization, Provider};
use super::{Login, LoginError, hash};
use crate::entropy;
use crate::store::PendingLogin;

/// How long a login may take from its first request to the confirmation.
pub(super) const LOGIN_LIFE: SignedDuration = SignedDuration::from_mins(10);

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
            prompt: stronger.prompt,
        };
        let address = client.address;
        let url = provider.authorization_url(&authorization).await?;
        let stage = Stage::AtProvider {
            state: state.to_string(),
            nonce: nonce.to_string(),
            verifier: verifier.to_string(),
            auth_since,
        };
        let cookie = entropy::secret()?;
        let mut row = PendingLogin {
            id: entropy::uuid_v7(now)?,
            version: 0,
            cookie_hash: hash(&cookie),
            code_hash: None,
            state: Vec::new(),
            expires_at: now.saturating_add(LOGIN_LIFE).unwrap_or(Timestamp::MAX),
        };
        self.keep_pending(&mut row, &Pending { target, client, provider: alias, stage })?;
        if !self.logins.begin(address, self.settings.max_pending_of_one, now) {
            return Err(LoginError::TooMany);
        }
        match self.store.begin_login(row, self.settings.max_pending, now).await {
            Ok(true) => Ok(Begun { url, cookie }),
            refused => {
                self.logins.end(address);
                Err(refused.err().map_or(LoginError::TooMany, LoginError::from))
            }
        }
    }

    /// Where a provider sends the browser back: a path of its own for each, so that no answer passes for another's.
    pub(super) fn callback_uri(&self, alias: &str) -> String {
        self.at(&format!("/oauth/callback/{alias}"))
    }

    /// The error, to be told to the client where it listens on loopback.
    pub(super) fn back_to(&self, target: &Target, error: LoginError) -> LoginError {
        match target {
            Target::Loopback { redirect_uri, state, .. } => self.back(redirect_uri, Some(state), error),
            Target::Paste { .. } | Target::Device { .. } | Target::Page { .. } => error,
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
