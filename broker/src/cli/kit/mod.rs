//! `kit`: one file a command.

mod create;
mod drill;
mod files;
mod list;
mod paper;
mod patch;
mod report;
mod revoke;
mod words;

use std::io::Write;
use std::path::Path;
use std::str::FromStr;

use anyhow::{Context, bail};
use clap::Subcommand;
use ichor_wire::log::Kit;
use uuid::Uuid;

use super::FolderArg;
use crate::app;
use crate::config::{Loaded, load_clusters};
use crate::domain::ClusterName;
use crate::durable;
use crate::kit::{self, Standing};
use crate::regular::folder_of;

/// Commands on break-glass kits.
#[derive(Debug, Subcommand)]
pub(super) enum KitCommand {
    /// Make a kit: a sealed credential that opens with the shares of several holders and needs nothing of Ichor's services, for
    /// when provider, network, vault and broker are gone. Its CA is a new one; nodes trust it once the printed patch is applied.
    ///
    /// A ceremony: the holders and two witnesses are there, and the key that is made is kept nowhere else.
    Create(create::Create),
    /// List the kits: undrilled, fresh, due (for a drill), used, unreported, expired or revoked.
    List {
        #[command(flatten)]
        folder: FolderArg,
    },
    /// Print the patch by which nodes accept a kit's CA once more, as its ceremony did.
    Patch {
        #[command(flatten)]
        folder: FolderArg,
        /// The kit's number.
        number: u16,
    },
    /// Drill a kit, without opening it: the first run prints a challenge, the second takes the holders' proofs and asks the nodes, and the
    /// endpoints that the kit was sealed with, whether they still accept the kit's CA. Overdue after 90 days.
    Drill(drill::Drill),
    /// Make a new kit with the same holders, roles and cap in place of one that was opened, is about to expire, or whose holders
    /// change. Revoke the old one once nodes trust the new.
    Rotate(create::Rotate),
    /// Record that kits are to serve no more, and print what makes nodes stop trusting their CAs.
    Revoke(revoke::Revoke),
    /// Import the record of an opening, which `ichor kit open` wrote on its opener's machine, and label it.
    Report(report::Report),
}

impl KitCommand {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        match self {
            Self::Create(command) => command.run(out),
            Self::List { folder } => list::run(&folder.folder().load()?, out),
            Self::Patch { folder, number } => patch::run(&folder.folder().load()?, number, out),
            Self::Drill(command) => command.run(out),
            Self::Rotate(command) => command.run(out),
            Self::Revoke(command) => command.run(out),
            Self::Report(command) => command.run(out),
        }
    }
}

/// Every kit that the log tells of, held against its cluster as that is declared.
async fn all(loaded: &Loaded) -> anyhow::Result<Vec<Standing>> {
    let store = app::read_store(&loaded.settings).await?;
    // a file that cannot be read is said by what needs it: a stolen kit is revoked all the same
    let clusters = load_clusters(&loaded.settings.clusters).unwrap_or_default();
    let declared = |kit: &Standing| Some(clusters.get(&ClusterName::new(&kit.cluster).ok()?)?.as_ref());
    let held = |kit: Standing| {
        let cluster = declared(&kit);
        kit.held_against(cluster)
    };
    Ok(kit::read(&*store).await?.into_iter().map(held).collect())
}

/// A kit as a command names it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Which {
    Number(u16),
    Id(Uuid),
}

impl std::fmt::Display for Which {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Number(number) => number.fmt(f),
            Self::Id(id) => id.fmt(f),
        }
    }
}

impl FromStr for Which {
    type Err = &'static str;

    fn from_str(text: &str) -> Result<Self, Self::Err> {
        let number = text.parse().map(Self::Number).ok();
        number.or_else(|| text.parse().map(Self::Id).ok()).ok_or("write a kit's number, as `7`, or its id")
    }
}

/// The kit of this number.
async fn one(loaded: &Loaded, number: u16) -> anyhow::Result<Standing> {
    pick(&all(loaded).await?, Which::Number(number)).cloned()
}

/// The kit that is meant. Where several have the number, as earlier versions let two brokers give it, it is the one that is not revoked.
fn pick(kits: &[Standing], which: Which) -> anyhow::Result<&Standing> {
    let number = match which {
        Which::Id(id) => {
            let found = kits.iter().find(|kit| kit.id == id);
            return found.with_context(|| format!("the log tells of no kit with the id `{id}`"));
        }
        Which::Number(number) => number,
    };
    let found: Vec<_> = kits.iter().filter(|kit| kit.number == number).collect();
    let good: Vec<_> = found.iter().copied().filter(|kit| kit.revoked.is_none()).collect();
    match (good.as_slice(), found.as_slice()) {
        (_, []) => bail!("the log tells of no kit {number}; `ichor-broker kit list` shows those that there are"),
        ([kit], _) | ([], [kit, ..]) => Ok(kit),
        _ => {
            let ids: Vec<String> = good.iter().map(|kit| format!("`{}`", kit.id)).collect();
            bail!(
                "several kits have the number {number}: {}; `ichor kit show FILE` tells a file's id. Keep one, and revoke the others by \
                 their ids, as `ichor-broker kit revoke {}`: the number then means the one that is left",
                ids.join(", "),
                good.last().map(|kit| kit.id).unwrap_or_default()
            )
        }
    }
}

/// The kit as further entries about it name it.
fn named(kit: &Standing) -> Kit {
    Kit { number: kit.number, id: Some(kit.id.into_bytes().to_vec()), ..Kit::default() }
}

/// Writes a new file, 0600, and syncs it and its folder; one that is there is left as it is.
fn write_new(path: &Path, bytes: &[u8]) -> anyhow::Result<()> {
    use std::os::unix::fs::OpenOptionsExt;
    let mut options = std::fs::OpenOptions::new();
    let written = options.write(true).create_new(true).mode(0o600).open(path).and_then(|mut file| {
        file.write_all(bytes)?;
        file.sync_all()?;
        durable::sync_folder(folder_of(path))
    });
    written.with_context(|| format!("cannot write `{}`", path.display()))
}

#[cfg(test)]
mod tests {
    use ichor_wire::log::{Content, Kind};

    use super::*;
    use crate::kit::ledger::tests::{made, states};

    fn kit(id: u128) -> Kit {
        Kit { id: Some(Uuid::from_u128(id).into_bytes().to_vec()), ..made().kit.unwrap() }
    }

    #[tokio::test]
    async fn of_two_kits_with_one_number_one_is_revoked_by_its_id_and_the_number_means_the_other() {
        let [one, other] = [1, 2].map(|id| Content { kit: Some(kit(id)), ..made() });
        let revoked = |id| Content { kit: Some(kit(id)), ..Content::of(Kind::KitRevoked) };
        let number: Which = "7".parse().unwrap();
        let kits = states(vec![one.clone(), other.clone()]).await;
        let refused = pick(&kits, number).unwrap_err().to_string();
        assert!([1, 2].iter().all(|id| refused.contains(&Uuid::from_u128(*id).to_string())), "{refused}");
        let id: Which = Uuid::from_u128(2).to_string().parse().unwrap();
        assert_eq!(pick(&kits, id).unwrap().id, Uuid::from_u128(2));
        assert!(pick(&kits, Which::Id(Uuid::from_u128(3))).is_err());

        let kits = states(vec![one.clone(), other.clone(), revoked(2)]).await;
        assert_eq!(pick(&kits, number).unwrap().id, Uuid::from_u128(1));
        let kits = states(vec![one, other, revoked(2), revoked(1)]).await;
        assert!(pick(&kits, number).unwrap().revoked.is_some(), "all of them are");
        assert!(pick(&kits, Which::Number(8)).unwrap_err().to_string().contains("no kit 8"));
        assert!("kit-7".parse::<Which>().is_err());
    }
}
