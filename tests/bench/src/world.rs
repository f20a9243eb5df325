//! What the larger benchmarks run against: the release broker as a process of its own, so that its CPU and memory can be told
//! from ours, behind a simulated provider.

use std::io::{BufRead, BufReader, Read, Write};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ichor_client::tls::Trust;
use ichor_client::{Broker, Clock, Session};
use ichor_standins::address::free_port;
use ichor_standins::browser::Browser;
use ichor_standins::node::{Node, NodeOptions};
use ichor_standins::provider::{Client, Person, Provider, ProviderOptions};
use nix::sys::signal::{Signal, kill};
use nix::unistd::{Pid, SysconfVar, sysconf};
use tempfile::TempDir;
use url::Url;

use crate::Settings;

/// Alice's group may read `prod`; nothing else is allowed.
const POLICIES: &str = "@id(\"read\") @max_ttl(\"8h\")\n\
    permit (principal in Group::\"corp/sre\", action == Action::\"hold:os:reader\", resource in Label::\"env=prod\");\n";

/// A running broker with one cluster, `prod`.
pub(crate) struct World {
    pub(crate) url: Url,
    /// The CA of the broker's TLS certificate, PEM.
    pub(crate) tls_ca: String,
    /// A node that accepts the cluster's CA.
    pub(crate) node: Node,
    broker: Option<Child>,
    health: SocketAddr,
    dir: PathBuf,
    folder: TempDir,
    _provider: Provider,
}

// === impl World ===

impl World {
    pub(crate) async fn start(settings: &Settings) -> anyhow::Result<Self> {
        Self::start_on(settings, None).await
    }

    /// The same with its state in a Postgres database, which has its tables already.
    pub(crate) async fn start_on(settings: &Settings, postgres: Option<&str>) -> anyhow::Result<Self> {
        Self::started(settings, ProviderOptions::default().people, postgres, async |_| Ok(())).await
    }

    /// The same after `prepare` was done to the broker's folder.
    pub(crate) async fn start_with(
        settings: &Settings,
        prepare: impl AsyncFnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        Self::started(settings, ProviderOptions::default().people, None, prepare).await
    }

    /// The same with these people at the provider, and its state in a Postgres database where one is named.
    pub(crate) async fn start_with_people(
        settings: &Settings,
        people: Vec<Person>,
        postgres: Option<&str>,
        prepare: impl AsyncFnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        Self::started(settings, people, postgres, prepare).await
    }

    async fn started(
        settings: &Settings,
        people: Vec<Person>,
        postgres: Option<&str>,
        prepare: impl AsyncFnOnce(&Path) -> anyhow::Result<()>,
    ) -> anyhow::Result<Self> {
        let folder = tempfile::tempdir_in(&settings.dir)?;
        let dir = folder.path().join("broker");
        let port = free_port()?;
        let url: Url = format!("https://localhost:{port}").parse()?;
        let provider = Provider::start(ProviderOptions {
            people,
            clients: vec![Client::public("ichor", [format!("{url}oauth/callback/corp").as_str()])],
            ..ProviderOptions::default()
        })
        .await?;
        let node = Node::start(NodeOptions::new("node-a")?).await?;

        let text = dir.to_string_lossy().into_owned();
        let listen = format!("127.0.0.1:{port}");
        admin(&["init", &text, "--insecure-identity-beside", "--public-url", url.as_str(), "--listen", &listen])?;
        let health = (Ipv4Addr::LOCALHOST, free_port()?).into();
        configure(&dir, &provider, health)?;
        if let Some(url) = postgres {
            keep_in_postgres(&dir, url)?;
        }
        let talosconfig = folder.path().join("talosconfig");
        std::fs::write(&talosconfig, declaration(&node))?;
        let from = talosconfig.to_string_lossy();
        admin(&[
            "cluster", "add", "prod", "--from", &from, "--label", "env=prod", "--reason", "bench", "--dir", &text,
        ])?;
        admin(&["ca", "create", "prod", "--reason", "bench", "--dir", &text])?;
        let patch = admin(&["ca", "patch", "prod", "--dir", &text])?;
        let ca = patch.lines().find_map(|line| line.trim().strip_prefix("- crt: ")).context("no patch was printed")?;
        node.set_accepted_cas(&String::from_utf8(BASE64_STANDARD.decode(ca.trim())?)?)?;

        let tls_ca = std::fs::read_to_string(dir.join("tls/ca.crt"))?;
        prepare(&dir).await?;
        let broker = Some(serve(&dir)?);
        Ok(Self { url, tls_ca, node, broker, health, dir, folder, _provider: provider })
    }

    /// A private folder.
    pub(crate) fn scratch(&self) -> &Path {
        self.folder.path()
    }

    /// The broker as the client's library sees it.
    pub(crate) fn client(&self) -> Broker {
        Broker::new(self.url.clone(), Trust::CaPem(self.tls_ca.clone()), Clock::system())
    }

    /// Logs alice in, with a browser that nobody has signed in with yet.
    pub(crate) async fn log_in(&self) -> anyhow::Result<Session> {
        ichor_tests::log_in(&self.client(), &Browser::new(&[&self.tls_ca])?, "alice", |_| {}).await
    }

    /// User and system time that the broker has used.
    pub(crate) fn broker_cpu(&self) -> anyhow::Result<Duration> {
        cpu(self.pid()?)
    }

    /// The broker's resident memory, in KiB.
    pub(crate) fn broker_memory(&self) -> anyhow::Result<u32> {
        let status = std::fs::read_to_string(format!("/proc/{}/status", self.pid()?))?;
        let line = status.lines().find_map(|line| line.strip_prefix("VmRSS:")).context("no VmRSS")?;
        Ok(line.trim().trim_end_matches(" kB").parse()?)
    }

    /// The sum of the broker's counter of this name, over those of its series that have `label`.
    pub(crate) fn counted(&self, counter: &str, label: &str) -> anyhow::Result<u64> {
        let mut stream = std::net::TcpStream::connect(self.health)?;
        write!(stream, "GET /metrics HTTP/1.1\r\nhost: {}\r\nconnection: close\r\n\r\n", self.health)?;
        let mut text = String::new();
        stream.read_to_string(&mut text)?;
        let series = text.lines().filter(|line| line.starts_with(counter) && line.contains(label));
        Ok(series.filter_map(|line| line.rsplit(' ').next()?.parse::<u64>().ok()).sum())
    }

    /// Ends the broker as an operator would, and lets it verify its log; answers what it says of it.
    pub(crate) fn verify_log(&mut self) -> anyhow::Result<String> {
        self.end()?;
        admin(&["audit", "verify", "--dir", &self.dir.to_string_lossy()])
    }

    pub(crate) fn pid(&self) -> anyhow::Result<u32> {
        Ok(self.broker.as_ref().context("the broker has ended")?.id())
    }

    /// The broker's folder.
    pub(crate) fn broker_dir(&self) -> &Path {
        &self.dir
    }

    /// Ends the broker as a lost machine would.
    pub(crate) fn kill(&mut self) -> anyhow::Result<()> {
        let mut broker = self.broker.take().context("the broker has ended")?;
        broker.kill()?;
        broker.wait()?;
        Ok(())
    }

    /// Starts the broker again with the state that it left.
    pub(crate) fn serve_again(&mut self) -> anyhow::Result<()> {
        self.broker = Some(serve(&self.dir)?);
        Ok(())
    }

    fn end(&mut self) -> anyhow::Result<()> {
        if let Some(mut broker) = self.broker.take() {
            kill(Pid::from_raw(i32::try_from(broker.id())?), Signal::SIGTERM)?;
            let status = broker.wait()?;
            ensure!(status.success(), "the broker ended with {status}");
        }
        Ok(())
    }
}

impl Drop for World {
    fn drop(&mut self) {
        let _ = self.end();
    }
}

/// User and system time that a process has used.
pub(crate) fn cpu(pid: u32) -> anyhow::Result<Duration> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    // After the name, which may hold blanks: fields 14 and 15 of proc_pid_stat(5), in clock ticks.
    let fields: Vec<&str> = stat.rsplit(") ").next().unwrap_or_default().split(' ').collect();
    let ticks = |at: usize| fields.get(at).context("a short stat")?.parse::<u64>().context("not a number");
    let second = u64::try_from(sysconf(SysconfVar::CLK_TCK)?.context("no clock tick")?)?;
    Ok(Duration::from_millis((ticks(11)? + ticks(12)?) * 1000 / second))
}

/// A program of this build: it lies beside this one.
pub(crate) fn program(name: &str) -> anyhow::Result<PathBuf> {
    let path = std::env::current_exe()?.with_file_name(name);
    ensure!(path.exists(), "`{}` is not built; start this by tests/bench/run", path.display());
    Ok(path)
}

/// What a command of the broker's printed.
pub(crate) fn admin(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(program("ichor-broker")?).args(arguments).output()?;
    if !output.status.success() {
        bail!("`ichor-broker {}` failed: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr));
    }
    Ok(String::from_utf8(output.stdout)?)
}

fn configure(dir: &Path, provider: &Provider, health: SocketAddr) -> anyhow::Result<()> {
    let path = dir.join("config.toml");
    let text = std::fs::read_to_string(&path)?;
    let mut text = text.replacen("[server]\n", &format!("[server]\nhealth_listen = \"{health}\"\n"), 1);
    text.push_str(&format!(
        "\n[limits]\nper_person = 100000000\nper_address = 100000000\nrequests_per_hour = 100000000\npending_per_address = 10000\n\n[log]\nlevel = \"warn\"\n\n\
         [[provider]]\nalias = \"corp\"\nissuer = \"{}\"\nclient_id = \"ichor\"\n",
        provider.issuer()
    ));
    std::fs::write(path, text)?;
    for entry in std::fs::read_dir(dir.join("policies"))? {
        std::fs::remove_file(entry?.path())?;
    }
    Ok(std::fs::write(dir.join("policies/bench.cedar"), POLICIES)?)
}

/// Has the broker keep its state in this database.
fn keep_in_postgres(dir: &Path, url: &str) -> anyhow::Result<()> {
    let (config, file) = (dir.join("config.toml"), dir.join("database-url"));
    std::fs::write(&file, url)?;
    std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o600))?;
    let text = std::fs::read_to_string(&config)?;
    Ok(std::fs::write(config, format!("{text}\n\n[store]\nurl_file = \"database-url\"\n"))?)
}

/// A talosconfig that points at the node, as `cluster add` reads it.
fn declaration(node: &Node) -> String {
    format!(
        "context: prod\ncontexts:\n  prod:\n    endpoints: [{}]\n    nodes: [{}]\n    ca: {}\n",
        node.endpoint(),
        node.address().ip(),
        BASE64_STANDARD.encode(node.ca_pem())
    )
}

/// Returns once the broker says that it serves.
fn serve(dir: &Path) -> anyhow::Result<Child> {
    let mut broker = Command::new(program("ichor-broker")?)
        .args(["serve", "--dir", &dir.to_string_lossy()])
        .stdout(Stdio::piped())
        .stderr(std::fs::File::create(dir.join("broker.log"))?)
        .spawn()?;
    let mut said = BufReader::new(broker.stdout.take().context("no output")?);
    let mut line = String::new();
    said.read_line(&mut line)?;
    if !line.contains("serves") {
        let _ = broker.kill();
        let _ = broker.wait();
        bail!("the broker did not start: {}", std::fs::read_to_string(dir.join("broker.log"))?);
    }
    // Nobody reads on, and a closed pipe is no reason to end.
    std::thread::spawn(move || std::io::copy(&mut said, &mut std::io::sink()));
    Ok(broker)
}
