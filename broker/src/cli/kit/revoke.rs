//! `kit revoke`.

use std::io::Write;
use std::path::PathBuf;

use clap::Args;
use ichor_wire::log::{Content, Kind};

use super::{named, one};
use crate::cli::ca::read;
use crate::cli::desk::Desk;
use crate::cli::{FolderArg, block_on};
use crate::custody::ca::{self, PatchError};

/// `kit revoke`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Revoke {
    #[command(flatten)]
    folder: FolderArg,
    /// The kit's number.
    number: u16,
    /// Why; it goes into the audit.
    #[arg(long, value_parser = crate::cli::desk::reason)]
    reason: String,
    /// A node's machine config, `-` for standard input: the patches that take the kit's CA out of it are written, and leave every
    /// other CA that it accepts.
    #[arg(long, value_name = "FILE")]
    machine_config: Option<PathBuf>,
    /// With `--machine-config`: the folder for the patches.
    #[arg(long, value_name = "DIR", default_value = ".", requires = "machine_config")]
    output: PathBuf,
}

impl Revoke {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let kit = block_on(one(&loaded, self.number))?;
        // what cannot be read is refused before anything is recorded
        let config = self.machine_config.as_deref().map(read).transpose()?;
        let patch = config.map(|config| match ca::removal_patch(&config, &kit.ca.pem()) {
            // the kit is to end all the same
            Err(PatchError::NotThere) => Ok(None),
            made => made.map(Some),
        });
        let patch = patch.transpose()?;
        if kit.revoked.is_none() {
            block_on(async {
                let desk = Desk::open(&loaded).await?;
                let content = Content {
                    cluster: Some(kit.cluster.clone()),
                    kit: Some(named(&kit)),
                    reason: Some(self.reason.clone()),
                    message: Some(format!("kit {} is revoked: nodes are to stop trusting its CA", kit.number)),
                    fingerprint: Some(kit.ca.fingerprint().to_vec()),
                    ..Content::of(Kind::KitRevoked)
                };
                desk.note_kit(content).await?;
                desk.close().await;
                anyhow::Ok(())
            })?;
        }
        let (number, at) = (kit.number, self.folder.said());
        writeln!(out, "Kit {number} is revoked in the log. Nodes trust it until its CA is taken out of each of them.")?;
        match patch {
            Some(None) => writeln!(out, "This node does not accept it: there is nothing to take out.")?,
            Some(Some(patch)) => {
                std::fs::write(self.output.join("remove-1.yaml"), &patch.first)?;
                if let Some(second) = &patch.second {
                    std::fs::write(self.output.join("remove-2.yaml"), second)?;
                }
                writeln!(out, "Wrote the patches; {} other CAs stay. Apply both in one command:", patch.kept)?;
                writeln!(out, "  {}", patch.command)?;
            }
            None => {
                writeln!(out, "For every node, which prints the command that does it:\n")?;
                writeln!(out, "  talosctl -n NODE get machineconfig v1alpha1 -o jsonpath='{{.spec}}' > node.yaml")?;
                writeln!(out, "  ichor-broker kit revoke {number} --reason … --machine-config node.yaml{at}\n")?;
            }
        }
        writeln!(
            out,
            "It acts on new connections; open ones go on. node.yaml holds the node's secrets: remove it afterwards."
        )?;
        writeln!(
            out,
            "Whoever held os:admin by this kit may hold the cluster: then only `talosctl rotate-ca` ends it."
        )?;
        Ok(())
    }
}
