//! `ichor exec`: a command with a talosconfig of its own, gone when the command ends.

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::ExitStatus;

use ichor_wire::talosconfig::{NewContext, Talosconfig};
use nix::sys::signal::{Signal, kill};
use nix::unistd::Pid;
use tokio::signal::unix::{SignalKind, signal};

use crate::certificate::Held;
use crate::environment::Environment;
use crate::error::Error;
use crate::private_file;
use crate::session::no_home;

/// A talosconfig (0600, in a 0700 folder) that is removed when this is dropped.
#[derive(Debug)]
pub struct PrivateTalosconfig(PathBuf);

/// Runs `command` with `TALOSCONFIG` at `talosconfig`. Returns once it ended, with the exit code to pass on: its own, or
/// 128 plus the signal that ended it.
///
/// Signals that are sent to us go on to it. Those of the terminal's keys reach it anyway, being in the same group: they are
/// only kept from ending us first, for the file must be removed.
///
/// # Errors
/// When it cannot be started.
pub async fn run(
    command: &[OsString],
    talosconfig: Option<&PrivateTalosconfig>,
    has_terminal: bool,
) -> Result<u8, Error> {
    let Some((program, arguments)) = command.split_first() else {
        return Err(Error::usage(
            "no command is named",
            "write it after `--`, as in `ichor exec prod -- talosctl version`",
        ));
    };
    let no_signals = |error: std::io::Error| Error::failed(format!("signals cannot be handled: {error}"), "try again");
    let mut interrupt = signal(SignalKind::interrupt()).map_err(no_signals)?;
    let mut quit = signal(SignalKind::quit()).map_err(no_signals)?;
    let mut terminate = signal(SignalKind::terminate()).map_err(no_signals)?;
    let mut hangup = signal(SignalKind::hangup()).map_err(no_signals)?;
    let mut start = tokio::process::Command::new(program);
    start.args(arguments);
    if let Some(PrivateTalosconfig(path)) = talosconfig {
        start.env("TALOSCONFIG", path);
    }
    let mut child = start.spawn().map_err(|error| {
        let next = "check that it is installed and on PATH";
        Error::failed(format!("`{}` cannot be started: {error}", program.to_string_lossy()), next)
    })?;
    let pid = child.id().and_then(|pid| i32::try_from(pid).ok()).map(Pid::from_raw);
    loop {
        let (received, from_terminal) = tokio::select! {
            ended = child.wait() => return Ok(exit_code(ended.map_err(no_signals)?)),
            _ = interrupt.recv() => (Signal::SIGINT, has_terminal),
            _ = quit.recv() => (Signal::SIGQUIT, has_terminal),
            _ = terminate.recv() => (Signal::SIGTERM, false),
            _ = hangup.recv() => (Signal::SIGHUP, false),
        };
        if let Some(pid) = pid.filter(|_| !from_terminal) {
            // It may have ended just now; then there is nobody to tell.
            let _ = kill(pid, received);
        }
    }
}

/// Returns if the command is there to be started: for what is spent by asking for a certificate, and is known before. Without a `PATH`
/// nothing is known of a bare name.
///
/// # Errors
/// When there is no such program.
pub fn startable(environment: &Environment, command: &[OsString]) -> Result<(), Error> {
    let Some(program) = command.first().map(Path::new) else { return Ok(()) };
    let is_program = |path: &Path| {
        std::fs::metadata(path).is_ok_and(|found| found.is_file() && found.permissions().mode() & 0o111 != 0)
    };
    let is_there = match &environment.search_path {
        _ if program.as_os_str().as_bytes().contains(&b'/') => is_program(program),
        Some(paths) => std::env::split_paths(paths).any(|folder| is_program(&folder.join(program))),
        None => true,
    };
    if is_there {
        return Ok(());
    }
    let message = format!("`{}` cannot be started: there is no such program", program.display());
    Err(Error::failed(message, "check that it is installed and on PATH; no certificate was asked for"))
}

/// The `--context` among a command's arguments.
#[must_use]
pub fn context_of(command: &[OsString]) -> Option<String> {
    flag_of(command, "--context")
}

/// The `--talosconfig` among a command's arguments: with it, the command does not read ours.
#[must_use]
pub fn talosconfig_of(command: &[OsString]) -> Option<String> {
    flag_of(command, "--talosconfig")
}

/// Whether the command is a `talosctl` that works on files only, as `talosctl config`: it needs no certificate, and what it
/// writes must not go into a file that is removed.
#[must_use]
pub fn is_offline(command: &[OsString]) -> bool {
    const OFFLINE: [&str; 6] = ["config", "gen", "completion", "help", "machineconfig", "validate"];
    let Some((program, arguments)) = command.split_first() else { return false };
    let is_talosctl = Path::new(program).file_name().is_some_and(|name| name == "talosctl");
    let first = arguments.iter().filter_map(|argument| argument.to_str()).find(|argument| !argument.starts_with('-'));
    is_talosctl
        && first.map_or(arguments.iter().any(|argument| argument == "--help" || argument == "-h"), |first| {
            OFFLINE.contains(&first)
        })
}

// === impl PrivateTalosconfig ===

impl PrivateTalosconfig {
    /// Writes one with the single context `name`. `own` is the person's context of that name: their endpoints and nodes
    /// go before the broker's.
    ///
    /// # Errors
    /// When there is no place for it, others can change what is there, or it cannot be written.
    pub fn create(
        environment: &Environment,
        name: &str,
        held: &Held,
        own: Option<&ichor_wire::talosconfig::Context>,
    ) -> Result<Self, Error> {
        let theirs = |theirs: Option<&Vec<String>>, brokers: &Vec<String>| {
            theirs.filter(|list| !list.is_empty()).unwrap_or(brokers).clone()
        };
        let context = NewContext {
            endpoints: theirs(own.map(|own| &own.endpoints), &held.answer.endpoints),
            nodes: theirs(own.map(|own| &own.nodes), &held.answer.nodes),
            ca: held.answer.ca.clone(),
            crt: held.answer.certificate.clone(),
            key: held.key.clone(),
        };
        let folder = place(environment)?;
        sweep(&folder);
        let path = folder.join(format!("exec-{}-{}", std::process::id(), held.answer.grant_id.simple()));
        let edit = |source| Error::Edit { path: path.clone(), source };
        let file =
            Talosconfig::empty().put_context(name, &context).and_then(|file| file.set_current(name)).map_err(edit)?;
        private_file::remove(&path)?;
        private_file::create_new(&path, file.text().as_bytes())?;
        Ok(Self(path))
    }

    /// Returns if one can be written; its folder is made.
    ///
    /// # Errors
    /// When there is no place for it, others can change what is there, or nothing can be written there.
    pub fn check_place(environment: &Environment) -> Result<(), Error> {
        let folder = place(environment)?;
        private_file::takes_files(&folder).map_err(Error::file("write", &folder))
    }

    /// Where it is.
    #[must_use]
    pub fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for PrivateTalosconfig {
    fn drop(&mut self) {
        let _ = std::fs::remove_file(&self.0);
    }
}

/// The folder for private talosconfigs, which is made where it is missing. One that others can change is refused: the command would
/// call whom they say, with what they hold.
fn place(environment: &Environment) -> Result<PathBuf, Error> {
    let folder = environment.run_dir().ok_or_else(no_home)?;
    private_file::ensure_folder(&folder)?;
    private_file::check_ours(&folder)?;
    Ok(folder)
}

/// Removes what an `exec` that was killed left behind.
fn sweep(folder: &Path) {
    for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
        let name = entry.file_name();
        let pid = name.to_str().and_then(|name| name.strip_prefix("exec-")?.split('-').next()?.parse().ok());
        if pid.is_some_and(|pid: i32| pid > 0 && kill(Pid::from_raw(pid), None) == Err(nix::errno::Errno::ESRCH)) {
            let _ = std::fs::remove_file(entry.path());
        }
    }
}

fn flag_of(command: &[OsString], flag: &str) -> Option<String> {
    let mut arguments =
        command.iter().skip(1).filter_map(|argument| argument.to_str()).take_while(|argument| *argument != "--");
    while let Some(argument) = arguments.next() {
        match argument.strip_prefix(flag) {
            Some("") => return arguments.next().map(str::to_owned),
            Some(rest) if rest.starts_with('=') => return rest.strip_prefix('=').map(str::to_owned),
            _ => {}
        }
    }
    None
}

fn exit_code(status: ExitStatus) -> u8 {
    let code = status.code().or_else(|| status.signal().map(|signal| 128 + signal));
    code.and_then(|code| u8::try_from(code).ok()).unwrap_or(1)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn command(text: &str) -> Vec<OsString> {
        text.split(' ').map(OsString::from).collect()
    }

    #[test]
    fn the_commands_own_flags_are_found() {
        assert_eq!(context_of(&command("talosctl --context prod version")), Some("prod".into()));
        assert_eq!(context_of(&command("talosctl version --context=prod")), Some("prod".into()));
        assert_eq!(context_of(&command("talosctl --contexts prod")), None);
        assert_eq!(context_of(&command("talosctl -- --context prod")), None);
        assert_eq!(context_of(&command("--context prod")), None, "the program is not an argument");
        assert_eq!(talosconfig_of(&command("talosctl --talosconfig x version")), Some("x".into()));
    }

    #[test]
    fn commands_on_files_need_no_certificate() {
        for offline in ["talosctl config contexts", "/usr/bin/talosctl gen config a b", "talosctl --help"] {
            assert!(is_offline(&command(offline)), "{offline}");
        }
        for online in ["talosctl version", "talosctl -n 10.0.0.1 dmesg", "config x", "talosctl"] {
            assert!(!is_offline(&command(online)), "{online}");
        }
    }

    #[tokio::test]
    async fn exit_codes_and_signals_go_through() {
        let run = async |text: &str| run(&["sh".into(), "-c".into(), text.into()], None, false).await.unwrap();
        assert_eq!(run("exit 7").await, 7);
        assert_eq!(run("kill -TERM $$").await, 143);
        let error = super::run(&["/no/such/program".into()], None, false).await.unwrap_err();
        assert!(error.to_string().contains("cannot be started"));
    }

    #[test]
    fn a_place_that_others_can_change_is_refused() {
        let root = tempfile::tempdir().unwrap();
        let environment = Environment::isolated(root.path());
        PrivateTalosconfig::check_place(&environment).unwrap();
        let folder = environment.run_dir().unwrap();
        std::fs::set_permissions(&folder, std::fs::Permissions::from_mode(0o770)).unwrap();
        let error = PrivateTalosconfig::check_place(&environment).unwrap_err();
        assert!(error.to_string().contains("can be written by others"), "{error}");
    }

    #[test]
    fn what_a_killed_one_left_is_swept_and_a_living_ones_stays() {
        let root = tempfile::tempdir().unwrap();
        let mut ended = std::process::Command::new("true").spawn().unwrap();
        ended.wait().unwrap();
        let dead = root.path().join(format!("exec-{}-a", ended.id()));
        let living = root.path().join(format!("exec-{}-a", std::process::id()));
        for path in [&dead, &living] {
            std::fs::write(path, "").unwrap();
        }
        sweep(root.path());
        assert!(!dead.exists() && living.exists());
    }
}
