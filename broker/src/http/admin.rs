//! The admin socket: commands on the broker's own host tell the running broker what they did, over a 0600 Unix socket.
//!
//! No key material passes here: a command seals new CA keys into the vault by itself (that needs only public recipients) and
//! the broker opens them from there.

use std::collections::BTreeMap;
use std::sync::Arc;

use axum::extract::connect_info::Connected;
use axum::extract::{ConnectInfo, State};
use axum::routing::{get, post};
use axum::serve::IncomingStream;
use axum::{Json, Router};
use bytes::Bytes;
use ichor_wire::api::Receipt;
use ichor_wire::log::{Content, Kind};
use ichor_wire::problem::Code;
use serde::{Deserialize, Serialize};
use tokio::net::UnixListener;
use tokio::sync::{mpsc, oneshot};

use super::admin_locks;
use super::error::ApiError;
use super::layers::{unknown_method, unknown_path};
use crate::audit::Sequencer;
use crate::domain::{ClusterName, check_reason};
use crate::kit::Register;
use crate::lock::Book;
use crate::readiness::{Check, Readiness};

/// An act of an administrator on this host, as it goes into the audit.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Act {
    /// Whether it concerns CA material.
    pub ca: bool,
    /// The cluster concerned.
    #[serde(default)]
    pub cluster: Option<String>,
    /// What was done, one sentence.
    pub message: String,
    /// Why, in the administrator's words.
    pub reason: String,
    /// SHA-256 digests (hex) by name of what was made or written.
    #[serde(default)]
    pub digests: BTreeMap<String, String>,
    /// The host's name.
    pub host: String,
    /// The operating-system user, as the command saw it. The running broker replaces it by the socket's peer.
    pub os_user: String,
}

/// A request to load policies, clusters, CA keys and TLS certificates anew.
#[derive(Debug)]
pub struct Reload {
    /// The operating-system user who asks, where that is known.
    pub by: Option<String>,
    /// Answered when it is done.
    pub done: oneshot::Sender<Vec<Check>>,
}

/// A request for a certificate of the broker's own.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Probe {
    /// The cluster.
    pub cluster: ClusterName,
    /// Whether by the CA that is to take the other's place.
    pub is_next: bool,
    /// The certificate request, PEM.
    pub csr: String,
    /// The operating-system user who has it asked for.
    pub os_user: String,
}

/// A [`Probe`] on its way, answered with the certificate, PEM, or why there is none.
pub type Probing = (Probe, oneshot::Sender<Result<String, String>>);

/// A [`Probe`] as the command sends it.
#[derive(Debug, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct ProbeRequest {
    /// The cluster's name.
    pub cluster: String,
    /// Whether by the CA that is to take the other's place.
    pub next: bool,
    /// The certificate request, PEM.
    pub csr: String,
}

/// The peer of the socket.
#[derive(Clone, Debug)]
pub struct Peer {
    uid: Option<u32>,
}

#[derive(Clone)]
struct Admin {
    sequencer: Sequencer,
    readiness: Arc<Readiness>,
    reload: mpsc::Sender<Reload>,
    probes: mpsc::Sender<Probing>,
    kits: Register,
}

/// The router of the admin socket.
pub fn routes(
    sequencer: Sequencer,
    readiness: Arc<Readiness>,
    reload: mpsc::Sender<Reload>,
    probes: mpsc::Sender<Probing>,
    book: Book,
    kits: Register,
) -> Router {
    Router::new()
        .route("/v1/acts", post(act))
        .route("/v1/kits", post(kit))
        .route("/v1/reload", post(reload_now))
        .route("/v1/probes", post(probe))
        .route("/v1/status", get(status))
        .with_state(Admin { sequencer, readiness, reload, probes, kits })
        .merge(admin_locks::routes(book))
        .fallback(unknown_path)
        .method_not_allowed_fallback(unknown_method)
}

/// Returns once the act is durably recorded.
async fn act(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Json(mut act): Json<Act>,
) -> Result<Json<Receipt>, ApiError> {
    act.os_user = peer.user()?;
    check_reason(&act.reason).map_err(|error| ApiError::new(Code::BadRequest, error.to_string()))?;
    Ok(Json(admin.sequencer.note(act.into_content(), None).await?))
}

/// Returns once an entry about a break-glass kit is durably recorded. The body is its content, CBOR.
async fn kit(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    body: Bytes,
) -> Result<Json<Receipt>, ApiError> {
    let os_user = Some(peer.user()?);
    let bad = |why: String| ApiError::new(Code::BadRequest, why);
    let content: Content = minicbor::decode(&body).map_err(|error| bad(error.to_string()))?;
    check_reason(content.reason.as_deref().unwrap_or_default()).map_err(|error| bad(error.to_string()))?;
    Ok(Json(admin.kits.note(Content { os_user, ..content }).await?))
}

/// Returns once everything that can be loaded anew was tried, with what came of it.
async fn reload_now(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<Peer>,
) -> Result<Json<Vec<Check>>, ApiError> {
    let by = Some(peer.user()?);
    let (done, answer) = oneshot::channel();
    let stopping = || ApiError::new(Code::Unavailable, "the broker is stopping");
    admin.reload.send(Reload { by, done }).await.map_err(|_| stopping())?;
    Ok(Json(answer.await.map_err(|_| stopping())?))
}

/// A certificate of the broker's own, for a key that the command made; recorded as any.
async fn probe(
    State(admin): State<Admin>,
    ConnectInfo(peer): ConnectInfo<Peer>,
    Json(request): Json<ProbeRequest>,
) -> Result<Json<String>, ApiError> {
    let os_user = peer.user()?;
    let bad = |why: String| ApiError::new(Code::BadRequest, why);
    let cluster = ClusterName::new(&request.cluster).map_err(|error| bad(error.to_string()))?;
    let (done, answer) = oneshot::channel();
    let stopping = || ApiError::new(Code::Unavailable, "the broker is stopping");
    let probe = Probe { cluster, is_next: request.next, csr: request.csr, os_user };
    admin.probes.send((probe, done)).await.map_err(|_| stopping())?;
    let answer = answer.await.map_err(|_| stopping())?;
    Ok(Json(answer.map_err(|why| ApiError::new(Code::CustodyUnavailable, why))?))
}

async fn status(State(admin): State<Admin>) -> Json<Vec<Check>> {
    Json(admin.readiness.checks().await)
}

/// The name of an operating-system user, or `uid N` where it has none.
#[must_use]
pub fn user_name(uid: u32) -> String {
    let user = nix::unistd::User::from_uid(nix::unistd::Uid::from_raw(uid));
    user.ok().flatten().map_or_else(|| format!("uid {uid}"), |user| user.name)
}

impl Act {
    /// The act as an entry's content.
    #[must_use]
    pub fn into_content(self) -> Content {
        Content {
            cluster: self.cluster,
            message: Some(self.message),
            reason: Some(self.reason),
            digests: Some(self.digests),
            os_user: Some(self.os_user),
            host: Some(self.host),
            ..Content::of(if self.ca { Kind::Ca } else { Kind::Admin })
        }
    }
}

impl Peer {
    /// The name of the operating-system user.
    pub(super) fn user(&self) -> Result<String, ApiError> {
        let uid = self.uid.ok_or_else(|| ApiError::new(Code::BadRequest, "the socket does not tell who calls"))?;
        Ok(user_name(uid))
    }
}

impl Connected<IncomingStream<'_, UnixListener>> for Peer {
    fn connect_info(stream: IncomingStream<'_, UnixListener>) -> Self {
        Self { uid: stream.io().peer_cred().ok().map(|peer| peer.uid()) }
    }
}
