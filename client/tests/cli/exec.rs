//! `exec`.

use std::process::Stdio;

use crate::world::World;

/// A talosctl that shows the file it is given.
const SHOWS: &str = "echo \"args: $*\"; grep -E '^context:|^  [a-z-]+:|endpoints|      -' \"$TALOSCONFIG\"; stat -c %a \"$TALOSCONFIG\"; echo \"$TALOSCONFIG\" > \"$HOME/was\"; exit 7";

#[test]
fn a_command_gets_a_talosconfig_of_its_own_that_is_gone_afterwards() {
    let world = World::logged_in();
    world.script("talosctl", SHOWS);
    let ran = world.ichor(&["exec", "prod", "--", "talosctl", "dmesg", "-f"]);
    insta::assert_snapshot!("exec", ran.transcript());
    assert!(!std::path::Path::new(world.text("was").trim()).exists());
    assert!(!world.path(".talos/config").exists());
    world.ichor(&["exec", "prod", "--", "talosctl", "dmesg"]);
    assert_eq!(world.fake.with(|state| state.asked.len()), 1, "the certificate is reused");
    world.ichor(&["exec", "prod", "--role", "operator", "--", "talosctl", "dmesg"]);
    world.ichor(&["exec", "prod", "--ttl", "5m", "--reason", "x", "--", "talosctl", "dmesg"]);
    let asked = world.fake.with(|state| state.asked.clone());
    assert_eq!((asked.len(), asked[1].roles.clone()), (3, vec!["os:operator".to_owned()]));
    assert_eq!((asked[2].ttl, asked[2].reason.as_deref()), (Some(300), Some("x")));
}

#[test]
fn a_fresh_certificate_needs_neither_broker_nor_session() {
    let world = World::logged_in();
    world.script("talosctl", "exit 0");
    world.ichor(&["exec", "prod", "--", "talosctl"]).ok();
    world.fake.with(|state| (state.session_ended, state.seen) = (true, Vec::new()));
    world.ichor(&["exec", "prod", "--", "talosctl"]).ok();
    assert_eq!(world.fake.with(|state| state.seen.len()), 0);
}

#[test]
fn without_a_cluster_the_context_is_the_commands_or_the_current_one() {
    let world = World::logged_in();
    world.script("talosctl", "sed -n 's/^context: //p' \"$TALOSCONFIG\"");
    world.ichor(&["talosconfig", "prod", "--context", "p", "--role", "operator"]).ok();
    world.ichor(&["talosconfig", "staging"]).ok();
    let asked =
        || world.fake.with(|state| state.seen.iter().rfind(|seen| seen.contains("certificates")).cloned().unwrap());
    world.fake.with(|state| state.asked.clear());
    assert_eq!(world.ichor(&["exec", "--", "talosctl", "version"]).ok().out, "p\n");
    assert_eq!(world.fake.with(|state| state.asked.len()), 0, "as written: prod, os:operator");
    assert_eq!(world.ichor(&["exec", "--", "talosctl", "--context", "staging", "version"]).ok().out, "staging\n");
    assert_eq!(world.ichor(&["exec", "--", "talosctl", "--context=other", "version"]).ok().out, "other\n");
    assert!(asked().contains("/clusters/other/"));
    assert_eq!(world.ichor(&["exec", "prod", "--", "talosctl", "--context", "mine"]).ok().out, "mine\n");
}

#[test]
fn a_persons_own_endpoints_and_nodes_go_with_it() {
    let world = World::logged_in();
    world.script("talosctl", "cat \"$TALOSCONFIG\"");
    world.ichor(&["talosconfig", "prod"]).ok();
    world.write(
        ".talos/config",
        &world.text(".talos/config").replace("10.0.0.2", "172.16.0.9").replace("10.0.0.5", "172.16.0.7"),
    );
    let ran = world.ichor(&["exec", "--", "talosctl"]).ok();
    assert!(ran.out.contains("172.16.0.9") && ran.out.contains("172.16.0.7"), "{}", ran.out);
}

#[test]
fn what_cannot_be_meant_is_refused() {
    let world = World::logged_in();
    world.script("talosctl", "exit 0");
    let refused = |arguments: &[&str]| {
        let ran = world.ichor(arguments);
        assert_eq!(ran.code, 2, "{}", ran.transcript());
        ran.err
    };
    assert!(refused(&["exec", "--", "talosctl", "version"]).contains("no context is current"));
    assert!(
        refused(&["exec", "prod", "--", "talosctl", "--talosconfig", "x", "version"])
            .contains("would not use the certificate")
    );
    world.write("other", "context: home\ncontexts:\n  home: {crt: bm9uZQ==}\n");
    let file = world.path("other").display().to_string();
    assert!(
        refused(&["exec", "--talosconfig", &file, "--", "talosctl", "version"]).contains("was not written by ichor")
    );
    assert_eq!(world.ichor(&["exec", "prod", "--", "no-such-program"]).code, 1);
}

#[test]
fn commands_on_files_keep_the_persons_own_file() {
    let world = World::new();
    world.script("talosctl", "echo \"${TALOSCONFIG-unset} $*\"");
    assert_eq!(world.ichor(&["exec", "--", "talosctl", "config", "contexts"]).ok().out, "unset config contexts\n");
}

#[test]
fn a_signal_goes_through_and_the_file_still_goes() {
    let world = World::logged_in();
    world.script("talosctl", "trap 'echo stopped; exit 9' TERM; echo \"$TALOSCONFIG\"; while :; do sleep 0.05; done");
    let mut child = world.command(&["exec", "prod", "--", "talosctl"]).stdin(Stdio::null()).spawn().unwrap();
    let mut reader = std::io::BufReader::new(child.stdout.take().unwrap());
    let mut file = String::new();
    std::io::BufRead::read_line(&mut reader, &mut file).unwrap();
    assert!(std::path::Path::new(file.trim()).exists());
    let pid = nix::unistd::Pid::from_raw(i32::try_from(child.id()).unwrap());
    nix::sys::signal::kill(pid, nix::sys::signal::Signal::SIGTERM).unwrap();
    assert_eq!(child.wait().unwrap().code(), Some(9));
    assert!(!std::path::Path::new(file.trim()).exists());
}
