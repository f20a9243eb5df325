//! `ca move`.

use std::io::Write;

use anyhow::bail;
use clap::Args;

use super::keep::digests;
use super::target::{At, Kind};
use crate::app;
use crate::cli::desk::{Deed, Desk};
use crate::cli::{FolderArg, block_on, unlock};
use crate::custody::ca::CaFacts;
use crate::custody::{For, Place, Places};

/// `ca move`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Move {
    #[command(flatten)]
    folder: FolderArg,
    /// The cluster.
    cluster: String,
    /// Where the CA's key is to live.
    #[arg(long, value_enum)]
    to: Kind,
    #[command(flatten)]
    at: At,
    /// Remove the vault's file that held the key. Backups of it stay what they are.
    #[arg(long)]
    remove_old: bool,
    /// Why; it goes into the audit.
    #[arg(long, value_parser = crate::cli::desk::reason)]
    reason: String,
}

impl Move {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let cluster = super::declared(&loaded, &self.cluster)?;
        let custody = app::custody(&loaded, unlock::vault(&loaded.settings)?)?;
        let target = self.at.target(self.to, &loaded)?;
        let servers = self.at.clients(&target, &loaded)?;
        let record = custody.record(&cluster)?;
        if Kind::of(&record.active).is_ok_and(|kind| kind == self.to) {
            bail!("the CA of cluster `{cluster}` lives there already: {}", record.active.said());
        }
        block_on(async {
            let material = custody.material(&cluster).await?;
            let desk = Desk::open(&loaded).await?;
            let deed = Deed {
                ca: true,
                cluster: Some(cluster.to_string()),
                message: format!("cluster `{cluster}`: CA moved from {}", record.active.said()),
                reason: self.reason.clone(),
                digests: digests(&CaFacts::of(material.certificate())),
            };
            let sealer = custody.vault().sealer();
            let settled = desk.act(deed, "the CA lives where it did", async || {
                let places = Places { sealer, servers: &servers };
                let of = For { cluster: &cluster, generation: record.generation, replace: false };
                let settled = places.bring(of, &target, &material).await?;
                record.moved(settled.place.clone()).replace(sealer.dir(), &cluster, &record)?;
                Ok(settled)
            });
            let settled = settled.await?;
            desk.reload().await?;
            settled.remarks.iter().try_for_each(|remark| writeln!(out, "{remark}"))?;
            writeln!(out, "the CA's key now lives in {}", settled.place.said())?;
            match &record.active {
                Place::Age { file } if self.remove_old => {
                    custody.vault().sealer().remove_ca_file(file)?;
                    writeln!(out, "removed {}; backups of it stay what they are", record.active.said())?;
                }
                old => writeln!(out, "the old copy is still there: {}", old.said())?,
            }
            desk.close().await;
            Ok(())
        })
    }
}
