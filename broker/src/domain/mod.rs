//! Plain data that every room speaks of. Anyone may build these values; none of them permits anything.

mod address;
mod break_glass;
mod cluster;
mod human;
mod lock;
mod page;
mod person;
mod request;
mod version;

pub use address::{AddressRange, network};
pub use break_glass::{BreakGlassId, BreakGlassState, BreakGlassStep};
pub use cluster::{Cluster, ClusterName, Clusters};
pub(crate) use human::IN_FORCE;
pub use human::{ClaimsInForce, Human, HumanClaim};
pub use ichor_wire::reason::{BadReason, check_reason, visible};
pub use ichor_wire::role::Role;
pub use lock::{LockId, LockKind, LockTarget};
pub use page::PageUse;
pub use person::{Group, Person, ProviderAlias};
pub use request::{GrantId, Request, SessionId};
pub use version::ClientVersion;

/// The text does not fit the rule for its kind of name.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{text}` is not a {what}: {rule}")]
pub struct BadName {
    what: &'static str,
    rule: &'static str,
    text: String,
}

/// Checks `text` against `[a-z0-9-]+` of at most 63 characters, beginning and ending with a letter or digit.
fn label(what: &'static str, text: &str) -> Result<String, BadName> {
    let fits = !text.is_empty()
        && text.len() <= 63
        && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-')
        && !text.starts_with('-')
        && !text.ends_with('-');
    if fits {
        return Ok(text.into());
    }
    let shown = text.chars().filter(|c| !c.is_control()).take(80).collect();
    Err(BadName { what, rule: "use up to 63 lower-case letters, digits and inner hyphens", text: shown })
}
