//! A call on its way through a node: whom it is for, whether its roles suffice, what it answers, what the log says.

use std::collections::BTreeSet;
use std::sync::Arc;

use base64::Engine as _;
use base64::engine::GeneralPurpose;
use base64::engine::general_purpose::{GeneralPurposeConfig, STANDARD};
use bytes::Bytes;
use futures_util::stream::{self, StreamExt as _};
use http::{HeaderMap, Request, Response};
use http_body_util::{BodyExt as _, Limited};
use hyper::body::Incoming;
use prost::Message as _;
use tokio::time::Instant;

use super::access_log::{Line, Metadata};
use super::grpc::{self, Body, Code, LARGEST_MESSAGE, Messages, Status};
use super::messages::{self, Answers, RpcStatus};
use super::{Shared, methods, services};
use crate::lock;

/// A role that may speak for others.
const IMPERSONATOR: &str = "os:impersonator";

/// The services that take several targets in one call.
const ONE_TO_MANY: [&str; 5] = [
    "/machine.MachineService/",
    "/cluster.ClusterService/",
    "/inspect.InspectService/",
    "/storage.StorageService/",
    "/time.TimeService/",
];

/// gRPC senders leave base64 padding out, or not.
const BINARY: GeneralPurpose = GeneralPurpose::new(
    &base64::alphabet::STANDARD,
    GeneralPurposeConfig::new().with_decode_padding_mode(base64::engine::DecodePaddingMode::Indifferent),
);

/// A call as it came in, with the caller's roles.
#[derive(Clone)]
struct Call {
    method: String,
    metadata: Metadata,
    roles: BTreeSet<String>,
    message: Bytes,
}

/// Prints a stream's line when the stream ends, however it ends.
struct Ending {
    node: Arc<Shared>,
    call: Call,
    began: Instant,
}

/// Answers one request of a caller whose certificate has `roles`.
pub(super) async fn answer(node: Arc<Shared>, roles: BTreeSet<String>, request: Request<Incoming>) -> Response<Body> {
    grpc::response(take(node, roles, request).await)
}

async fn take(node: Arc<Shared>, roles: BTreeSet<String>, request: Request<Incoming>) -> Result<Messages, Status> {
    let (head, body) = request.into_parts();
    let method = head.uri.path().to_owned();
    if method.split('/').count() != 3 || !method.starts_with('/') {
        return Err(Status::new(Code::Unimplemented, format!("malformed method name: {method:?}")));
    }
    let authority = head.uri.authority().map(ToString::to_string).unwrap_or_default();
    // The body is read only where the method is there: a client stream that nobody serves need not end.
    let message = if services::has(&method) { read(body).await? } else { Bytes::new() };
    let mut call = Call { method, metadata: metadata(&head.headers), roles, message };
    if call.metadata.contains_key("proxyfrom") {
        return local(&node, call, None);
    }
    let many = call.metadata.remove("nodes").unwrap_or_default();
    let one = call.metadata.remove("node").unwrap_or_default();
    if !many.is_empty() {
        if !ONE_TO_MANY.iter().any(|service| call.method.starts_with(service)) {
            return Err(Status::new(Code::InvalidArgument, "one-2-many proxying is not supported"));
        }
        call.metadata.insert("proxyfrom".into(), vec![authority]);
        return Ok(fan_out(&node, &call, many));
    }
    match one.as_slice() {
        [] => local(&node, call, None),
        [target] => {
            call.metadata.insert("proxyfrom".into(), vec![authority]);
            let target_node = find(&node, target).ok_or_else(|| unreachable(target))?;
            local(&target_node, call, None)
        }
        _ => Err(Status::new(Code::InvalidArgument, "node metadata must be single-valued")),
    }
}

async fn read(body: Incoming) -> Result<Bytes, Status> {
    let whole = Limited::new(body, LARGEST_MESSAGE).collect().await;
    let whole = whole.map_err(|error| Status::new(Code::Internal, error.to_string()))?;
    let messages = grpc::unframed(&whole.to_bytes())?;
    messages.into_iter().next().ok_or_else(|| Status::new(Code::Internal, "no message"))
}

/// Metadata as a server sees it: gRPC's own headers aside, `-bin` values decoded.
fn metadata(headers: &HeaderMap) -> Metadata {
    let mut out = Metadata::new();
    for (key, value) in headers {
        let key = key.as_str();
        if key.starts_with("grpc-") || matches!(key, "te" | "content-type" | "user-agent") {
            continue;
        }
        let value = if key.ends_with("-bin") {
            BINARY.decode(value).or_else(|_| STANDARD.decode(value)).unwrap_or_default()
        } else {
            value.as_bytes().to_vec()
        };
        out.entry(key.to_owned()).or_default().push(String::from_utf8_lossy(&value).into_owned());
    }
    out
}

/// One answer for each target, in the targets' order; what fails at one target is told in its answer's metadata.
fn fan_out(node: &Arc<Shared>, call: &Call, targets: Vec<String>) -> Messages {
    let streams = methods::find(&call.method).is_some_and(|method| method.server_stream);
    let mut answers: Vec<Messages> = Vec::new();
    for target in targets {
        let answered = find(node, &target)
            .ok_or_else(|| unreachable(&target))
            .and_then(|target_node| local(&target_node, call.clone(), Some(&target)));
        answers.push(answered.unwrap_or_else(|status| {
            let empty = messages::Empty { metadata: Some(failed(&target, &status)) };
            let encoded =
                if streams { empty.encode_to_vec() } else { Answers { messages: vec![empty] }.encode_to_vec() };
            stream::iter([encoded]).boxed()
        }));
    }
    if streams {
        stream::select_all(answers).boxed()
    } else {
        // Encoded messages put one after another are one message with all their fields: here, one list.
        let whole = stream::iter(answers).flatten().concat();
        stream::once(whole).boxed()
    }
}

fn failed(target: &str, status: &Status) -> messages::Metadata {
    messages::Metadata {
        hostname: target.into(),
        error: status.to_string(),
        status: Some(RpcStatus { code: status.code.number().into(), message: status.message.clone() }),
    }
}

fn find(node: &Arc<Shared>, target: &str) -> Option<Arc<Shared>> {
    if node.is_called(target) {
        return Some(Arc::clone(node));
    }
    lock(&node.peers).iter().filter_map(std::sync::Weak::upgrade).find(|peer| peer.is_called(target))
}

fn unreachable(target: &str) -> Status {
    Status::new(
        Code::Unavailable,
        format!(
            "connection error: desc = \"transport: Error while dialing: dial tcp {target}:50000: connect: connection refused\""
        ),
    )
}

/// The call at this node. With `target`, answers say who they come from.
fn local(node: &Arc<Shared>, mut call: Call, target: Option<&str>) -> Result<Messages, Status> {
    let began = Instant::now();
    let forwarded_roles = call.metadata.remove("talos-role");
    if call.roles.contains(IMPERSONATOR)
        && let Some(roles) = forwarded_roles
    {
        call.roles = roles.into_iter().collect();
    }
    if !*lock(&node.rbac) {
        call.roles = BTreeSet::from(["os:admin".to_owned()]);
    }
    if call.roles.iter().any(|role| !role.bytes().all(|octet| (b' '..=b'~').contains(&octet))) {
        // apid cannot put such a value into a header, so the call never reaches machined and its log.
        let why = "header key \"talos-role\" contains value with non-printable ASCII characters";
        return Err(Status::new(Code::Internal, why));
    }
    call.metadata.insert("talos-role".into(), call.roles.iter().cloned().collect());
    call.metadata.insert(":authority".into(), vec!["localhost".into()]);
    call.metadata.insert("content-type".into(), vec!["application/grpc+proxy>proto".into()]);
    call.metadata.insert("grpc-accept-encoding".into(), vec!["gzip".into()]);
    call.metadata.insert("user-agent".into(), vec!["grpc-go/1.82.1".into()]);
    let outcome = if methods::allowed(&call.method, &call.roles) {
        services::call(node, &call.method, &call.message, target)
    } else {
        Err(Status::new(Code::PermissionDenied, "not authorized"))
    };
    let mut ending = Ending { node: Arc::clone(node), call, began };
    match outcome {
        Err(status) => {
            ending.print(Some(&status));
            Err(status)
        }
        Ok(messages) => {
            // The line is printed when the call ends: when its last message is through, or its caller went away.
            let tail = stream::once(async move {
                ending.whole();
                None
            });
            Ok(messages.map(Some).chain(tail).filter_map(|message| async move { message }).boxed())
        }
    }
}

// === impl Ending ===

impl Ending {
    fn whole(mut self) {
        self.print(None);
    }

    fn print(&mut self, failed: Option<&Status>) {
        self.node.log.print(&Line {
            at: (self.node.now)(),
            method: &self.call.method,
            took: self.began.elapsed(),
            stream: methods::find(&self.call.method).is_some_and(|method| method.server_stream),
            failed,
            metadata: &self.call.metadata,
        });
        self.call.method.clear();
    }
}

impl Drop for Ending {
    fn drop(&mut self) {
        if self.call.method.is_empty() {
            return;
        }
        self.print(Some(&Status::new(Code::Canceled, "context canceled")));
    }
}
