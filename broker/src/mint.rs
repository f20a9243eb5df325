//! The product on one page: from an identity and a request to a certificate that may leave the broker.
//!
//! ```text
//! Identity + Request ─ policy::decide ─▶ Grant ─ record ◆─▶ Recorded<Grant> ─ issue ─▶ Issued ─ record ◆─▶ Recorded<Issued>
//! ```
//!
//! ◆ marks the moments when something is durable. Nothing is signed before the first, nothing leaves before the second.

use std::collections::BTreeMap;
use std::sync::Arc;

use ichor_wire::log::{self, Content, Kind};
use ichor_wire::problem::Code;
use ichor_wire::profile::CsrKey;
use jiff::SignedDuration;
use tokio::sync::watch;

use crate::audit::{Ledger, LedgerError, RecordError, Recorded, Sequencer};
use crate::clock::SharedClock;
use crate::domain::{Cluster, ClusterName, Clusters, GrantId, Request};
use crate::entropy::{self, EntropyError};
use crate::identity::Identity;
use crate::issuer::{IssueError, Issued, Issuer};
use crate::policy::{self, Grant, PolicySet, Quorum, Refusal};
use crate::store::{BreakGlassChange, Change, Condition};

/// A certificate of a break-glass request that took longer is thrown away: half a minute before another broker gives its use back
/// ([`crate::break_glass`]), whatever the database says of that.
pub(crate) const IN_TIME: SignedDuration = SignedDuration::from_secs(30);

/// The issuers by cluster, published as one value.
pub type Issuers = Arc<BTreeMap<ClusterName, Arc<dyn Issuer>>>;

/// Mints certificates. One for the whole broker.
pub struct Mint {
    policies: watch::Receiver<Arc<PolicySet>>,
    clusters: watch::Receiver<Clusters>,
    issuers: watch::Receiver<Issuers>,
    press: Press,
}

/// The second half of the walk: from a grant to its recorded certificate.
pub struct Press {
    sequencer: Sequencer,
    clock: SharedClock,
    /// Held against grants that use a break-glass request; without it there is none.
    ledger: Option<Arc<Ledger>>,
}

/// A certificate and what goes with it.
#[derive(Debug)]
pub struct Minted {
    /// The cluster it is for.
    pub cluster: Arc<Cluster>,
    /// The certificate, readable because it is recorded, and its grant.
    pub issued: Recorded<Issued>,
}

/// A step of the walk from a request to its answer. Each says in the debug log that it begins, with the grant: after a crash
/// the log shows how far each request had come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Step {
    /// Policy decides.
    Decide,
    /// The grant's entry is made durable.
    RecordGrant,
    /// The issuer builds, has signed and judges.
    Issue,
    /// The outcome's entry is made durable.
    RecordOutcome,
    /// The answer is made and sent.
    Answer,
}

/// Why there is no certificate.
#[derive(Debug, thiserror::Error)]
pub enum MintError {
    /// No such cluster.
    #[error("there is no cluster `{0}`")]
    UnknownCluster(ClusterName),
    /// The cluster is declared, but its CA is not in custody; that is recorded too.
    #[error("the CA of cluster `{0}` cannot be used: none is in custody, or its custody is out")]
    NoCustody(ClusterName),
    /// Policy says no; that is recorded.
    #[error("{}", .0.sentence)]
    Refused(Refusal),
    /// Nothing could be recorded, so nothing was done.
    #[error(transparent)]
    Record(#[from] RecordError),
    /// The grant is recorded, but led to no certificate; that is recorded too.
    #[error(transparent)]
    Issue(#[from] IssueError),
    /// The grant is recorded, but the log says that its break-glass request was over or used up, or could not be read; that is
    /// recorded too.
    #[error(transparent)]
    Ledger(#[from] LedgerError),
    /// The certificate of a break-glass request took so long that it was thrown away; that is recorded too.
    #[error("the certificate took longer than half a minute, so it was thrown away and the use given back")]
    TooSlow,
    /// No randomness.
    #[error(transparent)]
    Entropy(#[from] EntropyError),
}

impl Mint {
    /// A mint over the values that `app` publishes.
    #[must_use]
    pub fn new(
        policies: watch::Receiver<Arc<PolicySet>>,
        clusters: watch::Receiver<Clusters>,
        issuers: watch::Receiver<Issuers>,
        sequencer: Sequencer,
        clock: SharedClock,
        ledger: Arc<Ledger>,
    ) -> Self {
        let press = Press { ledger: Some(ledger), ..Press::new(sequencer, clock) };
        Self { policies, clusters, issuers, press }
    }

    /// Whether the certificates of this cluster name their grants; `None` where it has no issuer.
    #[must_use]
    pub fn names_grants(&self, cluster: &ClusterName) -> Option<bool> {
        self.issuers.borrow().get(cluster).map(|issuer| issuer.names_grants())
    }

    /// Returns a certificate once its grant and the certificate itself are durably recorded. With `quorum` it uses what others
    /// approved.
    ///
    /// Every way out is recorded: a refusal, a CA that is out or fails, a certificate; not so a cluster that does not exist, of which
    /// the caller's log line tells. The caller must let it run to its end even
    /// when whoever asked has gone: what was recorded as granted must get its outcome.
    ///
    /// # Errors
    /// When there is no certificate; nothing that could serve as one has left this function.
    pub async fn certificate(
        &self,
        identity: &Identity,
        request: Request,
        quorum: Option<&Quorum>,
    ) -> Result<Minted, MintError> {
        let cluster = request.cluster.clone();
        let result = self.walk(identity, request, quorum).await;
        let outcome = match &result {
            Ok(_) => "issued",
            // a name that anyone may make up is no label
            Err(MintError::UnknownCluster(_)) => return result,
            Err(MintError::Refused(_) | MintError::Record(RecordError::Refused(_))) => "refused",
            Err(_) => "failed",
        };
        let cluster = cluster.as_str().to_owned();
        metrics::counter!("ichor_certificates_total", "cluster" => cluster, "outcome" => outcome).increment(1);
        result
    }

    async fn walk(&self, identity: &Identity, request: Request, quorum: Option<&Quorum>) -> Result<Minted, MintError> {
        let now = self.press.clock.now();
        let cluster = self.clusters.borrow().get(&request.cluster).cloned();
        let cluster = cluster.ok_or_else(|| MintError::UnknownCluster(request.cluster.clone()))?;
        let issuer = self.issuers.borrow().get(&request.cluster).cloned();
        let Some(issuer) = issuer else {
            let error = MintError::NoCustody(request.cluster.clone());
            let content = Content {
                code: Some(Code::CustodyUnavailable.as_str().into()),
                message: Some(error.to_string()),
                ..asked(Kind::Refusal, identity, &request, quorum)
            };
            self.press.sequencer.note(content, None).await?;
            return Err(error);
        };
        let policies = Arc::clone(&self.policies.borrow());

        let id = GrantId(entropy::uuid_v7(now)?);
        Step::Decide.begins(id);
        let grant = match policy::decide(&policies, identity, &cluster, &request, quorum, id, now) {
            Ok(grant) => grant,
            Err(refusal) => {
                let content = refused(identity, &request, quorum, &refusal, &policies);
                self.press.sequencer.note(content, None).await?;
                return Err(MintError::Refused(refusal));
            }
        };

        let asked = |kind| asked(kind, identity, &request, quorum);
        let issued = self.press.certificate(grant, &*issuer, asked).await?;
        Ok(Minted { cluster, issued })
    }
}

impl Press {
    /// A press that records here.
    #[must_use]
    pub fn new(sequencer: Sequencer, clock: SharedClock) -> Self {
        Self { sequencer, clock, ledger: None }
    }

    /// A certificate of the broker's own, to see whether nodes accept the CA behind `issuer`; `os_user` is who had a command
    /// ask, where one did. It goes the way of all others.
    ///
    /// # Errors
    /// When there is none; nothing that could serve as one has left this function.
    pub async fn probe(
        &self,
        policies: &PolicySet,
        cluster: &Cluster,
        key: CsrKey,
        issuer: &dyn Issuer,
        os_user: Option<&str>,
    ) -> Result<Recorded<Issued>, MintError> {
        let now = self.clock.now();
        let id = GrantId(entropy::uuid_v7(now)?);
        self.own(policy::probe(policies, cluster, key, id, now, os_user), issuer).await
    }

    /// A certificate of os:admin of the broker's own, with which the cluster is asked to make others. As [`Self::probe`].
    ///
    /// # Errors
    /// As [`Self::probe`].
    pub async fn delegation(
        &self,
        policies: &PolicySet,
        cluster: &Cluster,
        key: CsrKey,
        issuer: &dyn Issuer,
    ) -> Result<Recorded<Issued>, MintError> {
        let now = self.clock.now();
        let id = GrantId(entropy::uuid_v7(now)?);
        self.own(policy::delegation(policies, cluster, key, id, now), issuer).await
    }

    async fn own(&self, grant: Grant, issuer: &dyn Issuer) -> Result<Recorded<Issued>, MintError> {
        let asked = Content {
            person: Some(grant.person().logged(grant.name(), grant.user())),
            cluster: Some(grant.cluster().as_str().into()),
            reason: grant.reason().map(Into::into),
            os_user: grant.os_user().map(Into::into),
            ..Content::of(Kind::Refusal)
        };
        self.certificate(grant, issuer, |kind| Content { kind, ..asked.clone() }).await
    }

    /// From a grant to its recorded certificate. `asked` describes the request in an entry of the kind.
    async fn certificate(
        &self,
        grant: Grant,
        issuer: &dyn Issuer,
        asked: impl Fn(Kind) -> Content,
    ) -> Result<Recorded<Issued>, MintError> {
        let (id, is_approved, begun) = (grant.id(), grant.quorum().is_some(), self.clock.now());
        Step::RecordGrant.begins(id);
        // ◆ the grant; its transaction reads the session again
        let grant = match self.sequencer.record(grant).await {
            Ok(grant) => grant,
            Err(RecordError::Refused(condition)) => {
                let code = condition.code();
                let content = Content {
                    code: Some(code.as_str().into()),
                    message: Some(condition.to_string()),
                    ..asked(Kind::Refusal)
                };
                self.sequencer.note(content, None).await?;
                return Err(RecordError::Refused(condition).into());
            }
            Err(error) => return Err(error.into()),
        };

        if let Err(error) = self.permitted(grant.value()).await {
            let (code, asked) = (error.code(), asked(Kind::IssueFailed));
            tracing::error!(grant = %id, %error, "no certificate for a recorded grant that uses a break-glass request");
            self.failed(id, is_approved, code, error.to_string(), asked).await?;
            return Err(error.into());
        }

        Step::Issue.begins(id);
        let issued = match of_its_cluster(issuer, grant.value()) {
            Ok(()) => issuer.issue(grant, self.clock.now()).await,
            Err(error) => Err(error),
        };
        let issued = match issued {
            Ok(issued) => issued,
            Err(error) => {
                if matches!(error, IssueError::Mismatch(_)) {
                    // somebody made a certificate that nobody granted: this is for people to look at now
                    let cluster = asked(Kind::IssueFailed).cluster.unwrap_or_default();
                    metrics::counter!("ichor_certificate_mismatches_total", "cluster" => cluster).increment(1);
                }
                tracing::error!(grant = %id, %error, "no certificate for a recorded grant");
                Step::RecordOutcome.begins(id);
                self.failed(id, is_approved, error.code(), error.to_string(), asked(Kind::IssueFailed)).await?;
                return Err(error.into());
            }
        };

        Step::RecordOutcome.begins(id);
        if is_approved && self.clock.now().duration_since(begun) >= IN_TIME {
            let (error, asked) = (MintError::TooSlow, asked(Kind::IssueFailed));
            self.failed(id, is_approved, Code::CustodyUnavailable, error.to_string(), asked).await?;
            return Err(error);
        }
        // ◆ the outcome; its transaction looks for locks again, and only now can the certificate's bytes be read
        match self.sequencer.record(issued).await {
            // locked meanwhile, or so late that its use was given back: nothing leaves
            Err(RecordError::Refused(condition @ (Condition::Locked | Condition::RequestMoved))) => {
                let (why, asked) = (condition.to_string(), asked(Kind::IssueFailed));
                self.failed(id, is_approved, condition.code(), why, asked).await?;
                Err(RecordError::Refused(condition).into())
            }
            other => Ok(other?),
        }
    }

    /// Returns if the log, up to the grant's own entry, lets it use the break-glass request, where it does: whoever writes the
    /// database may have undone what ended that.
    async fn permitted(&self, grant: &Grant) -> Result<(), LedgerError> {
        let Some(quorum) = grant.quorum() else { return Ok(()) };
        let ledger = self.ledger.as_ref().ok_or_else(|| LedgerError::Denied("nobody reads it here".into()))?;
        let made = (quorum.asked_at, &quorum.hash);
        ledger.permits(quorum.request, made, quorum.uses, grant.id()).await
    }

    /// Records that the grant led to no certificate, and why; what it used of a break-glass request is given back with that.
    async fn failed(
        &self,
        id: GrantId,
        is_approved: bool,
        code: Code,
        why: String,
        asked: Content,
    ) -> Result<(), RecordError> {
        let content = Content {
            grant: Some(id.0.as_bytes().to_vec()),
            code: Some(code.as_str().into()),
            message: Some(why),
            ..asked
        };
        let change = BreakGlassChange::Return { grant: id };
        let change = is_approved.then(|| Change::BreakGlass { change, now: self.clock.now(), keys: None });
        self.sequencer.note(content, change).await?;
        Ok(())
    }
}

impl std::fmt::Debug for Press {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Press").finish_non_exhaustive()
    }
}

impl std::fmt::Debug for Mint {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Mint").finish_non_exhaustive()
    }
}

/// Returns if the issuer is of the grant's cluster: nothing in a certificate says which one it is for, only the CA that signs it.
fn of_its_cluster(issuer: &dyn Issuer, grant: &Grant) -> Result<(), IssueError> {
    match issuer.cluster() {
        cluster if cluster == grant.cluster() => Ok(()),
        other => Err(IssueError::Mismatch(format!("it would be signed by the CA of cluster `{other}`"))),
    }
}

// === impl Step ===

impl Step {
    /// Says so, with the grant, in the debug log; the fields are not even made when nobody reads it.
    pub(crate) fn begins(self, grant: GrantId) {
        tracing::debug!(%grant, step = self.as_str(), "a step begins");
    }

    fn as_str(self) -> &'static str {
        match self {
            Self::Decide => "decide",
            Self::RecordGrant => "record-grant",
            Self::Issue => "issue",
            Self::RecordOutcome => "record-outcome",
            Self::Answer => "answer",
        }
    }
}

/// The person of an identity, as entries have it.
#[must_use]
pub fn person(identity: &Identity) -> log::Person {
    identity.person().logged(identity.name(), identity.user())
}

fn asked(kind: Kind, identity: &Identity, request: &Request, quorum: Option<&Quorum>) -> Content {
    Content {
        person: Some(person(identity)),
        session: identity.session().map(|id| id.0.as_bytes().to_vec()),
        cluster: Some(request.cluster.as_str().into()),
        roles: Some(request.roles.iter().map(ToString::to_string).collect()),
        reason: request.reason.clone(),
        address: Some(request.address.to_string()),
        break_glass: quorum.map(|quorum| quorum.request.0.as_bytes().to_vec()),
        ..Content::of(kind)
    }
}

fn refused(
    identity: &Identity,
    request: &Request,
    quorum: Option<&Quorum>,
    refusal: &Refusal,
    policies: &PolicySet,
) -> Content {
    Content {
        code: Some(refusal.code.as_str().into()),
        message: Some(refusal.sentence.clone()),
        policies: Some(refusal.policies.clone()),
        policy_digest: Some(policies.digest().to_vec()),
        ..asked(Kind::Refusal, identity, request, quorum)
    }
}
