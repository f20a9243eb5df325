//! From an approved request to what policy decides with.

use jiff::{SignedDuration, Timestamp};

use super::{BreakGlass, BreakGlassError, Contents};
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
                BreakGlassState::Pending if contents.said.self_service => {
                    "the request waits until a notification sink has accepted the notification of it".into()
                }
                BreakGlassState::Pending => format!("the request waits for {more} more to approve"),
                state => format!("the request is {state}, so it allows nothing"),
            }));
        }
        self.believed(identity, &file, &contents).await?;
        let (backing, opened) = backing(&file, &contents)?;
        let good_until = good_until(opened, &contents);
        let now = self.clock.now();
        if now >= good_until {
            return Err(BreakGlassError::State("the request's time is over, so it allows nothing".into()));
        }
        if file.request.jkt.as_deref().is_some_and(|first| first != jkt) {
            return Err(BreakGlassError::State(
                "the request was used with another session's key, and only that may use it; each login makes a key, so ask for it again".into(),
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
            approvers: backing.approvers,
            told: backing.told,
            policy_digest: contents.policy_digest,
            asked_at: contents.said.created_at,
            uses: contents.said.uses,
            good_until,
            jkt: jkt.into(),
        };
        Ok(Approved { quorum, contents, left: good_until.duration_since(now) })
    }
}

/// What stands behind a request.
pub(super) struct Backing {
    approvers: Vec<String>,
    told: Option<String>,
}

/// What stands behind a loaded request, and since when: others' approvals, or, of a request that nobody approves, that someone
/// outside took the notification of exactly this one.
pub(super) fn backing(file: &BreakGlassFile, contents: &Contents) -> Result<(Backing, Timestamp), BreakGlassError> {
    if contents.said.self_service {
        let told = file.told.as_ref().filter(|row| row.hash == contents.hash && row.at < contents.said.waits_until);
        let told = told.ok_or_else(|| {
            BreakGlassError::State("no notification sink has accepted the notification of this request".into())
        })?;
        return Ok((Backing { approvers: Vec::new(), told: Some(told.sink.clone()) }, told.at));
    }
    let counted = counted(file, contents);
    let needed = usize::try_from(contents.said.approvals.max(1)).unwrap_or(usize::MAX);
    let last = needed.checked_sub(1).and_then(|place| counted.get(place));
    let Some(last) = last else {
        return Err(BreakGlassError::State("the request has too few approvals that count".into()));
    };
    Ok((Backing { approvers: counted.iter().map(|row| row.user.clone()).collect(), told: None }, last.at))
}

/// When access ends that was approved at this time.
pub(super) fn good_until(approved_at: Timestamp, contents: &Contents) -> Timestamp {
    let life = SignedDuration::from_secs(i64::try_from(contents.said.ttl).unwrap_or(i64::MAX));
    approved_at.checked_add(life).unwrap_or(Timestamp::MAX)
}

/// The approvals of a loaded request that count, oldest first: of exactly these contents, before the request's wait was over, each by
/// another human.
pub(super) fn counted<'a>(file: &'a BreakGlassFile, contents: &Contents) -> Vec<&'a ApprovalRow> {
    let mut counted: Vec<&ApprovalRow> = Vec::new();
    let mut rows: Vec<_> = file.approvals.iter().collect();
    rows.sort_by_key(|row| row.at);
    for row in rows {
        let is_other = row.human != contents.human
            && row.person != contents.person
            && counted.iter().all(|known| known.human != row.human && known.person != row.person);
        if row.hash == contents.hash && row.at < contents.said.waits_until && is_other {
            counted.push(row);
        }
    }
    counted
}
