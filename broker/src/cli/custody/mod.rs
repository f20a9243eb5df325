//! `custody reseal|backup|restore`.

use std::collections::BTreeMap;
use std::io::Write;

use clap::Subcommand;

use super::desk::{Deed, Desk};
use super::{block_on, unlock};
use crate::config::Loaded;

mod backup;
mod reseal;
mod restore;

/// Commands on the vault as a whole.
#[derive(Debug, Subcommand)]
pub(super) enum CustodyCommand {
    /// Seal everything in the vault again, to the recipients as they now are.
    Reseal(reseal::Reseal),
    /// Write one sealed file that holds all of the vault.
    Backup(backup::BackUp),
    /// Make a vault of a backup, or try out whether one would do.
    Restore(restore::Restore),
}

impl CustodyCommand {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        // all keys of the vault pass through this process
        let _ = crate::custody::harden_process();
        match self {
            Self::Reseal(command) => command.run(out),
            Self::Backup(command) => command.run(out),
            Self::Restore(command) => command.run(out),
        }
    }
}

/// What is recorded of an act on the vault.
fn deed(message: String, reason: &str, digests: impl IntoIterator<Item = (&'static str, String)>) -> Deed {
    let digests: BTreeMap<_, _> = digests.into_iter().map(|(name, digest)| (name.to_owned(), digest)).collect();
    Deed { ca: true, cluster: None, message, reason: reason.to_owned(), digests }
}

/// Records the act, then does it; where it fails another entry says so, and `undone` what that leaves.
fn recorded(
    loaded: &Loaded,
    deed: Deed,
    undone: &str,
    act: impl FnOnce() -> Result<(), crate::custody::VaultError>,
) -> anyhow::Result<()> {
    block_on(async {
        let desk = Desk::open(loaded).await?;
        desk.record(deed.clone()).await?;
        let done = act();
        if let Err(error) = &done {
            let message = format!("{}: failed, {undone}: {error}", deed.message);
            desk.record(Deed { message, ..deed }).await?;
        }
        desk.close().await;
        Ok(done?)
    })
}

/// `3 files`, `1 file`.
fn count(number: usize, of: &str) -> String {
    format!("{number} {of}{}", if number == 1 { "" } else { "s" })
}
