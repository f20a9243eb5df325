//! Requests and answers of the HTTP API under `/v1`.
//!
//! The broker refuses unknown request fields; clients ignore unknown answer fields, so that a newer broker can say more.
//! Times are RFC 3339 in UTC, durations whole seconds.

mod audit;
mod break_glass;
mod kits;
mod locks;
mod proofs;

use std::collections::BTreeMap;
use std::fmt;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::ToSchema;
use uuid::Uuid;
use zeroize::Zeroize;

use crate::problem::Problem;
use crate::role::Role;

pub use audit::*;
pub use break_glass::*;
pub use kits::*;
pub use locks::*;
pub use proofs::*;

/// The header in which the client names its version, as `0.1.0`.
pub const CLIENT_VERSION_HEADER: &str = "ichor-client-version";

/// The body of `POST /v1/clusters/{cluster}/certificates`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CertificateRequest {
    /// A PKCS#10 request, PEM. Only its public key is used, after its signature was checked.
    pub csr: String,
    /// The roles asked for; empty asks for `os:reader`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// The lifetime asked for, in seconds; absent asks for the broker's default (one hour unless configured). A longer
    /// one than policy allows is cut, not refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u64>,
    /// Why; some policies require it. At most 500 characters. It is kept in the audit.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub reason: Option<String>,
}

/// A certificate, and all that the client needs to write a talosconfig context.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CertificateAnswer {
    /// The cluster's name at the broker.
    pub cluster: String,
    /// The grant, as it stands in the certificate (`grant:<id>`) and in the audit.
    pub grant_id: Uuid,
    /// The client certificate, PEM.
    pub certificate: String,
    /// The private key, PEM (`ED25519 PRIVATE KEY`), where the cluster made it and the request's own key is not used; absent
    /// where the certificate is for the request's key, which is the rule.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>)]
    pub private_key: Option<SecretPem>,
    /// The CA certificate that signed it, PEM: nodes must have it in `machine.acceptedCAs`, unless it is their own CA.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuing_ca: Option<String>,
    /// The CA certificates that the cluster's nodes present, PEM; what the talosconfig calls `ca`.
    pub ca: String,
    /// The cluster's endpoints, as a talosconfig has them.
    pub endpoints: Vec<String>,
    /// The nodes to write at the first time, if the cluster declares any.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// The roles granted.
    pub roles: Vec<Role>,
    /// The certificate's start, backdated for clocks that are behind.
    #[schema(value_type = String, format = DateTime)]
    pub not_before: Timestamp,
    /// The certificate's end.
    #[schema(value_type = String, format = DateTime)]
    pub not_after: Timestamp,
    /// The value behind `user:` in the certificate.
    pub user: String,
    /// Where the audit has it.
    pub receipt: Receipt,
}

/// A private key as PEM. It is wiped when dropped, and `Debug` does not show it.
#[derive(Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct SecretPem(String);

/// Who the session belongs to and how long it lasts: `GET /v1/session`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct SessionAnswer {
    /// The session's id, as the audit names it.
    pub session_id: Uuid,
    /// The provider's alias at the broker.
    pub provider: String,
    /// The provider's issuer URL.
    pub issuer: String,
    /// The provider's subject: with the issuer, the person's key.
    pub subject: String,
    /// The person's name as the provider tells it.
    pub name: String,
    /// The value that certificates carry behind `user:`.
    pub user: String,
    /// Groups, as of `groups_at`.
    pub groups: Vec<String>,
    /// When the provider was last asked for the groups.
    #[schema(value_type = String, format = DateTime)]
    pub groups_at: Timestamp,
    /// The authentication context the provider vouched for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub acr: Option<String>,
    /// When the person last authenticated at the provider.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub auth_time: Option<Timestamp>,
    /// When the session ends whatever happens.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
}

/// The answer of `GET /v1/clusters`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClustersAnswer {
    /// Every cluster that the person may see, by name.
    pub clusters: Vec<ClusterAnswer>,
}

/// One cluster as this person sees it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ClusterAnswer {
    /// The cluster's name.
    pub name: String,
    /// The cluster's labels.
    pub labels: BTreeMap<String, String>,
    /// The cluster's endpoints.
    pub endpoints: Vec<String>,
    /// The declared default nodes.
    #[serde(default)]
    pub nodes: Vec<String>,
    /// Whether the broker could issue now, or why not (for one, its CA is not in custody).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub unavailable: Option<String>,
    /// For each role: may I hold it, for how long, and if not, why.
    pub roles: Vec<RoleAnswer>,
}

/// What policy says of one role on one cluster.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct RoleAnswer {
    /// The role.
    pub role: Role,
    /// Whether a request with nothing but this role would be granted now.
    pub allowed: bool,
    /// Where not allowed: whether it can be had by a break-glass request, once others approve or someone outside was told.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub by_request: bool,
    /// The longest lifetime, in seconds, where allowed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub max_ttl: Option<u64>,
    /// Where not allowed: why, in one sentence.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// Where not allowed: what would help, as sentences.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub help: Vec<String>,
    /// The policies that decided, by `@id`.
    #[serde(default)]
    pub policies: Vec<String>,
}

/// A body without a word: `{}`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct Nothing {}

/// An error answer: always a problem document (RFC 9457).
pub type ErrorAnswer = Problem;

// === impl SecretPem ===

impl SecretPem {
    /// The text.
    #[must_use]
    pub fn as_str(&self) -> &str {
        &self.0
    }
}

impl From<&str> for SecretPem {
    fn from(text: &str) -> Self {
        Self(text.to_owned())
    }
}

impl Drop for SecretPem {
    fn drop(&mut self) {
        self.0.zeroize();
    }
}

impl fmt::Debug for SecretPem {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("SecretPem(..)")
    }
}
