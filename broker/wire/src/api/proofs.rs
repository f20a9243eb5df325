//! What proves that the audit has an entry. How each is checked is told in [`crate::log`].

use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};

/// Where the audit log has an entry, and the proof of it once there is one. Without `checkpoint` it is *pending*: the entry is
/// recorded, but the log could not sign yet; `GET /v1/audit/receipts/{index}` completes it.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct Receipt {
    /// The entry's index in the log, from 0.
    pub index: u64,
    /// The RFC 6962 hash of the entry's leaf record, lower-case hex.
    pub leaf_hash: String,
    /// The encoded entry, base64: what was recorded, and what the leaf record follows from.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// The inclusion proof (RFC 6962 §2.1.1) under the checkpoint's root, from the leaf upwards; each hash base64.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub proof: Vec<String>,
    /// A signed checkpoint (C2SP tlog-checkpoint) of a tree that has the entry.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub checkpoint: Option<String>,
}

/// The proof of one entry.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct EntryProof {
    /// The entry's index in the log, from 0.
    pub index: u64,
    /// The encoded entry, base64; absent where its body was dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub entry: Option<String>,
    /// The encoded leaf record, base64, where the body was dropped.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub leaf: Option<String>,
    /// The inclusion proof (RFC 6962 §2.1.1) under the checkpoint's root, from the leaf upwards; each hash base64.
    #[serde(default)]
    pub proof: Vec<String>,
    /// A signed checkpoint (C2SP tlog-checkpoint) of a tree that has the entry.
    pub checkpoint: String,
}

/// A proof that a third party can check with nothing but a key of the log: `GET /v1/audit/proofs/{id}`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ProofFile {
    /// The format: `ichor-proof/1`.
    pub format: String,
    /// The key that signed the checkpoint, as `name+id+base64` (C2SP signed-note). Who checks the proof takes the key from
    /// elsewhere.
    pub key: String,
    /// The entry with its proof.
    pub entry: EntryProof,
    /// The changes of the log's key, oldest first: each an entry of the kind `audit-key` under a checkpoint that the key before
    /// signed.
    #[serde(default)]
    pub rotations: Vec<EntryProof>,
}

/// The log and its keys: `GET /v1/audit/key`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct AuditKeyAnswer {
    /// The log's name, which its checkpoints begin with.
    pub origin: String,
    /// The key that signs now, as `name+id+base64` (C2SP signed-note).
    pub key: String,
    /// The changes of the log's key, oldest first, as in a proof file.
    #[serde(default)]
    pub rotations: Vec<EntryProof>,
}

/// Query of `GET /v1/audit/consistency`.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ConsistencyQuery {
    /// The size of the older checkpoint.
    pub from: u64,
    /// The size of the newer one.
    pub to: u64,
}

/// That one checkpoint's log is the beginning of another's.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize, ToSchema)]
pub struct ConsistencyAnswer {
    /// The consistency proof (RFC 6962 §2.1.2); each hash base64.
    pub proof: Vec<String>,
}

/// Query of `GET /v1/audit/export`.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize, IntoParams, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct ExportQuery {
    /// The index of the first entry; absent means 0.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub from: Option<u64>,
    /// At most so many entries; the broker may give fewer.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub limit: Option<u64>,
}
