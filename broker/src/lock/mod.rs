//! Locks: from its entry on nothing is issued, at no broker, for what a lock is on.
//!
//! ```text
//! lock ◆ ─▶ every grant, every finished certificate, every break-glass request and approval looks for it in its own transaction
//! unlock ◆, or its time is over
//! ```
//!
//! There is no memory of locks to grow old: the database is asked within the transaction that records what a lock would stop. So of a
//! lock and a grant one comes first, and the log has them in that order.
//!
//! Some acts go on whatever is locked, or a lock could not be lifted, nor seen: logging in (but for a locked user), locking, lifting,
//! reading the audit; what takes away, as denying or revoking a break-glass request; and the broker's own certificates, which a CA that
//! is replaced in an emergency needs.

mod asked;
mod book;
mod error;
mod ledger;
mod outstanding;
mod times;

#[cfg(test)]
mod tests;

use std::net::IpAddr;
use std::sync::Arc;

use ichor_wire::log::{Content, Kind};
use tokio::sync::watch;

use crate::domain::{Cluster, ClusterName, Clusters, LockId, LockKind, LockTarget};
use crate::identity::Identity;
use crate::mint::person;
use crate::policy::{self, AuditScope, LockAct, PolicySet};
use crate::store::{KnownPerson, LockRow};
pub use asked::MayAsk;
pub use book::{Book, LONGEST, MOST, MOST_OWN, SHORTEST, Who};
pub use error::LockError;
pub use ledger::Ledger;
pub use outstanding::{Outstanding, beyond, outstanding};

/// The most locks listed.
pub(crate) const LISTED: u32 = 2_000;

/// The most people of one name.
const NAMESAKES: u32 = 20;

/// Locks as people set and lift them: what policy lets them. One for the whole broker.
pub struct Locks {
    book: Book,
    policies: watch::Receiver<Arc<PolicySet>>,
    clusters: watch::Receiver<Clusters>,
}

/// How someone wants a lock lifted.
#[derive(Clone, Debug)]
pub struct Lifting {
    /// Why.
    pub reason: String,
    /// Whether it confirms what another person asked for.
    pub confirms: bool,
    /// Where the request came from.
    pub address: IpAddr,
}

impl Locks {
    /// Locks over the values that `app` publishes.
    #[must_use]
    pub fn new(book: Book, policies: watch::Receiver<Arc<PolicySet>>, clusters: watch::Receiver<Clusters>) -> Self {
        Self { book, policies, clusters }
    }

    /// Returns the lock once it is recorded: nothing is recorded behind it that it stops, and the sessions that it is on are over. A
    /// refusal of policy is recorded too.
    ///
    /// # Errors
    /// When policy does not let this person lock, or the lock cannot be.
    pub async fn set(
        &self,
        identity: &Identity,
        target: LockTarget,
        seconds: Option<u64>,
        reason: String,
        address: IpAddr,
    ) -> Result<LockRow, LockError> {
        let base = Content { reason: Some(reason.clone()), ..by(identity, address) };
        self.permitted(identity, LockAct::Lock, &target, base.clone()).await?;
        self.book.set(Who::Person(identity), base, target, seconds, reason).await
    }

    /// Returns the lock once it is lifted; one of everything, once that is asked for, or was asked for by another and is confirmed.
    ///
    /// # Errors
    /// When policy does not let this person lift it, it does not hold, or another person is needed: also where whoever asked is locked,
    /// logged in no more, or not let by policy any more.
    pub async fn lift(&self, identity: &Identity, id: LockId, lifting: Lifting) -> Result<LockRow, LockError> {
        let lock = self.visible(identity, id).await?;
        let base = Content { reason: Some(lifting.reason.clone()), ..by(identity, lifting.address) };
        self.permitted(identity, LockAct::Unlock, &lock.target, base.clone()).await?;
        let policies = self.policies();
        // a lock of everything is on no cluster
        let may_ask = |asker: &Identity, at| {
            policy::may_lock(&policies, asker, LockAct::Unlock, LockKind::Everything, None, at).is_ok()
        };
        self.book.lift(Who::Person(identity), base, &lock, &lifting.reason, lifting.confirms, &may_ask).await
    }

    /// The locks that this person may see, newest first: those that they may set or lift, and to whoever reads the whole audit, all.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn list(&self, identity: &Identity, with_ended: bool) -> Result<Vec<LockRow>, LockError> {
        let mut locks = self.book.list(with_ended).await?;
        locks.retain(|lock| self.may_see(identity, &lock.target));
        Ok(locks)
    }

    /// Whoever has logged in with exactly this subject or value behind `user:`; for those who may lock
    /// users, or lift that.
    ///
    /// # Errors
    /// When policy does not let this person do either, or the store cannot be read.
    pub async fn people(&self, identity: &Identity, name: &str) -> Result<Vec<KnownPerson>, LockError> {
        let (policies, now) = (self.policies(), self.book.now());
        let may = |act| policy::may_lock(&policies, identity, act, LockKind::User, None, now);
        may(LockAct::Lock).or_else(|refusal| may(LockAct::Unlock).map_err(|_| LockError::Refused(refusal)))?;
        self.book.people(name).await
    }

    /// The lock that a target of its kind names, with what only the log knows of it.
    ///
    /// # Errors
    /// When there is no such grant in the log.
    pub async fn grant(&self, id: crate::domain::GrantId) -> Result<LockTarget, LockError> {
        self.book.grant(id).await
    }

    async fn visible(&self, identity: &Identity, id: LockId) -> Result<LockRow, LockError> {
        let lock = self.book.find(id).await?;
        if self.may_see(identity, &lock.target) { Ok(lock) } else { Err(LockError::Unknown) }
    }

    fn may_see(&self, identity: &Identity, target: &LockTarget) -> bool {
        let (policies, now, cluster) = (self.policies(), self.book.now(), self.cluster_of(target));
        let may = |act| policy::may_lock(&policies, identity, act, target.kind(), cluster.as_deref(), now).is_ok();
        may(LockAct::Lock)
            || may(LockAct::Unlock)
            || policy::may_read_audit(&policies, identity, AuditScope::Everything, now).is_ok()
    }

    async fn permitted(
        &self,
        identity: &Identity,
        act: LockAct,
        target: &LockTarget,
        base: Content,
    ) -> Result<(), LockError> {
        let (policies, now, cluster) = (self.policies(), self.book.now(), self.cluster_of(target));
        let Err(refusal) = policy::may_lock(&policies, identity, act, target.kind(), cluster.as_deref(), now) else {
            return Ok(());
        };
        let content = Content {
            code: Some(refusal.code.as_str().into()),
            message: Some(refusal.sentence.clone()),
            policies: Some(refusal.policies.clone()),
            policy_digest: Some(policies.digest().to_vec()),
            ..book::about(Kind::Refusal, target, base)
        };
        self.book.note(content).await?;
        Err(LockError::Refused(refusal))
    }

    fn policies(&self) -> Arc<PolicySet> {
        Arc::clone(&self.policies.borrow())
    }

    /// The cluster that a lock is about, if it is declared.
    fn cluster_of(&self, target: &LockTarget) -> Option<Arc<Cluster>> {
        let name: &ClusterName = match target {
            LockTarget::Cluster(name) | LockTarget::Grant { renewals: Some((_, name)), .. } => name,
            _ => return None,
        };
        self.clusters.borrow().get(name).cloned()
    }
}

impl std::fmt::Debug for Locks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Locks").finish_non_exhaustive()
    }
}

/// What an entry says of the person who acts.
fn by(identity: &Identity, address: IpAddr) -> Content {
    Content {
        person: Some(person(identity)),
        session: identity.session().map(|id| id.0.as_bytes().to_vec()),
        address: Some(address.to_string()),
        ..Content::of(Kind::Lock)
    }
}
