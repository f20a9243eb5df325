//! The names of the kinds.

use std::fmt;
use std::str::FromStr;

use super::{Content, Kind};

/// The text names no kind of entry.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("unknown kind of entry `{0}`; kinds are {known}", known = Kind::ALL.map(Kind::as_str).join(", "))]
pub struct UnknownKind(
    /// The text as given, cut to 64 characters.
    pub String,
);

impl Kind {
    /// Every kind that this build knows, by number.
    pub const ALL: [Self; 37] = [
        Self::Login,
        Self::LoginRefused,
        Self::SessionEnd,
        Self::SessionRefresh,
        Self::Grant,
        Self::Refusal,
        Self::Issued,
        Self::IssueFailed,
        Self::Reload,
        Self::Ca,
        Self::Admin,
        Self::Start,
        Self::AuditRead,
        Self::AuditKey,
        Self::LogOpened,
        Self::BodyDropped,
        Self::NodeLog,
        Self::NodeAlarm,
        Self::BreakGlassRequest,
        Self::BreakGlassApproval,
        Self::BreakGlassDenial,
        Self::BreakGlassCancelled,
        Self::BreakGlassRevoked,
        Self::BreakGlassOver,
        Self::BreakGlassReview,
        Self::BreakGlassTouched,
        Self::BreakGlassOverdue,
        Self::Lock,
        Self::Unlock,
        Self::KitMade,
        Self::KitOpened,
        Self::KitDrill,
        Self::KitRevoked,
        Self::KitInUse,
        Self::UnlockAsked,
        Self::BreakGlassTold,
        Self::KitOverdue,
    ];

    /// The kind as queries and answers name it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Login => "login",
            Self::LoginRefused => "login-refused",
            Self::SessionEnd => "session-end",
            Self::SessionRefresh => "session-refresh",
            Self::Grant => "grant",
            Self::Refusal => "refusal",
            Self::Issued => "issued",
            Self::IssueFailed => "issue-failed",
            Self::Reload => "reload",
            Self::Ca => "ca",
            Self::Admin => "admin",
            Self::Start => "start",
            Self::AuditRead => "audit-read",
            Self::AuditKey => "audit-key",
            Self::LogOpened => "log-opened",
            Self::BodyDropped => "body-dropped",
            Self::NodeLog => "node-log",
            Self::NodeAlarm => "node-alarm",
            Self::BreakGlassRequest => "break-glass-request",
            Self::BreakGlassApproval => "break-glass-approval",
            Self::BreakGlassDenial => "break-glass-denial",
            Self::BreakGlassCancelled => "break-glass-cancelled",
            Self::BreakGlassRevoked => "break-glass-revoked",
            Self::BreakGlassOver => "break-glass-over",
            Self::BreakGlassReview => "break-glass-review",
            Self::BreakGlassTouched => "break-glass-touched",
            Self::BreakGlassOverdue => "break-glass-overdue",
            Self::Lock => "lock",
            Self::Unlock => "unlock",
            Self::KitMade => "kit-made",
            Self::KitOpened => "kit-opened",
            Self::KitDrill => "kit-drill",
            Self::KitRevoked => "kit-revoked",
            Self::KitInUse => "kit-in-use",
            Self::UnlockAsked => "unlock-asked",
            Self::BreakGlassTold => "break-glass-told",
            Self::KitOverdue => "kit-overdue",
        }
    }

    /// The kind's number in the log, never used twice.
    #[must_use]
    pub const fn number(self) -> u8 {
        match self {
            Self::Login => 1,
            Self::LoginRefused => 2,
            Self::SessionEnd => 3,
            Self::SessionRefresh => 4,
            Self::Grant => 5,
            Self::Refusal => 6,
            Self::Issued => 7,
            Self::IssueFailed => 8,
            Self::Reload => 9,
            Self::Ca => 10,
            Self::Admin => 11,
            Self::Start => 12,
            Self::AuditRead => 13,
            Self::AuditKey => 14,
            Self::LogOpened => 15,
            Self::BodyDropped => 16,
            Self::NodeLog => 17,
            Self::NodeAlarm => 18,
            Self::BreakGlassRequest => 19,
            Self::BreakGlassApproval => 20,
            Self::BreakGlassDenial => 21,
            Self::BreakGlassCancelled => 22,
            Self::BreakGlassRevoked => 23,
            Self::BreakGlassOver => 24,
            Self::BreakGlassReview => 25,
            Self::BreakGlassTouched => 26,
            Self::BreakGlassOverdue => 27,
            Self::Lock => 28,
            Self::Unlock => 29,
            Self::KitMade => 30,
            Self::KitOpened => 31,
            Self::KitDrill => 32,
            Self::KitRevoked => 33,
            Self::KitInUse => 34,
            Self::UnlockAsked => 35,
            Self::BreakGlassTold => 36,
            Self::KitOverdue => 37,
        }
    }

    /// Whether the body of such an entry may ever be dropped: a closed list. What says how the broker itself was run stays, and
    /// so does what later entries are checked against.
    #[must_use]
    pub const fn may_be_dropped(self) -> bool {
        matches!(
            self,
            Self::Login
                | Self::LoginRefused
                | Self::SessionEnd
                | Self::SessionRefresh
                | Self::Grant
                | Self::Refusal
                | Self::Issued
                | Self::IssueFailed
                | Self::AuditRead
        )
    }
}

impl fmt::Display for Kind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Kind {
    type Err = UnknownKind;

    fn from_str(text: &str) -> Result<Self, UnknownKind> {
        Self::ALL
            .into_iter()
            .find(|kind| kind.as_str() == text)
            .ok_or_else(|| UnknownKind(text.chars().filter(|c| !c.is_control()).take(64).collect()))
    }
}

impl Content {
    /// Content that says nothing but what happened; the rest is filled in as `Content { cluster, ..Content::of(kind) }`.
    #[must_use]
    pub const fn of(kind: Kind) -> Self {
        Self {
            kind,
            person: None,
            cluster: None,
            grant: None,
            session: None,
            address: None,
            roles: None,
            not_after: None,
            reason: None,
            policies: None,
            code: None,
            serial: None,
            fingerprint: None,
            public_key: None,
            count: None,
            digests: None,
            os_user: None,
            host: None,
            message: None,
            mode: None,
            policy_digest: None,
            key_made_by: None,
            log_key: None,
            old_head: None,
            dropped: None,
            drop_request: None,
            calls: None,
            lines: None,
            node: None,
            method: None,
            break_glass: None,
            contents: None,
            quorum: None,
            approvers: None,
            nodes: None,
            ticket: None,
            requester: None,
            label: None,
            lock: None,
            locked: None,
            locked_user: None,
            locked_session: None,
            locked_until: None,
            kit: None,
            witnesses: None,
            shares: None,
            claimed: None,
            kit_label: None,
            challenge: None,
            opened: None,
            accepting: None,
            self_service: None,
            told: None,
            life: None,
            uses: None,
            by_account: None,
            channel: None,
            auth_time: None,
            acr: None,
            node_calls: None,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_and_numbers_are_one_to_one() {
        for kind in Kind::ALL {
            assert_eq!(kind.as_str().parse(), Ok(kind));
            assert_eq!(
                minicbor::to_vec(kind).unwrap(),
                minicbor::to_vec(kind.number()).unwrap(),
                "the number is what the log holds"
            );
        }
        assert!(Kind::ALL.is_sorted(), "by number, none twice");
    }

    #[test]
    fn an_unknown_kind_is_refused_with_the_known_ones() {
        let refused = "grants\u{1b}[31m".parse::<Kind>().unwrap_err().to_string();
        assert!(refused.starts_with("unknown kind of entry `grants[31m`; kinds are login, "), "{refused}");
    }
}
