//! What the stand-in can do: tell its version, name, time and kernel log, reboot, and make client certificates.

use std::sync::Arc;

use futures_util::stream::{self, StreamExt as _};
use prost::Message as _;

use super::grpc::{Code, Messages, Status};
use super::messages::{
    Answers, Data, DmesgRequest, FeaturesInfo, Hostname, Instant, Metadata, PlatformInfo, Reboot, Time, Version,
    VersionInfo,
};
use super::{Shared, generate};
use crate::{lock, random};

const VERSION: &str = "/machine.MachineService/Version";
const HOSTNAME: &str = "/machine.MachineService/Hostname";
const DMESG: &str = "/machine.MachineService/Dmesg";
const REBOOT: &str = "/machine.MachineService/Reboot";
const GENERATE: &str = "/machine.MachineService/GenerateClientConfiguration";
const TIME: &str = "/time.TimeService/Time";

/// Whether the stand-in serves the method.
pub(super) fn has(method: &str) -> bool {
    [VERSION, HOSTNAME, DMESG, REBOOT, GENERATE, TIME].contains(&method)
}

/// The answer to a call that its roles allow.
pub(super) fn call(node: &Arc<Shared>, method: &str, message: &[u8], target: Option<&str>) -> Result<Messages, Status> {
    let metadata = target.map(|target| Metadata { hostname: target.into(), ..Metadata::default() });
    match method {
        VERSION => Ok(one(version(node, metadata))),
        HOSTNAME => Ok(one(Hostname { metadata, hostname: node.hostname.clone() })),
        TIME => {
            let now = (node.now)();
            let now = Some(Instant { seconds: now.as_second(), nanos: now.subsec_nanosecond() });
            Ok(one(Time { metadata, server: "stand-in".into(), localtime: now.clone(), remotetime: now }))
        }
        REBOOT => {
            *lock(&node.reboots) += 1;
            let actor_id = random::token().map_err(|error| Status::new(Code::Internal, error.to_string()))?;
            Ok(one(Reboot { metadata, actor_id }))
        }
        GENERATE => generate::call(node, message, metadata),
        DMESG => {
            let asked =
                DmesgRequest::decode(message).map_err(|error| Status::new(Code::Internal, error.to_string()))?;
            Ok(dmesg(node, metadata, asked.follow))
        }
        _ => Err(Status::new(Code::Unimplemented, format!("the stand-in does not serve {method}"))),
    }
}

fn one<M: prost::Message + Default + std::fmt::Debug>(message: M) -> Messages {
    stream::iter([Answers { messages: vec![message] }.encode_to_vec()]).boxed()
}

fn version(node: &Shared, metadata: Option<Metadata>) -> Version {
    Version {
        metadata,
        version: Some(VersionInfo {
            tag: "v1.13.9".into(),
            sha: "stand-in".into(),
            built: String::new(),
            go_version: "go1.26".into(),
            os: "linux".into(),
            arch: "amd64".into(),
        }),
        platform: Some(PlatformInfo { name: "stand-in".into(), mode: "container".into() }),
        features: Some(FeaturesInfo { rbac: *lock(&node.rbac) }),
    }
}

/// Three lines, and with `follow` no end.
fn dmesg(node: &Shared, metadata: Option<Metadata>, follow: bool) -> Messages {
    let lines: Vec<Vec<u8>> = ["Linux version 6.18.0-talos", "machined: starting", "machined: ready"]
        .iter()
        .enumerate()
        .map(|(second, line)| {
            let line = format!("{}: kern:    info: [{second}.000000]: {line}\n", node.hostname);
            Data { metadata: metadata.clone(), bytes: line.into_bytes() }.encode_to_vec()
        })
        .collect();
    if follow { stream::iter(lines).chain(stream::pending()).boxed() } else { stream::iter(lines).boxed() }
}
