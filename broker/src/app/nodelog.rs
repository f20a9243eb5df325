//! Nodes' logs: listeners, intake and heartbeat as configured.

use std::collections::BTreeMap;
use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use futures_util::FutureExt;
use jiff::{SignedDuration, Timestamp};
use tokio::sync::{Mutex, watch};

use super::background::{Tasks, named};
use super::serve::told;
use super::{Prober, StartError, listen};
use crate::audit::Sequencer;
use crate::clock::SharedClock;
use crate::domain::{ClusterName, Clusters};
use crate::issuer::TalosApi;
use crate::issuer::talos_api::Credential;
use crate::mint::Issuers;
use crate::nodelog::heartbeat::{Caller, Heartbeat};
use crate::nodelog::{self, Board, Intake, PROBE_KEY};
use crate::policy::{PROBE_LIFE, PolicySet};
use crate::readiness::Readiness;
use crate::store::Store;

/// A probe's certificate is used for so long.
const USED: SignedDuration = SignedDuration::from_mins(4);

/// Where no certificate came about, no other is asked for so long: the cluster's other nodes of a round need not wait for the same.
const OUT: SignedDuration = SignedDuration::from_secs(15);

/// Listeners, bound and not yet served.
pub(super) struct Bound {
    tcp: Option<std::net::TcpListener>,
    udp: Option<std::net::UdpSocket>,
}

/// What serving them takes.
pub(super) struct Parts {
    pub(super) store: Arc<dyn Store>,
    pub(super) sequencer: Sequencer,
    pub(super) clock: SharedClock,
    pub(super) readiness: Arc<Readiness>,
    pub(super) prober: Arc<Prober>,
    pub(super) policies: watch::Receiver<Arc<PolicySet>>,
    pub(super) clusters: watch::Receiver<Clusters>,
    pub(super) issuers: watch::Receiver<Issuers>,
}

/// Calls nodes with certificates of the broker's own, one a cluster while it lasts.
struct Calls {
    prober: Arc<Prober>,
    policies: watch::Receiver<Arc<PolicySet>>,
    clusters: watch::Receiver<Clusters>,
    issuers: watch::Receiver<Issuers>,
    clock: SharedClock,
    /// Held for no longer than it takes to find a cluster's.
    made: Mutex<BTreeMap<ClusterName, Arc<Mutex<Option<Made>>>>>,
}

/// What a cluster's nodes are called with, or why there is nothing, until when.
type Made = (Result<Arc<TalosApi>, String>, Timestamp);

// === impl Bound ===

impl Bound {
    /// Binds what is configured.
    pub(super) fn bind(settings: &nodelog::Settings) -> Result<Self, StartError> {
        let tcp = settings.tcp.map(listen::bind).transpose()?;
        let udp = settings.udp.map(bind_udp).transpose()?;
        Ok(Self { tcp, udp })
    }

    /// Where the TCP listener is, if there is one.
    pub(super) fn tcp_address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Where the UDP listener is, if there is one.
    pub(super) fn udp_address(&self) -> Option<SocketAddr> {
        self.udp.as_ref().and_then(|socket| socket.local_addr().ok())
    }

    /// Serves them until told to stop. Without listeners there is nothing to do.
    pub(super) fn serve(
        self,
        settings: &nodelog::Settings,
        parts: Parts,
        stopped: &watch::Receiver<bool>,
        tasks: &mut Tasks,
    ) -> Result<(), StartError> {
        if self.tcp.is_none() && self.udp.is_none() {
            return Ok(());
        }
        let at = self.tcp_address().or_else(|| self.udp_address()).map(|at| at.to_string()).unwrap_or_default();
        let refused = |error: std::io::Error| StartError::Listen { at: at.clone(), why: error.to_string() };
        let (board, sources) = (Arc::new(Board::default()), Arc::new(settings.sources.clone()));
        let intake = nodelog::Parts {
            store: Arc::clone(&parts.store),
            sequencer: parts.sequencer.clone(),
            clock: Arc::clone(&parts.clock),
            issuers: parts.issuers.clone(),
            max_calls: settings.max_calls,
            kept_for: settings.kept_for,
        };
        let (intake, sink) = Intake::new(intake, Arc::clone(&board));
        tasks.spawn(named("the intake of node logs", intake.run(told(stopped.clone()))));
        if let Some(listener) = self.tcp {
            let listener = tokio::net::TcpListener::from_std(listener).map_err(refused)?;
            let stop = told(stopped.clone());
            let listening =
                nodelog::listen_tcp(listener, Arc::clone(&sources), sink.clone(), settings.connections, stop);
            tasks.spawn(named("the listener for node logs over TCP", listening));
        }
        if let Some(socket) = self.udp {
            let socket = tokio::net::UdpSocket::from_std(socket).map_err(refused)?;
            let listening = nodelog::listen_udp(socket, Arc::clone(&sources), sink, told(stopped.clone()));
            tasks.spawn(named("the listener for node logs over UDP", listening));
        }
        let heartbeat = Heartbeat {
            board,
            store: parts.store,
            sequencer: parts.sequencer,
            readiness: parts.readiness,
            clock: Arc::clone(&parts.clock),
            sources,
            period: settings.heartbeat,
        };
        let calls = Arc::new(Calls {
            prober: parts.prober,
            policies: parts.policies,
            clusters: parts.clusters,
            issuers: parts.issuers,
            clock: parts.clock,
            made: Mutex::default(),
        });
        let caller: Caller = Arc::new(move |cluster, address, mark| {
            let calls = Arc::clone(&calls);
            async move { calls.call(&cluster, address, &mark).await }.boxed()
        });
        tasks.spawn(named("the heartbeat of node logs", heartbeat.run(caller, told(stopped.clone()))));
        Ok(())
    }
}

fn bind_udp(at: SocketAddr) -> Result<std::net::UdpSocket, StartError> {
    let refused = |error: std::io::Error| StartError::Listen { at: at.to_string(), why: error.to_string() };
    let socket = std::net::UdpSocket::bind(at).map_err(refused)?;
    socket.set_nonblocking(true).map_err(refused)?;
    Ok(socket)
}

// === impl Calls ===

impl Calls {
    async fn call(&self, cluster: &ClusterName, address: IpAddr, mark: &str) -> Result<(), String> {
        let api = self.api(cluster).await?;
        let node = match address {
            IpAddr::V4(address) => address.to_string(),
            IpAddr::V6(address) => format!("[{address}]"),
        };
        api.version_marked(&node, Some((PROBE_KEY, mark))).await.map(drop).map_err(|error| error.to_string())
    }

    /// What the cluster's nodes are called with now.
    async fn api(&self, name: &ClusterName) -> Result<Arc<TalosApi>, String> {
        let of_cluster = Arc::clone(self.made.lock().await.entry(name.clone()).or_default());
        // held while one is made: a cluster's nodes need one together, and other clusters' are made meanwhile
        let mut made = of_cluster.lock().await;
        let now = self.clock.now();
        // a clock that went back makes nothing last longer
        let lasts = |(api, until): &&Made| {
            let left = until.duration_since(now);
            left > SignedDuration::ZERO && left <= if api.is_ok() { USED } else { OUT }
        };
        if let Some((api, until)) = made.as_ref().filter(lasts) {
            tracing::trace!(cluster = %name, %until, "what the last probe was made with is used again");
            return api.clone();
        }
        let answer = self.make(name).await;
        let kept = if answer.is_ok() { USED.min(PROBE_LIFE) } else { OUT };
        // a certificate's time runs from before it was asked for, an outage's from when it was known
        let from = if answer.is_ok() { now } else { self.clock.now() };
        *made = Some((answer.clone(), from.saturating_add(kept).unwrap_or(from)));
        answer
    }

    async fn make(&self, name: &ClusterName) -> Result<Arc<TalosApi>, String> {
        let (policies, clusters) = (Arc::clone(&self.policies.borrow()), self.clusters.borrow().clone());
        let cluster = clusters.get(name).ok_or_else(|| format!("there is no cluster `{name}`"))?;
        let issuer = self.issuers.borrow().get(name).cloned();
        let issuer = issuer.ok_or_else(|| format!("the CA of cluster `{name}` is not in custody"))?;
        // a task of its own: whoever stops waiting must not take a recorded grant's outcome along
        let (prober, of) = (Arc::clone(&self.prober), Arc::clone(cluster));
        let made_now = tokio::spawn(async move { prober.own(&policies, &of, &*issuer).await });
        let own = made_now.await.map_err(|_| "the task that makes the broker's own certificate ended".to_owned())?;
        let credential = own.map_err(|error| error.to_string())?.credential;
        let api = TalosApi::new(Arc::clone(cluster), Credential::Standing(credential), Arc::clone(&self.clock));
        api.map(Arc::new).map_err(|error| error.to_string())
    }
}

#[cfg(test)]
mod tests {
    use ichor_wire::log::Kind;
    use tokio::sync::Semaphore;

    use super::*;
    use crate::app::issuers;
    use crate::audit::tests::Room;
    use crate::custody::{Custody, IdentitySource, Keep, KnownCas, Vault, ca};
    use crate::domain::Cluster;
    use crate::mint::Press;
    use crate::policy::{Limits, Source};
    use crate::store::conformance::noon;
    use crate::store::faulty::Fault;

    /// Calls to the nodes of `prod`, whose CA is in custody in the folder.
    async fn calls(room: &Room, folder: &std::path::Path) -> Calls {
        let name = prod();
        Vault::create(folder, Keep::DangerBeside, &[]).unwrap();
        let vault = Vault::open(folder, IdentitySource::DangerBeside).unwrap();
        vault.sealer().seal_ca(&name, &ca::create(&name, noon(), 5).unwrap(), false).unwrap();
        let custody = Arc::new(Custody::new(vault, BTreeMap::new()));
        let record = custody.record(&name).unwrap();
        let ca = custody.open_place(&name, &record.active, &KnownCas::default()).await.unwrap();
        let issuers: Issuers = Arc::new([(name.clone(), issuers::issuer(SignedDuration::ZERO, ca))].into());
        let cluster = Cluster {
            name: name.clone(),
            labels: [].into(),
            endpoints: Vec::new(),
            nodes: Vec::new(),
            ca: String::new(),
        };
        let clusters: Clusters = Arc::new([(name.clone(), Arc::new(cluster))].into());
        let permit = r#"@id("read") permit (principal, action == Action::"hold:os:reader", resource);"#;
        let source = Source { name: "test.cedar".into(), text: permit.into() };
        let policies = Arc::new(PolicySet::load(&[source], Limits::default()).unwrap());
        let clock: SharedClock = room.clock.clone();
        let prober = Prober {
            press: Press::new(room.sequencer.clone(), Arc::clone(&clock)),
            custody,
            store: room.store.clone(),
            clock: Arc::clone(&clock),
            backdate: SignedDuration::ZERO,
            sequencer: room.sequencer.clone(),
        };
        Calls {
            prober: Arc::new(prober),
            policies: watch::Sender::new(policies).subscribe(),
            clusters: watch::Sender::new(clusters).subscribe(),
            issuers: watch::Sender::new(issuers).subscribe(),
            clock,
            made: Mutex::default(),
        }
    }

    fn prod() -> ClusterName {
        ClusterName::new("prod").unwrap()
    }

    const NODE: IpAddr = IpAddr::V4(std::net::Ipv4Addr::LOCALHOST);

    #[tokio::test]
    async fn a_grant_whose_certificate_nobody_waits_for_any_more_gets_its_outcome() {
        let (gate, folder) = (Arc::new(Semaphore::new(0)), tempfile::tempdir().unwrap());
        let room = Room::new([Fault::Hold(Arc::clone(&gate))]);
        let calls = calls(&room, folder.path()).await;
        {
            let name = prod();
            let mut waiting = std::pin::pin!(calls.call(&name, NODE, "mark"));
            tokio::select! {
                answer = &mut waiting => panic!("{answer:?}"),
                () = room.store.held(1) => {}
            }
            // another cluster's node does not wait for it
            let other = calls.call(&ClusterName::new("other").unwrap(), NODE, "mark").await;
            assert_eq!(other, Err("there is no cluster `other`".into()));
            // the grant is on its way into the log, and the broker is told to stop
        }
        drop(calls);
        gate.add_permits(1);
        let kinds = async || room.log().await.into_iter().map(|entry| entry.content.kind).collect::<Vec<_>>();
        let recorded = tokio::time::timeout(std::time::Duration::from_secs(20), async {
            while kinds().await.len() < 2 {
                tokio::task::yield_now().await;
            }
        });
        recorded.await.expect("the grant's outcome");
        assert_eq!(kinds().await, [Kind::Grant, Kind::Issued]);
    }

    #[tokio::test]
    async fn an_outage_costs_a_round_one_try_and_not_one_for_each_node() {
        let folder = tempfile::tempdir().unwrap();
        let room = Room::new([Fault::Before]);
        let calls = calls(&room, folder.path()).await;
        let out = calls.call(&prod(), NODE, "mark").await.unwrap_err();
        assert_eq!(calls.call(&prod(), NODE, "mark").await, Err(out.clone()));
        assert_eq!(room.log().await.len(), 0, "nothing was tried again");
        room.clock.advance(OUT);
        assert_ne!(calls.call(&prod(), NODE, "mark").await.unwrap_err(), out, "no endpoint is declared");
        let kinds: Vec<_> = room.log().await.into_iter().map(|entry| entry.content.kind).collect();
        assert_eq!(kinds, [Kind::Grant, Kind::Issued]);
    }
}
