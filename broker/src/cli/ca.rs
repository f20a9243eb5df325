//! `ca create|import|show|patch|removal-patch`.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use clap::{Args, Subcommand};
use zeroize::Zeroizing;

use super::desk::{Deed, Desk};
use super::reload::print_checks;
use super::{FolderArg, block_on, unlock};
use crate::clock::{Clock, SystemClock};
use crate::config::Loaded;
use crate::custody::ca::{self, CaMaterial};
use crate::domain::ClusterName;

/// Commands on the CAs that sign client certificates.
#[derive(Debug, Subcommand)]
pub(super) enum CaCommand {
    /// Make a dedicated client CA: its key is born in the vault; nodes trust it through `machine.acceptedCAs`. Prints the
    /// patch that makes them.
    Create(Create),
    /// Import the cluster's own CA: from `secrets.yaml`, a control-plane machine config, or certificate and key as PEM. The
    /// key is read from a file or standard input, never from the command line.
    Import(Import),
    /// Show the CAs in custody: subject, kind of key, fingerprints, validity. Opens the vault.
    Show {
        #[command(flatten)]
        folder: FolderArg,
        /// Only this cluster's.
        cluster: Option<String>,
    },
    /// Print the patch that makes nodes accept a cluster's CA.
    Patch {
        #[command(flatten)]
        folder: FolderArg,
        /// The cluster.
        cluster: String,
        /// A node's machine config: says so and prints nothing if the node accepts the CA already.
        #[arg(long, value_name = "FILE")]
        machine_config: Option<PathBuf>,
    },
    /// Write the two patches that take a cluster's CA out of a node's `machine.acceptedCAs` and keep everybody else's.
    RemovalPatch {
        #[command(flatten)]
        folder: FolderArg,
        /// The cluster.
        cluster: String,
        /// The node's machine config, as `talosctl -n NODE get machineconfig v1alpha1 -o jsonpath='{.spec}'` prints it.
        #[arg(long, value_name = "FILE")]
        machine_config: PathBuf,
        /// The folder for remove-1.yaml and remove-2.yaml.
        #[arg(long, value_name = "DIR", default_value = ".")]
        output: PathBuf,
    },
}

/// `ca create`.
#[derive(Debug, Args)]
pub(super) struct Create {
    #[command(flatten)]
    folder: FolderArg,
    /// The cluster.
    cluster: String,
    /// How many years the CA lasts, 1 to 10.
    #[arg(long, default_value_t = ca::DEFAULT_YEARS)]
    years: u16,
    /// Why; it goes into the audit.
    #[arg(long, value_parser = super::desk::reason)]
    reason: String,
    /// Replace the CA that is in custody. Nodes go on to accept certificates of the old one until it is removed there.
    #[arg(long)]
    replace: bool,
}

/// `ca import`.
#[derive(Debug, Args)]
pub(super) struct Import {
    #[command(flatten)]
    folder: FolderArg,
    /// The cluster.
    cluster: String,
    /// The file; `-` reads standard input. Certificate and key in two files: give the option twice.
    #[arg(long, value_name = "FILE", required = true)]
    from: Vec<PathBuf>,
    /// Why; it goes into the audit.
    #[arg(long, value_parser = super::desk::reason)]
    reason: String,
    /// Replace the CA that is in custody.
    #[arg(long)]
    replace: bool,
}

impl CaCommand {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        match self {
            Self::Create(command) => command.run(out),
            Self::Import(command) => command.run(out),
            Self::Show { folder, cluster } => show(&folder.folder().load()?, cluster.as_deref(), out),
            Self::Patch { folder, cluster, machine_config } => {
                let pem = certificate(&folder.folder().load()?, &cluster)?;
                let config = machine_config.as_deref().map(read).transpose()?;
                if config.is_some_and(|config| ca::is_accepted(&config, &pem).is_ok_and(|accepted| accepted)) {
                    bail!("this node accepts the CA already; applying the patch again would list it twice");
                }
                write!(out, "{}", ca::apply_patch(&pem)?)?;
                Ok(())
            }
            Self::RemovalPatch { folder, cluster, machine_config, output } => {
                let pem = certificate(&folder.folder().load()?, &cluster)?;
                let patch = ca::removal_patch(&read(&machine_config)?, &pem)?;
                std::fs::write(output.join("remove-1.yaml"), &patch.first)?;
                if let Some(second) = &patch.second {
                    std::fs::write(output.join("remove-2.yaml"), second)?;
                }
                writeln!(out, "wrote the patches; {} other CAs stay. Apply both in one command:", patch.kept)?;
                writeln!(out, "  {}", patch.command)?;
                Ok(())
            }
        }
    }
}

impl Create {
    fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let cluster = declared(&loaded, &self.cluster)?;
        let material = ca::create(&cluster, SystemClock.now(), self.years)?;
        let message = format!("dedicated client CA made for cluster `{cluster}`");
        let pem = material.certificate().pem().to_owned();
        keep(&loaded, &cluster, &material, message, self.reason, self.replace)?;
        write!(out, "{}", ca::created_text(&cluster, &pem, &self.folder.said())?)?;
        Ok(())
    }
}

impl Import {
    fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let cluster = declared(&loaded, &self.cluster)?;
        let mut text = Zeroizing::new(String::new());
        for path in &self.from {
            text.push_str(&read(path)?);
            text.push('\n');
        }
        let (material, kind) = ca::import(&text, SystemClock.now())?;
        let facts = material.facts();
        let message = format!("CA imported for cluster `{cluster}` from {kind}");
        keep(&loaded, &cluster, &material, message, self.reason, self.replace)?;
        writeln!(
            out,
            "imported from {kind}: {} ({}), valid until {}",
            facts.subject, facts.algorithm, facts.not_after
        )?;
        writeln!(out, "certificate sha256 {}", facts.fingerprint)?;
        writeln!(
            out,
            "this is the cluster's own CA: whoever takes it from the vault has the cluster until `talosctl rotate-ca`"
        )?;
        Ok(())
    }
}

/// Records the act, then seals the CA, then lets a running broker open it. In this order: a CA that nobody recorded never
/// comes to be; an entry whose sealing failed is followed by another that says so.
fn keep(
    loaded: &Loaded,
    cluster: &ClusterName,
    material: &CaMaterial,
    message: String,
    reason: String,
    replace: bool,
) -> anyhow::Result<()> {
    let sealer = unlock::sealer(&loaded.settings)?;
    if !replace && sealer.list()?.cas.iter().any(|name| name == cluster.as_str()) {
        bail!(
            "cluster `{cluster}` has a CA in custody; `--replace` replaces it, and nodes must then be told of the new one"
        );
    }
    let facts = material.facts();
    let digests = BTreeMap::from([
        ("certificate".to_owned(), facts.fingerprint),
        ("public key".to_owned(), facts.key_fingerprint),
    ]);
    let deed = Deed { ca: true, cluster: Some(cluster.to_string()), message, reason, digests };
    let checks = block_on(async {
        let desk = Desk::open(loaded).await?;
        desk.record(deed.clone()).await?;
        if let Err(error) = sealer.seal_ca(cluster, material, replace) {
            let message = format!("{}: failed, nothing was sealed: {error}", deed.message);
            desk.record(Deed { message, ..deed }).await?;
            return Err(error.into());
        }
        let checks = desk.reload().await;
        desk.close().await;
        checks
    })?;
    let own = format!("ca {cluster}");
    let checks: Vec<_> = checks.into_iter().filter(|check| check.name == own).collect();
    print_checks(&mut std::io::sink(), &checks).with_context(|| match checks.first() {
        Some(check) => check.detail.clone().unwrap_or_default(),
        None => String::new(),
    })
}

fn show(loaded: &Loaded, only: Option<&str>, out: &mut dyn Write) -> anyhow::Result<()> {
    let vault = unlock::vault(&loaded.settings)?;
    let names = vault.list()?.cas;
    let names: Vec<_> = names.iter().filter(|name| only.is_none_or(|only| only == name.as_str())).collect();
    if names.is_empty() {
        bail!("no such CA in custody; `ichor-broker ca create` or `ca import` brings one");
    }
    for name in names {
        let facts = vault.open_ca(&ClusterName::new(name)?)?.facts();
        writeln!(out, "{name}: {} ({})", facts.subject, facts.algorithm)?;
        writeln!(out, "  valid {} to {}", facts.not_before, facts.not_after)?;
        writeln!(out, "  certificate sha256 {}\n  public key sha256  {}", facts.fingerprint, facts.key_fingerprint)?;
    }
    Ok(())
}

/// The cluster's CA certificate, PEM.
fn certificate(loaded: &Loaded, cluster: &str) -> anyhow::Result<String> {
    let vault = unlock::vault(&loaded.settings)?;
    Ok(vault.open_ca(&ClusterName::new(cluster)?)?.certificate().pem())
}

/// The cluster's name, if it is declared: a CA for a misspelt cluster would lie there unused.
fn declared(loaded: &Loaded, name: &str) -> anyhow::Result<ClusterName> {
    let name = ClusterName::new(name)?;
    if !crate::config::load_clusters(&loaded.settings.clusters)?.contains_key(&name) {
        bail!(
            "there is no cluster `{name}`; declare it first with `ichor-broker cluster add {name} --from TALOSCONFIG`"
        );
    }
    Ok(name)
}

fn read(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    const MOST: u64 = 4 * 1024 * 1024;
    let mut text = Zeroizing::new(String::new());
    let read = if path == Path::new("-") {
        std::io::stdin().lock().take(MOST).read_to_string(&mut text)
    } else {
        std::fs::File::open(path).and_then(|file| file.take(MOST).read_to_string(&mut text))
    };
    read.with_context(|| format!("cannot read `{}`", path.display()))?;
    Ok(text)
}
