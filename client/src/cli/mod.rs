//! The command line: one file per command, each a thin layer over the library.

mod agent;
mod audit;
mod break_glass;
mod clusters;
mod completions;
mod doctor;
mod exec;
mod kit;
mod lifetime;
mod lock;
mod login;
mod logout;
mod printable;
mod status;
mod step_up;
mod talosconfig;
pub mod terminal;
mod version;

use std::cell::RefCell;
use std::ffi::OsString;
use std::path::PathBuf;
use std::sync::Arc;

use clap::{CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use ichor_wire::role::Role;
use jiff::SignedDuration;
use url::Url;

use crate::audit::receipts::{self, Standing, Taken};
use crate::broker::Broker;
use crate::certificate::{CertificateStore, Held, Wish, certificate};
use crate::clock::Clock;
use crate::environment::Environment;
use crate::error::{EXIT_FAILED, EXIT_OK, EXIT_USAGE, Error};
use crate::session::{Session, SessionStore};
use crate::settings::{BrokerFlags, Settings};
use terminal::Terminal;

const AFTER_HELP: &str = "\
First steps:
  ichor login                        log in through the browser
  ichor talosconfig prod             write the context `prod`; then plain talosctl works
  ichor exec prod -- talosctl dmesg  or run one command, writing nothing

Exit codes:
  0  done
  1  failed
  2  wrong command line or settings
  3  not logged in, or the session expired
  4  refused by policy
  5  the broker, or what it needs, is out of reach
  `exec` passes on the command's own exit code";

/// Log in once, and talosctl works: short-lived Talos certificates with your name on them.
#[derive(Debug, Parser)]
#[command(name = "ichor", version, after_help = AFTER_HELP, max_term_width = 110)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags of every command.
#[derive(Debug, clap::Args)]
struct Global {
    /// The broker's URL [env: ICHOR_BROKER; else the nearest .ichor.toml, ~/.config/ichor/config.toml,
    /// /etc/ichor/config.toml]
    #[arg(long, global = true, value_name = "URL")]
    broker: Option<String>,
    /// Believe only these CA certificates (PEM) for the broker
    #[arg(long, global = true, value_name = "FILE")]
    ca: Option<PathBuf>,
    /// Keep the session in the OS keyring where there is one (auto), or in a 0600 file (off) [env: ICHOR_KEYRING]
    #[arg(long, global = true, value_name = "WHEN")]
    keyring: Option<KeyringUse>,
    /// How to print the result
    #[arg(short, long, global = true, value_enum, default_value_t = Format::Text, value_name = "FORMAT")]
    output: Format,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum KeyringUse {
    Auto,
    Off,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    Text,
    Json,
}

#[derive(Debug, Subcommand)]
enum Command {
    Login(login::Args),
    Logout(logout::Args),
    Status(status::Args),
    Clusters(clusters::Args),
    Talosconfig(talosconfig::Args),
    Exec(exec::Args),
    Agent(agent::Args),
    Doctor(doctor::Args),
    BreakGlass(break_glass::Args),
    Lock(lock::LockArgs),
    Unlock(lock::UnlockArgs),
    Locks(lock::ListArgs),
    Audit(audit::Args),
    Kit(kit::Args),
    Completions(completions::Args),
    Version(version::Args),
}

/// What a certificate is asked for with.
#[derive(Clone, Debug, Default, clap::Args)]
struct WishArgs {
    /// A role to hold: reader, operator, admin, etcd:backup, image:verifier, meta:writer (with or without `os:`);
    /// several by comma or repetition [default: reader]
    #[arg(long = "role", value_name = "ROLE", value_parser = role, value_delimiter = ',')]
    roles: Vec<Role>,
    /// How long it should be good, as 30m or 1h; policy may shorten it [default: the broker's]
    #[arg(long, value_name = "TIME", value_parser = seconds)]
    ttl: Option<u64>,
    /// Why; some policies require it. It is kept in the audit
    #[arg(long, value_name = "TEXT")]
    reason: Option<String>,
}

/// What surrounds a command: handed in, so that a test can bring its own.
pub struct Surroundings {
    /// The process environment, read once.
    pub environment: Environment,
    /// The clock.
    pub clock: Clock,
    /// Where results and messages go.
    pub terminal: Terminal,
    /// Opens a browser; must return at once.
    pub open: Arc<dyn Fn(&Url) + Send + Sync>,
    /// Reads a line that the person types, without its end; `None` where nobody sits at a terminal. An error where there
    /// is no more.
    pub ask: Option<Ask>,
    /// This machine's name.
    pub host: String,
}

/// Reads a line that the person types.
pub type Ask = Box<dyn Fn() -> std::io::Result<String> + Send>;

/// A command's view of the world.
struct Here {
    around: Surroundings,
    flags: BrokerFlags,
    json: bool,
    /// What there is to say of receipts, once the command is done.
    receipts: RefCell<Vec<Taken>>,
}

/// Runs one command line (the first argument is the program's name) and returns its exit code. Errors have been printed,
/// with the next step.
pub fn run(arguments: impl IntoIterator<Item = OsString>, mut around: Surroundings) -> u8 {
    let parsed = Cli::command().try_get_matches_from(arguments).and_then(|matches| Cli::from_arg_matches(&matches));
    let cli = match parsed {
        Ok(cli) => cli,
        Err(error) => {
            let text = error.render();
            let text = if around.terminal.colour() { text.ansi().to_string() } else { text.to_string() };
            if error.use_stderr() {
                around.terminal.error_text(&text);
                return EXIT_USAGE;
            }
            return if around.terminal.text(&text).is_ok() { EXIT_OK } else { EXIT_FAILED };
        }
    };
    if let Some(keyring) = cli.global.keyring {
        around.environment.keyring_off = keyring == KeyringUse::Off;
    }
    let flags = BrokerFlags { broker: cli.global.broker, ca: cli.global.ca };
    let mut here = Here { around, flags, json: cli.global.output == Format::Json, receipts: RefCell::default() };
    let passes_on = matches!(cli.command, Command::Exec(_));
    let done = match cli.command {
        Command::Login(args) => login::run(&mut here, args),
        Command::Logout(args) => logout::run(&mut here, args),
        Command::Status(args) => status::run(&mut here, args),
        Command::Clusters(args) => clusters::run(&mut here, args),
        Command::Talosconfig(args) => talosconfig::run(&mut here, args),
        Command::Exec(args) => exec::run(&mut here, args),
        Command::Agent(args) => agent::run(&mut here, args),
        Command::Doctor(args) => doctor::run(&mut here, args),
        Command::BreakGlass(args) => break_glass::run(&mut here, args),
        Command::Lock(args) => lock::lock(&mut here, args),
        Command::Unlock(args) => lock::unlock(&mut here, args),
        Command::Locks(args) => lock::list(&mut here, args),
        Command::Audit(args) => audit::run(&mut here, args),
        Command::Kit(args) => kit::run(&mut here, args),
        Command::Completions(args) => completions::run(&mut here, args),
        Command::Version(args) => version::run(&mut here, args),
    };
    let code = done.unwrap_or_else(|error| {
        here.around.terminal.error(&error, here.json);
        error.exit_code()
    });
    let told = here.tell_of_receipts(code);
    // whoever runs a command by us gets that command's answer
    if passes_on { code } else { told }
}

// === impl Here ===

impl Here {
    fn broker(&self) -> Result<Broker, Error> {
        let settings = Settings::find(&self.around.environment, &self.flags)?;
        Ok(Broker::found(settings, self.around.clock.clone()))
    }

    fn sessions(&self) -> Result<SessionStore, Error> {
        SessionStore::new(&self.around.environment)
    }

    fn session(&self) -> Result<Session, Error> {
        self.sessions()?.load(&self.broker()?)
    }

    /// A certificate that is held already and serves, else a new one, which is then kept. The session is only opened for
    /// a new one.
    async fn held(&self, broker: &Broker, wish: &Wish) -> Result<Held, Error> {
        Ok(self.held_or_reused(broker, wish).await?.0)
    }

    /// As [`Here::held`], and whether it was held already.
    async fn held_or_reused(&self, broker: &Broker, wish: &Wish) -> Result<(Held, bool), Error> {
        let store = CertificateStore::new(&self.around.environment)?;
        if let Some(held) = store.find(broker, wish)? {
            return Ok((held, true));
        }
        let session = self.sessions()?.load(broker)?;
        let waiting = self.around.terminal.waiting(format!("asking for a certificate for {}", wish.cluster));
        let held = certificate(&session, wish).await;
        drop(waiting);
        let held = held?;
        store.save(broker, &held)?;
        self.take(&session, &held).await;
        Ok((held, false))
    }

    /// Checks and keeps a new certificate's receipt; what there is to say of it comes at the command's end.
    async fn take(&self, session: &Session, held: &Held) {
        let taken = receipts::take(&self.around.environment, session, &held.answer).await;
        self.receipts.borrow_mut().push(taken);
    }

    /// Says what became of new receipts. A false one, or one of a log that is not believed, keeps nobody from their work, and does
    /// not let it pass for done: where all else went well, the exit code is that of a failure.
    fn tell_of_receipts(&mut self, code: u8) -> u8 {
        let taken = self.receipts.take();
        taken.into_iter().fold(code, |code, taken| self.tell_of_receipt(taken, code))
    }

    fn tell_of_receipt(&mut self, Taken { first_seen, standing }: Taken, code: u8) -> u8 {
        let terminal = &mut self.around.terminal;
        if let Some(key) = first_seen.filter(|_| !self.json) {
            terminal.note(&format!("the broker's audit log has the key {key}; it is believed from now on"));
        }
        match standing {
            Standing::Unchecked(error) if !self.json => {
                terminal.note(&format!(
                    "the certificate's receipt could not be checked: {error}; run `ichor status --verify` later"
                ));
                code
            }
            Standing::Holds | Standing::Pending | Standing::Unchecked(_) => code,
            Standing::OpenedAgain(error) | Standing::False(error) => {
                terminal.error(&error, self.json);
                if code == EXIT_OK { EXIT_FAILED } else { code }
            }
        }
    }

    /// Prints a result: `value` as JSON, or what `text` says.
    fn print(
        &mut self,
        value: &impl serde::Serialize,
        text: impl FnOnce(&mut Terminal) -> std::io::Result<()>,
    ) -> Result<u8, Error> {
        let printed = if self.json { self.around.terminal.json(value) } else { text(&mut self.around.terminal) };
        match printed {
            Ok(()) => Ok(EXIT_OK),
            // The reader has gone, as in `| head`: it has what it wanted.
            Err(error) if error.kind() == std::io::ErrorKind::BrokenPipe => Ok(EXIT_OK),
            Err(error) => {
                Err(Error::failed(format!("the result cannot be printed: {error}"), "check where the output goes"))
            }
        }
    }
}

// === impl WishArgs ===

impl WishArgs {
    fn wish(&self, cluster: &str) -> Wish {
        Wish { cluster: cluster.into(), roles: self.roles.clone(), ttl: self.ttl, reason: self.reason.clone() }
    }
}

/// A runtime for one command, on this thread alone: starting it costs next to nothing.
fn block_on<T>(work: impl Future<Output = Result<T, Error>>) -> Result<T, Error> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build();
    let runtime =
        runtime.map_err(|error| Error::failed(format!("no runtime could be started: {error}"), "try again"))?;
    let result = runtime.block_on(work);
    // A read from the terminal that nobody answers must not hold up the end.
    runtime.shutdown_background();
    result
}

fn role(text: &str) -> Result<Role, String> {
    let named = if text.starts_with("os:") { text.to_owned() } else { format!("os:{text}") };
    named
        .parse()
        .map_err(|_| "roles are reader, operator, admin, etcd:backup, image:verifier and meta:writer".to_owned())
}

fn seconds(text: &str) -> Result<u64, String> {
    let duration: SignedDuration = text.parse().map_err(|_| "write a time as 30m, 1h or 1h30m".to_owned())?;
    u64::try_from(duration.as_secs())
        .ok()
        .filter(|seconds| *seconds > 0)
        .ok_or_else(|| "the time must be a second or more".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_sound() {
        Cli::command().debug_assert();
    }

    #[test]
    fn what_the_documents_have_people_type_is_understood() {
        let lines = ichor_standins::documents::lines("ichor").unwrap();
        assert!(lines.len() >= 15, "only {} were found", lines.len());
        let wrong = lines.into_iter().filter_map(|(line, words)| {
            let error = Cli::command().try_get_matches_from(words).err()?;
            Some(format!("{line}\n{error}"))
        });
        let wrong: Vec<_> = wrong.collect();
        assert!(wrong.is_empty(), "{}", wrong.join("\n"));
    }

    #[test]
    fn roles_and_times_read_as_people_write_them() {
        assert_eq!(role("reader"), Ok(Role::Reader));
        assert_eq!(role("os:etcd:backup"), Ok(Role::EtcdBackup));
        assert!(role("os:impersonator").is_err());
        assert_eq!(["90s", "30m", "1h30m"].map(seconds), [Ok(90), Ok(1800), Ok(5400)]);
        for bad in ["", "0s", "-1h", "1", "soon"] {
            assert!(seconds(bad).is_err(), "{bad}");
        }
    }
}
