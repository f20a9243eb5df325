//! Entries of others that a batch was appended to, looked at before a tree with them is signed.
//!
//! Brokers on one database append to one log, and so can whoever writes the database. Their entries are evidence, whatever they say, but
//! for one kind: an entry that names the log's next key hands the log over to it, once the key before has signed a tree that has it.

use std::sync::Arc;

use ichor_wire::log::tree::{Edge, Hash};
use ichor_wire::log::{Content, Kind, LogKey};

use super::ledger::LedgerError;
use super::notary::NotSigned;
use super::walk::Walk;
use crate::store::Store;

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
    pub(super) fn between(before: &Edge, own: impl Iterator<Item = Hash> + Clone, after: &Edge) -> Option<Self> {
        let count = u64::try_from(own.clone().count()).unwrap_or(u64::MAX);
        let end = after.size().checked_sub(count).filter(|end| *end > before.size())?;
        Some(Self { before: before.clone(), end, own: own.collect(), after: after.clone() })
    }

    /// These, one behind the other, as one stretch of which everything is looked at, also what is ours. `None` of none.
    pub(super) fn all(stretches: &[Arc<Self>]) -> Option<Self> {
        let (first, last) = (stretches.first()?, stretches.last()?);
        let (before, after) = (first.before.clone(), last.after.clone());
        Some(Self { before, end: after.size(), own: Vec::new(), after })
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
        let not = |why: String| NotSigned::Foreign(format!("it does not sign what others appended: {why}"));
        let mut walk = Walk::behind(self.before.clone());
        let mut hands_over = None;
        let mut look = |place, content: Content| {
            if !leads_on(&content, log) {
                hands_over.get_or_insert(place);
            }
        };
        walk.read_to(store, self.end, &mut look).await.map_err(|error| match error {
            LedgerError::Store(error) => NotSigned::Store(error),
            LedgerError::Forged(why) | LedgerError::Denied(why) => not(why),
        })?;
        if let Some(place) = hands_over {
            return Err(not(format!(
                "entry {place} names another key of the log, and nobody has changed to that here"
            )));
        }
        if let Some(place) = walk.lost() {
            return Err(not(format!("entry {place} has no body")));
        }
        let mut edge = walk.into_edge();
        for leaf in &self.own {
            edge.push(*leaf);
        }
        match edge.root() == self.after.root() {
            true => Ok(()),
            false => Err(not(format!(
                "the entries from {} to {}, which were changed since they were read",
                self.before.size(),
                self.end.saturating_sub(1)
            ))),
        }
    }
}

/// Whether the entry leaves the log with this key.
fn leads_on(content: &Content, log: &LogKey) -> bool {
    content.kind != Kind::AuditKey || content.log_key.as_ref().is_some_and(|change| change.new == log.to_string())
}
