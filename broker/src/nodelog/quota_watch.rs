//! What the quota takes of the calls, told where it is younger than calls are expected to be kept.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use ichor_wire::log::{Content, Kind};
use jiff::SignedDuration;
use tokio::time::Instant;

use crate::clock::SharedClock;
use crate::store::{CallsTaken, Store, StoreError};

/// How often it is looked for.
const LOOK: Duration = Duration::from_secs(60);

/// How often it is told of a cluster at most.
const TOLD: Duration = Duration::from_secs(3600);

/// Looks after the quota.
pub(super) struct QuotaWatch {
    store: Arc<dyn Store>,
    clock: SharedClock,
    /// For how long calls are expected to be kept; `None`: nothing is told.
    kept_for: Option<SignedDuration>,
    looked: Option<Instant>,
    /// By cluster, which configuration names: how many calls were taken when this last looked.
    taken: Option<BTreeMap<String, u64>>,
    /// What is to be told of each cluster, and when that was done last.
    clusters: BTreeMap<String, Untold>,
}

#[derive(Debug, Default)]
struct Untold {
    calls: u64,
    told: Option<Instant>,
}

// === impl QuotaWatch ===

impl QuotaWatch {
    pub(super) fn new(store: Arc<dyn Store>, clock: SharedClock, kept_for: Option<SignedDuration>) -> Self {
        Self { store, clock, kept_for, looked: None, taken: None, clusters: BTreeMap::new() }
    }

    /// Counts what was taken since the last look, where that is a minute before `now`; answers what is to be recorded of it.
    pub(super) async fn look(&mut self, now: Instant) -> Result<Vec<Content>, StoreError> {
        if self.looked.is_some_and(|looked| now.duration_since(looked) < LOOK) {
            return Ok(Vec::new());
        }
        let found = self.store.calls_taken().await?;
        self.looked = Some(now);
        // what was taken before the first look, another broker or an earlier start has told of
        let is_first = self.taken.is_none();
        let before = self.taken.get_or_insert_default();
        for CallsTaken { cluster, calls, youngest } in found {
            let was = before.insert(cluster.clone(), calls).unwrap_or(if is_first { calls } else { 0 });
            let more = calls.saturating_sub(was);
            metrics::counter!("ichor_node_calls_taken_total", "cluster" => cluster.clone()).increment(more);
            let age = self.clock.now().duration_since(youngest);
            if more > 0 && self.kept_for.is_some_and(|kept_for| age < kept_for) {
                let untold = self.clusters.entry(cluster).or_default();
                untold.calls = untold.calls.saturating_add(more);
            }
        }
        let is_due =
            |untold: &Untold| untold.calls > 0 && untold.told.is_none_or(|told| now.duration_since(told) >= TOLD);
        if !self.clusters.values().any(is_due) {
            return Ok(Vec::new());
        }
        let held = self.store.calls_held().await?;
        let mut due = Vec::new();
        for (cluster, untold) in self.clusters.iter_mut().filter(|(_, untold)| is_due(untold)) {
            let loudest = held.iter().filter(|held| held.cluster == *cluster).max_by_key(|held| held.calls);
            let most = loudest.map(|held| format!("; of its nodes {} holds most, {} calls", held.node, held.calls));
            due.push(Content {
                cluster: Some(cluster.clone()),
                code: Some("quota".into()),
                node: loudest.map(|held| held.node.clone()),
                count: Some(std::mem::take(&mut untold.calls)),
                message: Some(format!(
                    "the quota took calls that had come within the last {:#}{}",
                    self.kept_for.unwrap_or_default(),
                    most.unwrap_or_default()
                )),
                ..Content::of(Kind::NodeAlarm)
            });
            untold.told = Some(now);
        }
        Ok(due)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::tests::Room;
    use crate::store::conformance::call;
    use crate::store::{Call, Change};

    /// Keeps so many calls of a node more, and leaves at most `most`.
    async fn keep(room: &Room, node: &str, count: i64, most: u64) {
        let calls: Vec<Call> = (0..count).map(|second| call(node, "ada", second)).collect();
        let change = Change::CallsKept { calls, most };
        room.sequencer.note(Content::of(Kind::NodeLog), Some(change)).await.unwrap();
    }

    async fn told(watch: &mut QuotaWatch, now: Instant) -> Vec<(Option<String>, Option<u64>)> {
        let due = watch.look(now).await.unwrap();
        assert!(due.iter().all(|content| content.code.as_deref() == Some("quota")), "{due:?}");
        due.into_iter().map(|content| (content.node, content.count)).collect()
    }

    #[tokio::test]
    async fn young_calls_that_the_quota_takes_are_told_once_an_hour_with_who_holds_most() {
        let recorder = metrics_exporter_prometheus::PrometheusBuilder::new().build_recorder();
        let _guard = metrics::set_default_local_recorder(&recorder);
        let room = Room::new([]);
        let mut watch = QuotaWatch::new(room.store.clone(), room.clock.clone(), Some(SignedDuration::from_hours(1)));
        let begin = Instant::now();
        keep(&room, "cp-1", 3, 20).await;
        assert_eq!(told(&mut watch, begin).await, []);
        keep(&room, "loud", 50, 20).await;
        assert_eq!(told(&mut watch, begin + LOOK / 2).await, [], "within the minute");
        assert_eq!(told(&mut watch, begin + LOOK).await, [(Some("loud".into()), Some(33))]);
        keep(&room, "loud", 50, 20).await;
        assert_eq!(told(&mut watch, begin + 2 * LOOK).await, [], "within the hour");
        assert_eq!(told(&mut watch, begin + TOLD + LOOK).await, [(Some("loud".into()), Some(50))]);
        assert_eq!(told(&mut watch, begin + TOLD + 2 * LOOK).await, []);
        let page = recorder.handle().render();
        assert!(page.contains("ichor_node_calls_taken_total{cluster=\"prod\"} 83"), "{page}");
    }

    #[tokio::test]
    async fn old_calls_that_the_quota_takes_are_as_expected() {
        let room = Room::new([]);
        let new = |kept_for| QuotaWatch::new(room.store.clone(), room.clock.clone(), kept_for);
        let (mut watch, mut off) = (new(Some(SignedDuration::from_hours(1))), new(None));
        keep(&room, "cp-1", 20, 20).await;
        let begin = Instant::now();
        let now = begin + LOOK;
        assert_eq!((told(&mut watch, begin).await, told(&mut off, begin).await), (vec![], vec![]));
        room.clock.advance(SignedDuration::from_hours(2));
        keep(&room, "cp-1", 0, 10).await;
        assert_eq!(told(&mut watch, now).await, []);
        keep(&room, "cp-1", 20, 10).await;
        let now = now + LOOK;
        assert_eq!((told(&mut watch, now).await.len(), told(&mut off, now).await.len()), (1, 0));
    }
}
