//! The few messages that the stand-in speaks, with the field numbers that Talos uses.

use prost::Message;

/// Who an answer comes from, and what went wrong there (`common.Metadata`).
#[derive(Clone, PartialEq, Message)]
pub struct Metadata {
    /// The node as the caller named it.
    #[prost(string, tag = "1")]
    pub hostname: String,
    /// The error as text.
    #[prost(string, tag = "2")]
    pub error: String,
    /// The error as a status.
    #[prost(message, optional, tag = "3")]
    pub status: Option<RpcStatus>,
}

/// `google.rpc.Status` without details.
#[derive(Clone, PartialEq, Message)]
pub struct RpcStatus {
    /// The gRPC code.
    #[prost(int32, tag = "1")]
    pub code: i32,
    /// The message.
    #[prost(string, tag = "2")]
    pub message: String,
}

/// A piece of a byte stream (`common.Data`).
#[derive(Clone, PartialEq, Message)]
pub struct Data {
    /// Who sends it.
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<Metadata>,
    /// The bytes.
    #[prost(bytes = "vec", tag = "2")]
    pub bytes: Vec<u8>,
}

/// An answer of several nodes, of which only the metadata matters.
#[derive(Clone, PartialEq, Message)]
pub struct Answers<M: Message + Default + std::fmt::Debug> {
    /// One for each node.
    #[prost(message, repeated, tag = "1")]
    pub messages: Vec<M>,
}

/// An answer with metadata only.
#[derive(Clone, PartialEq, Message)]
pub struct Empty {
    /// Who answers.
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<Metadata>,
}

/// One node's version.
#[derive(Clone, PartialEq, Message)]
pub struct Version {
    /// Who answers.
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<Metadata>,
    /// The release.
    #[prost(message, optional, tag = "2")]
    pub version: Option<VersionInfo>,
    /// Where it runs.
    #[prost(message, optional, tag = "3")]
    pub platform: Option<PlatformInfo>,
    /// What is on.
    #[prost(message, optional, tag = "4")]
    pub features: Option<FeaturesInfo>,
}

/// A release.
#[derive(Clone, PartialEq, Message)]
pub struct VersionInfo {
    /// As `v1.13.9`.
    #[prost(string, tag = "1")]
    pub tag: String,
    /// The commit.
    #[prost(string, tag = "2")]
    pub sha: String,
    /// When it was built.
    #[prost(string, tag = "3")]
    pub built: String,
    /// The compiler.
    #[prost(string, tag = "4")]
    pub go_version: String,
    /// The operating system.
    #[prost(string, tag = "5")]
    pub os: String,
    /// The architecture.
    #[prost(string, tag = "6")]
    pub arch: String,
}

/// A platform.
#[derive(Clone, PartialEq, Message)]
pub struct PlatformInfo {
    /// As `metal`.
    #[prost(string, tag = "1")]
    pub name: String,
    /// As `container`.
    #[prost(string, tag = "2")]
    pub mode: String,
}

/// Features.
#[derive(Clone, PartialEq, Message)]
pub struct FeaturesInfo {
    /// Roles are enforced.
    #[prost(bool, tag = "1")]
    pub rbac: bool,
}

/// One node's host name.
#[derive(Clone, PartialEq, Message)]
pub struct Hostname {
    /// Who answers.
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<Metadata>,
    /// The name.
    #[prost(string, tag = "2")]
    pub hostname: String,
}

/// A reboot that began.
#[derive(Clone, PartialEq, Message)]
pub struct Reboot {
    /// Who answers.
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<Metadata>,
    /// Names the reboot in the node's events.
    #[prost(string, tag = "2")]
    pub actor_id: String,
}

/// What GenerateClientConfiguration is asked.
#[derive(Clone, PartialEq, Message)]
pub struct GenerateRequest {
    /// The roles.
    #[prost(string, repeated, tag = "1")]
    pub roles: Vec<String>,
    /// The lifetime.
    #[prost(message, optional, tag = "2")]
    pub ttl: Option<Instant>,
}

/// A client certificate that a node made, with its key.
#[derive(Clone, PartialEq, Message)]
pub struct GenerateAnswer {
    /// Who answers.
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<Metadata>,
    /// The cluster's CA, PEM.
    #[prost(bytes = "vec", tag = "2")]
    pub ca: Vec<u8>,
    /// The certificate, PEM.
    #[prost(bytes = "vec", tag = "3")]
    pub crt: Vec<u8>,
    /// The private key, PEM.
    #[prost(bytes = "vec", tag = "4")]
    pub key: Vec<u8>,
    /// A talosconfig with all of it.
    #[prost(bytes = "vec", tag = "5")]
    pub talosconfig: Vec<u8>,
}

/// What Dmesg is asked.
#[derive(Clone, PartialEq, Message)]
pub struct DmesgRequest {
    /// Go on with new lines.
    #[prost(bool, tag = "1")]
    pub follow: bool,
    /// Only new lines.
    #[prost(bool, tag = "2")]
    pub tail: bool,
}

/// One node's time.
#[derive(Clone, PartialEq, Message)]
pub struct Time {
    /// Who answers.
    #[prost(message, optional, tag = "1")]
    pub metadata: Option<Metadata>,
    /// The time server that was compared.
    #[prost(string, tag = "2")]
    pub server: String,
    /// The node's time.
    #[prost(message, optional, tag = "3")]
    pub localtime: Option<Instant>,
    /// The time server's.
    #[prost(message, optional, tag = "4")]
    pub remotetime: Option<Instant>,
}

/// `google.protobuf.Timestamp`.
#[derive(Clone, PartialEq, Message)]
pub struct Instant {
    /// Seconds since 1970.
    #[prost(int64, tag = "1")]
    pub seconds: i64,
    /// And nanoseconds.
    #[prost(int32, tag = "2")]
    pub nanos: i32,
}
