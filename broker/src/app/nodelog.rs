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
    made: Mutex<BTreeMap<ClusterName, (Arc<TalosApi>, Timestamp)>>,
}

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
        let now = self.clock.now();
        // held while one is made: a cluster's nodes need one together
        let mut made = self.made.lock().await;
        if let Some((api, until)) = made.get(name).filter(|(_, until)| now < *until) {
            tracing::trace!(cluster = %name, %until, "a probe's certificate is used again");
            return Ok(Arc::clone(api));
        }
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
        let api = Arc::new(api.map_err(|error| error.to_string())?);
        let until = now.saturating_add(USED.min(PROBE_LIFE)).unwrap_or(now);
        made.insert(name.clone(), (Arc::clone(&api), until));
        Ok(api)
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

    #[tokio::test]
    async fn a_grant_whose_certificate_nobody_waits_for_any_more_gets_its_outcome() {
        let (gate, folder) = (Arc::new(Semaphore::new(0)), tempfile::tempdir().unwrap());
        let room = Room::new([Fault::Hold(Arc::clone(&gate))]);
        let name = ClusterName::new("prod").unwrap();
        Vault::create(folder.path(), Keep::DangerBeside, &[]).unwrap();
        let vault = Vault::open(folder.path(), IdentitySource::DangerBeside).unwrap();
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
        };
        let calls = Calls {
            prober: Arc::new(prober),
            policies: watch::Sender::new(policies).subscribe(),
            clusters: watch::Sender::new(clusters).subscribe(),
            issuers: watch::Sender::new(issuers).subscribe(),
            clock,
            made: Mutex::default(),
        };
        tokio::select! {
            answer = calls.call(&name, IpAddr::from([127, 0, 0, 1]), "mark") => panic!("{answer:?}"),
            // the grant is on its way into the log, and the broker is told to stop
            () = room.store.held(1) => {}
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
}
