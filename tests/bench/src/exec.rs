//! `exec`: what `ichor exec` adds to the command that it runs, and how soon `ichor --help` is there.

use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use anyhow::ensure;
use ichor_client::{Environment, SessionStore};

use crate::Settings;
use crate::meter::{Times, millis, timed};
use crate::report::{Goal, Report};
use crate::world::{World, program};

const RUNS: u32 = 40;

pub(crate) async fn run(settings: &Settings) -> anyhow::Result<Report> {
    let mut report = Report::new("exec");
    let world = World::start(settings).await?;
    let home = world.scratch().join("home");
    std::fs::create_dir_all(&home)?;
    let session = world.log_in().await?;
    SessionStore::new(&Environment::isolated(&home))?.save(&session)?;
    let ca = home.join("broker-ca.pem");
    std::fs::write(&ca, &world.tls_ca)?;
    let ichor = Ichor { program: program("ichor")?, home, url: world.url.to_string(), ca };

    let node = world.node.address().ip().to_string();
    let (child, what) = match talosctl() {
        Some(talosctl) => (vec![talosctl, "-n".into(), node, "version".into()], "talosctl version"),
        None => (vec!["true".to_owned()], "true (there is no talosctl here)"),
    };
    report.note(format!("{RUNS} runs each, in turn; the command is `{what}`, at a simulated node"));
    let talosconfig = ichor.home.join("talosconfig");
    let path = talosconfig.to_string_lossy().into_owned();
    ichor.must(&["talosconfig", "prod", "--talosconfig", &path, "--set-current"], &[])?;

    let (mut alone, mut kept, mut fresh, mut help) =
        (Times::default(), Times::default(), Times::default(), Times::default());
    ichor.must(&["exec", "prod", "--"], &child)?;
    for _ in 0..RUNS {
        alone.push(ichor.alone(&child, &talosconfig)?);
        kept.push(ichor.must(&["exec", "prod", "--"], &child)?);
        // A reason asks for a certificate of its own.
        fresh.push(ichor.must(&["exec", "prod", "--reason", "bench", "--"], &child)?);
        help.push(ichor.must(&["--help"], &[])?);
    }
    let alone = alone.percentile(0.5);
    let added = |times: &mut Times| millis(times.percentile(0.5).saturating_sub(alone));
    report.add("the command alone, p50", millis(alone), "ms");
    report.hold("added by exec with a kept certificate", added(&mut kept), "ms", Goal::AtMost(15.0));
    report.hold("added by exec with a fresh certificate", added(&mut fresh), "ms", Goal::AtMost(15.0));
    report.hold("ichor --help, p50", millis(help.percentile(0.5)), "ms", Goal::AtMost(10.0));
    Ok(report)
}

/// The client in a home of its own.
struct Ichor {
    program: PathBuf,
    home: PathBuf,
    url: String,
    ca: PathBuf,
}

// === impl Ichor ===

impl Ichor {
    /// Runs it, which must succeed.
    fn must(&self, arguments: &[&str], child: &[String]) -> anyhow::Result<Duration> {
        let mut command = Command::new(&self.program);
        command
            .args(["--broker", &self.url, "--ca"])
            .arg(&self.ca)
            .args(arguments)
            .args(child)
            .env("HOME", &self.home)
            .env("XDG_STATE_HOME", self.home.join("state"))
            .env("XDG_CONFIG_HOME", self.home.join("config"))
            .env("XDG_RUNTIME_DIR", self.home.join("run"))
            .env("ICHOR_KEYRING", "off");
        finish(&mut command)
    }

    /// Runs the command with the talosconfig that was written.
    fn alone(&self, child: &[String], talosconfig: &Path) -> anyhow::Result<Duration> {
        let mut command = Command::new(child.first().map_or("true", String::as_str));
        command.args(child.get(1..).unwrap_or_default()).env("HOME", &self.home).env("TALOSCONFIG", talosconfig);
        finish(&mut command)
    }
}

fn finish(command: &mut Command) -> anyhow::Result<Duration> {
    let (output, took) = timed(|| command.stdin(Stdio::null()).output());
    let output = output?;
    ensure!(output.status.success(), "{command:?}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(took)
}

/// A talosctl on PATH, or the one that the interop suites build.
fn talosctl() -> Option<String> {
    let built = Path::new("tests/interop/.work/bin/talosctl").canonicalize().ok();
    let found = ["/usr/local/bin/talosctl", "/usr/bin/talosctl"].into_iter().map(PathBuf::from).chain(built);
    found.filter(|path| path.exists()).map(|path| path.to_string_lossy().into_owned()).next()
}
