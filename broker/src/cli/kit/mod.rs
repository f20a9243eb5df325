//! `kit`: one file a command.

mod create;
mod drill;
mod list;
mod paper;
mod patch;
mod report;
mod revoke;
mod words;

use std::io::Write;
use std::path::Path;

use anyhow::{Context, bail};
use clap::Subcommand;
use ichor_wire::log::Kit;

use super::FolderArg;
use crate::app;
use crate::config::Loaded;
use crate::kit::{self, Standing};

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
    /// Drill a kit, without opening it: the first run prints a challenge, the second takes the holders' proofs and asks the nodes
    /// whether they still accept the kit's CA. Overdue after 90 days.
    Drill(drill::Drill),
    /// Make a new kit with the same holders, roles and cap in place of one that was opened, is about to expire, or whose holders
    /// change. Revoke the old one once nodes trust the new.
    Rotate(create::Rotate),
    /// Record that a kit is to serve no more, and print what makes nodes stop trusting its CA.
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

/// Every kit that the log tells of.
async fn all(loaded: &Loaded) -> anyhow::Result<Vec<Standing>> {
    let store = app::read_store(&loaded.settings).await?;
    Ok(kit::read(&*store).await?)
}

/// The kit of this number.
async fn one(loaded: &Loaded, number: u16) -> anyhow::Result<Standing> {
    let mut found: Vec<_> = all(loaded).await?.into_iter().filter(|kit| kit.number == number).collect();
    match found.len() {
        0 => bail!("the log tells of no kit {number}; `ichor-broker kit list` shows those that there are"),
        1 => found.pop().context("the log tells of no such kit"),
        _ => bail!("several kits have the number {number}: two ceremonies ran at once; revoke one of them by hand"),
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
        std::fs::File::open(path.parent().filter(|dir| !dir.as_os_str().is_empty()).unwrap_or(Path::new(".")))?
            .sync_all()
    });
    written.with_context(|| format!("cannot write `{}`", path.display()))
}
