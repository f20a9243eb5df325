//! `ca retire`, `ca move` and `ca export-public`.

use std::io::Write;

use anyhow::bail;
use clap::Args;

use super::keep::{act, digests};
use super::target::{At, Kind};
use crate::app;
use crate::cli::desk::{Deed, Desk};
use crate::cli::{FolderArg, block_on, unlock};
use crate::clock::{Clock, SystemClock};
use crate::custody::ca::CaFacts;
use crate::custody::{For, Place, Places};

/// `ca retire`.
#[derive(Debug, Args)]
pub(in crate::cli) struct Retire {
    #[command(flatten)]
    folder: FolderArg,
    /// The cluster.
    cluster: String,
    /// The CA in force may be in strangers' hands: it issues no more from now on. The new CA of a rotation takes its place
    /// at once; without one, nothing is issued for the cluster until there is.
    #[arg(long)]
    compromised: bool,
    /// Why; it goes into the audit.
    #[arg(long, value_parser = crate::cli::desk::reason)]
    reason: String,
}

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

/// `ca export-public`.
#[derive(Debug, Args)]
pub(in crate::cli) struct ExportPublic {
    #[command(flatten)]
    folder: FolderArg,
    /// The cluster.
    cluster: String,
    /// Also the certificates of CAs that issued before.
    #[arg(long)]
    former: bool,
}

impl Retire {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let cluster = super::declared(&loaded, &self.cluster)?;
        let custody = app::custody(&loaded, unlock::vault(&loaded.settings)?)?;
        let (dir, now) = (custody.vault().sealer().dir(), SystemClock.now());
        let record = custody.record(&cluster)?;
        block_on(async {
            let desk = Desk::open(&loaded).await?;
            let deed = |message: String| Deed {
                ca: true,
                cluster: Some(cluster.to_string()),
                message: format!("cluster `{cluster}`: {message}"),
                reason: self.reason.clone(),
                ..Deed::default()
            };
            if self.compromised {
                let next = record.rotation.as_ref().map_or(Place::Retired, |rotation| rotation.next.clone());
                // the certificate is wanted for the removal, and its custody may be what is lost
                let certificate = custody.certificate(&cluster).await.ok().map(|certificate| certificate.pem());
                let place = record.active.said();
                desk.record(deed(format!("CA retired as compromised: {place}; from now on: {}", next.said()))).await?;
                record.compromised_by(next.clone(), now, certificate).replace(dir, &cluster, &record)?;
                desk.reload().await?;
                writeln!(out, "{place} issues no more; from now on: {}", next.said())?;
                writeln!(
                    out,
                    "Certificates it signed, and any a stranger signs with it, work until the nodes stop to accept it."
                )?;
                writeln!(out, "Take it out of every node now; for each node:")?;
            } else {
                let Some(former) = record.former.last() else {
                    bail!("no former CA of cluster `{cluster}` is left; `--compromised` retires the one in force");
                };
                let until = former.until.saturating_add(loaded.settings.max_ttl).unwrap_or(former.until);
                if until > now {
                    bail!("certificates of the former CA may be valid until {until}; retire it after that");
                }
                let places: Vec<_> = record.former.iter().map(|former| former.place.clone()).collect();
                let said: Vec<_> = places.iter().map(Place::said).collect();
                desk.record(deed(format!("former CAs retired: {}", said.join(", ")))).await?;
                for place in &places {
                    match place {
                        Place::Age { file } => {
                            custody.vault().sealer().remove_ca_file(file)?;
                            writeln!(out, "removed {}", place.said())?;
                        }
                        Place::Retired | Place::TalosApi => {}
                        place => writeln!(out, "remove it at the server, with a token that may: {}", place.said())?,
                    }
                }
                record.without_former().replace(dir, &cluster, &record)?;
                writeln!(out, "If a node still accepts one of them, take it out there; for each such node:")?;
            }
            writeln!(out, "  talosctl -n NODE get machineconfig v1alpha1 -o jsonpath='{{.spec}}' > node.yaml")?;
            let at = self.folder.said();
            writeln!(out, "  ichor-broker ca removal-patch {cluster} --former --machine-config node.yaml{at}")?;
            desk.close().await;
            Ok(())
        })
    }
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
            desk.record(deed.clone()).await?;
            let places = Places { sealer: custody.vault().sealer(), servers: &servers };
            let of = For { cluster: &cluster, generation: record.generation, replace: false };
            let settled = act(&desk, &deed, places.bring(of, &target, &material).await).await?;
            record.moved(settled.place.clone()).replace(custody.vault().sealer().dir(), &cluster, &record)?;
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

impl ExportPublic {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        let loaded = self.folder.folder().load()?;
        let cluster = super::declared(&loaded, &self.cluster)?;
        let custody = app::custody(&loaded, unlock::vault(&loaded.settings)?)?;
        let certificate = block_on(async { Ok(custody.certificate(&cluster).await?) })?;
        write!(out, "{}", certificate.pem())?;
        if self.former {
            let record = custody.record(&cluster)?;
            record
                .former
                .iter()
                .filter_map(|former| former.certificate.as_ref())
                .try_for_each(|pem| write!(out, "{pem}"))?;
        }
        Ok(())
    }
}
