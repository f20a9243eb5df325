//! `agent`.

use ichor_wire::problem::{Code, Problem};

use crate::world::World;

#[test]
fn what_nears_its_end_is_renewed_and_the_rest_is_left() {
    let world = World::logged_in();
    world.fake.with(|state| state.life = 5);
    world.ichor(&["talosconfig", "prod"]).ok();
    world.fake.with(|state| state.life = 3600);
    world.ichor(&["talosconfig", "staging"]).ok();
    let before = world.talosconfig();
    insta::assert_snapshot!("agent_once", world.ichor(&["agent", "--once"]).transcript());
    let after = world.talosconfig();
    assert_ne!(after.context("prod").unwrap().crt, before.context("prod").unwrap().crt);
    assert_eq!(after.context("staging"), before.context("staging"));
    assert_eq!(world.ichor(&["agent", "--once"]).ok().out, "looked at 2 contexts: 2 still good\n");
    assert_eq!(world.ichor(&["agent", "--once", "-o", "json"]).ok().json()["still_good"], 2);
}

#[test]
fn what_needs_its_person_is_let_end_and_said() {
    let world = World::logged_in();
    world.fake.with(|state| state.life = 5);
    world.ichor(&["talosconfig", "staging"]).ok();
    world.ichor(&["talosconfig", "prod", "--reason", "INC-42", "--ttl", "5s"]).ok();
    let mut refusal = Problem::new(Code::Refused, "os:reader on staging needs a fresh login");
    refusal.help = vec!["run `ichor login --fresh`".into()];
    world.fake.with(|state| {
        state.refuse = Some(refusal);
        state.asked.clear();
    });
    insta::assert_snapshot!("agent_lets_end", world.ichor(&["agent", "--once"]).transcript());
    assert!(world.fake.with(|state| state.asked.iter().all(|asked| asked.reason.is_none())));
    assert_eq!(world.fake.with(|state| state.asked.len()), 1, "prod is not asked for at all");
}

#[test]
fn a_context_that_is_gone_is_forgotten() {
    let world = World::logged_in();
    world.fake.with(|state| state.life = 5);
    world.ichor(&["talosconfig", "prod"]).ok();
    world.write(".talos/config", "contexts: {}\n");
    let out = world.ichor(&["agent", "--once"]).ok().out;
    assert!(out.starts_with("there is no context of this broker to renew"), "{out}");
    assert_eq!(world.text(".talos/config"), "contexts: {}\n");
    assert_eq!(world.text(".local/state/ichor/contexts.json"), "[]");
}

#[test]
fn the_unit_is_written_and_removed() {
    let world = World::new();
    world.ichor(&["agent", "install"]).ok();
    let unit = world.text(".config/systemd/user/ichor-agent.service");
    assert!(
        unit.contains("ExecStart=\"") && unit.contains(&format!("\"agent\" \"--broker\" \"{}\"", world.fake.url)),
        "{unit}"
    );
    let wanted = world.path(".config/systemd/user/default.target.wants");
    std::fs::create_dir(&wanted).unwrap();
    std::os::unix::fs::symlink("../ichor-agent.service", wanted.join("ichor-agent.service")).unwrap();
    let enabled = world.ichor(&["agent", "uninstall"]);
    assert!(
        enabled.code == 1 && enabled.err.contains("disable --now ichor-agent.service`"),
        "{}",
        enabled.transcript()
    );
    assert!(world.path(".config/systemd/user/ichor-agent.service").exists(), "systemd disables no unit that is gone");
    std::fs::remove_file(wanted.join("ichor-agent.service")).unwrap();
    world.ichor(&["agent", "uninstall"]).ok();
    assert!(!world.path(".config/systemd/user/ichor-agent.service").exists());
    assert!(world.ichor(&["agent", "uninstall"]).ok().out.contains("was not installed"));
}
