//! Asks nodes whether they accept a CA, with a certificate of the broker's own.

use std::fmt;
use std::io::Write;
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::Args;

use crate::app;
use crate::cli::desk::Desk;
use crate::cli::{FolderArg, block_on, vault_key};
use crate::clock::{SharedClock, SystemClock};
use crate::config::{Loaded, load_clusters};
use crate::custody::{Custody, StandingCredential};
use crate::domain::ClusterName;
use crate::issuer::talos_api::EndpointError;

/// Which nodes are asked.
#[derive(Clone, Debug, Args)]
pub(super) struct Nodes {
    /// A node to ask, reached from here; give it for each. Unless given, the cluster's endpoints and nodes.
    #[arg(long = "node", value_name = "ADDRESS")]
    nodes: Vec<String>,
}

/// `ca probe`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Probe {
    #[command(flatten)]
    folder: FolderArg,
    /// The cluster.
    cluster: String,
    #[command(flatten)]
    nodes: Nodes,
    /// Ask about the new CA of a rotation under way.
    #[arg(long)]
    next: bool,
}

/// Whom to ask with what.
pub(super) struct Probing<'a> {
    pub(super) loaded: &'a Loaded,
    pub(super) custody: &'a Arc<Custody>,
    pub(super) cluster: &'a ClusterName,
    pub(super) desk: &'a Desk,
}

/// What a node made of the probe.
pub(super) struct Answer {
    pub(super) node: String,
    pub(super) is_accepted: bool,
    /// It says that it does not trust the CA.
    is_refused: bool,
    why: String,
}

impl Probe {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let cluster = super::declared(&loaded, &self.cluster)?;
        let custody = Arc::new(app::custody(&loaded, vault_key::vault(&loaded.settings)?)?);
        let nodes = self.nodes.named(&loaded, &cluster)?;
        let answers = block_on(async {
            let desk = Desk::open(&loaded).await?;
            let probing = Probing { loaded: &loaded, custody: &custody, cluster: &cluster, desk: &desk };
            let answers = probing.ask(&nodes, self.next).await;
            desk.close().await;
            answers
        })?;
        answers.iter().try_for_each(|answer| writeln!(out, "{answer}"))?;
        if answers.iter().any(|answer| !answer.is_accepted) {
            if !answers.iter().any(|answer| answer.is_refused) {
                bail!(
                    "not every node could be asked, and none that was refuses the CA; see that they can be reached from here"
                );
            }
            bail!(
                "not every node accepts the CA; apply what `ichor-broker ca patch {cluster}` prints, or, if it was imported \
                 and the cluster's CA was rotated since, import the new one"
            );
        }
        Ok(())
    }
}

impl Nodes {
    pub(super) fn is_empty(&self) -> bool {
        self.nodes.is_empty()
    }

    /// The nodes named, or the cluster's.
    pub(super) fn named(&self, loaded: &Loaded, cluster: &ClusterName) -> anyhow::Result<Vec<String>> {
        if !self.nodes.is_empty() {
            return Ok(self.nodes.clone());
        }
        let clusters = load_clusters(&loaded.settings.clusters)?;
        Ok(app::addresses(clusters.get(cluster).context("the cluster is not declared")?))
    }
}

impl Probing<'_> {
    /// What each node makes of a new certificate of the CA in force, or of the one that is to be.
    pub(super) async fn ask(&self, nodes: &[String], is_next: bool) -> anyhow::Result<Vec<Answer>> {
        let (key, csr) = app::request()?;
        let certificate = self.desk.probe(self.loaded, self.custody, self.cluster, is_next, csr).await?;
        let credential = StandingCredential::of_any_role(&certificate, &key)?;
        let clusters = load_clusters(&self.loaded.settings.clusters)?;
        let cluster = clusters.get(self.cluster).context("the cluster is not declared")?;
        let clock: SharedClock = Arc::new(SystemClock);
        Ok(app::ask(cluster, nodes, credential, &clock).await?.into_iter().map(Answer::of).collect())
    }
}

impl Answer {
    fn of(app::Answer { node, outcome }: app::Answer) -> Self {
        let why = match &outcome {
            Ok(_) => "accepts it".to_owned(),
            Err(EndpointError::Untrusted) => "does not accept it".to_owned(),
            Err(EndpointError::Expired) => {
                "holds it for not yet valid or expired: correct the node's clock, or this host's".to_owned()
            }
            Err(error) => error.to_string(),
        };
        let is_refused = matches!(outcome, Err(EndpointError::Untrusted));
        Self { node, is_accepted: outcome.is_ok(), is_refused, why }
    }
}

impl fmt::Display for Answer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.node, self.why)
    }
}
