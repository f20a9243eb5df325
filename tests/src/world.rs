//! The world: built the way an operator builds it, by the broker's own commands.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use anyhow::{Context, bail, ensure};
use clap::Parser;
use ichor_broker::app::{Parts, Running, WrapStore};
use ichor_broker::cli::Cli;
use ichor_broker::clock::{Clock, FrozenClock, SystemClock};
use ichor_broker::config::Folder;
use ichor_broker::custody::{IdentitySource, KnownCas, Vault};
use ichor_broker::domain::ClusterName;
use ichor_client::tls::Trust;
use ichor_client::{Broker, Clock as ClientClock};
use ichor_standins::address;
use ichor_standins::node::{Node, NodeOptions};
use ichor_standins::openbao::{OpenBao, OpenBaoOptions};
use ichor_standins::provider::{Client, Person as Known, Provider, ProviderOptions};
use jiff::Timestamp;
use tempfile::TempDir;
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::UnixStream;
use url::Url;

/// The world's cluster, labelled `env=prod`.
pub const CLUSTER: &str = "prod";

/// A running world. Dropping it ends everything at once.
pub struct World {
    /// The provider, alias `corp`.
    pub provider: Provider,
    /// The broker.
    pub running: Running,
    /// A node of [`CLUSTER`] that accepts its dedicated CA.
    pub node: Node,
    /// The one clock.
    pub clock: Arc<FrozenClock>,
    /// The broker's folder.
    pub dir: PathBuf,
    /// The broker's URL.
    pub url: Url,
    /// The CA of the broker's TLS certificate, PEM.
    pub tls_ca: String,
    /// The server that holds the CA, where one does.
    pub bao: Option<OpenBao>,
    folder: TempDir,
}

/// A world without its broker, which whoever has this starts and stops.
pub struct Surroundings {
    /// The provider, alias `corp`.
    pub provider: Provider,
    /// The node of [`CLUSTER`].
    pub node: Node,
    /// The one clock.
    pub clock: Arc<FrozenClock>,
    /// The broker's folder.
    pub dir: PathBuf,
    /// The CA of the broker's TLS certificate, PEM.
    pub tls_ca: String,
    /// The broker as a client sees it.
    pub broker: Broker,
    folder: TempDir,
}

/// Changes a broker's folder.
pub type Prepare = Box<dyn FnOnce(&Path) -> anyhow::Result<()> + Send>;

/// Where the CA of a world lives.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Lives {
    /// In a file of the vault.
    #[default]
    Age,
    /// In KV of an OpenBao server.
    Kv,
    /// In Transit of an OpenBao server.
    Transit,
}

/// How a world differs from the usual one.
#[derive(Default)]
pub struct Options {
    /// Lines for `config.toml` besides the usual, ahead of the provider's section.
    pub config: String,
    /// Lines for the provider's section.
    pub provider: String,
    /// Wraps the store.
    pub wrap_store: Option<WrapStore>,
    /// Policies instead of the shipped ones.
    pub policies: Option<&'static str>,
    /// Replacements in `config.toml` as `init` wrote it.
    pub edits: Vec<(&'static str, &'static str)>,
    /// Where the CA lives.
    pub custody: Lives,
    /// Changes the folder as `init` made it, before any other command works on it.
    pub prepare: Option<Prepare>,
    /// How often the broker looks at its files; only when told where none is said.
    pub look: Option<Duration>,
}

/// Longer than any test runs.
const NEVER: Duration = Duration::from_secs(24 * 3600);

impl World {
    /// The usual world: alice in `talos-users`, oscar in `talos-operators`, root in `talos-admins`, carol in nothing.
    pub async fn start() -> anyhow::Result<Self> {
        Self::with(Options::default()).await
    }

    /// A world with differences.
    pub async fn with(options: Options) -> anyhow::Result<Self> {
        ichor_standins::install_tls_provider();
        let clock = FrozenClock::at(SystemClock.now());
        let folder = tempfile::tempdir()?;
        let dir = folder.path().join("broker");
        // outside the range of connections: a broker that starts anew has it again
        let listener = address::listener()?;
        listener.set_nonblocking(true)?;
        let url = Url::parse(&format!("https://localhost:{}", listener.local_addr()?.port()))?;

        let now = {
            let clock = Arc::clone(&clock);
            Arc::new(move || clock.now()) as Arc<dyn Fn() -> Timestamp + Send + Sync>
        };
        let provider = Provider::start(ProviderOptions {
            people: vec![
                Known::new("alice", "Alice Example", ["talos-users"]).with_acr("mfa"),
                Known::new("oscar", "Oscar Example", ["talos-operators"]).with_acr("mfa"),
                Known::new("root", "Root Example", ["talos-admins"]).with_acr("mfa"),
                Known::new("carol", "Carol Example", []),
            ],
            clients: vec![Client::public("ichor", [format!("{}oauth/callback/corp", url).as_str()])],
            now: Arc::clone(&now),
            ..ProviderOptions::default()
        })
        .await?;
        let node = Node::start(NodeOptions { now, ..NodeOptions::new("node-a")? }).await?;

        init_folder(&dir, &url, &provider, &options.config, &options.provider).await?;
        let path = dir.join("config.toml");
        let mut file = std::fs::read_to_string(&path)?;
        for (old, new) in options.edits {
            ensure!(file.contains(old), "`{old}` is not in config.toml");
            file = file.replace(old, new);
        }
        std::fs::write(&path, file)?;
        let bao = match options.custody {
            Lives::Age => None,
            Lives::Kv | Lives::Transit => Some(start_openbao(&dir).await?),
        };
        if let Some(prepare) = options.prepare {
            prepare(&dir)?;
        }
        if let Some(policies) = options.policies {
            for entry in std::fs::read_dir(dir.join("policies"))? {
                std::fs::remove_file(entry?.path())?;
            }
            std::fs::write(dir.join("policies/test.cedar"), policies)?;
        }
        declare_cluster(&dir, &node).await?;
        let custody = options.custody.said();
        let dir_text = text(&dir);
        let create = ["ca", "create", CLUSTER, "--custody", custody, "--reason", "tests", "--dir", &dir_text];
        let output = run_command(&create).await?;
        ensure!(output.contains("acceptedCAs"), "the patch was not printed:\n{output}");

        let loaded = Folder::new(&dir).load()?;
        let open = || Vault::open(&loaded.settings.vault, IdentitySource::DangerBeside);
        let ca = ichor_broker::app::custody(&loaded, open()?)?
            .certificate(&ClusterName::new(CLUSTER)?, &KnownCas::default())
            .await?;
        node.set_accepted_cas(&ca.pem())?;
        // the commands above lived in the host's time; the world's clock must not lie behind their entries
        clock.advance(SystemClock.now().duration_since(clock.now()) + jiff::SignedDuration::from_millis(1));
        let parts = Parts {
            clock: Arc::clone(&clock) as Arc<dyn Clock>,
            vault: open()?,
            listener: Some(listener),
            wrap_store: options.wrap_store,
            accept_clock: true,
            look: options.look.unwrap_or(NEVER),
        };
        let running = Running::start(&loaded, parts).await?;
        let tls_ca = std::fs::read_to_string(dir.join("tls/ca.crt"))?;
        Ok(Self { provider, running, node, clock, dir, url, tls_ca, bao, folder })
    }

    /// The broker as a client of this world sees it.
    #[must_use]
    pub fn broker(&self) -> Broker {
        let clock = Arc::clone(&self.clock);
        let clock = ClientClock::showing(move || clock.now());
        Broker::new(self.url.clone(), Trust::CaPem(self.tls_ca.clone()), clock)
    }

    /// The broker, and the world around it.
    #[must_use]
    pub fn apart(self) -> (Running, Surroundings) {
        let broker = self.broker();
        let Self { provider, running, node, clock, dir, tls_ca, folder, .. } = self;
        (running, Surroundings { provider, node, clock, dir, tls_ca, broker, folder })
    }

    /// A world whose broker serves health and metrics.
    pub async fn with_health() -> anyhow::Result<Self> {
        Self::with(Options {
            edits: vec![("[server]\n", "[server]\nhealth_listen = \"127.0.0.1:0\"\n")],
            ..Options::default()
        })
        .await
    }

    /// The URL of a path at the broker.
    #[must_use]
    pub fn at(&self, path: &str) -> String {
        format!("{}{path}", self.url.as_str().trim_end_matches('/'))
    }

    /// A plain HTTP client that trusts the broker's TLS.
    pub fn http(&self) -> anyhow::Result<reqwest::Client> {
        self.http_as(None)
    }

    /// The same with a client certificate and its key, PEM, to show.
    #[expect(clippy::disallowed_methods, reason = "the one place where the suites build a plain client")]
    pub fn http_as(&self, identity: Option<&str>) -> anyhow::Result<reqwest::Client> {
        let ca = reqwest::Certificate::from_pem(self.tls_ca.as_bytes())?;
        let mut client = reqwest::Client::builder().tls_certs_only([ca]).no_proxy();
        if let Some(pem) = identity {
            client = client.identity(reqwest::Identity::from_pem(pem.as_bytes())?);
        }
        Ok(client.build()?)
    }

    /// A private folder of the world's own.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.folder.path()
    }

    /// The log's newest entries, newest first, at most 500.
    pub async fn entries(&self) -> anyhow::Result<Vec<ichor_wire::api::AuditEntry>> {
        let store = self.running.store();
        Ok(ichor_broker::audit::entries(&*store, &Default::default(), None, 500).await?.entries)
    }
}

impl Surroundings {
    /// A private folder of the world's own.
    #[must_use]
    pub fn scratch(&self) -> &Path {
        self.folder.path()
    }
}

impl Lives {
    /// As `--custody` has it.
    fn said(self) -> &'static str {
        match self {
            Self::Age => "age",
            Self::Kv => "kv",
            Self::Transit => "transit",
        }
    }
}

/// An OpenBao server that the broker of this folder logs in to with an AppRole.
pub async fn start_openbao(dir: &Path) -> anyhow::Result<OpenBao> {
    let bao = OpenBao::start(OpenBaoOptions::default()).await?;
    bao.add_approle("ichor", "a secret id");
    std::fs::write(dir.join("bao-ca.pem"), bao.ca_pem())?;
    std::fs::write(dir.join("bao-secret"), "a secret id\n")?;
    let path = dir.join("config.toml");
    let mut file = std::fs::read_to_string(&path)?;
    file.push_str(&format!(
        "\n[[openbao]]\nname = \"main\"\naddress = \"{}\"\nca_file = \"bao-ca.pem\"\nauth = \"approle\"\n\
         role = \"ichor\"\nsecret_file = \"bao-secret\"\ndeadline = \"2s\"\n",
        bao.url()
    ));
    std::fs::write(&path, file)?;
    Ok(bao)
}

/// Makes a broker's folder by `init` and puts the provider into its configuration.
pub async fn init_folder(
    dir: &Path,
    url: &Url,
    provider: &Provider,
    config: &str,
    provider_lines: &str,
) -> anyhow::Result<()> {
    let at = format!("127.0.0.1:{}", url.port().context("a port")?);
    run_command(&["init", &text(dir), "--insecure-identity-beside", "--public-url", url.as_str(), "--listen", &at])
        .await?;
    let path = dir.join("config.toml");
    let mut file = std::fs::read_to_string(&path)?;
    file.push_str(&format!(
        "\n{config}\n[[provider]]\nalias = \"corp\"\nissuer = \"{}\"\nclient_id = \"ichor\"\n{provider_lines}\n",
        provider.issuer()
    ));
    std::fs::write(&path, file)?;
    Ok(())
}

/// Declares [`CLUSTER`] from a talosconfig that points at the node, as an operator would.
async fn declare_cluster(dir: &Path, node: &Node) -> anyhow::Result<()> {
    let encoded = data_encoding::BASE64.encode(node.ca_pem().as_bytes());
    let talosconfig = format!(
        "context: prod\ncontexts:\n  prod:\n    endpoints: [{}]\n    nodes: [{}]\n    ca: {encoded}\n",
        node.endpoint(),
        node.address().ip()
    );
    let path = dir.parent().context("a folder")?.join("operator-talosconfig");
    std::fs::write(&path, talosconfig)?;
    let arguments = [
        "cluster",
        "add",
        CLUSTER,
        "--from",
        &text(&path),
        "--label",
        "env=prod",
        "--reason",
        "tests",
        "--dir",
        &text(dir),
    ];
    run_command(&arguments).await.map(drop)
}

/// An entry about a cluster's CA, as another broker's command writes one: nothing is loaded anew by it.
pub async fn tell_elsewhere(world: &World, cluster: &str, digest: (&str, &str)) -> anyhow::Result<()> {
    let act = serde_json::json!({
        "ca": true, "cluster": cluster, "message": "done at another broker", "reason": "tests", "host": "broker-b", "os_user": "root",
        "digests": { digest.0: digest.1 },
    });
    let act = act.to_string();
    let head = format!("content-type: application/json\r\nconnection: close\r\ncontent-length: {}", act.len());
    let mut socket = UnixStream::connect(world.dir.join("data/admin.sock")).await?;
    socket.write_all(format!("POST /v1/acts HTTP/1.1\r\nhost: admin\r\n{head}\r\n\r\n{act}").as_bytes()).await?;
    let mut answer = String::new();
    socket.read_to_string(&mut answer).await?;
    anyhow::ensure!(answer.starts_with("HTTP/1.1 200"), "{answer}");
    Ok(())
}

/// Runs a command of `ichor-broker` in this process and answers what it printed.
pub async fn run_command(arguments: &[&str]) -> anyhow::Result<String> {
    let cli = Cli::try_parse_from(std::iter::once("ichor-broker").chain(arguments.iter().copied()))?;
    let shown = arguments.join(" ");
    // commands run a runtime of their own
    let (result, printed) = tokio::task::spawn_blocking(move || {
        let mut out = Vec::new();
        (cli.execute(&mut out), out)
    })
    .await?;
    let printed = String::from_utf8(printed)?;
    match result {
        Ok(()) => Ok(printed),
        Err(error) => bail!("`ichor-broker {shown}` failed: {error:#}\n{printed}"),
    }
}

fn text(path: &Path) -> String {
    path.to_string_lossy().into_owned()
}
