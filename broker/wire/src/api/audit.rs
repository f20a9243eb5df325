//! Asking the audit, and dropping bodies of it.

use std::collections::BTreeMap;

use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use uuid::Uuid;

use super::Receipt;

/// Query of `GET /v1/audit/calls`. All filters must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct CallQuery {
    /// Calls at nodes of this cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Calls at the node of this name or address.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub node: Option<String>,
    /// Calls by certificates with this `user:` value, or by grants of the person with this subject; `me` for one's own.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// Calls by certificates of this grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Uuid>,
    /// Calls that rest on this entry alone, a grant's, since their certificates name no grant. Not looked at beside `grant`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<u64>,
    /// Calls of these classes, separated by commas, as `suspect,unexplained`; `alarming` stands for every class but
    /// `explained`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub class: Option<String>,
    /// Calls of this method, whole or what stands behind its last slash, as `Reboot`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub method: Option<String>,
    /// Calls begun at or after this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    #[schema(value_type = Option<String>)]
    pub since: Option<Timestamp>,
    /// Calls begun before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    #[schema(value_type = Option<String>)]
    pub until: Option<Timestamp>,
    /// At most so many, 1 to 500; absent means 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// One page of calls at nodes, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct CallAnswer {
    /// The calls.
    pub calls: Vec<NodeCall>,
    /// Given as `cursor`, it continues after the last call of this page; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
    /// Calls that came up to this time may be missing: the quota took some, of the cluster that was asked about, else of any.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub taken_until: Option<Timestamp>,
}

/// One call at a node, as the node's own log told of it: a claim that a certificate trusted by the node made the call.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct NodeCall {
    /// The node's name.
    pub node: String,
    /// The cluster.
    pub cluster: String,
    /// The gRPC method, as `/machine.MachineService/Reboot`; empty where the line does not say.
    pub method: String,
    /// The gRPC status code as Go prints it, as `OK` or `PermissionDenied`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub code: Option<String>,
    /// When the call began, by the node's clock.
    #[schema(value_type = String, format = DateTime)]
    pub started: Timestamp,
    /// When it ended.
    #[schema(value_type = String, format = DateTime)]
    pub ended: Timestamp,
    /// The roles in the caller's certificate.
    pub roles: Vec<String>,
    /// The `user:` value in the caller's certificate, or that of the grant that explains the call.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The grant in the caller's certificate.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant_id: Option<Uuid>,
    /// The caller's address, where the node tells it (Talos 1.14).
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub peer: Option<String>,
    /// `explained`, `after-expiry-on-open-connection`, `escape`, `suspect`, `weak` or `unexplained`.
    pub class: String,
    /// Why it is of its class, or what else there is to say of it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub why: Option<String>,
    /// The node's service that printed the line: `machined`, or `apid`.
    pub service: String,
    /// The log entry of the grant that a `weak` call is matched with.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub matched_entry: Option<u64>,
    /// The log entry that has the digest of this call and those kept with it.
    pub entry: u64,
}

/// Query of `GET /v1/audit/entries`. All filters must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct AuditQuery {
    /// Entries of the person with this `user:` value or subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    /// Entries about this cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Entries of this kind, as `grant` or `issued`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Entries of this grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Uuid>,
    /// Entries at or after this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    #[schema(value_type = Option<String>)]
    pub since: Option<Timestamp>,
    /// Entries before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    #[schema(value_type = Option<String>)]
    pub until: Option<Timestamp>,
    /// At most so many, 1 to 500; absent means 100.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u32>,
    /// The `next` of the page before.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cursor: Option<String>,
}

/// The header of `GET /v1/audit/lines` with the index of the entry that the answer's first line comes behind; absent where it begins
/// with the log.
pub const LINES_AFTER: &str = "ichor-lines-after";

/// Query of `GET /v1/audit/lines`. All filters must match.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct LinesQuery {
    /// Entries of the person with this `user:` value or subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    /// Entries about this cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// Entries of this kind, as `grant` or `issued`.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub kind: Option<String>,
    /// Entries of this grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<Uuid>,
    /// Entries at or after this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    #[schema(value_type = Option<String>)]
    pub since: Option<Timestamp>,
    /// Entries before this time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[param(value_type = Option<String>)]
    #[schema(value_type = Option<String>)]
    pub until: Option<Timestamp>,
    /// Entries behind this index.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub after: Option<u64>,
    /// Whether to wait for entries to come. Without `since` or `after` it begins at the log's present end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub follow: Option<bool>,
}

/// One page of audit entries, newest first.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditAnswer {
    /// The entries.
    pub entries: Vec<AuditEntry>,
    /// Given as `cursor`, it continues after the last entry of this page; absent at the end.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub next: Option<String>,
}

/// One audit entry, as people and programs read it. What does not apply is absent.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditEntry {
    /// The index in the log, from 0.
    pub index: u64,
    /// The entry's own id (UUIDv7).
    pub id: Uuid,
    /// When it was recorded.
    #[schema(value_type = String, format = DateTime)]
    pub time: Timestamp,
    /// What happened, as `login`, `grant`, `issued`.
    pub kind: String,
    /// The `user:` value of the person.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub user: Option<String>,
    /// The provider's issuer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub issuer: Option<String>,
    /// The provider's subject.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub subject: Option<String>,
    /// The cluster.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cluster: Option<String>,
    /// The grant.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant_id: Option<Uuid>,
    /// The session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<Uuid>,
    /// Every other field of the entry by name, as text.
    #[serde(default)]
    pub detail: BTreeMap<String, String>,
    /// The RFC 6962 hash of the leaf record, lower-case hex.
    pub leaf_hash: String,
}

/// A whole story, login → request → approvals → grant → certificate → calls → review → end, by any of its names: `GET /v1/audit/stories/{id}`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct StoryAnswer {
    /// What the id names: `grant`, `session`, `certificate`, `request` (break-glass) or `entry`.
    pub what: String,
    /// The session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub session_id: Option<Uuid>,
    /// The login that began the session.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub login: Option<AuditEntry>,
    /// The grants, oldest first: one, or where a session or a request was asked for, all of it.
    #[serde(default)]
    pub grants: Vec<GrantStory>,
    /// What else happened in the session, where the session was asked for, and what there is of a request that has no grant; oldest
    /// first.
    #[serde(default)]
    pub others: Vec<AuditEntry>,
    /// The session's end, where it was ended before its time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub end: Option<AuditEntry>,
    /// The entry that the id names, where it is none of the above.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<AuditEntry>,
    /// How many entries of the story the asker may not see.
    #[serde(default)]
    pub hidden: u64,
    /// Whether there was more than an answer holds: ask by time with `GET /v1/audit/entries`.
    #[serde(default)]
    pub truncated: bool,
}

/// A grant and what came of it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct GrantStory {
    /// The grant.
    pub grant_id: Uuid,
    /// Its entry; absent where it was dropped or may not be seen.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub grant: Option<AuditEntry>,
    /// What came of it: the certificate, or why there is none.
    #[serde(default)]
    pub outcome: Vec<AuditEntry>,
    /// What led to it, where it used a break-glass request: that it was asked for, and who approved it, or which sink was told;
    /// oldest first.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub request: Vec<AuditEntry>,
    /// What became of the request after that, oldest first: the first node called, revoked or over, a review that is overdue, the
    /// review.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub afterwards: Vec<AuditEntry>,
}

/// The body of `POST /v1/audit/drops`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct DropAsk {
    /// Only of this person's entries, by `user:` value or subject; absent: of everyone's.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    /// Only of entries before this time; absent: of all that are old enough.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    #[schema(value_type = Option<String>, format = DateTime)]
    pub before: Option<Timestamp>,
    /// Why. It is kept in the audit for ever, so name nobody in it.
    pub reason: String,
}

/// A request to drop bodies.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DropAnswer {
    /// The request's id, for whoever approves.
    pub request_id: Uuid,
    /// Who asked: their subject.
    pub asked_by: String,
    /// Whose entries; absent: everyone's, or the request is done and it is forgotten.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub person: Option<String>,
    /// Only of entries before this time.
    #[schema(value_type = String, format = DateTime)]
    pub before: Timestamp,
    /// Until when it can be approved.
    #[schema(value_type = String, format = DateTime)]
    pub expires_at: Timestamp,
    /// How many bodies would go now, counted up to 10,000; absent for whoever may not read the whole audit, and of a request that is done.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub bodies: Option<u64>,
    /// Whether the count ended before the log did: there may be more.
    #[serde(default, skip_serializing_if = "std::ops::Not::not")]
    pub bodies_or_more: bool,
    /// Whether it is done.
    pub done: bool,
}

/// What an approval dropped.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct DroppedAnswer {
    /// How many bodies are gone with this answer.
    pub bodies: u64,
    /// Whether there is more to drop: approve again to go on.
    pub more: bool,
    /// The entries that say which.
    pub receipts: Vec<Receipt>,
}

// === impl LinesQuery ===

impl LinesQuery {
    /// Its filters alone.
    #[must_use]
    pub fn into_filters(self) -> AuditQuery {
        let Self { person, cluster, kind, grant, since, until, .. } = self;
        AuditQuery { person, cluster, kind, grant, since, until, ..AuditQuery::default() }
    }
}

// === impl StoryAnswer ===

impl StoryAnswer {
    /// Every entry of the story.
    pub fn entries(&self) -> impl Iterator<Item = &AuditEntry> {
        let grants = self
            .grants
            .iter()
            .flat_map(|story| story.request.iter().chain(&story.grant).chain(&story.outcome).chain(&story.afterwards));
        self.login.iter().chain(grants).chain(&self.others).chain(&self.end).chain(&self.entry)
    }
}
