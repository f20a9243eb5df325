//! Locks as the log tells of them. Whoever writes the database can take a lock away, but not its entry: what the log has and the
//! database has not is said, loudly.

use std::collections::{BTreeMap, BTreeSet};

use ichor_wire::log::{Content, Entry, Kind};
use jiff::Timestamp;
use uuid::Uuid;

use crate::domain::LockId;
use crate::store::{EntryFilter, Store, StoreError};

/// So many entries are read at a time.
const PAGE: u32 = 500;

/// What was read of the log so far.
#[derive(Debug, Default)]
pub struct Ledger {
    /// The places to go on at, of locks and of liftings.
    next: [u64; 2],
    /// Locks that were set, with their ends.
    set: BTreeMap<LockId, Option<Timestamp>>,
    lifted: BTreeSet<LockId>,
}

impl Ledger {
    /// The locks that hold by the log and that the database has no longer, or says are ended. Reads what is new in the log.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn vanished(&mut self, store: &dyn Store, now: Timestamp) -> Result<Vec<LockId>, StoreError> {
        self.read(store).await?;
        let mut vanished = Vec::new();
        for (id, until) in &self.set {
            let holds = until.is_none_or(|until| now < until);
            if holds && store.lock(*id).await?.is_none_or(|row| !row.holds(now)) {
                vanished.push(*id);
            }
        }
        if !vanished.is_empty() {
            // one that was lifted between the two looks has its entry by now
            self.read(store).await?;
            vanished.retain(|id| self.set.contains_key(id));
        }
        Ok(vanished)
    }

    async fn read(&mut self, store: &dyn Store) -> Result<(), StoreError> {
        for (place, kind) in [(0, Kind::Lock), (1, Kind::Unlock)] {
            let filter = EntryFilter { kind: Some(kind), ..EntryFilter::default() };
            let Some(next) = self.next.get_mut(place) else { continue };
            loop {
                let page = store.entries_from(&filter, *next, PAGE).await?;
                for stored in &page {
                    *next = stored.index.saturating_add(1);
                    let body = stored.body.as_deref().and_then(|body| Entry::decode(body).ok());
                    let Some(content) = body.map(|entry| entry.content) else { continue };
                    let Some(id) = id(&content) else { continue };
                    match kind {
                        Kind::Lock => {
                            // the entry has whole seconds: a lock may hold for less than one longer
                            let until = content.locked_until.and_then(|until| Timestamp::from_second(until).ok());
                            self.set.insert(id, until);
                        }
                        _ => drop(self.lifted.insert(id)),
                    }
                }
                if page.len() < PAGE as usize {
                    break;
                }
            }
        }
        let lifted = &self.lifted;
        self.set.retain(|id, _| !lifted.contains(id));
        Ok(())
    }
}

fn id(content: &Content) -> Option<LockId> {
    Uuid::from_slice(content.lock.as_deref()?).ok().map(LockId)
}
