//! Sessions: who calls, and logging out.

use std::net::IpAddr;

use ichor_wire::log::Kind;
use ichor_wire::problem::Code;
use jiff::{SignedDuration, Timestamp};

use super::dpop::{Body, For, Proof};
use super::settings::{CLIENT_ID, PAGE_IDLE};
use super::{Login, OauthError, ProofError, about, hash};
use crate::audit::RecordError;
use crate::domain::{Person, SessionId};
use crate::store::{Change, Condition, SessionRow, StoreError};

/// The longest token presented, in bytes; ours have 43.
const LONGEST_TOKEN: usize = 256;

/// How often a session's use is written down.
const TOUCH: SignedDuration = SignedDuration::from_mins(1);

/// What a request presents.
#[derive(Clone, Copy, Debug)]
pub struct Presented<'a> {
    /// The `Authorization` header.
    pub authorization: Option<&'a str>,
    /// The values of the `DPoP` headers.
    pub proofs: &'a [&'a str],
    /// The method.
    pub method: &'a str,
    /// The path, without query.
    pub path: &'a str,
    /// Where the request came from.
    pub address: IpAddr,
}

/// A live session whose token and key a request proved to have. Whether the body is the one that the proof names, and whether
/// the proof was used before, is still to be seen: [`Login::admit`].
#[derive(Debug)]
pub struct Proven {
    row: SessionRow,
    proof: Proof,
    is_read: bool,
    address: IpAddr,
}

/// Why a request has no session.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum SessionError {
    /// No token, or none of ours.
    #[error("the request has no valid session")]
    NotLoggedIn,
    /// The session is over.
    #[error("the session has ended: {0}")]
    Ended(&'static str),
    /// The proof does not hold.
    #[error(transparent)]
    Proof(#[from] ProofError),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
}

// === impl Login ===

impl Login {
    /// The session whose token and key the request proves to have. Nothing of its body is needed: so nobody's is waited for
    /// who has no session.
    ///
    /// # Errors
    /// When there is none, or the proof does not hold.
    pub async fn prove(&self, presented: &Presented<'_>) -> Result<Proven, SessionError> {
        let result = self.try_prove(presented).await;
        result.inspect_err(|error| self.count(error, presented.address))
    }

    /// The live session, once the body's digest stands in the proof (unless the method is `GET` or `HEAD`) and the proof is
    /// used up. Says nothing about what the person may do; before a grant, ask for [`Login::fresh_identity`].
    ///
    /// # Errors
    /// When the proof is for another body or was used before, or the session is over.
    pub async fn admit(&self, proven: Proven, body: &[u8]) -> Result<SessionRow, SessionError> {
        let Proven { row, proof, is_read, address } = proven;
        let body = if is_read { Body::Free } else { Body::Told(body) };
        let result = self.use_up(&row, &proof, body).await;
        result.inspect_err(|error| self.count(error, address))?;
        self.touch(&row).await;
        Ok(row)
    }

    async fn try_prove(&self, presented: &Presented<'_>) -> Result<Proven, SessionError> {
        let token = presented.authorization.and_then(dpop_token).ok_or(SessionError::NotLoggedIn)?;
        let (row, proof) = self.holder(token, presented.proofs, presented.method, presented.path).await?;
        let is_read = matches!(presented.method, "GET" | "HEAD");
        Ok(Proven { row, proof, is_read, address: presented.address })
    }

    /// The session of `token`, and the proof, made for this request with the session's key.
    async fn holder(
        &self,
        token: &str,
        proofs: &[&str],
        method: &str,
        path: &str,
    ) -> Result<(SessionRow, Proof), SessionError> {
        let now = self.clock.now();
        let row = self.store.session_by_token(&hash(token)).await?.ok_or(SessionError::NotLoggedIn)?;
        let row = self.vouched(row).map_err(|_| SessionError::NotLoggedIn)?;
        if row.page.is_some() {
            return Err(SessionError::NotLoggedIn);
        }
        let [proof] = proofs else { return Err(ProofError::Missing.into()) };
        let what = For { method, url: &self.at(path), token: Some(token) };
        let proof = self.dpop.verify(proof, &what, now)?;
        if proof.jkt() != row.jkt {
            return Err(ProofError::OtherKey.into());
        }
        Ok((row, proof))
    }

    /// Uses up a proof for this body; the session must be live.
    async fn use_up(&self, row: &SessionRow, proof: &Proof, body: Body<'_>) -> Result<(), SessionError> {
        let now = self.clock.now();
        proof.check_body(body)?;
        self.dpop.use_up(proof, now)?;
        self.use_up_everywhere(proof, now).await?;
        match self.over(row, now) {
            None => Ok(()),
            Some(why) => {
                if row.ended_at.is_none() {
                    // recorded once; whether that works now changes nothing for the caller
                    let _ = self.end(row, why, None).await;
                }
                Err(SessionError::Ended(why))
            }
        }
    }

    /// Uses the proof up at every broker.
    pub(super) async fn use_up_everywhere(&self, proof: &Proof, now: Timestamp) -> Result<(), SessionError> {
        let (id, until) = proof.elsewhere(now);
        if self.store.use_once(id, until).await? { Ok(()) } else { Err(ProofError::Replayed.into()) }
    }

    fn count(&self, error: &SessionError, address: IpAddr) {
        if !matches!(error, SessionError::Store(_) | SessionError::Proof(ProofError::UseNonce)) {
            self.refused(address, error.code());
        }
    }

    /// Why the session is over, if it is.
    pub(super) fn over(&self, row: &SessionRow, now: Timestamp) -> Option<&'static str> {
        let idle = self.settings.idle.into_iter().chain(row.page.map(|_| PAGE_IDLE)).min();
        let idle = idle.is_some_and(|idle| now.duration_since(row.used_at) > idle);
        let provider = self.provider(row.person.provider.as_str());
        if row.ended_at.is_some() {
            Some("it was ended")
        } else if now >= row.expires_at {
            Some("its time is over")
        } else if idle {
            Some("it was not used for too long")
        } else if provider.is_none_or(|provider| provider.settings.issuer != row.person.issuer) {
            Some("its provider is no longer configured")
        } else {
            None
        }
    }

    /// Ends the session: entry and end in one commit. After that, and without waiting for it, the provider gets its token
    /// back.
    pub(super) async fn end(&self, row: &SessionRow, why: &str, address: Option<IpAddr>) -> Result<(), RecordError> {
        let mut content = about(Kind::SessionEnd, row);
        content.message = Some(why.into());
        content.address = address.map(|address| address.to_string());
        let change = Change::SessionEnd { session: row.id, now: self.clock.now() };
        match self.sequencer.note(content, Some(change)).await {
            Ok(_) => {
                self.give_back(row.id, row.person.provider.as_str(), row.refresh_sealed.as_deref());
                Ok(())
            }
            // ended by someone else meanwhile: as wanted
            Err(RecordError::Refused(Condition::SessionEnded)) => Ok(()),
            Err(error) => Err(error),
        }
    }

    /// Begins to revoke what the provider gave for a session that is over (RFC 7009), once, as well as it can be done: here
    /// the session has ended already, so nobody waits for it and nothing depends on it. The calls have a deadline. A session
    /// that nobody presents again after its time gives nothing back; the provider's own limits end that token.
    pub(super) fn give_back(&self, session: SessionId, alias: &str, sealed: Option<&[u8]>) {
        let Some(token) = sealed.and_then(|sealed| self.unseal(session, sealed)) else { return };
        let Some(provider) = self.provider(alias).cloned() else { return };
        tokio::spawn(async move {
            match provider.revoke(&token).await {
                Ok(true) => tracing::debug!(%session, "the provider revoked the session's token"),
                Ok(false) => tracing::debug!(%session, "the provider offers no revocation"),
                Err(error) => tracing::warn!(%session, %error, "the session's token could not be revoked"),
            }
        });
    }

    pub(super) async fn touch(&self, row: &SessionRow) {
        let now = self.clock.now();
        if now.duration_since(row.used_at) < TOUCH {
            return;
        }
        if let Err(error) = self.store.touch_session(row.id, now).await {
            tracing::warn!(session = %row.id, %error, "a session's use was not noted");
        }
    }

    /// Logs out (RFC 7009): the session ends, once the token's key is proven. A token that opens nothing is no error.
    ///
    /// # Errors
    /// When the proof does not hold, or the end cannot be recorded.
    pub async fn revoke(
        &self,
        client_id: Option<&str>,
        token: &str,
        proofs: &[&str],
        body: &[u8],
        address: IpAddr,
    ) -> Result<(), OauthError> {
        if client_id != Some(CLIENT_ID) {
            return Err(OauthError::new("invalid_client", "the `client_id` is not `ichor`"));
        }
        if token.is_empty() || token.len() > LONGEST_TOKEN {
            return Ok(());
        }
        let proven = async {
            let (row, proof) = self.holder(token, proofs, "POST", "/oauth/revoke").await?;
            self.use_up(&row, &proof, Body::Told(body)).await?;
            Ok(row)
        };
        match proven.await {
            Ok(row) => Ok(self.end(&row, "logged out", Some(address)).await?),
            Err(SessionError::NotLoggedIn | SessionError::Ended(_)) => Ok(()),
            Err(SessionError::Proof(error)) => Err(error.into()),
            Err(SessionError::Store(error)) => Err(error.into()),
        }
    }
}

/// The token of `Authorization: DPoP <token>`. A bearer's presentation is refused: it would skip the proof (RFC 9449 §7.2).
fn dpop_token(authorization: &str) -> Option<&str> {
    let (scheme, token) = authorization.split_once(' ')?;
    let fits = token.len() <= LONGEST_TOKEN && token.bytes().all(|b| b.is_ascii_graphic()) && !token.is_empty();
    (scheme.eq_ignore_ascii_case("dpop") && fits).then_some(token)
}

// === impl Proven ===

impl Proven {
    /// Whose session it is.
    #[must_use]
    pub fn person(&self) -> &Person {
        &self.row.person
    }
}

// === impl SessionError ===

impl SessionError {
    /// The problem code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::NotLoggedIn => Code::NotLoggedIn,
            Self::Ended(_) => Code::SessionEnded,
            Self::Proof(ProofError::UseNonce) => Code::UseNonce,
            Self::Proof(ProofError::Full) => Code::Unavailable,
            Self::Proof(_) => Code::BadProof,
            Self::Store(_) => Code::StoreUnavailable,
        }
    }
}
