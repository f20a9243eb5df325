//! What others approved, as an input to the decision.

use ichor_wire::problem::Code;
use jiff::Timestamp;

use crate::domain::{BreakGlassId, ClusterName, Person, Request, Role};
use crate::identity::Identity;

use super::refusal::Refusal;

/// An approved break-glass request, as the room that checked its approvals puts it. It permits nothing by itself: policy
/// decides with it, and the transaction that records the grant reads the approvals and the uses again.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Quorum {
    /// The request.
    pub request: BreakGlassId,
    /// SHA-256 of the exact contents that were approved.
    pub hash: [u8; 32],
    /// Who asked.
    pub person: Person,
    /// For which cluster.
    pub cluster: ClusterName,
    /// For which roles, sorted.
    pub roles: Vec<Role>,
    /// How many must have approved; 0 where nobody does.
    pub needed: u64,
    /// The `user:` values of those who did, one for each human.
    pub approvers: Vec<String>,
    /// Where nobody approves: the sink outside that accepted the notification of exactly this request.
    pub told: Option<String>,
    /// SHA-256 of the policy set that the request was made under.
    pub policy_digest: [u8; 32],
    /// When it was asked for.
    pub asked_at: Timestamp,
    /// How many grants it allows.
    pub uses: u64,
    /// Until when it may be used.
    pub good_until: Timestamp,
    /// The key of the session that uses it.
    pub jkt: String,
}

/// What stands behind a request that may be used.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Backing {
    /// So many others approved.
    Approvals(u64),
    /// Nobody did, and someone outside was told.
    Told,
}

// === impl Quorum ===

impl Quorum {
    /// What counts for this request of this person under these policies.
    ///
    /// # Errors
    /// When they are for something else, or are too few; none are always too few.
    pub(super) fn counts_for(
        &self,
        identity: &Identity,
        request: &Request,
        policy_digest: [u8; 32],
    ) -> Result<Backing, Refusal> {
        let mut roles = request.roles.clone();
        roles.sort_unstable();
        roles.dedup();
        if self.person != *identity.person() || self.cluster != request.cluster || self.roles != roles {
            return Err(Refusal::failed("the approvals are for another request"));
        }
        if self.policy_digest != policy_digest {
            return Err(Refusal::plain(
                "the policies have changed since this was approved, so the approvals no longer count",
                "ask again with `ichor break-glass request`",
            ));
        }
        let given = u64::try_from(self.approvers.len()).unwrap_or(u64::MAX);
        match &self.told {
            Some(_) if self.needed == 0 && given == 0 => Ok(Backing::Told),
            None if given > 0 && given >= self.needed => Ok(Backing::Approvals(given)),
            _ => Err(Refusal::plain("too few others have approved", Code::Refused.next_step())),
        }
    }
}
