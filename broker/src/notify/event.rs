//! Which entries are told.

use std::collections::BTreeSet;

use ichor_wire::api::AuditEntry;
use ichor_wire::problem::Code;

use crate::store::CallClass;

/// What a sink can be told of.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Event {
    /// Every step of a break-glass request: asked, approved, denied, taken back, revoked, over, used, a node touched, reviewed,
    /// and a review that is overdue.
    BreakGlass,
    /// A kit made, opened, drilled, revoked, in use without a report, or its drill overdue.
    Kit,
    /// A lock set, or taken away, or asked to be.
    Lock,
    /// Calls in a node's log that want a look.
    NodeAlarm,
    /// A CA made, replaced, or near its end; and a certificate that came back from custody and was not what was granted.
    Ca,
}

// === impl Event ===

impl Event {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::BreakGlass, Self::Kit, Self::Lock, Self::NodeAlarm, Self::Ca];

    /// What the entry is to be told as; `None` where nobody is told of it.
    #[must_use]
    pub fn of(entry: &AuditEntry) -> Option<Self> {
        match entry.kind.as_str() {
            kind if kind.starts_with("break-glass-") => Some(Self::BreakGlass),
            kind if kind.starts_with("kit-") => Some(Self::Kit),
            "lock" | "unlock" | "unlock-asked" => Some(Self::Lock),
            "node-alarm" => Some(Self::NodeAlarm),
            "ca" => Some(Self::Ca),
            // somebody holds a CA, or answers in its place: whatever the certificate was to be for
            "issue-failed" if is_mismatch(entry) => Some(Self::Ca),
            // the use of a request, and one that led to nothing
            "grant" | "issue-failed" if entry.detail.contains_key("break_glass") => Some(Self::BreakGlass),
            // someone else writes the database
            "refusal" if is(entry, Code::Suspect) => Some(Self::BreakGlass),
            _ => None,
        }
    }

    /// The same for whoever wants to be told of these alone. A certificate that nobody granted, asked for by the use of a
    /// break-glass request, is told to those who want either.
    #[must_use]
    pub fn among(entry: &AuditEntry, wanted: &BTreeSet<Self>) -> Option<Self> {
        let is_use = entry.kind == "issue-failed" && entry.detail.contains_key("break_glass");
        let own = [Self::of(entry), is_use.then_some(Self::BreakGlass)];
        own.into_iter().flatten().find(|event| wanted.contains(event))
    }

    /// The event as the configuration names it.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::BreakGlass => "break-glass",
            Self::Kit => "kit",
            Self::Lock => "lock",
            Self::NodeAlarm => "node-alarm",
            Self::Ca => "ca",
        }
    }
}

/// Whether the finding in a node's log is of calls of one of these classes, or of no class: a node that is silent, what the quota took, and
/// what was counted together, which may be of any.
pub(super) fn is_of(entry: &AuditEntry, classes: &BTreeSet<CallClass>) -> bool {
    let class = entry.detail.get("code").and_then(|code| CallClass::named(code));
    class.is_none_or(|class| classes.contains(&class))
}

/// Whether what custody made was not what was granted.
pub(super) fn is_mismatch(entry: &AuditEntry) -> bool {
    is(entry, Code::CertificateMismatch)
}

fn is(entry: &AuditEntry, code: Code) -> bool {
    entry.detail.get("code").is_some_and(|found| found == code.as_str())
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ichor_wire::log::Kind;
    use uuid::Uuid;

    use super::*;
    use crate::store::conformance::noon;

    fn of(kind: Kind, detail: &[(&str, &str)]) -> Option<Event> {
        Event::of(&AuditEntry {
            index: 1,
            id: Uuid::nil(),
            time: noon(),
            kind: kind.as_str().into(),
            user: None,
            issuer: None,
            subject: None,
            cluster: None,
            grant_id: None,
            session_id: None,
            detail: detail
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect::<BTreeMap<_, _>>(),
            leaf_hash: String::new(),
        })
    }

    /// Who is told of which kind. A new kind is in it too, or the test fails.
    const TOLD: [(Option<Event>, &[Kind]); 6] = [
        (
            Some(Event::BreakGlass),
            &[
                Kind::BreakGlassRequest,
                Kind::BreakGlassApproval,
                Kind::BreakGlassDenial,
                Kind::BreakGlassCancelled,
                Kind::BreakGlassRevoked,
                Kind::BreakGlassOver,
                Kind::BreakGlassReview,
                Kind::BreakGlassTouched,
                Kind::BreakGlassOverdue,
                Kind::BreakGlassTold,
            ],
        ),
        (
            Some(Event::Kit),
            &[Kind::KitMade, Kind::KitOpened, Kind::KitDrill, Kind::KitRevoked, Kind::KitInUse, Kind::KitOverdue],
        ),
        (Some(Event::Lock), &[Kind::Lock, Kind::Unlock, Kind::UnlockAsked]),
        (Some(Event::NodeAlarm), &[Kind::NodeAlarm]),
        (Some(Event::Ca), &[Kind::Ca]),
        (
            None,
            &[
                Kind::Login,
                Kind::LoginRefused,
                Kind::SessionEnd,
                Kind::SessionRefresh,
                Kind::Grant,
                Kind::Refusal,
                Kind::Issued,
                Kind::IssueFailed,
                Kind::Reload,
                Kind::Admin,
                Kind::Start,
                Kind::AuditRead,
                Kind::AuditKey,
                Kind::LogOpened,
                Kind::BodyDropped,
                Kind::NodeLog,
            ],
        ),
    ];

    #[test]
    fn every_kind_is_told_as_its_event_or_to_nobody() {
        for (event, kinds) in TOLD {
            for kind in kinds {
                assert_eq!(of(*kind, &[]), event, "{kind}");
            }
        }
        let mut listed: Vec<Kind> = TOLD.iter().flat_map(|(_, kinds)| kinds.iter().copied()).collect();
        listed.sort_unstable_by_key(|kind| kind.number());
        assert_eq!(listed, Kind::ALL, "each once");
    }

    #[test]
    fn a_use_and_what_is_suspect_are_told_of_as_break_glass() {
        let request = ("break_glass", "0193533d-9c00-7000-8000-000000000001");
        for kind in [Kind::Grant, Kind::IssueFailed] {
            assert_eq!(of(kind, &[request]), Some(Event::BreakGlass), "{kind}");
        }
        assert_eq!(of(Kind::Issued, &[request]), None, "its grant was told");
        assert_eq!(of(Kind::Refusal, &[("code", "suspect")]), Some(Event::BreakGlass));
        for code in ["refused", "locked"] {
            assert_eq!(of(Kind::Refusal, &[("code", code), request]), None, "{code}");
        }
    }
}
