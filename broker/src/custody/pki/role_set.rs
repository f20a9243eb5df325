//! Sets of roles, and the names that the engine's roles for them have.

use std::fmt;
use std::str::FromStr;

use ichor_wire::role::Role;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use crate::domain::ClusterName;

/// The roles that one certificate may hold together: sorted, none twice, at least one. Written `reader` or
/// `operator.etcd-backup`.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(try_from = "String", into = "String")]
pub struct RoleSet(Vec<Role>);

/// The text names no set of roles.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("`{0}` is no set of roles; write them with commas between, as `reader` or `operator,etcd-backup`")]
pub struct NoRoleSet(String);

/// Octets of a person's digest in a role's name: no two persons of a company share 128 bits.
const DIGEST: usize = 16;

// === impl RoleSet ===

impl RoleSet {
    /// The set of these roles; `None` where there are none.
    #[must_use]
    pub fn of(roles: &[Role]) -> Option<Self> {
        let mut roles = roles.to_vec();
        roles.sort_unstable();
        roles.dedup();
        (!roles.is_empty()).then_some(Self(roles))
    }

    /// The roles, sorted.
    #[must_use]
    pub fn roles(&self) -> &[Role] {
        &self.0
    }

    /// The name of the engine's role for this set: `ichor-prod-operator.etcd-backup`. No two sets and clusters share one, because
    /// no role's short name is the end of another's after a hyphen, and clusters have no dots in their names.
    #[must_use]
    pub fn role_name(&self, cluster: &ClusterName) -> String {
        format!("ichor-{cluster}-{self}")
    }

    /// The set whose role has this name, if it is one of this cluster's.
    #[must_use]
    pub fn of_role_name(cluster: &ClusterName, name: &str) -> Option<Self> {
        let set: Self = name.strip_prefix(&format!("ichor-{cluster}-"))?.parse().ok()?;
        (set.role_name(cluster) == name).then_some(set)
    }

    /// The name of the engine's role for this set and one person: `ichor-prod-p-` and 32 hexadecimal digits, the beginning of
    /// SHA-256 over cluster, roles and user.
    #[must_use]
    pub fn person_role_name(&self, cluster: &ClusterName, user: &str) -> String {
        // none of the three can hold a line break
        let digest = Sha256::digest(format!("ichor role of a person\n{cluster}\n{self}\n{user}"));
        let digest = data_encoding::HEXLOWER.encode(digest.get(..DIGEST).unwrap_or_default());
        format!("{}{digest}", person_prefix(cluster))
    }

    /// Organization values of its certificates, as the engine's role has them: the roles, and the person where it has one.
    pub(super) fn organization(&self, user: Option<&str>) -> Vec<String> {
        let roles = self.0.iter().map(|role| role.as_str().to_owned());
        roles.chain(user.map(|user| format!("user:{user}"))).collect()
    }
}

impl fmt::Display for RoleSet {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names: Vec<String> = self.0.iter().map(|role| short(*role)).collect();
        f.write_str(&names.join("."))
    }
}

impl FromStr for RoleSet {
    type Err = NoRoleSet;

    fn from_str(text: &str) -> Result<Self, NoRoleSet> {
        let bad = || NoRoleSet(text.chars().filter(|c| !c.is_control()).take(80).collect());
        let named = |name: &str| Role::ALL.into_iter().find(|role| role.as_str() == name || short(*role) == name);
        let roles: Option<Vec<Role>> = text.split([',', '.']).map(|name| named(name.trim())).collect();
        roles.and_then(|roles| Self::of(&roles)).ok_or_else(bad)
    }
}

impl TryFrom<String> for RoleSet {
    type Error = NoRoleSet;

    fn try_from(text: String) -> Result<Self, NoRoleSet> {
        text.parse()
    }
}

impl From<RoleSet> for String {
    fn from(set: RoleSet) -> Self {
        set.to_string()
    }
}

/// How the names of all roles of persons begin.
pub(super) fn person_prefix(cluster: &ClusterName) -> String {
    format!("ichor-{cluster}-p-")
}

/// Whether it is the name of a role that was made for a person of this cluster.
pub(super) fn is_person_role(cluster: &ClusterName, name: &str) -> bool {
    name.strip_prefix(&person_prefix(cluster)).is_some_and(|rest| {
        rest.len() == 2 * DIGEST && rest.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b))
    })
}

/// `os:etcd:backup` as `etcd-backup`.
fn short(role: Role) -> String {
    role.as_str().trim_start_matches("os:").replace(':', "-")
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::openbao::check_name;

    fn subsets() -> Vec<RoleSet> {
        let bits = 1..1_usize << Role::ALL.len();
        let of = |bits: usize| {
            let chosen = Role::ALL.into_iter().enumerate().filter(|(at, _)| bits >> at & 1 == 1);
            RoleSet::of(&chosen.map(|(_, role)| role).collect::<Vec<_>>()).unwrap()
        };
        bits.map(of).collect()
    }

    #[test]
    fn no_two_sets_of_any_clusters_share_a_name() {
        // names made so that they could meet, were it possible
        let shorts: Vec<String> = Role::ALL.into_iter().map(short).collect();
        let parts = shorts.iter().flat_map(|name| name.split('-').map(str::to_owned).chain([name.clone()]));
        let mut clusters: BTreeSet<String> = ["prod".to_owned(), "prod-p".to_owned()].into();
        clusters.extend(parts.map(|part| format!("prod-{part}")));
        let mut seen = BTreeSet::new();
        for cluster in clusters.iter().map(|name| ClusterName::new(name).unwrap()) {
            for set in subsets() {
                let (name, person) = (set.role_name(&cluster), set.person_role_name(&cluster, "ada"));
                assert!(check_name(&name).is_ok() && check_name(&person).is_ok(), "{name}");
                assert_eq!(RoleSet::of_role_name(&cluster, &name), Some(set));
                assert!(is_person_role(&cluster, &person) && !is_person_role(&cluster, &name));
                assert!(seen.insert(name.clone()), "{name} stands for two");
                assert!(seen.insert(person.clone()), "{person} stands for two");
            }
        }
    }

    #[test]
    fn a_set_is_written_in_one_way_and_read_in_several() {
        let set: RoleSet = "reader, os:etcd:backup,reader".parse().unwrap();
        assert_eq!(set.to_string(), "reader.etcd-backup");
        assert_eq!("etcd-backup.reader".parse(), Ok(set.clone()));
        assert_eq!(set.organization(Some("ada")), ["os:reader", "os:etcd:backup", "user:ada"]);
        for bad in ["", ",", "os:impersonator", "impersonator", "reader admin", "reader,"] {
            assert!(bad.parse::<RoleSet>().is_err(), "{bad}");
        }
        let prod = ClusterName::new("prod").unwrap();
        for other in ["ichor-prod-etcd-backup.reader", "ichor-prod-eu-reader", "ichor-prod-p-00", "reader"] {
            assert_eq!(RoleSet::of_role_name(&prod, other), None, "{other}");
        }
        assert_ne!(set.person_role_name(&prod, "ada"), set.person_role_name(&prod, "bob"));
    }
}
