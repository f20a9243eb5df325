//! From a one-time code to a session: one entry and one session in one commit, or nothing.

use std::net::IpAddr;

use ichor_wire::log::{Content, Kind};
use ichor_wire::problem::Code;
use jiff::{SignedDuration, Timestamp};
use serde::{Serialize, Serializer};
use subtle::ConstantTimeEq;
use uuid::Uuid;
use zeroize::Zeroizing;

use super::ask::s256;
use super::dpop::{Body, For, Proof};
use super::pending::{Client, Decision, Known, Stage};
use super::settings::{CLIENT_ID, LONGEST_PAGE_SESSION, LONGEST_UNCHECKED_SESSION};
use super::{Login, OauthError, ProofError, Recheck, about, hash};
use crate::audit::RecordError;
use crate::domain::PageUse;
use crate::entropy;
use crate::identity::vouch;
use crate::store::{Change, Condition, SessionRow};

/// A token request as it came.
#[derive(Debug)]
pub struct TokenRequest<'a> {
    /// `client_id`.
    pub client_id: Option<&'a str>,
    /// What is exchanged.
    pub grant: TokenGrant<'a>,
    /// The values of the `DPoP` headers.
    pub proofs: &'a [&'a str],
    /// The body, as it came over the wire.
    pub body: &'a [u8],
    /// Where the request came from.
    pub address: IpAddr,
}

/// What is exchanged for a token.
#[derive(Clone, Copy, Debug)]
pub enum TokenGrant<'a> {
    /// A code of a confirmed login (`authorization_code`).
    Code {
        /// `code`.
        code: &'a str,
        /// `code_verifier`.
        verifier: &'a str,
        /// `redirect_uri`, as at the beginning.
        redirect_uri: &'a str,
    },
    /// A device code (RFC 8628).
    Device {
        /// `device_code`.
        device_code: &'a str,
    },
}

/// The answer: a token that opens a session, together with the key that it is bound to.
#[derive(Debug, Serialize)]
pub struct TokenAnswer {
    /// The token, opaque.
    #[serde(serialize_with = "as_text")]
    pub access_token: Zeroizing<String>,
    /// Always `DPoP`.
    pub token_type: &'static str,
    /// Seconds until the session ends whatever happens.
    pub expires_in: u64,
    /// The session's id, as the audit names it.
    pub session_id: Uuid,
}

/// A login that may become a session.
pub(super) struct Ready {
    pub(super) provider: String,
    pub(super) person: Known,
    pub(super) client: Client,
    /// What the session may do at the pages, where it will be a browser's.
    pub(super) page: Option<PageUse>,
}

// === impl Login ===

impl Login {
    /// Exchanges a code for a session. Returns once entry and session are durable.
    ///
    /// # Errors
    /// In the codes of RFC 6749 §5.2, RFC 8628 §3.5 and RFC 9449 §8.
    pub async fn token(&self, request: &TokenRequest<'_>) -> Result<TokenAnswer, OauthError> {
        let result = self.try_token(request).await;
        result.inspect_err(|error| {
            if let Some(code) = error.problem() {
                self.refused(request.address, code);
            }
        })
    }

    async fn try_token(&self, request: &TokenRequest<'_>) -> Result<TokenAnswer, OauthError> {
        if request.client_id != Some(CLIENT_ID) {
            return Err(OauthError::new("invalid_client", "the `client_id` is not `ichor`"));
        }
        let now = self.clock.now();
        let [proof] = request.proofs else { return Err(ProofError::Missing.into()) };
        let url = self.at("/oauth/token");
        let what = For { method: "POST", url: &url, token: None };
        let proof = self.dpop.verify(proof, &what, now)?;
        proof.check_body(Body::IfTold(request.body))?;
        let (ready, code) = match request.grant {
            TokenGrant::Code { code, verifier, redirect_uri } => {
                (self.released(code, verifier, redirect_uri, now).await?, code)
            }
            TokenGrant::Device { device_code } => (self.approved(device_code, &proof, now).await?, device_code),
        };
        if proof.jkt() != ready.client.jkt {
            return Err(ProofError::OtherKey.into());
        }
        self.dpop.use_up(&proof, now)?;
        let (id, until) = proof.elsewhere(now);
        if !self.store.use_once(id, until).await? {
            return Err(ProofError::Replayed.into());
        }
        let (began, under_way) = match request.grant {
            TokenGrant::Code { .. } => (ready.client.address, &self.logins),
            TokenGrant::Device { .. } => (ready.client.address, &self.devices),
        };
        let opened = self.open_session(ready, hash(code), request.address, now).await;
        opened.inspect(|_| {
            under_way.end(began);
            metrics::counter!("ichor_logins_total").increment(1);
        })
    }

    /// The confirmed login with this code, if the verifier fits. The code is not used up yet: that happens with the entry.
    async fn released(
        &self,
        code: &str,
        verifier: &str,
        redirect_uri: &str,
        now: Timestamp,
    ) -> Result<Ready, OauthError> {
        let row = self.store.login_by_code(&hash(code), now).await?.ok_or_else(OauthError::invalid_grant)?;
        let pending = self.read_pending(&row)?;
        let (Stage::Released { person }, Some((expected, challenge))) = (pending.stage, pending.target.redirect())
        else {
            return Err(OauthError::invalid_grant());
        };
        // RFC 7636 §4.1: 43 to 128 characters
        let fits = (43..=128).contains(&verifier.len())
            && bool::from(s256(verifier).as_bytes().ct_eq(challenge.as_bytes()))
            && redirect_uri == expected;
        if !fits {
            return Err(OauthError::new("invalid_grant", "`code_verifier` or `redirect_uri` do not fit the code"));
        }
        Ok(Ready { provider: pending.provider, person: *person, client: pending.client, page: None })
    }

    /// The approved device login with this code.
    async fn approved(&self, device_code: &str, proof: &Proof, now: Timestamp) -> Result<Ready, OauthError> {
        if !self.settings.device {
            return Err(OauthError::new("unsupported_grant_type", "device logins are switched off at this broker"));
        }
        let code_hash = hash(device_code);
        let row = self.store.device_by_code(&code_hash, now).await?;
        let row = row.ok_or_else(|| OauthError::new("expired_token", "the device code is unknown or has expired"))?;
        let device = self.read_device(&row)?;
        if proof.jkt() != device.client.jkt {
            return Err(ProofError::OtherKey.into());
        }
        if self.polls.is_too_fast(code_hash, now) {
            return Err(OauthError::new("slow_down", "wait five seconds between two requests"));
        }
        match device.decision {
            Decision::Waiting => Err(OauthError::new("authorization_pending", "nobody has confirmed the login yet")),
            Decision::Denied => Err(OauthError::new("access_denied", "the login was cancelled in the browser")),
            Decision::Approved { provider, person } => {
                Ok(Ready { provider, person: *person, client: device.client, page: None })
            }
        }
    }

    /// The session begins, with its entry, and the pending login with this code is over.
    pub(super) async fn open_session(
        &self,
        ready: Ready,
        code_hash: [u8; 32],
        address: IpAddr,
        now: Timestamp,
    ) -> Result<TokenAnswer, OauthError> {
        let provider = self.provider(&ready.provider).ok_or_else(OauthError::invalid_grant)?;
        let life = match provider.settings.recheck {
            Recheck::LoginOnly => self.settings.session_life.min(LONGEST_UNCHECKED_SESSION),
            Recheck::Refresh | Recheck::Userinfo => self.settings.session_life,
        };
        let life = if ready.page.is_some() { life.min(LONGEST_PAGE_SESSION) } else { life };
        let access_token = entropy::secret()?;
        let expires_at = now.saturating_add(life).unwrap_or(now);
        let client = ready.client;
        let (token_hash, times) = (hash(&access_token), (now, expires_at));
        let alias = provider.settings.alias();
        let mut row = ready.person.into_session(alias, client.jkt, token_hash, ready.page, times);
        vouch(&mut row, &self.data_key);
        let session_id = row.id.0;
        let mut content = about(Kind::Login, &row);
        content.address = Some(address.to_string());
        content.host = (!client.host.is_empty()).then_some(client.host);
        content.channel = row.page.map(|_| "page".into());
        content.not_after = Some(expires_at.as_second());
        content.message = describe(&row, client.address, address);
        let change = Change::SessionCreate { session: Box::new(row), code_hash, now };
        let refusal = Content {
            kind: Kind::Refusal,
            code: Some(Code::Locked.as_str().into()),
            message: Some("a locked user does not log in".into()),
            session: None,
            not_after: None,
            ..content.clone()
        };
        match self.sequencer.note(content, Some(change)).await {
            Err(error @ RecordError::Refused(Condition::Locked)) => {
                self.sequencer.note(refusal, None).await?;
                return Err(error.into());
            }
            other => other?,
        };
        Ok(TokenAnswer { access_token, token_type: "DPoP", expires_in: seconds(life), session_id })
    }
}

/// What else an auditor should see: the strength of the login, and a browser at another address than the client.
fn describe(row: &SessionRow, browser: IpAddr, client: IpAddr) -> Option<String> {
    let acr = row
        .acr
        .as_ref()
        .map(|acr| format!("acr {}", acr.chars().filter(|c| !c.is_control()).take(100).collect::<String>()));
    let elsewhere = (browser != client).then(|| format!("begun from {browser}"));
    let parts: Vec<String> = [acr, elsewhere].into_iter().flatten().collect();
    (!parts.is_empty()).then(|| parts.join(", "))
}

fn seconds(life: SignedDuration) -> u64 {
    u64::try_from(life.as_secs()).unwrap_or(0)
}

fn as_text<S: Serializer>(text: &Zeroizing<String>, serializer: S) -> Result<S::Ok, S::Error> {
    serializer.serialize_str(text)
}
