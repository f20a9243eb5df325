//! Which entries are told.

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
    /// A CA made, replaced, or near its end.
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
            // the use of a request, and one that led to nothing
            "grant" | "issue-failed" if entry.detail.contains_key("break_glass") => Some(Self::BreakGlass),
            // someone else writes the database
            "refusal" if entry.detail.get("code").is_some_and(|code| code == Code::Suspect.as_str()) => {
                Some(Self::BreakGlass)
            }
            _ => None,
        }
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
