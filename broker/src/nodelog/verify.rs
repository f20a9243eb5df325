//! Whether the calls kept are those that the log has digests of, and none of them is gone but by the quota.
//!
//! Ids count up along the log, so an entry's own are known from how many calls the entries before it had. The quota takes a node's oldest
//! calls. So each node's calls are there as recorded from its oldest on, whatever was taken of another's.

use std::collections::{BTreeMap, HashMap, VecDeque};

use ichor_wire::log::{Content, Kind, NodeCalls};

use super::digest::{digest, digest_of_node};
use crate::audit::as_recorded;
use crate::store::{EntryFilter, NodeHeld, Store, StoreError, StoredCall};

/// So many calls are read at once.
const PAGE: u32 = 4096;

/// So many entries are.
const ENTRIES: u32 = 512;

/// So many faults are told.
const TOLD: usize = 10;

/// So many nodes are remembered that entries have calls of; of more it is not known whether each has a call left.
const NAMED: usize = 100_000;

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

/// A node: cluster and name.
type Node = (String, String);

/// Reads every call kept and holds it against the digest of its node in its entry; from a node's oldest call on, each entry that has calls
/// of the node must have them here. What the quota took cannot be judged: what is before a node's oldest call, and the beginning of that
/// call's own batch. The quota leaves a node its last call as long as another holds two.
///
/// # Errors
/// When the store cannot be read.
pub async fn verify_calls(store: &dyn Store) -> Result<CallsReport, StoreError> {
    // the calls of what is recorded from now on may come behind what is read
    let end = store.head().await?.size;
    let mut judge = Judge {
        store,
        end,
        from: 0,
        ahead: VecDeque::new(),
        base: Some(0),
        held: HashMap::new(),
        named: BTreeMap::new(),
        report: CallsReport::default(),
    };
    judge.look().await?;
    let (mut batch, mut next): (Vec<StoredCall>, u64) = (Vec::new(), 0);
    loop {
        let page = store.call_range(next, PAGE).await?;
        let Some(last) = page.last() else { break };
        next = last.id.saturating_add(1);
        for call in page {
            judge.report.calls += 1;
            if batch.last().is_some_and(|before| before.batch != call.batch) {
                judge.batch(&std::mem::take(&mut batch)).await?;
            }
            batch.push(call);
        }
    }
    judge.batch(&batch).await?;
    judge.rest().await?;
    judge.each_has_one().await?;
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
    /// The id of the next entry's first call; `None` once an entry cannot be read.
    base: Option<u64>,
    /// What is kept of each node, as it was when last looked for: the quota may take more while this is read.
    held: HashMap<Node, NodeHeld>,
    /// The nodes that entries have calls of, and the last such entry.
    named: BTreeMap<Node, u64>,
    report: CallsReport,
}

/// Why an entry's calls are not as they were recorded.
enum Wrong {
    /// The quota cannot have done that.
    Fault(String),
    /// Calls are gone that the quota had not taken when that was last looked for.
    Gone(String),
}

// === impl Judge ===

impl Judge<'_> {
    /// Judges the calls that are kept under one entry, and the entries before that one which have none.
    async fn batch(&mut self, batch: &[StoredCall]) -> Result<(), StoreError> {
        let Some(index) = batch.first().map(|call| call.batch) else { return Ok(()) };
        while let Some((at, content)) = self.entry().await?.filter(|(at, _)| *at <= index) {
            self.ahead.pop_front();
            if at == index && content.is_some() {
                return self.judge(at, content, batch).await;
            }
            self.judge(at, content, &[]).await?;
        }
        self.fault(index, "the log has no entry of these calls".into());
        Ok(())
    }

    /// Judges the entries behind the last call.
    async fn rest(&mut self) -> Result<(), StoreError> {
        while let Some((index, content)) = self.entry().await?.filter(|(index, _)| *index < self.end) {
            self.ahead.pop_front();
            self.judge(index, content, &[]).await?;
        }
        Ok(())
    }

    /// Each node that the log tells of has a call left, where another has two.
    async fn each_has_one(&mut self) -> Result<(), StoreError> {
        self.look().await?;
        let has_two = self.held.values().any(|held| held.calls > 1);
        for ((cluster, node), index) in std::mem::take(&mut self.named) {
            let held = (cluster, node);
            if (has_two || self.held.is_empty()) && !self.held.contains_key(&held) {
                self.fault(index, format!("calls of node `{}` were recorded, and not one is kept", held.1));
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

    /// Judges one entry by the calls that are kept under it.
    async fn judge(&mut self, index: u64, content: Option<Content>, calls: &[StoredCall]) -> Result<(), StoreError> {
        let Some(content) = content else {
            // whoever reads the log finds its body gone
            self.base = None;
            return Ok(());
        };
        let count = content.count.unwrap_or_default();
        let base = self.base.or_else(|| calls.first().map(|call| call.id));
        self.base = self.base.map(|base| base.saturating_add(count));
        let cluster = content.cluster.clone().unwrap_or_default();
        for of in content.node_calls.iter().flatten().filter(|of| of.count > 0) {
            let node = (cluster.clone(), of.node.clone());
            if self.named.len() < NAMED || self.named.contains_key(&node) {
                self.named.insert(node, index);
            }
        }
        if count == 0 && calls.is_empty() {
            return Ok(());
        }
        let mut wrong = self.compare(index, &content, base, calls);
        if matches!(wrong, Err(Wrong::Gone(_))) {
            // perhaps since
            self.look().await?;
            wrong = self.compare(index, &content, base, calls);
        }
        match wrong {
            Ok(is_whole) => self.report.batches += u64::from(is_whole),
            Err(Wrong::Gone(_)) if calls.is_empty() => {
                self.fault(index, format!("the {count} calls that were recorded are gone"));
            }
            Err(Wrong::Fault(why) | Wrong::Gone(why)) => self.fault(index, why),
        }
        Ok(())
    }

    /// Whether the entry's calls are all here, where those that are here are as they were recorded, and the rest may be the quota's work.
    fn compare(&self, index: u64, content: &Content, base: Option<u64>, calls: &[StoredCall]) -> Result<bool, Wrong> {
        let count = content.count.unwrap_or_default();
        let unlike =
            || Wrong::Fault(format!("{} calls are kept that are not the {count} that were recorded", calls.len()));
        let is_all = calls.len() as u64 == count;
        if is_all && content.calls.as_deref() != Some(digest(calls.iter().map(|stored| &stored.call)).as_slice()) {
            return Err(unlike());
        }
        let cluster = content.cluster.as_deref().unwrap_or_default();
        // an entry of a build that did not digest by node: of a batch of which the quota took some, nothing can be said
        let Some(listed) = content.node_calls.as_deref() else { return Ok(is_all) };
        let mut by_node: BTreeMap<&str, Vec<&StoredCall>> = BTreeMap::new();
        for call in calls {
            if call.call.cluster != cluster {
                return Err(unlike());
            }
            by_node.entry(&call.call.node).or_default().push(call);
        }
        if by_node.keys().any(|node| listed.iter().all(|of| of.node != *node))
            || listed.iter().map(|of| of.count).sum::<u64>() != count
        {
            return Err(unlike());
        }
        let Some(base) = base else { return Ok(false) };
        let own = base..base.saturating_add(count);
        if let Some(call) = calls.iter().find(|call| !own.contains(&call.id)) {
            return Err(Wrong::Fault(format!("call {} has an id that it was not given", call.id)));
        }
        // up to where the quota took calls of the nodes that lack some
        let mut taken = base;
        for of in listed {
            let here = by_node.get(of.node.as_str()).map(Vec::as_slice).unwrap_or_default();
            if here.len() as u64 == of.count {
                let places = here.iter().map(|stored| (stored.id.saturating_sub(base), &stored.call));
                if of.calls != digest_of_node(places) {
                    return Err(unlike());
                }
            } else {
                taken = taken.max(self.taken(index, &own, cluster, of, here)?);
            }
        }
        let mut here = calls.iter().map(|call| call.id).peekable();
        for id in own {
            if here.next_if_eq(&id).is_none() && id >= taken {
                return Err(Wrong::Gone(format!("of the {count} calls that were recorded some are gone")));
            }
        }
        Ok(is_all)
    }

    /// The id below which the quota took the calls of a node that lacks some.
    fn taken(
        &self,
        index: u64,
        own: &std::ops::Range<u64>,
        cluster: &str,
        of: &NodeCalls,
        here: &[&StoredCall],
    ) -> Result<u64, Wrong> {
        if here.len() as u64 > of.count {
            return Err(Wrong::Fault(format!("of node `{}` more calls are kept than were recorded", of.node)));
        }
        let held = self.held.get(&(cluster.to_owned(), of.node.clone()));
        match held {
            // all of it, as far as the log is concerned here
            None => Ok(own.end),
            Some(held) if held.batch > index => Ok(own.end),
            Some(held) if held.batch == index && held.oldest > own.start => Ok(held.oldest),
            Some(_) => Err(Wrong::Gone(format!(
                "of the {} calls of node `{}` that were recorded {} are kept, though older ones are",
                of.count,
                of.node,
                here.len()
            ))),
        }
    }

    /// Looks at what is kept of each node now.
    async fn look(&mut self) -> Result<(), StoreError> {
        let held = self.store.calls_held().await?.into_iter();
        self.held = held.map(|held| ((held.cluster.clone(), held.node.clone()), held)).collect();
        Ok(())
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
    use crate::nodelog::digest::digests;
    use crate::store::conformance::call;
    use crate::store::{Call, Change};

    /// The entry of these calls.
    fn of(calls: &[Call]) -> Content {
        let (all, nodes) = digests(calls);
        Content {
            cluster: Some("prod".into()),
            count: Some(calls.len() as u64),
            calls: Some(all.to_vec()),
            node_calls: Some(nodes),
            ..Content::of(Kind::NodeLog)
        }
    }

    /// Batches of one, three, one and two calls, with other entries between; the last leaves at most `most`.
    async fn kept(most: u64) -> (Room, Vec<u64>) {
        let (room, mut entries, mut seconds) = (Room::new([]), Vec::new(), 0..);
        for (place, count) in [1, 3, 1, 2].into_iter().enumerate() {
            let calls: Vec<Call> = seconds.by_ref().take(count).map(|second| call("cp-1", "ada", second)).collect();
            let content = of(&calls);
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
            ("DELETE FROM call WHERE id < 5; UPDATE call SET id = id - 5", &[3]),
            // an id is no one's to choose
            ("UPDATE call SET id = 100 WHERE id = 6", &[3]),
            (
                "UPDATE call SET id = -1 WHERE id = 2; UPDATE call SET id = 2 WHERE id = 1; UPDATE call SET id = 1 WHERE id = -1",
                &[1],
            ),
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

    /// What three nodes told of in five batches, with a quota of 14: most of it one of them, of which the quota took all else.
    async fn of_three_nodes() -> (Room, Vec<u64>) {
        let (room, mut entries) = (Room::new([]), Vec::new());
        for batch in 0..5 {
            let loud = (0..8).map(|second| call("loud", "ada", batch * 10 + second));
            let mut calls: Vec<Call> = loud.collect();
            calls.insert(3, call("cp-1", "ada", batch));
            if batch % 2 == 0 {
                calls.push(call("cp-2", "bob", batch));
            }
            let change = Change::CallsKept { calls: calls.clone(), most: 14 };
            entries.push(room.sequencer.note(of(&calls), Some(change)).await.unwrap().index);
        }
        (room, entries)
    }

    #[tokio::test]
    async fn what_the_quota_takes_of_one_node_hides_nothing_of_anothers() {
        let (room, _) = of_three_nodes().await;
        let held = room.store.calls_held().await.unwrap();
        let held: Vec<_> = held.iter().map(|held| (held.node.as_str(), held.calls)).collect();
        assert_eq!(held, [("cp-1", 5), ("cp-2", 3), ("loud", 6)]);
        let report = verify_calls(&*room.store).await.unwrap();
        assert_eq!((report.calls, report.faults.len()), (14, 0), "{report:?}");
        let of = |node: &str| format!("node = (SELECT id FROM call_node WHERE name = '{node}')");
        let one = |node: &str, place: u32| {
            format!("id = (SELECT id FROM call WHERE {} ORDER BY id LIMIT 1 OFFSET {place})", of(node))
        };
        for (edit, expected) in [
            (format!("DELETE FROM call WHERE {}", one("cp-1", 2)), &[2][..]),
            (format!("DELETE FROM call WHERE {}", one("cp-2", 1)), &[2]),
            (format!("DELETE FROM call WHERE {}", one("cp-1", 4)), &[4]),
            (format!("DELETE FROM call WHERE {}", one("loud", 2)), &[4]),
            (format!("UPDATE call SET duration = 7 WHERE {}", one("cp-1", 1)), &[1]),
            (format!("UPDATE call SET id = id - 2 WHERE {}", one("cp-1", 1)), &[1]),
            (
                format!(
                    "UPDATE call SET node = (SELECT node FROM call WHERE {}) WHERE {}",
                    one("cp-2", 0),
                    one("cp-1", 1)
                ),
                &[1],
            ),
            // none of its calls is left, as the quota leaves no node while another has two
            (format!("DELETE FROM call WHERE {0}; DELETE FROM call_node WHERE name = 'cp-2'", of("cp-2")), &[4]),
            // as the quota itself might have done
            (format!("DELETE FROM call WHERE {}", one("cp-2", 0)), &[]),
        ] {
            let (room, entries) = of_three_nodes().await;
            room.edit(&edit);
            let report = verify_calls(&*room.store).await.unwrap();
            let places =
                report.faults.iter().map(|(index, _)| entries.iter().position(|entry| entry == index).unwrap());
            assert_eq!(places.collect::<Vec<_>>(), expected, "{edit}: {report:?}");
        }
    }
}
