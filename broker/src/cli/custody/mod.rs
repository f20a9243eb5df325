//! `custody reseal|backup|restore|plan|apply`.

use std::collections::BTreeMap;
use std::io::Write;

use clap::Subcommand;

use super::desk::{Deed, Desk};
use super::{block_on, vault_key};
use crate::config::Loaded;

mod backup;
mod engine;
mod move_secrets;
mod reseal;
mod restore;
mod told;

pub(super) use backup::check_whole;
pub(super) use engine::EngineArgs;
pub(super) use restore::identity;
pub(super) use told::tell;

/// Commands on the vault as a whole, and on what a PKI engine needs.
#[derive(Debug, Subcommand)]
pub(super) enum CustodyCommand {
    /// Seal everything in the vault again, to the recipients as they now are.
    ///
    /// They stand in `vault/recipients.txt`; `--recipient` and `--remove` edit the list in the same act.
    /// Cut short, a reseal is finished by the next; until then every file opens for the broker.
    ///
    /// A recipient is one of these:
    ///
    ///   age1…              an age key, as `age-keygen` makes it
    ///   ssh-ed25519 …      an SSH public key; `ssh-rsa …` too
    ///   age1yubikey1…      a key in hardware, by a plugin that the configuration allows:
    ///                      `plugins = ["yubikey"]` under [custody]
    ///
    /// Whoever is removed still opens copies that were made before. Examples:
    ///
    ///   ichor-broker custody reseal --recipient age1… --reason "key of the security team"
    ///   ichor-broker custody reseal --remove age1… --reason "left the team"
    #[command(verbatim_doc_comment)]
    Reseal(reseal::Reseal),
    /// Write one sealed file that holds all of the vault.
    ///
    /// That is: CAs with their keys, the broker's own secrets, recipients, records of CAs that live
    /// elsewhere, and the identity where that lies in the vault's folder. The file has mode 0600, and
    /// one that is there is not overwritten.
    ///
    /// Where the vault lacks a file that one of its records names, as a CA's key, the backup is written,
    /// what is missing is named, and the exit code is 1.
    ///
    /// It opens for the vault's recipients, or for those given with `--recipient` and nobody else. Give
    /// the public half of a key that is kept elsewhere, or the backup is lost together with the host.
    /// Then try it out:
    ///
    ///   age-keygen -o key.txt        on another machine; keep it offline
    ///   ichor-broker custody backup vault.age --recipient age1… --reason "monthly"
    ///   ichor-broker custody restore vault.age --drill --identity key.txt --reason "monthly"
    #[command(verbatim_doc_comment)]
    Backup(backup::BackUp),
    /// Make a vault of a backup, or see whether one would do.
    ///
    /// With `--drill` the backup is opened in memory, every CA's key and certificate are compared, every
    /// record is read and what it names looked for, and nothing is written but the audit entry.
    ///
    /// A restore overwrites nothing: the folder must be empty or missing, and then it is there whole or
    /// not at all. Examples:
    ///
    ///   ichor-broker custody restore vault.age --drill --identity key.txt --reason "monthly"
    ///   mv /etc/ichor/vault /etc/ichor/vault.old
    ///   ichor-broker custody restore vault.age --identity key.txt --reason "a disk died"
    #[command(verbatim_doc_comment)]
    Restore(restore::Restore),
    /// Bring the broker's own secrets, which is the key that seals rows of the database, to another custody.
    ///
    /// The broker then asks the server for it once at each start, and does not start without it.
    MoveSecrets(move_secrets::MoveSecrets),
    /// Print which roles a PKI engine must have for a cluster, as commands, and how they differ now.
    Plan(engine::Plan),
    /// Write the roles that a PKI engine must have for a cluster, and read them back. What is right already stays as it is.
    Apply(engine::Apply),
}

impl CustodyCommand {
    pub(super) fn run(self, out: &mut dyn Write) -> anyhow::Result<()> {
        // all keys of the vault pass through this process
        let _ = crate::custody::harden_process();
        match self {
            Self::Reseal(command) => command.run(out),
            Self::MoveSecrets(command) => command.run(out),
            Self::Backup(command) => command.run(out),
            Self::Restore(command) => command.run(out),
            Self::Plan(command) => command.run(out),
            Self::Apply(command) => command.run(out),
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
        let done = desk.act(deed, undone, async || Ok(act()?)).await;
        desk.close().await;
        done
    })
}

/// `3 files`, `1 file`.
fn count(number: usize, of: &str) -> String {
    format!("{number} {of}{}", if number == 1 { "" } else { "s" })
}
