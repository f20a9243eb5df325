//! Break-glass: elevated access that others approve.
//!
//! ```text
//! ask ◆ ─▶ approvals, each ◆, over the hash of the exact contents ─▶ quorum ─▶ policy decides with it ─▶ a grant ◆ uses it
//! ─▶ review ◆
//! ```
//!
//! Where policy lets someone in alone, the approvals are replaced by one thing: a sink outside has accepted the notification of
//! exactly this request.
//!
//! Each ◆ is an entry of the log that commits with the change of the request's row, and reads its conditions again. Whoever is to be
//! told of a step reads these entries (kinds `break-glass-…`, and `grant` with a request).
//!
//! The database is not believed: contents and approvals bear the broker's mark, so whoever writes it can end a request or hold it
//! up, but not make one, nor an approval.

mod abandoned;
mod apart;
mod approve;
mod ask;
mod contents;
mod end;
mod error;
mod listing;
mod quorum;
mod suspect;
mod times;
mod told;
mod view;

#[cfg(test)]
mod alone_tests;
#[cfg(test)]
mod restart_tests;
#[cfg(test)]
pub(crate) mod suspect_tests;
#[cfg(test)]
pub(crate) mod tests;

use std::sync::Arc;

use ichor_wire::log::{Content, Kind};
use ichor_wire::problem::Code;
use jiff::SignedDuration;
use tokio::sync::watch;

use crate::audit::{Ledger, RecordError, Sequencer};
use crate::clock::SharedClock;
use crate::custody::DataKey;
use crate::domain::{BreakGlassId, Cluster, ClusterName, Clusters, Human};
use crate::identity::Identity;
use crate::mint::person;
use crate::policy::{NO_HUMAN, NO_HUMAN_HELP, PolicySet, Refusal};
use crate::store::{AskBounds, BreakGlassChange, BreakGlassFile, BreakGlassRow, Change, Condition, LockKeys, Store};
pub use apart::Apart;
pub use approve::FRESH;
pub use ask::Ask;
pub use contents::Contents;
pub use end::Label;
pub use error::BreakGlassError;
pub use quorum::Approved;
pub use times::end_all;
pub use view::{ByPage, Seen};

/// At most so many requests of one human may be pending at once: approvers are not to be flooded.
pub const MOST_OPEN: u64 = 5;

/// How break-glass is configured.
#[derive(Clone, Debug)]
pub struct Settings {
    /// So long after its last use a request should be reviewed.
    pub review_within: SignedDuration,
    /// The sinks outside that are told of requests, as they are in force. Without any nobody lets themselves in.
    pub sinks: watch::Receiver<Vec<String>>,
    /// How the accounts of humans are told apart.
    pub apart: Apart,
    /// How much one human may ask for: approvers are not to be flooded.
    pub bounds: AskBounds,
}

/// The requests. One for the whole broker.
pub struct BreakGlass {
    store: Arc<dyn Store>,
    sequencer: Sequencer,
    ledger: Arc<Ledger>,
    clock: SharedClock,
    data_key: Arc<DataKey>,
    policies: watch::Receiver<Arc<PolicySet>>,
    clusters: watch::Receiver<Clusters>,
    settings: Settings,
}

impl BreakGlass {
    /// Break-glass over the values that `app` publishes. `data_key` marks what the database keeps.
    #[must_use]
    pub fn new(
        store: Arc<dyn Store>,
        sequencer: Sequencer,
        clock: SharedClock,
        data_key: Arc<DataKey>,
        policies: watch::Receiver<Arc<PolicySet>>,
        clusters: watch::Receiver<Clusters>,
        settings: Settings,
    ) -> Self {
        let ledger = Arc::new(Ledger::new(Arc::clone(&store), sequencer.standing()));
        Self { store, sequencer, ledger, clock, data_key, policies, clusters, settings }
    }

    /// What the log says of the requests.
    #[must_use]
    pub fn ledger(&self) -> Arc<Ledger> {
        Arc::clone(&self.ledger)
    }

    /// The request and its contents, if the broker wrote them. What the contents say is taken from there, whatever the row says;
    /// approvals that the broker did not write are left out, and so is an acceptance.
    async fn load(&self, id: BreakGlassId) -> Result<(BreakGlassFile, Contents), BreakGlassError> {
        let mut file = self.store.break_glass(id).await?.ok_or(BreakGlassError::Unknown)?;
        let contents = contents::read(&file.request, &self.data_key).ok_or(BreakGlassError::Unknown)?;
        file.approvals.retain(|row| contents::is_vouched(id, row, &self.data_key));
        file.told = file.told.filter(|row| contents::was_told(id, row, &self.data_key));
        let said = &contents.said;
        let given = quorum::counted(&file, &contents).len();
        file.request = BreakGlassRow {
            cluster: said.cluster.clone(),
            quorum: said.approvals,
            self_service: said.self_service,
            uses: said.uses,
            life: SignedDuration::from_secs(i64::try_from(said.ttl).unwrap_or(i64::MAX)),
            waits_until: said.waits_until,
            given: u64::try_from(given).unwrap_or(u64::MAX),
            ..file.request
        };
        if let Ok((_, opened)) = quorum::backing(&file, &contents) {
            file.request.good_until = Some(quorum::good_until(opened, &contents));
        }
        Ok((file, contents))
    }

    fn cluster(&self, name: &ClusterName) -> Result<Arc<Cluster>, BreakGlassError> {
        let cluster = self.clusters.borrow().get(name).cloned();
        cluster.ok_or_else(|| BreakGlassError::UnknownCluster(name.clone()))
    }

    /// Records the change with its entry, unless a lock stops it: for what could lead to a certificate.
    async fn record_unlocked(
        &self,
        identity: &Identity,
        content: Content,
        change: BreakGlassChange,
    ) -> Result<(), BreakGlassError> {
        let keys = LockKeys::of(identity.person(), identity.session(), content.cluster.clone());
        let change = Change::BreakGlass { change, now: self.clock.now(), keys: Some(Box::new(keys)) };
        let about = content.clone();
        match self.sequencer.note(content, Some(change)).await {
            Err(RecordError::Refused(Condition::Locked)) => {
                let content = Content {
                    code: Some(Code::Locked.as_str().into()),
                    message: Some(Condition::Locked.to_string()),
                    kind: Kind::Refusal,
                    ..about
                };
                self.sequencer.note(content, None).await?;
                Err(RecordError::Refused(Condition::Locked).into())
            }
            other => Ok(other.map(drop)?),
        }
    }

    /// Records the change with its entry, locks or not: it takes something away.
    async fn record(&self, content: Content, change: BreakGlassChange) -> Result<(), BreakGlassError> {
        let change = Change::BreakGlass { change, now: self.clock.now(), keys: None };
        self.sequencer.note(content, Some(change)).await?;
        Ok(())
    }

    /// Records that policy, or a rule of the house, said no.
    async fn refused(&self, content: Content, refusal: Refusal) -> Result<BreakGlassError, BreakGlassError> {
        let content = Content {
            code: Some(refusal.code.as_str().into()),
            message: Some(refusal.sentence.clone()),
            policies: Some(refusal.policies.clone()),
            policy_digest: Some(self.policies.borrow().digest().to_vec()),
            kind: Kind::Refusal,
            ..content
        };
        self.sequencer.note(content, None).await?;
        Ok(BreakGlassError::Refused(refusal))
    }
}

impl std::fmt::Debug for BreakGlass {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("BreakGlass").finish_non_exhaustive()
    }
}

/// The human behind this account, who must be told from others.
fn human(identity: &Identity) -> Result<Human, Refusal> {
    identity.human().ok_or_else(|| Refusal::plain(NO_HUMAN, NO_HUMAN_HELP))
}

/// An entry's content about someone's act on a request.
fn about(kind: Kind, identity: &Identity, contents: &Contents, address: std::net::IpAddr) -> Content {
    let requester = contents.said.user.clone();
    Content {
        person: Some(person(identity)),
        session: identity.session().map(|id| id.0.as_bytes().to_vec()),
        cluster: Some(contents.said.cluster.clone()),
        roles: Some(contents.said.roles.iter().map(ToString::to_string).collect()),
        address: Some(address.to_string()),
        break_glass: Some(contents.said.id.into_bytes().to_vec()),
        contents: Some(contents.hash.to_vec()),
        requester: (*identity.person() != contents.person).then_some(requester),
        channel: identity.page().map(|_| "page".into()),
        auth_time: identity.auth_time().map(jiff::Timestamp::as_second),
        acr: identity.acr().map(Into::into),
        self_service: contents.said.self_service.then_some(true),
        ..Content::of(kind)
    }
}
