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
async fn rounds_of(room: &Room, rounds: u32, what: impl Fn(u32) -> Result<[bool; 2], String> + Send + Sync + 'static) {
    let (heartbeat, caller) = over(room, what);
    let mut cluster = heartbeat.clusters().pop().unwrap();
    for _ in 0..rounds {
        heartbeat.round(&mut cluster, &caller).await;
    }
}

/// A heartbeat with this log over one node.
fn over(room: &Room, what: impl Fn(u32) -> Result<[bool; 2], String> + Send + Sync + 'static) -> (Heartbeat, Caller) {
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
    assert!(checks.iter().all(|check| !check.ok && check.detail.as_ref().unwrap().contains("it cannot be reached")));
    assert_eq!(findings(&room).await, []);
}

/// A source of so many named nodes, in a network of that number.
fn source(cluster: &str, network: u8, nodes: u8) -> Source {
    let node = |number| (IpAddr::from([10, 0, network, number]), format!("cp-{number}"));
    Source { cluster: ClusterName::new(cluster).unwrap(), from: Vec::new(), nodes: (0..nodes).map(node).collect() }
}

/// The cluster of each call in the time of two rounds. Those of `prod` cannot be reached, all others hang: nothing is heard, so the
/// store has nothing to do.
async fn called(sources: Vec<Source>) -> Vec<String> {
    let room = Room::new([]);
    let (heartbeat, _) = over(&room, |_| Ok([true, true]));
    let heartbeat = Heartbeat { sources: Arc::new(Sources(sources)), ..heartbeat };
    let called = Arc::new(std::sync::Mutex::new(Vec::new()));
    let calls = Arc::clone(&called);
    let caller: Caller = Arc::new(move |cluster, _, _| {
        calls.lock().unwrap().push(cluster.to_string());
        match cluster.as_str() {
            "prod" => std::future::ready(Err::<(), _>("it cannot be reached".to_owned())).boxed(),
            _ => std::future::pending().boxed(),
        }
    });
    heartbeat.run(caller, tokio::time::sleep(Duration::from_secs(130))).await;
    std::mem::take(&mut *called.lock().unwrap())
}

#[tokio::test(start_paused = true)]
async fn a_cluster_whose_nodes_hang_delays_no_others_rounds() {
    // the one that hangs is called first
    let called = called(vec![source("lab", 1, 9), source("prod", 2, 1), source("lab", 3, 9)]).await;
    let of = |name: &str| called.iter().filter(|cluster| *cluster == name).count();
    assert_eq!((of("lab"), of("prod")), (AT_ONCE, 2));
}

#[tokio::test(start_paused = true)]
async fn so_many_nodes_of_all_clusters_are_called_at_once_and_no_more() {
    let sources = (0..10).map(|number| source(&format!("lab-{number}"), number, 9)).collect();
    assert_eq!(called(sources).await.len(), IN_ALL);
}

#[tokio::test(start_paused = true)]
async fn without_named_nodes_nobody_is_called_and_it_goes_on_until_told() {
    let begun = tokio::time::Instant::now();
    assert_eq!(called(vec![source("prod", 1, 0)]).await, Vec::<String>::new());
    assert!(begun.elapsed() >= Duration::from_secs(130));
}
