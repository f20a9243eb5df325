//! Break-glass requests as rows, and the changes to them with their conditions.

use jiff::{SignedDuration, Timestamp};

use crate::domain::{BreakGlassId, BreakGlassState, GrantId, Person, SessionId};

/// The condition, in SQL over requests, that each use of the request came to a certificate or was given back.
pub(in crate::store) const NONE_OPEN: &str =
    "NOT EXISTS (SELECT 1 FROM break_glass_use u WHERE u.request = id AND u.returned = 0 AND u.issued_at IS NULL)";

/// A request. Whoever writes the database may change any of it; what decides stands in `contents`, which the broker marked.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakGlassRow {
    /// The request.
    pub id: BreakGlassId,
    /// Where it stands.
    pub state: BreakGlassState,
    /// Who asked.
    pub person: Person,
    /// What tells the human behind the account from others.
    pub human: [u8; 32],
    /// The cluster's name.
    pub cluster: String,
    /// The exact text that approvals are over.
    pub contents: String,
    /// SHA-256 of `contents`.
    pub hash: [u8; 32],
    /// The broker's own mark on it.
    pub tag: [u8; 32],
    /// How many others must approve, at least one; 0 where nobody does.
    pub quorum: u64,
    /// Whether nobody approves it: it opens once someone outside has accepted the notification of it.
    pub self_service: bool,
    /// How many grants it allows, at least one.
    pub uses: u64,
    /// How long the access lasts from the approval that made the quorum.
    pub life: SignedDuration,
    /// Until when it waits for approvals.
    pub waits_until: Timestamp,
    /// Until when it may be used; absent until it is approved.
    pub good_until: Option<Timestamp>,
    /// How many grants were made and not given back.
    pub used: u64,
    /// The key that first used it: no other may use it again.
    pub jkt: Option<String>,
    /// How it ended by someone's act.
    pub closing: Option<Closing>,
    /// How its use was labelled.
    pub review: Option<Review>,
    /// How many have approved its contents.
    pub given: u64,
}

/// Someone's act.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Closing {
    /// The `user:` value of who did it.
    pub by: String,
    /// When.
    pub at: Timestamp,
    /// In their words.
    pub comment: Option<String>,
}

/// A label put on a use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Review {
    /// `emergency`, `drill` or `misuse`.
    pub label: String,
    /// In the reviewer's words.
    pub note: String,
    /// The `user:` value of the reviewer.
    pub by: String,
    /// When.
    pub at: Timestamp,
}

/// Someone's approval.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ApprovalRow {
    /// What tells the human behind the account from others.
    pub human: [u8; 32],
    /// SHA-256 of what was approved.
    pub hash: [u8; 32],
    /// Who.
    pub person: Person,
    /// The name as the provider tells it.
    pub name: String,
    /// Their `user:` value.
    pub user: String,
    /// In which session.
    pub session: SessionId,
    /// In their words.
    pub comment: Option<String>,
    /// When.
    pub at: Timestamp,
    /// The broker's own mark on it.
    pub tag: [u8; 32],
}

/// Someone outside accepted the notification of a request that nobody approves.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ToldRow {
    /// SHA-256 of the contents that were told.
    pub hash: [u8; 32],
    /// The sink that took it.
    pub sink: String,
    /// When.
    pub at: Timestamp,
    /// The broker's own mark on it.
    pub tag: [u8; 32],
}

/// A grant that was made under a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UseRow {
    /// The grant.
    pub grant: GrantId,
    /// When.
    pub at: Timestamp,
    /// Whether it led to no certificate and was given back.
    pub was_returned: bool,
    /// Whether it is on its way: neither given back nor is a certificate of it recorded.
    pub is_open: bool,
}

/// A request with all that belongs to it.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakGlassFile {
    /// The request.
    pub request: BreakGlassRow,
    /// The approvals, oldest first.
    pub approvals: Vec<ApprovalRow>,
    /// Who outside accepted the notification of it, where nobody approves it.
    pub told: Option<ToldRow>,
    /// The grants made, oldest first.
    pub uses: Vec<UseRow>,
}

/// Which requests to list.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct BreakGlassFilter {
    /// Of this person.
    pub person: Option<Person>,
    /// For this cluster.
    pub cluster: Option<String>,
    /// In one of these states; none means any.
    pub states: Vec<BreakGlassState>,
}

/// What a grant uses of a request. Conditions of the grant's own transaction.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakGlassUse {
    /// The request.
    pub request: BreakGlassId,
    /// SHA-256 of its contents.
    pub hash: [u8; 32],
    /// The grant.
    pub grant: GrantId,
    /// Whose request it must be.
    pub person: Person,
    /// The key that uses it.
    pub jkt: String,
    /// How many must have approved; one at least counts, whatever stands here.
    pub quorum: u64,
    /// Whether nobody approves it: then the notification of it must have been accepted, and the request must be of that kind.
    pub self_service: bool,
    /// How many grants its contents allow, whatever the row says.
    pub uses: u64,
}

/// How much one human may ask for, whatever accounts they use.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct AskBounds {
    /// How many of their requests may be pending at once.
    pub open: u64,
    /// How many requests they may make within an hour, whatever became of them.
    pub hourly: u64,
    /// How many of their requests that nobody approves may be open, or used and not reviewed, before they ask to be let in alone again.
    pub unreviewed_alone: u64,
}

impl AskBounds {
    /// Before this their requests count towards `hourly` no more.
    pub(super) fn since(now: Timestamp) -> Timestamp {
        now.saturating_sub(SignedDuration::from_hours(1)).unwrap_or(Timestamp::MIN)
    }
}

/// A change of a request, with its condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum BreakGlassChange {
    /// Someone asks. Condition: the human behind the account stays within the bounds with it.
    Ask {
        /// The request, pending.
        request: Box<BreakGlassRow>,
        /// How much they may ask for.
        bounds: AskBounds,
    },
    /// Someone approves. Condition: it is pending and waits still, its contents have this hash, whoever approves is another
    /// person and another human than whoever asked, that human has not approved it before, and it is one that others approve. With
    /// the approval that makes the quorum it is approved, good for its life from the approval's time.
    Approve {
        /// The request.
        request: BreakGlassId,
        /// The approval.
        approval: Box<ApprovalRow>,
    },
    /// Someone outside accepted the notification of it. Condition: it is pending and waits still, nobody approves it, and its
    /// contents have this hash. It is approved then, good for its life from the row's time.
    Told {
        /// The request.
        request: BreakGlassId,
        /// Who, and when.
        told: Box<ToldRow>,
    },
    /// It ends by someone's act: [`BreakGlassState::Denied`] or [`BreakGlassState::Cancelled`] from pending,
    /// [`BreakGlassState::Revoked`] from approved, or from used while a use is on its way to a certificate: given back, that would open
    /// it again. Condition: that state, and its time not over.
    Close {
        /// The request.
        request: BreakGlassId,
        /// What becomes of it.
        to: BreakGlassState,
        /// Who and why.
        closing: Closing,
    },
    /// Its time ran out. Condition: it did, the request is pending or approved, and no use of it is on its way to a certificate: given
    /// back, that would open what is over.
    TimeOut {
        /// The request.
        request: BreakGlassId,
    },
    /// The log was opened again behind it, after a restore: what was used of it is [`BreakGlassState::Revoked`] then, so that a use
    /// that is given back later opens nothing. Condition: it is pending or approved, whatever its time.
    Reopened {
        /// The request.
        request: BreakGlassId,
    },
    /// The grant led to no certificate: its use is given back, to the key that made it. A grant that used nothing changes
    /// nothing.
    Return {
        /// The grant.
        grant: GrantId,
    },
    /// No outcome of the grant was recorded, and whoever was to record it has stopped: its use is given back, to the key that made it.
    /// Condition: it is not given back yet, it was made at `before` or earlier, and no certificate of it is recorded. None will be: that
    /// has the condition that its use was not given back.
    Abandon {
        /// The grant.
        grant: GrantId,
        /// When it must have been made at the latest.
        before: Timestamp,
    },
    /// A node was called under the grant. Condition: it is a grant of a request, and no call was noted before.
    Touch {
        /// The grant.
        grant: GrantId,
    },
    /// It is said that its use waits for a review. Condition: it does, and that was not said since `before`.
    Remind {
        /// The request.
        request: BreakGlassId,
        /// When it may have been said last.
        before: Timestamp,
    },
    /// The use is labelled. Condition: a use was made, none is left, and none is on its way to a certificate.
    Review {
        /// The request.
        request: BreakGlassId,
        /// The label.
        review: Box<Review>,
    },
}
