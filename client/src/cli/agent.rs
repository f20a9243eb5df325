//! `ichor agent`

use std::collections::BTreeSet;
use std::path::PathBuf;
use std::time::Duration;

use serde_json::json;

use super::status::left;
use super::{Here, block_on};
use crate::agent::{Doing, round};
use crate::error::{EXIT_OK, Error};
use crate::private_file;
use crate::session::no_home;

/// How often the wall clock is looked at; after a sleep the machine's contexts are fresh within as long.
const TICK: Duration = Duration::from_secs(30);

const UNIT: &str = "ichor-agent.service";

/// The folder, beside the unit, where systemd links what is enabled.
const WANTED: &str = "default.target.wants";

/// Keep the contexts that `ichor talosconfig` wrote fresh, until stopped
///
/// Only what needs no reason and no fresh login is renewed; what is let end is said.
#[derive(Debug, clap::Args)]
pub(super) struct Args {
    #[command(subcommand)]
    command: Option<AgentCommand>,
    /// Look once, renew what needs it, and end
    #[arg(long)]
    once: bool,
}

#[derive(Clone, Copy, Debug, clap::Subcommand)]
enum AgentCommand {
    /// Write a systemd user unit that runs the agent
    Install,
    /// Remove it again, once `systemctl --user disable --now` has ended it
    Uninstall,
}

pub(super) fn run(here: &mut Here, args: Args) -> Result<u8, Error> {
    match args.command {
        Some(AgentCommand::Install) => install(here),
        Some(AgentCommand::Uninstall) => uninstall(here),
        None => block_on(watch(here, args.once)),
    }
}

async fn watch(here: &mut Here, once: bool) -> Result<u8, Error> {
    let broker = here.broker()?;
    let store = here.sessions()?;
    let mut stop = std::pin::pin!(stopped());
    // What was said already is not said again every half minute.
    let mut said = BTreeSet::new();
    let mut code = EXIT_OK;
    loop {
        let round = round(&here.around.environment, &broker, &store).await?;
        let now = here.around.clock.now();
        let (mut renewed, mut fresh, looked_at) = (0, 0, round.len());
        for (record, doing) in round {
            let name = &record.context;
            let line = match &doing {
                Doing::Fresh => {
                    fresh += 1;
                    continue;
                }
                Doing::Renewed { until, .. } => {
                    renewed += 1;
                    format!("{name}: renewed, expires {}", left(*until, now))
                }
                Doing::LetEnd { why } => format!("{name}: not renewed: {why}"),
                Doing::Failed { error } => {
                    format!("{name}: not renewed yet: {error}; {}", error.next_steps().join("; "))
                }
            };
            if matches!(doing, Doing::Renewed { .. }) || said.insert(line.clone()) {
                let value = json!({ "context": name, "time": now, "message": line });
                here.print(&value, |terminal| terminal.line(&line))?;
            }
            if let Doing::Renewed { receipt, .. } = doing {
                code = here.tell_of_receipt(receipt, code);
                said.retain(|line| !line.starts_with(&format!("{name}: ")));
            }
        }
        if once {
            let line = summary(looked_at, renewed, fresh);
            let value = json!({
                "time": now, "message": line, "contexts": looked_at, "renewed": renewed, "still_good": fresh,
            });
            let printed = here.print(&value, |terminal| terminal.line(&line))?;
            return Ok(code.max(printed));
        }
        tokio::select! {
            () = &mut stop => return Ok(EXIT_OK),
            () = tokio::time::sleep(TICK) => {}
        }
    }
}

/// What one look came to, in a line: a look that found nothing to do is told from one that did not happen.
fn summary(looked_at: usize, renewed: usize, fresh: usize) -> String {
    let contexts = match looked_at {
        0 => return "there is no context of this broker to renew; `ichor talosconfig CLUSTER` writes one".into(),
        1 => "looked at 1 context".to_owned(),
        count => format!("looked at {count} contexts"),
    };
    let not_renewed = looked_at.saturating_sub(renewed).saturating_sub(fresh);
    let counts = [(renewed, "renewed"), (fresh, "still good"), (not_renewed, "not renewed")];
    let counts = counts.into_iter().filter(|(count, _)| *count > 0).map(|(count, what)| format!("{count} {what}"));
    format!("{contexts}: {}", counts.collect::<Vec<_>>().join(", "))
}

async fn stopped() {
    use tokio::signal::unix::{SignalKind, signal};
    match (signal(SignalKind::terminate()), signal(SignalKind::interrupt())) {
        (Ok(mut terminate), Ok(mut interrupt)) => {
            tokio::select! {
                _ = terminate.recv() => {}
                _ = interrupt.recv() => {}
            }
        }
        _ => std::future::pending().await,
    }
}

fn install(here: &mut Here) -> Result<u8, Error> {
    let path = unit_path(here)?;
    let program = std::env::current_exe()
        .map_err(|error| Error::failed(format!("this program's path is unknown: {error}"), "try again"))?;
    let broker = here.broker()?.url();
    let ca = here.flags.ca.as_ref().map(|ca| here.around.environment.working_dir.join(ca));
    let mut command = vec![program.display().to_string(), "agent".into(), "--broker".into(), broker];
    if let Some(ca) = ca {
        command.extend(["--ca".into(), ca.display().to_string()]);
    }
    let command: Vec<String> = command.iter().map(|word| quoted(word)).collect::<Result<_, _>>()?;
    let unit = format!(
        "[Unit]\nDescription=Keeps Talos certificates fresh\nAfter=network-online.target\n\n\
         [Service]\nExecStart={}\nRestart=on-failure\nRestartSec=30\nNoNewPrivileges=true\nPrivateTmp=true\n\n\
         [Install]\nWantedBy=default.target\n",
        command.join(" ")
    );
    private_file::write(&path, unit.as_bytes())?;
    here.print(&json!({ "unit": path }), |terminal| {
        terminal.line(&format!("wrote {}", path.display()))?;
        terminal.line(&format!("start it:  systemctl --user daemon-reload && systemctl --user enable --now {UNIT}"))?;
        terminal.line(&format!("end it:    systemctl --user disable --now {UNIT} && ichor agent uninstall"))
    })
}

fn uninstall(here: &mut Here) -> Result<u8, Error> {
    let path = unit_path(here)?;
    let there = path.exists();
    // systemd disables no unit whose file is gone
    if there && private_file::folder_of(&path).join(WANTED).join(UNIT).is_symlink() {
        return Err(Error::failed(
            "the agent is enabled still, so its unit is left where it is",
            format!("run `systemctl --user disable --now {UNIT}`, then `ichor agent uninstall` again"),
        ));
    }
    private_file::remove(&path)?;
    here.print(&json!({ "unit": path, "removed": there }), |terminal| match there {
        true => {
            terminal.line(&format!("removed {}", path.display()))?;
            terminal.line(&format!("if it still runs:  systemctl --user stop {UNIT} && systemctl --user daemon-reload"))
        }
        false => terminal.line("it was not installed"),
    })
}

fn unit_path(here: &Here) -> Result<PathBuf, Error> {
    let config = here.around.environment.config_dir().ok_or_else(no_home)?;
    let base = config.parent().ok_or_else(no_home)?;
    Ok(base.join("systemd/user").join(UNIT))
}

/// A word as systemd reads it back: quoted, its specifiers and variables taken literally.
///
/// # Errors
/// When it has a control character: behind a newline it would be a line of the unit's own.
fn quoted(word: &str) -> Result<String, Error> {
    if word.chars().any(char::is_control) {
        let message = format!("{word:?} has a control character, and no unit can name it");
        return Err(Error::failed(message, "give the file or folder another name"));
    }
    let escaped = word.replace('\\', "\\\\").replace('"', "\\\"").replace('%', "%%").replace('$', "$$");
    Ok(format!("\"{escaped}\""))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_survive_systemd() {
        assert_eq!(quoted("/opt/my tools/100%/$x\"\\").unwrap(), r#""/opt/my tools/100%%/$$x\"\\""#);
    }

    #[test]
    fn no_name_writes_a_line_into_the_unit() {
        for name in ["/home/a\nExecStartPre=/tmp/x", "/home/a\r", "/home/\u{1b}[2J"] {
            let error = quoted(name).unwrap_err().to_string();
            assert!(error.contains("control character") && !error.contains(char::is_control), "{error}");
        }
    }
}
