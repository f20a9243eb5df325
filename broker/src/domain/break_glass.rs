//! Where a break-glass request can stand, and what may follow.

use std::fmt;

use uuid::Uuid;

/// A break-glass request's id (UUIDv7). It names a request and opens nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BreakGlassId(pub Uuid);

/// Where a request stands. Numbers stand in the database and are never used twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum BreakGlassState {
    /// It waits for approvals.
    Pending,
    /// Enough others approved; it has uses left.
    Approved,
    /// Someone who may approve said no.
    Denied,
    /// Too few approved in time.
    Expired,
    /// Whoever asked took it back before it was approved.
    Cancelled,
    /// All uses are made, or its time ran out after one was.
    Used,
    /// What it still allowed was taken away.
    Revoked,
    /// It was approved and its time ran out unused.
    Lapsed,
    /// It was used, and the use was labelled afterwards.
    Reviewed,
}

/// What happens to a request.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum BreakGlassStep {
    /// The approval that makes the quorum.
    Approve,
    /// Someone who may approve says no.
    Deny,
    /// Whoever asked takes it back.
    Cancel,
    /// A grant is made; `is_last` when no further use is left.
    Use {
        /// Whether no further use is left.
        is_last: bool,
    },
    /// A grant led to no certificate, so its use is given back.
    Return,
    /// What is left is taken away; of one whose last use was taken that use, where it may be given back still.
    Revoke {
        /// Whether a use is on its way to a certificate.
        is_on_its_way: bool,
    },
    /// The time runs out; `was_used` when a use was made and not given back.
    TimeOut {
        /// Whether a use was made and not given back.
        was_used: bool,
    },
    /// The use is labelled.
    Review {
        /// Whether a use was made and not given back.
        was_used: bool,
    },
}

// === impl BreakGlassState ===

impl BreakGlassState {
    /// Every state, by number.
    pub const ALL: [Self; 9] = [
        Self::Pending,
        Self::Approved,
        Self::Denied,
        Self::Expired,
        Self::Cancelled,
        Self::Used,
        Self::Revoked,
        Self::Lapsed,
        Self::Reviewed,
    ];

    /// The state after `step`; `None` where the step is not allowed here.
    #[must_use]
    pub const fn after(self, step: BreakGlassStep) -> Option<Self> {
        use BreakGlassStep::{Approve, Cancel, Deny, Return, Review, Revoke, TimeOut, Use};
        Some(match (self, step) {
            (Self::Pending, Approve) => Self::Approved,
            (Self::Pending, Deny) => Self::Denied,
            (Self::Pending, Cancel) => Self::Cancelled,
            (Self::Pending, TimeOut { .. }) => Self::Expired,
            (Self::Approved, Use { is_last: false }) => Self::Approved,
            (Self::Approved, Use { is_last: true }) => Self::Used,
            (Self::Approved | Self::Used, Return) => Self::Approved,
            (Self::Revoked, Return) => Self::Revoked,
            (Self::Approved, Revoke { .. }) | (Self::Used, Revoke { is_on_its_way: true }) => Self::Revoked,
            (Self::Approved, TimeOut { was_used: false }) => Self::Lapsed,
            (Self::Approved, TimeOut { was_used: true }) => Self::Used,
            (Self::Used | Self::Revoked, Review { was_used: true }) => Self::Reviewed,
            _ => return None,
        })
    }

    /// The state's number in the database.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Pending => 0,
            Self::Approved => 1,
            Self::Denied => 2,
            Self::Expired => 3,
            Self::Cancelled => 4,
            Self::Used => 5,
            Self::Revoked => 6,
            Self::Lapsed => 7,
            Self::Reviewed => 8,
        }
    }

    /// The state with this number.
    #[must_use]
    pub fn numbered(number: i64) -> Option<Self> {
        Self::ALL.into_iter().find(|state| i64::from(state.number()) == number)
    }

    /// The state as queries and answers name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Pending => "pending",
            Self::Approved => "approved",
            Self::Denied => "denied",
            Self::Expired => "expired",
            Self::Cancelled => "cancelled",
            Self::Used => "used",
            Self::Revoked => "revoked",
            Self::Lapsed => "lapsed",
            Self::Reviewed => "reviewed",
        }
    }

    /// The state of this name.
    #[must_use]
    pub fn named(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|state| state.as_str() == name)
    }
}

impl fmt::Display for BreakGlassState {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl fmt::Display for BreakGlassId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_one_to_one() {
        for state in BreakGlassState::ALL {
            assert_eq!(BreakGlassState::numbered(state.number().into()), Some(state));
            assert_eq!(BreakGlassState::named(state.as_str()), Some(state));
        }
        assert_eq!(BreakGlassState::numbered(9), None);
    }

    #[test]
    fn nothing_follows_an_end_but_its_review() {
        use BreakGlassStep::{Approve, Cancel, Deny, Return, Review, Revoke, TimeOut, Use};
        let steps = [
            Approve,
            Deny,
            Cancel,
            Use { is_last: true },
            Use { is_last: false },
            Return,
            Revoke { is_on_its_way: false },
            Revoke { is_on_its_way: true },
            TimeOut { was_used: false },
            TimeOut { was_used: true },
            Review { was_used: false },
        ];
        for over in ["denied", "expired", "cancelled", "lapsed", "reviewed"] {
            let state = BreakGlassState::named(over).unwrap();
            for step in steps.into_iter().chain([Review { was_used: true }]) {
                assert_eq!(state.after(step), None, "{over} {step:?}");
            }
        }
        assert_eq!(BreakGlassState::Pending.after(Use { is_last: true }), None, "never without the quorum");
        assert_eq!(BreakGlassState::Used.after(Use { is_last: true }), None, "never twice");
        assert_eq!(BreakGlassState::Used.after(Revoke { is_on_its_way: false }), None, "nothing is left");
        assert_eq!(BreakGlassState::Used.after(Revoke { is_on_its_way: true }), Some(BreakGlassState::Revoked));
        assert_eq!(BreakGlassState::Revoked.after(Return), Some(BreakGlassState::Revoked), "it opens nothing");
        assert_eq!(BreakGlassState::Revoked.after(Review { was_used: false }), None);
        assert_eq!(BreakGlassState::Revoked.after(Review { was_used: true }), Some(BreakGlassState::Reviewed));
    }
}
