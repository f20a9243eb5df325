//! Whether nodes' lines still come: a call of the broker's own to each declared node, whose line must come back from each of
//! the node's services. A sender that met a line longer than it reads stops for good, and only this shows it.

use std::collections::BTreeSet;
use std::net::IpAddr;
use std::sync::Arc;
use std::time::Duration;

use data_encoding::HEXLOWER;
use futures_util::StreamExt;
use futures_util::future::BoxFuture;
use ichor_wire::log::{Content, Kind};

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

/// Nodes called at once.
const AT_ONCE: usize = 8;

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
    /// From the calls of one round to those of the next, the time that the calls take aside; at least 20 s. `None`: never.
    pub period: Option<Duration>,
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
            let Some(period) = self.period else { return std::future::pending().await };
            let mut told = BTreeSet::new();
            // nodes connect first
            tokio::time::sleep(BOUND.min(period)).await;
            loop {
                self.round(&caller, &mut told).await;
                tokio::time::sleep(period.saturating_sub(BOUND)).await;
            }
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

    /// `told` are those whose silence is recorded; one that cannot be called was not heard of, and stays among them.
    async fn round(&self, caller: &Caller, told: &mut BTreeSet<(Origin, NodeService)>) {
        let mut calls = Vec::new();
        for (cluster, address, origin) in self.sources.nodes() {
            match entropy::bytes::<16>() {
                Ok(mark) => calls.push((cluster.clone(), address, origin, HEXLOWER.encode(&mark))),
                Err(error) => return tracing::error!(%error, "nodes cannot be probed"),
            }
        }
        self.board.expect(calls.iter().map(|(_, _, origin, mark)| (mark.clone(), origin.clone())));
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
                        told.remove(&one);
                    }
                    // what could not be recorded is tried again with the next round
                    State::Silent if !told.contains(&one) && self.tell(&origin, service).await => {
                        told.insert(one);
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

impl std::fmt::Debug for Heartbeat {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Heartbeat").field("period", &self.period).finish_non_exhaustive()
    }
}

#[cfg(test)]
mod tests {
    use futures_util::FutureExt;

    use super::*;
    use crate::audit::tests::Room;
    use crate::clock::Clock;
    use crate::nodelog::sources::Source;
    use crate::store::faulty::Fault;

    /// A heartbeat over one node, and what its calls do: whether each service's line comes back, or why it cannot be called.
    async fn beat(
        rounds: u32,
        what: impl Fn(u32) -> Result<[bool; 2], String> + Send + Sync + 'static,
    ) -> (Room, Vec<Check>) {
        let room = Room::new([]);
        let (heartbeat, caller) = over(&room, what);
        let readiness = Arc::clone(&heartbeat.readiness);
        heartbeat.run(caller, tokio::time::sleep(Duration::from_secs(u64::from(rounds) * 60 + 10))).await;
        let checks = readiness.checks().await.into_iter().filter(|check| check.name.starts_with("node log")).collect();
        (room, checks)
    }

    /// So many rounds, each to its end, with this log.
    async fn rounds_of(
        room: &Room,
        rounds: u32,
        what: impl Fn(u32) -> Result<[bool; 2], String> + Send + Sync + 'static,
    ) {
        let (heartbeat, caller) = over(room, what);
        let mut told = BTreeSet::new();
        for _ in 0..rounds {
            heartbeat.round(&caller, &mut told).await;
        }
    }

    /// A heartbeat with this log over one node.
    fn over(
        room: &Room,
        what: impl Fn(u32) -> Result<[bool; 2], String> + Send + Sync + 'static,
    ) -> (Heartbeat, Caller) {
        let node: IpAddr = "10.0.0.5".parse().unwrap();
        let source = Source {
            cluster: ClusterName::new("prod").unwrap(),
            from: Vec::new(),
            nodes: [(node, "cp-1".to_owned())].into(),
        };
        let (board, store): (_, Arc<dyn Store>) = (Arc::new(Board::default()), room.store.clone());
        let heartbeat = Heartbeat {
            board: Arc::clone(&board),
            store: Arc::clone(&store),
            sequencer: room.sequencer.clone(),
            readiness: Arc::new(Readiness::new(store)),
            clock: room.clock.clone(),
            sources: Arc::new(Sources(vec![source])),
            period: Some(Duration::from_secs(60)),
        };
        let origin = heartbeat.sources.origin(node).unwrap();
        let round = Arc::new(std::sync::atomic::AtomicU32::new(0));
        let clock = room.clock.clone();
        let caller: Caller = Arc::new(move |cluster, at, mark| {
            assert_eq!((cluster.as_str(), at), ("prod", node));
            clock.advance(jiff::SignedDuration::from_secs(1));
            let answer = what(round.fetch_add(1, std::sync::atomic::Ordering::SeqCst));
            for (service, comes) in
                [NodeService::Machined, NodeService::Apid].into_iter().zip(answer.clone().unwrap_or_default())
            {
                if comes {
                    board.heard(&origin, service, clock.now());
                    assert!(!board.came_back(&origin, service, "another mark", clock.now()));
                    assert!(board.came_back(&origin, service, &mark, clock.now()));
                }
            }
            std::future::ready(answer.map(drop)).boxed()
        });
        (heartbeat, caller)
    }

    async fn findings(room: &Room) -> Vec<(Option<String>, Option<String>)> {
        // behind whatever is still on its way into the log
        room.sequencer.note(Content::of(Kind::Reload), None).await.unwrap();
        let found = room.log().await.into_iter().filter(|entry| entry.content.kind == Kind::NodeAlarm);
        found.map(|entry| (entry.content.node, entry.content.code)).collect()
    }

    #[tokio::test(start_paused = true)]
    async fn lines_that_come_back_are_well_and_written_down() {
        let (room, checks) = beat(2, |_| Ok([true, true])).await;
        assert_eq!(
            checks.iter().map(|check| (check.name.as_str(), check.ok)).collect::<Vec<_>>(),
            [("node log prod/cp-1 apid", true), ("node log prod/cp-1 machined", true),]
        );
        assert_eq!(findings(&room).await, []);
        let seen = room.store.nodes_seen().await.unwrap();
        assert_eq!(seen.len(), 2);
        assert!(seen.iter().all(|seen| seen.node == "cp-1" && seen.probe == Some(seen.line)));
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_service_is_reported_and_recorded_once() {
        let (room, checks) = beat(4, |round| Ok([round == 0, true])).await;
        assert!(checks[0].ok, "apid's lines come");
        assert!(!checks[1].ok && checks[1].detail.as_ref().unwrap().contains("did not come back"), "{checks:?}");
        assert_eq!(findings(&room).await, [(Some("cp-1".into()), Some("silent".into()))]);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_that_goes_on_behind_a_failed_call_is_recorded_once() {
        let unreachable = || Err("it cannot be reached".into());
        let room = Room::new([]);
        rounds_of(&room, 5, move |round| if round == 2 { unreachable() } else { Ok([false, true]) }).await;
        assert_eq!(findings(&room).await, [(Some("cp-1".into()), Some("silent".into()))]);
        // and anew once it was heard in between
        let room = Room::new([]);
        rounds_of(&room, 6, |round| Ok([round == 2, true])).await;
        assert_eq!(findings(&room).await.len(), 2);
    }

    #[tokio::test(start_paused = true)]
    async fn silence_that_could_not_be_recorded_is_recorded_with_the_next_round() {
        // nothing is heard of either service, so nothing else is written
        let room = Room::new([Fault::Before]);
        rounds_of(&room, 3, |_| Ok([false, false])).await;
        assert_eq!(findings(&room).await.len(), 2, "one of each service");
    }

    #[tokio::test(start_paused = true)]
    async fn a_node_that_cannot_be_called_is_not_said_to_be_silent() {
        let (room, checks) = beat(2, |_| Err("it cannot be reached".into())).await;
        assert!(
            checks.iter().all(|check| !check.ok && check.detail.as_ref().unwrap().contains("it cannot be reached"))
        );
        assert_eq!(findings(&room).await, []);
    }
}
