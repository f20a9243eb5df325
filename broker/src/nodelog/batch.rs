//! Batches of lines: what was gathered, which lines are kept together, and the entry that has their digests.

use std::collections::{BTreeMap, HashSet};
use std::iter::Peekable;
use std::sync::Arc;

use ichor_wire::log::{Content, Kind};
use sha2::{Digest, Sha256};

use super::access::Access;
use super::classify::Known;
use super::digest::digests;
use super::reader::{Arrived, Load, count};
use crate::domain::GrantId;
use crate::store::{Call, CallClass, NodeService};

/// At most so many calls a commit: grants wait for it.
pub(super) const BATCH: usize = 2048;

/// At most so many bytes of an entry name nodes: a name, and what is said of its calls.
const NAMES: usize = 32 * 1024;
const OF_A_NAME: usize = 48;

/// What was gathered in one time.
#[derive(Default)]
pub(super) struct Gathered {
    /// By cluster, in the order in which they came.
    pub(super) lines: BTreeMap<Arc<str>, Vec<Arrived>>,
    /// Their room, which is given back once they are kept.
    pub(super) room: Vec<Load>,
}

// === impl Gathered ===

impl Gathered {
    /// Takes the lines of a load, and keeps its room.
    pub(super) fn take(&mut self, mut load: Load) {
        let mut lines = load.lines.take();
        while let Some(first) = lines.first() {
            let cluster = Arc::clone(&first.origin.cluster);
            let end = lines.iter().position(|line| line.origin.cluster != cluster).unwrap_or(lines.len());
            self.lines.entry(cluster).or_default().extend(lines.drain(..end));
        }
        self.room.push(load);
    }
}

/// The next lines that are kept together.
pub(super) fn next_batch(rest: &mut Peekable<impl Iterator<Item = Arrived>>) -> Vec<Arrived> {
    let (mut batch, mut nodes, mut room) = (Vec::new(), HashSet::new(), NAMES);
    while batch.len() < BATCH {
        let fits = |line: &Arrived| {
            let node = &line.origin.node;
            nodes.contains(node) || nodes.is_empty() || node.len().saturating_add(OF_A_NAME) <= room
        };
        let Some(line) = rest.next_if(fits) else { break };
        if !nodes.contains(&line.origin.node) {
            nodes.insert(Arc::clone(&line.origin.node));
            room = room.saturating_sub(line.origin.node.len().saturating_add(OF_A_NAME));
        }
        batch.push(line);
    }
    batch
}

/// The entry of a batch.
pub(super) fn content(cluster: &Arc<str>, lines: &[Arrived], calls: &[Call]) -> Content {
    let mut raw = Sha256::new();
    for line in lines {
        raw.update(&line.raw);
        raw.update(b"\n");
    }
    let (all, nodes) = digests(calls);
    Content {
        cluster: Some(cluster.to_string()),
        count: Some(calls.len() as u64),
        calls: Some(all.to_vec()),
        node_calls: Some(nodes),
        lines: Some(raw.finalize().to_vec()),
        ..Content::of(Kind::NodeLog)
    }
}

/// Whether the line tells of a call, or of a try to make one up. machined serves the calls and has the roles from apid, which
/// has them from the certificate. apid's own line repeats what the caller sent, roles and `proxyfrom` included, so of apid only
/// what gives a forger away counts. What came over the node's own socket came from a process of the node.
pub(super) fn is_evidence(line: &Arrived) -> bool {
    if line.access.sign.is_some() {
        return true;
    }
    if line.access.is_end {
        return false;
    }
    match line.service {
        NodeService::Machined if !line.access.is_local => true,
        NodeService::Machined => {
            count("local", 1);
            false
        }
        NodeService::Apid => {
            count("apid", 1);
            false
        }
    }
}

pub(super) fn call(
    line: &Arrived,
    class: CallClass,
    why: Option<String>,
    grant: Option<GrantId>,
    known: Option<&Known>,
) -> Call {
    let Access { method, code, duration, roles, user, peer, .. } = &line.access;
    Call {
        cluster: line.origin.cluster.to_string(),
        node: line.origin.node.to_string(),
        service: line.service,
        method: method.clone(),
        code: *code,
        started: line.started,
        duration: i64::try_from(duration.as_micros()).unwrap_or(i64::MAX),
        roles: roles.join(" "),
        owner: known.and_then(|known| known.owner.clone()),
        user: known.map(|known| known.user.clone()).or_else(|| user.clone()),
        grant,
        peer: peer.clone(),
        class,
        why,
        entry: known.filter(|_| grant.is_none()).map(|known| known.entry),
    }
}
