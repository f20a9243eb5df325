//! Approving, and denying.

use std::net::IpAddr;

use ichor_wire::log::{Content, Kind};
use jiff::SignedDuration;

use super::end::comment;
use super::{BreakGlass, BreakGlassError, Contents, about, contents, human};
use crate::domain::{BreakGlassId, BreakGlassState, Cluster, PageUse};
use crate::identity::Identity;
use crate::policy::{self, Refusal};
use crate::store::{ApprovalRow, BreakGlassChange};

/// How long after a fresh login a browser may decide on what it was made for.
pub const FRESH: SignedDuration = SignedDuration::from_mins(5);

/// How far the provider's clock may be ahead of ours.
const SKEW: SignedDuration = SignedDuration::from_secs(60);

impl BreakGlass {
    /// Returns once the approval of exactly these contents is recorded and counted.
    ///
    /// # Errors
    /// When the contents are others, policy does not let this person approve, the request is their own or waits no longer, or they
    /// have approved it before.
    pub async fn approve(
        &self,
        identity: &Identity,
        id: BreakGlassId,
        looked_at: [u8; 32],
        said: Option<String>,
        address: IpAddr,
    ) -> Result<(), BreakGlassError> {
        let contents = self.voting(identity, id, looked_at, address, Self::may_vote).await?;
        if contents.said.self_service {
            return Err(BreakGlassError::State("nobody approves this request; deny it, or let it be".into()));
        }
        let said = comment(said)?;
        let session = identity.session().ok_or(BreakGlassError::Unknown)?;
        let human = identity.human().ok_or(BreakGlassError::Unknown)?;
        let mut approval = ApprovalRow {
            human: human.digest(),
            hash: contents.hash,
            person: identity.person().clone(),
            name: identity.name().into(),
            user: identity.user().into(),
            session,
            comment: said.clone(),
            // as the database keeps it
            at: self.clock.now().round(jiff::Unit::Microsecond).unwrap_or(self.clock.now()),
            tag: [0; 32],
        };
        approval.tag = contents::approval_tag(id, &approval, &self.data_key);
        let content = Content {
            quorum: Some(contents.said.approvals),
            message: said,
            ..about(Kind::BreakGlassApproval, identity, &contents, address)
        };
        let approve = BreakGlassChange::Approve { request: id, approval: Box::new(approval) };
        self.record_unlocked(identity, content, approve).await
    }

    /// Returns once the denial is recorded: one is enough. Whoever may approve such requests now may deny this one, whatever the policies
    /// were when it was made.
    ///
    /// # Errors
    /// As [`Self::approve`].
    pub async fn deny(
        &self,
        identity: &Identity,
        id: BreakGlassId,
        looked_at: [u8; 32],
        said: Option<String>,
        address: IpAddr,
    ) -> Result<(), BreakGlassError> {
        let contents = self.voting(identity, id, looked_at, address, Self::may_end).await?;
        self.close(
            identity,
            id,
            BreakGlassState::Denied,
            said,
            self.about_ending(Kind::BreakGlassDenial, identity, &contents, address),
        )
        .await
    }

    /// The contents, if this person may say that to them now.
    async fn voting(
        &self,
        identity: &Identity,
        id: BreakGlassId,
        looked_at: [u8; 32],
        address: IpAddr,
        may: fn(&Self, &Identity, &Contents) -> Result<(), Refusal>,
    ) -> Result<Contents, BreakGlassError> {
        let (file, contents) = self.load(id).await?;
        self.may_decide(identity, &contents)?;
        let state = self.state_now(&file.request);
        if state != BreakGlassState::Pending {
            return Err(BreakGlassError::State(format!("the request is {state}, so there is nothing to decide")));
        }
        if contents.hash != looked_at {
            return Err(BreakGlassError::OtherContents);
        }
        self.believed(identity, &file, &contents).await?;
        self.is_fresh(identity, id, looked_at)?;
        match may(self, identity, &contents) {
            Ok(()) => Ok(contents),
            Err(refusal) => {
                let content = about(Kind::Refusal, identity, &contents, address);
                Err(self.refused(content, refusal).await?)
            }
        }
    }

    /// Whether the decision of a browser comes right behind a login that was made for it: for exactly these contents, and not
    /// longer ago than [`FRESH`]. Any other decision is signed by its session's key.
    ///
    /// # Errors
    /// When it does not.
    pub(super) fn is_fresh(
        &self,
        identity: &Identity,
        id: BreakGlassId,
        hash: [u8; 32],
    ) -> Result<(), BreakGlassError> {
        match identity.page() {
            None => return Ok(()),
            Some(PageUse::Decide { request, hash: meant }) if request == id && meant == hash => {}
            Some(_) => return Err(BreakGlassError::NotFresh),
        }
        let age = identity.auth_time().map(|at| self.clock.now().duration_since(at));
        match age.is_some_and(|age| age <= FRESH && age >= -SKEW) {
            true => Ok(()),
            false => Err(BreakGlassError::NotFresh),
        }
    }

    /// Whether this person may approve: not their own request, not where the two accounts could be one human's, and only as policy lets
    /// them. Under other policies than it was made with nobody may.
    pub(super) fn may_vote(&self, identity: &Identity, contents: &Contents) -> Result<(), Refusal> {
        self.could_vote(identity, contents)?;
        self.may_end(identity, contents)
    }

    /// Whether this person may take it away or say what it was: as for approving, but by the policies in force, whatever they were when
    /// it was made.
    pub(super) fn may_end(&self, identity: &Identity, contents: &Contents) -> Result<(), Refusal> {
        let cluster = self.could_end(identity, contents)?;
        let policies = std::sync::Arc::clone(&self.policies.borrow());
        policy::may_approve(&policies, identity, &cluster, &contents.said.roles, self.clock.now())
    }

    /// As [`Self::may_vote`], but for what policy wants of the person now.
    pub(super) fn could_vote(&self, identity: &Identity, contents: &Contents) -> Result<(), Refusal> {
        self.is_another(identity, contents)?;
        if !self.clusters.borrow().contains_key(&contents.cluster) {
            return Err(Refusal::plain("the request's cluster is no longer declared", "deny it, or let it be"));
        }
        if self.policies.borrow().digest() != contents.policy_digest {
            return Err(Refusal::plain(
                "the policies have changed since this was asked",
                "deny it, or let it be; it can be asked again with `ichor break-glass request`",
            ));
        }
        Ok(())
    }

    /// As [`Self::may_end`], but for what policy wants of the person now. A cluster that is no longer declared has no labels.
    pub(super) fn could_end(
        &self,
        identity: &Identity,
        contents: &Contents,
    ) -> Result<std::sync::Arc<Cluster>, Refusal> {
        if let Err(refusal) = self.is_another(identity, contents)
            && !self.is_another_by_account(identity, contents)
        {
            return Err(refusal);
        }
        let cluster = self.clusters.borrow().get(&contents.cluster).cloned();
        Ok(cluster.unwrap_or_else(|| {
            std::sync::Arc::new(Cluster {
                name: contents.cluster.clone(),
                labels: [].into(),
                endpoints: Vec::new(),
                nodes: Vec::new(),
                ca: String::new(),
            })
        }))
    }

    /// Whether only this tells that this person is another than whoever asked: the account, where humans are told apart in another
    /// way than when it was asked. Else nobody could end or review it any more; nothing is approved by that.
    pub(super) fn is_another_by_account(&self, identity: &Identity, contents: &Contents) -> bool {
        self.is_another(identity, contents).is_err()
            && !self.settings.apart.is_as_asked(contents)
            && identity.person().subject != contents.person.subject
            && human(identity).is_ok_and(|human| human.digest() != contents.human)
    }

    /// Whether this person is surely another human than whoever asked.
    fn is_another(&self, identity: &Identity, contents: &Contents) -> Result<(), Refusal> {
        if *identity.person() == contents.person {
            return Err(Refusal::plain("nobody approves or reviews their own request", "ask a colleague"));
        }
        let human = human(identity)?;
        if human.digest() == contents.human {
            return Err(Refusal::plain("nobody approves or reviews their own request", "ask a colleague"));
        }
        if human.is_surely_another(&contents.requester()) {
            return Ok(());
        }
        let apart = &self.settings.apart;
        let help = match (apart.is_as_asked(contents), apart.is_of_now(&human)) {
            (false, _) => "log in anew (`ichor login`), both, and ask again",
            (true, false) => "log in anew (`ichor login`), and try again",
            (true, true) => {
                "approve with an account of the requester's provider, or ask whoever runs the broker for a claim that tells \
                 people apart at both (`human_claim`)"
            }
        };
        Err(Refusal::plain("this account and the requester's may be the same person's", help))
    }
}
