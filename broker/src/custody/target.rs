//! Where a CA is to live, and what things are named there.

use super::pki::RoleSet;
use super::record::Place;
use crate::domain::ClusterName;

/// Where a CA is to live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// In the vault.
    Age,
    /// As a secret of KV version 2.
    Kv {
        /// The server.
        server: String,
        /// The mount.
        mount: String,
        /// The secret's path; `None` for `ichor/<cluster>`.
        path: Option<String>,
    },
    /// As a key of Transit.
    Transit {
        /// The server.
        server: String,
        /// The mount.
        mount: String,
        /// The key's name; `None` for `ichor-<cluster>`.
        key: Option<String>,
    },
    /// In a PKI engine, which has a CA of its own and makes the certificates.
    Pki {
        /// The server.
        server: String,
        /// The mount.
        mount: String,
        /// Whether the broker makes a role for each person and set of roles.
        role_per_person: bool,
        /// The sets of roles that the engine must have a role for.
        roles: Vec<RoleSet>,
    },
}

/// What is being settled: for whom, and how names are made.
#[derive(Clone, Copy, Debug)]
pub struct For<'a> {
    /// The cluster.
    pub cluster: &'a ClusterName,
    /// How many CAs the cluster will have had with this one.
    pub generation: u32,
    /// Whether what is at the place may be written over, as far as the place allows it at all.
    pub replace: bool,
    /// The vault's file that the record names already and whose key is yet to come.
    pub awaited: Option<&'a str>,
}

// === impl For ===

impl For<'_> {
    /// The name of a key or secret that was not named: `ichor-prod`, and `ichor-prod.2` for the second, which no other
    /// cluster can be called.
    pub(super) fn named(&self, separator: &str) -> String {
        let Self { cluster, generation, .. } = self;
        match generation {
            0 | 1 => format!("ichor{separator}{cluster}"),
            more => format!("ichor{separator}{cluster}.{more}"),
        }
    }
}

// === impl Target ===

impl Target {
    /// The server, by name, where it is at one.
    #[must_use]
    pub fn server(&self) -> Option<&str> {
        match self {
            Self::Age => None,
            Self::Kv { server, .. } | Self::Transit { server, .. } | Self::Pki { server, .. } => Some(server),
        }
    }

    /// Whether a CA at this place is the one that this target's key or secret of this name would be. `is_same`: whether two
    /// names of servers are one server's.
    pub(super) fn is_at(&self, place: &Place, name: &str, is_same: impl Fn(&str, &str) -> bool) -> bool {
        let (there, here) = match (self, place) {
            (Self::Kv { mount, .. }, Place::Kv { mount: m, path, .. }) => ((m, path.as_str()), (mount, name)),
            (Self::Transit { mount, .. }, Place::Transit { mount: m, key, .. }) => ((m, key.as_str()), (mount, name)),
            (Self::Pki { mount, .. }, Place::Pki { mount: m, .. }) => ((m, ""), (mount, "")),
            _ => return false,
        };
        let servers = self.server().zip(place.server());
        there == here && servers.is_some_and(|(one, other)| is_same(one, other))
    }
}
