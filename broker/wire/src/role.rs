//! The closed list of Talos roles that Ichor grants.

use std::fmt;
use std::str::FromStr;

use serde::{Deserialize, Serialize};
use utoipa::ToSchema;

/// A role that a Talos node knows and that Ichor may put into a certificate.
///
/// The list is closed on purpose: `os:impersonator` is as good as `os:admin` to its holder (the node believes the
/// `talos-role` metadata such a caller sends), so it can never be named here.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize, ToSchema)]
pub enum Role {
    /// Everything, including what makes its holder a permanent admin.
    #[serde(rename = "os:admin")]
    Admin,
    /// Reboot, shut down, restart services, etcd maintenance; and whatever a reader may.
    #[serde(rename = "os:operator")]
    Operator,
    /// Read-only access that leaves out secrets.
    #[serde(rename = "os:reader")]
    Reader,
    /// Take an etcd snapshot, and nothing else. The snapshot holds every Kubernetes Secret.
    #[serde(rename = "os:etcd:backup")]
    EtcdBackup,
    /// Verify images (Talos 1.13 and later).
    #[serde(rename = "os:image:verifier")]
    ImageVerifier,
    /// Write META keys (Talos 1.13 and later).
    #[serde(rename = "os:meta:writer")]
    MetaWriter,
}

/// The text is not a role of the closed list.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error(
    "unknown role `{0}`; roles are os:reader, os:operator, os:admin, os:etcd:backup, os:image:verifier and os:meta:writer"
)]
pub struct UnknownRole(
    /// The text as given, cut to 64 characters.
    pub String,
);

impl Role {
    /// Every role, in the order of the type.
    pub const ALL: [Self; 6] =
        [Self::Admin, Self::Operator, Self::Reader, Self::EtcdBackup, Self::ImageVerifier, Self::MetaWriter];

    /// The role as it stands in the certificate's Organization.
    #[must_use]
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Admin => "os:admin",
            Self::Operator => "os:operator",
            Self::Reader => "os:reader",
            Self::EtcdBackup => "os:etcd:backup",
            Self::ImageVerifier => "os:image:verifier",
            Self::MetaWriter => "os:meta:writer",
        }
    }
}

impl fmt::Display for Role {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

impl FromStr for Role {
    type Err = UnknownRole;

    fn from_str(text: &str) -> Result<Self, UnknownRole> {
        Self::ALL
            .into_iter()
            .find(|role| role.as_str() == text)
            .ok_or_else(|| UnknownRole(text.chars().filter(|c| !c.is_control()).take(64).collect()))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn impersonator_can_never_be_named() {
        assert!("os:impersonator".parse::<Role>().is_err());
        assert!(" os:admin ".parse::<Role>().is_err(), "Talos trims blanks, so they must not get that far");
        assert!(serde_json::from_str::<Role>("\"os:impersonator\"").is_err());
    }

    #[test]
    fn text_and_json_agree() {
        for role in Role::ALL {
            assert_eq!(role.as_str().parse(), Ok(role));
            assert_eq!(serde_json::to_value(role).unwrap(), role.as_str());
        }
    }
}
