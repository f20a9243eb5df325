//! Break-glass: elevated access that others approve.

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::{AuditEntry, NodeCall};
use crate::role::Role;

/// The format's name, in every request's contents.
pub const CONTENTS_FORMAT: &str = "ichor-break-glass/1";

/// The body of `POST /v1/break-glass`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BreakGlassAsk {
    /// The cluster's name.
    pub cluster: String,
    /// The roles asked for; empty asks for `os:reader`.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub roles: Vec<String>,
    /// How long the access is to last from the last approval on, in seconds; absent asks for the broker's default. A longer time
    /// than policy allows is cut, not refused.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ttl: Option<u64>,
    /// Why. At most 500 characters. It is shown to approvers and kept in the audit.
    pub reason: String,
    /// The nodes that will be touched. A statement: it is not enforced in direct mode, and the review flags calls elsewhere.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// The ticket's URL, https only; some policies require one.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// Whether to be let in without anyone's approval, where policy allows that: then the request waits until someone outside has
    /// accepted the notification of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub self_service: bool,
}

/// What exactly is asked for: what an approval is over. The broker sends it as the very text whose SHA-256 is approved.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BreakGlassContents {
    /// [`CONTENTS_FORMAT`].
    pub format: String,
    /// The request.
    pub id: Uuid,
    /// The alias of the requester's provider.
    pub provider: String,
    /// The provider's issuer.
    pub issuer: String,
    /// The requester's subject.
    pub subject: String,
    /// The requester's name as the provider tells it.
    pub name: String,
    /// The requester's `user:` value.
    pub user: String,
    /// Where the request came from.
    pub address: String,
    /// The cluster.
    pub cluster: String,
    /// The roles.
    pub roles: Vec<Role>,
    /// How long the access lasts from the last approval on, in seconds.
    pub ttl: u64,
    /// Why.
    pub reason: String,
    /// The ticket's URL.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub ticket: Option<String>,
    /// The nodes named; not enforced in direct mode.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub nodes: Vec<String>,
    /// When it was asked.
    #[schema(value_type = String, format = DateTime)]
    pub created_at: Timestamp,
    /// Until when it waits for approvals.
    #[schema(value_type = String, format = DateTime)]
    pub waits_until: Timestamp,
    /// How many others must approve; 0 where it is `self_service`.
    pub approvals: u64,
    /// Whether nobody approves it: it opens once someone outside has accepted the notification of it.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub self_service: bool,
    /// How many certificates it allows.
    pub uses: u64,
    /// The policies that say so, by `@id`.
    pub policies: Vec<String>,
    /// SHA-256 of the policy set, lower-case hex: under another one the approvals do not count.
    pub policy_digest: String,
    /// Whether the requester's provider tells, by the claim configured for that, which human is behind the account.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub human_told: bool,
}

/// A break-glass request as its reader may see it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BreakGlassAnswer {
    /// The request.
    pub id: Uuid,
    /// `pending`, `approved`, `denied`, `expired`, `cancelled`, `used`, `revoked`, `lapsed` or `reviewed`.
    pub state: String,
    /// Why it is not believed, where the database says something else of it than the broker's marks and the audit log: nothing
    /// is made of it then.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub suspect: Option<String>,
    /// The exact text of [`BreakGlassContents`], JSON, that approvals are over.
    pub contents: String,
    /// SHA-256 of `contents`, lower-case hex.
    pub sha256: String,
    /// Who approved, oldest first.
    pub approvals: Vec<BreakGlassApproval>,
    /// The notification sink that accepted it, where nobody approves it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub told: Option<String>,
    /// How many certificates were made of it.
    pub used: u64,
    /// Until when it may be used, once approved.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub good_until: Option<Timestamp>,
    /// How it was denied, cancelled or revoked.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub closing: Option<BreakGlassClosing>,
    /// The label put on its use.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub review: Option<BreakGlassReview>,
    /// The grants made of it, oldest first, those left out that led to no certificate.
    pub grants: Vec<Uuid>,
    /// What the caller may do with it as things are: `approve`, `deny`, `cancel`, `use`, `revoke`, `review`.
    pub may: Vec<String>,
}

/// Someone's approval.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BreakGlassApproval {
    /// Their `user:` value.
    pub user: String,
    /// Their name as the provider tells it.
    pub name: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// In their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// How a request was ended by someone.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BreakGlassClosing {
    /// Their `user:` value.
    pub user: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// In their words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// What a use was, said afterwards.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BreakGlassReview {
    /// `emergency`, `drill` or `misuse`.
    pub label: String,
    /// The reviewer's `user:` value.
    pub user: String,
    /// When.
    #[schema(value_type = String, format = DateTime)]
    pub at: Timestamp,
    /// In their words.
    pub note: String,
}

/// Query of `GET /v1/break-glass`. All filters must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BreakGlassQuery {
    /// Requests for this cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Requests in one of these states, separated by commas.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub state: Option<String>,
    /// Only one's own.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub mine: bool,
    /// At most so many, 1 to 500; absent means 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<Uuid>,
}

/// Requests, newest first, as far as the caller may see them.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BreakGlassList {
    /// The requests.
    pub requests: Vec<BreakGlassAnswer>,
    /// Given as `cursor`, it continues after this page; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<Uuid>,
}

/// The body of `POST /v1/break-glass/{id}/approve` and `…/deny`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BreakGlassVote {
    /// SHA-256 of the contents that were looked at, lower-case hex.
    pub sha256: String,
    /// In the approver's words.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// The body of `POST /v1/break-glass/{id}/cancel` and `…/revoke`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BreakGlassEnd {
    /// Why.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub comment: Option<String>,
}

/// The body of `POST /v1/break-glass/{id}/certificates`: what was approved is issued for this key.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BreakGlassUse {
    /// A PKCS#10 request, PEM. Only its public key is used, after its signature was checked.
    pub csr: String,
}

/// The body of `POST /v1/break-glass/{id}/review`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct BreakGlassLabel {
    /// `emergency`, `drill` or `misuse`.
    pub label: String,
    /// What was done and why, in the reviewer's words.
    pub note: String,
}

/// What was done under a request: `GET /v1/break-glass/{id}/report`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct BreakGlassReport {
    /// The request.
    pub request: BreakGlassAnswer,
    /// The log's entries about its grants, oldest first: grants, certificates, failures.
    pub entries: Vec<AuditEntry>,
    /// The calls that nodes' own logs tell of, at most 500: those that want a look first, then those at nodes that the request did not
    /// name, then the rest; of each the newest first.
    pub calls: Vec<NodeCall>,
    /// Whether there are more calls than these. `sums` has them all.
    #[serde(default)]
    pub more: bool,
    /// All calls, counted by node, method and class.
    #[serde(default)]
    pub sums: Vec<CallSum>,
    /// Nodes of any of the calls that the request did not name, where it named any.
    pub other_nodes: Vec<String>,
    /// Whether the cluster's certificates name no grant: then its calls are taken to be of this request by person, roles and time alone,
    /// and are `weak`.
    #[serde(default)]
    pub names_no_grant: bool,
}

/// How many calls of one kind were made under a request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallSum {
    /// The node.
    pub node: String,
    /// The gRPC method.
    pub method: String,
    /// As a call's `class`.
    pub class: String,
    /// How many.
    pub count: u64,
}

/// SHA-256 of a request's contents, lower-case hex.
#[must_use]
pub fn contents_sha256(contents: &str) -> String {
    data_encoding::HEXLOWER.encode(&Sha256::digest(contents.as_bytes()))
}
