//! Every entry from a place on, for those who pass them on: none is left out, and none that lost its body unlawfully is passed over.

use ichor_wire::api::AuditEntry;
use ichor_wire::log::{Kind, Leaf};

use super::bare::Bare;
use super::query::show;
use super::{NotRecorded, as_recorded};
use crate::store::{EntryFilter, Store, StoreError, StoredEntry};

/// So many entries about drops are read at a time.
const PAGE: u32 = 200;

/// The oldest `limit` entries from the place `from` on.
///
/// # Errors
/// When the store cannot be read or is damaged; also when an entry is missing, or its body is, and no later entry says that it was
/// dropped when it was old enough: whoever writes the database may have taken it away, to put it back once it was passed over.
pub async fn every_entry_from(store: &dyn Store, from: u64, limit: u32) -> Result<Vec<AuditEntry>, StoreError> {
    let stored = store.entry_range(from..from.saturating_add(limit.into())).await?;
    for (place, entry) in (from..).zip(&stored) {
        if entry.index != place {
            return Err(NotRecorded { place, what: "is missing" }.into());
        }
    }
    lawfully_bare(store, &stored).await?;
    stored.iter().map(show).collect()
}

/// Returns if every body that is missing was dropped as it may be.
async fn lawfully_bare(store: &dyn Store, stored: &[StoredEntry]) -> Result<(), StoreError> {
    let mut bare = Bare::default();
    for entry in stored.iter().filter(|entry| entry.body.is_none()) {
        let leaf = Leaf::decode(&entry.leaf);
        let leaf = leaf.map_err(|_| NotRecorded { place: entry.index, what: "has a damaged leaf" })?;
        bare.push(entry.index, leaf.time);
    }
    let filter = EntryFilter { kind: Some(Kind::BodyDropped), ..EntryFilter::default() };
    let mut next = bare.first().unwrap_or_default();
    while let Some(first) = bare.first() {
        let page = store.entries_from(&filter, next, PAGE).await?;
        for stored in &page {
            next = stored.index.saturating_add(1);
            if let Some(entry) = as_recorded(stored, filter.kind)? {
                bare.take(stored.index, &entry);
            }
        }
        if page.len() < PAGE as usize && bare.first() == Some(first) {
            return Err(NotRecorded { place: first, what: "has lost its body, and was not dropped" }.into());
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use ichor_wire::log::{Content, Places};
    use jiff::SignedDuration;

    use super::*;
    use crate::audit::tests::Room;

    #[tokio::test]
    async fn an_entry_that_lost_its_body_is_not_passed_over() {
        let room = Room::new([]);
        let note = async |content| room.sequencer.note(content, None).await.unwrap();
        for _ in 0..3 {
            note(Content::of(Kind::AuditRead)).await;
        }
        let every = async || every_entry_from(&*room.store, 0, 9).await;
        assert_eq!(every().await.unwrap().len(), 3);
        room.edit("DELETE FROM body WHERE idx = 1");
        let says_so = || Content {
            dropped: Some([1].into_iter().collect::<Places>().numbers()),
            ..Content::of(Kind::BodyDropped)
        };
        for seconds in [0, 24 * 3600 - 1] {
            let refused = every().await.unwrap_err().to_string();
            assert!(refused.contains("entry 1 has lost its body"), "{refused}");
            room.clock.advance(SignedDuration::from_secs(seconds));
            note(says_so()).await;
        }
        let refused = every().await.unwrap_err().to_string();
        assert!(refused.contains("entry 1 has lost its body"), "{refused}: named, too young");
        room.clock.advance(SignedDuration::from_secs(1));
        note(says_so()).await;
        let kinds: Vec<_> = every().await.unwrap().into_iter().map(|entry| entry.kind).collect();
        assert_eq!(kinds[..3], ["audit-read", "dropped", "audit-read"]);
        room.edit("DELETE FROM leaf WHERE idx = 0");
        assert!(every().await.unwrap_err().to_string().contains("entry 0 is missing"));
    }
}
