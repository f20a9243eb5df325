//! Whether the calls kept are those that the log has digests of, and none of them is gone.

use std::collections::VecDeque;

use ichor_wire::log::{Content, Kind};

use super::digest::digest;
use crate::audit::as_recorded;
use crate::store::{EntryFilter, Store, StoreError, StoredCall};

/// So many calls are read at once.
const PAGE: u32 = 4096;

/// So many entries are.
const ENTRIES: u32 = 512;

/// So many faults are told.
const TOLD: usize = 10;

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct CallsReport {
    /// How many calls are kept.
    pub calls: u64,
    /// How many whole batches agree with their entries.
    pub batches: u64,
    /// Each batch that does not: its entry's index, and why. At most ten.
    pub faults: Vec<(u64, String)>,
}

/// Reads every call kept and holds each batch against the digest in its entry; from the oldest call kept on, each entry that
/// has calls must have them here. What the quota took cannot be judged: the batches before the oldest call, and the beginning of that
/// call's own. The quota takes the oldest and leaves the newest, so where entries have calls and none is kept, that is a fault.
///
/// # Errors
/// When the store cannot be read.
pub async fn verify_calls(store: &dyn Store) -> Result<CallsReport, StoreError> {
    // the calls of what is recorded from now on may come behind what is read
    let end = store.head().await?.size;
    let mut page = store.call_range(0, PAGE).await?;
    let mut judge = Judge { store, end, from: 0, ahead: VecDeque::new(), report: CallsReport::default() };
    let Some(first) = page.first() else {
        judge.none_kept().await?;
        return Ok(judge.report);
    };
    // ids begin at zero: where the first call is still here, the quota has taken nothing
    judge.from = if first.id == 0 { 0 } else { first.batch };
    let mut batch: Vec<StoredCall> = Vec::new();
    while let Some(last) = page.last() {
        let next = last.id.saturating_add(1);
        for call in page {
            judge.report.calls += 1;
            if batch.last().is_some_and(|before| before.batch != call.batch) {
                judge.batch(&std::mem::take(&mut batch), Some(&call)).await?;
            }
            batch.push(call);
        }
        page = store.call_range(next, PAGE).await?;
    }
    judge.batch(&batch, None).await?;
    judge.rest().await?;
    Ok(judge.report)
}

/// Goes along the entries that have calls, beside the calls.
struct Judge<'a> {
    store: &'a dyn Store,
    /// The log's size before the first call was read.
    end: u64,
    /// Where in the log more entries are looked for.
    from: u64,
    /// Entries that were found and not yet come to: index, and content where the body is there.
    ahead: VecDeque<(u64, Option<Content>)>,
    report: CallsReport,
}

// === impl Judge ===

impl Judge<'_> {
    /// Judges the calls that are kept under one entry, before the call `next`, and the entries before that one which have none.
    async fn batch(&mut self, batch: &[StoredCall], next: Option<&StoredCall>) -> Result<(), StoreError> {
        let Some(index) = batch.first().map(|call| call.batch) else { return Ok(()) };
        let content = loop {
            match self.entry().await? {
                Some((at, content)) if at <= index => {
                    self.ahead.pop_front();
                    if at == index {
                        break content;
                    }
                    self.gone(at, content).await?;
                }
                _ => break None,
            }
        };
        let Some(content) = content else {
            self.fault(index, "the log has no entry of these calls".into());
            return Ok(());
        };
        let count = content.count.unwrap_or_default();
        if content.calls.as_deref() == Some(digest(batch.iter().map(|stored| &stored.call)).as_slice()) {
            self.report.batches += 1;
        } else if (batch.len() as u64) >= count {
            self.fault(index, format!("{} calls are kept that are not the {count} that were recorded", batch.len()));
        } else {
            match self.oldest(index).await? {
                // what is left of it still has no gap, nor is there one before the next entry's calls, where those are here
                Some(oldest) => {
                    let behind = self.entry().await?.map(|(at, _)| at);
                    let next = next.filter(|next| Some(next.batch) == behind).map(|next| next.id);
                    let left = batch.iter().map(|call| call.id).filter(|id| *id >= oldest).chain(next);
                    let left: Vec<u64> = left.collect();
                    if left.iter().zip(left.iter().skip(1)).any(|(one, next)| one.saturating_add(1) != *next) {
                        self.fault(index, format!("of the {count} calls that were recorded some are gone"));
                    }
                }
                None => self.fault(index, format!("of the {count} calls that were recorded {} are kept", batch.len())),
            }
        }
        Ok(())
    }

    /// Judges the entries behind the last call.
    async fn rest(&mut self) -> Result<(), StoreError> {
        while let Some((index, content)) = self.entry().await?.filter(|(index, _)| *index < self.end) {
            self.ahead.pop_front();
            self.gone(index, content).await?;
        }
        Ok(())
    }

    /// The quota leaves at least one call, of the newest batch.
    async fn none_kept(&mut self) -> Result<(), StoreError> {
        let filter = EntryFilter { kind: Some(Kind::NodeLog), ..EntryFilter::default() };
        for stored in self.store.entries(&filter, Some(self.end), 1).await? {
            let content = as_recorded(&stored, filter.kind).ok().flatten().map(|entry| entry.content);
            if let Some(count) = content.and_then(|content| content.count).filter(|count| *count > 0) {
                self.fault(stored.index, format!("{count} calls were recorded, and not one call is kept"));
            }
        }
        Ok(())
    }

    /// The next entry that has calls, which stays where it is.
    async fn entry(&mut self) -> Result<Option<(u64, Option<Content>)>, StoreError> {
        if self.ahead.is_empty() {
            let filter = EntryFilter { kind: Some(Kind::NodeLog), ..EntryFilter::default() };
            for stored in self.store.entries_from(&filter, self.from, ENTRIES).await? {
                self.from = stored.index.saturating_add(1);
                let content = as_recorded(&stored, filter.kind).ok().flatten().map(|entry| entry.content);
                self.ahead.push_back((stored.index, content));
            }
        }
        Ok(self.ahead.front().cloned())
    }

    /// An entry none of whose calls are here.
    async fn gone(&mut self, index: u64, content: Option<Content>) -> Result<(), StoreError> {
        let count = content.and_then(|content| content.count).unwrap_or_default();
        if count > 0 && self.oldest(index).await?.is_none() {
            self.fault(index, format!("the {count} calls that were recorded are gone"));
        }
        Ok(())
    }

    /// The id of the oldest call kept, where the quota may have taken calls of the entry `index`; that may have happened while this
    /// was read.
    async fn oldest(&self, index: u64) -> Result<Option<u64>, StoreError> {
        let oldest = self.store.call_range(0, 1).await?;
        Ok(oldest.first().filter(|oldest| oldest.id > 0 && index <= oldest.batch).map(|oldest| oldest.id))
    }

    fn fault(&mut self, index: u64, why: String) {
        if self.report.faults.len() < TOLD {
            self.report.faults.push((index, why));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::tests::Room;
    use crate::store::conformance::call;
    use crate::store::{Call, Change};

    /// Batches of one, three, one and two calls, with other entries between; the last leaves at most `most`.
    async fn kept(most: u64) -> (Room, Vec<u64>) {
        let (room, mut entries, mut seconds) = (Room::new([]), Vec::new(), 0..);
        for (place, count) in [1, 3, 1, 2].into_iter().enumerate() {
            let calls: Vec<Call> = seconds.by_ref().take(count).map(|second| call("cp-1", "ada", second)).collect();
            let content = Content {
                count: Some(count as u64),
                calls: Some(digest(&calls).to_vec()),
                ..Content::of(Kind::NodeLog)
            };
            let most = if place == 3 { most } else { 100 };
            room.sequencer.note(Content::of(Kind::Reload), None).await.unwrap();
            let change = Change::CallsKept { calls, most };
            entries.push(room.sequencer.note(content, Some(change)).await.unwrap().index);
        }
        (room, entries)
    }

    /// Which of the four batches are at fault once someone has written there.
    async fn faults(most: u64, edit: &str) -> Vec<usize> {
        let (room, entries) = kept(most).await;
        room.edit(edit);
        let report = verify_calls(&*room.store).await.unwrap();
        let places = report.faults.iter().map(|(index, _)| entries.iter().position(|entry| entry == index).unwrap());
        places.collect()
    }

    #[tokio::test]
    async fn calls_that_were_taken_out_are_missed() {
        let (room, entries) = kept(100).await;
        let whole = CallsReport { calls: 7, batches: 4, faults: Vec::new() };
        assert_eq!(verify_calls(&*room.store).await.unwrap(), whole);
        for (edit, expected) in [
            ("DELETE FROM call WHERE id = 4", &[2][..]),
            ("DELETE FROM call WHERE id BETWEEN 1 AND 3", &[1]),
            ("DELETE FROM call WHERE id >= 5", &[3]),
            ("DELETE FROM call", &[3]),
            ("DELETE FROM call WHERE id IN (2, 4)", &[1, 2]),
            ("DELETE FROM call WHERE id = 6", &[3]),
            // new calls in an emptied table begin anew
            ("DELETE FROM call WHERE id < 5; UPDATE call SET id = id - 5", &[0, 1, 2]),
            ("UPDATE call SET duration = 7 WHERE id = 2", &[1]),
        ] {
            assert_eq!(faults(100, edit).await, expected, "{edit}");
        }
        // calls under an entry that has none, and an entry without its calls
        room.edit("UPDATE call SET batch = 0 WHERE id = 4");
        let report = verify_calls(&*room.store).await.unwrap();
        assert_eq!(report.faults.iter().map(|fault| fault.0).collect::<Vec<_>>(), [0, entries[2]]);
    }

    #[tokio::test]
    async fn what_the_quota_takes_is_no_fault_and_hides_no_more_than_that() {
        let (room, _) = kept(4).await;
        let rest = CallsReport { calls: 4, batches: 2, faults: Vec::new() };
        assert_eq!(verify_calls(&*room.store).await.unwrap(), rest);
        assert!(faults(1, "").await.is_empty(), "of the newest batch, its last call");
        for (edit, expected) in [
            ("DELETE FROM call WHERE id = 4", &[2][..]),
            ("DELETE FROM call WHERE id >= 5", &[3]),
            ("DELETE FROM call", &[3]),
            // as the quota itself might have done
            ("DELETE FROM call WHERE id = 3", &[]),
        ] {
            assert_eq!(faults(4, edit).await, expected, "{edit}");
        }
        for (edit, expected) in [
            ("DELETE FROM call WHERE id < 2", &[][..]),
            ("DELETE FROM call WHERE id IN (0, 2)", &[1]),
            ("DELETE FROM call WHERE id IN (0, 3)", &[1]),
        ] {
            assert_eq!(faults(100, edit).await, expected, "the oldest that is left: {edit}");
        }
    }
}
