//! When each service of each node was last heard of, and which probes are on their way.

use std::collections::{BTreeMap, HashMap};
use std::sync::{Mutex, PoisonError};

use jiff::Timestamp;

use super::sources::Origin;
use crate::store::{NodeSeen, NodeService};

/// So many services are told apart; the sources allow fewer, unless one is a network of IPv6.
const MOST: usize = 20_000;

/// What is heard, shared by readers and the heartbeat.
#[derive(Debug, Default)]
pub struct Board {
    heard: Mutex<Heard>,
}

#[derive(Debug, Default)]
struct Heard {
    seen: BTreeMap<(Origin, NodeService), Seen>,
    /// Marks of probes on their way, with the node that was called.
    probes: HashMap<String, Origin>,
}

#[derive(Clone, Copy, Debug)]
struct Seen {
    line: Timestamp,
    probe: Option<Timestamp>,
    is_news: bool,
}

// === impl Board ===

impl Board {
    /// Notes a line of the service.
    pub fn heard(&self, origin: &Origin, service: NodeService, now: Timestamp) {
        let mut heard = self.lock();
        let key = (origin.clone(), service);
        if let Some(seen) = heard.seen.get_mut(&key) {
            (seen.line, seen.is_news) = (now, true);
        } else if heard.seen.len() < MOST {
            heard.seen.insert(key, Seen { line: now, probe: None, is_news: true });
        }
    }

    /// Whether the mark is that of a probe on its way to this node; notes that its line came.
    pub fn came_back(&self, origin: &Origin, service: NodeService, mark: &str, now: Timestamp) -> bool {
        let mut heard = self.lock();
        if heard.probes.get(mark) != Some(origin) {
            return false;
        }
        if let Some(seen) = heard.seen.get_mut(&(origin.clone(), service)) {
            (seen.probe, seen.is_news) = (Some(now), true);
        }
        true
    }

    /// Forgets earlier marks of the cluster's nodes and expects these; other clusters' are on their way meanwhile.
    pub fn expect(&self, cluster: &str, probes: impl IntoIterator<Item = (String, Origin)>) {
        let mut heard = self.lock();
        heard.probes.retain(|_, origin| &*origin.cluster != cluster);
        heard.probes.extend(probes);
    }

    /// Whether a probe's line of this service came at or after `since`.
    #[must_use]
    pub fn answered(&self, origin: &Origin, service: NodeService, since: Timestamp) -> bool {
        let heard = self.lock();
        let seen = heard.seen.get(&(origin.clone(), service));
        seen.and_then(|seen| seen.probe).is_some_and(|probe| probe >= since)
    }

    /// What has changed since this was last asked.
    #[must_use]
    pub fn news(&self) -> Vec<NodeSeen> {
        let mut heard = self.lock();
        let mut news = Vec::new();
        for ((origin, service), seen) in &mut heard.seen {
            if std::mem::take(&mut seen.is_news) {
                news.push(NodeSeen {
                    cluster: origin.cluster.to_string(),
                    node: origin.node.to_string(),
                    service: *service,
                    line: seen.line,
                    probe: seen.probe,
                });
            }
        }
        news
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Heard> {
        self.heard.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_clusters_next_marks_take_the_place_of_its_own_alone() {
        let board = Board::default();
        let [prod, lab] = ["prod", "lab"].map(|cluster| Origin { cluster: cluster.into(), node: "cp-1".into() });
        let expect = |origin: &Origin, mark: &str| board.expect(&origin.cluster, [(mark.to_owned(), origin.clone())]);
        let came =
            |origin: &Origin, mark: &str| board.came_back(origin, NodeService::Apid, mark, Timestamp::UNIX_EPOCH);
        expect(&prod, "first");
        expect(&lab, "other");
        assert!(came(&prod, "first") && came(&lab, "other"));
        expect(&prod, "second");
        assert!(came(&prod, "second") && came(&lab, "other"));
        assert!(!came(&prod, "first"), "its line comes too late");
    }
}
