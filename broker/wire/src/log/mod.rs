//! Audit entries and leaf records: deterministic CBOR (RFC 8949 §4.2) with integer keys.
//!
//! An [`Entry`] is the body. A [`Leaf`] is the small record that the log is made of: it holds the body's salted hash, so
//! that a body can be dropped later while its leaf stays. Field numbers and enum numbers are never used twice.
//!
//! The leaves' hashes form a Merkle [`tree`]. A [`Checkpoint`] is its size and root, signed; a [`LogKey`] verifies it. Other
//! tools find the parts at the paths of [`tiles`].
//!
//! One entry is shown to be in the log by its [`proof`]; a whole log is checked by [`verify()`] out of an [`export`].

mod checkpoint;
mod codec;
pub mod export;
mod fault;
mod key;
mod kind;
pub mod note;
mod numbered;
mod places;
pub mod proof;
#[cfg(test)]
mod proving;
#[cfg(test)]
mod published;
#[cfg(test)]
mod sample;
mod show;
#[cfg(test)]
mod signed;
pub mod tiles;
pub mod tree;
mod verify;

use std::collections::BTreeMap;

use minicbor::{Decode, Encode};

#[cfg(test)]
mod tests;

pub use checkpoint::{Checkpoint, CheckpointError};
pub use codec::leaf_hash;
pub use fault::Fault;
pub use key::{LogKey, LogKeyError};
pub use kind::UnknownKind;
pub use numbered::{is_opened_again, numbered, with_number};
pub use places::Places;
pub use verify::{Verdict, Verifier, verify};

/// The newest version of the entry format that this build writes and reads.
pub const VERSION: u8 = 1;

/// The largest entry, encoded, in bytes (64 KiB).
pub const MAX_ENTRY: usize = 64 * 1024;

/// What happened. The number goes into the log, the name into queries and answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Encode, Decode)]
#[cbor(index_only)]
#[non_exhaustive]
pub enum Kind {
    /// A person logged in; a session exists.
    #[n(1)]
    Login,
    /// Logins that did not come about, counted per minute and address.
    #[n(2)]
    LoginRefused,
    /// A session ended: logout, provider's refusal, expiry noticed.
    #[n(3)]
    SessionEnd,
    /// The provider was asked again and a rotated refresh token is in use.
    #[n(4)]
    SessionRefresh,
    /// Policy said yes. Recorded before anything is signed.
    #[n(5)]
    Grant,
    /// Policy, or a condition of the record, said no.
    #[n(6)]
    Refusal,
    /// A certificate exists and matches its grant.
    #[n(7)]
    Issued,
    /// A grant did not lead to a certificate.
    #[n(8)]
    IssueFailed,
    /// Configuration, policies, clusters or TLS certificates were loaded anew, or a bad new value was refused.
    #[n(9)]
    Reload,
    /// CA material was created, imported or replaced.
    #[n(10)]
    Ca,
    /// An act of an administrator on the broker's host other than on CA material.
    #[n(11)]
    Admin,
    /// The broker started on this log.
    #[n(12)]
    Start,
    /// Someone read the audit.
    #[n(13)]
    AuditRead,
    /// A key of the log begins: the first one, or the one that follows another. What is recorded before is signed with the
    /// key before.
    #[n(14)]
    AuditKey,
    /// A log was opened in place of another, after a restore: the other's last known head is named.
    #[n(15)]
    LogOpened,
    /// Bodies of older entries were dropped, or, where it names no places, someone asked for that.
    #[n(16)]
    BodyDropped,
    /// Calls that a cluster's nodes told of in their logs, kept under this entry's index.
    #[n(17)]
    NodeLog,
    /// Calls in a node's log that want a look: no grant explains them, or they are not what they should be.
    #[n(18)]
    NodeAlarm,
    /// Someone asked for elevated access that others must approve.
    #[n(19)]
    BreakGlassRequest,
    /// Someone approved a break-glass request.
    #[n(20)]
    BreakGlassApproval,
    /// Someone who may approve a break-glass request denied it.
    #[n(21)]
    BreakGlassDenial,
    /// Whoever asked took a break-glass request back.
    #[n(22)]
    BreakGlassCancelled,
    /// What an approved break-glass request still allowed was taken away.
    #[n(23)]
    BreakGlassRevoked,
    /// A break-glass request's time ran out, before it was approved or after.
    #[n(24)]
    BreakGlassOver,
    /// The use of a break-glass request was labelled afterwards.
    #[n(25)]
    BreakGlassReview,
    /// A node was called for the first time under a grant of a break-glass request.
    #[n(26)]
    BreakGlassTouched,
    /// A use of a break-glass request still waits for its review.
    #[n(27)]
    BreakGlassOverdue,
    /// A user, a session, a grant, a cluster or everything was locked: nothing is issued for it from this entry on.
    #[n(28)]
    Lock,
    /// A lock was taken away, or its time ran out.
    #[n(29)]
    Unlock,
    /// A break-glass kit was made.
    #[n(30)]
    KitMade,
    /// An opening of a kit, which its opener recorded offline, was reported.
    #[n(31)]
    KitOpened,
    /// A drill of a kit began, or its holders proved their shares.
    #[n(32)]
    KitDrill,
    /// A kit was revoked: nodes are to stop trusting its CA.
    #[n(33)]
    KitRevoked,
    /// A node was called with a certificate of a kit whose opening nobody has reported.
    #[n(34)]
    KitInUse,
    /// Someone asked for a lock of everything to be taken away, which another person must confirm.
    #[n(35)]
    UnlockAsked,
    /// Someone outside took the notification of a break-glass request that nobody approves: it is open from now on.
    #[n(36)]
    BreakGlassTold,
    /// A kit's drill is overdue.
    #[n(37)]
    KitOverdue,
}

/// The person an entry is about.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Person {
    /// The provider's alias at the broker.
    #[n(0)]
    pub provider: String,
    /// The provider's issuer URL.
    #[n(1)]
    pub issuer: String,
    /// The provider's subject.
    #[n(2)]
    pub subject: String,
    /// The name as the provider told it.
    #[n(3)]
    pub name: String,
    /// The value behind `user:` in certificates.
    #[n(4)]
    pub user: String,
}

/// What an entry says, apart from what every entry has. Fields that do not apply are absent.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Content {
    /// What happened.
    #[n(0)]
    pub kind: Kind,
    /// Who.
    #[n(1)]
    pub person: Option<Person>,
    /// The cluster concerned.
    #[n(2)]
    pub cluster: Option<String>,
    /// The grant concerned (UUIDv7, 16 bytes).
    #[cbor(n(3), with = "minicbor::bytes")]
    pub grant: Option<Vec<u8>>,
    /// The session concerned (UUIDv7, 16 bytes).
    #[cbor(n(4), with = "minicbor::bytes")]
    pub session: Option<Vec<u8>>,
    /// The client's address.
    #[n(5)]
    pub address: Option<String>,
    /// Roles asked for or granted.
    #[n(6)]
    pub roles: Option<Vec<String>>,
    /// The end of what was granted or issued, in seconds since the epoch.
    #[n(7)]
    pub not_after: Option<i64>,
    /// The reason that the person gave.
    #[n(8)]
    pub reason: Option<String>,
    /// The deciding policies, by `@id`.
    #[n(9)]
    pub policies: Option<Vec<String>>,
    /// The problem code of a refusal or failure.
    #[n(10)]
    pub code: Option<String>,
    /// The certificate's serial number, big-endian.
    #[cbor(n(11), with = "minicbor::bytes")]
    pub serial: Option<Vec<u8>>,
    /// SHA-256 of the certificate's DER.
    #[cbor(n(12), with = "minicbor::bytes")]
    pub fingerprint: Option<Vec<u8>>,
    /// SHA-256 of the public key's SubjectPublicKeyInfo.
    #[cbor(n(13), with = "minicbor::bytes")]
    pub public_key: Option<Vec<u8>>,
    /// How often, for counted entries.
    #[n(14)]
    pub count: Option<u64>,
    /// Names and SHA-256 digests (hex) of what was loaded or written.
    #[cbor(n(15), with = "codec::text_map", has_nil)]
    pub digests: Option<BTreeMap<String, String>>,
    /// The operating-system user who acted on the host.
    #[n(16)]
    pub os_user: Option<String>,
    /// The host on which they acted.
    #[n(17)]
    pub host: Option<String>,
    /// Anything else, one sentence.
    #[n(18)]
    pub message: Option<String>,
    /// How the certificate is good: `direct`.
    #[n(19)]
    pub mode: Option<String>,
    /// SHA-256 of the policy set that decided.
    #[cbor(n(20), with = "minicbor::bytes")]
    pub policy_digest: Option<Vec<u8>>,
    /// Who made the private key, where that was not the client: `cluster`.
    #[n(21)]
    pub key_made_by: Option<String>,
    /// The key of the log that begins.
    #[n(22)]
    pub log_key: Option<KeyChange>,
    /// The head of the log that this one was opened in place of.
    #[n(23)]
    pub old_head: Option<OldHead>,
    /// The places of the bodies that were dropped, as [`Places`] writes them.
    #[n(26)]
    pub dropped: Option<Vec<u64>>,
    /// The request by which bodies are dropped (UUIDv7, 16 bytes).
    #[cbor(n(27), with = "minicbor::bytes")]
    pub drop_request: Option<Vec<u8>>,
    /// SHA-256 over the calls that are kept under this entry, in their order (see `docs/nodelog.md`).
    #[cbor(n(28), with = "minicbor::bytes")]
    pub calls: Option<Vec<u8>>,
    /// SHA-256 over the log lines that the calls were read from, each with its newline, in the order of the calls.
    #[cbor(n(29), with = "minicbor::bytes")]
    pub lines: Option<Vec<u8>>,
    /// The node concerned.
    #[n(30)]
    pub node: Option<String>,
    /// The gRPC method concerned, as `/machine.MachineService/Reboot`.
    #[n(31)]
    pub method: Option<String>,
    /// The break-glass request concerned (UUIDv7, 16 bytes).
    #[cbor(n(32), with = "minicbor::bytes")]
    pub break_glass: Option<Vec<u8>>,
    /// SHA-256 of the break-glass request's exact contents.
    #[cbor(n(33), with = "minicbor::bytes")]
    pub contents: Option<Vec<u8>>,
    /// How many others must approve.
    #[n(34)]
    pub quorum: Option<u64>,
    /// The `user:` values of those whose approvals were counted.
    #[n(35)]
    pub approvers: Option<Vec<String>>,
    /// The nodes that the person named; not enforced in direct mode.
    #[n(36)]
    pub nodes: Option<Vec<String>>,
    /// The ticket that the person named.
    #[n(37)]
    pub ticket: Option<String>,
    /// The `user:` value of whoever asked, where the entry's person is another.
    #[n(38)]
    pub requester: Option<String>,
    /// How a use was labelled: `emergency`, `drill` or `misuse`.
    #[n(39)]
    pub label: Option<String>,
    /// The lock concerned (UUIDv7, 16 bytes).
    #[cbor(n(40), with = "minicbor::bytes")]
    pub lock: Option<Vec<u8>>,
    /// What is locked: `user`, `session`, `grant`, `cluster` or `everything`. The grant and the cluster stand in their own fields.
    #[n(41)]
    pub locked: Option<String>,
    /// The locked user's issuer and subject, byte for byte.
    #[n(42)]
    pub locked_user: Option<(String, String)>,
    /// The locked session (UUIDv7, 16 bytes).
    #[cbor(n(43), with = "minicbor::bytes")]
    pub locked_session: Option<Vec<u8>>,
    /// When the lock ends by itself, in seconds since the epoch.
    #[n(44)]
    pub locked_until: Option<i64>,
    /// The kit concerned.
    #[n(47)]
    pub kit: Option<Kit>,
    /// The people named as present when a kit was made.
    #[n(48)]
    pub witnesses: Option<Vec<String>>,
    /// The shares that were proved, or that opened the kit, by index.
    #[n(49)]
    pub shares: Option<Vec<u8>>,
    /// The name that a kit's opener gave; nobody checked it.
    #[n(50)]
    pub claimed: Option<String>,
    /// What an opening was: `emergency`, `drill` or `misuse`.
    #[n(51)]
    pub kit_label: Option<String>,
    /// The challenge of a drill, 32 bytes.
    #[cbor(n(52), with = "minicbor::bytes")]
    pub challenge: Option<Vec<u8>>,
    /// When a kit was opened, in seconds since the epoch; of a use that nobody reported, when the first call told of began.
    #[n(53)]
    pub opened: Option<i64>,
    /// How many nodes were seen to accept a kit's CA, and how many were asked.
    #[n(54)]
    pub accepting: Option<(u64, u64)>,
    /// Whether the break-glass request is one that nobody approves; absent otherwise.
    #[n(55)]
    pub self_service: Option<bool>,
    /// The notification sink that took the notification.
    #[n(56)]
    pub told: Option<String>,
    /// How long the access lasts that is asked for, in seconds.
    #[n(57)]
    pub life: Option<u64>,
    /// How many certificates are asked for.
    #[n(58)]
    pub uses: Option<u64>,
    /// Whether it was done by someone who is another by their account alone: how humans are told apart is not what it was when the
    /// break-glass request was made; absent otherwise.
    #[n(59)]
    pub by_account: Option<bool>,
    /// How it was done where that was not by a session's key: `page`.
    #[n(61)]
    pub channel: Option<String>,
    /// When the person had authenticated, in seconds since the epoch, as the provider told.
    #[n(62)]
    pub auth_time: Option<i64>,
    /// The authentication context that the provider vouched for.
    #[n(63)]
    pub acr: Option<String>,
    /// The calls that are kept under this entry, by node (see `docs/nodelog.md`).
    #[n(64)]
    pub node_calls: Option<Vec<NodeCalls>>,
}

/// The calls of one node that are kept under an entry.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(array)]
pub struct NodeCalls {
    /// The node's name.
    #[n(0)]
    pub node: String,
    /// How many.
    #[n(1)]
    pub count: u64,
    /// SHA-256 over them, each with its place among the entry's calls.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub calls: Vec<u8>,
}

/// A break-glass kit: which one, and where it is made its public facts.
#[derive(Clone, Debug, Default, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Kit {
    /// Its number.
    #[n(0)]
    pub number: u16,
    /// Its id (16 bytes); absent where only the number is known.
    #[cbor(n(1), with = "minicbor::bytes")]
    pub id: Option<Vec<u8>>,
    /// Its CA's certificate, DER.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub ca: Option<Vec<u8>>,
    /// When its CA ends, in seconds since the epoch.
    #[n(3)]
    pub until: Option<i64>,
    /// How many shares open it.
    #[n(4)]
    pub threshold: Option<u8>,
    /// How long one of its certificates is good at most, in seconds.
    #[n(5)]
    pub ttl_cap: Option<u64>,
    /// Who holds its shares, in the order of their indexes, which begin with 1.
    #[n(6)]
    pub holders: Option<Vec<KitHolder>>,
    /// SHA-256 of its file.
    #[cbor(n(7), with = "minicbor::bytes")]
    pub file: Option<Vec<u8>>,
    /// The number of the kit in whose place it was made.
    #[n(8)]
    pub replaces: Option<u16>,
    /// The certificate of a static kit, DER; absent where the kit holds its CA's key.
    #[cbor(n(9), with = "minicbor::bytes")]
    pub certificate: Option<Vec<u8>>,
    /// The value behind `user:` in the certificate that was opened, where it does not name the opener.
    #[n(10)]
    pub user: Option<String>,
    /// SHA-256 of each certificate that its talosconfig verifies nodes with, one after the other; absent before that was recorded.
    #[cbor(n(11), with = "minicbor::bytes")]
    pub cluster_ca: Option<Vec<u8>>,
    /// SHA-256 of the endpoints that the cluster was declared with; absent before that was recorded.
    #[cbor(n(12), with = "minicbor::bytes")]
    pub endpoints: Option<Vec<u8>>,
    /// The endpoints of the talosconfig that it opens to; absent before that was recorded.
    #[n(13)]
    pub leads_to: Option<Vec<String>>,
}

/// Who holds a share of a kit.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct KitHolder {
    /// Their name.
    #[n(0)]
    pub name: String,
    /// The age recipient that the share is sealed to; absent where it is on paper.
    #[n(1)]
    pub recipient: Option<String>,
    /// The share's commitment (32 bytes).
    #[cbor(n(2), with = "minicbor::bytes")]
    pub commitment: Vec<u8>,
    /// The key with which they prove to have it (Ed25519, 32 bytes).
    #[cbor(n(3), with = "minicbor::bytes")]
    pub proof_key: Vec<u8>,
}

/// A key of a log begins.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct KeyChange {
    /// The log's origin.
    #[n(0)]
    pub origin: String,
    /// The key from now on, as [`LogKey`] prints it.
    #[n(1)]
    pub new: String,
    /// The key until now, printed alike; absent where this is the first.
    #[n(2)]
    pub old: Option<String>,
}

/// What was last known of a log that is not written any more.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct OldHead {
    /// Its origin.
    #[n(0)]
    pub origin: String,
    /// How many leaves it had.
    #[n(1)]
    pub size: u64,
    /// The root that it had.
    #[cbor(n(2), with = "minicbor::bytes")]
    pub root: Vec<u8>,
}

/// One audit entry: the content, and what every entry has.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Entry {
    /// The format's version, [`VERSION`].
    #[n(0)]
    pub version: u8,
    /// The entry's id (UUIDv7, 16 bytes).
    #[cbor(n(1), with = "minicbor::bytes")]
    pub id: Vec<u8>,
    /// When it was recorded, in microseconds since the epoch.
    #[n(2)]
    pub time: i64,
    /// 16 random bytes, so that a dropped body cannot be guessed from its hash.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub salt: Vec<u8>,
    /// The broker that recorded it.
    #[n(4)]
    pub broker: String,
    /// What happened.
    #[n(5)]
    pub content: Content,
}

/// The small record that the log is made of.
#[derive(Clone, Debug, PartialEq, Eq, Encode, Decode)]
#[cbor(map)]
pub struct Leaf {
    /// The format's version, [`VERSION`].
    #[n(0)]
    pub version: u8,
    /// The entry's index in the log, from 0.
    #[n(1)]
    pub index: u64,
    /// The entry's time, in microseconds since the epoch.
    #[n(2)]
    pub time: i64,
    /// SHA-256 of the encoded entry, salt included.
    #[cbor(n(3), with = "minicbor::bytes")]
    pub body: Vec<u8>,
}

/// Why bytes are not an entry, or an entry not encodable.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[non_exhaustive]
pub enum LogError {
    /// More than [`MAX_ENTRY`] bytes.
    #[error("the entry has {0} bytes; at most 65536 are allowed")]
    TooLarge(usize),
    /// Not the CBOR of an entry or leaf.
    #[error("the record cannot be decoded: {0}")]
    Malformed(String),
    /// Decodes, but is not the one deterministic encoding.
    #[error("the record is not in its deterministic encoding")]
    NotDeterministic,
    /// Written by a newer build.
    #[error("the record has version {0}; this build reads up to 1")]
    Version(u8),
}
