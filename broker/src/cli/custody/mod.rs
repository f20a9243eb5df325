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
    /// Seal everything in the vault again, to the recipients in `vault/recipients.txt` as they now are, or as `--recipient` and
    /// `--remove` make them. Cut short, it is finished by the next `reseal`; until then every file opens for the broker.
    ///
    /// A recipient is one of these:
    ///
    ///   age1…                   an age key, as `age-keygen` makes it
    ///   ssh-ed25519 …           an SSH public key; `ssh-rsa …` too
    ///   age1yubikey1…           a key in hardware, by a plugin that `plugins = ["yubikey"]` under [custody] allows
    ///
    /// Whoever is removed still opens copies made before. Examples:
    ///
    ///   ichor-broker custody reseal --recipient age1… --reason "backup key of the security team"
    ///   ichor-broker custody reseal --remove age1… --reason "left the team"
    #[command(verbatim_doc_comment)]
    Reseal(reseal::Reseal),
    /// Write one sealed file that holds all of the vault: CAs with their keys, the broker's own secrets, recipients, records of
    /// CAs, and the identity where that lies in the vault's folder. Mode 0600; a file that is there is not overwritten.
    ///
    /// It opens for the vault's recipients, or for those given with `--recipient` and nobody else: give the public half of a key
    /// that is kept elsewhere, or the backup is lost together with the host. Then try it out:
    ///
    ///   age-keygen -o backup-key.txt            on another machine; keep it offline
    ///   ichor-broker custody backup vault-2026-11.age --recipient age1… --reason "monthly backup"
    ///   ichor-broker custody restore vault-2026-11.age --drill --identity backup-key.txt --reason "monthly drill"
    #[command(verbatim_doc_comment)]
    Backup(backup::BackUp),
    /// Make a vault of a backup, or, with `--drill`, see whether one would do: it is opened in memory, every CA's key and
    /// certificate are compared, and nothing is written but the audit entry.
    ///
    /// A restore overwrites nothing: the folder must be empty or missing, and it is there whole or not at all. Examples:
    ///
    ///   ichor-broker custody restore vault.age --drill --identity backup-key.txt --reason "monthly drill"
    ///   mv /etc/ichor/vault /etc/ichor/vault.old
    ///   ichor-broker custody restore vault.age --identity backup-key.txt --reason "disk of host 7 died"
    #[command(verbatim_doc_comment)]
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
