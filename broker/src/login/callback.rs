//! The provider's answer: checked, exchanged, verified, and kept until the person confirms.

use std::net::IpAddr;
use std::sync::Arc;

use subtle::ConstantTimeEq;

use super::ask::request;
use super::page::PageOpened;
use super::pending::{Known, Pending, Stage, Target};
use super::provider::{Provider, ProviderError, printable};
use super::token_endpoint::Tokens;
use super::{Login, LoginError, Recheck, hash, seal_context};
use crate::domain::SessionId;
use crate::entropy;
use crate::identity::{GroupsFrom, IdTokenError, Identity};
use crate::store::PendingLogin;

/// The query of the provider's redirect, nothing of it checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Answer {
    /// `code`.
    pub code: Option<String>,
    /// `state`.
    pub state: Option<String>,
    /// `iss` (RFC 9207).
    pub iss: Option<String>,
    /// `error`.
    pub error: Option<String>,
    /// `error_description`.
    pub error_description: Option<String>,
}

/// Where the browser is now.
#[derive(Debug)]
pub enum Arrived {
    /// Before the confirmation page.
    ToConfirm,
    /// Signed in at the pages.
    AtPages(PageOpened),
}

impl Login {
    /// Takes the provider's answer. Returns once the person is known and the confirmation page can be shown, or the browser that
    /// signs in at the pages has a session.
    ///
    /// # Errors
    /// When the answer does not belong to this browser's login, or the provider gives nobody. The login is over then.
    pub async fn callback(
        self: &Arc<Self>,
        alias: String,
        cookie: Option<String>,
        answer: Answer,
        address: IpAddr,
    ) -> Result<Arrived, LoginError> {
        // A task of its own: a browser that leaves meanwhile must not drop what the provider gave.
        let login = Arc::clone(self);
        let task = tokio::spawn(async move {
            let result = login.try_callback(&alias, cookie.as_deref(), &answer, address).await;
            result.inspect_err(|error| {
                tracing::info!(provider = alias, cause = error.cause(), "login failed at the provider");
                login.refused(address, error.problem());
            })
        });
        task.await.unwrap_or(Err(LoginError::Over))
    }

    async fn try_callback(
        &self,
        alias: &str,
        cookie: Option<&str>,
        answer: &Answer,
        address: IpAddr,
    ) -> Result<Arrived, LoginError> {
        let (mut row, mut pending) = self.pending(cookie).await?;
        let provider = self.provider(&pending.provider).ok_or(LoginError::Over)?;
        if pending.provider != alias {
            return Err(LoginError::Over);
        }
        let Stage::AtProvider { state, nonce, verifier, auth_since } = pending.stage else {
            return Err(LoginError::Over);
        };
        if !bool::from(answer.state.as_deref().unwrap_or_default().as_bytes().ct_eq(state.as_bytes())) {
            return Err(LoginError::Over);
        }
        // Claimed before the code is used: a code that is used twice, as by a reloaded page, ends the grant at the provider.
        pending.stage = Stage::Exchanging;
        self.advance(&mut row, &pending).await?;
        let checked = async {
            check_issuer(provider, answer).await?;
            let code = check_code(answer)?;
            let tokens = provider.exchange(code, &verifier, &self.callback_uri(alias)).await?;
            let verified = provider.verified(&tokens, Some(&nonce), auth_since).await?;
            let verified = verified.ok_or_else(|| IdTokenError::Malformed("there is none".into()));
            self.identify(provider, &tokens, verified.map_err(ProviderError::from)?).await
        };
        match checked.await {
            Ok(person) if matches!(pending.target, Target::Page { .. }) => {
                let opened = self.open_page(row, pending, person, address).await?;
                Ok(Arrived::AtPages(opened))
            }
            Ok(person) => {
                pending.stage = Stage::Confirming { person: Box::new(person), csrf: entropy::secret()?.to_string() };
                self.advance(&mut row, &pending).await?;
                Ok(Arrived::ToConfirm)
            }
            Err(error) => {
                self.store.drop_login(row.id).await?;
                // it is over: someone who mistyped or was refused does not count against their address any longer
                self.logins.end(pending.client.address);
                Err(self.back_to(&pending.target, error))
            }
        }
    }

    /// The pending login of this browser.
    pub(super) async fn pending(&self, cookie: Option<&str>) -> Result<(PendingLogin, Pending), LoginError> {
        let cookie_hash = hash(cookie.ok_or(LoginError::Over)?);
        let row = self.store.login_by_cookie(&cookie_hash, self.clock.now()).await?.ok_or(LoginError::Over)?;
        let pending = self.read_pending(&row)?;
        Ok((row, pending))
    }

    /// Moves the pending login on, if nobody else did meanwhile.
    pub(super) async fn advance(&self, row: &mut PendingLogin, pending: &Pending) -> Result<(), LoginError> {
        self.keep_pending(row, pending)?;
        if !self.store.advance_login(row.clone()).await? {
            return Err(LoginError::Over);
        }
        row.version += 1;
        Ok(())
    }

    async fn identify(
        &self,
        provider: &Provider,
        tokens: &Tokens,
        verified: crate::identity::Verified,
    ) -> Result<Known, LoginError> {
        let settings = &provider.settings;
        let now = self.clock.now();
        let userinfo = match settings.mapping.groups_from {
            GroupsFrom::Userinfo => Some(provider.userinfo(&tokens.access_token, verified.subject()).await?),
            GroupsFrom::IdToken => None,
        };
        let identity = settings.mapping.identity(verified, userinfo.as_ref(), now).map_err(ProviderError::from)?;
        let session = SessionId(entropy::uuid_v7(now)?);
        let secret = match settings.recheck {
            Recheck::Refresh => Some(tokens.refresh_token.as_deref().ok_or_else(no_refresh_token)?),
            Recheck::Userinfo => Some(&*tokens.access_token),
            Recheck::LoginOnly => None,
        };
        let sealed = secret.map(|secret| self.data_key.seal(&seal_context(session), secret.as_bytes())).transpose();
        let sealed = sealed.map_err(|error| LoginError::Broken(error.to_string()))?;
        log_identity(&identity);
        Ok(Known::new(&identity, session, sealed))
    }
}

fn log_identity(identity: &Identity) {
    let person = identity.person();
    tracing::info!(provider = %person.provider, subject = printable(&person.subject), "person verified; confirmation asked");
}

fn no_refresh_token() -> LoginError {
    ProviderError::Misconfigured(
        "it gave no refresh token: ask for the scope `offline_access` (some need `prompt = \"consent\"` as well), or set \
         `recheck` to `userinfo` or `login-only`"
            .into(),
    )
    .into()
}

/// The issuer in the redirect (RFC 9207 §2.4): required where the provider advertises it, never wrong.
async fn check_issuer(provider: &Provider, answer: &Answer) -> Result<(), LoginError> {
    let advertised = provider.known().await?.document.authorization_response_iss_parameter_supported;
    match answer.iss.as_deref() {
        Some(iss) if iss == provider.settings.issuer => Ok(()),
        None if !advertised => Ok(()),
        _ => Err(request("the answer comes from another provider than the one that was asked (`iss`)")),
    }
}

fn check_code(answer: &Answer) -> Result<&str, LoginError> {
    if let Some(error) = &answer.error {
        let description = answer.error_description.as_deref().map(|text| format!(": {}", printable(text)));
        let text = format!("{}{}", printable(error), description.unwrap_or_default());
        return Err(ProviderError::Refused(text).into());
    }
    answer.code.as_deref().filter(|code| !code.is_empty()).ok_or_else(|| request("the provider's answer has no code"))
}
