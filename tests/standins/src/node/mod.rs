//! A Talos node as its API shows it: mutual TLS against a list of accepted CAs, roles from the certificate's organization,
//! roles asked for by each method, forwarding to sibling nodes, and machined's access log.
//!
//! It does what apid and machined v1.13 were seen to do, refusals and their wording included. One known difference: a leaf
//! with CA:TRUE is refused here at any rate, where Go lets some pass.

mod access_log;
mod call;
pub mod client;
mod generate;
pub mod grpc;
pub mod messages;
mod methods;
mod services;
mod tls;

#[cfg(test)]
mod tests;

use std::collections::BTreeSet;
use std::convert::Infallible;
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::{Arc, Mutex, Weak};

use anyhow::Context as _;
use hyper_util::rt::{TokioExecutor, TokioIo};
use rustls_pki_types::CertificateDer;
use tokio::net::{TcpListener, TcpStream};
use tokio::task::{AbortHandle, JoinSet};
use tokio_rustls::TlsAcceptor;
use x509_parser::prelude::{FromDer as _, X509Certificate};

use crate::authority::{Authority, Certified, Leaf};
use crate::clock::{self, Now};
use crate::lock;
use access_log::AccessLog;
pub use generate::Making;

/// A running node. Dropping it stops it.
pub struct Node {
    shared: Arc<Shared>,
    task: AbortHandle,
}

/// How a node begins.
pub struct NodeOptions {
    /// Its host name.
    pub hostname: String,
    /// Where it listens; port 0 takes any.
    pub address: SocketAddr,
    /// The cluster's CA (`machine.ca`): signs the node's own certificate, and may sign clients.
    pub authority: Arc<Authority>,
    /// `machine.acceptedCAs`, PEM.
    pub accepted_cas: String,
    /// Roles are enforced.
    pub rbac: bool,
    /// Where log lines go besides memory.
    pub log_file: Option<PathBuf>,
    /// The node's time.
    pub now: Now,
}

struct Shared {
    hostname: String,
    address: SocketAddr,
    authority: Arc<Authority>,
    server: Certified,
    accepted: Mutex<Vec<CertificateDer<'static>>>,
    own_ca_trusted: Mutex<bool>,
    rbac: Mutex<bool>,
    reboots: Mutex<u64>,
    making: Mutex<Making>,
    peers: Mutex<Vec<Weak<Shared>>>,
    refusals: Arc<Mutex<Vec<String>>>,
    log: AccessLog,
    now: Now,
}

// === impl NodeOptions ===

impl NodeOptions {
    /// A node named `hostname` on any port of 127.0.0.1, with a new CA of its own, no further accepted CA, roles enforced,
    /// the machine's time.
    ///
    /// # Errors
    /// When no key can be had.
    pub fn new(hostname: &str) -> anyhow::Result<Self> {
        Ok(Self {
            hostname: hostname.into(),
            address: (Ipv4Addr::LOCALHOST, 0).into(),
            authority: Arc::new(Authority::new("talos")?),
            accepted_cas: String::new(),
            rbac: true,
            log_file: None,
            now: clock::system(),
        })
    }
}

// === impl Node ===

impl Node {
    /// Returns once the node accepts connections.
    ///
    /// # Errors
    /// When the address cannot be had, or `accepted_cas` is not PEM.
    pub async fn start(options: NodeOptions) -> anyhow::Result<Self> {
        crate::install_tls_provider();
        let listener = TcpListener::bind(options.address)
            .await
            .with_context(|| format!("{} cannot be listened on", options.address))?;
        let address = listener.local_addr()?;
        let names = vec![options.hostname.clone(), "localhost".to_owned()];
        let server = options.authority.issue(&Leaf::server(vec![address.ip()], names))?;
        let shared = Arc::new(Shared {
            hostname: options.hostname,
            address,
            authority: options.authority,
            server,
            accepted: Mutex::new(tls::certificates(&options.accepted_cas)?),
            own_ca_trusted: Mutex::new(true),
            rbac: Mutex::new(options.rbac),
            reboots: Mutex::default(),
            making: Mutex::default(),
            peers: Mutex::default(),
            refusals: Arc::default(),
            log: AccessLog::to_file(options.log_file),
            now: options.now,
        });
        let task = tokio::spawn(serve(listener, Arc::clone(&shared))).abort_handle();
        Ok(Self { shared, task })
    }

    /// Where the node listens.
    #[must_use]
    pub fn address(&self) -> SocketAddr {
        self.shared.address
    }

    /// The node as an endpoint in a talosconfig, as `127.0.0.2:41234`.
    #[must_use]
    pub fn endpoint(&self) -> String {
        self.shared.address.to_string()
    }

    /// The CA certificate that the node's own certificate comes from, PEM: what a talosconfig calls `ca`.
    #[must_use]
    pub fn ca_pem(&self) -> String {
        self.shared.authority.certificate()
    }

    /// The cluster's CA, with its key.
    #[must_use]
    pub fn authority(&self) -> &Arc<Authority> {
        &self.shared.authority
    }

    /// Makes `bundle` the whole list of `machine.acceptedCAs`. Acts on new connections only, as on a node.
    ///
    /// # Errors
    /// When `bundle` is not certificates in PEM; the old list stays then.
    pub fn set_accepted_cas(&self, bundle: &str) -> anyhow::Result<()> {
        *lock(&self.shared.accepted) = tls::certificates(bundle)?;
        Ok(())
    }

    /// Whether the cluster's own CA may sign clients; it may at first.
    pub fn set_own_ca_trusted(&self, trusted: bool) {
        *lock(&self.shared.own_ca_trusted) = trusted;
    }

    /// Whether roles are enforced; where not, every certificate is os:admin.
    pub fn set_rbac(&self, enforced: bool) {
        *lock(&self.shared.rbac) = enforced;
    }

    /// What the node does from now on when it is asked for a client certificate.
    pub fn set_making(&self, making: Making) {
        *lock(&self.shared.making) = making;
    }

    /// Makes nodes siblings of each other: each forwards calls for another's address or host name to it.
    pub fn join(nodes: &[&Self]) {
        for node in nodes {
            *lock(&node.shared.peers) = nodes.iter().map(|peer| Arc::downgrade(&peer.shared)).collect();
        }
    }

    /// machined's log so far, a line for each call that reached it.
    #[must_use]
    pub fn log_lines(&self) -> Vec<String> {
        self.shared.log.lines()
    }

    /// Why handshakes were refused so far. A real node tells nobody.
    #[must_use]
    pub fn refusals(&self) -> Vec<String> {
        lock(&self.shared.refusals).clone()
    }

    /// How often the node was told to reboot. It never goes down.
    #[must_use]
    pub fn reboots(&self) -> u64 {
        *lock(&self.shared.reboots)
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.task.abort();
    }
}

// === impl Shared ===

impl Shared {
    /// Whether a call's target means this node.
    fn is_called(&self, target: &str) -> bool {
        target == self.hostname || target == self.address.to_string() || target == self.address.ip().to_string()
    }

    fn trusted(&self) -> anyhow::Result<Vec<CertificateDer<'static>>> {
        let mut trusted = lock(&self.accepted).clone();
        if *lock(&self.own_ca_trusted) {
            trusted.extend(tls::certificates(&self.authority.certificate())?);
        }
        Ok(trusted)
    }
}

async fn serve(listener: TcpListener, node: Arc<Shared>) {
    // Owned by this task, so that stopping the node ends open connections too.
    let mut connections = JoinSet::new();
    loop {
        while connections.try_join_next().is_some() {}
        // A failed accept or handshake is that connection's trouble, not the listener's.
        if let Ok((stream, _)) = listener.accept().await {
            connections.spawn(connection(stream, Arc::clone(&node)));
        }
    }
}

async fn connection(stream: TcpStream, node: Arc<Shared>) -> anyhow::Result<()> {
    stream.set_nodelay(true)?;
    let config = tls::config(&node.server, &node.trusted()?, Arc::clone(&node.now), Arc::clone(&node.refusals))?;
    let stream = TlsAcceptor::from(Arc::new(config)).accept(stream).await?;
    let certificates = stream.get_ref().1.peer_certificates().unwrap_or_default();
    let roles = roles(certificates.first().context("no client certificate")?)?;
    let service = hyper::service::service_fn(move |request| {
        let (node, roles) = (Arc::clone(&node), roles.clone());
        async move { Ok::<_, Infallible>(call::answer(node, roles, request).await) }
    });
    let http = hyper::server::conn::http2::Builder::new(TokioExecutor::new());
    http.serve_connection(TokioIo::new(stream), service).await?;
    Ok(())
}

/// Every O value of the subject, wherever it stands, blanks around it trimmed.
fn roles(certificate: &CertificateDer<'_>) -> anyhow::Result<BTreeSet<String>> {
    let (_, parsed) = X509Certificate::from_der(certificate)?;
    let mut roles = BTreeSet::new();
    for value in parsed.subject().iter_organization() {
        roles.insert(value.as_str().context("an organization is not text")?.trim().to_owned());
    }
    Ok(roles)
}
