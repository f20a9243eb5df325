//! Starting, serving and stopping.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use axum_server::Handle;
use ichor_wire::log::{Content, Kind};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, watch};
use tokio::task::{JoinHandle, JoinSet};

use super::acceptance::Acceptance;
use super::background::{Tasks, named};
use super::connections::Bounded;
use super::digests::of_files;
use super::endpoints::Endpoints;
use super::kits::watch_kits;
use super::listen::{Listening, bind, bind_unix};
use super::live::on_change::reload_on_change;
use super::locks::watch_locks;
use super::telling::Telling;
use super::watching::{sweep, watch_log, watch_providers, watch_requests, watch_server};
use super::{Live, Parts, Prober, StartError, open_store, places, sequencer_settings};
use crate::audit::{self, Sequencer, Standing};
use crate::break_glass::{self, BreakGlass};
use crate::config::{self, Listen, Loaded};
use crate::domain::Clusters;
use crate::forward::Forwarder;
use crate::http::admin::{self, Peer, Probing, Reload};
use crate::http::api::readers::Readers;
use crate::http::api::{Api, ApiParts};
use crate::http::layers::Edge;
use crate::http::limits::Limits;
use crate::http::router::Bounds;
use crate::http::tlog::Tlog;
use crate::http::{health, router};
use crate::lock::{Book, Locks};
use crate::mint::{Mint, Press};
use crate::notify::Courier;
use crate::openbao::Client;
use crate::policy::PolicySet;
use crate::readiness::{Check, Readiness};
use crate::store::{AskBounds, Store};
use crate::telemetry;

/// How long ending our token may take at each OpenBao, once all else has ended.
const PARTING: Duration = Duration::from_secs(2);

/// How long requests under way may take to end once the broker is told to stop.
const GRACE: Duration = Duration::from_secs(30);

/// How long everything else may take beyond that, and what was accepted to be recorded after it: a store that does not answer keeps
/// no broker from its end. Together less than the service manager waits.
const BEYOND: Duration = Duration::from_secs(5);

/// A broker that serves. Dropping it ends its tasks at once; [`Running::stop`] ends them in order.
pub struct Running {
    address: Option<SocketAddr>,
    health: Option<SocketAddr>,
    node_addresses: (Option<SocketAddr>, Option<SocketAddr>),
    reload: mpsc::Sender<Reload>,
    stop: watch::Sender<bool>,
    handle: Handle<SocketAddr>,
    tasks: Tasks,
    sequencing: JoinHandle<()>,
    /// Closed once the sequencer's task ended.
    standing: watch::Receiver<Standing>,
    store: Arc<dyn Store>,
    servers: Vec<Client>,
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
        let data_key = Arc::new(custody.data_key().await?);
        super::check_database_is_there(settings)?;
        let store = open_store(settings).await?;
        let store = match parts.wrap_store {
            Some(wrap) => wrap(store),
            None => store,
        };
        let clock = parts.clock;
        match parts.accept_clock {
            true => super::check_clock(settings, &*store, clock.now()).await?,
            false => super::check_both(settings, &*store, clock.now()).await?,
        }
        // nothing is added to a log that is not the continuation of what was signed and anchored
        let (notary, opened) = super::open_log(&custody, &settings.audit, &*store, clock.now()).await?;
        audit::note_size(opened.entries);
        tracing::info!(entries = opened.entries, log = notary.log().name(), "the audit log is what was signed");
        // whoever starts a broker at which nobody can log in does not hear it from people
        if let Some((alias, why)) = super::foreign_issuers(loaded, &*store).await?.pop_first() {
            return Err(StartError::Alias { alias, why });
        }
        let log_key = notary.log().clone();
        let rotations = custody.log_pin()?.map(|pin| pin.rotations.into()).unwrap_or_else(|| [].into());
        let readiness =
            Arc::new(Readiness::new(Arc::clone(&store)).by(Arc::clone(&clock), super::log_time::skew(settings)));
        let (sequencer, sequencing) = Sequencer::vouched(
            Arc::clone(&store),
            Arc::clone(&clock),
            sequencer_settings(settings),
            notary,
            opened.standing,
        );

        let groups = of_files(&config::group_files(&loaded.folder, &loaded.file));
        let login =
            super::login(loaded, Arc::clone(&data_key), Arc::clone(&store), sequencer.clone(), Arc::clone(&clock))?;
        let servers: Vec<_> = custody.servers().values().cloned().collect();
        let parting = servers.clone();
        let press = || Press::new(sequencer.clone(), Arc::clone(&clock));
        let log = (Arc::clone(&store), &sequencer);
        let live =
            Live::load(loaded, Arc::clone(&custody), Arc::clone(&clock), &readiness, Arc::new(press()), log).await?;
        let live = live.with_groups(login.settings(), &groups).paced(parts.look);

        let name = log_key.name();
        let forwarder =
            |forward| Forwarder::new(forward, name, Arc::clone(&store), Arc::clone(&clock), Arc::clone(&data_key));
        let mut forwarders = config::forwards(&loaded.folder, &loaded.file)?
            .into_iter()
            .map(forwarder)
            .collect::<Result<Vec<_>, _>>()?;

        let listener = match (&settings.listen, parts.listener) {
            (Listen::Tcp(_), Some(listener)) => Listening::Tcp(listener),
            (Listen::Tcp(address), None) => Listening::Tcp(bind(*address)?),
            (Listen::Unix(path), _) => Listening::Unix(bind_unix(path, 0o660)?),
        };
        let health_listener = settings.health.map(bind).transpose()?;
        let node_listeners = super::nodelog::Bound::bind(&settings.nodelog)?;
        let admin_listener = bind_unix(&settings.admin_socket, 0o600)?;
        let (address, health) = (listener.address(), health_listener.as_ref().and_then(|l| l.local_addr().ok()));

        let limits = Arc::new(Limits::per_minute(
            settings.per_person,
            settings.per_address,
            Arc::clone(&store),
            Arc::clone(&clock),
        ));
        let break_glass = Arc::new(BreakGlass::new(
            Arc::clone(&store),
            sequencer.clone(),
            Arc::clone(&clock),
            Arc::clone(&data_key),
            live.policies(),
            live.clusters(),
            break_glass::Settings {
                review_within: settings.review_within,
                sinks: live.hearing(),
                apart: apart(login.settings()),
                bounds: AskBounds {
                    hourly: settings.requests_per_hour.into(),
                    unreviewed_alone: settings.unreviewed_self_service.into(),
                    open: break_glass::MOST_OPEN,
                },
            },
        ));
        let mint = Mint::new(
            live.policies(),
            live.clusters(),
            live.issuers(),
            sequencer.clone(),
            Arc::clone(&clock),
            break_glass.ledger(),
        );
        let mut telling = Telling {
            broker: settings.public_url.to_string(),
            store: Arc::clone(&store),
            break_glass: Arc::clone(&break_glass),
            clock: Arc::clone(&clock),
            data_key: Arc::clone(&data_key),
            known: places::known(&*store).await?,
            readiness: Arc::clone(&readiness),
            standing: sequencer.standing(),
            sinks: live.sinks(),
        };
        let mut couriers = telling.couriers()?;
        let key = Some(Arc::clone(&data_key));
        let book = Book::new(Arc::clone(&store), sequencer.clone(), Arc::clone(&clock), key).naming(live.issuers());
        let locks = Locks::new(book.clone(), live.policies(), live.clusters());
        let api = Api::from(ApiParts {
            login: Arc::clone(&login),
            mint: Arc::new(mint),
            break_glass: Arc::clone(&break_glass),
            locks,
            book: book.clone(),
            limits: Arc::clone(&limits),
            store: Arc::clone(&store),
            sequencer: sequencer.clone(),
            log_key,
            rotations,
            clock: Arc::clone(&clock),
            policies: live.policies(),
            clusters: live.clusters(),
            issuers: live.issuers(),
            sources: settings.nodelog.sources.clone(),
            readers: Readers::default(),
            data_key: Arc::clone(&data_key),
            drop_min_age: settings.drop_min_age,
        });
        let edge = Edge {
            trusted_proxies: settings.trusted_proxies.clone().into(),
            https: settings.public_url.scheme() == "https",
            minimum_client: settings.minimum_client,
            clock: Arc::clone(&clock),
        };
        let bounds = Bounds { concurrent: settings.concurrent, request_time: settings.request_time };
        let tlog = Tlog {
            store: Arc::clone(&store),
            standing: sequencer.standing(),
            token: settings.audit.tile_token.as_deref().map(super::log::tile_token).transpose()?,
            by_certificate: settings.audit.tile_clients.is_some(),
            limits: Arc::clone(&limits),
        };
        let public = router::public(api, Arc::clone(&login), tlog, edge, bounds);

        for forwarder in &mut forwarders {
            forwarder.begin(telling.known.contains(forwarder.place())).await?;
        }
        telling.begin(&mut couriers).await?;
        // written down only now that each is there, so that one which is gone later was taken away
        let kept = forwarders.iter().map(Forwarder::place).chain(couriers.iter().map(Courier::place));
        let started = Content {
            message: Some(format!("ichor-broker {} started", env!("CARGO_PKG_VERSION"))),
            digests: Some(live.loaded().into_iter().chain(places::written(kept)).collect()),
            ..Content::of(Kind::Start)
        };
        sequencer.note(started, None).await?;

        let (stop, stopped) = watch::channel(false);
        let (reload, reloads) = mpsc::channel(4);
        let handle = Handle::new();
        let mut tasks = Tasks::new();
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
        let prober = || Prober {
            press: press(),
            custody: Arc::clone(&custody),
            store: Arc::clone(&store),
            clock: Arc::clone(&clock),
            backdate: settings.backdate,
            sequencer: sequencer.clone(),
        };
        let (clock_of, board) = (Arc::clone(&clock), Arc::clone(&readiness));
        let endpoints = Endpoints { clusters: live.clusters(), clock: clock_of, readiness: board };
        tasks.spawn(named("the watch over endpoints", endpoints.run(stopped.clone())));
        if let Some(every) = settings.probe_every {
            let acceptance = Acceptance {
                prober: prober(),
                policies: live.policies(),
                clusters: live.clusters(),
                issuers: live.issuers(),
                sequencer: sequencer.clone(),
                readiness: Arc::clone(&readiness),
                every,
            };
            tasks.spawn(named("the probing of clusters", acceptance.run(stopped.clone())));
        }
        let node_addresses = (node_listeners.tcp_address(), node_listeners.udp_address());
        let parts_of_nodelog = super::nodelog::Parts {
            store: Arc::clone(&store),
            sequencer: sequencer.clone(),
            clock: Arc::clone(&clock),
            readiness: Arc::clone(&readiness),
            prober: Arc::new(prober()),
            policies: live.policies(),
            clusters: live.clusters(),
            issuers: live.issuers(),
        };
        node_listeners.serve(&settings.nodelog, parts_of_nodelog, &stopped, &mut tasks)?;
        let answering = answer_probes(Arc::new(prober()), live.policies(), live.clusters(), probing, stopped.clone());
        tasks.spawn(named("the broker's own certificates", answering));
        let kits = crate::kit::Register::new(Arc::clone(&store), sequencer.clone());
        let routes =
            admin::routes(sequencer.clone(), Arc::clone(&readiness), reload.clone(), probes, book.clone(), kits);
        tasks.spawn(named("the admin socket", serve_admin(admin_listener, routes, stopped.clone())));
        let (board, stop_of) = (|| Arc::clone(&readiness), || stopped.clone());
        let declared = live.clusters();
        let reloading = reload_on_change(live, reloads, sequencer.clone(), board(), parts.look, stop_of());
        tasks.spawn(named("loading anew", reloading));
        for forwarder in forwarders {
            tasks.spawn(named("a forwarding of the audit log", forwarder.run(board(), stop_of())));
        }
        tasks.spawn(named("telling people", telling.run(couriers, stop_of())));
        let requests = watch_requests(Arc::clone(&break_glass), board(), stop_of());
        tasks.spawn(named("the watch over break-glass requests", requests));
        for server in servers {
            tasks.spawn(named("the watch over an OpenBao server", watch_server(server, board(), stop_of())));
        }
        let standing = sequencer.standing();
        let log = watch_log(standing.clone(), settings.audit.is_anchored(), Arc::clone(&clock), board(), stop_of());
        tasks.spawn(named("the watch over the audit log", log));
        let kits = watch_kits(Arc::clone(&store), sequencer.clone(), Arc::clone(&clock), declared, board(), stop_of());
        tasks.spawn(named("the watch over kits", kits));
        tasks.spawn(named("the watch over locks", watch_locks(book, board(), stop_of())));
        tasks.spawn(named("the watch over providers", watch_providers(Arc::clone(&login), board(), stop_of())));
        let sweeping = sweep(Arc::clone(&store), login, limits, metrics, clock, stop_of());
        tasks.spawn(named("clearing away", sweeping));
        Ok(Self {
            address,
            health,
            node_addresses,
            reload,
            stop,
            handle,
            tasks,
            sequencing,
            standing,
            store,
            servers: parting,
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

    /// Where nodes send their lines over TCP and UDP, as far as configured.
    #[must_use]
    pub fn node_addresses(&self) -> (Option<SocketAddr>, Option<SocketAddr>) {
        self.node_addresses
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

    /// Returns when something ended that must run until [`Self::stop`], in words for people: then this broker is to be stopped.
    pub async fn failed(&mut self) -> String {
        let standing = &mut self.standing;
        let sequencer_ends = async { while standing.changed().await.is_ok() {} };
        let ended = tokio::select! {
            // others end because of it
            biased;
            () = sequencer_ends => "the audit log's sequencer ended".to_owned(),
            ended = self.tasks.join_next() => match ended {
                Some(Ok(ended)) => ended.to_string(),
                Some(Err(error)) => format!("a background task ended: {error}"),
                None => "every background task ended".to_owned(),
            },
        };
        tracing::error!(ended, "the broker cannot go on: this must run for as long as it serves");
        ended
    }

    /// Returns once nothing new is accepted, requests under way have ended (or 30 s have passed), everything that was accepted
    /// for the record is recorded, and the tokens that were had at OpenBao are ended, where it answers within two seconds. What
    /// a store that does not answer keeps from ending is ended within 10 s more.
    pub async fn stop(mut self) {
        let _ = self.stop.send(true);
        self.handle.graceful_shutdown(Some(GRACE));
        end(&mut self.tasks, GRACE + BEYOND).await;
        // every handle to the sequencer is gone with the tasks: it commits what it accepted and ends
        if tokio::time::timeout(BEYOND, &mut self.sequencing).await.is_err() {
            tracing::error!("what was accepted last could not be recorded: the store does not answer");
        }
        // nothing of ours asks them any more
        futures_util::future::join_all(self.servers.iter().map(|server| server.end(PARTING))).await;
        let _ = std::fs::remove_file(&self.socket);
    }
}

/// Returns once every task has ended; those that have not within this time are dropped.
async fn end<T: Send + 'static>(tasks: &mut JoinSet<T>, within: Duration) {
    if tokio::time::timeout(within, async { while tasks.join_next().await.is_some() {} }).await.is_err() {
        tracing::error!(tasks = tasks.len(), "what does not end by itself is ended with the broker");
        tasks.shutdown().await;
    }
}

pub(super) async fn told(mut stopped: watch::Receiver<bool>) {
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
    prober: Arc<Prober>,
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

/// How the accounts of humans are told apart, as the providers are configured.
fn apart(settings: &crate::login::Settings) -> break_glass::Apart {
    let claims = settings.providers.first().map(|provider| provider.mapping.claims_in_force).unwrap_or_default();
    let provider = |provider: &crate::login::ProviderSettings| {
        let mapping = &provider.mapping;
        (mapping.provider.clone(), provider.issuer.clone(), mapping.human_claim.is_some())
    };
    break_glass::Apart { providers: settings.providers.iter().map(provider).collect(), claims }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test(start_paused = true)]
    async fn a_task_that_does_not_end_is_waited_for_and_no_longer() {
        let (began, mut tasks) = (tokio::time::Instant::now(), JoinSet::new());
        let (kept, mut lost) = tokio::sync::mpsc::unbounded_channel();
        let late = kept.clone();
        tasks.spawn(async move {
            tokio::time::sleep(Duration::from_secs(30)).await;
            let _ = late.send("in time");
        });
        tasks.spawn(async move {
            std::future::pending::<()>().await;
            let _ = kept.send("never");
        });
        tokio::time::timeout(GRACE * 10, end(&mut tasks, GRACE + BEYOND)).await.expect("an end");
        assert_eq!(began.elapsed(), GRACE + BEYOND);
        assert_eq!((lost.recv().await, lost.recv().await), (Some("in time"), None), "what it held is gone with it");

        let began = tokio::time::Instant::now();
        tasks.spawn(async {});
        end(&mut tasks, GRACE).await;
        assert_eq!(began.elapsed(), Duration::ZERO);
    }
}
