//! Findings on their way into the audit: each kind once a minute, and no more kinds than a bound, so that nobody who can make
//! nodes print lines can fill the log. That a kit is in use has a bound of its own, and what is beyond it waits for the next
//! minute: nobody hides a kit behind other findings.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::time::Duration;

use ichor_wire::log::{Content, Kind, Kit};
use jiff::Timestamp;
use tokio::time::Instant;
use uuid::Uuid;

/// How long findings of one kind are counted before they are told again.
const WINDOW: Duration = Duration::from_secs(60);

/// So many kinds are told apart in a window; the rest are counted together. 33 entries a minute of 300 bytes, and as many at
/// its end, are 30 MB a day at the worst.
const KINDS: usize = 32;

/// So many uses of kits are told in a window; the rest wait for the next ones. Those are 30 MB a day more at the worst.
const KITS: usize = 64;

/// So many uses of kits wait at most; only a forger prints more, and those are counted with the rest.
const WAITING: usize = 4_096;

/// What a finding is about.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Finding {
    pub(super) cluster: String,
    /// The class, or `silent`.
    pub(super) code: &'static str,
    pub(super) node: String,
    pub(super) method: String,
    /// The kit whose certificate it was, and its grant, where nobody reported that.
    pub(super) kit: Option<(u16, Uuid)>,
}

/// Counts findings and says which are to be recorded now.
#[derive(Debug, Default)]
pub(super) struct Alarms {
    since: Option<Instant>,
    /// By what was told at the window's beginning; how many more came since.
    told: BTreeMap<Finding, u64>,
    /// Those beyond the bound.
    others: u64,
    kits: Kits,
}

/// The uses of kits.
#[derive(Debug, Default)]
struct Kits {
    /// By what was told in this window; how many more calls came since.
    told: BTreeMap<Finding, u64>,
    /// What is to be told in the next ones, in the order in which it came.
    waiting: VecDeque<(Finding, Content)>,
    /// What waits.
    known: BTreeSet<Finding>,
    /// What could not be recorded.
    missed: Vec<Content>,
}

// === impl Alarms ===

impl Alarms {
    /// Counts `count` findings of a kind, of which the first began at `began`; answers the entry to record now, where this window has
    /// none of the kind yet.
    pub(super) fn note(
        &mut self,
        finding: &Finding,
        count: u64,
        why: Option<&str>,
        began: Timestamp,
    ) -> Option<Content> {
        self.since.get_or_insert_with(Instant::now);
        let (told, most) = match finding.kit {
            Some(_) => (&mut self.kits.told, KITS),
            None => (&mut self.told, KINDS),
        };
        if let Some(more) = told.get_mut(finding) {
            *more = more.saturating_add(count);
            return None;
        }
        // the openings of a static kit are told apart by their time
        let opened = finding.kit.map(|_| began.as_second());
        let content = Content { opened, ..content(finding, count, why) };
        if told.len() >= most {
            let waits = finding.kit.is_some() && self.kits.wait(finding, content);
            self.others = self.others.saturating_add(if waits { 0 } else { count });
            return None;
        }
        told.insert(finding.clone(), 0);
        Some(content)
    }

    /// Takes back an entry that could not be recorded. One that says that a kit is in use is answered by the next [`Self::over`].
    pub(super) fn again(&mut self, content: Content) {
        if content.kind == Kind::KitInUse && self.kits.missed.len() < WAITING {
            self.kits.missed.push(content);
        }
    }

    /// Where the window is over, the entries that count what came after the first of each kind, and the uses of kits that waited;
    /// then a new window begins.
    pub(super) fn over(&mut self) -> Vec<Content> {
        let mut over = std::mem::take(&mut self.kits.missed);
        if self.since.is_none_or(|since| since.elapsed() < WINDOW) {
            return over;
        }
        self.since = None;
        let told = std::mem::take(&mut self.told).into_iter().chain(std::mem::take(&mut self.kits.told));
        let more = told.filter(|(_, more)| *more > 0);
        over.extend(more.map(|(finding, more)| content(&finding, more, Some("more of the same within a minute"))));
        let others = std::mem::take(&mut self.others);
        if others > 0 {
            over.push(Content {
                code: Some("others".into()),
                count: Some(others),
                message: Some(
                    "of more kinds than are told apart in a minute; `ichor audit unexplained` shows the calls".into(),
                ),
                ..Content::of(Kind::NodeAlarm)
            });
        }
        let waited = self.kits.of_new_window();
        if !waited.is_empty() {
            self.since = Some(Instant::now());
        }
        over.extend(waited);
        over
    }
}

// === impl Kits ===

impl Kits {
    /// Has a use told in a later window; whether there is a place for it. More calls of one that waits are not counted.
    fn wait(&mut self, finding: &Finding, content: Content) -> bool {
        if self.known.contains(finding) {
            return true;
        }
        if self.waiting.len() >= WAITING {
            return false;
        }
        self.known.insert(finding.clone());
        self.waiting.push_back((finding.clone(), content));
        true
    }

    /// The entries of those that a new window tells.
    fn of_new_window(&mut self) -> Vec<Content> {
        let mut next = Vec::new();
        while next.len() < KITS {
            let Some((finding, content)) = self.waiting.pop_front() else { break };
            self.known.remove(&finding);
            self.told.insert(finding, 0);
            next.push(content);
        }
        next
    }
}

fn content(finding: &Finding, count: u64, why: Option<&str>) -> Content {
    Content {
        cluster: Some(finding.cluster.clone()),
        code: Some(finding.code.into()),
        node: Some(finding.node.clone()),
        method: Some(finding.method.clone()).filter(|method| !method.is_empty()),
        count: Some(count),
        message: why.map(Into::into),
        kit: finding.kit.map(|(number, _)| Kit { number, ..Kit::default() }),
        grant: finding.kit.map(|(_, grant)| grant.into_bytes().to_vec()),
        ..Content::of(if finding.kit.is_some() { Kind::KitInUse } else { Kind::NodeAlarm })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::conformance::noon;

    fn finding(number: usize) -> Finding {
        let node = format!("node-{number}");
        Finding { cluster: "prod".into(), code: "suspect", node, method: "/a.B/C".into(), kit: None }
    }

    #[tokio::test(start_paused = true)]
    async fn each_kind_is_told_at_once_and_then_counted() {
        let mut alarms = Alarms::default();
        let first = alarms.note(&finding(1), 2, Some("why"), noon()).unwrap();
        assert_eq!(
            (first.count, first.message.as_deref(), first.node.as_deref()),
            (Some(2), Some("why"), Some("node-1"))
        );
        assert_eq!((first.code.as_deref(), first.method.as_deref()), (Some("suspect"), Some("/a.B/C")));
        assert_eq!(alarms.note(&finding(1), 3, None, noon()), None);
        assert_eq!(alarms.over(), []);
        tokio::time::advance(WINDOW).await;
        let over = alarms.over();
        assert_eq!(over.iter().map(|content| content.count).collect::<Vec<_>>(), [Some(3)]);
        assert_eq!(alarms.over(), []);
        assert!(alarms.note(&finding(1), 1, None, noon()).is_some(), "a new window");
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_kinds_there_are_the_entries_are_bounded() {
        let mut alarms = Alarms::default();
        let told = (0..5_000).filter(|number| alarms.note(&finding(*number), 2, None, noon()).is_some()).count();
        tokio::time::advance(WINDOW).await;
        let over = alarms.over();
        assert_eq!((told, over.len()), (KINDS, 1));
        assert_eq!(over[0].count, Some(2 * (5_000 - KINDS as u64)), "none is lost");
    }

    fn kit(number: usize) -> Finding {
        let grant = Uuid::from_u128(number as u128);
        Finding { code: "kit-in-use", method: String::new(), kit: Some((7, grant)), ..finding(1) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_kit_is_told_though_the_window_is_full_of_other_findings() {
        let mut alarms = Alarms::default();
        for number in 0..5_000 {
            alarms.note(&finding(number), 1, None, noon());
        }
        let told = alarms.note(&kit(1), 1, Some("why"), noon()).expect("its bound is its own");
        assert_eq!((told.kind, told.opened), (Kind::KitInUse, Some(noon().as_second())));
        assert_eq!(alarms.note(&kit(1), 1, None, noon()), None, "once");
    }

    #[tokio::test(start_paused = true)]
    async fn a_kit_beyond_the_bound_is_told_in_a_later_window() {
        let mut alarms = Alarms::default();
        let told = |contents: &[Content]| -> Vec<Vec<u8>> {
            contents
                .iter()
                .filter(|content| content.opened.is_some())
                .filter_map(|content| content.grant.clone())
                .collect()
        };
        let most = 3 * KITS;
        let first: Vec<_> = (0..most).filter_map(|number| alarms.note(&kit(number), 2, None, noon())).collect();
        assert_eq!(told(&first).len(), KITS);
        assert_eq!(alarms.note(&kit(most - 1), 2, None, noon()), None, "it waits already");
        let mut all = told(&first);
        for _ in 0..2 {
            tokio::time::advance(WINDOW).await;
            let over = alarms.over();
            assert_eq!(told(&over).len(), KITS, "each window tells its part, and none of them twice");
            all.extend(told(&over));
        }
        all.sort();
        all.dedup();
        assert_eq!(all.len(), most);
        tokio::time::advance(WINDOW).await;
        assert_eq!(alarms.over(), []);
    }

    #[tokio::test(start_paused = true)]
    async fn uses_of_kits_that_wait_are_bounded() {
        let mut alarms = Alarms::default();
        let most = KITS + WAITING + 100;
        for number in 0..most {
            alarms.note(&kit(number), 1, None, noon());
        }
        tokio::time::advance(WINDOW).await;
        let over = alarms.over();
        let others: Vec<_> = over.iter().filter(|content| content.kind == Kind::NodeAlarm).collect();
        assert_eq!(others.iter().map(|content| content.count).collect::<Vec<_>>(), [Some(100)], "none is lost");
    }

    #[test]
    fn that_a_kit_is_in_use_is_told_again_where_it_could_not_be_recorded() {
        let mut alarms = Alarms::default();
        let of_kit = content(&kit(1), 1, None);
        alarms.again(of_kit.clone());
        alarms.again(content(&finding(1), 1, None));
        assert_eq!(alarms.over(), [of_kit]);
        assert_eq!(alarms.over(), [], "once");
    }
}
