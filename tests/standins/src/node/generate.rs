//! GenerateClientConfiguration: the node makes a client certificate and its key. It can be told to lie.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _};
use jiff::SignedDuration;
use prost::Message as _;

use super::Shared;
use super::grpc::{Code, Messages, Status};
use super::messages::{Answers, GenerateAnswer, GenerateRequest, Metadata};
use crate::authority::{Authority, Leaf, Usage};
use crate::lock;

/// What a node does when it is asked for a client certificate.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Making {
    /// What it was asked for.
    #[default]
    AsAsked,
    /// Refuses, as a worker does.
    Worker,
    /// Never answers.
    Hung,
    /// Signs with another CA of the same name.
    AnotherCa,
    /// Adds `os:admin`.
    MoreRoles,
    /// Leaves the last role out.
    FewerRoles,
    /// Makes it last a minute longer.
    Longer,
    /// Writes serverAuth beside clientAuth.
    ServerToo,
    /// Adds a common name.
    Named,
    /// Sends another certificate's key.
    AnotherKey,
    /// Sends a key that is none.
    BrokenKey,
    /// Sends bytes that are no message.
    Garbage,
    /// Sends ten megabytes.
    Huge,
    /// Says in the answer's metadata that it failed.
    Error,
}

/// The answer to a call that its roles allow.
pub(super) fn call(node: &Arc<Shared>, message: &[u8], metadata: Option<Metadata>) -> Result<Messages, Status> {
    let making = *lock(&node.making);
    if making == Making::Worker {
        let why = "generate client configuration is only available on control plane nodes";
        return Err(Status::new(Code::Unimplemented, why));
    }
    let internal = |error: &dyn std::fmt::Display| Status::new(Code::Internal, error.to_string());
    let asked = GenerateRequest::decode(message).map_err(|error| internal(&error))?;
    let ttl = asked.ttl.map_or(0, |ttl| ttl.seconds);
    if ttl <= 0 {
        return Err(Status::new(Code::InvalidArgument, "crt_ttl should be positive"));
    }
    let mut answer = make(node, making, asked.roles, ttl).map_err(|error| internal(&error))?;
    answer.metadata = metadata;
    let bytes = match making {
        Making::Hung => return Ok(stream::pending().boxed()),
        Making::Garbage => vec![0xFF; 400],
        Making::Huge => vec![0; 10 << 20],
        Making::Error => {
            let metadata = Metadata { error: "no secrets here".into(), ..Metadata::default() };
            Answers { messages: vec![GenerateAnswer { metadata: Some(metadata), ..GenerateAnswer::default() }] }
                .encode_to_vec()
        }
        _ => Answers { messages: vec![answer] }.encode_to_vec(),
    };
    Ok(stream::iter([bytes]).boxed())
}

fn make(node: &Shared, making: Making, mut roles: Vec<String>, ttl: i64) -> anyhow::Result<GenerateAnswer> {
    match making {
        Making::MoreRoles => roles.push("os:admin".into()),
        Making::FewerRoles => drop(roles.pop()),
        _ => {}
    }
    let now = (node.now)();
    let longer = if making == Making::Longer { 60 } else { 0 };
    let leaf = Leaf {
        common_name: (making == Making::Named).then(|| "admin".into()),
        // a node writes its own time, to the second, without backdating
        not_before: now,
        not_after: now.saturating_add(SignedDuration::from_secs(ttl + longer))?,
        usage: if making == Making::ServerToo { vec![Usage::Client, Usage::Server] } else { vec![Usage::Client] },
        bare: true,
        ..Leaf::client(roles.iter().map(String::as_str), now)
    };
    let other = Authority::new("talos")?;
    let signer = if making == Making::AnotherCa { &other } else { &node.authority };
    let made = signer.issue(&leaf)?;
    let key = match making {
        Making::AnotherKey => other.issue(&leaf)?.key,
        Making::BrokenKey => "-----BEGIN PRIVATE KEY-----\nAAAA\n-----END PRIVATE KEY-----\n".into(),
        _ => made.key,
    };
    Ok(GenerateAnswer {
        metadata: None,
        ca: node.authority.certificate().into_bytes(),
        crt: made.certificate.into_bytes(),
        key: key.replace("PRIVATE KEY", "ED25519 PRIVATE KEY").into_bytes(),
        talosconfig: b"context: prod\n".to_vec(),
    })
}
