//! Settings, help, completions, version, and errors that have no other home.

use crate::world::World;

#[test]
fn help_is_a_first_page() {
    let world = World::new();
    insta::assert_snapshot!("help", world.ichor(&["--help"]).transcript());
    insta::assert_snapshot!("help_talosconfig", world.ichor(&["talosconfig", "--help"]).transcript());
}

#[test]
fn the_version_in_words_and_in_json() {
    let world = World::new();
    let version = env!("CARGO_PKG_VERSION");
    assert_eq!(world.ichor(&["version"]).ok().out, format!("ichor {version}\n"));
    assert_eq!(world.ichor(&["--version"]).ok().out, format!("ichor {version}\n"));
    assert_eq!(world.ichor(&["version", "--output", "json"]).json()["version"], version);
}

#[test]
fn shells_complete() {
    let world = World::new();
    for shell in ["bash", "zsh", "fish"] {
        assert!(world.ichor(&["completions", shell]).ok().out.contains("talosconfig"), "{shell}");
    }
}

#[test]
fn the_broker_is_found_and_said_where() {
    let mut world = World::logged_in();
    world.unset("ICHOR_BROKER");
    insta::assert_snapshot!("no_broker", world.ichor(&["status"]).transcript());
    world.write(".ichor.toml", &format!("broker = \"{}\"\n", world.fake.url));
    assert!(world.ichor(&["status"]).ok().out.contains("(from ~/.ichor.toml)"));
    world.write(".ichor.toml", "brokre = \"https://x\"\n");
    insta::assert_snapshot!("unknown_key", world.ichor(&["status"]).transcript());
    std::fs::remove_file(world.path(".ichor.toml")).unwrap();
    assert!(world.ichor(&["--broker", &world.fake.url.clone(), "status"]).ok().out.contains("(from --broker)"));
    assert_eq!(world.ichor(&["--broker", "http://10.0.0.1", "status"]).code, 2);
}

#[test]
fn a_broker_that_is_not_there_is_told_from_a_refusal() {
    let world = World::logged_in();
    let nowhere = ["--broker", "http://127.0.0.1:1", "login"];
    insta::assert_snapshot!("unreachable", world.ichor(&nowhere).transcript());
}

#[test]
fn a_ca_file_without_a_ca_is_refused() {
    let world = World::new();
    world.write("empty.pem", "nothing\n");
    let ran = world.ichor(&["--broker", "https://127.0.0.1:1", "--ca", "empty.pem", "login"]);
    assert_eq!(ran.code, 2, "{}", ran.transcript());
}

#[test]
fn a_ca_file_or_a_home_that_is_not_there_is_a_wrong_setting() {
    let mut world = World::new();
    insta::assert_snapshot!(
        "no_ca_file",
        world.ichor(&["--broker", "https://127.0.0.1:1", "--ca", "none.pem", "login"]).transcript()
    );
    world.write(".ichor.toml", "broker = \"https://127.0.0.1:1\"\nca_file = \"none.pem\"\n");
    world.unset("ICHOR_BROKER");
    let ran = world.ichor(&["login", "--device"]);
    assert_eq!(ran.code, 2, "{}", ran.transcript());
    world.unset("HOME");
    world.set("ICHOR_BROKER", "http://127.0.0.1:1");
    insta::assert_snapshot!("no_home", world.ichor(&["status"]).transcript());
}

#[test]
fn status_in_json_names_the_contexts() {
    let world = World::logged_in();
    world.ichor(&["talosconfig", "prod", "--talosconfig", "team.yaml"]).ok();
    let status = world.ichor(&["status", "--talosconfig", "team.yaml", "-o", "json"]).ok().json();
    assert_eq!(status["contexts"][0]["cluster"], "prod");
    assert_eq!(status["session"]["user"], "alice@example.com");
    let text = world.ichor(&["status", "--talosconfig", "team.yaml"]).ok().out;
    assert!(text.contains("prod     os:reader  in 59 min"), "{text}");
    // what lies here is told also where the broker tells nothing
    world.ichor(&["logout"]).ok();
    let ran = world.ichor(&["status", "--talosconfig", "team.yaml"]);
    assert!(
        ran.out.contains("prod     os:reader  in 59 min") && ran.err.contains("not logged in"),
        "{}",
        ran.transcript()
    );
    let json = world.ichor(&["status", "--talosconfig", "team.yaml", "-o", "json"]).json();
    assert_eq!((&json["session"], &json["contexts"][0]["cluster"]), (&serde_json::Value::Null, &"prod".into()));
}

#[test]
fn a_session_file_that_others_can_read_is_refused() {
    use std::os::unix::fs::PermissionsExt;
    let world = World::logged_in();
    let folder = world.path(".local/state/ichor/sessions");
    let file = std::fs::read_dir(folder).unwrap().next().unwrap().unwrap().path();
    std::fs::set_permissions(&file, std::fs::Permissions::from_mode(0o644)).unwrap();
    let ran = world.ichor(&["status"]);
    assert!(ran.err.contains("can be read by others"), "{}", ran.transcript());
}
