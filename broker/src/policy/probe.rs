//! The one grant that nobody asked for: the broker's own, to see whether nodes accept a CA.

use ichor_wire::profile::CsrKey;
use jiff::{SignedDuration, Timestamp};

use super::{Grant, PolicySet};
use crate::domain::{Cluster, GrantId};
use crate::identity::Identity;

/// How long a probe's certificate lasts: long enough to ask every node of a large cluster once.
pub const PROBE_LIFE: SignedDuration = SignedDuration::from_mins(5);

/// A grant of os:reader for [`PROBE_LIFE`] to the broker itself. `key` is from a request whose proof of possession was checked. It takes no wish: role and time are what they are.
#[must_use]
pub fn probe(policies: &PolicySet, cluster: &Cluster, key: CsrKey, id: GrantId, now: Timestamp) -> Grant {
    let not_after = now.saturating_add(PROBE_LIFE).unwrap_or(now);
    Grant::of_probe(&Identity::system(now), cluster, key, id, not_after, policies.digest())
}
