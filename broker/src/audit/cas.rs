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
/// When the store cannot be read, or an entry is not what was recorded ([`StoreError::Damaged`]): then each further call says so too, until
/// it is, for what came later may be known only with it.
pub async fn learn_cas(store: &dyn Store, known: &mut KnownCas) -> Result<(), StoreError> {
    let filter = EntryFilter { kind: Some(Kind::Ca), ..EntryFilter::default() };
    loop {
        let page = store.entries_from(&filter, known.next, PAGE).await?;
        for stored in &page {
            // nobody can have it dropped
            let entry = as_recorded(stored, filter.kind)?;
            let content = entry.ok_or(NotRecorded { place: stored.index, what: "has lost its body" })?.content;
            if let (Some(cluster), Some(digests)) = (&content.cluster, &content.digests) {
                known.learn(cluster, digests);
            }
            // one that says nothing is not passed over: the next look begins with it
            known.next = known.next.max(stored.index.saturating_add(1));
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
    use crate::custody::{CERTIFICATE, RETIRED};
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

    #[tokio::test]
    async fn an_entry_that_says_nothing_is_met_at_every_look_until_it_reads_as_it_was_recorded() {
        let room = Room::new([]);
        let of = |digest: &str, name: &str| {
            let digests = Some(BTreeMap::from([(digest.to_owned(), name.to_owned())]));
            Content { cluster: Some("prod".into()), digests, ..Content::of(Kind::Ca) }
        };
        let prod = ClusterName::new("prod").unwrap();
        for content in [of(CERTIFICATE, "one"), of(&format!("{RETIRED} 1"), "one"), of(CERTIFICATE, "two")] {
            room.sequencer.note(content, None).await.unwrap();
        }
        room.edit("CREATE TABLE aside.kept AS SELECT * FROM body");
        for (spoil, why) in [
            ("DELETE FROM body WHERE idx = 1", "entry 1 has lost its body"),
            ("UPDATE body SET body = (SELECT body FROM body WHERE idx = 0) WHERE idx = 1", "entry 1 has another body"),
        ] {
            room.edit(spoil);
            let mut known = KnownCas::default();
            for look in ["the first", "the second", "the third"] {
                let refused = learn_cas(&*room.store, &mut known).await.unwrap_err();
                assert!(matches!(&refused, StoreError::Damaged(said) if said.starts_with(why)), "{look}: {refused}");
                assert_eq!((known.next, known.newest(&prod)), (1, Some("one")), "{look}");
            }
            room.edit("DELETE FROM body; INSERT INTO body (idx, body) SELECT idx, body FROM aside.kept");
            learn_cas(&*room.store, &mut known).await.unwrap();
            assert!(known.is_retired(&prod, "one"));
            assert_eq!((known.next, known.newest(&prod)), (3, Some("two")));
        }
    }
}
