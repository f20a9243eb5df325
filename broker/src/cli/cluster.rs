//! `cluster add|list|logging-patch|show`.

use std::collections::BTreeMap;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::sync::Arc;

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use sha2::{Digest, Sha256};

use super::adopt::Adopt;
use super::desk::{Deed, Desk};
use super::reload::print_checks;
use super::{FolderArg, block_on};
use crate::app;
use crate::config::{self, load_clusters, render_cluster};
use crate::custody::ca::ClusterFacts;
use crate::domain::{Cluster, ClusterName};
use crate::durable::{self, Existing};
use crate::regular::{self, Links};

/// Commands on clusters.
#[derive(Debug, Subcommand)]
pub(super) enum ClusterCommand {
    /// Declare a cluster: endpoints, nodes and the public CA certificate are read from any talosconfig or machine config;
    /// no key is taken from it, unless it is adopted.
    Add(Add),
    /// List the clusters.
    List {
        #[command(flatten)]
        folder: FolderArg,
    },
    /// Print the machine config patch by which the cluster's nodes send their logs here.
    LoggingPatch {
        #[command(flatten)]
        folder: FolderArg,
        /// Its name.
        name: String,
        /// Where this broker takes them, as the nodes reach it: `tcp://HOST:PORT` or `udp://HOST:PORT`.
        #[arg(long, value_name = "URL", value_parser = super::logging_patch::endpoint)]
        endpoint: url::Url,
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
    #[arg(long, value_name = "FILE", required_unless_present = "adopt", conflicts_with = "adopt")]
    from: Option<PathBuf>,
    /// A talosconfig of os:admin whose certificate and key are sealed into the vault: with it the cluster's own API makes
    /// the certificates. For clusters whose CA key nobody has at hand. Declares the cluster if it is not declared yet.
    #[arg(long, value_name = "TALOSCONFIG", conflicts_with = "print")]
    adopt: Option<PathBuf>,
    /// With `--adopt`: replace the credential that was adopted before.
    #[arg(long, requires = "adopt")]
    replace: bool,
    /// With `--adopt`: do not call the cluster to see whether the credential works.
    #[arg(long, requires = "adopt")]
    offline: bool,
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
            Self::LoggingPatch { folder, name, endpoint } => {
                super::logging_patch::print(&folder.folder().load()?, &name, &endpoint, out)
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
        if let Some(file) = &self.adopt {
            let text = read(file)?;
            let has_own = !(self.endpoints.is_empty() && self.nodes.is_empty() && self.labels.is_empty());
            let declared = load_clusters(&loaded.settings.clusters)?.get(&name).cloned();
            let (cluster, is_new) = match declared {
                // a command that was ended is run again as it was
                Some(declared) if has_own && *declared == self.described(&name, file, &text)? => (declared, false),
                Some(_) if has_own => {
                    bail!(
                        "cluster `{name}` is declared already; edit its file, and leave `--endpoint`, `--node` and `--label` out"
                    )
                }
                Some(declared) => (declared, false),
                None => (Arc::new(self.described(&name, file, &text)?), true),
            };
            let adopt = Adopt { cluster, is_new, replace: self.replace, offline: self.offline, reason: self.reason };
            return adopt.run(&loaded, file, &text, self.context.as_deref(), out);
        }
        let from = self.from.as_deref().context("name a file with `--from`")?;
        let cluster = self.described(&name, from, &read(from)?)?;
        let text = render_cluster(&cluster);
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
        writeln!(
            out,
            "next: give it a CA with `ichor-broker ca create {name} --reason …` or `ichor-broker ca import {name} --from FILE --reason …`, or let it make \
             certificates itself with `ichor-broker cluster add {name} --adopt TALOSCONFIG`"
        )?;
        // a cluster without a CA is what the next step mends; only other failures are errors here
        let checks: Vec<_> = checks.into_iter().filter(|check| check.name != format!("ca {name}")).collect();
        if checks.iter().any(|check| !check.ok) { print_checks(out, &checks) } else { Ok(()) }
    }
}

impl Add {
    /// The cluster as the file and the options describe it, checked.
    fn described(&self, name: &ClusterName, file: &Path, text: &str) -> anyhow::Result<Cluster> {
        let facts = ClusterFacts::read(text, self.context.as_deref())
            .with_context(|| format!("`{}` tells no cluster", file.display()))?;
        let or = |own: &Vec<String>, told: Vec<String>| if own.is_empty() { told } else { own.clone() };
        let cluster = Cluster {
            name: name.clone(),
            labels: labels(&self.labels)?,
            endpoints: or(&self.endpoints, facts.endpoints),
            nodes: or(&self.nodes, facts.nodes),
            ca: facts.ca_pem,
        };
        if cluster.endpoints.is_empty() {
            bail!("`{}` names no endpoints; give them with `--endpoint`", file.display());
        }
        config::check_cluster(name, &render_cluster(&cluster))?;
        Ok(cluster)
    }
}

fn read(file: &Path) -> anyhow::Result<zeroize::Zeroizing<String>> {
    const MOST: u64 = 4 << 20;
    let text = regular::read_text(file, MOST, Links::Followed).map(zeroize::Zeroizing::new);
    text.with_context(|| format!("cannot read `{}`", file.display()))
}

fn labels(texts: &[String]) -> anyhow::Result<BTreeMap<String, String>> {
    let split = |text: &String| -> anyhow::Result<(String, String)> {
        let (key, value) = text.split_once('=').with_context(|| format!("write the label `{text}` as key=value"))?;
        Ok((key.to_owned(), value.to_owned()))
    };
    texts.iter().map(split).collect()
}

/// Writes a cluster's file, whole or not at all; one that another command made meanwhile stays.
pub(super) fn write_file(path: &Path, text: &str) -> anyhow::Result<()> {
    let written = durable::write(path, text.as_bytes(), Existing::Kept, 0o600);
    written.with_context(|| format!("cannot write `{}`", path.display()))
}
