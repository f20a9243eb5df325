//! Sessions of browsers at the pages. The browser that begins such a login is the one that gets the session, so nothing has to be
//! confirmed; its cookie is bound to no key, so it opens nothing but the pages, and only for a short time.

use std::net::IpAddr;

use ichor_wire::problem::Code;
use jiff::SignedDuration;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::ask::Stronger;
use super::authorize::Start;
use super::pending::{Client, Known, Pending, Stage, Target};
use super::session::SessionError;
use super::token::Ready;
use super::{Login, LoginError, OauthError, hash};
use crate::audit::RecordError;
use crate::domain::SessionId;
use crate::entropy;
use crate::store::{PendingLogin, SessionRow};

/// The longest cookie presented, in bytes; ours have 43.
const LONGEST_COOKIE: usize = 256;

/// What forms are marked for.
const FORM: &[u8] = b"ichor page form 1\0";

/// What a fresh login at the provider is made for.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Deciding {
    /// The break-glass request.
    pub request: Uuid,
    /// SHA-256 of its contents.
    pub hash: [u8; 32],
    /// The authentication context to ask for, beside what is configured.
    pub acr: Option<String>,
}

/// A browser is signed in.
#[derive(Debug)]
pub struct PageOpened {
    /// The cookie's value.
    pub cookie: Zeroizing<String>,
    /// The path of ours that it goes on to.
    pub to: String,
}

/// Why a browser has no session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum PageError {
    /// It has none, or none any more.
    #[error("the browser is not signed in")]
    SignedOut,
    /// The form is not of this session's page.
    #[error("the form is not of this browser's page")]
    Form,
    /// The store failed.
    #[error(transparent)]
    Session(#[from] SessionError),
    /// The end could not be recorded.
    #[error(transparent)]
    Record(#[from] RecordError),
}

// === impl Login ===

impl Login {
    /// Begins a login in a browser that leads to `to`, a path of ours; with `deciding`, one in which the provider asks the person
    /// anew. The session that it follows ends with it.
    ///
    /// # Errors
    /// When the provider is out, or too many logins are under way.
    pub async fn sign_in(
        &self,
        to: String,
        deciding: Option<Deciding>,
        follows: Option<&SessionRow>,
        alias: Option<&str>,
        address: IpAddr,
    ) -> Result<Start, LoginError> {
        let client = Client { jkt: String::new(), host: String::new(), address };
        let decide = deciding.as_ref().map(|deciding| (deciding.request, deciding.hash));
        let stronger = match deciding {
            Some(deciding) => Stronger { acr_values: deciding.acr, max_age: Some(SignedDuration::ZERO), prompt: true },
            None => Stronger::default(),
        };
        let target = Target::Page { to, decide, follows: follows.map(|row| row.id.0) };
        let begun = self.choose_and_begin(target, client, alias, stronger).await;
        begun.inspect_err(|error| self.refused(address, error.problem()))
    }

    /// The person is known: their browser gets its session. Returns once that is durable.
    pub(super) async fn open_page(
        &self,
        mut row: PendingLogin,
        mut pending: Pending,
        person: Known,
        address: IpAddr,
    ) -> Result<PageOpened, LoginError> {
        let (page, target) = (pending.target.page(), pending.target.clone());
        let Target::Page { to, follows, .. } = target else { return Err(LoginError::Over) };
        let code_hash = hash(&entropy::secret()?);
        row.code_hash = Some(code_hash);
        pending.stage = Stage::Exchanging;
        self.advance(&mut row, &pending).await?;
        let began = pending.client.address;
        let ready = Ready { provider: pending.provider, person, client: pending.client, page };
        let opened = self.open_session(ready, code_hash, address, self.clock.now()).await;
        self.logins.end(began);
        let opened = opened.map_err(broken)?;
        metrics::counter!("ichor_logins_total").increment(1);
        if let Some(old) = follows {
            self.end_followed(SessionId(old), address).await;
        }
        Ok(PageOpened { cookie: opened.access_token, to })
    }

    /// The session of this browser, live.
    ///
    /// # Errors
    /// When there is none.
    pub async fn at_page(&self, cookie: Option<&str>, address: IpAddr) -> Result<SessionRow, PageError> {
        let cookie = cookie.filter(|cookie| cookie.len() <= LONGEST_COOKIE).ok_or(PageError::SignedOut)?;
        let found = self.store.session_by_token(&hash(cookie)).await.map_err(SessionError::from)?;
        let row = found.and_then(|row| self.vouched(row).ok()).filter(|row| row.page.is_some());
        let Some(row) = row else {
            self.refused(address, Code::NotLoggedIn);
            return Err(PageError::SignedOut);
        };
        if let Some(why) = self.over(&row, self.clock.now()) {
            if row.ended_at.is_none() {
                // recorded once; whether that works now changes nothing for the caller
                let _ = self.end(&row, why, None).await;
            }
            return Err(PageError::SignedOut);
        }
        self.touch(&row).await;
        Ok(row)
    }

    /// The mark of a form that this session's page shows, for `what` it does. No other page can know it.
    #[must_use]
    pub fn form_mark(&self, session: &SessionRow, what: &str) -> String {
        data_encoding::HEXLOWER.encode(&self.data_key.tag(FORM, &marked(session, what)))
    }

    /// Whether a form is one of this session's page.
    ///
    /// # Errors
    /// When it is not: then nobody may do what it says.
    pub fn check_form(
        &self,
        session: &SessionRow,
        what: &str,
        mark: Option<&str>,
        address: IpAddr,
    ) -> Result<(), PageError> {
        let mark = mark.and_then(|mark| data_encoding::HEXLOWER.decode(mark.as_bytes()).ok()).unwrap_or_default();
        if self.data_key.has_tagged(FORM, &marked(session, what), &mark) {
            return Ok(());
        }
        self.refused(address, Code::NotLoggedIn);
        Err(PageError::Form)
    }

    /// Signs the browser out. Returns once that is recorded.
    ///
    /// # Errors
    /// When it cannot be.
    pub async fn sign_out(&self, session: &SessionRow, address: IpAddr) -> Result<(), PageError> {
        Ok(self.end(session, "signed out at the pages", Some(address)).await?)
    }

    async fn end_followed(&self, old: SessionId, address: IpAddr) {
        let row = match self.store.session(old).await {
            Ok(row) => row.filter(|row| row.page.is_some() && row.ended_at.is_none()),
            Err(error) => return tracing::warn!(session = %old, %error, "a browser's former session was not ended"),
        };
        let Some(row) = row else { return };
        if let Err(error) = self.end(&row, "signed in anew at the pages", Some(address)).await {
            tracing::warn!(session = %old, %error, "a browser's former session was not ended");
        }
    }
}

/// The session with its secret, and what the form does.
fn marked(session: &SessionRow, what: &str) -> Vec<u8> {
    [session.id.0.as_bytes().as_slice(), &session.token_hash, what.as_bytes()].concat()
}

fn broken(error: OauthError) -> LoginError {
    match error.code {
        "access_denied" => LoginError::Denied(error.description),
        _ => LoginError::Broken(error.description),
    }
}
