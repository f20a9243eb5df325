//! Locks as the log tells of them. Whoever writes the database can take a lock away, but not its entry: what the log has and the
//! database has not is said, loudly. The log is read by its places; what a column says of an entry hides no lock.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use ichor_wire::log::{Content, Kind};
use jiff::Timestamp;
use uuid::Uuid;

use super::book::about;
use crate::audit::{LedgerError, Signed, Walk};
use crate::domain::LockId;
use crate::store::{LockRow, Store};

/// What was read of the log so far.
#[derive(Debug)]
pub struct Ledger {
    walk: Walk,
    /// Locks that were set.
    set: BTreeMap<LockId, Set>,
    lifted: BTreeSet<LockId>,
}

/// What the entry of a lock says.
#[derive(Debug)]
struct Set {
    until: Option<Timestamp>,
    /// What it is on, as entries say it.
    on: Box<Content>,
}

impl Default for Ledger {
    fn default() -> Self {
        Self { walk: Walk::whole(), set: BTreeMap::new(), lifted: BTreeSet::new() }
    }
}

impl Ledger {
    /// The locks that hold by the log and that the database has no longer, says are ended, or has on something else. Reads what is new in the log and holds
    /// it against the newest checkpoint, where there is one.
    ///
    /// # Errors
    /// When the store cannot be read, or the log is not what was recorded and signed. Then it is read anew next time, and locks that
    /// were seen stay.
    pub async fn vanished(
        &mut self,
        store: &dyn Store,
        signed: Option<Arc<Signed>>,
        now: Timestamp,
    ) -> Result<Vec<LockId>, LedgerError> {
        self.read(store, signed).await?;
        let mut vanished = Vec::new();
        for (id, Set { until, on }) in &self.set {
            let holds = until.is_none_or(|until| now < until) && !self.lifted.contains(id);
            let is_there = |row: LockRow| {
                row.holds(now) && on_of(&about(Kind::Lock, &row.target, Content::of(Kind::Lock))) == **on
            };
            if holds && !store.lock(*id).await?.is_some_and(is_there) {
                vanished.push(*id);
            }
        }
        if !vanished.is_empty() {
            // one that was lifted between the two looks has its entry by now
            self.read(store, None).await?;
            vanished.retain(|id| !self.lifted.contains(id));
        }
        Ok(vanished)
    }

    async fn read(&mut self, store: &dyn Store, signed: Option<Arc<Signed>>) -> Result<(), LedgerError> {
        let Self { walk, set, lifted } = self;
        let read = walk.go_on(store, signed, |_, content| take(set, lifted, &content)).await;
        if matches!(read, Err(LedgerError::Forged(_))) {
            // what is not believed lifts nothing
            (self.walk, self.lifted) = (Walk::whole(), BTreeSet::new());
        }
        read
    }
}

/// Of an entry about a lock that alone which says what the lock is on.
fn on_of(content: &Content) -> Content {
    let Content { locked, locked_user, locked_session, grant, cluster, .. } = content.clone();
    Content { locked, locked_user, locked_session, grant, cluster, ..Content::of(Kind::Lock) }
}

fn take(set: &mut BTreeMap<LockId, Set>, lifted: &mut BTreeSet<LockId>, content: &Content) {
    let id = content.lock.as_deref().and_then(|id| Uuid::from_slice(id).ok()).map(LockId);
    match (content.kind, id) {
        (Kind::Lock, Some(id)) => {
            // the entry has whole seconds: a lock may hold for less than one longer
            let until = content.locked_until.and_then(|until| Timestamp::from_second(until).ok());
            let on = on_of(content);
            // what its setter locks twice is one lock, of which the later end holds; it is never on something else
            match set.entry(id) {
                Entry::Occupied(known) if *known.get().on != on => {}
                Entry::Occupied(mut known) => {
                    let before = known.get().until;
                    known.get_mut().until = before.zip(until).map(|(before, until)| before.max(until));
                }
                Entry::Vacant(new) => drop(new.insert(Set { until, on: Box::new(on) })),
            }
        }
        (Kind::Unlock, Some(id)) => drop(lifted.insert(id)),
        _ => {}
    }
}
