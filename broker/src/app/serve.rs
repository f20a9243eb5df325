//! Starting, serving and stopping.

use std::net::{SocketAddr, TcpListener};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use hyper_util::rt::TokioTimer;
use ichor_wire::log::{Content, Kind};
use metrics_exporter_prometheus::PrometheusHandle;
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::connections::Bounded;
use super::{Live, Parts, Prober, StartError, open_store, sequencer_settings};
use crate::audit::{self, Sequencer};
use crate::config::{Listen, Loaded};
use crate::domain::Clusters;
use crate::http::admin::{self, Peer, Probing, Reload};
use crate::http::api::Api;
use crate::http::layers::Edge;
use crate::http::limits::Limits;
use crate::http::router::Bounds;
use crate::http::{health, router};
use crate::login::Login;
use crate::mint::{Mint, Press};
use crate::openbao::{Client, State};
use crate::policy::PolicySet;
use crate::readiness::{Check, Readiness};
use crate::store::Store;
use crate::telemetry;

/// How long requests under way may take to end once the broker is told to stop.
const GRACE: Duration = Duration::from_secs(30);

/// How often what has expired is cleared away.
const SWEEP: Duration = Duration::from_secs(60);

/// So many of the newest entries are checked at the start; `ichor-broker audit verify` checks them all.
const TAIL: u64 = 1_000;

/// The longest that a client may take to send its request's headers.
const HEADER_TIME: Duration = Duration::from_secs(10);

/// A broker that serves. Dropping it ends its tasks at once; [`Running::stop`] ends them in order.
pub struct Running {
    address: Option<SocketAddr>,
    health: Option<SocketAddr>,
    reload: mpsc::Sender<Reload>,
    stop: watch::Sender<bool>,
    handle: Handle<SocketAddr>,
    tasks: JoinSet<()>,
    sequencing: JoinHandle<()>,
    store: Arc<dyn Store>,
    socket: PathBuf,
}

impl Running {
    /// Returns once the broker listens, its start recorded.
    ///
    /// # Errors
    /// When something that it cannot do without is missing or wrong; then nothing listens.
    pub async fn start(loaded: &Loaded, parts: Parts) -> Result<Self, StartError> {
        let settings = &loaded.settings;
        let metrics = telemetry::install_metrics();
        let custody = Arc::new(super::custody(loaded, parts.vault)?);
        let data_key = custody.data_key().await?;
        let store: Arc<dyn Store> = Arc::new(open_store(settings)?);
        let store = match parts.wrap_store {
            Some(wrap) => wrap(store),
            None => store,
        };
        // nothing is added to a log whose end was touched
        let found = audit::verify_tail(&*store, TAIL).await?;
        audit::note_size(found.entries);
        tracing::info!(entries = found.entries, "the audit log's end is what was recorded");
        let readiness = Arc::new(Readiness::new(Arc::clone(&store)));
        let clock = parts.clock;
        let (sequencer, sequencing) =
            Sequencer::start(Arc::clone(&store), Arc::clone(&clock), sequencer_settings(settings));

        let login = super::login(loaded, data_key, Arc::clone(&store), sequencer.clone(), Arc::clone(&clock))?;
        let servers: Vec<_> = custody.servers().values().cloned().collect();
        let live = Live::load(settings, Arc::clone(&custody), Arc::clone(&clock), &readiness).await?;

        let listener = match (&settings.listen, parts.listener) {
            (Listen::Tcp(_), Some(listener)) => Listening::Tcp(listener),
            (Listen::Tcp(address), None) => Listening::Tcp(bind(*address)?),
            (Listen::Unix(path), _) => Listening::Unix(bind_unix(path, 0o660)?),
        };
        let health_listener = settings.health.map(bind).transpose()?;
        let admin_listener = bind_unix(&settings.admin_socket, 0o600)?;
        let (address, health) = (listener.address(), health_listener.as_ref().and_then(|l| l.local_addr().ok()));

        let mint = Mint::new(live.policies(), live.clusters(), live.issuers(), sequencer.clone(), Arc::clone(&clock));
        let limits = Arc::new(Limits::per_minute(settings.per_person, settings.per_address));
        let api = Api {
            login: Arc::clone(&login),
            mint: Arc::new(mint),
            limits: Arc::clone(&limits),
            store: Arc::clone(&store),
            sequencer: sequencer.clone(),
            clock: Arc::clone(&clock),
            policies: live.policies(),
            clusters: live.clusters(),
            issuers: live.issuers(),
        };
        let edge = Edge {
            trusted_proxies: settings.trusted_proxies.clone().into(),
            https: settings.public_url.scheme() == "https",
            minimum_client: settings.minimum_client,
            clock: Arc::clone(&clock),
        };
        let bounds = Bounds { concurrent: settings.concurrent, request_time: settings.request_time };
        let public = router::public(api, Arc::clone(&login), edge, bounds);

        let started = Content {
            message: Some(format!("ichor-broker {} started", env!("CARGO_PKG_VERSION"))),
            digests: Some(live.loaded()),
            ..Content::of(Kind::Start)
        };
        sequencer.note(started, None).await?;

        let (stop, stopped) = watch::channel(false);
        let (reload, reloads) = mpsc::channel(4);
        let handle = Handle::new();
        let mut tasks = JoinSet::new();
        let proxies = settings.trusted_proxies.clone().into();
        let bounded = Bounded::new(settings.connections, settings.connections_per_address, proxies);
        listener.serve(public, live.tls(), bounded, &handle, &stopped, &mut tasks);
        if let Some(listener) = health_listener {
            let routes = health::routes(Arc::clone(&readiness), metrics.clone());
            // with places of its own: what happens to the public listener is to be seen here
            let bounded = Bounded::new(settings.connections, settings.connections, [].into());
            Listening::Tcp(listener).serve(routes, None, bounded, &handle, &stopped, &mut tasks);
        }
        let (probes, probing) = mpsc::channel(16);
        let prober =
            Prober { press: Press::new(sequencer.clone(), Arc::clone(&clock)), custody, backdate: settings.backdate };
        tasks.spawn(answer_probes(prober, live.policies(), live.clusters(), probing, stopped.clone()));
        let routes = admin::routes(sequencer.clone(), Arc::clone(&readiness), reload.clone(), probes);
        tasks.spawn(serve_admin(admin_listener, routes, stopped.clone()));
        tasks.spawn(reload_on_change(
            live,
            reloads,
            sequencer.clone(),
            Arc::clone(&readiness),
            parts.look,
            stopped.clone(),
        ));
        for server in servers {
            tasks.spawn(watch_server(server, Arc::clone(&readiness), stopped.clone()));
        }
        tasks.spawn(watch_providers(Arc::clone(&login), readiness, stopped.clone()));
        tasks.spawn(sweep(Arc::clone(&store), login, limits, metrics, clock, stopped));
        Ok(Self {
            address,
            health,
            reload,
            stop,
            handle,
            tasks,
            sequencing,
            store,
            socket: settings.admin_socket.clone(),
        })
    }

    /// Where the public listener is, unless it is a Unix socket.
    #[must_use]
    pub fn address(&self) -> Option<SocketAddr> {
        self.address
    }

    /// Where the health listener is, if there is one.
    #[must_use]
    pub fn health_address(&self) -> Option<SocketAddr> {
        self.health
    }

    /// The store behind it, for those who look at the log from inside the process.
    #[must_use]
    pub fn store(&self) -> Arc<dyn Store> {
        Arc::clone(&self.store)
    }

    /// Loads policies, clusters, CA keys and TLS certificates anew; returns once that was tried, with what came of it.
    pub async fn reload(&self) -> Vec<Check> {
        let (done, answer) = tokio::sync::oneshot::channel();
        if self.reload.send(Reload { by: None, done }).await.is_err() {
            return Vec::new();
        }
        answer.await.unwrap_or_default()
    }

    /// Returns once nothing new is accepted, requests under way have ended (or 30 s have passed), and everything that was
    /// accepted for the record is recorded.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        self.handle.graceful_shutdown(Some(GRACE));
        while self.tasks.join_next().await.is_some() {}
        // every handle to the sequencer is gone with the tasks: it commits what it accepted and ends
        let _ = self.sequencing.await;
        let _ = std::fs::remove_file(&self.socket);
    }
}

enum Listening {
    Tcp(TcpListener),
    Unix(UnixListener),
}

impl Listening {
    fn address(&self) -> Option<SocketAddr> {
        match self {
            Self::Tcp(listener) => listener.local_addr().ok(),
            Self::Unix(_) => None,
        }
    }

    fn serve(
        self,
        routes: Router,
        tls: Option<axum_server::tls_rustls::RustlsConfig>,
        bounded: Bounded,
        handle: &Handle<SocketAddr>,
        stopped: &watch::Receiver<bool>,
        tasks: &mut JoinSet<()>,
    ) {
        match self {
            Self::Tcp(listener) => {
                let handle = handle.clone();
                tasks.spawn(async move {
                    let service = routes.into_make_service_with_connect_info::<SocketAddr>();
                    let served = match tls {
                        Some(tls) => match axum_server::from_tcp_rustls(listener, tls) {
                            Ok(server) => {
                                let mut server = server.map(|tls| tls.acceptor(bounded));
                                bound(server.http_builder());
                                server.handle(handle).first_request_timeout(HEADER_TIME).serve(service).await
                            }
                            Err(error) => Err(error),
                        },
                        None => match axum_server::from_tcp(listener) {
                            Ok(server) => {
                                let mut server = server.acceptor(bounded);
                                bound(server.http_builder());
                                server.handle(handle).first_request_timeout(HEADER_TIME).serve(service).await
                            }
                            Err(error) => Err(error),
                        },
                    };
                    if let Err(error) = served {
                        tracing::error!(%error, "listener ended");
                    }
                });
            }
            Self::Unix(listener) => {
                let stopped = stopped.clone();
                tasks.spawn(async move {
                    let served =
                        axum::serve(listener, routes.into_make_service()).with_graceful_shutdown(told(stopped));
                    if let Err(error) = served.await {
                        tracing::error!(%error, "listener ended");
                    }
                });
            }
        }
    }
}

/// Bounds on what one connection may send and hold (rapid reset, header floods, slow headers).
fn bound(builder: &mut hyper_util::server::conn::auto::Builder<hyper_util::rt::TokioExecutor>) {
    builder.http1().timer(TokioTimer::new()).header_read_timeout(HEADER_TIME).max_buf_size(64 * 1024);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(64)
        .max_header_list_size(32 * 1024)
        .max_pending_accept_reset_streams(16)
        .max_local_error_reset_streams(256)
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
}

fn bind(address: SocketAddr) -> Result<TcpListener, StartError> {
    let refused = |error: std::io::Error| StartError::Listen { at: address.to_string(), why: error.to_string() };
    let listener = TcpListener::bind(address).map_err(refused)?;
    listener.set_nonblocking(true).map_err(refused)?;
    Ok(listener)
}

/// A Unix socket of this mode. A socket left by a broker that was killed is removed: the store's writer lock, taken before,
/// shows that none runs.
fn bind_unix(path: &Path, mode: u32) -> Result<UnixListener, StartError> {
    let refused = |error: std::io::Error| StartError::Listen { at: path.display().to_string(), why: error.to_string() };
    if let Some(folder) = path.parent() {
        std::fs::create_dir_all(folder).map_err(refused)?;
    }
    match std::fs::remove_file(path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => return Err(refused(error)),
        _ => {}
    }
    // nobody else may connect between bind and chmod
    let before = nix::sys::stat::umask(nix::sys::stat::Mode::from_bits_truncate(0o177));
    let listener = UnixListener::bind(path).map_err(refused);
    nix::sys::stat::umask(before);
    let listener = listener?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(mode)).map_err(refused)?;
    Ok(listener)
}

async fn told(mut stopped: watch::Receiver<bool>) {
    let _ = stopped.wait_for(|stopped| *stopped).await;
}

async fn serve_admin(listener: UnixListener, routes: Router, stopped: watch::Receiver<bool>) {
    let service = routes.into_make_service_with_connect_info::<Peer>();
    if let Err(error) = axum::serve(listener, service).with_graceful_shutdown(told(stopped)).await {
        tracing::error!(%error, "admin socket ended");
    }
}

/// Makes the broker's own certificates, one after the other.
async fn answer_probes(
    prober: Prober,
    policies: watch::Receiver<Arc<PolicySet>>,
    clusters: watch::Receiver<Clusters>,
    mut probing: mpsc::Receiver<Probing>,
    stopped: watch::Receiver<bool>,
) {
    let mut stop = std::pin::pin!(told(stopped));
    loop {
        tokio::select! {
            () = &mut stop => return,
            Some((probe, done)) = probing.recv() => {
                let (policies, clusters) = (Arc::clone(&policies.borrow()), clusters.borrow().clone());
                let made = prober.probe(&policies, &clusters, &probe).await;
                let _ = done.send(made.map_err(|error| error.to_string()));
            }
        }
    }
}

/// Reloads when asked, and when a file has changed and then stayed the same from one look to the next; also when the last
/// reload could not be recorded.
async fn reload_on_change(
    mut live: Live,
    mut reloads: mpsc::Receiver<Reload>,
    sequencer: Sequencer,
    readiness: Arc<Readiness>,
    pace: Duration,
    stopped: watch::Receiver<bool>,
) {
    let mut stop = std::pin::pin!(told(stopped));
    let mut look = tokio::time::interval(pace);
    look.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = &mut stop => return,
            Some(Reload { by, done }) = reloads.recv() => {
                let _ = done.send(live.reload(&sequencer, &readiness, by.as_deref()).await);
            }
            _ = look.tick() => {
                if live.look() {
                    live.reload(&sequencer, &readiness, None).await;
                } else if live.is_custody_due() {
                    live.reload_custody(&sequencer, &readiness).await;
                }
            }
        }
    }
}

/// Reports how a server that holds CA keys is, at each change. A cluster whose CA is there is out with it; others go on.
async fn watch_server(server: Client, readiness: Arc<Readiness>, stopped: watch::Receiver<bool>) {
    let mut stop = std::pin::pin!(told(stopped));
    let mut state = server.state();
    loop {
        let State { ok, detail } = state.borrow_and_update().clone();
        readiness.report(Check { name: format!("openbao {}", server.name()), ok, required: false, detail });
        tokio::select! {
            () = &mut stop => return,
            changed = state.changed() => if changed.is_err() { return },
        }
    }
}

/// Reports whether each provider can be reached, so that readiness is known before the first login.
async fn watch_providers(login: Arc<Login>, readiness: Arc<Readiness>, stopped: watch::Receiver<bool>) {
    let mut stop = std::pin::pin!(told(stopped));
    let mut ticks = tokio::time::interval(SWEEP);
    loop {
        tokio::select! {
            () = &mut stop => return,
            _ = ticks.tick() => {
                for (alias, state) in login.probe().await {
                    let (ok, detail) = (state.is_ok(), state.err().map(|error| error.to_string()));
                    readiness.report(Check { name: format!("provider {alias}"), ok, required: false, detail });
                }
            }
        }
    }
}

async fn sweep(
    store: Arc<dyn Store>,
    login: Arc<Login>,
    limits: Arc<Limits>,
    metrics: PrometheusHandle,
    clock: crate::clock::SharedClock,
    stopped: watch::Receiver<bool>,
) {
    let mut stop = std::pin::pin!(told(stopped));
    let mut ticks = tokio::time::interval_at(tokio::time::Instant::now() + SWEEP, SWEEP);
    loop {
        tokio::select! {
            () = &mut stop => {
                login.flush_tally(true).await;
                return;
            }
            _ = ticks.tick() => {
                limits.sweep();
                // what histograms have gathered stays small, also where nobody asks for it
                metrics.run_upkeep();
                login.flush_tally(false).await;
                if let Err(error) = store.sweep(clock.now()).await {
                    tracing::warn!(%error, "expired rows could not be cleared away");
                }
            }
        }
    }
}
