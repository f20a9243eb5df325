//! What the broker and the client talk to: a provider and two nodes, and a folder that is gone afterwards.

use std::net::{IpAddr, Ipv4Addr};
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use ichor_standins::authority::Authority;
use ichor_standins::node::{Node, NodeOptions};
use ichor_standins::provider::{Client, Provider, ProviderOptions};
use tempfile::TempDir;

use crate::cast;

/// The cluster's name.
pub(crate) const CLUSTER: &str = "demo";

/// The provider's alias at the broker, as the shipped policies name it.
pub(crate) const PROVIDER: &str = "corp";

/// The broker's client id at the provider.
pub(crate) const CLIENT: &str = "ichor-broker";

/// Everything around broker and client.
pub(crate) struct World {
    /// The provider.
    pub(crate) provider: Provider,
    /// The nodes, siblings of each other.
    pub(crate) nodes: [Node; 2],
    /// How calls name the nodes.
    pub(crate) targets: [String; 2],
    folder: TempDir,
}

// === impl World ===

impl World {
    /// Returns once provider and nodes answer.
    pub(crate) async fn start() -> anyhow::Result<Self> {
        let folder = tempfile::Builder::new().prefix("ichor-demo-").tempdir().context("no temporary folder")?;
        let options =
            ProviderOptions { people: cast::ALL.map(cast::Actor::person).into(), ..ProviderOptions::default() };
        let provider = Provider::start(options).await?;
        let authority = Arc::new(Authority::new("talos")?);
        let first = node(&authority, "node-a", 2).await?;
        let second = node(&authority, "node-b", 3).await?;
        Node::join(&[&first, &second]);
        // Where the system has one loopback address only, host names tell the nodes apart.
        let apart = first.address().ip() != second.address().ip();
        let targets = if apart {
            [&first, &second].map(|node| node.address().ip().to_string())
        } else {
            ["node-a", "node-b"].map(str::to_owned)
        };
        Ok(Self { provider, nodes: [first, second], targets, folder })
    }

    /// The demo's folder.
    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Registers the broker at the provider.
    pub(crate) fn register(&self, redirect_uri: &str) {
        self.provider.add_client(Client::public(CLIENT, [redirect_uri]));
    }

    /// Puts a CA certificate (PEM) into `machine.acceptedCAs` of both nodes, as the patch from `ca create` does.
    pub(crate) fn accept(&self, ca: &str) -> anyhow::Result<()> {
        self.nodes.iter().try_for_each(|node| node.set_accepted_cas(ca))
    }

    /// The nodes as endpoints in a talosconfig.
    pub(crate) fn endpoints(&self) -> Vec<String> {
        self.nodes.iter().map(Node::endpoint).collect()
    }

    /// The CA certificate of the nodes' own certificates, PEM.
    pub(crate) fn node_ca(&self) -> String {
        let [first, _] = &self.nodes;
        first.ca_pem()
    }
}

/// A node at 127.0.0.`last`, or at 127.0.0.1 where the system has no other loopback address.
async fn node(authority: &Arc<Authority>, hostname: &str, last: u8) -> anyhow::Result<Node> {
    let at = |last| -> anyhow::Result<NodeOptions> {
        let address = (IpAddr::V4(Ipv4Addr::new(127, 0, 0, last)), 0).into();
        Ok(NodeOptions { authority: Arc::clone(authority), address, ..NodeOptions::new(hostname)? })
    };
    match Node::start(at(last)?).await {
        Ok(node) => Ok(node),
        Err(_) => Node::start(at(1)?).await,
    }
}
