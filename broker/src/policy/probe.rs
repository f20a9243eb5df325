//! The grants that nobody asked for: the broker's own.

use ichor_wire::profile::CsrKey;
use jiff::{SignedDuration, Timestamp};

use super::grant::Errand;
use super::{Grant, PolicySet};
use crate::domain::{Cluster, GrantId, Role};
use crate::identity::Identity;

/// How long a probe's certificate lasts: long enough to ask every node of a large cluster once.
pub const PROBE_LIFE: SignedDuration = SignedDuration::from_mins(5);

/// How long the certificate lasts with which the broker has a cluster make certificates: as short as a shipped policy lets
/// a person hold os:admin.
pub const DELEGATION_LIFE: SignedDuration = SignedDuration::from_mins(15);

/// A grant of os:reader for [`PROBE_LIFE`] to the broker itself, to see whether nodes accept a CA. `key` is from a request
/// whose proof of possession was checked; `os_user` is who had a command ask, where one did. It takes no wish: role and time
/// are what they are.
#[must_use]
pub fn probe(
    policies: &PolicySet,
    cluster: &Cluster,
    key: CsrKey,
    id: GrantId,
    now: Timestamp,
    os_user: Option<&str>,
) -> Grant {
    let not_after = now.saturating_add(PROBE_LIFE).unwrap_or(now);
    let reason = "to see whether the nodes accept the CA";
    let errand = Errand { role: Role::Reader, not_after, reason, os_user };
    Grant::of_system(&Identity::system(now), cluster, key, id, &errand, policies.digest())
}

/// A grant of os:admin for [`DELEGATION_LIFE`] to the broker itself, with which a cluster whose own API makes the certificates
/// is asked for them. The people's own grants are decided and recorded as any; this is only the means.
#[must_use]
pub fn delegation(policies: &PolicySet, cluster: &Cluster, key: CsrKey, id: GrantId, now: Timestamp) -> Grant {
    let not_after = now.saturating_add(DELEGATION_LIFE).unwrap_or(now);
    let reason = "to have the cluster make certificates";
    let errand = Errand { role: Role::Admin, not_after, reason, os_user: None };
    Grant::of_system(&Identity::system(now), cluster, key, id, &errand, policies.digest())
}
