//! Calls to the nodes: by the `talosctl` on PATH, or where there is none by a small client of our own, always with the
//! talosconfig that was written.

use std::ffi::OsStr;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use anyhow::Context as _;
use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ichor_standins::node::client::NodeClient;
use ichor_standins::node::grpc::Status;
use ichor_wire::talosconfig::Talosconfig;

/// What makes the calls.
pub(crate) enum Caller {
    /// The real one.
    Talosctl(PathBuf),
    /// Ours.
    BuiltIn,
}

/// What is called.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Verb {
    /// Tells the node's version.
    Version,
    /// Prints the kernel log.
    Dmesg,
    /// Reboots the node.
    Reboot,
}

/// What came back.
pub(crate) struct Outcome {
    /// The call went well.
    pub(crate) ok: bool,
    /// What was printed.
    pub(crate) text: String,
}

// === impl Caller ===

impl Caller {
    /// The `talosctl` on PATH, if any.
    pub(crate) fn find() -> Self {
        #[expect(clippy::disallowed_methods, reason = "PATH is where a talosctl would be")]
        let path = std::env::var_os("PATH").unwrap_or_default();
        find_in(&path).map_or(Self::BuiltIn, Self::Talosctl)
    }

    /// Makes a call with the context `context` of the file, at the node `target`.
    ///
    /// # Errors
    /// When no call could be made; a refusal by the node is an outcome.
    pub(crate) async fn call(
        &self,
        talosconfig: &Path,
        context: &str,
        target: &str,
        verb: Verb,
    ) -> anyhow::Result<Outcome> {
        match self {
            Self::Talosctl(program) => talosctl(program, talosconfig, context, target, verb).await,
            Self::BuiltIn => built_in(talosconfig, context, target, verb).await,
        }
    }
}

fn find_in(path: &OsStr) -> Option<PathBuf> {
    std::env::split_paths(path).map(|folder| folder.join("talosctl")).find(|file| file.is_file())
}

// === impl Verb ===

impl Verb {
    /// The verb as it is typed.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Version => "version",
            Self::Dmesg => "dmesg",
            Self::Reboot => "reboot",
        }
    }
}

async fn talosctl(
    program: &Path,
    talosconfig: &Path,
    context: &str,
    target: &str,
    verb: Verb,
) -> anyhow::Result<Outcome> {
    let mut command = tokio::process::Command::new(program);
    command.arg("--talosconfig").arg(talosconfig).args(["--context", context, "-n", target, verb.name()]);
    if verb == Verb::Reboot {
        command.arg("--wait=false");
    }
    let output = command.kill_on_drop(true).output().await.context("talosctl does not run")?;
    let mut text = String::from_utf8_lossy(&output.stdout).into_owned();
    text.push_str(&String::from_utf8_lossy(&output.stderr));
    // The client's own version is of no interest here.
    if let (Verb::Version, Some((_, server))) = (verb, text.split_once("Server:\n")) {
        text = server.to_owned();
    }
    Ok(Outcome { ok: output.status.success(), text })
}

async fn built_in(talosconfig: &Path, context: &str, target: &str, verb: Verb) -> anyhow::Result<Outcome> {
    let file = Talosconfig::parse(&std::fs::read_to_string(talosconfig)?)?;
    let context = file.context(context).with_context(|| format!("no context `{context}` in the talosconfig"))?;
    let endpoint: SocketAddr = context.endpoints.first().context("no endpoint")?.parse()?;
    let (ca, crt, key) = (decoded(context.ca)?, decoded(context.crt)?, decoded(context.key)?);
    let mut client = NodeClient::connect(endpoint, &ca, Some((&crt, &key))).await?;
    let metadata = [("node", target)];
    let called = match verb {
        Verb::Version => client.version(&metadata).await.map(|answers| {
            let version = answers.into_iter().find_map(|answer| answer.version).unwrap_or_default();
            format!("NODE: {target}  Tag: {}  OS/Arch: {}/{}", version.tag, version.os, version.arch)
        }),
        Verb::Dmesg => client.dmesg(&metadata).await,
        Verb::Reboot => client.reboot(&metadata).await.map(|_| format!("{target} reboots")),
    };
    match called {
        Ok(text) => Ok(Outcome { ok: true, text }),
        Err(error) => match error.downcast_ref::<Status>() {
            Some(status) => Ok(Outcome { ok: false, text: status.to_string() }),
            None => Err(error),
        },
    }
}

fn decoded(field: Option<String>) -> anyhow::Result<String> {
    let octets = BASE64_STANDARD.decode(field.context("the context is not complete")?)?;
    Ok(String::from_utf8(octets)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_talosctl_on_path_is_taken() {
        let (empty, full) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let program = full.path().join("talosctl");
        std::fs::write(&program, "").unwrap();
        let path = std::env::join_paths([empty.path(), full.path()]).unwrap();
        assert_eq!(find_in(&path), Some(program));
        assert_eq!(find_in(empty.path().as_os_str()), None);
    }
}
