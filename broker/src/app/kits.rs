//! Says in readiness and metrics how the break-glass kits stand, one that nobody drilled for 90 days, one that is in use; and records once
//! a day that a drill is overdue, which the notification sinks tell of.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use tokio::sync::watch;

use super::serve::told;
use crate::audit::Sequencer;
use crate::clock::SharedClock;
use crate::domain::{ClusterName, Clusters};
use crate::kit::{self, Standing, State};
use crate::readiness::{Check, Readiness};
use crate::store::Store;

/// How often the log is read for kits: a use is recorded at once by the node-log intake, this only repeats it.
const EVERY: Duration = Duration::from_secs(60);

/// The name of the check.
const NAME: &str = "kits";

/// Looks until told to stop.
pub(super) async fn watch_kits(
    store: Arc<dyn Store>,
    sequencer: Sequencer,
    clock: SharedClock,
    clusters: watch::Receiver<Clusters>,
    readiness: Arc<Readiness>,
    stopped: watch::Receiver<bool>,
) {
    let mut stop = std::pin::pin!(told(stopped));
    let mut ticks = tokio::time::interval(EVERY);
    ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    let mut known = None;
    loop {
        tokio::select! {
            () = &mut stop => return,
            _ = ticks.tick() => {}
        }
        let check = match kit::read_with_size(&*store).await {
            Ok((kits, size)) => {
                let declared = clusters.borrow().clone();
                let held = |kit: Standing| {
                    let cluster = ClusterName::new(&kit.cluster).ok().and_then(|name| declared.get(&name).cloned());
                    kit.held_against(cluster.as_deref())
                };
                let kits: Vec<Standing> = kits.into_iter().map(held).collect();
                gauge(&kits, clock.now());
                if let Err(error) = kit::remind(&kits, size, &sequencer, clock.now()).await {
                    tracing::warn!(%error, "that a kit's drill is overdue could not be recorded yet");
                }
                check(&kits, clock.now())
            }
            Err(error) => {
                Some(Check { name: NAME.into(), ok: false, required: false, detail: Some(error.to_string()) })
            }
        };
        if check != known {
            match &check {
                Some(check) => {
                    if let (false, Some(detail)) = (check.ok, &check.detail) {
                        tracing::warn!(detail, "a break-glass kit wants a look");
                    }
                    readiness.report(check.clone());
                }
                None => readiness.forget(NAME),
            }
            known = check;
        }
    }
}

/// The line of readiness; none where there is no kit.
fn check(kits: &[Standing], now: jiff::Timestamp) -> Option<Check> {
    if kits.is_empty() {
        return None;
    }
    let complaints: Vec<String> = kits.iter().filter_map(|kit| kit.complaint(now)).collect();
    let detail = (!complaints.is_empty()).then(|| complaints.join("; "));
    // the broker serves all the same
    Some(Check { name: NAME.into(), ok: complaints.is_empty(), required: false, detail })
}

fn gauge(kits: &[Standing], now: jiff::Timestamp) {
    let mut counts: BTreeMap<(&str, State), u32> = BTreeMap::new();
    for kit in kits {
        for state in State::ALL {
            counts.entry((&kit.cluster, state)).or_default();
        }
        *counts.entry((&kit.cluster, kit.state(now))).or_default() += 1;
    }
    for ((cluster, state), count) in counts {
        let labels = [("cluster", cluster.to_owned()), ("state", state.as_str().to_owned())];
        metrics::gauge!("ichor_kits", &labels).set(f64::from(count));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::kit::ledger::tests::{made, opened, states};
    use crate::store::conformance::noon;

    #[tokio::test]
    async fn readiness_tells_of_a_kit_that_was_opened_as_an_exercise() {
        assert_eq!(check(&[], noon()), None, "nothing is said where there is no kit");
        let fresh = check(&states(vec![made()]).await, noon()).unwrap();
        assert!(fresh.ok && fresh.detail.is_none(), "{fresh:?}");
        let used = check(&states(vec![made(), opened(1, "drill")]).await, noon()).unwrap();
        assert!(!used.ok && !used.required, "the broker serves all the same: {used:?}");
        assert!(used.detail.unwrap().contains("`ichor-broker kit rotate 7`"));
    }
}
