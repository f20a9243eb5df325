//! What is said of an opening, held against what the log says of its kit. Only whoever uses a kit's key without `ichor kit open`, which
//! keeps to roles and cap, can have signed more.

use ichor_wire::profile::user_fits;
use jiff::Timestamp;

use super::Standing;
use super::ledger::CLOCKS;

/// The label of an opening that is said to have given more than its kit gives: it explains nothing.
pub const BEYOND: &str = "beyond-the-kit";

/// What is said of an opening.
pub(super) struct Claim<'a> {
    /// The roles.
    pub(super) roles: &'a [String],
    /// Since when.
    pub(super) opened: Timestamp,
    /// Until when.
    pub(super) until: Timestamp,
}

impl Standing {
    /// In what this is more than the kit gives, a phrase each; nothing where it is within.
    pub(super) fn beyond(&self, claim: &Claim<'_>) -> Vec<String> {
        let Claim { roles, opened, until } = *claim;
        let mut found = Vec::new();
        let more: Vec<&str> = roles.iter().filter(|role| !self.roles.contains(role)).map(String::as_str).collect();
        if !more.is_empty() {
            found.push(format!("the kit does not give {}", more.join(" ")));
        }
        if until < opened {
            found.push("it ends before it begins".into());
        } else if until.as_second().saturating_sub(opened.as_second()) > self.ttl_cap.as_secs() {
            found.push(format!("it lasts longer than {} s, the kit's cap", self.ttl_cap.as_secs()));
        }
        if opened < self.ca.not_before() || until > self.until {
            found.push(format!("the kit is good from {} to {}", self.ca.not_before(), self.until));
        }
        found
    }
}

/// The same of when it is brought: nothing is reported before it was.
pub(super) fn is_to_come(opened: Timestamp, now: Timestamp) -> bool {
    opened > now.saturating_add(CLOCKS).unwrap_or(now)
}

/// Whether an opener can have this name, as nodes would have it.
pub(super) fn can_be_a_name(name: &str) -> bool {
    !name.is_empty() && user_fits(&format!("claimed:{name}"))
}

/// Labels in the order in which they are told, the worst first.
pub(super) fn rank(label: &str) -> u8 {
    match label {
        BEYOND => 0,
        "misuse" => 1,
        "emergency" => 3,
        "drill" => 4,
        _ => 2,
    }
}
