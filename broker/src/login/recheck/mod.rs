//! Groups are asked again during a session, so that someone who left gets nothing new. One refresh per session at a time;
//! whoever asks meanwhile waits for its result; a provider out of reach is never a yes.

mod ask;
mod flights;

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use ichor_wire::log::Kind;
use ichor_wire::problem::Code;
use jiff::{SignedDuration, Timestamp};
use tokio::time::Instant;
use zeroize::Zeroizing;

use super::{Login, Recheck, about, seal_context};
use crate::audit::RecordError;
use crate::domain::SessionId;
use crate::identity::{Forged, Identity, vouch};
use crate::store::{Change, Condition, SessionRow, StoreError};
use ask::{Asked, ask};
pub(super) use flights::Flights;
use flights::{Flight, Last, Told};

/// Groups older than this are asked again before a grant.
pub(super) const FRESH: SignedDuration = SignedDuration::from_mins(5);

/// How long one broker may take for a refresh before another may try: more than the five provider deadlines that one can need
/// (discovery, keys, tokens, newer keys, userinfo).
const LEASE: SignedDuration = SignedDuration::from_secs(75);

/// How long to wait for another broker's refresh, and how often to look.
const WAIT: Duration = Duration::from_secs(15);
const LOOK: Duration = Duration::from_millis(50);

/// Why there is no fresh identity. Nothing may be granted.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum FreshError {
    /// The provider takes the person, or their groups, back; the session is over.
    #[error("the session has ended: {0}")]
    Ended(String),
    /// The provider cannot tell now. The session stays. The text is for the log.
    #[error("the identity provider cannot confirm the groups now: {0}")]
    Unavailable(String),
    /// The store failed.
    #[error(transparent)]
    Store(#[from] StoreError),
    /// What the provider told could not be recorded.
    #[error(transparent)]
    Record(#[from] RecordError),
}

/// What came of asking for a session's lease.
enum Lease {
    /// It is ours until then.
    Ours(Timestamp),
    /// Another broker had it, and this is what it was told.
    NotNeeded(Box<Identity>),
}

// === impl Login ===

impl Login {
    /// The session's identity with groups no older than [`FRESH`], asking the provider first where needed. What the provider
    /// tells is durable before this returns.
    ///
    /// # Errors
    /// See [`FreshError`].
    pub async fn fresh_identity(self: &Arc<Self>, session: &SessionRow) -> Result<Identity, FreshError> {
        if self.is_fresh(session) {
            return Ok(self.restored(session)?);
        }
        // A task of its own: a caller who hangs up must not drop a rotated token.
        let (login, id) = (Arc::clone(self), session.id);
        let task = tokio::spawn(async move { login.recheck(id).await });
        task.await.unwrap_or_else(|error| Err(FreshError::Unavailable(error.to_string())))
    }

    fn is_fresh(&self, row: &SessionRow) -> bool {
        let never =
            self.provider(row.person.provider.as_str()).is_some_and(|p| p.settings.recheck == Recheck::LoginOnly);
        never || self.clock.now().duration_since(row.groups_at).abs() <= FRESH
    }

    async fn recheck(&self, id: SessionId) -> Result<Identity, FreshError> {
        let flight = self.flights.enter(id);
        let before = flight.finished.load(Ordering::SeqCst);
        let result = {
            let mut last = flight.last.lock().await;
            self.recheck_alone(id, &flight, before, &mut last).await
        };
        self.flights.leave(id, flight);
        result
    }

    async fn recheck_alone(
        &self,
        id: SessionId,
        flight: &Flight,
        before: u64,
        last: &mut Last,
    ) -> Result<Identity, FreshError> {
        let row = self.live(id).await?;
        if self.is_fresh(&row) {
            return Ok(self.restored(&row)?);
        }
        // another one finished while this one waited: its failure is ours too
        if flight.finished.load(Ordering::SeqCst) != before
            && let Some(error) = &last.error
        {
            return Err(error.clone());
        }
        let result = match self.lease(id).await {
            Ok(Lease::Ours(until)) => {
                let result = self.ask_and_record(id, last).await;
                if let Err(error) = self.store.release_refresh(id, until).await {
                    tracing::warn!(session = %id, %error, "a refresh lease was not given back");
                }
                result
            }
            Ok(Lease::NotNeeded(identity)) => Ok(*identity),
            Err(error) => Err(error),
        };
        flight.finished.fetch_add(1, Ordering::SeqCst);
        last.error = result.as_ref().err().cloned();
        result
    }

    /// The session, if it is live.
    async fn live(&self, id: SessionId) -> Result<SessionRow, FreshError> {
        let row = self.store.session(id).await?.ok_or_else(|| FreshError::Ended("it is not known".into()))?;
        let row = self.vouched(row)?;
        match self.over(&row, self.clock.now()) {
            None => Ok(row),
            Some(why) => Err(FreshError::Ended(why.into())),
        }
    }

    /// Takes the session's lease, or waits for another broker that has it: then its result is the answer.
    async fn lease(&self, id: SessionId) -> Result<Lease, FreshError> {
        let deadline = Instant::now().checked_add(WAIT);
        loop {
            let now = self.clock.now();
            let until = now.saturating_add(LEASE).unwrap_or(now);
            if self.store.lease_refresh(id, now, until).await? {
                return Ok(Lease::Ours(until));
            }
            tokio::time::sleep(LOOK).await;
            let row = self.live(id).await?;
            if self.is_fresh(&row) {
                return Ok(Lease::NotNeeded(Box::new(self.restored(&row)?)));
            }
            if deadline.is_none_or(|deadline| Instant::now() >= deadline) {
                return Err(FreshError::Unavailable("another broker's refresh did not end in time".into()));
            }
        }
    }

    async fn ask_and_record(&self, id: SessionId, last: &mut Last) -> Result<Identity, FreshError> {
        // read again under the lease: another broker may have finished just before
        let mut row = self.live(id).await?;
        if let Some(told) = last.unrecorded.clone() {
            self.record(&mut row, told, last).await?;
        }
        if self.is_fresh(&row) {
            return Ok(self.restored(&row)?);
        }
        let asked_at = self.clock.now();
        let Some(provider) = self.provider(row.person.provider.as_str()) else {
            return Err(FreshError::Ended("its provider is no longer configured".into()));
        };
        let secret = row.refresh_sealed.as_deref().and_then(|sealed| self.unseal(id, sealed));
        let Some(secret) = secret else {
            return self.end_for(&row, "its refresh token cannot be opened".into()).await;
        };
        let (asked, rotated) = ask(provider, &row, &secret).await;
        let sealed = match rotated.map(|token| self.data_key.seal(&seal_context(id), token.as_bytes())).transpose() {
            Ok(sealed) => sealed,
            Err(error) => return Err(FreshError::Unavailable(error.to_string())),
        };
        match asked {
            Asked::Groups(groups) => {
                let told = Told { groups: groups.into_iter().collect(), groups_at: asked_at, sealed };
                self.record(&mut row, told, last).await?;
                Ok(self.restored(&row)?)
            }
            Asked::No(why) => {
                // the one that is to be given back: a provider that rotates has used up the other
                row.refresh_sealed = sealed.or(row.refresh_sealed);
                self.end_for(&row, why).await
            }
            Asked::Nothing(why) => {
                if sealed.is_some() {
                    let told = Told { groups: row.groups.clone(), groups_at: row.groups_at, sealed };
                    self.record(&mut row, told, last).await?;
                }
                tracing::warn!(session = %id, why, "groups could not be asked again");
                Err(FreshError::Unavailable(why))
            }
        }
    }

    /// The token that was sealed for this session.
    pub(in crate::login) fn unseal(&self, session: SessionId, sealed: &[u8]) -> Option<Zeroizing<String>> {
        let bytes = self.data_key.open(&seal_context(session), sealed).ok()?;
        std::str::from_utf8(&bytes).ok().map(|text| Zeroizing::new(text.to_owned()))
    }

    async fn end_for(&self, row: &SessionRow, why: String) -> Result<Identity, FreshError> {
        tracing::info!(session = %row.id, why, "session ended");
        self.end(row, &why, None).await?;
        Err(FreshError::Ended(why))
    }

    /// Records what the provider told, and brings `row` up to it. What cannot be recorded now is kept for the next try.
    async fn record(&self, row: &mut SessionRow, told: Told, last: &mut Last) -> Result<(), FreshError> {
        let mut next = SessionRow { groups: told.groups.clone(), groups_at: told.groups_at, ..row.clone() };
        vouch(&mut next, &self.data_key);
        let change = Change::SessionRefresh {
            session: row.id,
            version: row.version,
            groups: told.groups.clone(),
            groups_at: told.groups_at,
            refresh_sealed: told.sealed.clone(),
            tag: next.tag,
            now: self.clock.now(),
        };
        let result = self.sequencer.note(about(Kind::SessionRefresh, row), Some(change)).await;
        last.unrecorded = None;
        match result {
            Ok(_) => {
                next.version += 1;
                next.refresh_sealed = told.sealed.or_else(|| next.refresh_sealed.take());
                *row = next;
                Ok(())
            }
            Err(RecordError::Refused(Condition::SessionEnded)) => {
                // it ended while the provider was asked: the token that came meanwhile is known only here
                self.give_back(row.id, row.person.provider.as_str(), told.sealed.as_deref());
                Err(FreshError::Ended("it was ended".into()))
            }
            Err(RecordError::Refused(Condition::Stale)) => {
                *row = self.live(row.id).await?;
                Ok(())
            }
            Err(error) => {
                last.unrecorded = Some(told);
                Err(error.into())
            }
        }
    }
}

// === impl FreshError ===

impl From<Forged> for FreshError {
    fn from(error: Forged) -> Self {
        Self::Ended(error.to_string())
    }
}

impl FreshError {
    /// The problem code.
    #[must_use]
    pub fn code(&self) -> Code {
        match self {
            Self::Ended(_) => Code::SessionEnded,
            Self::Unavailable(_) => Code::ProviderUnavailable,
            Self::Store(_) => Code::StoreUnavailable,
            Self::Record(RecordError::Overloaded) => Code::Unavailable,
            Self::Record(_) => Code::StoreUnavailable,
        }
    }
}
