//! State changes that commit together with their entry, and the conditions that are re-read in that transaction.

use ichor_wire::log::{Kind, Places};
use ichor_wire::problem::Code;
use jiff::{SignedDuration, Timestamp};
use uuid::Uuid;

use crate::domain::{Group, Human, SessionId};

use super::break_glass::{BreakGlassChange, BreakGlassUse};
use super::calls::Call;
use super::lock::{LockChange, LockKeys};
use super::rows::{DropRequest, SessionRow};

/// A state change and its compare-and-set condition.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Change {
    /// A session begins: the pending login whose one-time code (or device code) has `code_hash` is consumed, exactly once. Condition
    /// besides: no lock on the user holds; one of everything is none on a user, for whoever lifts it must log in.
    SessionCreate {
        /// The session.
        session: Box<SessionRow>,
        /// SHA-256 of the one-time code or the device code.
        code_hash: [u8; 32],
        /// The time that the code's expiry is held against.
        now: Timestamp,
    },
    /// A session ends. Condition: it has not ended yet.
    SessionEnd {
        /// The session.
        session: SessionId,
        /// When.
        now: Timestamp,
    },
    /// The provider was asked again. Condition: the session is live and its version is still `version`.
    SessionRefresh {
        /// The session.
        session: SessionId,
        /// The version that the refresh began with.
        version: u64,
        /// The groups as now told.
        groups: Vec<Group>,
        /// When they were told.
        groups_at: Timestamp,
        /// The rotated token, sealed; `None` keeps the old one.
        refresh_sealed: Option<Vec<u8>>,
        /// The row's new tag.
        tag: [u8; 32],
        /// The time that liveness is held against.
        now: Timestamp,
    },
    /// A grant is made. Condition: the session is live at `now`, no lock on it holds, and `now` is before `not_after`; where the grant uses a
    /// break-glass request, that is approved by as many others as it takes, has a use left for this person and key, and is good
    /// still. The use is counted.
    GrantMade {
        /// The session.
        session: SessionId,
        /// The time that liveness is held against.
        now: Timestamp,
        /// The end of what is granted.
        not_after: Timestamp,
        /// The break-glass request that it uses.
        using: Option<Box<BreakGlassUse>>,
        /// What a lock would be on.
        keys: Box<LockKeys>,
    },
    /// A certificate of a recorded grant is finished. Condition: no lock on it holds, and a use that the grant made of a break-glass
    /// request was not given back meanwhile. That there is a certificate is noted with the use.
    CertificateMade {
        /// What a lock would be on.
        keys: Box<LockKeys>,
        /// The time that locks are held against.
        now: Timestamp,
    },
    /// A break-glass request is made, approved, ended or reviewed. Condition besides its own: no lock holds on whoever does it or on the
    /// cluster, where that is looked at.
    BreakGlass {
        /// What becomes of it.
        change: BreakGlassChange,
        /// The time that its own times are held against.
        now: Timestamp,
        /// What a lock would be on; absent for what goes on under a lock: nothing comes of it but an end.
        keys: Option<Box<LockKeys>>,
    },
    /// A lock is set or lifted.
    Lock {
        /// What becomes of it.
        change: LockChange,
        /// The time that its own times are held against.
        now: Timestamp,
    },
    /// Someone asks to drop bodies. Condition: no lock on them, on their session or on everything holds.
    DropAsk {
        /// The request.
        request: Box<DropRequest>,
        /// What a lock would be on.
        keys: Box<LockKeys>,
        /// The time that locks are held against.
        now: Timestamp,
    },
    /// Bodies are dropped, and with them what the columns say of anyone; the leaves stay. Conditions: the request is open at
    /// `now` or was approved before, `approver` is surely another human than who asked, and each of `places` has a body of a kind that
    /// may be dropped, from before the request's time and at least `min_age` old; and no lock holds on everything, nor on either of the two
    /// or the session that they asked or approve in.
    BodyDrop {
        /// The request.
        request: Uuid,
        /// Who approves.
        approver: Human,
        /// The entries.
        places: Places,
        /// How old an entry must be at least.
        min_age: SignedDuration,
        /// The place at which the request goes on after these.
        next: u64,
        /// Whether the request is done with this.
        done: bool,
        /// What a lock on whoever approves would be on.
        keys: Box<LockKeys>,
        /// The time that ages and locks are held against.
        now: Timestamp,
    },
    /// Nothing but the entry, which follows from what the log said before `from`. Condition: no entry of these kinds has come since, from
    /// whichever broker.
    AsRead {
        /// What would make another entry of it.
        kinds: &'static [Kind],
        /// The place from which on the log was not read.
        from: u64,
    },
    /// Calls that nodes told of are kept, in their order, as the batch of the entry that this commits with
    /// ([`super::StoredCall::batch`] is its index). No condition. Where more than `most` are kept then, the oldest by id are
    /// dropped, in bounded steps: one change drops at most a thousand more than it keeps.
    CallsKept {
        /// The calls.
        calls: Vec<Call>,
        /// The quota.
        most: u64,
    },
}

/// Why a change was refused in its own transaction.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum Condition {
    /// The one-time code is unknown, expired or was consumed.
    #[error("the code is unknown, expired or was used")]
    CodeGone,
    /// The session has ended or expired.
    #[error("the session has ended")]
    SessionEnded,
    /// What is granted would be over already.
    #[error("the grant is over before it began")]
    GrantOver,
    /// The row, or what the log says, changed since it was read.
    #[error("something changed meanwhile")]
    Stale,
    /// The break-glass request is not where the change takes it from: unknown, over, or further already.
    #[error("the break-glass request is no longer in a state for that")]
    RequestMoved,
    /// What was approved is not what the request says.
    #[error("the request's contents are not those that were approved")]
    OtherContents,
    /// An approval by whoever asked.
    #[error("nobody approves their own request")]
    OwnRequest,
    /// This human has approved it already.
    #[error("the request has this approval already")]
    ApprovedBefore,
    /// Too many requests of this person are pending.
    #[error("too many break-glass requests of this person are pending")]
    TooManyOpen,
    /// This human has made too many requests within the hour.
    #[error("too many break-glass requests of this person were made within the hour")]
    TooManyAsked,
    /// Too many requests of this human's that nobody approves are open or wait for their review.
    #[error("too many of this person's self-service requests are open or wait for a review")]
    Unreviewed,
    /// A use of the request is bound to another key.
    #[error("the request was used with another key")]
    OtherKey,
    /// There is no such request, or it expired, or it is done.
    #[error("there is no open request of this id; ask again with `ichor audit drop`")]
    RequestGone,
    /// Who asked cannot approve, nor who may be the same human by another provider's account.
    #[error(
        "whoever asked cannot approve; another person must, with an account of the same provider or a claim that tells them apart"
    )]
    SamePerson,
    /// A body must stay: it is too young, of a kind that stays, or gone already.
    #[error("a body among these must stay, or is gone already")]
    BodyStays,
    /// A lock holds on whoever asks, their session, the cluster, the grant, or everything.
    #[error("a lock stops this")]
    Locked,
    /// There is no such lock, it is over, or someone else has asked for it to be lifted.
    #[error("there is no such lock to lift, or it changed meanwhile")]
    LockGone,
    /// A lock of everything, and nobody else has asked for it to be lifted.
    #[error("a lock of everything is lifted by two people: one asks, and another of the same provider confirms")]
    SecondPerson,
    /// Too many locks are set, by one person or by all.
    #[error(
        "too many locks are set, by you or by all; lift some, or lock a cluster instead: everything can be locked all the same"
    )]
    TooManyLocks,
    /// The entry's time lies before the newest entry's: the clock went back.
    #[error("this host's clock is behind the newest entry of the log, and `ichor-broker check` says by how much")]
    ClockWentBack,
}

// === impl Condition ===

impl Condition {
    /// The problem that it is for whoever asked.
    #[must_use]
    pub const fn code(self) -> Code {
        match self {
            Self::SessionEnded => Code::SessionEnded,
            Self::RequestMoved | Self::OtherKey | Self::ApprovedBefore => Code::WrongState,
            Self::OtherContents => Code::OtherContents,
            Self::OwnRequest | Self::SecondPerson => Code::Refused,
            Self::TooManyOpen | Self::TooManyAsked | Self::Unreviewed | Self::TooManyLocks => Code::TooManyRequests,
            Self::Locked => Code::Locked,
            Self::LockGone => Code::UnknownLock,
            _ => Code::Conflict,
        }
    }
}

// === impl Change ===

impl Change {
    /// The same change, held against `now`: the sequencer gives every change the time of its entry.
    #[must_use]
    pub fn at(mut self, at: Timestamp) -> Self {
        match &mut self {
            Self::SessionCreate { now, .. }
            | Self::SessionEnd { now, .. }
            | Self::SessionRefresh { now, .. }
            | Self::GrantMade { now, .. }
            | Self::CertificateMade { now, .. }
            | Self::BreakGlass { now, .. }
            | Self::Lock { now, .. }
            | Self::DropAsk { now, .. }
            | Self::BodyDrop { now, .. } => *now = at,
            Self::AsRead { .. } | Self::CallsKept { .. } => {}
        }
        self
    }

    /// Whether it may alter the rows of any number of sessions.
    #[must_use]
    pub const fn alters_many(&self) -> bool {
        matches!(self, Self::Lock { .. })
    }

    /// The session whose row this alters, where it is one. One that begins was never read; a grant only looks.
    #[must_use]
    pub fn alters(&self) -> Option<SessionId> {
        match self {
            Self::SessionEnd { session, .. } | Self::SessionRefresh { session, .. } => Some(*session),
            Self::SessionCreate { .. }
            | Self::GrantMade { .. }
            | Self::CertificateMade { .. }
            | Self::BreakGlass { .. }
            | Self::Lock { .. }
            | Self::DropAsk { .. }
            | Self::BodyDrop { .. }
            | Self::AsRead { .. }
            | Self::CallsKept { .. } => None,
        }
    }
}
