//! An intake on loopback, the lines that nodes send it, and what it finds in the log.

use super::*;
use crate::break_glass::tests::Glass;
use crate::domain::BreakGlassId;

/// The grant that the tests' calls have.
pub(super) const GRANT: Uuid = Uuid::from_u128(0x0193_533d_9c00_7000_8000_0000_0000_0001);

/// An intake with both listeners on loopback, whose 127.0.0.1 is node `cp-1` of cluster `prod`.
pub(super) struct Bench {
    pub(super) room: Room,
    pub(super) tcp: SocketAddr,
    pub(super) udp: SocketAddr,
    pub(super) board: Arc<Board>,
    pub(super) stop: watch::Sender<bool>,
    pub(super) intake: JoinHandle<()>,
    pub(super) issuers: watch::Sender<Issuers>,
}

impl Bench {
    pub(super) async fn new(faults: impl IntoIterator<Item = Fault>, connections: usize, max_calls: u64) -> Self {
        Self::on(Room::new([]), faults, connections, max_calls).await
    }

    /// On a log that has something already.
    pub(super) async fn on(
        room: Room,
        faults: impl IntoIterator<Item = Fault>,
        connections: usize,
        max_calls: u64,
    ) -> Self {
        let grant = Content {
            person: Some(log_person("ada", "ada@example.com")),
            cluster: Some("prod".into()),
            grant: Some(GRANT.into_bytes().to_vec()),
            roles: Some(vec!["os:reader".into()]),
            not_after: Some(after(3600).as_second()),
            ..Content::of(Kind::Grant)
        };
        room.sequencer.note(grant, None).await.unwrap();
        room.store.add(faults);
        let sources = Arc::new(Sources(vec![Source {
            cluster: ClusterName::new("prod").unwrap(),
            from: AddressRange::parse("127.0.0.1").into_iter().collect(),
            nodes: [(Ipv4Addr::LOCALHOST.into(), "cp-1".into())].into(),
        }]));
        let (issuers, published) = watch::channel(Issuers::default());
        let board = Arc::new(Board::default());
        let store: Arc<dyn Store> = room.store.clone();
        let parts = Parts {
            store,
            sequencer: room.sequencer.clone(),
            clock: room.clock.clone(),
            issuers: published,
            max_calls,
            kept_for: Some(jiff::SignedDuration::from_hours(24)),
        };
        let (intake, sink) = Intake::new(parts, Arc::clone(&board));
        let (stop, stopped) = watch::channel(false);
        let told = |mut stopped: watch::Receiver<bool>| async move {
            let _ = stopped.wait_for(|stopped| *stopped).await;
        };
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let socket = UdpSocket::bind("127.0.0.1:0").await.unwrap();
        let (tcp, udp) = (listener.local_addr().unwrap(), socket.local_addr().unwrap());
        tokio::spawn(listen_tcp(listener, Arc::clone(&sources), sink.clone(), connections, told(stopped.clone())));
        tokio::spawn(listen_udp(socket, sources, sink, told(stopped.clone())));
        let intake = tokio::spawn(intake.run(told(stopped)));
        Self { room, tcp, udp, board, stop, intake, issuers }
    }

    /// Sends this over one connection and closes it.
    pub(super) async fn send(&self, bytes: &[u8]) {
        let mut stream = TcpStream::connect(self.tcp).await.unwrap();
        stream.write_all(bytes).await.unwrap();
        stream.shutdown().await.unwrap();
    }

    /// Every call, by id, once there are as many.
    pub(super) async fn calls(&self, count: usize) -> Vec<Call> {
        loop {
            let found = self.room.store.call_range(0, 100_000).await.unwrap();
            if found.len() >= count {
                assert_eq!(found.len(), count, "{found:#?}");
                return found.into_iter().map(|stored| stored.call).collect();
            }
            tokio::task::yield_now().await;
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    pub(super) async fn classes(&self, count: usize) -> Vec<CallClass> {
        self.calls(count).await.iter().map(|call| call.class).collect()
    }

    /// Ends the intake, all that it took kept.
    pub(super) async fn stopped(self) -> Room {
        self.stop.send(true).unwrap();
        self.intake.await.unwrap();
        self.room
    }

    /// Ends the intake once the log says that so many calls were kept.
    pub(super) async fn stopped_after(self, count: u64) -> Room {
        loop {
            let log = self.room.log().await;
            let kept = log.iter().filter(|entry| entry.content.kind == Kind::NodeLog);
            if kept.filter_map(|entry| entry.content.count).sum::<u64>() >= count {
                return self.stopped().await;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// The entries that a kit is in use, once there are as many.
    pub(super) async fn kits_in_use(&self, count: usize) -> Vec<Content> {
        loop {
            let log = self.room.log().await.into_iter().map(|entry| entry.content);
            let told: Vec<_> = log.filter(|content| content.kind == Kind::KitInUse).collect();
            if told.len() >= count {
                return told;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }
}

/// A log with a grant under break-glass, recorded for a request of ada's that bob approved.
pub(super) struct Used {
    pub(super) room: Room,
    pub(super) request: BreakGlassId,
    pub(super) grant: Uuid,
    /// The index of the grant's entry.
    pub(super) place: u64,
}

impl Used {
    pub(super) async fn of_ada() -> Self {
        let glass = Glass::new().await;
        let request = glass.asked().await;
        glass.approve(request, &glass.bob).await.unwrap();
        let grant = glass.decided(&glass.approved(request).await.unwrap());
        let id = grant.id().0;
        let place = glass.room.sequencer.record(grant).await.unwrap().receipt().index;
        Self { room: glass.room, request, grant: id, place }
    }

    /// What the certificate tells a node.
    pub(super) fn metadata(&self) -> String {
        format!("talos-role=grant:{},os:admin,user:ada", self.grant)
    }
}

/// What the log says of nodes touched under break-glass.
pub(super) async fn first_touches(room: &Room) -> Vec<Content> {
    let log = room.log().await.into_iter().map(|entry| entry.content);
    log.filter(|content| content.kind == Kind::BreakGlassTouched).collect()
}

pub(super) fn json(service: &str, message: &str, time: Timestamp) -> Vec<u8> {
    let line = serde_json::json!({
        "msg": message, "talos-level": "info", "talos-service": service, "talos-time": time.to_string(), "tag": "x",
    });
    format!("{line}\n").into_bytes()
}

pub(super) fn roles(grant: Uuid) -> String {
    format!("talos-role=grant:{grant},os:reader,user:ada@example.com")
}

/// machined's message of a call that ended at noon.
pub(super) fn message(method: &str, metadata: &str) -> String {
    format!(
        "machined 2026/11/22 12:00:00 OK [/machine.MachineService/{method}] 2s unary Success \
         (:authority=localhost;content-type=application/grpc+proxy>proto;{metadata};user-agent=grpc-go)"
    )
}

pub(super) fn call_line(method: &str, metadata: &str) -> Vec<u8> {
    json("machined", &message(method, metadata), noon())
}
