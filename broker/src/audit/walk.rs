//! Reading the log by its places, so that what is decided by it hangs on no column and no index.
//!
//! Each leaf goes into a tree, whose root is held against the newest checkpoint that this broker signed.

use std::sync::Arc;

use ichor_wire::log::tree::Edge;
use ichor_wire::log::{Content, Leaf, leaf_hash};
use jiff::Timestamp;

use super::bare::Bare;
use super::ledger::LedgerError;
use super::notary::Signed;
use super::{NotRecorded, as_recorded};
use crate::store::{EntryFilter, Store, StoredEntry};

/// So many entries are read at a time.
const STRIDE: u64 = 1_000;

/// What was read of the log so far: every entry from some place on.
#[derive(Debug)]
pub struct Walk {
    /// The tree up to the next entry to read.
    edge: Edge,
    bare: Bare,
    /// The last entry without a body, whatever is said of it.
    last_bare: Option<u64>,
    /// The first entry must be older than this.
    older: Option<i64>,
}

impl Walk {
    /// From the log's first entry on.
    #[must_use]
    pub fn whole() -> Self {
        Self::behind(Edge::default())
    }

    /// From behind this tree on.
    pub(super) fn behind(edge: Edge) -> Self {
        Self { edge, bare: Bare::default(), last_bare: None, older: None }
    }

    /// The tree of all up to the next entry to read.
    pub(super) fn into_edge(self) -> Edge {
        self.edge
    }

    /// The first entry read whose body is gone and was not dropped lawfully.
    pub(super) fn lost(&self) -> Option<u64> {
        self.bare.first()
    }

    /// From before the first entry of this time on: where that is, a column says, so the entry before it is read too, and
    /// must be older by its leaf.
    ///
    /// # Errors
    /// When the store cannot be read.
    pub async fn since(store: &dyn Store, since: Timestamp) -> Result<Self, LedgerError> {
        let filter = EntryFilter { since: Some(since), ..EntryFilter::default() };
        let first = match store.entries_from(&filter, 0, 1).await?.pop() {
            Some(entry) => entry.index,
            None => store.head().await?.size,
        };
        let Some(from) = first.checked_sub(1) else { return Ok(Self::whole()) };
        let edge = store.edge(from).await?;
        Ok(Self { older: Some(since.as_microsecond()), ..Self::behind(edge) })
    }

    /// The last entry read that has no body.
    #[must_use]
    pub fn last_bare(&self) -> Option<u64> {
        self.last_bare
    }

    /// Reads up to the log's end, stopping where the newest checkpoint lies to hold the tree against it, and hands over what each
    /// entry says. What was read stays read when whoever waits for it goes.
    ///
    /// # Errors
    /// When the store fails, or the log is not what was signed, or a body is gone and no entry says that it was dropped when it
    /// could be.
    pub async fn go_on(
        &mut self,
        store: &dyn Store,
        signed: Option<Arc<Signed>>,
        mut take: impl FnMut(u64, Content),
    ) -> Result<(), LedgerError> {
        let end = store.head().await?.size;
        if let Some(signed) = signed
            && signed.checkpoint.size() >= self.edge.size()
        {
            let size = signed.checkpoint.size();
            if size > end {
                return Err(LedgerError::Forged(format!("it has {end} entries where {size} were signed")));
            }
            self.read_to(store, size, &mut take).await?;
            if self.edge.root() != *signed.checkpoint.root() {
                return Err(LedgerError::Forged(format!("its first {size} entries are not those that were signed")));
            }
        }
        self.read_to(store, end, &mut take).await?;
        if self.lost().is_some() {
            // a body may have been dropped since the end was asked for: what says so was recorded with it
            let end = store.head().await?.size;
            self.read_to(store, end, &mut take).await?;
        }
        match self.lost() {
            Some(place) => Err(LedgerError::Forged(format!("entry {place} has lost its body"))),
            None => Ok(()),
        }
    }

    /// The same for the entries before `end`, held against nothing.
    pub(super) async fn read_to(
        &mut self,
        store: &dyn Store,
        end: u64,
        take: &mut impl FnMut(u64, Content),
    ) -> Result<(), LedgerError> {
        while self.edge.size() < end {
            let from = self.edge.size();
            let stride = store.entry_range(from..end.min(from.saturating_add(STRIDE))).await?;
            if stride.is_empty() {
                return Err(NotRecorded { place: from, what: "is missing" }.into());
            }
            for stored in stride {
                self.step(&stored, take)?;
            }
        }
        Ok(())
    }

    fn step(&mut self, stored: &StoredEntry, take: &mut impl FnMut(u64, Content)) -> Result<(), LedgerError> {
        let place = self.edge.size();
        let unlike = |what| LedgerError::from(NotRecorded { place, what });
        if stored.index != place {
            return Err(unlike("is missing"));
        }
        let entry = as_recorded(stored, None)?;
        let time = Leaf::decode(&stored.leaf).map_err(|_| unlike("has a damaged leaf"))?.time;
        if self.older.take().is_some_and(|since| time >= since) {
            return Err(unlike("has another time in its column than in its leaf"));
        }
        match entry {
            Some(entry) => {
                self.bare.take(place, &entry);
                take(place, entry.content);
            }
            None => {
                self.bare.push(place, time);
                self.last_bare = Some(place);
            }
        }
        self.edge.push(leaf_hash(&stored.leaf));
        Ok(())
    }
}
