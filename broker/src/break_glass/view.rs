//! Who may see a request, and what they may do with it.

use ichor_wire::problem::Code;

use crate::domain::{BreakGlassId, BreakGlassState, Cluster};
use crate::identity::Identity;
use crate::policy::{self, AuditScope, Refusal};
use crate::store::BreakGlassFile;

use super::{BreakGlass, BreakGlassError, Contents};

/// A request as someone may see it.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The request with all that belongs to it.
    pub file: BreakGlassFile,
    /// Its contents.
    pub contents: Contents,
    /// Where it stands now.
    pub state: BreakGlassState,
    /// Why it is not believed: the database says something else than the broker's marks and the log.
    pub suspect: Option<String>,
    /// What the reader may do with it as things are.
    pub may: Vec<&'static str>,
}

/// What someone can do about a request in their browser.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ByPage {
    /// Decide now: the session comes of a fresh login for just these contents.
    Decide {
        /// Why they can only deny it, where that is so.
        only_deny: Option<Refusal>,
    },
    /// Sign in for it, with this authentication context where policy wants one.
    SignIn {
        /// What to ask the provider for.
        acr: Option<String>,
        /// What the login that was just made for it lacks, where one was.
        lacks: Option<Refusal>,
    },
    /// Nothing.
    Nothing(Refusal),
}

impl BreakGlass {
    /// What this person can do about the pending request by a page.
    #[must_use]
    pub fn by_page(&self, identity: &Identity, seen: &Seen) -> ByPage {
        let (contents, id) = (&seen.contents, seen.file.request.id);
        if seen.suspect.is_some() {
            return ByPage::Nothing(Refusal::plain("the request is not what was recorded", Code::Suspect.next_step()));
        }
        let cluster = match self.could_end(identity, contents) {
            Ok(cluster) => cluster,
            Err(refusal) => return ByPage::Nothing(refusal),
        };
        let human = identity.human().map(|human| human.digest());
        if seen.file.approvals.iter().any(|row| Some(row.human) == human) {
            return ByPage::Nothing(Refusal::plain("you have approved it", "wait for the others"));
        }
        let is_fresh = self.is_fresh(identity, id, contents.hash).is_ok();
        let lacks = match self.may_end(identity, contents) {
            Ok(()) if is_fresh => return ByPage::Decide { only_deny: self.could_vote(identity, contents).err() },
            // to be told to sign in again, and again, helps nobody
            Err(refusal) if is_fresh => Some(refusal),
            _ => None,
        };
        let policies = std::sync::Arc::clone(&self.policies.borrow());
        match policy::login_to_approve(&policies, identity, &cluster, &contents.said.roles, self.clock.now()) {
            Ok(acr) => ByPage::SignIn { acr, lacks },
            Err(refusal) => ByPage::Nothing(refusal),
        }
    }

    /// The request, if this person may see it: their own, one that they may approve, one of a cluster whose audit they may read.
    /// One of a cluster that is no longer declared is seen by whoever may read everything.
    ///
    /// # Errors
    /// When there is none that they may see.
    pub async fn show(&self, identity: &Identity, id: BreakGlassId) -> Result<Seen, BreakGlassError> {
        let (file, contents) = self.load(id).await?;
        self.may_see(identity, &contents)?;
        let state = self.state_now(&file.request);
        let suspect = self.suspicion(&file, &contents).await?;
        let mut may = self.may_do(identity, &file, &contents, state);
        if suspect.is_some() {
            may.retain(|what| !["approve", "use"].contains(what));
        }
        Ok(Seen { file, contents, state, suspect, may })
    }

    /// # Errors
    /// [`BreakGlassError::Unknown`]: to whoever may not see it, there is none.
    pub(super) fn may_see(&self, identity: &Identity, contents: &Contents) -> Result<(), BreakGlassError> {
        if *identity.person() == contents.person {
            return Ok(());
        }
        let policies = std::sync::Arc::clone(&self.policies.borrow());
        let now = self.clock.now();
        let Some(cluster) = self.clusters.borrow().get(&contents.cluster).cloned() else {
            // its labels are gone, and with them whatever a policy forbids by one
            let may = policy::may_read_audit(&policies, identity, AuditScope::Everything, now);
            return may.map_err(|_| BreakGlassError::Unknown);
        };
        let may = policy::could_approve(&policies, identity, &cluster, &contents.said.roles, now)
            || policy::may_read_audit(&policies, identity, AuditScope::Cluster(&cluster), now).is_ok();
        if may { Ok(()) } else { Err(BreakGlassError::Unknown) }
    }

    /// As [`Self::may_see`], for what takes something away: of a cluster that is no longer declared also whoever may approve such
    /// requests, for someone must be able to end what is left of it.
    ///
    /// # Errors
    /// As there.
    pub(super) fn may_decide(&self, identity: &Identity, contents: &Contents) -> Result<(), BreakGlassError> {
        let is_declared = self.clusters.borrow().contains_key(&contents.cluster);
        let policies = std::sync::Arc::clone(&self.policies.borrow());
        let could_end = |cluster: std::sync::Arc<Cluster>| {
            policy::could_approve(&policies, identity, &cluster, &contents.said.roles, self.clock.now())
        };
        if !is_declared && self.could_end(identity, contents).is_ok_and(could_end) {
            return Ok(());
        }
        self.may_see(identity, contents)
    }

    fn may_do(
        &self,
        identity: &Identity,
        file: &BreakGlassFile,
        contents: &Contents,
        state: BreakGlassState,
    ) -> Vec<&'static str> {
        let is_own = *identity.person() == contents.person;
        let is_voter = self.may_vote(identity, contents).is_ok();
        let may_end = self.may_end(identity, contents).is_ok();
        let human = identity.human().map(|human| human.digest());
        let has_approved = file.approvals.iter().any(|row| Some(row.human) == human);
        let may = [
            ("approve", state == BreakGlassState::Pending && is_voter && !has_approved && !contents.said.self_service),
            ("deny", state == BreakGlassState::Pending && may_end),
            ("cancel", state == BreakGlassState::Pending && is_own),
            ("use", state == BreakGlassState::Approved && is_own),
            ("revoke", self.can_be_revoked(file) && (is_own || may_end)),
            (
                "review",
                matches!(state, BreakGlassState::Used | BreakGlassState::Revoked)
                    && file.request.used > 0
                    && file.uses.iter().all(|using| !using.is_open)
                    && may_end,
            ),
        ];
        may.into_iter().filter(|(_, is_so)| *is_so).map(|(what, _)| what).collect()
    }
}
