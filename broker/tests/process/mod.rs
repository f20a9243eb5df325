//! The broker as a process of its own, with the client's library as its client: killed at any moment, or out of room.

mod config;
mod custody;
mod custody_kill;
mod foreign;
mod full;
mod kill;
mod ledger;
mod log;
mod over;
mod reload;
mod steps;

use std::io::{BufRead, BufReader};
use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex};

use anyhow::Context;
use ichor_broker::audit;
use ichor_broker::config::Folder;
use ichor_broker::store::sqlite::{Options, SqliteStore};
use ichor_client::tls::Trust;
use ichor_client::{Broker, Clock, Event, LoginOptions, Session, Way, login};
use ichor_standins::browser::{Browser, Form};
use ichor_standins::provider::{Client, Provider, ProviderOptions};
use ichor_wire::api::AuditEntry;
use tokio::net::TcpSocket;
use url::Url;

use steps::Steps;

const CLUSTER: &str = "prod";

/// A broker's folder and the port that is kept for it, with a provider; the process comes and goes.
struct Host {
    dir: PathBuf,
    url: Url,
    /// Answers at the login.
    provider: Provider,
    child: Option<Child>,
    /// Whether it is started so.
    accept_clock: bool,
    database: PathBuf,
    /// Bound and never listening: whatever else runs here, the port stays ours between two lives of the broker.
    _port: TcpSocket,
    _folder: tempfile::TempDir,
}

impl Host {
    /// A folder made by the broker's own commands; nothing runs yet. Plain HTTP, which is allowed on loopback.
    async fn new() -> anyhow::Result<Self> {
        ichor_standins::install_tls_provider();
        let folder = tempfile::tempdir()?;
        let port = TcpSocket::new_v4()?;
        port.set_reuseaddr(true)?;
        port.bind(SocketAddr::from((Ipv4Addr::LOCALHOST, 0)))?;
        let at = port.local_addr()?.to_string();
        let url = Url::parse(&format!("http://{at}"))?;
        let provider = Provider::start(ProviderOptions {
            clients: vec![Client::public("ichor", [format!("{url}oauth/callback/corp").as_str()])],
            ..ProviderOptions::default()
        })
        .await?;

        let dir = folder.path().join("broker");
        let text = dir.to_string_lossy().into_owned();
        run(&["init", &text, "--insecure-identity-beside", "--public-url", url.as_str(), "--listen", &at])?;
        let config = format!(
            "{}\n[limits]\nper_person = 1000000\n\n[[provider]]\nalias = \"corp\"\nissuer = \"{}\"\nclient_id = \"ichor\"\n",
            std::fs::read_to_string(dir.join("config.toml"))?,
            provider.issuer()
        );
        std::fs::write(dir.join("config.toml"), config)?;
        for entry in std::fs::read_dir(dir.join("policies"))? {
            std::fs::remove_file(entry?.path())?;
        }
        let policy = r#"@id("read") permit (principal, action == Action::"hold:os:reader", resource);"#;
        std::fs::write(dir.join("policies/all.cedar"), policy)?;
        let facts = folder.path().join("talosconfig");
        let ca = a_ca()?;
        let ca = data_encoding::BASE64.encode(ca.as_bytes());
        std::fs::write(
            &facts,
            format!(
                "context: prod\ncontexts:\n  prod:\n    endpoints: [192.0.2.1]\n    nodes: [192.0.2.1]\n    ca: {ca}\n"
            ),
        )?;
        let facts = facts.to_string_lossy();
        run(&["cluster", "add", CLUSTER, "--from", &facts, "--reason", "tests", "--dir", &text])?;
        run(&["ca", "create", CLUSTER, "--reason", "tests", "--dir", &text])?;
        let database = Folder::new(&dir).load()?.settings.database;
        Ok(Self { dir, url, provider, database, child: None, accept_clock: false, _port: port, _folder: folder })
    }

    /// Starts the broker; returns once it serves. Its log goes to a file.
    fn start(&mut self) -> anyhow::Result<()> {
        let log = std::fs::OpenOptions::new().create(true).append(true).open(self.dir.join("stderr"))?;
        self.start_with(log.into())
    }

    /// Has the broker log the steps of requests, for [`Host::start_watched`].
    fn log_steps(&self) -> anyhow::Result<()> {
        let path = self.dir.join("config.toml");
        let config = std::fs::read_to_string(&path)?;
        let log = "[log]\nformat = \"json\"\nlevel = \"ichor_broker=debug,info\"\n";
        Ok(std::fs::write(path, format!("{config}\n{log}"))?)
    }

    /// Starts the broker; returns once it serves. Its log is read here for the steps of requests.
    fn start_watched(&mut self) -> anyhow::Result<Steps> {
        self.start_with(Stdio::piped())?;
        let log = self.child.as_mut().and_then(|child| child.stderr.take());
        Ok(Steps::read(log.context("a log")?))
    }

    /// Where a write of a file's end would exceed the process' limit, it fails with an error and raises no signal.
    fn start_with(&mut self, log: Stdio) -> anyhow::Result<()> {
        // What is ignored stays ignored across exec.
        let mut child = Command::new("/bin/sh")
            .args(["-c", "trap '' XFSZ; exec \"$@\"", "sh", env!("CARGO_BIN_EXE_ichor-broker"), "serve", "--dir"])
            .arg(&self.dir)
            .args(self.accept_clock.then_some("--accept-clock"))
            .stdout(Stdio::piped())
            .stderr(log)
            .spawn()?;
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let serves = lines.any(|line| line.is_ok_and(|line| line.contains("serves")));
        self.child = Some(child);
        let said = || std::fs::read_to_string(self.dir.join("stderr")).unwrap_or_default();
        anyhow::ensure!(serves, "the broker did not start:\n{}", said());
        Ok(())
    }

    fn pid(&self) -> u32 {
        self.child.as_ref().unwrap().id()
    }

    /// SIGKILL: no handler runs, nothing is flushed.
    fn kill(&mut self) {
        let mut child = self.child.take().unwrap();
        child.kill().unwrap();
        child.wait().unwrap();
    }

    /// A login of the stand-in provider's alice.
    async fn log_in(&self) -> anyhow::Result<Session> {
        let browser = Browser::new(&[])?;
        let (opened, mut opening) = tokio::sync::mpsc::unbounded_channel::<Url>();
        let number = Arc::new(Mutex::new(String::new()));
        let heard = Arc::clone(&number);
        let options = LoginOptions {
            way: Way::Browser,
            provider: None,
            fresh: false,
            acr: None,
            host: "laptop".into(),
            open: Arc::new(move |url: &Url| drop(opened.send(url.clone()))),
            on: Arc::new(move |event| {
                if let Event::Number(number) = event {
                    *heard.lock().unwrap() = number;
                }
            }),
        };
        // no TLS is spoken, so any root does
        let any = a_ca()?;
        let broker = Broker::new(self.url.clone(), Trust::CaPem(any), Clock::system());
        let visit = async {
            let url = opening.recv().await.ok_or_else(|| anyhow::anyhow!("no browser was opened"))?;
            let page = browser.open(url.as_str()).await?;
            let page = browser.submit(&page, has("login"), &[("login", "alice")]).await?;
            anyhow::ensure!(page.body.contains(&*number.lock().unwrap()), "the number is not on the page");
            let page = browser.submit(&page, has("decision"), &[("decision", "continue")]).await?;
            anyhow::ensure!(page.status.is_success(), "{}", page.body);
            anyhow::Ok(page)
        };
        let (session, _) = tokio::try_join!(async { Ok(login(&broker, &options).await?) }, visit)?;
        Ok(session)
    }

    /// How much the database's write-ahead log holds.
    fn journal(&self) -> u64 {
        let mut beside = self.database.as_os_str().to_owned();
        beside.push("-wal");
        std::fs::metadata(beside).map_or(0, |file| file.len())
    }

    /// The whole log in which `audit verify` finds no damage, oldest first.
    async fn log(&self) -> anyhow::Result<Vec<AuditEntry>> {
        let said = run(&["audit", "verify", "--dir", &self.dir.to_string_lossy()])?;
        anyhow::ensure!(said.starts_with("no damage: "), "{said}");
        let store = SqliteStore::open_to_read(&self.database, Options::default())?;
        let (mut all, mut cursor) = (Vec::new(), None);
        loop {
            let page = audit::entries(&store, &Default::default(), cursor.as_deref(), 500).await?;
            all.extend(page.entries);
            cursor = page.next;
            if cursor.is_none() {
                all.reverse();
                return Ok(all);
            }
        }
    }
}

impl Drop for Host {
    fn drop(&mut self) {
        if self.child.is_some() {
            self.kill();
        }
    }
}

/// A CA's certificate, PEM.
fn a_ca() -> anyhow::Result<String> {
    let mut params = rcgen::CertificateParams::default();
    params.is_ca = rcgen::IsCa::Ca(rcgen::BasicConstraints::Unconstrained);
    Ok(params.self_signed(&rcgen::KeyPair::generate()?)?.pem())
}

/// Runs a command of the broker to its end.
fn run(arguments: &[&str]) -> anyhow::Result<String> {
    let output = Command::new(env!("CARGO_BIN_EXE_ichor-broker")).args(arguments).stdin(Stdio::null()).output()?;
    let said = String::from_utf8_lossy(&output.stdout).into_owned();
    anyhow::ensure!(
        output.status.success(),
        "`ichor-broker {}`: {said}{}",
        arguments.join(" "),
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(said)
}

/// Whether a form has this field.
fn has(name: &'static str) -> impl Fn(&Form) -> bool {
    move |form| form.fields.iter().any(|field| field.name == name)
}
