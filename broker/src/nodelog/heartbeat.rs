//! Whether nodes' lines still come: a call of the broker's own to each declared node, whose line must come back from each of
//! the node's services. A sender that met a line longer than it reads stops for good, and only this shows it.

use std::collections::{BTreeMap, BTreeSet};
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use futures_util::future::{BoxFuture, join_all};
use futures_util::{FutureExt, StreamExt};
use ichor_wire::log::{Content, Kind};
use tokio::sync::Semaphore;

use super::board::Board;
use super::sources::{Origin, Sources};
use crate::audit::Sequencer;
use crate::clock::SharedClock;
use crate::domain::ClusterName;
use crate::entropy;
use crate::readiness::{Check, Readiness};
use crate::store::{NodeService, Store};

/// How long after the calls their lines are waited for.
pub const BOUND: Duration = Duration::from_secs(20);

/// How often what was heard is written down.
const WRITTEN: Duration = Duration::from_secs(30);

/// A cluster's nodes called at once.
const AT_ONCE: usize = 8;

/// Nodes of all clusters called at once: seven clusters whose nodes hang leave places to the others.
const IN_ALL: usize = 8 * AT_ONCE;

/// Calls the node of this cluster at this address, with the text under [`super::PROBE_KEY`]; says in a sentence why it could
/// not.
pub type Caller = Arc<dyn Fn(ClusterName, IpAddr, String) -> BoxFuture<'static, Result<(), String>> + Send + Sync>;

/// What the heartbeat works with.
#[derive(Clone)]
pub struct Heartbeat {
    /// What is heard.
    pub board: Arc<Board>,
    /// Where that is written down.
    pub store: Arc<dyn Store>,
    /// Records findings.
    pub sequencer: Sequencer,
    /// Where silence is reported.
    pub readiness: Arc<Readiness>,
    /// The time.
    pub clock: SharedClock,
    /// Which nodes there are.
    pub sources: Arc<Sources>,
    /// From the calls of one round of a cluster to those of its next, the time that the calls take aside; at least 20 s. `None`: never.
    pub period: Option<Duration>,
}

/// A cluster, whose rounds wait for no other's.
struct Cluster {
    name: ClusterName,
    /// Those that are named.
    nodes: Vec<(IpAddr, Origin)>,
    /// Those whose silence is recorded; one that cannot be called was not heard of, and stays among them.
    told: BTreeSet<(Origin, NodeService)>,
}

/// How a node's service is.
#[derive(Clone, Debug, PartialEq, Eq)]
enum State {
    /// The line of the last call came.
    Heard,
    /// It did not.
    Silent,
    /// The node could not be called.
    Unknown(String),
}

// === impl Heartbeat ===

impl Heartbeat {
    /// Calls and writes down until `stop` ends.
    pub async fn run(self, caller: Caller, stop: impl Future<Output = ()>) {
        let rounds = async {
            let Some(period) = self.period else { return std::future::pending::<()>().await };
            // nodes connect first
            tokio::time::sleep(BOUND.min(period)).await;
            let caller = bounded(caller);
            join_all(self.clusters().into_iter().map(|cluster| self.rounds(cluster, &caller, period))).await;
            // no node is named
            std::future::pending::<()>().await;
        };
        let written = async {
            loop {
                tokio::time::sleep(WRITTEN).await;
                self.write_down().await;
            }
        };
        tokio::select! {
            () = stop => self.write_down().await,
            () = rounds => {}
            () = written => {}
        }
    }

    /// The clusters with named nodes, each once, whatever number of sources it has.
    fn clusters(&self) -> Vec<Cluster> {
        let mut clusters = BTreeMap::<_, Vec<_>>::new();
        for (name, address, origin) in self.sources.nodes() {
            clusters.entry(name).or_default().push((address, origin));
        }
        let clusters = clusters.into_iter();
        clusters.map(|(name, nodes)| Cluster { name: name.clone(), nodes, told: BTreeSet::new() }).collect()
    }

    /// One round of the cluster after the other, without end.
    async fn rounds(&self, mut cluster: Cluster, caller: &Caller, period: Duration) {
        loop {
            self.round(&mut cluster, caller).await;
            tokio::time::sleep(period.saturating_sub(BOUND)).await;
        }
    }

    async fn round(&self, cluster: &mut Cluster, caller: &Caller) {
        let mut calls = Vec::new();
        for (address, origin) in &cluster.nodes {
            match entropy::bytes::<16>() {
                Ok(mark) => calls.push((cluster.name.clone(), *address, origin.clone(), HEXLOWER.encode(&mark))),
                Err(error) => return tracing::error!(%error, "nodes cannot be probed"),
            }
        }
        let marks = calls.iter().map(|(_, _, origin, mark)| (mark.clone(), origin.clone()));
        self.board.expect(cluster.name.as_str(), marks);
        let since = self.clock.now();
        let called = futures_util::stream::iter(calls)
            .map(|(cluster, address, origin, mark)| async move { (origin, caller(cluster, address, mark).await) });
        let called: Vec<_> = called.buffer_unordered(AT_ONCE).collect().await;
        tokio::time::sleep(BOUND).await;
        for (origin, answer) in called {
            for service in [NodeService::Machined, NodeService::Apid] {
                let state = match &answer {
                    Err(why) => State::Unknown(why.clone()),
                    Ok(()) if self.board.answered(&origin, service, since) => State::Heard,
                    Ok(()) => State::Silent,
                };
                self.report(&origin, service, &state);
                let one = (origin.clone(), service);
                match state {
                    State::Heard => {
                        cluster.told.remove(&one);
                    }
                    // what could not be recorded is tried again with the next round
                    State::Silent if !cluster.told.contains(&one) && self.tell(&origin, service).await => {
                        cluster.told.insert(one);
                    }
                    State::Silent | State::Unknown(_) => {}
                }
            }
        }
    }

    fn report(&self, origin: &Origin, service: NodeService, state: &State) {
        let Origin { cluster, node } = origin;
        let labels =
            [("cluster", cluster.to_string()), ("node", node.to_string()), ("service", service.as_str().to_owned())];
        metrics::gauge!("ichor_node_silent", &labels).set(if *state == State::Heard { 0.0 } else { 1.0 });
        let detail = match state {
            State::Heard => None,
            State::Silent => Some(
                "a call's line did not come back: the node sends no log, or has stopped sending this service's; see docs/nodelog.md"
                    .to_owned(),
            ),
            State::Unknown(why) => Some(format!("whether its lines come is not known: it cannot be called: {why}")),
        };
        let name = format!("node log {cluster}/{node} {}", service.as_str());
        self.readiness.report(Check { name, ok: *state == State::Heard, required: false, detail });
    }

    /// Whether it is recorded now.
    async fn tell(&self, origin: &Origin, service: NodeService) -> bool {
        let content = Content {
            cluster: Some(origin.cluster.to_string()),
            node: Some(origin.node.to_string()),
            code: Some("silent".into()),
            message: Some(format!("no line of {} came back for a call of the broker's own", service.as_str())),
            ..Content::of(Kind::NodeAlarm)
        };
        tracing::warn!(
            cluster = &*origin.cluster,
            node = &*origin.node,
            service = service.as_str(),
            "a node is silent"
        );
        let recorded = self.sequencer.note(content, None).await;
        if let Err(error) = &recorded {
            tracing::error!(%error, "a silent node could not be recorded");
        }
        recorded.is_ok()
    }

    async fn write_down(&self) {
        let news = self.board.news();
        if news.is_empty() {
            return;
        }
        if let Err(error) = self.store.see_nodes(&news).await {
            tracing::warn!(%error, "when nodes were last heard of could not be written down");
        }
    }
}

/// The same, with no more than [`IN_ALL`] calls at once; the others wait, whoever came first goes first.
fn bounded(caller: Caller) -> Caller {
    let places = Arc::new(Semaphore::new(IN_ALL));
    Arc::new(move |cluster, address, mark| {
        let (caller, places) = (Arc::clone(&caller), Arc::clone(&places));
        async move {
            let _place = places.acquire_owned().await;
            caller(cluster, address, mark).await
        }
        .boxed()
    })
}

impl std::fmt::Debug for Heartbeat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Heartbeat").field("period", &self.period).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests;
