//! The confirmation, in every flow, before any code is released: whoever began a login owns its key, so without this page a
//! sent link and a silent sign-in at the provider would hand a stranger the session.

use std::net::IpAddr;

use ichor_wire::dpop::login_number;
use ichor_wire::problem::Code;
use jiff::{SignedDuration, Timestamp};
use subtle::ConstantTimeEq;
use url::Url;
use zeroize::Zeroizing;

use super::pending::{Decision, Device, Stage, Target};
use super::{Login, LoginError, hash};
use crate::entropy;

/// How long a code may be exchanged after it was released (RFC 6749 §4.1.2 recommends at most 10 minutes).
const CODE_LIFE: SignedDuration = SignedDuration::from_secs(60);

/// What the page shows. Everything about the client is what the client said of itself.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Confirmation {
    /// The person's name, as the provider tells it.
    pub name: String,
    /// The value behind `user:` in certificates.
    pub user: String,
    /// The provider's alias.
    pub provider: String,
    /// The name of the client's host.
    pub host: String,
    /// Where the request came from.
    pub address: IpAddr,
    /// The number that the right terminal shows.
    pub number: String,
    /// To be sent back with the decision.
    pub csrf: String,
    /// Where the browser will be redirected, for the page's `form-action`.
    pub redirect: Option<Url>,
    /// Whether a code will be shown, to be pasted.
    pub is_paste: bool,
    /// Whether a device is let in.
    pub is_device: bool,
}

/// What came of the decision.
#[derive(Debug)]
#[non_exhaustive]
pub enum Confirmed {
    /// Send the browser there; the address holds the code, or the refusal.
    Redirect(Url),
    /// Show this code, to be pasted.
    Code(Zeroizing<String>),
    /// The device may go on.
    Device,
    /// Nothing was released.
    Cancelled,
}

impl Login {
    /// What the confirmation page shows to this browser.
    ///
    /// # Errors
    /// When there is no login in this browser that waits for a confirmation.
    pub async fn confirmation(&self, cookie: Option<&str>) -> Result<Confirmation, LoginError> {
        let (_, pending) = self.pending(cookie).await?;
        let Stage::Confirming { person, csrf } = pending.stage else { return Err(LoginError::Over) };
        let redirect = match &pending.target {
            Target::Loopback { redirect_uri, .. } => Url::parse(redirect_uri).ok(),
            Target::Paste { .. } | Target::Device { .. } | Target::Page { .. } => None,
        };
        Ok(Confirmation {
            name: person.name,
            user: person.user,
            provider: pending.provider,
            host: pending.client.host,
            address: pending.client.address,
            number: login_number(&pending.client.jkt),
            csrf,
            redirect,
            is_paste: matches!(pending.target, Target::Paste { .. }),
            is_device: matches!(pending.target, Target::Device { .. }),
        })
    }

    /// Takes the person's decision. The login leaves this browser with it, whatever it is.
    ///
    /// # Errors
    /// When the CSRF token is another page's, or the login is over.
    pub async fn confirm(
        &self,
        cookie: Option<&str>,
        csrf: Option<&str>,
        go_on: bool,
        address: IpAddr,
    ) -> Result<Confirmed, LoginError> {
        let (mut row, mut pending) = self.pending(cookie).await?;
        let Stage::Confirming { person, csrf: expected } = pending.stage else { return Err(LoginError::Over) };
        if !bool::from(csrf.unwrap_or_default().as_bytes().ct_eq(expected.as_bytes())) {
            self.refused(address, Code::NotLoggedIn);
            return Err(LoginError::Over);
        }
        if !go_on {
            self.store.drop_login(row.id).await?;
            self.logins.end(pending.client.address);
            self.refused(address, Code::Refused);
            return self.cancelled(&pending.target).await;
        }
        if let Target::Device { user_code } = &pending.target {
            let decision = Decision::Approved { provider: pending.provider.clone(), person };
            // the browser's login ends first: of two parallel confirmations one approves
            let user_code = user_code.clone();
            pending.stage = Stage::Exchanging;
            self.advance(&mut row, &pending).await?;
            self.decide(&user_code, decision).await?;
            self.store.drop_login(row.id).await?;
            self.logins.end(pending.client.address);
            return Ok(Confirmed::Device);
        }
        let code = entropy::secret()?;
        pending.stage = Stage::Released { person };
        row.code_hash = Some(hash(&code));
        row.expires_at = self.clock.now().saturating_add(CODE_LIFE).unwrap_or(Timestamp::MAX);
        self.advance(&mut row, &pending).await?;
        match &pending.target {
            Target::Loopback { redirect_uri, state, .. } => {
                let mut to = Url::parse(redirect_uri).map_err(|_| LoginError::Over)?;
                to.query_pairs_mut().append_pair("code", &code);
                self.finish(&mut to, Some(state));
                Ok(Confirmed::Redirect(to))
            }
            Target::Paste { .. } | Target::Device { .. } => Ok(Confirmed::Code(code)),
            // never here: the browser that begins such a login is the one that gets it
            Target::Page { .. } => Err(LoginError::Over),
        }
    }

    async fn cancelled(&self, target: &Target) -> Result<Confirmed, LoginError> {
        match target {
            Target::Loopback { redirect_uri, state, .. } => {
                let mut to = Url::parse(redirect_uri).map_err(|_| LoginError::Over)?;
                to.query_pairs_mut()
                    .append_pair("error", "access_denied")
                    .append_pair("error_description", "the login was cancelled in the browser");
                self.finish(&mut to, Some(state));
                Ok(Confirmed::Redirect(to))
            }
            Target::Paste { .. } | Target::Page { .. } => Ok(Confirmed::Cancelled),
            Target::Device { user_code } => {
                self.decide(user_code, Decision::Denied).await?;
                Ok(Confirmed::Cancelled)
            }
        }
    }

    async fn decide(&self, user_code: &str, decision: Decision) -> Result<(), LoginError> {
        let row = self.store.device_by_user_code(user_code, self.clock.now()).await?;
        let mut row = row.ok_or(LoginError::UserCode)?;
        let device = self.read_device(&row)?;
        if !matches!(device.decision, Decision::Waiting) {
            return Err(LoginError::UserCode);
        }
        self.keep_device(&mut row, &Device { decision, ..device })?;
        match self.store.advance_device(row).await? {
            true => Ok(()),
            false => Err(LoginError::UserCode),
        }
    }
}
