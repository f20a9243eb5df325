//! One talk with a plugin's program.

use std::collections::HashSet;
use std::io::{BufReader, Read, Write};
use std::os::unix::process::CommandExt;
use std::process::{Child, ChildStdin, ChildStdout, Command, Stdio};
use std::sync::mpsc::{RecvTimeoutError, Sender, channel};
use std::time::Duration;

use age_core::format::{FILE_KEY_BYTES, FileKey, Stanza};
use nix::sys::signal::{Signal, killpg};
use nix::unistd::Pid;
use zeroize::Zeroize;

use super::stanza::{self, Text};
use super::{PluginError, Plugins, shown};

/// The most that a plugin may say in one talk, in bytes.
const MOST: u64 = 1 << 20;

/// How long a plugin may take to end once all is said; it may have a key to reset.
const TO_END: Duration = Duration::from_secs(2);

/// What a plugin said.
#[derive(Default)]
pub(super) struct Said {
    /// Stanzas for a file's header.
    pub(super) stanzas: Vec<Stanza>,
    /// What the stanzas may be combined with.
    pub(super) labels: HashSet<String>,
    /// A file's key.
    pub(super) key: Option<FileKey>,
    /// What is wrong, in its words.
    pub(super) errors: Vec<String>,
}

/// Says all of `say` to the plugin and answers what it says then. Returns within the plugins' deadline, the program ended
/// with all that it started in its process group.
pub(super) fn with(plugins: &Plugins, name: &str, machine: &str, say: Vec<Text>) -> Result<Said, PluginError> {
    let program = plugins.program(name)?;
    let mut command = Command::new(program);
    command.arg(format!("--age-plugin={machine}")).current_dir("/").env_clear().env("PATH", &plugins.path);
    command.envs(plugins.home.as_ref().map(|home| ("HOME", home)));
    command.stdin(Stdio::piped()).stdout(Stdio::piped()).stderr(Stdio::null()).process_group(0);
    let start = |reason: String| PluginError::Start { name: name.to_owned(), reason };
    let mut child = command.spawn().map_err(|error| start(error.to_string()))?;
    let pipes = (child.stdin.take(), child.stdout.take());
    let (Some(stdin), Some(stdout)) = pipes else {
        end(&mut child);
        return Err(start("it has no standard input or output".to_owned()));
    };
    // a thread, for reading has no deadline of its own
    let (sender, receiver) = channel();
    let owned = name.to_owned();
    std::thread::spawn(move || talk(&owned, stdin, stdout, &say, &sender));
    let said = receiver.recv_timeout(plugins.deadline).unwrap_or_else(|error| {
        Err(match error {
            RecvTimeoutError::Timeout => {
                PluginError::Late { name: name.to_owned(), seconds: plugins.deadline.as_secs() }
            }
            RecvTimeoutError::Disconnected => start("the talk with it broke off".to_owned()),
        })
    });
    if said.is_ok() {
        let _ = receiver.recv_timeout(TO_END);
    }
    end(&mut child);
    said
}

/// Ends the program and what it started.
fn end(child: &mut Child) {
    // not waited for yet, so the number is still this child's
    if let Ok(group) = i32::try_from(child.id()) {
        let _ = killpg(Pid::from_raw(group), Signal::SIGKILL);
    }
    let _ = child.kill();
    let _ = child.wait();
}

/// Sends what came of the talk; hangs up once the program has closed its end.
fn talk(name: &str, stdin: ChildStdin, stdout: ChildStdout, say: &[Text], to: &Sender<Result<Said, PluginError>>) {
    let mut stdout = BufReader::new(stdout.take(MOST));
    let said = exchange(name, stdin, &mut stdout, say);
    let ended_well = said.is_ok();
    let _ = to.send(said);
    if ended_well {
        let _ = std::io::copy(&mut stdout, &mut std::io::sink());
    }
}

fn exchange(
    name: &str,
    mut stdin: ChildStdin,
    stdout: &mut BufReader<std::io::Take<ChildStdout>>,
    say: &[Text],
) -> Result<Said, PluginError> {
    let protocol = |reason: String| PluginError::Protocol { name: name.to_owned(), reason };
    let mut write = |text: &Text| {
        let written = stdin.write_all(text.as_bytes()).and_then(|()| stdin.flush());
        written.map_err(|error| protocol(format!("does not listen: {error}")))
    };
    say.iter().try_for_each(&mut write)?;
    write(&stanza::command("done", &[], &[]))?;
    let mut said = Said::default();
    loop {
        let command = stanza::read(stdout).map_err(protocol)?;
        let mut command = command.ok_or_else(|| protocol("stopped before it was done".to_owned()))?;
        if command.tag == "done" {
            return Ok(said);
        }
        let taken = take(name, &mut said, &mut command);
        command.body.zeroize();
        write(&stanza::command(taken?, &[], &[]))?;
    }
}

/// Takes one command; answers what is answered to it.
fn take(name: &str, said: &mut Said, command: &mut Stanza) -> Result<&'static str, PluginError> {
    let asks = |what| Err(PluginError::Asks { name: name.to_owned(), what });
    let wrong = |reason: &str| Err(PluginError::Protocol { name: name.to_owned(), reason: reason.to_owned() });
    match command.tag.as_str() {
        "msg" => tracing::info!(plugin = name, "says: {}", shown(&String::from_utf8_lossy(&command.body))),
        "request-secret" => return asks("a PIN or passphrase"),
        "request-public" => return asks("an answer"),
        "confirm" => return asks("a decision"),
        "error" => said.errors.push(shown(&String::from_utf8_lossy(&command.body))),
        "labels" => said.labels.extend(command.args.drain(..)),
        "recipient-stanza" => {
            let mut args = command.args.drain(..);
            let (Some("0"), Some(tag)) = (args.next().as_deref(), args.next()) else {
                return wrong("sealed a file that nobody gave it");
            };
            said.stanzas.push(Stanza { tag, args: args.collect(), body: std::mem::take(&mut command.body) });
        }
        "file-key" => {
            let body: Result<&[u8; FILE_KEY_BYTES], _> = command.body.as_slice().try_into();
            let (Ok(body), true) = (body, said.key.is_none()) else {
                return wrong("opened the file with a key that is none");
            };
            said.key = Some(FileKey::init_with_mut(|key| *key = *body));
        }
        _ => return Ok("unsupported"),
    }
    Ok("ok")
}
