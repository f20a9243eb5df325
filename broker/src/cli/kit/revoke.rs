//! `kit revoke`.

use std::io::Write;
use std::path::{Path, PathBuf};

use clap::Args;
use ichor_wire::log::{Content, Kind};

use super::{Which, all, named, pick};
use crate::cli::ca::read;
use crate::cli::desk::Desk;
use crate::cli::{FolderArg, block_on};
use crate::config::Loaded;
use crate::custody::ca::{self, PatchError, RemovalPatch};
use crate::kit::Standing;

/// `kit revoke`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Revoke {
    #[command(flatten)]
    folder: FolderArg,
    /// The kits, each by its number, or by its id where two have one number.
    #[arg(value_name = "KIT", required = true)]
    kits: Vec<Which>,
    /// Why; it goes into the audit.
    #[arg(long, value_parser = crate::cli::desk::reason)]
    reason: String,
    /// A node's machine config, `-` for standard input: the patches that take the kits' CAs out of it are written and printed, and
    /// leave every other CA that it accepts.
    #[arg(long, value_name = "FILE")]
    machine_config: Option<PathBuf>,
    /// With `--machine-config`: the folder for the patches.
    #[arg(long, value_name = "DIR", default_value = ".", requires = "machine_config")]
    output: PathBuf,
}

/// What takes the kits' CAs out of one node.
struct Removal {
    /// `None`: it accepts none of them.
    patch: Option<RemovalPatch>,
    /// The kits that it does not accept.
    absent: Vec<u16>,
}

impl Revoke {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let known = block_on(all(&loaded))?;
        let mut kits: Vec<&Standing> = Vec::new();
        for which in &self.kits {
            let kit = pick(&known, *which)?;
            if !kits.iter().any(|other| other.id == kit.id) {
                kits.push(kit);
            }
        }
        // what cannot be read is refused before anything is recorded
        let config = self.machine_config.as_deref().map(read).transpose()?;
        let removal = config.map(|config| Removal::of(&config, &kits)).transpose()?;
        block_on(self.record(&loaded, &kits))?;
        for kit in &kits {
            writeln!(
                out,
                "Kit {} is revoked in the log. Nodes trust it until its CA is taken out of each of them.",
                kit.number
            )?;
        }
        match removal {
            Some(removal) => removal.write(&self.output, out)?,
            None => {
                let at = self.folder.said();
                let kits: Vec<String> = self.kits.iter().map(ToString::to_string).collect();
                writeln!(out, "For every node, which prints the command that does it:\n")?;
                writeln!(out, "  talosctl -n NODE get machineconfig v1alpha1 -o jsonpath='{{.spec}}' > node.yaml")?;
                writeln!(
                    out,
                    "  ichor-broker kit revoke {} --reason … --machine-config node.yaml{at}\n",
                    kits.join(" ")
                )?;
            }
        }
        writeln!(
            out,
            "It acts on new connections; open ones go on. node.yaml holds the node's secrets: remove it afterwards."
        )?;
        writeln!(
            out,
            "Whoever held os:admin by such a kit may hold the cluster: then only `talosctl rotate-ca` ends it."
        )?;
        Ok(())
    }

    /// Records each that is not revoked yet.
    async fn record(&self, loaded: &Loaded, kits: &[&Standing]) -> anyhow::Result<()> {
        if kits.iter().all(|kit| kit.revoked.is_some()) {
            return Ok(());
        }
        let desk = Desk::open(loaded).await?;
        for kit in kits.iter().filter(|kit| kit.revoked.is_none()) {
            let content = Content {
                cluster: Some(kit.cluster.clone()),
                kit: Some(named(kit)),
                reason: Some(self.reason.clone()),
                message: Some(format!("kit {} is revoked: nodes are to stop trusting its CA", kit.number)),
                fingerprint: Some(kit.ca.fingerprint().to_vec()),
                ..Content::of(Kind::KitRevoked)
            };
            desk.note_kit(content).await?;
        }
        desk.close().await;
        Ok(())
    }
}

impl Removal {
    fn of(config: &str, kits: &[&Standing]) -> anyhow::Result<Self> {
        let mut absent = Vec::new();
        for kit in kits {
            if !ca::is_accepted(config, &kit.ca.pem())? {
                absent.push(kit.number);
            }
        }
        let pems: Vec<String> = kits.iter().map(|kit| kit.ca.pem()).collect();
        let patch = match ca::removal_patch(config, &pems) {
            // the kits are to end all the same
            Err(PatchError::NotThere) => None,
            made => Some(made?),
        };
        Ok(Self { patch, absent })
    }

    /// Writes the patches into the folder, and prints them and the command that applies them.
    fn write(&self, folder: &Path, out: &mut dyn Write) -> anyhow::Result<()> {
        for number in &self.absent {
            writeln!(out, "This node does not accept kit {number}: there is nothing to take out for it.")?;
        }
        let Some(patch) = &self.patch else { return Ok(()) };
        patch.write(folder)?;
        patch.how(folder).iter().try_for_each(|line| writeln!(out, "{line}"))?;
        for (name, text) in patch.files() {
            writeln!(out, "\n# {name}\n{}", text.trim_end())?;
        }
        writeln!(out)?;
        Ok(())
    }
}
