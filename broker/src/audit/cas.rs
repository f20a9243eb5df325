//! The CAs that the log knows.

use ichor_wire::log::Kind;

use super::{NotRecorded, as_recorded};
use crate::custody::KnownCas;
use crate::store::{EntryFilter, Store, StoreError};

/// So many entries are read at a time.
const PAGE: u32 = 500;

/// Reads the entries about CAs from `known.next` on, oldest first, and takes in which CAs they name. Its cost is by those entries, and
/// not by the log.
///
/// # Errors
/// When the store cannot be read, or an entry is not what was recorded.
pub async fn learn_cas(store: &dyn Store, known: &mut KnownCas) -> Result<(), StoreError> {
    let filter = EntryFilter { kind: Some(Kind::Ca), ..EntryFilter::default() };
    loop {
        let page = store.entries_from(&filter, known.next, PAGE).await?;
        for stored in &page {
            known.next = known.next.max(stored.index.saturating_add(1));
            // nobody can have it dropped
            let entry = as_recorded(stored, filter.kind)?;
            let content = entry.ok_or(NotRecorded { place: stored.index, what: "has lost its body" })?.content;
            if let (Some(cluster), Some(digests)) = (&content.cluster, &content.digests) {
                known.learn(cluster, digests);
            }
        }
        if page.len() < PAGE as usize {
            return Ok(());
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use ichor_wire::log::Content;

    use super::*;
    use crate::audit::tests::Room;
    use crate::domain::ClusterName;

    #[tokio::test]
    async fn what_entries_name_is_known_also_of_those_that_came_later() {
        let room = Room::new([]);
        let digests = |name: &str| Some(BTreeMap::from([("certificate".to_owned(), name.to_owned())]));
        let of =
            |kind, name: &str| Content { cluster: Some("prod".into()), digests: digests(name), ..Content::of(kind) };
        let prod = ClusterName::new("prod").unwrap();
        let mut known = KnownCas::default();
        for number in 0..usize::try_from(PAGE).unwrap() + 3 {
            room.sequencer.note(of(Kind::Ca, &format!("{number}")), None).await.unwrap();
        }
        // another kind of entry names no CA
        room.sequencer.note(of(Kind::Admin, "admin"), None).await.unwrap();
        learn_cas(&*room.store, &mut known).await.unwrap();
        assert_eq!(known.newest(&prod), Some("502"));
        let read = known.clone();
        learn_cas(&*room.store, &mut known).await.unwrap();
        assert_eq!(known, read);
        room.sequencer.note(of(Kind::Ca, "later"), None).await.unwrap();
        learn_cas(&*room.store, &mut known).await.unwrap();
        assert_eq!(known.newest(&prod), Some("later"));
    }
}
