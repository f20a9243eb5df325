//! Findings on their way into the audit: each kind once a minute, and no more kinds than a bound, so that nobody who can make
//! nodes print lines can fill the log.

use std::collections::BTreeMap;
use std::time::Duration;

use ichor_wire::log::{Content, Kind, Kit};
use tokio::time::Instant;
use uuid::Uuid;

/// How long findings of one kind are counted before they are told again.
const WINDOW: Duration = Duration::from_secs(60);

/// So many kinds are told apart in a window; the rest are counted together. 33 entries a minute of 300 bytes, and as many at
/// its end, are 30 MB a day at the worst.
const KINDS: usize = 32;

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
}

// === impl Alarms ===

impl Alarms {
    /// Counts `count` findings of a kind; answers the entry to record now, where this window has none of the kind yet.
    pub(super) fn note(&mut self, finding: &Finding, count: u64, why: Option<&str>) -> Option<Content> {
        self.since.get_or_insert_with(Instant::now);
        if let Some(more) = self.told.get_mut(finding) {
            *more = more.saturating_add(count);
            return None;
        }
        if self.told.len() >= KINDS {
            self.others = self.others.saturating_add(count);
            return None;
        }
        self.told.insert(finding.clone(), 0);
        Some(content(finding, count, why))
    }

    /// Where the window is over, the entries that count what came after the first of each kind; then a new window begins.
    pub(super) fn over(&mut self) -> Vec<Content> {
        if self.since.is_none_or(|since| since.elapsed() < WINDOW) {
            return Vec::new();
        }
        self.since = None;
        let more = std::mem::take(&mut self.told).into_iter().filter(|(_, more)| *more > 0);
        let mut over: Vec<_> =
            more.map(|(finding, more)| content(&finding, more, Some("more of the same within a minute"))).collect();
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
        over
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

    fn finding(number: usize) -> Finding {
        let node = format!("node-{number}");
        Finding { cluster: "prod".into(), code: "suspect", node, method: "/a.B/C".into(), kit: None }
    }

    #[tokio::test(start_paused = true)]
    async fn each_kind_is_told_at_once_and_then_counted() {
        let mut alarms = Alarms::default();
        let first = alarms.note(&finding(1), 2, Some("why")).unwrap();
        assert_eq!(
            (first.count, first.message.as_deref(), first.node.as_deref()),
            (Some(2), Some("why"), Some("node-1"))
        );
        assert_eq!((first.code.as_deref(), first.method.as_deref()), (Some("suspect"), Some("/a.B/C")));
        assert_eq!(alarms.note(&finding(1), 3, None), None);
        assert_eq!(alarms.over(), []);
        tokio::time::advance(WINDOW).await;
        let over = alarms.over();
        assert_eq!(over.iter().map(|content| content.count).collect::<Vec<_>>(), [Some(3)]);
        assert_eq!(alarms.over(), []);
        assert!(alarms.note(&finding(1), 1, None).is_some(), "a new window");
    }

    #[tokio::test(start_paused = true)]
    async fn however_many_kinds_there_are_the_entries_are_bounded() {
        let mut alarms = Alarms::default();
        let told = (0..5_000).filter(|number| alarms.note(&finding(*number), 2, None).is_some()).count();
        tokio::time::advance(WINDOW).await;
        let over = alarms.over();
        assert_eq!((told, over.len()), (KINDS, 1));
        assert_eq!(over[0].count, Some(2 * (5_000 - KINDS as u64)), "none is lost");
    }
}
