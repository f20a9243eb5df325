//! What to try from another terminal while the demo stays up.

use std::path::Path;

use crate::broker::Broker;
use crate::call::Caller;
use crate::transcript::Transcript;
use crate::world::{CLUSTER, World};

/// Prints the commands. They work as printed from the repository's folder, and touch no file outside the demo's own.
///
/// # Errors
/// When the settings file that the commands use cannot be written.
pub(crate) fn explain(
    world: &World,
    broker: &Broker,
    caller: &Caller,
    transcript: &mut Transcript,
) -> anyhow::Result<()> {
    let home = world.folder().join("home/you");
    std::fs::create_dir_all(&home)?;
    let [target, _] = &world.targets;
    transcript.part("Now you, from another terminal (all of this stays up until Ctrl-C)");
    for line in commands(&home, broker, target, caller) {
        transcript.says(&line);
    }
    Ok(())
}

fn commands(home: &Path, broker: &Broker, target: &str, caller: &Caller) -> Vec<String> {
    let mut lines = vec![
        "alias ichor='cargo run -q --bin ichor --'           # from the repository's folder".into(),
        format!("export ICHOR_BROKER={}", broker.url.as_str().trim_end_matches('/')),
        format!("export ICHOR_KEYRING=off XDG_STATE_HOME={0}/state TALOSCONFIG={0}/talosconfig", home.display()),
        "ichor login                                         # your browser opens: be Uma, Otto or Ada".into(),
        "ichor clusters                                      # what you may hold, and why not".into(),
        format!("ichor talosconfig {CLUSTER}"),
    ];
    match caller {
        Caller::Talosctl(_) => {
            lines.push(format!("talosctl -n {target} version"));
            lines.push(format!("talosctl -n {target} reboot --wait=false             # refused: you hold os:reader"));
        }
        Caller::BuiltIn => lines.push(format!(
            "talosctl -n {target} version                     # with a talosctl of your own, once it is on your PATH"
        )),
    }
    lines.push(format!("ichor talosconfig {CLUSTER} --role os:operator --reason \"trying\""));
    lines.push(format!("ichor doctor {CLUSTER}"));
    lines.push("ichor audit log --person me".into());
    lines
}
