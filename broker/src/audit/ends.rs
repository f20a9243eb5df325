//! When what was issued ends.

use ichor_wire::log::Kind;
use jiff::Timestamp;

use super::as_recorded;
use crate::domain::ClusterName;
use crate::policy::HARD_MAX_TTL;
use crate::store::{EntryFilter, Store, StoreError};

/// So many entries are read at a time.
const PAGE: u32 = 500;

/// When the last certificate ends that is good at `now` and that the log says was issued for the cluster before `before`. None lasts
/// longer than [`HARD_MAX_TTL`], so no older entry is looked at.
///
/// # Errors
/// When the store cannot be read, or an entry is not what was recorded.
pub async fn last_end(
    store: &dyn Store,
    cluster: &ClusterName,
    before: Timestamp,
    now: Timestamp,
) -> Result<Option<Timestamp>, StoreError> {
    let (cluster, since) = (Some(cluster.to_string()), now.checked_sub(HARD_MAX_TTL).ok());
    let filter =
        EntryFilter { kind: Some(Kind::Issued), cluster, since, until: Some(before), ..EntryFilter::default() };
    let (mut last, mut from) = (None, 0);
    loop {
        let page = store.entries_from(&filter, from, PAGE).await?;
        for stored in &page {
            from = stored.index.saturating_add(1);
            // what was dropped is older than any that is good still
            let content = as_recorded(stored, filter.kind)?.map(|entry| entry.content);
            let end = content.and_then(|content| Timestamp::from_second(content.not_after?).ok());
            last = last.max(end.filter(|end| now < *end));
        }
        if page.len() < PAGE as usize {
            return Ok(last);
        }
    }
}

#[cfg(test)]
mod tests {
    use ichor_wire::log::Content;
    use jiff::SignedDuration;

    use super::*;
    use crate::audit::tests::Room;
    use crate::store::conformance::noon;

    #[tokio::test]
    async fn the_last_certificate_of_the_cluster_that_was_issued_before_is_what_counts() {
        let room = Room::new([]);
        let prod = ClusterName::new("prod").unwrap();
        let after = |minutes| noon() + SignedDuration::from_mins(minutes);
        let issue = async |cluster: &str, minutes: i64| {
            let not_after = Some(after(minutes).as_second());
            let content = Content { cluster: Some(cluster.into()), not_after, ..Content::of(Kind::Issued) };
            room.sequencer.note(content, None).await.unwrap();
        };
        let end = async |before, now| last_end(&*room.store, &prod, before, now).await.unwrap();
        assert_eq!(end(after(1), noon()).await, None);
        for (cluster, minutes) in [("prod", 20), ("prod", 30), ("prod", 10), ("dev", 50)] {
            issue(cluster, minutes).await;
        }
        assert_eq!(end(after(1), noon()).await, Some(after(30)));
        assert_eq!(end(after(1), after(30)).await, None, "it has ended");
        room.clock.advance(SignedDuration::from_mins(5));
        issue("prod", 60).await;
        assert_eq!(end(after(1), after(5)).await, Some(after(30)), "what came later is another CA's");
        assert_eq!(end(after(6), after(5)).await, Some(after(60)));
    }
}
