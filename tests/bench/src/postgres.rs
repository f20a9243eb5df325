//! The Postgres that is measured: an empty database that is named with `--postgres`, or a server of our own that is killed.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use anyhow::{Context, ensure};
use ichor_broker::store::Store;
use ichor_broker::store::postgres::{Address, Options, PostgresStore, TlsFiles};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use secrecy::SecretString;
use tempfile::TempDir;
use tokio::time::Instant;

/// The address of the database, which has its tables afterwards and no entry.
pub(crate) async fn empty(url: &str) -> anyhow::Result<Address> {
    let address = Address::parse(&SecretString::from(url), TlsFiles::default())?;
    PostgresStore::migrate(&address).await?;
    let entries = PostgresStore::open(&address, &options()).await?.head().await?.size;
    ensure!(entries == 0, "the database has {entries} entries; name an empty one with --postgres");
    Ok(address)
}

/// As a broker has them, with time enough for a busy machine.
pub(crate) fn options() -> Options {
    Options { deadline: Duration::from_secs(60), ..Options::default() }
}

/// Bytes on a server's disk.
pub(crate) struct Sizes {
    /// Of the database, beyond what an empty one takes.
    pub(crate) database: u64,
    /// Of the log in it: leaves, bodies, tiles, and what finds them.
    pub(crate) log: u64,
}

/// What the database takes, as `psql` is told.
pub(crate) fn sizes(url: &str) -> anyhow::Result<Sizes> {
    let asked = "SELECT pg_database_size(current_database()) - pg_database_size('template1')
                 UNION ALL
                 SELECT sum(pg_total_relation_size(name::regclass))::bigint
                 FROM unnest(ARRAY['leaf', 'body', 'tile', 'certificate', 'log_person', 'log_cluster']) AS name";
    let told = printed(Command::new("psql").args(["-AtqX", "-v", "ON_ERROR_STOP=1", "-c", asked, "-d", url]))?;
    let (database, log) = told.trim().split_once('\n').context("two sizes")?;
    Ok(Sizes { database: database.parse()?, log: log.parse()? })
}

/// A server of our own. It ends when this is dropped.
pub(crate) struct Server {
    start: PathBuf,
    folder: TempDir,
    pid: Pid,
}

// === impl Server ===

impl Server {
    /// Starts it by the program `start` (`tests/interop/peers/postgres/start`); `None` where there is no PostgreSQL.
    pub(crate) fn start(start: &Path) -> anyhow::Result<Option<Self>> {
        // a socket's path is short
        let folder = tempfile::Builder::new().prefix("ichor-pg-").tempdir_in("/tmp")?;
        let output = Command::new(start).arg(folder.path()).output();
        match output {
            Ok(output) if output.status.success() => {
                let pid = Pid::from_raw(String::from_utf8(output.stdout)?.trim().parse()?);
                Ok(Some(Self { start: start.to_owned(), folder, pid }))
            }
            Ok(output) if output.status.code() == Some(3) => Ok(None),
            Ok(output) => anyhow::bail!("{}", String::from_utf8_lossy(&output.stderr)),
            Err(error) => Err(error).with_context(|| format!("cannot run `{}`", start.display())),
        }
    }

    /// Makes a database and answers its URL.
    pub(crate) fn database(&self, name: &str) -> anyhow::Result<String> {
        let dir = self.folder.path().display().to_string();
        printed(Command::new("createdb").args(["-h", &dir, "-U", "ichor", name]))?;
        Ok(format!("postgres://ichor@/{name}?host={dir}"))
    }

    /// Kills the server and every process of its own with SIGKILL.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        let children = std::fs::read_to_string(format!("/proc/{0}/task/{0}/children", self.pid))?;
        kill(self.pid, Signal::SIGKILL)?;
        for child in children.split_whitespace() {
            // it may have ended with its parent
            let _ = kill(Pid::from_raw(child.parse()?), Signal::SIGKILL);
        }
        gone(self.pid)
    }

    /// Starts it again with the data that it left.
    pub(crate) fn again(&mut self) -> anyhow::Result<()> {
        self.pid = Pid::from_raw(printed(Command::new(&self.start).arg(self.folder.path()))?.trim().parse()?);
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if kill(self.pid, Signal::SIGINT).is_ok() {
            let _ = gone(self.pid);
        }
    }
}

/// Returns once there is no such process any more.
fn gone(pid: Pid) -> anyhow::Result<()> {
    let began = Instant::now();
    while kill(pid, None).is_ok() {
        ensure!(began.elapsed() < Duration::from_secs(30), "process {pid} does not end");
        std::thread::sleep(Duration::from_millis(20));
    }
    Ok(())
}

/// Runs a program and answers what it printed.
fn printed(command: &mut Command) -> anyhow::Result<String> {
    let output = command.output()?;
    ensure!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}
