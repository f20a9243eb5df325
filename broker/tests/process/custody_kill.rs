//! Commands on CAs as real processes, each killed with SIGKILL at each of its requests to the vault server: once before the
//! server does what was asked, once after. What is left is the old state or one that the same command goes on with.

use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::time::Duration;

use anyhow::Context;
use clap::Parser;
use ichor_broker::app;
use ichor_broker::cli::Cli;
use ichor_broker::config::Folder;
use ichor_broker::custody::{IdentitySource, Vault};
use ichor_broker::domain::ClusterName;
use ichor_standins::authority::Authority;
use ichor_standins::node::{Node, NodeOptions};
use ichor_standins::openbao::{Fault, OpenBao, OpenBaoOptions, Rule};

use super::{CLUSTER, run};

/// What one command works on, made anew for each kill.
struct Ground {
    bao: OpenBao,
    node: Node,
    folder: tempfile::TempDir,
}

/// A command to be killed.
struct Case {
    /// What is there before it.
    before: &'static [&'static [&'static str]],
    command: &'static [&'static str],
    /// What issues once it came to its end.
    ends_at: &'static str,
    /// The fewest requests that it makes.
    least: usize,
}

impl Ground {
    async fn new(template: &Path) -> anyhow::Result<Self> {
        let bao = OpenBao::start(OpenBaoOptions { tls: false, ..OpenBaoOptions::default() }).await?;
        bao.add_approle("ichor", "the secret id");
        let node = Node::start(NodeOptions::new("node-a")?).await?;
        let ground = Self { bao, node, folder: tempfile::tempdir()? };
        copy(template, &ground.dir())?;
        std::fs::write(ground.dir().join("secret"), "the secret id")?;
        let path = ground.dir().join("config.toml");
        let config = format!(
            "{}\n[[openbao]]\nname = \"main\"\naddress = \"{}\"\nauth = \"approle\"\nrole = \"ichor\"\nsecret_file = \"secret\"\n",
            std::fs::read_to_string(&path)?,
            ground.bao.url()
        );
        std::fs::write(path, config)?;
        let cluster = format!("endpoints = [\"{}\"]\nca = '''\n{}'''\n", ground.node.endpoint(), ground.node.ca_pem());
        std::fs::write(ground.dir().join(format!("clusters/{CLUSTER}.toml")), cluster)?;
        // a CA that exists elsewhere
        let authority = Authority::new("talos")?;
        std::fs::write(
            ground.folder.path().join("ca.pem"),
            format!("{}\n{}", authority.certificate(), authority.key()?),
        )?;
        Ok(ground)
    }

    /// The broker may do at the PKI engine what `deploy/openbao/pki.hcl` says, and an operator has a token.
    fn has_an_engine(&self) -> anyhow::Result<()> {
        std::fs::write(self.folder.path().join("operator-token"), OpenBao::ROOT_TOKEN)?;
        let rules = [("pki/sign/ichor-prod-*", "update"), ("pki/roles/ichor-prod-*", "read")];
        self.bao.allow_only(rules.map(|(path, act)| Rule::new(path, [act])));
        Ok(())
    }

    fn dir(&self) -> PathBuf {
        self.folder.path().join("broker")
    }

    fn command(&self, arguments: &[&str]) -> Command {
        let mut command = Command::new(env!("CARGO_BIN_EXE_ichor-broker"));
        command.args(arguments).args(["--dir"]).arg(self.dir()).current_dir(self.folder.path());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        command
    }

    /// What a command says that is run in this process, to its end; and whether it succeeded.
    async fn here(&self, arguments: &[&str]) -> anyhow::Result<(bool, String)> {
        let dir = self.dir().display().to_string();
        let arguments = [&["ichor-broker"], arguments, &["--dir", &dir]].concat();
        let cli = Cli::try_parse_from(arguments)?;
        let run = move || {
            let mut out = Vec::new();
            let result = cli.execute(&mut out);
            (result, String::from_utf8_lossy(&out).into_owned())
        };
        // commands run a runtime of their own
        Ok(match tokio::task::spawn_blocking(run).await? {
            (Ok(()), said) => (true, said),
            (Err(error), said) => (false, format!("{said}{error:#}")),
        })
    }

    /// Runs as a process to its end.
    fn runs(&self, arguments: &[&str]) -> anyhow::Result<Output> {
        Ok(self.command(&[arguments, &["--reason", "tests"]].concat()).output()?)
    }

    /// Whether the command was killed at its request after so many; `false` where it made fewer and came to its end.
    async fn kills(&self, arguments: &[&str], after: usize, fault: Fault) -> anyhow::Result<bool> {
        let before = self.bao.requests().len();
        self.bao.spoil_after("*", fault, u32::try_from(after)?);
        let mut child = self.command(&[arguments, &["--reason", "tests"]].concat()).spawn()?;
        let killed = loop {
            if self.bao.requests().len() > before + after {
                child.kill()?;
                child.wait()?;
                break true;
            }
            if child.try_wait()?.is_some() {
                break false;
            }
            tokio::time::sleep(Duration::from_millis(1)).await;
        };
        self.bao.set_fault("*", None);
        Ok(killed)
    }

    /// The CA that a broker on this folder issues with: its place, and its certificate's fingerprint.
    async fn issues(&self) -> anyhow::Result<(String, [u8; 32])> {
        let loaded = Folder::new(self.dir()).load()?;
        let vault = Vault::open(&loaded.settings.vault, IdentitySource::DangerBeside)?;
        let (custody, cluster) = (app::custody(&loaded, vault)?, ClusterName::new(CLUSTER)?);
        let opened = custody.open(&cluster, &app::known_cas(&loaded.settings).await?).await?;
        Ok((custody.record(&cluster)?.active.said(), opened.certificate.fingerprint()))
    }

    /// What tells the data key from another.
    async fn tag(&self) -> anyhow::Result<Vec<u8>> {
        let loaded = Folder::new(self.dir()).load()?;
        let vault = Vault::open(&loaded.settings.vault, IdentitySource::DangerBeside)?;
        Ok(app::custody(&loaded, vault)?.data_key().await?.tag(b"row", b"of a session").to_vec())
    }

    /// Makes the node accept the CA in force and the one that is to be, as an operator's patches do.
    async fn patch(&self) -> anyhow::Result<()> {
        let (_, mut bundle) = self.here(&["ca", "export-public", CLUSTER]).await?;
        if self.is_rotating() {
            let (is_printed, patch) = self.here(&["ca", "patch", CLUSTER, "--next"]).await?;
            anyhow::ensure!(is_printed, "{patch}");
            let next = patch.lines().find_map(|line| line.trim().strip_prefix("- crt: ")).context("a patch")?;
            bundle.push_str(&String::from_utf8(data_encoding::BASE64.decode(next.as_bytes())?)?);
        }
        self.node.set_accepted_cas(&bundle)
    }

    /// Brings a rotation that is under way to its end; other commands have come to theirs.
    async fn completes(&self, command: &[&str], at: &str) -> anyhow::Result<()> {
        if command[1] == "rotate" && self.is_rotating() {
            self.patch().await?;
            let output = self.runs(&["ca", "rotate", CLUSTER, "--continue", "--wait", "0s"])?;
            anyhow::ensure!(output.status.success(), "{at}: {}", said(&output));
        }
        Ok(())
    }

    fn is_rotating(&self) -> bool {
        let record = std::fs::read_to_string(self.dir().join(format!("vault/ca/{CLUSTER}.toml")));
        record.is_ok_and(|record| record.contains("[rotation]"))
    }
}

/// A folder as `init` makes it, with the cluster declared.
fn template(room: &Path) -> anyhow::Result<PathBuf> {
    let dir = room.join("broker");
    let text = dir.display().to_string();
    let url = "http://127.0.0.1:9";
    run(&["init", &text, "--insecure-identity-beside", "--public-url", url, "--listen", "127.0.0.1:9"])?;
    Ok(dir)
}

fn copy(from: &Path, to: &Path) -> anyhow::Result<()> {
    std::fs::create_dir(to)?;
    std::fs::set_permissions(to, std::fs::metadata(from)?.permissions())?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let to = to.join(entry.file_name());
        match entry.file_type()?.is_dir() {
            true => copy(&entry.path(), &to)?,
            false => std::fs::copy(entry.path(), to).map(drop)?,
        }
    }
    Ok(())
}

fn said(output: &Output) -> String {
    String::from_utf8_lossy(&[output.stdout.as_slice(), &output.stderr].concat()).into_owned()
}

async fn is_killed_everywhere(case: &Case) -> anyhow::Result<()> {
    ichor_standins::install_tls_provider();
    let room = tempfile::tempdir()?;
    let template = template(room.path())?;
    for fault in [Fault::Stall, Fault::Silent] {
        let mut after = 0;
        loop {
            let at = format!("`{}` killed at request {after}, {fault:?}", case.command.join(" "));
            let ground = Ground::new(&template).await?;
            for before in case.before {
                let (is_done, said) = ground.here(&[*before, &["--reason", "tests"]].concat()).await?;
                // a rotation that begins ends so where no node accepts the new CA yet
                anyhow::ensure!(is_done || said.contains("not every node accepts"), "{at}: {said}");
            }
            if !case.before.is_empty() {
                ground.patch().await?;
            }
            let old = ground.issues().await.ok();
            assert_eq!(old.is_some(), !case.before.is_empty(), "{at}");
            if !ground.kills(case.command, after, fault.clone()).await? {
                ground.completes(case.command, &at).await?;
                assert_eq!(ground.issues().await?.0, case.ends_at, "{at}");
                break;
            }
            // the old state, plainly
            assert_eq!(ground.issues().await.ok(), old, "{at}");
            let (_, show) = ground.here(&["ca", "show"]).await?;
            match &old {
                Some((place, _)) => assert!(show.contains(&format!("lives in {place}")), "{at}: {show}"),
                None => assert!(show.contains("no such CA in custody"), "{at}: {show}"),
            }
            // and the same command comes to its end
            if !ground.is_rotating() {
                let output = ground.runs(case.command)?;
                assert!(output.status.success() || ground.is_rotating(), "{at}: {}", said(&output));
            }
            ground.completes(case.command, &at).await?;
            let (place, fingerprint) = ground.issues().await?;
            assert_eq!(place, case.ends_at, "{at}");
            if case.command[1] == "move" {
                assert_eq!(Some(fingerprint), old.map(|(_, fingerprint)| fingerprint), "{at}");
            }
            let (_, log) = ground.here(&["audit", "verify"]).await?;
            assert!(log.starts_with("no damage: "), "{at}: {log}");
            after += 1;
        }
        assert!(after >= case.least, "`{}` made only {after} requests", case.command.join(" "));
    }
    Ok(())
}

const TRANSIT: &str = "Transit key transit/ichor-prod version 1 at main";
const KV: &str = "KV secret secret/ichor/prod at main";
const CREATE: &[&str] = &["ca", "create", CLUSTER, "--custody", "transit"];
const CREATE_KV: &[&str] = &["ca", "create", CLUSTER, "--custody", "kv"];
const ROTATE: &[&str] = &["ca", "rotate", CLUSTER, "--wait", "0s"];

#[tokio::test(flavor = "multi_thread")]
async fn ca_create_killed_at_each_request() -> anyhow::Result<()> {
    is_killed_everywhere(&Case { before: &[], command: CREATE, ends_at: TRANSIT, least: 4 }).await?;
    is_killed_everywhere(&Case { before: &[], command: CREATE_KV, ends_at: KV, least: 3 }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ca_import_killed_at_each_request() -> anyhow::Result<()> {
    let command = &["ca", "import", CLUSTER, "--from", "ca.pem", "--custody", "transit"];
    is_killed_everywhere(&Case { before: &[], command, ends_at: TRANSIT, least: 5 }).await?;
    let command = &["ca", "import", CLUSTER, "--from", "ca.pem", "--custody", "kv"];
    is_killed_everywhere(&Case { before: &[], command, ends_at: KV, least: 3 }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ca_move_killed_at_each_request() -> anyhow::Result<()> {
    let before: &[&[&str]] = &[&["ca", "create", CLUSTER]];
    let command = &["ca", "move", CLUSTER, "--to", "transit"];
    is_killed_everywhere(&Case { before, command, ends_at: TRANSIT, least: 5 }).await?;
    let command = &["ca", "move", CLUSTER, "--to", "kv"];
    is_killed_everywhere(&Case { before, command, ends_at: KV, least: 3 }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ca_rotate_killed_at_each_request() -> anyhow::Result<()> {
    let ends_at = "Transit key transit/ichor-prod.2 version 1 at main";
    // as it begins a new key is made; as it goes on the new CA is asked for a probe, opened and put in force
    is_killed_everywhere(&Case { before: &[CREATE], command: ROTATE, ends_at, least: 5 }).await?;
    let command = &["ca", "rotate", CLUSTER, "--continue", "--wait", "0s"];
    is_killed_everywhere(&Case { before: &[CREATE, ROTATE], command, ends_at, least: 4 }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ca_move_out_of_kv_killed_at_each_request() -> anyhow::Result<()> {
    let command = &["ca", "move", CLUSTER, "--to", "transit"];
    is_killed_everywhere(&Case { before: &[CREATE_KV], command, ends_at: TRANSIT, least: 6 }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ca_rotate_in_kv_killed_at_each_request() -> anyhow::Result<()> {
    let ends_at = "KV secret secret/ichor/prod.2 at main";
    is_killed_everywhere(&Case { before: &[CREATE_KV], command: ROTATE, ends_at, least: 4 }).await?;
    let command = &["ca", "rotate", CLUSTER, "--continue", "--wait", "0s"];
    is_killed_everywhere(&Case { before: &[CREATE_KV, ROTATE], command, ends_at, least: 3 }).await
}

#[tokio::test(flavor = "multi_thread")]
async fn custody_move_secrets_killed_at_each_request() -> anyhow::Result<()> {
    ichor_standins::install_tls_provider();
    let room = tempfile::tempdir()?;
    let template = template(room.path())?;
    for fault in [Fault::Stall, Fault::Silent] {
        let mut after = 0;
        loop {
            let at = format!("killed at request {after}, {fault:?}");
            let ground = Ground::new(&template).await?;
            let before = ground.tag().await?;
            let command = ["custody", "move-secrets", "--to", "kv"];
            let killed = ground.kills(&command, after, fault.clone()).await?;
            assert_eq!(ground.tag().await?, before, "it is the same key: {at}");
            if !killed {
                break;
            }
            let output = ground.runs(&command)?;
            assert!(output.status.success(), "{at}: {}", said(&output));
            assert_eq!(ground.tag().await?, before, "it is the same key: {at}");
            assert!(ground.dir().join("vault/secrets/data-key.toml").exists(), "{at}");
            after += 1;
        }
        assert!(after >= 3, "it made only {after} requests");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn audit_rotate_key_killed_at_each_request() -> anyhow::Result<()> {
    ichor_standins::install_tls_provider();
    let room = tempfile::tempdir()?;
    let template = template(room.path())?;
    for (command, least) in
        [(["audit", "rotate-key", "--to", "transit"], 3), (["audit", "rotate-key", "--to", "kv"], 3)]
    {
        for fault in [Fault::Stall, Fault::Silent] {
            let mut after = 0;
            loop {
                let at = format!("`{}` killed at request {after}, {fault:?}", command.join(" "));
                let ground = Ground::new(&template).await?;
                let killed = ground.kills(&command, after, fault.clone()).await?;
                let (_, log) = ground.here(&["audit", "verify"]).await?;
                assert!(log.starts_with("no damage: "), "{at}: {log}");
                if !killed {
                    break;
                }
                let mut output = ground.runs(&command)?;
                if said(&output).contains("already; name another with `--key`") {
                    // one that was made and never signed is not taken on trust
                    output = ground.runs(&[&command[..], &["--key", "another"]].concat())?;
                }
                assert!(output.status.success(), "{at}: {}", said(&output));
                let (_, log) = ground.here(&["audit", "verify"]).await?;
                assert!(log.starts_with("no damage: "), "{at}: {log}");
                after += 1;
            }
            assert!(after >= least, "`{}` made only {after} requests", command.join(" "));
        }
    }
    Ok(())
}

/// Writes the roles of a PKI engine.
const APPLY: &[&str] = &["custody", "apply", CLUSTER, "--roles", "reader", "--token-file", "operator-token"];
/// Takes up its CA.
const TAKE: &[&str] = &["ca", "import", CLUSTER, "--custody", "pki", "--roles", "reader"];

async fn engine_is_killed_everywhere(command: &[&str], least: usize) -> anyhow::Result<()> {
    ichor_standins::install_tls_provider();
    let room = tempfile::tempdir()?;
    let template = template(room.path())?;
    for fault in [Fault::Stall, Fault::Silent] {
        let mut after = 0;
        loop {
            let at = format!("`{}` killed at request {after}, {fault:?}", command.join(" "));
            let ground = Ground::new(&template).await?;
            ground.has_an_engine()?;
            if command == TAKE {
                let output = ground.runs(APPLY)?;
                assert!(output.status.success(), "{at}: {}", said(&output));
            }
            if !ground.kills(command, after, fault.clone()).await? {
                break;
            }
            assert!(ground.issues().await.is_err(), "nothing issues that was not taken up whole: {at}");
            for again in [APPLY, TAKE] {
                let output = ground.runs(again)?;
                assert!(output.status.success(), "{at}: {}", said(&output));
            }
            assert_eq!(ground.issues().await?.0, "PKI engine pki at main", "{at}");
            let (_, log) = ground.here(&["audit", "verify"]).await?;
            assert!(log.starts_with("no damage: "), "{at}: {log}");
            after += 1;
        }
        assert!(after >= least, "`{}` made only {after} requests", command.join(" "));
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread")]
async fn custody_apply_killed_at_each_request() -> anyhow::Result<()> {
    engine_is_killed_everywhere(APPLY, 4).await
}

#[tokio::test(flavor = "multi_thread")]
async fn ca_import_of_an_engine_killed_at_each_request() -> anyhow::Result<()> {
    engine_is_killed_everywhere(TAKE, 4).await
}
