//! From an approved request to what policy decides with.

use jiff::{SignedDuration, Timestamp};

use super::{BreakGlass, BreakGlassError, Contents, contents};
use crate::domain::{BreakGlassId, BreakGlassState};
use crate::identity::Identity;
use crate::policy::Quorum;
use crate::store::{ApprovalRow, BreakGlassFile};

/// An approved request, ready to be used.
#[derive(Clone, Debug)]
pub struct Approved {
    /// What policy decides with.
    pub quorum: Quorum,
    /// What was asked for.
    pub contents: Contents,
    /// How long the access may last from now.
    pub left: SignedDuration,
}

impl BreakGlass {
    /// What others approved for this person, for the session's key. Every mark is checked, and every approval counted anew: by
    /// humans, each once, none of them whoever asked. The grant's own transaction reads it all again.
    ///
    /// # Errors
    /// When the request is someone else's, or is not approved, or no longer.
    pub async fn approved(
        &self,
        identity: &Identity,
        id: BreakGlassId,
        jkt: &str,
    ) -> Result<Approved, BreakGlassError> {
        let (file, contents) = self.load(id).await?;
        if *identity.person() != contents.person {
            return Err(BreakGlassError::Unknown);
        }
        let state = self.state_now(&file.request);
        if state != BreakGlassState::Approved {
            let more = contents.said.approvals.saturating_sub(file.request.given);
            return Err(BreakGlassError::State(match state {
                BreakGlassState::Pending => format!("the request waits for {more} more to approve"),
                state => format!("the request is {state}, so it allows nothing"),
            }));
        }
        let counted = counted(&file, &contents, |row| contents::is_vouched(id, row, &self.data_key));
        let needed = usize::try_from(contents.said.approvals.max(1)).unwrap_or(usize::MAX);
        let last = needed.checked_sub(1).and_then(|place| counted.get(place));
        let Some(last) = last else {
            return Err(BreakGlassError::State("the request has too few approvals that count".into()));
        };
        let good_until = good_until(last.at, &contents);
        let now = self.clock.now();
        if now >= good_until {
            return Err(BreakGlassError::State("the request's time is over, so it allows nothing".into()));
        }
        if file.request.jkt.as_deref().is_some_and(|first| first != jkt) {
            return Err(BreakGlassError::State(
                "the request was used with another session's key, and only that may use it".into(),
            ));
        }
        let mut roles = contents.said.roles.clone();
        roles.sort_unstable();
        roles.dedup();
        let quorum = Quorum {
            request: id,
            hash: contents.hash,
            person: contents.person.clone(),
            cluster: contents.cluster.clone(),
            roles,
            needed: contents.said.approvals,
            approvers: counted.iter().map(|row| row.user.clone()).collect(),
            policy_digest: contents.policy_digest,
            good_until,
            jkt: jkt.into(),
        };
        Ok(Approved { quorum, contents, left: good_until.duration_since(now) })
    }
}

/// When access ends that was approved at this time.
pub(super) fn good_until(approved_at: Timestamp, contents: &Contents) -> Timestamp {
    let life = SignedDuration::from_secs(i64::try_from(contents.said.ttl).unwrap_or(i64::MAX));
    approved_at.checked_add(life).unwrap_or(Timestamp::MAX)
}

/// The approvals that count, oldest first: of exactly these contents, before the request's wait was over, each by another human.
fn counted<'a>(
    file: &'a BreakGlassFile,
    contents: &Contents,
    is_ours: impl Fn(&ApprovalRow) -> bool,
) -> Vec<&'a ApprovalRow> {
    let mut counted: Vec<&ApprovalRow> = Vec::new();
    let mut rows: Vec<_> = file.approvals.iter().collect();
    rows.sort_by_key(|row| row.at);
    for row in rows {
        let is_other = row.human != contents.human
            && row.person != contents.person
            && counted.iter().all(|known| known.human != row.human && known.person != row.person);
        if row.hash == contents.hash && row.at < contents.said.waits_until && is_other && is_ours(row) {
            counted.push(row);
        }
    }
    counted
}
