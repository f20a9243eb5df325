//! `cluster add|list|show`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use sha2::{Digest, Sha256};

use super::desk::{Deed, Desk};
use super::reload::print_checks;
use super::{FolderArg, block_on};
use crate::app;
use crate::config::{self, load_clusters, render_cluster};
use crate::custody::ca::ClusterFacts;
use crate::domain::{Cluster, ClusterName};

/// Commands on clusters.
#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// Declare a cluster: endpoints, nodes and the public CA certificate are read from any talosconfig or machine config;
    /// no key is taken from it.
    Add(Add),
    /// List the clusters.
    List {
        #[command(flatten)]
        folder: FolderArg,
    },
    /// Show one cluster.
    Show {
        #[command(flatten)]
        folder: FolderArg,
        /// Its name.
        name: String,
    },
}

/// `cluster add`.
#[derive(Debug, Args)]
pub(super) struct Add {
    #[command(flatten)]
    folder: FolderArg,
    /// Its name, `[a-z0-9-]+`.
    name: String,
    /// A talosconfig or machine config to read from.
    #[arg(long, value_name = "FILE")]
    from: PathBuf,
    /// The context of the talosconfig; the current one unless given.
    #[arg(long)]
    context: Option<String>,
    /// An endpoint instead of those in the file. May be given again.
    #[arg(long = "endpoint", value_name = "HOST[:PORT]")]
    endpoints: Vec<String>,
    /// A default node instead of those in the file. May be given again.
    #[arg(long = "node", value_name = "HOST")]
    nodes: Vec<String>,
    /// A label that policies speak of, as `env=prod`. May be given again.
    #[arg(long = "label", value_name = "KEY=VALUE")]
    labels: Vec<String>,
    /// Why; it goes into the audit.
    #[arg(long, value_parser = super::desk::reason)]
    reason: String,
    /// Print the file instead of writing it, for a config folder that lives in Git.
    #[arg(long)]
    print: bool,
}

impl ClusterCommand {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        match self {
            Self::Add(command) => command.run(out),
            Self::List { folder } => {
                let loaded = folder.folder().load()?;
                let clusters = load_clusters(&loaded.settings.clusters)?;
                if clusters.is_empty() {
                    writeln!(out, "no clusters yet: run `ichor-broker cluster add`")?;
                }
                for cluster in clusters.values() {
                    let labels: Vec<_> = cluster.labels.iter().map(|(k, v)| format!("{k}={v}")).collect();
                    writeln!(out, "{}\t{}\t{}", cluster.name, cluster.endpoints.join(","), labels.join(","))?;
                }
                Ok(())
            }
            Self::Show { folder, name } => {
                let loaded = folder.folder().load()?;
                let name = ClusterName::new(&name)?;
                let clusters = load_clusters(&loaded.settings.clusters)?;
                let Some(cluster) = clusters.get(&name) else {
                    bail!("there is no cluster `{name}`; `ichor-broker cluster list` names them")
                };
                write!(out, "{}", render_cluster(cluster))?;
                Ok(())
            }
        }
    }
}

impl Add {
    fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let name = ClusterName::new(&self.name)?;
        let text = std::fs::read_to_string(&self.from)
            .map(zeroize::Zeroizing::new)
            .with_context(|| format!("cannot read `{}`", self.from.display()))?;
        let facts = ClusterFacts::read(&text, self.context.as_deref())
            .with_context(|| format!("`{}` tells no cluster", self.from.display()))?;
        let cluster = Cluster {
            name: name.clone(),
            labels: labels(&self.labels)?,
            endpoints: if self.endpoints.is_empty() { facts.endpoints } else { self.endpoints },
            nodes: if self.nodes.is_empty() { facts.nodes } else { self.nodes },
            ca: facts.ca_pem,
        };
        if cluster.endpoints.is_empty() {
            bail!("`{}` names no endpoints; give them with `--endpoint`", self.from.display());
        }
        let text = render_cluster(&cluster);
        config::check_cluster(&name, &text)?;
        if self.print {
            write!(out, "{text}")?;
            return Ok(());
        }
        let path = loaded.settings.clusters.join(format!("{name}.toml"));
        if path.exists() {
            bail!("`{}` exists; edit that file, or remove it first", path.display());
        }
        // policies that cannot be loaded are `check`'s to tell
        let warnings =
            app::check_policies(&loaded.settings).map(|set| set.missing_labels(&cluster)).unwrap_or_default();
        let digest = data_encoding::HEXLOWER.encode(&Sha256::digest(text.as_bytes()));
        let deed = Deed {
            ca: false,
            cluster: Some(name.to_string()),
            message: format!("cluster `{name}` declared"),
            reason: self.reason,
            digests: BTreeMap::from([(format!("clusters/{name}.toml"), digest)]),
        };
        let checks = block_on(async {
            let desk = Desk::open(&loaded).await?;
            desk.record(deed).await?;
            write_file(&path, &text)?;
            let checks = desk.reload().await;
            desk.close().await;
            checks
        })?;
        writeln!(out, "wrote `{}`", path.display())?;
        for warning in &warnings {
            writeln!(out, "warning: {warning}; give it one under [labels] in that file")?;
        }
        writeln!(out, "next: give it a CA with `ichor-broker ca create {name}` or `ichor-broker ca import {name}`")?;
        // a cluster without a CA is what the next step mends; only other failures are errors here
        let checks: Vec<_> = checks.into_iter().filter(|check| check.name != format!("ca {name}")).collect();
        if checks.iter().any(|check| !check.ok) { print_checks(out, &checks) } else { Ok(()) }
    }
}

fn labels(texts: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let split = |text: &String| -> anyhow::Result<(String, String)> {
        let (key, value) = text.split_once('=').with_context(|| format!("write the label `{text}` as key=value"))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    texts.iter().map(split).collect()
}

/// Written beside, synced, renamed.
fn write_file(path: &Path, text: &str) -> anyhow::Result<()> {
    let folder = path.parent().context("the file has no folder")?;
    let mut file = tempfile::Builder::new().prefix(".cluster-").tempfile_in(folder)?;
    file.write_all(text.as_bytes())?;
    file.as_file().sync_all()?;
    file.persist(path)?;
    std::fs::File::open(folder)?.sync_all()?;
    Ok(())
}
