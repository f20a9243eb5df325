//! Entries of others that a batch was appended to, looked at before a tree with them is signed.
//!
//! Brokers on one database append to one log, and so can whoever writes the database. Their entries are evidence, whatever they say, but
//! for one kind: an entry that names the log's next key hands the log over to it, once the key before has signed a tree that has it.

use std::collections::BTreeMap;

use ichor_wire::log::tree::{Edge, Hash};
use ichor_wire::log::{Entry, Kind, Leaf, LogKey, leaf_hash};

use super::as_recorded;
use super::notary::NotSigned;
use super::walk::{dropped_by, has, is_old_enough};
use crate::store::Store;

/// So many entries are read at a time.
const STRIDE: u64 = 1_000;

/// The entries of others between two batches of ours.
#[derive(Debug)]
pub(super) struct Foreign {
    /// The tree before them.
    before: Edge,
    /// The first place behind them.
    end: u64,
    /// Our own leaves behind them.
    own: Vec<Hash>,
    /// The tree with all of these.
    after: Edge,
}

impl Foreign {
    /// What lies between the tree `before` and the leaves that were appended for the tree `after`; `None` where nothing does.
    pub(super) fn between(before: &Edge, own: Vec<Hash>, after: &Edge) -> Option<Self> {
        let count = u64::try_from(own.len()).unwrap_or(u64::MAX);
        let end = after.size().checked_sub(count).filter(|end| *end > before.size())?;
        Some(Self { before: before.clone(), end, own, after: after.clone() })
    }

    /// The size of the tree that has them.
    pub(super) fn size(&self) -> u64 {
        self.after.size()
    }

    /// Returns if the log's key may sign them. What is looked at is what the tree has: leaves and bodies are read together, and the
    /// leaves make that tree.
    ///
    /// # Errors
    /// When one is not what it should be, or names a key that `log` does not.
    pub(super) async fn check(&self, store: &dyn Store, log: &LogKey) -> Result<(), NotSigned> {
        let mut edge = self.before.clone();
        let mut bare = BTreeMap::new();
        while edge.size() < self.end {
            let stride = store.entry_range(edge.size()..self.end.min(edge.size().saturating_add(STRIDE))).await?;
            let not = |place, what: &str| NotSigned::Foreign(format!("it does not sign entry {place}, which {what}"));
            if stride.is_empty() {
                return Err(not(edge.size(), "is missing"));
            }
            for stored in stride {
                let place = edge.size();
                if stored.index != place {
                    return Err(not(place, "is missing"));
                }
                match as_recorded(&stored, None).map_err(|unlike| not(place, unlike.what))? {
                    Some(entry) if !leads_on(&entry, log) => {
                        return Err(not(place, "names another key of the log, and nobody has changed to that here"));
                    }
                    Some(entry) => {
                        if let Some(dropped) = dropped_by(&entry) {
                            bare.retain(|at, time| !(is_old_enough(*time, entry.time) && has(&dropped, *at)));
                        }
                    }
                    None => _ = bare.insert(place, Leaf::decode(&stored.leaf).map_or(i64::MAX, |leaf| leaf.time)),
                }
                edge.push(leaf_hash(&stored.leaf));
            }
        }
        if let Some(place) = bare.keys().next() {
            return Err(NotSigned::Foreign(format!("it does not sign entry {place}, which has no body")));
        }
        for leaf in &self.own {
            edge.push(*leaf);
        }
        match edge.root() == self.after.root() {
            true => Ok(()),
            false => Err(NotSigned::Foreign(format!(
                "it does not sign the entries from {} to {}, which were changed since they were read",
                self.before.size(),
                self.end.saturating_sub(1)
            ))),
        }
    }
}

/// Whether the entry leaves the log with this key.
fn leads_on(entry: &Entry, log: &LogKey) -> bool {
    entry.content.kind != Kind::AuditKey
        || entry.content.log_key.as_ref().is_some_and(|change| change.new == log.to_string())
}
