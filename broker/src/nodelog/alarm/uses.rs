//! Uses of kits that the log has. Whoever can make nodes print lines can make up any number of grants of such a kit. So of each kit a
//! first use is told in each window, whatever else there is; and those that wait do so in one queue a kit and node, served in turn:
//! what one node tells of does not keep back what another does.

use std::collections::btree_map::Entry;
use std::collections::{BTreeMap, BTreeSet, VecDeque};

use ichor_wire::log::{Content, Kind, Kit};

use super::Finding;

/// So many uses are told in a window, and the first of each kit beside; the rest wait for the next ones. Those are 30 MB a day at the
/// worst.
pub(super) const KITS: usize = 64;

/// So many uses wait at most; only a forger prints more, and those are counted together, by kit.
pub(super) const WAITING: usize = 4_096;

/// So many wait at most of one kit and node.
pub(super) const OF_ONE: usize = 256;

/// A kit: cluster and number.
type Of = (String, u16);

/// Where a use waits: its kit, and the node that told of it.
type Line = (Of, String);

/// Uses that wait, in the order in which they came.
type Queue = VecDeque<(Finding, Content)>;

/// The uses of kits.
#[derive(Debug, Default)]
pub(super) struct Uses {
    /// By what was told in this window; how many more calls came since.
    told: BTreeMap<Finding, u64>,
    /// The kits of which a use was told in this window.
    kits: BTreeSet<Of>,
    /// What is to be told in the next ones. No queue is empty.
    waiting: BTreeMap<Line, Queue>,
    /// What waits.
    known: BTreeSet<Finding>,
    /// The queue that was served last.
    served: Option<Line>,
    /// How many calls are told of in no other way.
    beyond: BTreeMap<Of, u64>,
}

// === impl Uses ===

impl Uses {
    /// Counts `count` calls; answers the entry where it is to be recorded now.
    pub(super) fn note(&mut self, finding: &Finding, count: u64, content: Content) -> Option<Content> {
        if let Some(more) = self.told.get_mut(finding) {
            *more = more.saturating_add(count);
            return None;
        }
        let is_first = self.kits.insert(of(finding));
        if is_first || self.told.len() < KITS {
            self.told.insert(finding.clone(), 0);
            return Some(content);
        }
        self.wait(finding, count, content);
        None
    }

    /// Ends the window: what was told in it, with how many calls came since, and an entry for each kit of which more was to be told
    /// than can wait.
    pub(super) fn over(&mut self) -> (BTreeMap<Finding, u64>, Vec<Content>) {
        self.kits.clear();
        let beyond = std::mem::take(&mut self.beyond).into_iter().map(|((cluster, number), count)| Content {
            cluster: Some(cluster),
            kit: Some(Kit { number, ..Kit::default() }),
            count: Some(count),
            message: Some("with more grants than are told apart; `ichor audit unexplained` shows the calls".into()),
            ..Content::of(Kind::KitInUse)
        });
        (std::mem::take(&mut self.told), beyond.collect())
    }

    /// The entries of those that a new window tells.
    pub(super) fn of_new_window(&mut self) -> Vec<Content> {
        let mut next = Vec::new();
        while next.len() < KITS {
            let behind = self.served.as_ref().and_then(|served| {
                let behind = (std::ops::Bound::Excluded(served), std::ops::Bound::Unbounded);
                self.waiting.range::<Line, _>(behind).next()
            });
            let Some(line) = behind.or_else(|| self.waiting.iter().next()).map(|(line, _)| line.clone()) else { break };
            let Some((finding, content)) = self.pop(&line, VecDeque::pop_front) else { break };
            self.kits.insert(line.0.clone());
            self.served = Some(line);
            self.told.insert(finding, 0);
            next.push(content);
        }
        next
    }

    /// Has a use told in a later window. More calls of one that waits are not counted.
    fn wait(&mut self, finding: &Finding, count: u64, content: Content) {
        if self.known.contains(finding) {
            return;
        }
        let line = (of(finding), finding.node.clone());
        let own = self.waiting.get(&line).map_or(0, VecDeque::len);
        let is_room = self.known.len() < WAITING || self.make_room(own);
        if own >= OF_ONE || !is_room {
            return self.pass_over(line.0, count);
        }
        self.known.insert(finding.clone());
        self.waiting.entry(line).or_default().push_back((finding.clone(), content));
    }

    /// Takes the last of the longest queue, where that is longer than one with `own` and one more would be.
    fn make_room(&mut self, own: usize) -> bool {
        let longest = self.waiting.iter().max_by_key(|(_, queue)| queue.len());
        let Some((line, _)) = longest.filter(|(_, queue)| queue.len() > own.saturating_add(1)) else { return false };
        let line = line.clone();
        let taken = self.pop(&line, VecDeque::pop_back);
        let count = taken.and_then(|(_, content)| content.count).unwrap_or_default();
        self.pass_over(line.0, count);
        true
    }

    fn pop(&mut self, line: &Line, pop: fn(&mut Queue) -> Option<(Finding, Content)>) -> Option<(Finding, Content)> {
        let Entry::Occupied(mut queue) = self.waiting.entry(line.clone()) else { return None };
        let popped = pop(queue.get_mut());
        if queue.get().is_empty() {
            queue.remove();
        }
        if let Some((finding, _)) = &popped {
            self.known.remove(finding);
        }
        popped
    }

    fn pass_over(&mut self, kit: Of, count: u64) {
        let beyond = self.beyond.entry(kit).or_default();
        *beyond = beyond.saturating_add(count);
    }
}

fn of(finding: &Finding) -> Of {
    (finding.cluster.clone(), finding.kit.map_or(0, |kit| kit.number))
}
