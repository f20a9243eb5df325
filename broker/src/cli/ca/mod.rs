//! `ca`: one file a command.

mod compromised;
mod create;
mod delegate;
mod export_public;
mod import;
mod keep;
mod probe;
mod record;
mod relocate;
mod retire;
mod rotate;
mod show;
mod target;

use std::io::{Read, Write};
use std::path::{Path, PathBuf};

use anyhow::{Context, anyhow, bail};
use clap::Subcommand;
use zeroize::Zeroizing;

pub(super) use show::{idle, left, leftover};
pub(super) use target::{operator, server_name};

use super::{FolderArg, block_on, vault_key};
use crate::app;
use crate::config::Loaded;
use crate::custody::{Place, ca};
use crate::domain::ClusterName;
use crate::regular::{self, Links, ReadError};

/// Commands on the CAs that sign client certificates.
#[derive(Debug, Subcommand)]
pub(super) enum CaCommand {
    /// Make a dedicated client CA: its key is born in custody; nodes trust it through `machine.acceptedCAs`. Says how they
    /// come to.
    Create(create::Create),
    /// Import the cluster's own CA: from `secrets.yaml`, a control-plane machine config, or certificate and key as PEM. The
    /// key is read from a file or standard input, never from the command line.
    Import(import::Import),
    /// Show the CAs in custody: where they live, subject, kind of key, fingerprints, validity. Opens them.
    Show {
        #[command(flatten)]
        folder: FolderArg,
        /// Only this cluster's.
        cluster: Option<String>,
    },
    /// Replace a cluster's CA without an outage: make a new one beside the old, wait until every node accepts it, put it in
    /// force, and say when the old one may go. Can be ended and taken up again at every step.
    Rotate(rotate::Rotate),
    /// Take former CAs out of custody, or, if it is compromised, the one in force at once.
    Retire(retire::Retire),
    /// Say that the CA that lies in custody is the one that is meant, where it lost its record, an earlier version wrote none, or
    /// the log, of an older backup, does not know it.
    Record(record::RecordCa),
    /// Bring a CA's key to another custody. What nodes accept does not change.
    Move(relocate::Move),
    /// Have the cluster's own API make the certificates, asked with a certificate of os:admin of 15 minutes that this CA signs
    /// when it is needed; or end that.
    Delegate(delegate::Delegate),
    /// Ask nodes whether they accept a cluster's CA, with a certificate of five minutes of the broker's own.
    Probe(probe::Probe),
    /// Print a CA's certificate.
    ExportPublic(export_public::ExportPublic),
    /// Print the patch that makes nodes accept a cluster's CA.
    Patch {
        #[command(flatten)]
        folder: FolderArg,
        /// The cluster.
        cluster: String,
        /// The new CA of a rotation under way.
        #[arg(long)]
        next: bool,
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
        /// The CAs that issued before the one in force, those that were retired as well.
        #[arg(long, conflicts_with = "next")]
        former: bool,
        /// The new CA of a rotation under way.
        #[arg(long)]
        next: bool,
        /// The folder for remove-1.yaml and remove-2.yaml.
        #[arg(long, value_name = "DIR", default_value = ".")]
        output: PathBuf,
    },
}

impl CaCommand {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        match self {
            Self::Create(command) => command.run(out),
            Self::Import(command) => command.run(out),
            Self::Rotate(command) => command.run(out),
            Self::Retire(command) => command.run(out),
            Self::Record(command) => command.run(out),
            Self::Move(command) => command.run(out),
            Self::Delegate(command) => command.run(out),
            Self::Probe(command) => command.run(out),
            Self::ExportPublic(command) => command.run(out),
            Self::Show { folder, cluster } => show::show(&folder.folder().load()?, cluster.as_deref(), out),
            Self::Patch { folder, cluster, next, machine_config } => {
                let which = if next { Which::Next } else { Which::Active };
                let pem = certificate(&folder.folder().load()?, &cluster, which)?;
                if let Some(file) = machine_config
                    && ca::is_accepted(&read(&file)?, &pem)?
                {
                    bail!("this node accepts the CA already; applying the patch again would list it twice");
                }
                write!(out, "{}", ca::apply_patch(&pem)?)?;
                Ok(())
            }
            Self::RemovalPatch { folder, cluster, machine_config, former, next, output } => {
                let loaded = folder.folder().load()?;
                let pems = match (former, next) {
                    (true, _) => match formers(&loaded, &cluster, out)? {
                        none if none.is_empty() => bail!(
                            "there is no certificate of a former CA of cluster `{cluster}`; `ichor-broker ca show {cluster}` tells which CAs \
                             it has, and without `--former` it is about the one in force"
                        ),
                        pems => pems,
                    },
                    (false, true) => vec![certificate(&loaded, &cluster, Which::Next)?],
                    (false, false) => vec![certificate(&loaded, &cluster, Which::Active)?],
                };
                let patch = ca::removal_patch(&read(&machine_config)?, &pems)?;
                patch.write(&output)?;
                patch.how(&output).iter().try_for_each(|line| writeln!(out, "{line}"))?;
                Ok(())
            }
        }
    }
}

/// Which of a cluster's CAs.
enum Which {
    Active,
    Next,
}

/// The certificate of one of the cluster's CAs, PEM.
fn certificate(loaded: &Loaded, cluster: &str, which: Which) -> anyhow::Result<String> {
    let custody = app::custody(loaded, vault_key::vault(&loaded.settings)?)?;
    let cluster = ClusterName::new(cluster)?;
    let record = custody.record(&cluster)?;
    let place = match which {
        Which::Active => &record.active,
        Which::Next => match record.next() {
            Some(next) => next,
            None => bail!("no rotation of cluster `{cluster}` is under way"),
        },
    };
    let found = block_on(async {
        let known = app::known_cas(&loaded.settings).await?;
        Ok(custody.certificate_at(&cluster, place, &known).await?)
    })?;
    Ok(found.pem())
}

/// The certificates of the cluster's CAs that issued before, PEM, as far as they can be read; says of which they cannot.
fn formers(loaded: &Loaded, cluster: &str, out: &mut dyn Write) -> anyhow::Result<Vec<String>> {
    let custody = app::custody(loaded, vault_key::vault(&loaded.settings)?)?;
    let cluster = ClusterName::new(cluster)?;
    let record = custody.record(&cluster)?;
    let known = block_on(async { Ok(app::known_cas(&loaded.settings).await?) })?;
    let at = |place: &Place| block_on(async { Ok(custody.certificate_at(&cluster, place, &known).await?) });
    let mut pems = record.retired.clone();
    // no node lists an adopted credential
    for former in record.former.iter().filter(|former| former.place != Place::TalosApi) {
        match former.certificate.clone().map_or_else(|| at(&former.place).map(|found| found.pem()), Ok) {
            Ok(pem) => pems.push(pem),
            Err(error) => writeln!(out, "the certificate of {} cannot be read: {error}", former.place.said())?,
        }
    }
    // what was imported again issues
    let in_use: Vec<_> = record.in_use().filter_map(|place| at(place).ok()).map(|found| found.pem()).collect();
    pems.retain(|pem| !in_use.contains(pem));
    Ok(pems)
}

/// The value of `--wait`.
fn wait(text: &str) -> Result<std::time::Duration, String> {
    let parsed = text.parse::<jiff::SignedDuration>().ok().filter(|time| !time.is_negative());
    parsed.map(|time| time.unsigned_abs()).ok_or_else(|| "write a duration, as `10m` or `0s`".to_owned())
}

/// The cluster's name, if it is declared: a CA for a misspelt cluster would lie there unused.
pub(super) fn declared(loaded: &Loaded, name: &str) -> anyhow::Result<ClusterName> {
    let name = ClusterName::new(name)?;
    if !crate::config::load_clusters(&loaded.settings.clusters)?.contains_key(&name) {
        bail!(
            "there is no cluster `{name}`; declare it first with `ichor-broker cluster add {name} --from TALOSCONFIG`"
        );
    }
    Ok(name)
}

/// The text of a regular file, or, for `-`, of standard input; at most 4 MiB of either.
pub(super) fn read(path: &Path) -> anyhow::Result<Zeroizing<String>> {
    const MOST: u64 = 4 * 1024 * 1024;
    if path != Path::new("-") {
        return regular::read_text(path, MOST, Links::Followed).map(Zeroizing::new).map_err(|error| {
            let pipe = "; a pipe is read from standard input, as `-`";
            let next = if matches!(error, ReadError::Irregular(_)) { pipe } else { "" };
            anyhow!("cannot read `{}`: {error}{next}", path.display())
        });
    }
    let mut text = Zeroizing::new(String::new());
    std::io::stdin().lock().take(MOST + 1).read_to_string(&mut text).context("cannot read standard input")?;
    if u64::try_from(text.len()).unwrap_or(u64::MAX) > MOST {
        bail!("standard input has more than {MOST} bytes, the most that is read of it");
    }
    Ok(text)
}
