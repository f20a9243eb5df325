//! The broker, in this process, set up the way an operator does it: by the broker's own commands, on a folder of its own.

use std::net::TcpListener;
use std::path::Path;
use std::sync::Arc;

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use clap::Parser as _;
use ichor_broker::app::{LOOK, Parts, Running};
use ichor_broker::cli::Cli;
use ichor_broker::clock::SystemClock;
use ichor_broker::config::Folder;
use ichor_broker::custody::{IdentitySource, Vault};
use ichor_broker::domain::ClusterName;
use ichor_client::tls::Trust;
use url::Url;

use crate::world::{CLIENT, CLUSTER, PROVIDER, World};

/// What the demo has beyond the shipped policies for a small team: operators may be os:admin if one admin approves.
const BREAK_GLASS: &str = r#"
@id("operators-break-the-glass") @approvals("1") @max_ttl("30m") @wait("30m")
permit (principal in Group::"corp/talos-operators", action in [Action::"break-glass:request", Action::"hold:os:admin"], resource)
when { context has reason };

@id("admins-approve")
permit (principal in Group::"corp/talos-admins", action == Action::"break-glass:approve", resource);
"#;

/// A running broker.
pub(crate) struct Broker {
    /// Its public URL.
    pub(crate) url: Url,
    /// What a client believes it by.
    pub(crate) trust: Trust,
    /// The dedicated client CA's certificate, PEM: what nodes are to accept.
    pub(crate) client_ca: String,
    running: Running,
}

// === impl Broker ===

impl Broker {
    /// Returns once the broker serves: provider and cluster declared, a dedicated client CA in the vault.
    pub(crate) async fn start(world: &World) -> anyhow::Result<Self> {
        // Bound before anything is configured, so that the port can stand in the broker's URL.
        let listener = TcpListener::bind(("127.0.0.1", 0))?;
        listener.set_nonblocking(true)?;
        let address = listener.local_addr()?;
        // Plain HTTP, which the broker allows on loopback only: a browser would warn of a certificate it does not know.
        let url = Url::parse(&format!("http://{address}"))?;
        world.register(&format!("http://{address}/oauth/callback/{PROVIDER}"));

        let folder = world.folder().join("broker");
        let dir = folder.to_string_lossy();
        command(&[
            "init",
            &dir,
            "--insecure-identity-beside",
            "--public-url",
            url.as_str(),
            "--listen",
            &address.to_string(),
        ])
        .await?;
        name_provider(&folder, world.provider.issuer())?;
        std::fs::write(folder.join("policies/break-glass.cedar"), BREAK_GLASS)?;
        let facts = world.folder().join("cluster.yaml");
        std::fs::write(&facts, cluster_facts(world))?;
        let facts = facts.to_string_lossy();
        let reason = ["--reason", "the demo", "--dir", dir.as_ref()];
        command(&[&["cluster", "add", CLUSTER, "--from", &facts, "--label", "env=prod"], &reason[..]].concat()).await?;
        command(&[&["ca", "create", CLUSTER], &reason[..]].concat()).await?;

        let loaded = Folder::new(&folder).load()?;
        let vault = Vault::open(&loaded.settings.vault, IdentitySource::DangerBeside)?;
        let client_ca =
            vault.open_ca_file(&ClusterName::new(CLUSTER)?, &format!("{CLUSTER}.age"))?.certificate().pem().to_owned();
        let parts = Parts {
            clock: Arc::new(SystemClock),
            vault,
            listener: Some(listener),
            wrap_store: None,
            accept_clock: true,
            look: LOOK,
        };
        let running = Running::start(&loaded, parts).await?;
        // No TLS is spoken, so nobody needs to be believed; any root does.
        let trust = Trust::CaPem(world.node_ca());
        Ok(Self { url, trust, client_ca, running })
    }

    /// Returns once requests under way have ended and all is recorded.
    pub(crate) async fn stop(self) {
        self.running.stop().await;
    }
}

/// Puts the provider into the folder's `config.toml`.
fn name_provider(folder: &Path, issuer: &str) -> anyhow::Result<()> {
    let path = folder.join("config.toml");
    let mut config = std::fs::read_to_string(&path)?;
    config.push_str(&format!(
        "\n[[provider]]\nalias = \"{PROVIDER}\"\nissuer = \"{issuer}\"\nclient_id = \"{CLIENT}\"\n\
         acr_values = [\"mfa\"]\nmax_age = \"12h\"\n"
    ));
    Ok(std::fs::write(&path, config)?)
}

/// What an operator hands to `cluster add`: a talosconfig without any key.
fn cluster_facts(world: &World) -> String {
    let ca = BASE64_STANDARD.encode(world.node_ca());
    let (endpoints, nodes) = (world.endpoints().join(", "), world.targets.join(", "));
    format!(
        "context: {CLUSTER}\ncontexts:\n  {CLUSTER}:\n    endpoints: [{endpoints}]\n    nodes: [{nodes}]\n    ca: {ca}\n"
    )
}

/// Runs a command of `ichor-broker` in this process.
pub(crate) async fn command(arguments: &[&str]) -> anyhow::Result<()> {
    let cli = Cli::try_parse_from(std::iter::once("ichor-broker").chain(arguments.iter().copied()))?;
    // A command has a runtime of its own, so it cannot run on this one's threads.
    let done = tokio::task::spawn_blocking(move || cli.execute(&mut Vec::new())).await?;
    done.with_context(|| format!("`ichor-broker {}` failed", arguments.join(" ")))
}
