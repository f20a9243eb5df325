//! Which kits the log has: a line can name any.

use std::collections::HashMap;
use std::sync::Arc;

use ichor_wire::log::Kind;
use uuid::Uuid;

use crate::audit::as_recorded;
use crate::store::{EntryFilter, Store, StoreError, StoredEntry};

/// So many entries are read at once.
const PAGE: u32 = 200;

/// The kits that were made, as far as the log was read.
pub(super) struct Kits {
    store: Arc<dyn Store>,
    /// Where in the log more of them may stand.
    from: u64,
    /// By number.
    made: HashMap<u16, Vec<Made>>,
}

#[derive(Debug)]
struct Made {
    cluster: String,
    /// The one grant of a static kit; `None` where each opening has its own.
    grant: Option<Uuid>,
}

// === impl Kits ===

impl Kits {
    pub(super) fn new(store: Arc<dyn Store>) -> Self {
        Self { store, from: 0, made: HashMap::new() }
    }

    /// Reads which kits were made since.
    pub(super) async fn learn(&mut self) -> Result<(), StoreError> {
        let filter = EntryFilter { kind: Some(Kind::KitMade), ..EntryFilter::default() };
        loop {
            let page = self.store.entries_from(&filter, self.from, PAGE).await?;
            let Some(last) = page.last() else { return Ok(()) };
            let next = last.index.saturating_add(1);
            for (number, made) in page.iter().filter_map(made) {
                self.made.entry(number).or_default().push(made);
            }
            self.from = next;
        }
    }

    /// Whether the cluster has a kit of this number that can have given this grant.
    pub(super) fn has(&self, cluster: &str, number: u16, grant: Uuid) -> bool {
        let mut made = self.made.get(&number).into_iter().flatten();
        made.any(|kit| kit.cluster == cluster && kit.grant.is_none_or(|own| own == grant))
    }
}

/// A kit's number, and what was made. An entry that cannot be read tells of none: a use of it is told as that of a kit which the log does
/// not have.
fn made(stored: &StoredEntry) -> Option<(u16, Made)> {
    let content = as_recorded(stored, Some(Kind::KitMade)).ok()??.content;
    let kit = content.kit?;
    let grant = match kit.certificate {
        Some(_) => Some(Uuid::from_slice(kit.id.as_deref()?).ok()?),
        None => None,
    };
    Some((kit.number, Made { cluster: content.cluster?, grant }))
}
