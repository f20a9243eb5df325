//! `ca move`.

use std::io::Write;

use anyhow::bail;
use clap::Args;

use super::keep::{about, leave, put, taken_up, tried};
use super::target::{At, Kind};
use crate::app;
use crate::cli::desk::{Deed, Desk};
use crate::cli::{FolderArg, block_on, vault_key};
use crate::custody::ca::CaFacts;
use crate::custody::{Aside, For, Place, Places};

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
        let custody = app::custody(&loaded, vault_key::vault(&loaded.settings)?)?;
        let target = self.at.target(self.to, &loaded)?;
        let servers = self.at.clients(&target, &loaded)?;
        let record = custody.record(&cluster)?;
        if Kind::of(&record.active).is_ok_and(|kind| kind == self.to) {
            bail!("the CA of cluster `{cluster}` lives there already: {}", record.active.said());
        }
        if self.remove_old && record.active.file().is_none() {
            bail!(
                "`--remove-old` removes a file of the vault, and the CA lives in {}; move it without, then remove it there",
                record.active.said()
            );
        }
        block_on(async {
            let known = &app::known_cas(&loaded.settings).await?;
            let material = custody.material(&cluster, known).await?;
            let desk = Desk::open(&loaded).await?;
            let deed = Deed {
                ca: true,
                cluster: Some(cluster.to_string()),
                message: format!("cluster `{cluster}`: CA moved from {}", record.active.said()),
                reason: self.reason.clone(),
                digests: about(&CaFacts::of(material.certificate()), Some(&record.active)),
            };
            let undone = "the CA lives where it did";
            let sealer = custody.vault().sealer();
            let settled = desk.act(deed.clone(), undone, async || {
                let places = Places { sealer, servers: &servers, known };
                let of = For { cluster: &cluster, generation: record.generation, replace: false, awaited: None };
                let settled = places.bring(of, &target, &material).await?;
                let tried = tried(&custody, &cluster, &settled.place, known).await;
                tried.inspect_err(|_| leave(sealer, &cluster, &record, &settled.place))?;
                let message = format!("{} to {}", deed.message, settled.place.said());
                let moved = async || {
                    let after = record.moved(settled.place.clone());
                    Ok(put(sealer, &cluster, &settled.place, &after, &record)?)
                };
                let digests = about(&CaFacts::of(material.certificate()), Some(&settled.place));
                desk.act(Deed { message, digests, ..deed.clone() }, undone, moved).await?;
                Ok(settled)
            });
            let settled = settled.await?;
            // out of the way first, so that the broker opens the new one or none
            let aside = match &record.active {
                Place::Age { file } => sealer.set_aside(file, Aside::Moved)?,
                _ => None,
            };
            let taken = taken_up(&cluster, desk.reload().await?);
            settled.remarks.iter().try_for_each(|remark| writeln!(out, "{remark}"))?;
            writeln!(out, "the CA's key now lives in {}", settled.place.said())?;
            let is_taken = taken.is_ok();
            match &taken {
                Ok(true) => writeln!(out, "the running broker has taken it up")?,
                Ok(false) => writeln!(out, "no broker runs on this folder; the next start takes it up")?,
                Err(_) => {}
            }
            match (&record.active, aside) {
                (Place::Age { file }, _) if self.remove_old && is_taken => {
                    sealer.remove_ca_file(file)?;
                    writeln!(out, "removed {}; backups of it stay what they are", record.active.said())?;
                }
                (_, Some(aside)) => writeln!(
                    out,
                    "the old copy, with the key, lies set aside at `{0}`; remove it once the new one was seen to work: rm {0}",
                    aside.display()
                )?,
                (old, None) => {
                    let removal = old.removal().unwrap_or_default();
                    writeln!(
                        out,
                        "the old copy is still there, {}; once the new one was seen to work, remove it with a token that may: {removal}",
                        old.said()
                    )?;
                }
            }
            desk.close().await;
            // by the record it has moved, and the broker that runs would not go on after a restart
            taken
                .map(drop)
                .map_err(|why| anyhow::anyhow!("moved, but keep the old copy until the broker uses the new one. {why}"))
        })
    }
}
