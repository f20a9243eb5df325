//! Which entries are told.

use std::collections::BTreeSet;

use ichor_wire::api::AuditEntry;
use ichor_wire::problem::Code;

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

/// Whether what custody made was not what was granted.
pub(super) fn is_mismatch(entry: &AuditEntry) -> bool {
    is(entry, Code::CertificateMismatch)
}

fn is(entry: &AuditEntry, code: Code) -> bool {
    entry.detail.get("code").is_some_and(|found| found == code.as_str())
}
