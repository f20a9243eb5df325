//! The command line: one file a command; `desk`, `owner` and `vault_key` are what they share.

mod adopt;
mod audit;
mod backup;
mod ca;
mod check;
mod cluster;
mod completions;
mod custody;
mod desk;
mod init;
mod kit;
mod lock;
mod logging_patch;
mod owner;
mod policy;
mod reload;
mod restore;
mod serve;
mod store;
mod vault_key;

use std::io::Write;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Args, Parser, Subcommand};

use crate::config::Folder;

/// The Ichor broker: it authenticates people by OIDC, decides by policy, records durably, and
/// issues short-lived Talos client certificates from a CA that stays in a vault.
///
/// A first start:
///
///   ichor-broker init /etc/ichor            make the folder: config, vault, TLS certificate, policies
///   $EDITOR /etc/ichor/config.toml          name your OpenID provider
///   ichor-broker cluster add prod --from ~/.talos/config --label env=prod --reason "first cluster"
///   ichor-broker ca create prod --reason "dedicated client CA"
///   ichor-broker check                      a line for each thing that must work
///   ichor-broker serve
///
/// Exit codes: 0 done, 1 failed, 2 wrong usage.
#[derive(Debug, Parser)]
#[command(name = "ichor-broker", version, verbatim_doc_comment, max_term_width = 110)]
pub struct Cli {
    #[command(subcommand)]
    command: Command,
}

/// Where the config folder is unless told otherwise.
const USUAL: &str = "/etc/ichor";

/// The config folder that a command works on.
#[derive(Clone, Debug, Args)]
struct FolderArg {
    /// The config folder, as `init` makes it.
    #[arg(long, value_name = "DIR", env = "ICHOR_BROKER_DIR", default_value = USUAL, global = true)]
    dir: PathBuf,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Make a working folder: config, sealed vault, TLS certificate, default policies.
    Init(init::Init),
    /// Serve until SIGTERM or Ctrl-C; SIGHUP loads policies, clusters, CA keys and TLS certificates anew.
    Serve(serve::Serve),
    /// Check config, policies, vault, database, provider and clusters: a line each.
    Check(check::CheckCommand),
    /// Test or explain the policies.
    #[command(subcommand)]
    Policy(policy::PolicyCommand),
    /// Declare clusters.
    #[command(subcommand)]
    Cluster(cluster::ClusterCommand),
    /// Create, import, show, rotate, move and retire the CAs that sign client certificates.
    #[command(subcommand)]
    Ca(ca::CaCommand),
    /// Seal the vault to other recipients, back it up, restore it; plan and write the roles of a PKI engine.
    #[command(subcommand)]
    Custody(custody::CustodyCommand),
    /// Make, list, drill, rotate, report and revoke break-glass kits, which open when everything else is down.
    #[command(subcommand)]
    Kit(kit::KitCommand),
    /// Lock a user, a session, a grant, a cluster or everything: nothing is issued for it from then on.
    Lock(lock::Lock),
    /// Lift a lock.
    Unlock(lock::Unlock),
    /// List the locks that hold.
    Locks(lock::Locks),
    /// Check the audit log, print its key, replace that, go on after a restore.
    #[command(subcommand)]
    Audit(audit::AuditCommand),
    /// Make a database's tables; move state and log from one database to another.
    #[command(subcommand)]
    Store(store::StoreCommand),
    /// Write one sealed file that holds database, custody and configuration. Works beside a running broker.
    Backup(backup::BackUp),
    /// Make a broker's folder of a backup, or see whether one would do.
    Restore(restore::Restore),
    /// Tell the running broker to load policies, clusters, CA keys and TLS certificates anew, and show what came of it.
    Reload(reload::ReloadCommand),
    /// Print a completion script for a shell.
    Completions(completions::Completions),
}

impl Cli {
    /// Runs the command, writing to `out`. Errors go to standard error, one sentence and the next step.
    pub fn run(self, out: &mut dyn Write) -> ExitCode {
        match self.execute(out) {
            Ok(()) => ExitCode::SUCCESS,
            Err(error) => {
                let _ = writeln!(anstream::stderr(), "ichor-broker: {}", told(&error).trim_end());
                ExitCode::FAILURE
            }
        }
    }

    /// Runs the command, writing to `out`. It runs a runtime of its own: call it outside of one.
    ///
    /// # Errors
    /// In one sentence, with the next step.
    pub fn execute(self, out: &mut dyn Write) -> anyhow::Result<()> {
        match self.command {
            Command::Init(command) => command.run(out),
            Command::Serve(command) => command.run(out),
            Command::Check(command) => command.run(out),
            Command::Policy(command) => command.run(out),
            Command::Cluster(command) => command.run(out),
            Command::Ca(command) => command.run(out),
            Command::Custody(command) => command.run(out),
            Command::Kit(command) => command.run(out),
            Command::Lock(command) => command.run(out),
            Command::Unlock(command) => command.run(out),
            Command::Locks(command) => command.run(out),
            Command::Audit(command) => command.run(out),
            Command::Store(command) => command.run(out),
            Command::Backup(command) => command.run(out),
            Command::Restore(command) => command.run(out),
            Command::Reload(command) => command.run(out),
            Command::Completions(command) => command.run(out),
        }
    }
}

impl FolderArg {
    fn folder(&self) -> Folder {
        Folder::new(&self.dir)
    }

    /// What further commands need to find the folder: ` --dir DIR`, fit for a shell, or nothing where it is the usual one.
    fn said(&self) -> String {
        let dir = self.dir.display().to_string();
        if dir == USUAL {
            return String::new();
        }
        let is_plain = dir.chars().all(|letter| letter.is_alphanumeric() || "/._-+~".contains(letter));
        if is_plain { format!(" --dir {dir}") } else { format!(" --dir '{}'", dir.replace('\'', r"'\''")) }
    }
}

/// The error and its causes in one sentence. Many of ours tell their cause themselves, and it is not said twice.
fn told(error: &anyhow::Error) -> String {
    error.chain().map(ToString::to_string).fold(String::new(), |told, cause| match told.contains(&cause) {
        true => told,
        false if told.is_empty() => cause,
        false => format!("{told}: {cause}"),
    })
}

/// Runs `future` on a runtime of one thread: admin commands do one thing after the other.
fn block_on<T>(future: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_current_thread().enable_all().build()?.block_on(future)
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn what_the_documents_have_people_type_is_understood() {
        let lines = ichor_standins::documents::lines("ichor-broker").unwrap();
        assert!(lines.len() >= 30, "only {} were found", lines.len());
        let wrong = lines.into_iter().filter_map(|(line, words)| {
            let error = Cli::command().try_get_matches_from(words).err()?;
            Some(format!("{line}\n{error}"))
        });
        let wrong: Vec<_> = wrong.collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }
}
