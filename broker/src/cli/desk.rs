//! Where an admin command records what it does: at the running broker, or, when none runs, in the store itself under its
//! writer lock. Never both.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, anyhow, bail};
use bytes::Bytes;
use data_encoding::HEXLOWER;
use http_body_util::{BodyExt, Full};
use hyper_util::rt::TokioIo;
use ichor_wire::api::Receipt;
use ichor_wire::log::Content;
use ichor_wire::problem::Problem;
use tokio::net::UnixStream;

use super::owner;
use crate::app;
use crate::audit::Sequencer;
use crate::clock::{Clock, SystemClock};
use crate::config::Loaded;
use crate::custody::{ABOUT, ACT, CERTIFICATE, Custody, DELEGATED, KitEntry, WITHDRAWN};
use crate::domain::{ClusterName, check_reason};
use crate::entropy;
use crate::http::admin::{Act, Probe, ProbeRequest, user_name};
use crate::kit::Register;
use crate::lock::Book;
use crate::mint::Press;
use crate::readiness::Check;
use crate::store::{Store, StoreError};

/// What a command did, before host and user are added.
#[derive(Clone, Debug, Default)]
pub(super) struct Deed {
    pub(super) ca: bool,
    pub(super) cluster: Option<String>,
    pub(super) message: String,
    pub(super) reason: String,
    pub(super) digests: BTreeMap<String, String>,
}

/// Where deeds are recorded.
pub(super) enum Desk {
    /// A broker runs on this folder.
    Running(PathBuf),
    /// None runs; this process holds the writer lock.
    Alone(Sequencer, tokio::task::JoinHandle<()>, Arc<dyn Store>, Book),
}

/// The deed with the host and the user it is done by.
pub(super) fn act(deed: Deed) -> Act {
    Act {
        ca: deed.ca,
        cluster: deed.cluster,
        message: deed.message,
        reason: deed.reason,
        digests: deed.digests,
        host: nix::unistd::gethostname().map(|name| name.to_string_lossy().into_owned()).unwrap_or_default(),
        os_user: os_user(),
    }
}

/// The value of `--reason`.
pub(super) fn reason(text: &str) -> Result<String, String> {
    let text = text.trim();
    check_reason(text).map_err(|error| format!("{error}; it goes into the audit: `--reason \"…\"`"))?;
    Ok(text.to_owned())
}

impl Desk {
    /// Finds the running broker, or takes the writer lock.
    pub(super) async fn open(loaded: &Loaded) -> anyhow::Result<Self> {
        owner::check(loaded)?;
        let socket = &loaded.settings.admin_socket;
        if UnixStream::connect(socket).await.is_ok() {
            return Ok(Self::Running(socket.clone()));
        }
        let store = match app::open_store(&loaded.settings).await {
            Ok(store) => store,
            Err(StoreError::Locked) => bail!(
                "a broker holds the database, but does not answer at `{}`: wait until it has started or stopped",
                socket.display()
            ),
            Err(error) => return Err(error.into()),
        };
        app::check_both(&loaded.settings, &*store, SystemClock.now()).await?;
        let settings = app::sequencer_settings(&loaded.settings);
        let (sequencer, task) = Sequencer::start(Arc::clone(&store), Arc::new(SystemClock), settings);
        // nobody at the host lifts a lock of everything
        let book = Book::new(Arc::clone(&store), sequencer.clone(), Arc::new(SystemClock), None);
        Ok(Self::Alone(sequencer, task, store, book))
    }

    /// Returns once the deed is durably recorded.
    ///
    /// # Errors
    /// When it cannot be.
    pub(super) async fn record(&self, deed: Deed) -> anyhow::Result<Receipt> {
        let act = act(deed);
        match self {
            Self::Running(socket) => {
                let answer = call(socket, "POST", "/v1/acts", serde_json::to_vec(&act)?).await?;
                Ok(serde_json::from_slice(&answer)?)
            }
            Self::Alone(sequencer, ..) => sequencer
                .note(act.into_content(), None)
                .await
                .context("the act could not be recorded, so nothing was done"),
        }
    }

    /// Returns once an entry about a kit, with host and user, is durably recorded.
    ///
    /// # Errors
    /// When it cannot be.
    pub(super) async fn note_kit(&self, content: Content) -> anyhow::Result<Receipt> {
        let Act { host, os_user, .. } = act(Deed::default());
        let content = Content { host: Some(host), os_user: Some(os_user), ..content };
        match self {
            Self::Running(socket) => {
                let body =
                    minicbor::to_vec(&content).map_err(|error| anyhow!("the entry cannot be encoded: {error}"))?;
                let answer = call(socket, "POST", "/v1/kits", body).await?;
                Ok(serde_json::from_slice(&answer)?)
            }
            Self::Alone(sequencer, _, store, _) => {
                let register = Register::new(Arc::clone(store), sequencer.clone());
                register.note(content).await.context("this could not be recorded")
            }
        }
    }

    /// The same for the entry of a kit that was made.
    ///
    /// # Errors
    /// When it cannot be, or is another entry.
    pub(super) async fn note_made(&self, content: Content) -> anyhow::Result<KitEntry> {
        let receipt = self.note_kit(content.clone()).await?;
        KitEntry::noted(&content, &receipt).context("the entry tells of no kit that was made")
    }

    /// Records the deed, then does it; a failure is recorded too, with `undone`, what is so then. In this order: nothing is done
    /// that nobody recorded.
    ///
    /// # Errors
    /// When the deed could not be recorded, and so was not done, or failed.
    pub(super) async fn act<T>(
        &self,
        deed: Deed,
        undone: &str,
        done: impl AsyncFnOnce() -> anyhow::Result<T>,
    ) -> anyhow::Result<T> {
        let mut deed = deed;
        if deed.digests.contains_key(CERTIFICATE) || deed.digests.contains_key(ABOUT) {
            // what it says of a CA is taken back by this, should it fail, and nothing of another act
            deed.digests.insert(ACT.to_owned(), HEXLOWER.encode(&entropy::bytes::<16>()?));
        }
        self.record(deed.clone()).await?;
        match done().await {
            Ok(done) => Ok(done),
            Err(error) => {
                let message = format!("{}: failed, {undone}: {error:#}", deed.message);
                let message = message.chars().take(1_000).collect();
                let mut digests = deed.digests.clone();
                if let Some(certificate) = digests.remove(CERTIFICATE).or_else(|| digests.remove(ABOUT)) {
                    // what failed makes no CA known
                    digests.insert(WITHDRAWN.to_owned(), certificate);
                }
                // nor has the cluster make the certificates
                digests.remove(DELEGATED);
                match self.record(Deed { message, digests, ..deed }).await {
                    Ok(_) => Err(error),
                    // the failure itself is what is to be known
                    Err(unrecorded) => Err(anyhow!("{error:#}; nor could this failure be recorded: {unrecorded:#}")),
                }
            }
        }
    }

    /// Lets a running broker load what was changed, and answers what came of it; nothing when none runs.
    pub(super) async fn reload(&self) -> anyhow::Result<Vec<Check>> {
        match self {
            Self::Running(socket) => {
                Ok(serde_json::from_slice(&call(socket, "POST", "/v1/reload", Vec::new()).await?)?)
            }
            Self::Alone(..) => Ok(Vec::new()),
        }
    }

    /// A probe's certificate, PEM, for this certificate request; recorded as any certificate.
    pub(super) async fn probe(
        &self,
        loaded: &Loaded,
        custody: &Arc<Custody>,
        cluster: &ClusterName,
        is_next: bool,
        csr: String,
    ) -> anyhow::Result<String> {
        match self {
            Self::Running(socket) => {
                let request = ProbeRequest { cluster: cluster.to_string(), next: is_next, csr };
                let answer = call(socket, "POST", "/v1/probes", serde_json::to_vec(&request)?).await?;
                Ok(serde_json::from_slice(&answer)?)
            }
            Self::Alone(sequencer, _, store, _) => {
                let press = Press::new(sequencer.clone(), Arc::new(SystemClock));
                let backdate = loaded.settings.backdate;
                let clock = Arc::new(SystemClock);
                let (custody, store) = (Arc::clone(custody), Arc::clone(store));
                let sequencer = sequencer.clone();
                let prober = app::Prober { press, custody, store, clock, backdate, sequencer };
                let clusters = crate::config::load_clusters(&loaded.settings.clusters)?;
                let policies = app::check_policies(&loaded.settings)?;
                let probe = Probe { cluster: cluster.clone(), is_next, csr, os_user: os_user() };
                Ok(prober.probe(&policies, &clusters, &probe).await?)
            }
        }
    }

    /// Ends what was opened, everything recorded.
    pub(super) async fn close(self) {
        if let Self::Alone(sequencer, task, store, book) = self {
            drop((sequencer, store, book));
            let _ = task.await;
        }
    }
}

/// Who runs this command.
pub(super) fn os_user() -> String {
    user_name(nix::unistd::getuid().as_raw())
}

/// For so long a command waits for the broker: longer than any call of its own to a server or to nodes.
const PATIENCE: Duration = Duration::from_secs(120);

/// One request over the admin socket.
pub(super) async fn call(socket: &Path, method: &str, path: &str, body: Vec<u8>) -> anyhow::Result<Bytes> {
    let late = |_| {
        anyhow!(
            "the broker at `{}` gave no answer in {} seconds, and may do yet what it was asked; see whether it stands still, then look at \
             what was done before you try again",
            socket.display(),
            PATIENCE.as_secs()
        )
    };
    tokio::time::timeout(PATIENCE, asked(socket, method, path, body)).await.map_err(late)?
}

async fn asked(socket: &Path, method: &str, path: &str, body: Vec<u8>) -> anyhow::Result<Bytes> {
    let stream = UnixStream::connect(socket).await;
    let stream = stream.map_err(|error| {
        anyhow!("no broker answers at `{}`: {error}; start it with `ichor-broker serve`", socket.display())
    })?;
    let (mut sender, connection) = hyper::client::conn::http1::handshake(TokioIo::new(stream)).await?;
    let connection = tokio::spawn(connection);
    let request = http::Request::builder()
        .method(method)
        .uri(path)
        .header(http::header::HOST, "admin")
        .header(http::header::CONTENT_TYPE, "application/json")
        .body(Full::new(Bytes::from(body)))?;
    let response = sender.send_request(request).await?;
    let status = response.status();
    let body = response.into_body().collect().await?.to_bytes();
    connection.abort();
    if status.is_success() {
        return Ok(body);
    }
    match serde_json::from_slice::<Problem>(&body) {
        Ok(problem) => bail!("the broker answers: {}", problem.detail),
        Err(_) => bail!("the broker answers with status {status}"),
    }
}
